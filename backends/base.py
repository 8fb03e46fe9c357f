"""What a backend is: an array module, a few conversions, and a mapping of fused kernels which may be empty."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple


class DeviceKey(NamedTuple):
    """Where an array lives: a device type and, where the type has several, an index."""

    type: str
    index: int | None = None  # type: ignore[assignment]  # tuple.index is not missed here


class NoHardware(ImportError):
    """A backend is installed, and the machine lacks what it computes on: installing something would not help."""


class Unsupported(NotImplementedError):
    """What an op needs and the library of a backend does not have. The text names both; the op is in a note."""


class Backend:
    """Base class of all backends. A subclass sets the four fields and overrides what its library does otherwise.

    `kernels` maps an op's name to a function on raw arrays with the op's own signature (arrays positional, metadata by
    keyword). A kernel listed there replaces the op's generic forward, or a whole composite; nothing else knows.
    """

    name: str
    device_types: tuple[str, ...]
    xp: Any
    array_type: type[Any]
    kernels: Mapping[str, Callable[..., Any]] = {}
    loses_type = False  # whether functions of `xp` may give arrays of another type than `array_type`
    several = False  # whether there are several devices, of which one is the current one of each thread

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        """An array of this backend from a NumPy array or another array of its own. `dtype`: a NumPy dtype."""
        raise TypeError(f"backend {self.name} does not define asarray")

    def to_numpy(self, array: Any) -> Any:
        """The array as np.ndarray in host memory; shares memory where that is possible."""
        raise TypeError(f"backend {self.name} does not define to_numpy")

    def tidy(self, out: Any) -> Any:
        """A kernel's result as an array of this backend: NumPy-like libraries return scalars for 0-d results.

        What is one already comes back as the same object; the engine takes another for a copy that it may keep.
        """
        return out if isinstance(out, self.array_type) else self.asarray(out)

    def linked(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """What is called for op `name`, given its kernel or generic form; asked once per op."""
        return function

    @property
    def special(self) -> Any:
        """The module of special functions for this backend's arrays: SciPy's, unless the library has its own.

        ImportError where it is not installed; the text names the extra.
        """
        try:
            import scipy.special
        except ImportError as error:
            raise ImportError("this function needs the package SciPy: pip install 'tapegrad[scipy]'") from error
        return scipy.special

    def device_of(self, array: Any) -> DeviceKey:
        """The device where the array lives."""
        return DeviceKey(self.device_types[0])

    def device_count(self) -> int:
        """How many devices of this backend there are."""
        return 1

    def storage_of(self, array: Any) -> Any:
        """The object that owns the array's memory; views of one memory give the same object."""
        return owner_of(array, self.array_type)

    def may_keep(self, array: Any) -> bool:
        """Whether an array that nobody else refers to may become a `.grad` without a copy: no view, own memory."""
        return array.base is None and array.flags.c_contiguous

    def lend(self, array: Any, stream: Any) -> None:
        """Keeps an array's memory from new arrays until a stream of the library is done with it."""

    def copy_for(self, leaf: Any, g: Any, spare: bool) -> Any:
        """A copy of the gradient g as the `.grad` of a leaf; `spare`: nobody else refers to g."""
        return g.copy()

    def synchronize(self, device: DeviceKey | None = None) -> None:
        """Returns when all work that was queued on the device is done."""

    def current(self) -> int:
        """Where there are `several` devices: the number of the one that is the current one of this thread."""
        return 0

    def follow(self, array: Any) -> Callable[[], None]:
        """Where there are `several` devices: makes the array's the current one, and gives what puts back the former."""
        raise TypeError(f"backend {self.name} has one device")

    def guard(self, device: DeviceKey) -> AbstractContextManager[Any]:
        """Makes `device` the current one inside; nothing to do where there is only one."""
        return nullcontext()


def owner_of(array: Any, kind: type) -> Any:
    """The array at the end of the chain of bases of that type."""
    while True:
        base = array.base
        if not isinstance(base, kind):  # NumPy's as_strided puts an object of its own between view and base
            base = getattr(base, "base", None)
            if not isinstance(base, kind):
                return array
        array = base


def may_decline(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a kernel that answers NotImplemented for what it does not serve; the generic form then runs instead."""
    kernel.may_decline = True  # type: ignore[attr-defined]
    return kernel


def first_of(kernel: Callable[..., Any], below: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel where it serves, else (it answers NotImplemented) the one below it, which may decline in its turn."""

    def either(*arrays: Any, **kw: Any) -> Any:
        out = kernel(*arrays, **kw)
        return below(*arrays, **kw) if out is NotImplemented else out

    either.kernel = kernel  # type: ignore[attr-defined]  # shown by tests and show_config
    either.may_decline = getattr(below, "may_decline", False)  # type: ignore[attr-defined]  # as may_decline does
    return either


refcount = sys.getrefcount
