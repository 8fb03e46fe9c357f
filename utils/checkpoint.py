"""Checkpointing: trade time for memory by computing a part of the forward again in the backward pass.

Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..autograd.function import Function
from ..autograd.grads import backward
from ..autograd.modes import enable_grad, no_grad
from ..autograd.packing import saved_tensors_hooks
from ..autograd.random import default_generator
from ..autograd.tensor import Tensor


class CheckpointError(RuntimeError):
    """The second run of a checkpointed function did not save what the first did."""


class _Reentrant(Function):
    """Runs under no_grad; its backward runs the function again, recorded, and then that graph's backward."""

    @staticmethod
    def forward(ctx: Any, function: Any, preserve: bool, *args: Any) -> Any:
        ctx.function = function
        ctx.state = default_generator.get_state() if preserve else None
        ctx.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.others = [None if isinstance(a, Tensor) else a for a in args]
        ctx.save_for_backward(*[args[i] for i in ctx.places])
        with no_grad():
            return function(*args)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        args = list(ctx.others)
        for place, t in zip(ctx.places, ctx.saved_tensors, strict=True):
            args[place] = t.detach().requires_grad_(t.requires_grad)
        with _stream(ctx.state), enable_grad():
            outs = ctx.function(*args)
        outs = (outs,) if isinstance(outs, Tensor) else outs
        pairs = [(o, g) for o, g in zip(outs, gradients, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        if not pairs:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        backward([o for o, _ in pairs], [g for _, g in pairs])
        return (None, None, *(a.grad if isinstance(a, Tensor) else None for a in args))


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
    context_fn: Any = None,
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
        return _Reentrant.apply(function, preserve_rng_state, *args)
    frame = _Frame(function, args, kwargs, preserve_rng_state, determinism_check)
    with saved_tensors_hooks(frame.pack, frame.unpack):
        return function(*args, **kwargs)


class _Frame:
    """One checkpointed call: numbers instead of saved tensors, and the tensors once they are computed again."""

    def __init__(self, function: Any, args: Any, kwargs: Any, preserve: bool, check: str):
        self.call = (function, args, kwargs)
        self.state = default_generator.get_state() if preserve else None
        self.metas: list[tuple[Any, Any]] = []
        self.tensors: list[Tensor] | None = None
        self.used = 0
        self.check = check != "none"

    def pack(self, t: Tensor) -> int:
        """A number for the tensor, which is not kept."""
        self.metas.append((t.array.shape, t.array.dtype))
        return len(self.metas) - 1

    def unpack(self, number: int) -> Tensor:
        """The tensor of that number; the first question runs the function again."""
        if self.tensors is None:
            self._recompute()
        assert self.tensors is not None
        found = self.tensors[number]
        self.used += 1
        if self.used >= len(self.metas):
            self.tensors, self.used = None, 0
        return found

    def _recompute(self) -> None:
        function, args, kwargs = self.call
        again: list[Tensor] = []

        def keep(t: Tensor) -> int:
            again.append(t)
            return len(again) - 1

        fresh = [a.detach().requires_grad_(a.requires_grad) if isinstance(a, Tensor) else a for a in args]
        with _stream(self.state), enable_grad(), saved_tensors_hooks(keep, again.__getitem__):
            function(*fresh, **kwargs)
        metas = [(t.array.shape, t.array.dtype) for t in again]
        if self.check and metas != self.metas:
            raise CheckpointError(
                "torch.utils.checkpoint: A different number of tensors was saved during the original forward and "
                f"recomputation, or of other shapes: {len(self.metas)} then, {len(metas)} now."
            )
        self.tensors = again


def checkpoint_sequential(
    functions: Any, segments: int, input: Tensor, use_reentrant: bool | None = None, **kwargs: Any
) -> Tensor:
    """A sequence of layers in `segments` parts, each but the last checkpointed. input: what the first layer takes."""
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
        input = checkpoint(run(start, end), input, use_reentrant=use_reentrant, **kwargs)
    return run(end + 1, len(layers) - 1)(input)
