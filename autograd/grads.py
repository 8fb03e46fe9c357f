"""`backward` and `grad`: the checks and defaults of PyTorch before the engine walks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends.registry import backend_of
from .codegen import HOST
from .engine import run_backward, run_grad
from .graph import GradientEdge, resolve_edge
from .op import GRAPH
from .tensor import Tensor, wrap


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, (Tensor, GradientEdge)) or value is None else tuple(value)


def _places(values: tuple[Any, ...], name: str, as_output: bool) -> tuple[Any, ...]:
    """Tensors, and the nodes that GradientEdges mean. TypeError for anything else."""
    for i, t in enumerate(values):
        if not isinstance(t, (Tensor, GradientEdge)):
            word = "tensors" if as_output else "inputs"
            raise TypeError(f"{name}(): element {i} of {word} must be a Tensor, not {type(t).__name__}")
    return tuple([resolve_edge(t, as_output) if isinstance(t, GradientEdge) else t for t in values])


def _seed(t: Tensor, gradient: Any, create_graph: bool, place: int) -> Tensor:
    """The gradient to start with at one root, checked."""
    if not isinstance(t, Tensor):  # a node, of which neither shape nor dtype is known
        if gradient is None:
            raise RuntimeError(
                "grad can be implicitly created only for scalar outputs (a GradientEdge needs a gradient beside it)"
            )
        return gradient
    if not t._rg:
        raise RuntimeError(f"element {place} of tensors does not require grad and does not have a grad_fn")
    if gradient is None:
        if t.array.size != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs (this one has shape {list(t.shape)}; "
                "pass gradient=)"
            )
        if t.array.dtype.kind == "c":
            raise RuntimeError(
                f"grad can be implicitly created only for real scalar outputs but got {t.dtype}"
            )
        array = t.array
        backend = backend_of(array)
        if array.__class__ is HOST and not array.ndim:
            return wrap(backend.asarray(1, array.dtype))  # ones_like takes thirty times as long
        return wrap(backend.xp.ones_like(array))
    if not isinstance(gradient, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    if gradient.array.shape != t.array.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{place}] has a shape of {gradient.shape} and output[{place}] has a shape "
            f"of {t.shape}."
        )
    if (gradient.array.dtype.kind == "c") != (t.array.dtype.kind == "c"):
        raise RuntimeError(
            "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in dtype: "
            f"grad_output[{place}] has a dtype of {gradient.dtype} and output[{place}] has a dtype of {t.dtype}."
        )
    if gradient.array.dtype != t.array.dtype:
        gradient = GRAPH.cast(gradient, dtype=t.array.dtype) if create_graph else gradient.detach().to(t.dtype)
    return gradient


def _seeds(tensors: Sequence[Any], gradients: Any, create_graph: bool, word: str) -> list[Tensor]:
    given = _as_tuple(gradients) if gradients is not None else (None,) * len(tensors)
    if len(given) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(given)} gradients ({word})")
    return [_seed(t, g, create_graph, i) for i, (t, g) in enumerate(zip(tensors, given, strict=True))]


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Adds the gradients of `tensors` to `.grad` of the leaves of their graphs. Arguments as `Tensor.backward`."""
    roots = _places(_as_tuple(tensors), "backward", True)
    if inputs is not None:
        given = _as_tuple(inputs.values() if isinstance(inputs, dict) else inputs)
        if not given:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
        inputs = _places(given, "backward", False)
        for t in inputs:
            if isinstance(t, Tensor):
                t.retain_grad()  # so that a tensor which is no leaf gets its .grad too; refuses one without gradient
    if retain_graph is None:
        retain_graph = create_graph
    run_backward(roots, _seeds(roots, grad_tensors, create_graph, "backward"), inputs, retain_graph, create_graph, wrap)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` with respect to `inputs`, as a tuple; nothing is added to `.grad`.

    Args:
        grad_outputs: the gradient at each output (None where it has one element).
        create_graph: record, so that the results can be differentiated again.
        allow_unused: give None for an input that the outputs do not depend on, instead of a RuntimeError.
        materialize_grads: give zeros for such an input.
        is_grads_batched: `grad_outputs` carry one more leading dimension; one backward is run per entry.

    >>> import tapegrad as torch
    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> torch.autograd.grad(x**2, x)
    (tensor(6.),)
    """
    given = _as_tuple(inputs)
    if not given:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    roots, targets = _places(_as_tuple(outputs), "grad", True), _places(given, "grad", False)
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    retain_graph = create_graph if retain_graph is None else retain_graph
    if not is_grads_batched:
        seeds = _seeds(roots, grad_outputs, create_graph, "grad")
    for t in targets:
        if isinstance(t, Tensor) and not t._rg:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    if is_grads_batched:
        return _batched(roots, targets, _as_tuple(grad_outputs), create_graph, allow_unused, materialize_grads)
    found = run_grad(roots, seeds, targets, retain_graph, create_graph, wrap)
    for i, g in enumerate(found):
        if g is None and materialize_grads and isinstance(targets[i], Tensor):
            found[i] = wrap(backend_of(targets[i].array).xp.zeros_like(targets[i].array))
        elif g is None and not allow_unused:
            raise RuntimeError(
                f"The differentiated Tensor at index {i} appears to not have been used in the graph. Set "
                f"allow_unused=True if this is the desired behavior. ({_described(targets[i])})"
            )
    return tuple(found)


def _described(place: Any) -> str:
    return f"shape {list(place.shape)}" if isinstance(place, Tensor) else place.name()


def _batched(
    roots: Any, targets: Any, seeds: Any, create_graph: bool, allow_unused: bool, materialize: bool
) -> tuple[Any, ...]:
    """One backward for all entries of the seeds' leading dimension, as a batch (see batching.py)."""
    from .batching import Level, active, joined
    from .batching_steps import entered_at, leave, lifted, scope_of

    level = Level(len(seeds[0].array), "same")
    given = [entered_at(s, level, 0, active.scope) for s in seeds]
    found = grad(roots, targets, given, True, create_graph, True, allow_unused, False, materialize)
    return tuple([None if g is None else leave(lifted(g, joined([scope_of(g), (level,)])), level, 0) for g in found])
