"""The step shared by the optimizers whose formula is applied to one parameter at a time.

A subclass gives its formula as one function on raw arrays, which writes the parameter and the state in place:

    def sgd_step(xp, p, g, momentum_buffer, *, lr, momentum, ...): ...

p, g and the state arrays have one shape and one real floating dtype; `p` and the state are written, `g` is only read.
What prepares such arrays is in blocks.py: complex parameters come as their real and imaginary parts, half precision in
float32, large arrays on the CPU in blocks and small ones joined. A backend may put a fused kernel in the place of a
formula by listing it under the formula's name, with the formula's signature less `xp`; it gets whole arrays, or spans
of them in several threads, and answers NotImplemented before it has written anything where it does not serve them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..autograd.codegen import HOST
from ..autograd.modes import enable_grad
from ..autograd.tensor import Tensor, wrap
from ..autograd.versions import mark_written
from ..backends.registry import backend_of
from . import differentiable
from .blocks import Work
from .optimizer import Group, Optimizer, State, scalar_state

FUSED_DEVICES = ["mps", "cuda", "xpu", "hpu", "cpu", "mtia", "privateuseone"]  # where PyTorch has fused=True

KEPT = ("lr", "betas")  # options that may stay on a device: the others decide what is computed at all
LABELS = {"lr": "learning rate", "eps": "epsilon value"}


def number(option: Any) -> Any:
    """An option as the formulas take it: Python numbers, whether floats, NumPy scalars or tensors were given.

    A NumPy float64 scalar left as it is would promote a float32 formula to float64.
    """
    if option is None or isinstance(option, bool):
        return option
    if isinstance(option, tuple):
        return tuple(map(number, option))
    return option.item() if isinstance(option, Tensor) else float(option)


def placed(name: str, option: Any) -> Any:
    """An option for a formula: a tensor on a device as its 0-d array, all else as numbers."""
    if name in KEPT:
        if isinstance(option, tuple):
            return tuple(placed(name, part) for part in option)
        if isinstance(option, Tensor) and not option.is_cpu:
            return option.array.reshape(())
    return number(option)


def check_options(**options: Any) -> None:
    """ValueError, as PyTorch words it, for an option that is negative or a beta outside [0, 1), in the order given."""

    def plain(value: Any) -> Any:
        return value.item() if isinstance(value, Tensor) else value

    lr = options.get("lr")
    if isinstance(lr, Tensor) and lr.array.size != 1:
        raise ValueError("Tensor lr must be 1-element")
    for name, value in options.items():
        if name == "betas":
            for i, beta in enumerate(value):
                if not 0.0 <= plain(beta) < 1.0:
                    raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        elif not 0.0 <= plain(value):
            raise ValueError(f"Invalid {LABELS.get(name, name + ' value')}: {value}")


def full_like(p: Tensor, value: float = 0.0) -> Tensor:
    """A state tensor of the parameter's shape and dtype; complex ones hold `value` in both parts."""
    xp = backend_of(p.array).xp
    if value == 0:
        return wrap(xp.zeros_like(p.array))
    return wrap(xp.full_like(p.array, complex(value, value) if p.dtype.is_complex else value))


