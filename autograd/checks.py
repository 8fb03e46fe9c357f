"""gradcheck and gradgradcheck: analytic gradients against finite differences, with PyTorch's arguments.

`fast_mode` compares one random projection u^T J v instead of every entry of J (one backward and one difference quotient
per input, however large): Griewank and Walther, Evaluating Derivatives, 2nd ed., section 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends.registry import backend_of
from .grads import grad
from .modes import enable_grad
from .tensor import Tensor, wrap


class GradcheckError(RuntimeError):
    """What gradcheck raises: a gradient differs, or the arguments do not allow a check."""


def _tensors(value: Any) -> list[Tensor]:
    items = value if isinstance(value, (tuple, list)) else (value,)
    return [v for v in items if isinstance(v, Tensor)]


def _outputs(value: Any) -> list[Tensor]:
    return [t for t in _tensors(value) if t.array.dtype.kind in "fcV" and t._rg]


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of `func` at `inputs` equal central differences, entry by entry.

    Args:
        func: takes the inputs, gives a tensor or several.
        inputs: a tensor or a tuple; those with requires_grad are checked, and should be float64 or complex128.
        eps: the step. atol, rtol: |a - n| <= atol + rtol * |n|.
        raise_exception: raise GradcheckError with the two Jacobians, instead of giving False.
        nondet_tol: how far two backward passes may differ.
        fast_mode: compare one random projection.

    >>> import tapegrad as torch
    >>> x = torch.linspace(0.1, 1, 4, dtype=torch.double, requires_grad=True)
    >>> torch.autograd.gradcheck(torch.log, x)
    True
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    try:
        _check(func, arguments, eps, atol, rtol, nondet_tol, fast_mode, check_grad_dtypes)
        if check_undefined_grad:
            _check_undefined(func, arguments)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _checked_inputs(arguments: Sequence[Any]) -> list[Tensor]:
    chosen = [a for a in arguments if isinstance(a, Tensor) and a._rg]
    if not chosen:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, "
            "but none of the them have requires_grad=True."
        )
    for i, t in enumerate(chosen):
        if t.array.dtype.name not in ("float64", "complex128"):
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or complex. This check "
                "will likely fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=4,
            )
        if 0 in t.array.strides and any(s == 0 and n > 1 for s, n in zip(t.array.strides, t.array.shape, strict=True)):
            raise RuntimeError(
                f"The {i}th input has a dimension with stride 0. gradcheck only supports inputs that are "
                "non-overlapping to be able to compute the numerical gradients correctly. You should call .contiguous "
                "on the input before passing it to gradcheck."
            )
        t.retain_grad()
    return chosen


def _check(
    func: Any, arguments: Sequence[Any], eps: float, atol: float, rtol: float, nondet: float, fast: bool, dtypes: bool
) -> None:
    chosen = _checked_inputs(arguments)
    with enable_grad():
        outs = _outputs(func(*arguments))
    if not outs:
        raise ValueError("gradcheck: no output of func requires grad, so there is nothing to check")
    rng = np.random.default_rng(0)
    for o, out in enumerate(outs):
        if fast:
            _compare_projection(func, arguments, chosen, o, out, eps, atol, rtol, rng)
            continue
        analytic = _analytic_jacobians(out, chosen, dtypes)
        again = _analytic_jacobians(out, chosen, dtypes)
        for i, t in enumerate(chosen):
            if np.abs(analytic[i] - again[i]).max(initial=0) > nondet:
                raise GradcheckError(
                    f"Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                    f"gives different values, although analytical gradient matches numerical gradient. (input {i})"
                )
            numeric = _numeric_jacobian(func, arguments, t, o, out.array.dtype, eps)
            if not np.allclose(analytic[i], numeric, rtol=rtol, atol=atol):
                raise GradcheckError(
                    f"Jacobian mismatch for output {o} with respect to input {i},\n"
                    f"numerical:{wrap(numeric)}\nanalytical:{wrap(analytic[i])}\n"
                )


def _units(shape: tuple[int, ...], dtype: Any) -> Any:
    """Unit cotangents of a shape: real ones, and imaginary ones for complex outputs."""
    size = int(np.prod(shape, dtype=int))
    for k in range(size):
        unit = np.zeros(size, dtype)
        unit[k] = 1
        yield unit.reshape(shape)


def _analytic_jacobians(out: Tensor, chosen: list[Tensor], check_dtypes: bool) -> list[Any]:
    """One matrix per input: (input elements, output elements), by one backward per output element.

    For complex values: the pair of backward passes with cotangents 1 and i gives, for a real-valued change of either
    part, the same numbers as the differences do.
    """
    complex_out = out.array.dtype.kind == "c"
    columns: list[list[Any]] = [[] for _ in chosen]
    for unit in _units(out.array.shape, out.array.dtype):
        for factor in (1, 1j) if complex_out else (1,):
            found = grad(out, chosen, _on(out, np.asarray(unit * factor)), retain_graph=True, allow_unused=True)
            for i, (g, t) in enumerate(zip(found, chosen, strict=True)):
                if g is not None and g.array.shape != t.array.shape:
                    raise GradcheckError("backward returned a gradient of another shape than its input")
                if check_dtypes and g is not None and g.array.dtype != t.array.dtype:
                    raise GradcheckError("backward returned a gradient of another dtype than its input")
                columns[i].append(_real_parts(np.zeros_like(t.array) if g is None else g.array))
    return [np.stack(c, axis=1) if c else np.zeros((0, 0)) for c in columns]


def _real_parts(a: Any) -> Any:
    """A flat real vector: real parts, then imaginary parts of complex arrays."""
    flat = np.asarray(a).reshape(-1)
    return np.concatenate([flat.real, flat.imag]) if flat.dtype.kind == "c" else flat


def _numeric_jacobian(func: Any, arguments: Sequence[Any], t: Tensor, o: int, dtype: Any, eps: float) -> Any:
    """Central differences: (input parts, output parts in the order of `_analytic_jacobians`)."""
    steps = [eps, 1j * eps] if t.array.dtype.kind == "c" else [eps]
    rows = []
    for step in steps:
        for k in range(t.array.size):
            place = np.unravel_index(k, t.array.shape) if t.array.ndim else ()
            before = t.array[place].copy()
            t.array[place] = before + step
            plus = _output_values(func, arguments, o)
            t.array[place] = before - step
            minus = _output_values(func, arguments, o)
            t.array[place] = before
            change = (plus - minus).reshape(-1) / (2 * eps)
            if np.dtype(dtype).kind == "c":
                change = np.stack([change.real, change.imag], axis=1).reshape(-1)
            rows.append(change)
    return np.stack(rows) if rows else np.zeros((0, 0))


def _output_values(func: Any, arguments: Sequence[Any], o: int) -> Any:
    """The o-th differentiable output as a fresh array. Grad mode stays on: func may branch on requires_grad."""
    with enable_grad():
        return np.array(_outputs(func(*arguments))[o].array)


def _compare_projection(
    func: Any, arguments: Sequence[Any], chosen: list[Tensor], o: int, out: Tensor,
    eps: float, atol: float, rtol: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    v = _random_like(out.array, rng)
    found = grad(out, chosen, _on(out, v), retain_graph=True, allow_unused=True)
    for i, (t, g) in enumerate(zip(chosen, found, strict=True)):
        u = _random_like(t.array, rng)
        u /= max(np.sqrt((np.abs(u) ** 2).sum()), 1e-30)
        before = t.array.copy()
        t.array[...] = before + eps * u
        plus = _output_values(func, arguments, o)
        t.array[...] = before - eps * u
        minus = _output_values(func, arguments, o)
        t.array[...] = before
        numeric = float((np.conj(v) * (plus - minus) / (2 * eps)).sum().real)
        analytic = 0.0 if g is None else float((np.conj(g.array) * u).sum().real)
        if not np.isclose(analytic, numeric, rtol=rtol, atol=atol):
            raise GradcheckError(
                f"Jacobian mismatch for output {o} with respect to input {i},\n"
                f"numerical (projected):{numeric}\nanalytical (projected):{analytic}\n"
                "The above quantities relating the numerical and analytical jacobians are computed in fast mode."
            )


def _on(like: Tensor, host: Any) -> Tensor:
    """A tensor of host values on the device of another tensor."""
    backend = backend_of(like.array)
    return wrap(backend.asarray(host, device=backend.device_of(like.array)))


def _random_tensor(like: Tensor, rng: np.random.Generator) -> Tensor:
    return _on(like, _random_like(like.array, rng))


def _random_like(a: Any, rng: np.random.Generator) -> Any:
    v = rng.standard_normal(a.shape)
    return np.asarray(v + 1j * rng.standard_normal(a.shape) if a.dtype.kind == "c" else v, a.dtype)


def _check_undefined(func: Any, arguments: Sequence[Any]) -> None:
    """Every backward must bear that some outputs get no gradient."""
    with enable_grad():
        outs = _outputs(func(*arguments))
    chosen = [a for a in arguments if isinstance(a, Tensor) and a._rg]
    if len(outs) > 1:
        for out in outs:
            seed = wrap(np.ones_like(out.array))
            try:
                grad(out, chosen, seed, retain_graph=True, allow_unused=True)
            except Exception as error:
                raise GradcheckError(
                    "Expected backward function to handle undefined output grads. Please look at "
                    '"Notes about undefined output gradients" in "tools/autograd/derivatives.yaml"'
                ) from error


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """gradcheck of the gradient: second derivatives of `func`, with respect to inputs and grad_outputs.

    Arguments as `gradcheck`; `grad_outputs` are random where left out.
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    with enable_grad():
        outs = _outputs(func(*arguments))
    rng = np.random.default_rng(1)
    if grad_outputs is None:
        seeds = [_random_tensor(o, rng) for o in outs]
        for s in seeds:
            s.requires_grad = True
    else:
        seeds = list(_tensors(grad_outputs))
    count = len(arguments)

    def gradient(*values: Any) -> tuple[Tensor, ...]:
        ins, cotangents = values[:count], values[count:]
        chosen = [a for a in ins if isinstance(a, Tensor) and a._rg]
        found = grad(_outputs(func(*ins)), chosen, list(cotangents), create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    with enable_grad():
        if not any(g._rg for g in gradient(*arguments, *seeds)):
            return True  # the gradient is constant in everything
    return gradcheck(
        gradient, (*arguments, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
        fast_mode=fast_mode,
    )  # fmt: skip
