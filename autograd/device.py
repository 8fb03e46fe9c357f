"""Devices: where tensors live, and where new ones go."""

from __future__ import annotations

import threading
from typing import Any

from ..backends.base import Backend, DeviceKey
from ..backends.registry import backend_of_device, environment_device, known_device_types

# PyTorch's device types that programs may name though no backend here serves them; using one is an error, naming not.
_NAMES = ("cpu", "cuda", "mps", "meta", "xpu", "hpu", "mtia", "ipu", "xla", "privateuseone")


class device:
    """Where a tensor lives: a type such as 'cpu' or 'cuda', and an index where the type has several.

    >>> import tapegrad as torch
    >>> torch.device("cuda:1")
    device(type='cuda', index=1)
    """

    __slots__ = ("type", "index", "_before")

    def __init__(self, type: Any = None, index: int | None = None, **kwargs: Any):
        if "device" in kwargs:
            type = kwargs.pop("device")
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int):
            type, index = "cuda", type
        elif isinstance(type, str):
            if ":" in type:
                if index is not None:
                    raise RuntimeError(
                        f"type (string) must not include an index because index was passed explicitly: {type}"
                    )
                type, _, number = type.partition(":")
                if not number.isdigit() or number != str(int(number)):
                    raise RuntimeError(f"Invalid device string: '{type}:{number}'")
                index = int(number)
        else:
            raise TypeError(f"device(): argument 'type' must be str or device, not {type.__class__.__name__}")
        if type not in _NAMES and type not in known_device_types():
            names = ", ".join(dict.fromkeys((*_NAMES, *known_device_types())))
            raise RuntimeError(f"Expected one of {names} device type at start of device string: {type}")
        if index is not None and index < 0:
            raise RuntimeError(f"Device index must not be negative, but got {index}")
        self.type: str = type
        self.index: int | None = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and self.type == other.type and self.index == other.index

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (device, (str(self),))

    def __enter__(self) -> device:
        self._before = _default.inside
        _default.inside = self
        return self

    def __exit__(self, *_: object) -> None:
        _default.inside = self._before

    @property
    def key(self) -> DeviceKey:
        return DeviceKey(self.type, self.index)

    def backend(self) -> Backend:
        """The backend that serves this device. BackendError where none can."""
        return backend_of_device(self.type)


CPU = device("cpu")


class _Default(threading.local):
    inside: device | None = None


_default = _Default()
_process_default: list[device | None] = [None]


def set_default_device(d: Any) -> None:
    """Where new tensors go when no `device=` is given: a device, a string, or None for the environment's choice."""
    _process_default[0] = None if d is None else device(d)


def get_default_device() -> device:
    """Where new tensors go: `with device(...)`, then set_default_device, then TAPEGRAD_BACKEND, then cpu."""
    chosen = _default.inside or _process_default[0]
    if chosen is None:
        key = environment_device()
        return CPU if key.type == "cpu" else device(key.type, key.index)
    return chosen


def resolve(d: Any) -> device:
    """The device meant by a `device=` argument."""
    if d is None:
        return get_default_device()
    return d if isinstance(d, device) else device(d)


def device_of(array: Any, backend: Backend) -> device:
    """The device of a raw array."""
    key = backend.device_of(array)
    return CPU if key.type == "cpu" else device(key.type, key.index)
