"""The step of parameters that live on a device: many of them in one launch, and no number that the host waits for.

A number that changes from step to step may be on the device too: the count of steps (`capturable=True`, `fused=True`),
the learning rate (a tensor), the scale of the gradients and whether they overflowed (left by amp's GradScaler). It is
handed on as an array, so that a recorded CUDA graph reads it anew at each replay.

A backend's kernel for a formula may have two attributes: `serves(arrays, options)`, whether it takes these arrays
(p, g, *state), and `many(entries, options, counters, scale, overflowed)`, the step of a list of them, which moves the
`counters` on. What it does not take goes through the formula, one parameter at a time.
"""

from __future__ import annotations

from typing import Any

from ..autograd.tensor import Tensor
from ..autograd.versions import storage_of
from ..backends.registry import backend_of, kernels_of
from .arithmetic import is_number
from .blocks import Work
from .elementwise import apply_sparse, placed
from .optimizer import Group, State


class _Batch:
    """Updates that go into the same launches."""

    def __init__(self, kernel: Any, place: Any, numbers: dict[str, Any]):
        self.kernel, self.place, self.numbers = kernel, place, numbers
        self.entries: list[list[Any]] = []
        self.counters: list[Any] = []
        self.owners: set[int] = set()


class _Updates:
    """What one group's step does, collected until something must come after it."""

    def __init__(self, optimizer: Any, group: Group):
        self.optimizer, self.group = optimizer, group
        self.formula = type(optimizer).formula
        self.options = {name: placed(name, group[name]) for name in optimizer.option_names}
        self.scale, self.overflowed = (_array(getattr(optimizer, n, None)) for n in ("grad_scale", "found_inf"))
        self.batch: _Batch | None = None
        self.work = Work(self.formula, optimizer.elementwise, False)

    def add(self, p: Tensor, grad: Tensor, state: State) -> None:
        """One parameter's update, now or with those that follow."""
        backend = backend_of(p.array)
        kernel = kernels_of(backend).get(self.formula.__name__)
        step = state.get("step")  # SparseAdam's is a Python number
        counter = step.array if isinstance(step, Tensor) else None
        numbers: Any = {}
        if counter is None or is_number(counter):
            counter, numbers = None, self.optimizer.advance(state, p, self.group)
        arrays = [state[name].array if name in state else None for name in self.optimizer.state_arrays]
        if (
            grad.is_sparse or not hasattr(kernel, "many") or (counter is not None and counter.dtype.name != "float32")
            or not kernel.serves([p.array, grad.array, *arrays], self.options)
        ):  # fmt: skip
            self.alone(p, grad, state, arrays, numbers if counter is None else None)
            return
        place, owner = backend.device_of(p.array), id(storage_of(p.array))
        batch = self.batch
        if (
            batch is None or batch.place != place or batch.kernel is not kernel or batch.numbers != numbers
            or bool(batch.counters) != (counter is not None) or owner in batch.owners
        ):  # fmt: skip
            self.run()
            batch = self.batch = _Batch(kernel, place, numbers)
        batch.entries.append([p.array, grad.array, *arrays])
        batch.owners.add(owner)
        if counter is not None:
            batch.counters.append(counter)

    def run(self) -> None:
        """Makes the updates that were collected."""
        batch, self.batch = self.batch, None
        if batch is not None:
            options = {**self.options, **batch.numbers}
            with backend_of(batch.entries[0][0]).guard(batch.place):
                batch.kernel.many(batch.entries, options, batch.counters, self.scale, self.overflowed)

    def alone(self, p: Tensor, grad: Tensor, state: State, arrays: list[Any], numbers: Any) -> None:
        """One parameter's update by the formula. numbers: what `advance` gave, None where it is still to be asked."""
        self.run()
        backend = backend_of(p.array)
        with backend.guard(backend.device_of(p.array)):
            if self.scale is not None:
                grad = _divided(grad, self.scale)
            changed = [p.array, *[a for a in arrays if a is not None], *self.counted(state)]
            kept = [a.copy() for a in changed] if self.overflowed is not None else []
            if numbers is None:
                numbers = self.optimizer.advance(state, p, self.group)
            options = {**self.options, **numbers}
            if grad.is_sparse:
                apply_sparse(self.work, p.array, grad.coalesce(), arrays, options)
            else:
                self.work.add(p.array, grad.array, arrays, options)
                self.work.run()
            for array, before in zip(changed, kept, strict=True) if kept else ():
                backend.xp.copyto(array, before, where=self.overflowed != 0)

    def counted(self, state: State) -> list[Any]:
        """The 0-d arrays of the state that are on the device."""
        counters = [state[name].array for name in self.optimizer.counters if name in state]
        return [a for a in counters if not is_number(a)]


def _array(value: Any) -> Any:
    return value.array.reshape(()) if isinstance(value, Tensor) else value


def _divided(grad: Tensor, scale: Any) -> Tensor:
    """The gradient over the scale, in its own memory, as PyTorch's fused optimizers leave it."""
    values = grad.values().array if grad.is_sparse else grad.array
    values /= scale
    return grad


def update(optimizer: Any, group: Group, entries: list[tuple[Tensor, Tensor]], written: list[Tensor]) -> None:
    """The step of a group's parameters with their gradients; `written` takes those that were changed."""
    updates = _Updates(optimizer, group)
    try:
        for p, grad in entries:
            state = optimizer.state_of(p, group)
            written.append(p)
            updates.add(p, grad, state)
    finally:  # an error of one parameter does not take from the others what their state has counted
        updates.run()
