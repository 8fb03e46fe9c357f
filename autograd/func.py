"""torch.func: functions of functions. Each gives a new function; they nest to any order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .engine import collect, edge_of
from .functional import fresh, gradients, jacobian_rows
from .modes import enable_grad, mode
from .op import GRAPH
from .tensor import Tensor
from .trees import flatten, structure, unflatten

Argnums = int | tuple[int, ...]


def _differentiated(args: tuple[Any, ...], argnums: Argnums) -> tuple[list[Any], list[Tensor], list[Any]]:
    """The arguments with fresh tensors in the places to be differentiated, these tensors, and their trees."""
    if not isinstance(argnums, (int, tuple)) or isinstance(argnums, bool):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    places = (argnums,) if isinstance(argnums, int) else argnums
    values, chosen, specs = list(args), [], []
    for place in places:
        if not -len(args) <= place < len(args):
            raise RuntimeError(f"Got argnum={place}, but only {len(args)} positional inputs")
        leaves, spec = flatten(values[place])
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise ValueError(f"Thing passed to transform API must be Tensor, got {type(leaf)}")
        made = list(fresh(tuple(leaves), True))
        values[place] = unflatten(made, spec)
        chosen += made
        specs.append((spec, len(made)))
    return values, chosen, specs


def _regrouped(found: Any, specs: list[Any], argnums: Argnums) -> Any:
    out, at = [], 0
    for spec, count in specs:
        out.append(unflatten(list(found[at : at + count]), spec))
        at += count
    return out[0] if isinstance(argnums, int) else tuple(out)


def _zeroed(found: Any, like: Any) -> tuple[Tensor, ...]:
    return tuple(GRAPH.zeros_like(t.detach()) if g is None else g for g, t in zip(found, like, strict=True))


def _outer(args: Any, outs: Any, chosen: list[Tensor]) -> bool:
    """Whether a gradient of the result may be asked for: it depends on a leaf which is not one of the fresh inputs."""
    if any(isinstance(leaf, Tensor) and leaf._rg for leaf in flatten(list(args))[0]):
        return True
    table, *_ = collect([edge_of(t) for t in outs if isinstance(t, Tensor) and t._rg])
    own = {id(t) for t in chosen}
    return any(isinstance(t, Tensor) and id(t) not in own and "_finished" not in t.__dict__ for t in table)


def _finish(chosen: list[Tensor]) -> None:
    """Marks the fresh inputs of a transformation that is done: no enclosing one asks for their gradient."""
    for t in chosen:
        t.__dict__["_finished"] = True


def _settle(value: Any, keep: bool) -> Any:
    leaves, spec = flatten(value)
    return unflatten([leaf if keep or not isinstance(leaf, Tensor) else leaf.detach() for leaf in leaves], spec)


def _split_aux(out: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    """(output, aux). RuntimeError where there should be an aux and is none."""
    if not has_aux:
        return out, None
    if not (isinstance(out, tuple) and len(out) == 2):
        raise RuntimeError(
            f"{name}(f)(*args): output of function f should be a tuple: (output, aux) if has_aux is True"
        )
    return out


def _only_tensors(out: Any, name: str) -> tuple[list[Tensor], Any]:
    """The outputs and their tree. RuntimeError where one of them is no Tensor."""
    outs, spec = flatten(out)
    for o in outs:
        if not isinstance(o, Tensor):
            raise RuntimeError(f"{name}: expected f(*args) to return only tensors, got unsupported type {type(o)}")
    return outs, spec


def grad_and_value(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function giving (gradient of `func` with respect to the arguments at argnums, value [, aux]).

    func: (*S) -> () gives (*S), ().
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        recording = mode.grad is not False
        with enable_grad():
            values, chosen, specs = _differentiated(args, argnums)
            out, aux = _split_aux(func(*values, **kwargs), has_aux, "grad_and_value")
            if not isinstance(out, Tensor):
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got {type(out)}")
            if out.array.ndim:
                raise RuntimeError(
                    "grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with "
                    f"{out.array.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?"
                )
            keep = recording and _outer(args, [out], chosen)
            found = _zeroed(gradients((out,), tuple(chosen), None, keep), chosen)
        _finish(chosen)
        gradient = _settle(_regrouped(found, specs, argnums), keep)
        value = _settle(out, keep)
        return (gradient, (value, _settle(aux, keep))) if has_aux else (gradient, value)

    return wrapper


def value_and_grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """As grad_and_value, the value first: (value, gradient). func: (*S) -> () gives (), (*S)."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return value, gradient

    return wrapper


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function giving the gradient of a scalar function (with aux: (gradient, aux)). func: (*S) -> () gives (*S).

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
    """(func(*primals), vjp_fn [, aux]); vjp_fn(cotangents) gives the tuple of J^T cotangents, any number of times.

    func: (*S) -> (*T), cotangents: (*T) -> (*S).
    """
    recording, places = mode.grad is not False, tuple(range(len(primals)))
    with enable_grad():
        values, chosen, specs = _differentiated(primals, places)
        out, aux = _split_aux(func(*values), has_aux, "vjp")
        outs, out_spec = _only_tensors(out, "vjp(f, *primals)")
        keep = recording and _outer(primals, outs, chosen)
    _finish(chosen)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        seeds, spec = flatten(cotangents)
        if spec != out_spec and len(seeds) != len(outs):
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                f"function. cotangents: {len(seeds)} tensors, primal output: {len(outs)}"
            )
        record = mode.grad is not False and (keep or any(s._rg for s in seeds))
        with enable_grad():
            found = _zeroed(gradients(outs, tuple(chosen), seeds, record), chosen)
        return _settle(_regrouped(found, specs, places), record)

    result = _settle(unflatten(outs, out_spec), keep)
    return (result, vjp_fn, _settle(aux, keep)) if has_aux else (result, vjp_fn)


