"""torch.func: functions of functions. Each gives a new function; they nest to any order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .functional import _fresh, _grad
from .modes import enable_grad
from .op import GRAPH
from .tensor import Tensor

Argnums = int | tuple[int, ...]


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of nested tuples, lists and dicts, and what `unflatten` needs to put others in their places."""
    if isinstance(tree, dict):
        parts = [flatten(tree[k]) for k in tree]
        return [leaf for leaves, _ in parts for leaf in leaves], (type(tree), list(tree), [(s, len(p)) for p, s in parts])
    if isinstance(tree, (tuple, list)):
        parts = [flatten(item) for item in tree]
        kind = type(tree)
        return [leaf for leaves, _ in parts for leaf in leaves], (kind, None, [(s, len(p)) for p, s in parts])
    return [tree], None


def unflatten(leaves: list[Any], spec: Any) -> Any:
    """The tree of `flatten` with these leaves."""
    if spec is None:
        return leaves[0]
    kind, keys, parts = spec
    items, at = [], 0
    for sub, count in parts:
        items.append(unflatten(leaves[at : at + count], sub))
        at += count
    if keys is not None:
        return kind(zip(keys, items, strict=True))
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def _differentiated(args: tuple[Any, ...], argnums: Argnums) -> tuple[list[Any], list[Tensor], list[Any]]:
    """The arguments with fresh tensors in the places to be differentiated, these tensors, and their trees."""
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    values, chosen, specs = list(args), [], []
    for place in places:
        if not -len(args) <= place < len(args):
            raise RuntimeError(f"Got argnum={place}, but only {len(args)} positional inputs")
        leaves, spec = flatten(values[place])
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            raise RuntimeError(f"the argument at argnums {place} must be a tree of Tensors")
        fresh = list(_fresh(tuple(leaves), True))
        values[place] = unflatten(fresh, spec)
        chosen += fresh
        specs.append((spec, len(fresh)))
    return values, chosen, specs


def _regrouped(found: Any, specs: list[Any], argnums: Argnums) -> Any:
    out, at = [], 0
    for spec, count in specs:
        out.append(unflatten(list(found[at : at + count]), spec))
        at += count
    return out[0] if isinstance(argnums, int) else tuple(out)


def _outer(args: Any) -> bool:
    """Whether a gradient of the result may be asked for: some argument is itself part of a graph."""
    return any(isinstance(leaf, Tensor) and leaf._rg for leaf in flatten(list(args))[0])


def _settle(value: Any, keep: bool) -> Any:
    leaves, spec = flatten(value)
    return unflatten([leaf if keep or not isinstance(leaf, Tensor) else leaf.detach() for leaf in leaves], spec)


def grad_and_value(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function giving (gradient of `func` with respect to the arguments at argnums, value [, aux])."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        keep = _outer(args)
        with enable_grad():
            values, chosen, specs = _differentiated(args, argnums)
            out = func(*values, **kwargs)
            aux = None
            if has_aux:
                if not (isinstance(out, tuple) and len(out) == 2):
                    raise RuntimeError("grad_and_value(f)(*args): output of function f should be a tuple: (output, aux) if has_aux is True")
                out, aux = out
            if not isinstance(out, Tensor):
                raise RuntimeError(f"Expected f(*args) to return a Tensor, got {type(out).__name__}")
            if out.array.ndim:
                raise RuntimeError(
                    "Expected the function passed to grad to return a scalar tensor, got tensor with "
                    f"{out.array.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
                )
            found = _grad((out,), tuple(chosen), None, True, False, "output")
        gradient = _settle(_regrouped(found, specs, argnums), keep)
        value = _settle(out, keep)
        return (gradient, (value, _settle(aux, keep))) if has_aux else (gradient, value)

    return wrapper


def value_and_grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """As grad_and_value, the value first: (value, gradient)."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return value, gradient

    return wrapper


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function giving the gradient of a scalar function (with aux: (gradient, aux)).

    >>> import tapegrad as torch
    >>> torch.func.grad(torch.func.grad(torch.sin))(torch.tensor(0.5))
    tensor(-0.4794)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(func(*primals), vjp_fn [, aux]); vjp_fn(cotangents) gives the tuple of J^T cotangents, any number of times."""
    keep = _outer(primals)
    with enable_grad():
        values, chosen, specs = _differentiated(primals, tuple(range(len(primals))))
        out = func(*values)
        aux = None
        if has_aux:
            out, aux = out
    outs, out_spec = flatten(out)

    def vjp_fn(*cotangents: Any) -> Any:
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        seeds, _ = flatten(given)
        keep_result = keep or any(s._rg for s in seeds)
        with enable_grad():
            found = _grad(tuple(outs), tuple(chosen), seeds, True, False, "output")
        return _settle(_regrouped(found, specs, tuple(range(len(primals)))), keep_result)

    result = _settle(unflatten(outs, out_spec), keep)
    return (result, vjp_fn, _settle(aux, keep)) if has_aux else (result, vjp_fn)


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, has_aux: bool = False) -> tuple[Any, ...]:
    """(func(*primals), J tangents [, aux]), by two backward passes."""
    keep = _outer((*primals, *tangents))
    with enable_grad():
        values, chosen, _ = _differentiated(tuple(primals), tuple(range(len(primals))))
        out = func(*values)
        aux = None
        if has_aux:
            out, aux = out
        outs, spec = flatten(out)
        dummies = tuple(GRAPH.zeros_like(o.detach()).requires_grad_() for o in outs)
        back = _grad(tuple(outs), tuple(chosen), dummies, True, False, "output")
        found = _grad(back, dummies, flatten(list(tangents))[0], True, False, "gradient")
    result = (_settle(unflatten(outs, spec), keep), _settle(unflatten(list(found), spec), keep))
    return (*result, _settle(aux, keep)) if has_aux else result


def jacrev(
    func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function giving the Jacobian: a tree like the output of trees like the argument, (*out shape, *in shape)."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        keep = _outer(args)
        with enable_grad():
            values, chosen, specs = _differentiated(args, argnums)
            out = func(*values, **kwargs)
            aux = None
            if has_aux:
                out, aux = out
            outs, out_spec = flatten(out)
            rows = [_regrouped(_jacobian_of(o, chosen), specs, argnums) for o in outs]
        found = _settle(unflatten(rows, out_spec), keep)
        return (found, _settle(aux, keep)) if has_aux else found

    return wrapper


def _jacobian_of(out: Tensor, chosen: list[Tensor]) -> list[Tensor]:
    columns: list[list[Tensor]] = [[] for _ in chosen]
    for element in GRAPH.reshape(out, shape=(-1,)).unbind(0):
        for column, g in zip(columns, _grad((element,), tuple(chosen), None, True, False, "output"), strict=True):
            column.append(g)
    return [
        GRAPH.reshape(GRAPH.stack(*column, axis=0), shape=(*out.array.shape, *t.array.shape))
        for column, t in zip(columns, chosen, strict=True)
    ]


def jacfwd(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, **_: Any) -> Callable[..., Any]:
    """The Jacobian, as jacrev gives it (there is no forward mode here; the values are the same)."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function giving the Hessian of a scalar function: (*in shape, *in shape)."""
    return jacrev(jacrev(func, argnums), argnums)
