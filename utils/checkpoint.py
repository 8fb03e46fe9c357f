"""Checkpointing: trade time for memory by computing a part of the forward again in the backward pass.

Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..autograd.function import Function
from ..autograd.grads import backward
from ..autograd.modes import enable_grad, mode, no_grad
from ..autograd.packing import active_hooks, saved_tensors_hooks
from ..autograd.random import default_generator
from ..autograd.tensor import Tensor


class CheckpointError(RuntimeError):
    """The second run of a checkpointed function did not save what the first did."""


class _Stop(BaseException):
    """Ends the second run of a function: all that is needed has been computed. No `except Exception` catches it."""


class _State(threading.local):
    early_stop: bool | None = None  # what set_checkpoint_early_stop says


_state = _State()


class set_checkpoint_early_stop:
    """Inside, whether the second runs of checkpointed functions end as soon as nothing more is needed from them."""

    def __init__(self, enable: bool):
        self.enable = enable

    def __enter__(self) -> None:
        self._before, _state.early_stop = _state.early_stop, self.enable

    def __exit__(self, *_: object) -> None:
        _state.early_stop = self._before


def noop_context_fn() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts in which the first and the second run take place: none."""
    return nullcontext(), nullcontext()


def detach_variable(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with each tensor detached, its requires_grad kept."""
    if not isinstance(inputs, tuple):
        raise RuntimeError(f"Only tuple of tensors is supported. Got Unsupported input type: {type(inputs).__name__}")
    return tuple(t.detach().requires_grad_(t.requires_grad) if isinstance(t, Tensor) else t for t in inputs)


def check_backward_validity(inputs: Iterable[Any]) -> None:
    """Warns where no input requires grad."""
    if not any(t.requires_grad for t in inputs if isinstance(t, Tensor)):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)


class CheckpointFunction(Function):
    """Runs under no_grad; its backward runs the function again, recorded, and then that graph's backward."""

    @staticmethod
    def forward(ctx: Any, function: Any, preserve: bool, *args: Any) -> Any:
        check_backward_validity(args)
        ctx.function = function
        ctx.state = default_generator.get_state() if preserve else None
        ctx.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.others = [None if isinstance(a, Tensor) else a for a in args]
        ctx.save_for_backward(*[args[i] for i in ctx.places])
        with no_grad():
            return function(*args)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        if mode.walk is not None and mode.walk.partial:
            raise RuntimeError(
                "When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or passing an `inputs` "
                "parameter to .backward(). To resolve this error, you can either set use_reentrant=False, or call "
                ".backward() without passing the `inputs` argument."
            )
        args = list(ctx.others)
        for place, t in zip(ctx.places, ctx.saved_tensors, strict=True):
            args[place] = t
        fresh = detach_variable(tuple(args))
        with _stream(ctx.state), enable_grad():
            outs = ctx.function(*fresh)
        outs = (outs,) if isinstance(outs, Tensor) else outs
        pairs = [(o, g) for o, g in zip(outs, gradients, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        if not pairs:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        backward([o for o, _ in pairs], [g for _, g in pairs])
        return (None, None, *(a.grad if isinstance(a, Tensor) else None for a in fresh))


class _stream:
    """Inside, the default random stream runs from `state`; after it, it stands where it stood before."""

    def __init__(self, state: Any):
        self.state = state

    def __enter__(self) -> None:
        if self.state is not None:
            self.before = default_generator.get_state()
            default_generator.set_state(self.state)

    def __exit__(self, *_: object) -> None:
        if self.state is not None:
            default_generator.set_state(self.before)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, of which nothing is kept for backward but the inputs; backward runs it again.

    Args:
        use_reentrant: False (recommended): saved tensors are replaced by place-holders, filled when first needed.
            True: PyTorch's older form, a Function with a backward pass inside; keywords are not taken.
        context_fn: gives two context managers, for the first run and for the second.
        determinism_check: "default" compares shapes, dtypes and devices of the two runs, "none" nothing.
        early_stop: end the second run as soon as the last saved tensor is there.
        preserve_rng_state: draw the same random numbers (dropout) in the second run.

    Raises CheckpointError when the second run saves other tensors than the first.
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. Starting in PyTorch 2.9, "
            "calling checkpoint without use_reentrant will raise an exception. use_reentrant=False is recommended.",
            stacklevel=2,
        )
        use_reentrant = True
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn or debug:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
        return CheckpointFunction.apply(function, preserve_rng_state, *args)
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ['default', 'none'], but got {determinism_check}")
    first, second = context_fn()
    early_stop = early_stop if _state.early_stop is None else _state.early_stop
    frame = _Frame(function, args, kwargs, preserve_rng_state, determinism_check != "none", early_stop, second)
    with saved_tensors_hooks(frame.pack, frame.unpack), first:
        return function(*args, **kwargs)


class _Kept:
    """The place-holder of one saved tensor: its number in the order of saving."""

    __slots__ = ("number", "__weakref__")

    def __init__(self, number: int):
        self.number = number


class _Frame:
    """One checkpointed call: place-holders instead of saved tensors, and the tensors once they are computed again."""

    def __init__(
        self, function: Any, args: Any, kwargs: Any, preserve: bool, check: bool, early_stop: bool, context: Any
    ):
        self.function, self.check, self.early_stop, self.context = function, check, early_stop, context
        self.state = default_generator.get_state() if preserve else None
        self.metas: list[tuple[Any, ...]] = []
        self.holders: list[Any] = []  # weak references: who still needs the tensor of that number
        self.tensors: dict[int, Tensor] = {}
        # Inside another checkpoint (or save_on_cpu) the inputs are kept as it keeps its saved tensors.
        self.outer = active_hooks()
        self.args = [self._put(a) for a in args]
        self.kwargs = {k: self._put(a) for k, a in kwargs.items()}

    def _put(self, value: Any) -> Any:
        if self.outer is None or not isinstance(value, Tensor):
            return value
        with no_grad():
            return _Packed(self.outer.pack_hook(value), value.requires_grad)

    def _take(self, value: Any) -> Any:
        if not isinstance(value, _Packed) or self.outer is None:
            return value
        t = self.outer.unpack_hook(value.held)
        return t if t.requires_grad == value.requires_grad else t.detach().requires_grad_(value.requires_grad)

    def pack(self, t: Tensor) -> _Kept:
        """A place-holder for the tensor, which is not kept."""
        held = _Kept(len(self.metas))
        self.metas.append((tuple(t.shape), t.dtype, t.device))
        self.holders.append(weakref.ref(held))
        return held

    def unpack(self, held: _Kept) -> Tensor:
        """The tensor of that place-holder, given once; where it is not there, the function runs again."""
        if held.number not in self.tensors:
            self._run_again()
        return self.tensors.pop(held.number)

    def _run_again(self) -> None:
        count = 0

        def keep(t: Tensor) -> Any:
            nonlocal count
            number, count = count, count + 1
            if number < len(self.metas):
                if self.holders[number]() is not None:
                    self.tensors[number] = t.detach()
                if self.check:
                    self._compare(number, t)
                if count == len(self.metas) and self.early_stop:
                    raise _Stop
            return t.detach()

        args = [self._take(a) for a in self.args]
        kwargs = {k: self._take(a) for k, a in self.kwargs.items()}
        try:
            with _stream(self.state), enable_grad(), saved_tensors_hooks(keep, lambda t: t), self.context:
                self.function(*args, **kwargs)
        except _Stop:
            return
        if count != len(self.metas) and self.check:
            raise CheckpointError(
                "torch.utils.checkpoint: A different number of tensors was saved during the original forward and "
                f"recomputation.\nNumber of tensors saved during forward: {len(self.metas)}\nNumber of tensors saved "
                f"during recomputation: {count}."
            )

    def _compare(self, number: int, t: Tensor) -> None:
        before, now = self.metas[number], (tuple(t.shape), t.dtype, t.device)
        if before != now:
            names = ("shape", "dtype", "device")
            raise CheckpointError(
                "torch.utils.checkpoint: Recomputed values for the following tensors have different metadata than "
                f"during the forward pass.\ntensor at position {number}:\n"
                f"saved metadata: {dict(zip(names, before, strict=True))}\n"
                f"recomputed metadata: {dict(zip(names, now, strict=True))}"
            )


class _Packed:
    """A tensor argument as the hooks around the call keep it."""

    def __init__(self, held: Any, requires_grad: bool):
        self.held, self.requires_grad = held, requires_grad


def checkpoint_sequential(
    functions: Any, segments: int, input: Tensor, use_reentrant: bool | None = None, **kwargs: Any
) -> Tensor:
    """A sequence of layers in `segments` parts, each but the last checkpointed. input: what the first layer takes."""
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. "
            "In version 2.9 we will raise an exception if use_reentrant is not passed. use_reentrant=False is "
            "recommended.",
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(layers) // segments

    def run(start: int, end: int) -> Callable[[Any], Any]:
        def part(x: Any) -> Any:
            for layer in layers[start : end + 1]:
                x = layer(x)
            return x

        return part

    end = -1
    for start in range(0, size * (segments - 1), size):
        end = start + size - 1
        input = checkpoint(run(start, end), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
    return run(end + 1, len(layers) - 1)(input)
