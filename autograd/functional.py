"""torch.autograd.functional: products with Jacobians and Hessians of a function at given inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .grads import grad
from .modes import enable_grad
from .op import GRAPH
from .tensor import Tensor


def _tuple(value: Any, word: str, name: str) -> tuple[bool, tuple[Tensor, ...]]:
    """(whether it was a tuple, the tensors). TypeError for anything else."""
    is_tuple = isinstance(value, tuple)
    items = value if is_tuple else (value,)
    for i, item in enumerate(items):
        if not isinstance(item, Tensor):
            raise TypeError(
                f"The {word} given to {name} must be either a Tensor or a tuple of Tensors but the value at index {i} "
                f"has type {type(item)}."
            )
    return is_tuple, tuple(items)


def _fresh(inputs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    """The inputs as tensors whose gradient can be asked for: views of themselves (create_graph) or new leaves."""
    if create_graph:
        return tuple(GRAPH.alias(t) if t._rg else t.detach().requires_grad_() for t in inputs)
    return tuple(t.detach().requires_grad_() for t in inputs)


def _done(values: Any, create_graph: bool) -> tuple[Tensor, ...]:
    return tuple(v if create_graph else v.detach() for v in values)


def _shape_back(values: tuple[Tensor, ...], is_tuple: bool) -> Any:
    return values if is_tuple else values[0]


def _zeros(t: Tensor) -> Tensor:
    return GRAPH.zeros_like(t.detach())


def _grad(
    outputs: tuple[Tensor, ...], inputs: tuple[Tensor, ...], seeds: Any, create_graph: bool, strict: bool, word: str
) -> tuple[Tensor, ...]:
    """grad with zeros for what is not connected; RuntimeError in strict mode."""
    pairs = [(o, s) for o, s in zip(outputs, seeds or [None] * len(outputs), strict=True) if o._rg]
    if len(pairs) < len(outputs) and strict:
        raise RuntimeError(f"The {word} of the user-provided function is independent of the inputs. This is not allowed in strict mode.")
    if not pairs:
        return tuple(_zeros(t) for t in inputs)
    found = grad(
        [o for o, _ in pairs], inputs, None if seeds is None else [s for _, s in pairs],
        retain_graph=True, create_graph=create_graph, allow_unused=True,
    )  # fmt: skip
    if strict and any(g is None for g in found):
        place = next(i for i, g in enumerate(found) if g is None)
        raise RuntimeError(
            f"The {word} of the user-provided function is independent of input {place}. This is not allowed in strict mode."
        )
    return tuple(_zeros(t) if g is None else g for g, t in zip(found, inputs, strict=True))


def _checked_v(v: Any, like: tuple[Tensor, ...], is_tuple: bool, name: str) -> tuple[Tensor, ...]:
    if v is None:
        if len(like) != 1 or like[0].array.size != 1:
            raise RuntimeError(
                "The vector v can only be None if the user-provided function returns a single Tensor with a single element."
            )
        return (GRAPH.ones_like(like[0].detach()),)
    _, vs = _tuple(v, "v", name)
    if len(vs) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}.")
    for i, (a, b) in enumerate(zip(vs, like, strict=True)):
        if a.array.shape != b.array.shape:
            raise RuntimeError(f"Entry {i} of v has invalid size: should be {b.shape} but got {a.shape}.")
    return vs


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), v^T J). v: like the outputs (left out for one element)."""
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", "vjp")
        ins = _fresh(ins, create_graph)
        out_tuple, outs = _tuple(func(*ins), "outputs of the user-provided function", "vjp")
        vs = _checked_v(v, outs, out_tuple, "vjp")
        found = _grad(outs, ins, vs, create_graph, strict, "output")
    return _shape_back(_done(outs, create_graph), out_tuple), _shape_back(_done(found, create_graph), in_tuple)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), J v), by two backward passes. v: like the inputs (left out for one element)."""
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", "jvp")
        ins = _fresh(ins, create_graph)
        vs = _checked_v(v, ins, in_tuple, "jvp")
        out_tuple, outs = _tuple(func(*ins), "outputs of the user-provided function", "jvp")
        # The gradient u -> J^T u is linear in u; its own gradient with respect to u, along v, is J v.
        dummies = tuple(_zeros(o).requires_grad_() for o in outs)
        back = _grad(outs, ins, dummies, True, strict, "output")
        found = _grad(back, dummies, vs, create_graph, strict, "gradient")
    return _shape_back(_done(outs, create_graph), out_tuple), _shape_back(_done(found, create_graph), out_tuple)


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian: for each output and input a tensor (*output shape, *input shape).

    `vectorize` and `strategy` are accepted and change nothing: one backward pass per output element.
    """
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", "jacobian")
        ins = _fresh(ins, create_graph)
        out_tuple, outs = _tuple(func(*ins), "outputs of the user-provided function", "jacobian")
        rows: list[Any] = []
        for out in outs:
            columns: list[list[Tensor]] = [[] for _ in ins]
            for element in GRAPH.reshape(out, shape=(-1,)).unbind(0) if out.array.size else ():
                for column, g in zip(columns, _grad((element,), ins, None, create_graph, strict, "output"), strict=True):
                    column.append(g)
            blocks = tuple(
                GRAPH.reshape(GRAPH.stack(*column, axis=0), shape=(*out.array.shape, *t.array.shape))
                if column
                else out.new_zeros(*out.array.shape, *t.array.shape)
                for column, t in zip(columns, ins, strict=True)
            )
            rows.append(_shape_back(_done(blocks, create_graph), in_tuple))
    return tuple(rows) if out_tuple else rows[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of a function with one scalar output: for each pair of inputs a tensor (*shape_i, *shape_j)."""
    in_tuple, ins = _tuple(inputs, "inputs", "hessian")

    def slope(*values: Tensor) -> Any:
        out = func(*values)
        _scalar(out, "hessian")
        found = _grad((out,), values, None, True, strict, "output")
        return found if in_tuple else found[0]

    return jacobian(slope, ins if in_tuple else ins[0], create_graph, strict)


def _scalar(out: Any, name: str) -> None:
    if not isinstance(out, Tensor):
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if out.array.size != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), v^T H) for a function with one scalar output. v: like the inputs."""
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", "vhp")
        ins = _fresh(ins, create_graph)
        vs = _checked_v(v, ins, in_tuple, "vhp")
        out = func(*ins)
        _scalar(out, "vhp")
        slopes = _grad((out,), ins, None, True, strict, "output")
        found = _grad(slopes, ins, vs, create_graph, strict, "gradient")
    return _done((out,), create_graph)[0], _shape_back(_done(found, create_graph), in_tuple)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), H v): the same as vhp, since the Hessian is symmetric where it is continuous."""
    return vhp(func, inputs, v, create_graph, strict)
