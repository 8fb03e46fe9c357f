"""What every workload uses: the decorator that names it, its data and its initial weights, all from NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """A name, what it measures, how to set it up, and its sizes (all of which a caller may change)."""

    name: str
    title: str
    setup: Callable[..., Step]
    sizes: dict[str, Any] = field(default_factory=dict)
    order: int = 0
    quick: bool = False  # part of --quick
    tolerance: float = 1e-3  # relative difference of the first losses that still counts as the same computation
    backends: tuple[str, ...] = ("numpy", "cupy")  # where it is worth measuring


WORKLOADS: dict[str, Workload] = {}


def workload(
    name: str, title: str, order: int, *, quick: bool = False, tolerance: float = 1e-3,
    backends: tuple[str, ...] = ("numpy", "cupy"), **sizes: Any,
) -> Callable[[Callable[..., Step]], Callable[..., Step]]:  # fmt: skip
    """Puts a setup function into the table under `name`; one function may have several names with other sizes."""

    def put(setup: Callable[..., Step]) -> Callable[..., Step]:
        if name in WORKLOADS:
            raise ValueError(f"two workloads are named {name!r}")
        WORKLOADS[name] = Workload(name, title, setup, sizes, order, quick, tolerance, backends)
        return setup

    return put


compiler: Callable[[Any], Any] | None = None  # set by the worker that measures a compiler of forward functions
recorder: Callable[[Step], Step] | None = None  # set by the worker that measures whole steps recorded once


def compiled(function: Any) -> Any:
    """The forward function (or module) itself; in a worker that measures a compiler, what that makes of it."""
    return function if compiler is None else compiler(function)


def optimizer_options() -> dict[str, Any]:
    """What an optimizer whose step is recorded must be told: to keep its count of steps on the device."""
    return {} if recorder is None else {"capturable": True}


def rng(seed: int = 0) -> np.random.Generator:
    """The generator of a workload's data."""
    return np.random.default_rng(seed)


def normal(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> Any:
    """Normal float32 values of deviation `scale`."""
    values = rng(seed).standard_normal(shape, np.float32)
    values *= np.float32(scale)
    return values


def integers(high: int, shape: tuple[int, ...], seed: int = 1) -> Any:
    """int64 values in [0, high)."""
    return rng(seed).integers(0, high, shape)


def initial(named_shapes: Iterable[tuple[str, tuple[int, ...]]]) -> list[Any]:
    """Initial float32 arrays in order: matrices normal / sqrt(fan in), other weights 1 (norms), biases 0.

    Every library starts from these, so that the losses of the first steps can be compared.
    """
    generator, out = rng(1234), []
    for name, shape in named_shapes:
        if len(shape) > 1:
            values = generator.standard_normal(shape, np.float32)
            values *= np.float32(1 / np.sqrt(np.prod(shape[1:])))
        else:
            values = np.full(shape, 0.0 if "bias" in name.rpartition(".")[2] else 1.0, np.float32)
        out.append(values)
    return out


def fill(lib: Any, module: Any) -> Any:
    """The module with `initial` values in its parameters."""
    named = list(module.named_parameters())
    with lib.no_grad():
        for (_, parameter), value in zip(named, initial((n, tuple(p.shape)) for n, p in named), strict=True):
            parameter.copy_(lib.tensor(value))
    return module


def training(lib: Any, loss_function: Callable[[], Any], optimizer: Any) -> Step:
    """The usual training step: zero_grad, loss, backward, update."""
    forward = compiled(loss_function)

    def step() -> Any:
        optimizer.zero_grad()
        loss = forward()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step if recorder is None else recorder(step)


def gradients(lib: Any, loss_function: Callable[[], Any], leaves: list[Any]) -> Step:
    """Forward and backward to `leaves`; returns the loss plus the mean square of each gradient.

    So a wrong gradient shows in the comparison; the squares are taken of the first 1,000 elements only.
    """
    forward = compiled(loss_function)

    def step() -> Any:
        for leaf in leaves:
            leaf.grad = None
        loss = forward()
        loss.backward()
        with lib.no_grad():
            out = loss.detach()
            for leaf in leaves:
                first = leaf.grad.reshape(-1)[:1000]
                out = out + (first * first).mean()
        return out

    return step if recorder is None else recorder(step)