class FormulaOptimizer(Optimizer):
    """An optimizer that is one formula: the class says what it keeps and hands over, this loop does the rest."""

    formula: ClassVar[Callable[..., None]]
    option_names: ClassVar[tuple[str, ...]]  # options of a group, handed to the formula by keyword
    state_arrays: ClassVar[tuple[str, ...]]  # state handed to the formula after p and g; None where there is none
    optional_arrays: ClassVar[dict[str, str]] = {}  # which of these are kept only where an option of the group says so
    elementwise: ClassVar[bool] = True  # whether the formula may be applied to an array piece by piece
    together: ClassVar[bool] = True  # whether it has enough operations for small parameters to be joined, see blocks
    counters: ClassVar[tuple[str, ...]] = ("step",)  # 0-d state
    later_options: ClassVar[dict[str, Any]] = {}  # options that old checkpoints lack, with the value they stood for
    no_sparse: ClassVar[str] = ""  # what is said of a sparse gradient, where it is not "NAME does not support ..."
    checks_all: ClassVar[bool] = False  # whether `check` has more to say than on sparse, fused and differentiable ones
    takes_sparse: ClassVar[bool] = False  # whether a sparse gradient updates the entries that it has, and only those

    def state_of(self, p: Tensor, group: Group) -> State:
        """The parameter's state, made when it is first updated."""
        state = self.state[p]
        if not state:
            self.init_state(state, p, group)
        return state

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        """Fills the empty state of a parameter, in PyTorch's order of names."""
        state["step"] = self.new_counter(0.0, p, group)
        for name in self.state_arrays:
            if name not in self.optional_arrays or group[self.optional_arrays[name]]:
                state[name] = full_like(p)

    def new_counter(self, value: float, p: Tensor, group: Group) -> Tensor:
        """A 0-d state tensor: on the CPU, unless the group asks for it beside the parameter."""
        fused = group.get("fused")
        return scalar_state(value, p, fused, on_device=bool(group.get("capturable") or fused))

    def advance(self, state: State, p: Tensor, group: Group) -> dict[str, Any]:
        """Counts the step in the 0-d state. Returns the numbers that the formula needs of it.

        A state that is on a device gives 0-d arrays there.
        """
        step = state["step"].array
        step += 1
        return {"step": step.item() if step.__class__ is HOST else step}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient.

        closure: evaluates the model again and returns the loss, which is then returned here; it runs with gradients
        enabled. Raises RuntimeError for a sparse gradient, before anything is changed.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        work = [(group, self._ready(group)) for group in self.param_groups]
        if self.defaults.get("differentiable"):
            with enable_grad():
                for group, entries in work:
                    self._update_recorded(group, entries)
            return loss
        written: list[Tensor] = []
        try:
            for group, entries in work:
                self._update(group, entries, written)
        finally:
            mark_written(*written)
        return loss

    def _update(self, group: Group, entries: list[tuple[Tensor, Tensor]], written: list[Tensor]) -> None:
        if entries and entries[0][0].array.__class__ is not HOST and not entries[0][0].is_cpu:
            from .on_device import update

            update(self, group, entries, written)
            return
        work = Work(type(self).formula, self.elementwise, self.together)
        options = {name: number(group[name]) for name in self.option_names}
        numbers: dict[str, Any] | None = None
        try:
            for p, grad in entries:
                state = self.state_of(p, group)
                last, numbers = numbers, self.advance(state, p, group)
                if numbers != last:
                    given = {**options, **numbers}
                arrays = [state[name].array if name in state else None for name in self.state_arrays]
                written.append(p)
                if grad.is_sparse:
                    apply_sparse(work, p.array, grad.coalesce(), arrays, given)
                else:
                    work.add(p.array, grad.array, arrays, given)
        finally:  # an error of one parameter does not take from the others what their state has counted
            work.run()

    def _update_recorded(self, group: Group, entries: list[tuple[Tensor, Tensor]]) -> None:
        options = {name: differentiable.option(group[name]) for name in self.option_names}
        for p, grad in entries:
            state = self.state_of(p, group)
            numbers = self.advance(state, p, group)
            dense = grad.to_dense() if grad.is_sparse else grad
            differentiable.update(type(self).formula, p, dense, state, self.state_arrays, {**options, **numbers})

    def _ready(self, group: Group) -> list[tuple[Tensor, Tensor]]:
        """(parameter, gradient) of the group's parameters that have one, all of them fit for the formula."""
        entries = [(p, grad) for p in group["params"] if (grad := p.grad) is not None]
        special = self.checks_all or group.get("fused") or self.defaults.get("differentiable")
        for p, grad in entries:
            if special or grad.is_sparse:
                self.check(p, grad, group)
        return entries

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether `step` itself divides gradients by `grad_scale` and does nothing where `found_inf`: amp asks."""
        return all(
            (group.get("fused") or group.get("capturable")) and not any(p.is_cpu for p in group["params"][:1])
            for group in self.param_groups
        )

    def check_fused(self) -> None:
        """RuntimeError for options that exclude each other, as PyTorch has it.

        Both say how many tensors are updated at once, which the device decides; fused=True keeps the count there.
        """
        if self.defaults["fused"]:
            if self.defaults.get("differentiable"):
                raise RuntimeError("`fused` does not support `differentiable`")
            if self.defaults["foreach"]:
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")

    def check(self, p: Tensor, grad: Tensor, group: Group) -> None:
        """Raises RuntimeError for a parameter or gradient that the formula cannot take."""
        if grad.is_sparse and not self.takes_sparse:
            raise RuntimeError(self.no_sparse or f"{type(self).__name__} does not support sparse gradients")
        if self.defaults.get("differentiable"):
            differentiable.check(p)
        if group.get("fused") and not p.is_floating_point():
            raise RuntimeError(
                "`fused=True` requires all the params to be floating point Tensors of supported devices: "
                f"{FUSED_DEVICES} but {p.dtype} and {p.device.type}"
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.later_options.items():
                group.setdefault(name, value)
            for p in group["params"]:
                saved = self.state.get(p) or {}
                for name in self.counters:  # old checkpoints have Python numbers
                    if name in saved and not isinstance(saved[name], Tensor):
                        saved[name] = self.new_counter(float(saved[name]), p, group)
                    elif name in saved and not (group.get("capturable") or group.get("fused")):
                        saved[name] = saved[name].cpu()  # a file loaded onto a device; the host counts


def apply_sparse(work: Work, p: Any, grad: Any, state: list[Any], options: dict[str, Any]) -> None:
    """The formula on the entries of p (*S) and its state at which the gradient, a coalesced COO tensor, has values."""
    place, values = tuple(grad.indices().array), grad.values().array
    if not values.size:
        return
    work.run()  # what waits may be for the same memory
    backend, arrays = backend_of(p), (p, *state)
    with backend.guard(backend.device_of(p)):
        chosen = [a if a is None else a[place] for a in arrays]
        work.add(chosen[0], values, chosen[1:], options)
        work.run()
        for array, new in zip(arrays, chosen, strict=True):
            if array is not None:
                array[place] = new
