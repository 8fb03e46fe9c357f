"""torch.autograd.functional: products with Jacobians and Hessians of a function at given inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .batching import Level, active, joined
from .batching_steps import entered_at, inside, leave, lifted, scope_of
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
            which = f"value at index {i}" if is_tuple else f"given {word}"
            raise TypeError(
                f"The {word} given to {name} must be either a Tensor or a tuple of Tensors but the {which} has type "
                f"{type(item)}."
            )
    return is_tuple, tuple(items)


_OUTPUTS = "outputs of the user-provided function"


def fresh(inputs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    """The inputs as tensors whose gradient can be asked for: views of themselves (create_graph) or new leaves.

    Inside a vmap they become tensors of its examples, so that each example has a gradient of its own.
    """
    inputs = tuple([inside(t) for t in inputs])
    if create_graph:
        return tuple(GRAPH.alias(t) if t._rg else t.detach().requires_grad_() for t in inputs)
    return tuple(t.detach().requires_grad_() for t in inputs)


def _done(values: Any, create_graph: bool) -> tuple[Tensor, ...]:
    return tuple(v if create_graph else v.detach() for v in values)


def _shape_back(values: tuple[Tensor, ...], is_tuple: bool) -> Any:
    return values if is_tuple else values[0]


def _zeros(t: Tensor) -> Tensor:
    return GRAPH.zeros_like(t.detach())


def gradients(outputs: Any, inputs: Any, seeds: Any, create_graph: bool) -> tuple[Tensor | None, ...]:
    """grad of the outputs that depend on anything, None where an input is not reached. Keeps the graph."""
    pairs = [(o, s) for o, s in zip(outputs, seeds or [None] * len(outputs), strict=True) if o is not None and o._rg]
    if not pairs:
        return (None,) * len(inputs)
    return grad(
        [o for o, _ in pairs], inputs, None if seeds is None else [s for _, s in pairs],
        retain_graph=True, create_graph=create_graph, allow_unused=True,
    )  # fmt: skip


def jacobian_rows(out: Tensor, inputs: Any, keep: bool, chunk_size: int | None = None) -> list[Tensor]:
    """For each input, (*out shape, *its shape): the gradients of the rows of an identity matrix, in batched passes."""
    shape = out.array.shape
    n = math.prod(shape)
    if not (n and out._rg):
        return [_zeros_beside(t, (*shape, *t.array.shape)) for t in inputs]
    eye = GRAPH.reshape(out.detach().new_ones(n).diag(), shape=(n, *shape))
    step = n if chunk_size is None else chunk_size
    parts = [batched_gradients(out, inputs, eye.narrow(0, i, min(step, n - i)), keep) for i in range(0, n, step)]
    return [
        GRAPH.reshape(c[0] if len(c) == 1 else GRAPH.cat(*c, axis=0), shape=(*shape, *t.array.shape))
        for c, t in zip(zip(*parts, strict=True), inputs, strict=True)
    ]


def _zeros_beside(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    return GRAPH.zeros_of(t.detach(), shape=shape)


def batched_gradients(out: Tensor, inputs: Any, seeds: Tensor, keep: bool) -> list[Tensor]:
    """The gradients at the inputs for every entry of `seeds` (n, *out shape), by one backward: (n, *input shape)."""
    level, outer = Level(seeds.array.shape[0], "same"), joined([active.scope, scope_of(out)])
    found = gradients((out,), tuple(inputs), [entered_at(seeds, level, 0, outer)], keep)
    return [
        _zeros_beside(t, (level.size, *t.array.shape))
        if g is None
        else leave(lifted(g, joined([scope_of(g), (level,)])), level, 0)
        for g, t in zip(found, inputs, strict=True)
    ]


# What strict mode says of a gradient that is missing, and of one that does not require grad under create_graph.
_INDEPENDENT = {
    "output": (
        "The output of the user-provided function is independent of input {i}. This is not allowed in strict mode."
    ),
    "trick": (
        "The gradient with respect to the input is independent of entry {i} in the grad_outputs when using the "
        "double backward trick to compute forward mode gradients. This is not allowed in strict mode."
    ),
    "jacobian": (
        "The jacobian of the user-provided function is independent of input {i}. This is not allowed in strict mode."
    ),
    "hessian": (
        "The hessian of the user-provided function is independent of entry {i} in the grad_jacobian. This is not "
        "allowed in strict mode as it prevents from using the double backward trick to replace forward mode AD."
    ),
}
_FLAT = (
    "The {what} of the user-provided function is independent of input {i}. This is not allowed in strict mode when "
    "create_graph=True."
)
# What strict mode says of an intermediate result that does not require grad.
_NO_GRAD = {
    "outputs": (
        "Output {i} of the user-provided function does not require gradients. The outputs must be computed in a "
        "differentiable manner from the input when running in strict mode."
    ),
    "gradient": (
        "The gradient with respect to input {i} is independent of the inputs of the user-provided function. This is "
        "not allowed in strict mode."
    ),
    "jacobian": (
        "While computing the hessian, found that the jacobian of the user-provided function with respect to input {i} "
        "is independent of the input. This is not allowed in strict mode. You should ensure that your function is "
        "twice differentiable and that the jacobian depends on the inputs (this would be violated by a linear "
        "function for example)."
    ),
}


def _strictly(tensors: Any, what: str, strict: bool) -> None:
    """RuntimeError in strict mode where one of the tensors is missing or does not require grad."""
    for i, t in enumerate(tensors if strict else ()):
        if t is None:
            raise RuntimeError(_INDEPENDENT["output"].format(i=i))
        if not t._rg:
            raise RuntimeError(_NO_GRAD[what].format(i=i))


def _filled(found: Any, like: Any, what: str, strict: bool, create_graph: bool) -> tuple[Tensor, ...]:
    """The gradients with zeros for what is missing; in strict mode RuntimeError instead."""
    if strict:
        for i, g in enumerate(found):
            if g is None:
                raise RuntimeError(_INDEPENDENT[what].format(i=i))
            if create_graph and not g._rg:
                word = "jacobian" if what in ("output", "trick") else "hessian"
                raise RuntimeError(_FLAT.format(what=word, i=i))
    return tuple(_zeros(t) if g is None else g for g, t in zip(found, like, strict=True))


def _checked_v(v: Any, like: tuple[Tensor, ...], is_tuple: bool, name: str) -> tuple[Tensor, ...]:
    """`v` as a tuple of the shapes of `like`, ones where it is left out."""
    if v is None:
        if len(like) != 1 or like[0].array.size != 1:
            place = "function returns" if name == "vjp" else "function is"
            whose = "user-provided" if name == "vjp" else "input to the user-provided"
            raise RuntimeError(
                f"The vector v can only be None if the {whose} {place} a single Tensor with a single element."
            )
        return (GRAPH.ones_like(like[0].detach()),)
    _, vs = _tuple(v, "v", name)
    if len(vs) != len(like):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}."
            if is_tuple
            else "The given v should contain a single Tensor."
        )
    for i, (a, b) in enumerate(zip(vs, like, strict=True)):
        if a.array.shape != b.array.shape:
            entry = f"Entry {i} in " if is_tuple else ""
            raise RuntimeError(f"{entry}v has invalid size: should be {b.shape} but got {a.shape}.")
    return vs


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), v^T J). v: like the outputs (left out for one element)."""
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", "vjp")
        ins = fresh(ins, create_graph)
        out_tuple, outs = _tuple(func(*ins), _OUTPUTS, "vjp")
        _strictly(outs, "outputs", strict)
        vs = _checked_v(v, outs, out_tuple, "vjp")
        found = _filled(gradients(outs, ins, vs, create_graph), ins, "output", strict, create_graph)
    return _shape_back(_done(outs, create_graph), out_tuple), _shape_back(_done(found, create_graph), in_tuple)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), J v), by two backward passes. v: like the inputs (left out for one element)."""
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", "jvp")
        ins = fresh(ins, create_graph)
        vs = _checked_v(v, ins, in_tuple, "jvp")
        out_tuple, outs = _tuple(func(*ins), _OUTPUTS, "jvp")
        _strictly(outs, "outputs", strict)
        # The gradient u -> J^T u is linear in u; its own gradient with respect to u, along v, is J v.
        dummies = tuple(_zeros(o).requires_grad_() for o in outs)
        back = gradients(outs, ins, dummies, True)
        _strictly(back, "gradient", strict)
        found = _filled(gradients(back, dummies, vs, create_graph), outs, "trick", strict, create_graph)
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

    One backward pass per output element; with `vectorize` one for all of them at once. strategy="forward-mode", which
    asks for `vectorize`, changes nothing else: there is no forward mode here, and the values are the same.
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs '
            'than inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode".'
        )
    if strategy == "forward-mode":
        if create_graph:
            raise NotImplementedError(
                "torch.autograd.functional.jacobian: `create_graph=True` and `strategy=\"forward-mode\"` are not "
                "supported together (yet). Please either set `create_graph=False` or `strategy=\"reverse-mode\"`."
            )
        if not vectorize:
            raise NotImplementedError(
                "Computing Jacobian using forward-AD or forward-over-reverse Hessian is only implemented for "
                "`vectorize=True`."
            )
    if vectorize and strict:
        raise RuntimeError(
            "torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. "
            "Please either set `strict=False` or `vectorize=False`."
        )
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", "jacobian")
        ins = fresh(ins, create_graph)
        out_tuple, outs = _tuple(func(*ins), _OUTPUTS, "jacobian")
        _strictly(outs, "outputs", strict)
        rows: list[Any] = []
        for i, out in enumerate(outs):
            if vectorize:
                rows.append(_shape_back(_done(jacobian_rows(out, ins, create_graph), create_graph), in_tuple))
                continue
            columns: list[list[Tensor]] = [[] for _ in ins]
            for element in GRAPH.reshape(out, shape=(-1,)).unbind(0) if out.array.size else ():
                found = gradients((element,), ins, None, create_graph)
                for k, (column, g, t) in enumerate(zip(columns, found, ins, strict=True)):
                    if strict and g is None:
                        raise RuntimeError(
                            f"Output {i} of the user-provided function is independent of input {k}. "
                            "This is not allowed in strict mode."
                        )
                    if strict and create_graph and g is not None and not g._rg:
                        raise RuntimeError(_FLAT.format(what="jacobian", i=i))
                    column.append(_zeros(t) if g is None else g)
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
        out = _scalar(func(*values), "hessian", strict)
        found = gradients((out,), values, None, True)
        _strictly(found, "jacobian", strict)
        return _shape_back(_filled(found, values, "output", False, True), in_tuple)

    strategy = outer_jacobian_strategy
    return jacobian(slope, ins if in_tuple else ins[0], create_graph, strict, vectorize, strategy)


def _scalar(value: Any, name: str, strict: bool) -> Tensor:
    """The one output of one element. RuntimeError for anything else."""
    is_tuple, outs = _tuple(value, _OUTPUTS, name)
    _strictly(outs, "outputs", strict)
    if is_tuple:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outs[0].array.size != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")
    return outs[0]


def _hessian_product(name: str, func: Any, inputs: Any, v: Any, create_graph: bool, strict: bool) -> tuple[Any, Any]:
    """vhp and hvp: one formula, since the Hessian is symmetric where it is continuous."""
    with enable_grad():
        in_tuple, ins = _tuple(inputs, "inputs", name)
        ins = fresh(ins, create_graph)
        vs = _checked_v(v, ins, in_tuple, name)
        out = _scalar(func(*ins), name, strict)
        slopes = gradients((out,), ins, None, True)
        _strictly(slopes, "jacobian", strict)
        what = "jacobian" if name == "vhp" else "hessian"
        found = _filled(gradients(slopes, ins, vs, create_graph), ins, what, strict, create_graph)
    return _done((out,), create_graph)[0], _shape_back(_done(found, create_graph), in_tuple)


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), v^T H) for a function with one scalar output. v: like the inputs."""
    return _hessian_product("vhp", func, inputs, v, create_graph, strict)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(*inputs), H v) for a function with one scalar output. v: like the inputs."""
    return _hessian_product("hvp", func, inputs, v, create_graph, strict)