def jvp(
    func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
) -> tuple[Any, ...]:
    """(func(*primals), J tangents [, aux]), by two backward passes. func: (*S) -> (*T), tangents: (*S) -> (*T).

    strict: RuntimeError where an output does not depend on the primals, whose tangent is zero else.
    """
    if not isinstance(primals, tuple):
        raise RuntimeError(
            "jvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be valid to call f(*primals)."
        )
    recording, given = mode.grad is not False, flatten(tangents)[0]
    with enable_grad():
        values, chosen, _ = _differentiated(primals, tuple(range(len(primals))))
        if len(given) != len(chosen):
            raise RuntimeError(
                "jvp(f, primals, tangents): Expected primals and tangents to have the same python structure. For "
                "example, if primals is a tuple of 3 tensors, tangents also must be. Got primals with "
                f"{len(chosen)} and tangents with {len(given)} tensors"
            )
        out, aux = _split_aux(func(*values), has_aux, "jvp")
        outs, spec = _only_tensors(out, "jvp(f, primals, tangents)")
        keep = recording and _outer((*primals, *tangents), outs, chosen)
        if strict and not all(o._rg for o in outs):
            raise RuntimeError(
                "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. This is not "
                "allowed with strict=True."
            )
        dummies = tuple(GRAPH.zeros_like(o.detach()).requires_grad_() for o in outs)
        back = gradients(outs, tuple(chosen), dummies, True)
        found = _zeroed(gradients(back, dummies, given, keep), dummies)
    _finish([*chosen, *dummies])
    result = (_settle(unflatten(outs, spec), keep), _settle(unflatten(list(found), spec), keep))
    return (*result, _settle(aux, keep)) if has_aux else result


def jacrev(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable[..., Any]:
    """A function giving the Jacobian: a tree like the output of trees like the argument, (*out shape, *in shape).

    One backward pass goes through all rows at once, or through `chunk_size` of them at a time, to save memory.

    >>> import tapegrad as torch
    >>> torch.func.jacrev(lambda x: x**2)(torch.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        recording = mode.grad is not False
        with enable_grad():
            values, chosen, specs = _differentiated(args, argnums)
            out, aux = _split_aux(func(*values, **kwargs), has_aux, "jacrev")
            outs, out_spec = _only_tensors(out, "jacrev(f)(*args)")
            keep = recording and _outer(args, outs, chosen)
            rows = [_regrouped(jacobian_rows(o, chosen, keep, chunk_size), specs, argnums) for o in outs]
        _finish(chosen)
        found = _settle(unflatten(rows, out_spec), keep)
        return (found, _settle(aux, keep)) if has_aux else found

    return wrapper


def jacfwd(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Callable[..., Any]:
    """The Jacobian as jacrev gives it: there is no forward mode here, and the values are the same.

    `func` runs once, so `randomness` changes nothing. func: (*S) -> (*T) gives (*T, *S).
    """
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function giving the Hessian: the Jacobian of the Jacobian, (*out shape, *in shape, *in shape).

    >>> import tapegrad as torch
    >>> torch.func.hessian(lambda x: (x**3).sum())(torch.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(func(*primals), jvp_fn); jvp_fn(*tangents) gives J tangents at the primals, any number of times.

    func: (*S) -> (*T), tangents: (*S) -> (*T).

    `func` runs once; what each jvp_fn call costs is one backward pass through its gradient.
    """
    if not primals:
        raise RuntimeError("linearize: expected at least one primal")
    with enable_grad():
        values, chosen, specs = _differentiated(primals, tuple(range(len(primals))))
        outs, spec = _only_tensors(func(*values), "linearize(f, *primals)")
        dummies = tuple(GRAPH.zeros_like(o.detach()).requires_grad_() for o in outs)
        back = gradients(outs, tuple(chosen), dummies, True)
    _finish([*chosen, *dummies])

    def jvp_fn(*tangents: Any) -> Any:
        given, given_spec = flatten(tangents)
        if given_spec != flatten(primals)[1]:
            raise RuntimeError(
                f"Expected the tangents {structure(tangents)} to have the same argspec as the primals "
                f"{structure(primals)}"
            )
        for t, p in zip(given, chosen, strict=True):
            if t.array.shape != p.array.shape or t.array.dtype != p.array.dtype:
                raise RuntimeError(
                    f"Expected the tangents to have the shape and dtype of the primals, {tuple(p.shape)} {p.dtype}, "
                    f"but got {tuple(t.shape)} {t.dtype}"
                )
        found = _zeroed(gradients(back, dummies, given, False), dummies)
        return _settle(unflatten(list(found), spec), False)

    return _settle(unflatten(outs, spec), False), jvp_fn


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """`func` itself. PyTorch takes in-place operations out of a function for its compilers; here no compiler asks."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(
            f"functionalize(f, remove='mutations'): received invalid argument for remove={remove}. Valid options are: "
            "'mutations' and 'mutations_and_views'."
        )

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper
