"""Generators and seeds. The streams are PyTorch's CPU streams, whatever the backend (see backends/numpy/random.py)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.registry import backend_of, kernels_of
from .device import CPU, device
from .tensor import Tensor, wrap


class Generator:
    """A source of random numbers with a state of its own.

    >>> import tapegrad as torch
    >>> g = torch.Generator().manual_seed(0)
    >>> torch.rand(2, generator=g)
    tensor([0.4963, 0.7682])
    """

    __slots__ = ("_raw", "device")

    def __init__(self, device: Any = "cpu"):
        self.device = CPU if device == "cpu" else _as_device(device)
        self._raw: Any = None

    @property
    def raw(self) -> Any:
        """The raw engine on NumPy arrays; made, and its module loaded, when it is first needed."""
        if self._raw is None:
            from ..backends.numpy.random import MT19937Generator

            self._raw = MT19937Generator()
        return self._raw

    @raw.setter
    def raw(self, engine: Any) -> None:
        self._raw = engine

    def manual_seed(self, seed: int) -> Generator:
        """Starts the stream of that seed. RuntimeError where it lies outside [-2**63, 2**64)."""
        self.raw.manual_seed(seed)
        return self

    def seed(self) -> int:
        """Starts an unpredictable stream; gives its seed."""
        return self.raw.seed()

    def initial_seed(self) -> int:
        """The seed of the present stream."""
        return self.raw.initial_seed()

    def get_state(self) -> Tensor:
        """The state as a uint8 tensor of 5056 bytes, in PyTorch's layout."""
        return wrap(self.raw.get_state())

    def set_state(self, new_state: Tensor) -> Generator:
        """Continues from a state that `get_state` gave, here or in PyTorch."""
        if not isinstance(new_state, Tensor):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        self.raw.set_state(np.asarray(new_state.array))
        return self

    def clone_state(self) -> Generator:
        """A generator of its own that continues from the same place."""
        made = Generator(self.device)
        made.raw.set_state(self.raw.get_state())
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (str(self.device), self.raw.get_state()))

    def __repr__(self) -> str:
        return f"<tapegrad.Generator device={self.device}>"


def _as_device(d: Any) -> device:
    return d if isinstance(d, device) else device(d)


def _restore(place: str, state: Any) -> Generator:
    made = Generator(place)
    made.raw.set_state(state)
    return made


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Starts the default stream of that seed, for all devices. Gives the default generator."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Starts an unpredictable default stream; gives its seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default stream."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default stream."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Sets the state of the default stream."""
    default_generator.set_state(new_state)


# ---- numbers of a counter, for devices


def draws_by_counter(array: Any) -> bool:
    """Whether masks for this array come of a counter, since its backend has a kernel `dropout`; else of the stream."""
    return "dropout" in kernels_of(backend_of(array))


def draw_seed() -> Any:
    """64 bits of the default stream, from which a device makes random numbers of its own.

    So what holds, saves or restores the stream does so for them. While a CUDA graph is recorded, another function
    stands here, which gives a place in the device's memory instead.
    """
    return default_generator.raw.draw()


class fork_rng:
    """Inside, the default stream is drawn from as usual; after it, it stands where it stood before."""

    def __init__(self, devices: Any = None, enabled: bool = True, **_: Any):
        self.enabled = enabled

    def __enter__(self) -> None:
        self._state = default_generator.get_state() if self.enabled else None

    def __exit__(self, *_: object) -> None:
        if self._state is not None:
            default_generator.set_state(self._state)
