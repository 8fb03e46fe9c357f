"""The CuPy backend: tensors on NVIDIA GPUs. CuPy is imported when this backend is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ..base import Backend, DeviceKey
from . import bounds, launch
from .compile import outside
from .dialect import Dialect, Special
from .errors import found_cupy, usable_compiler, usable_devices
from .layout import gradient_for
from .linking import checked, placed
from .memory import Watch


class CupyBackend(Backend):
    """Arrays are cupy.ndarray; ops without a kernel run in their generic form on CuPy's NumPy-like module."""

    name = "cupy"
    device_types = ("cuda",)

    def __init__(self) -> None:
        cupy = found_cupy()
        self._count = usable_devices(cupy)
        usable_compiler(cupy)
        self.several = self._count > 1
        self.cupy = cupy
        self.xp = Dialect(cupy, self.several)
        self.array_type = cupy.ndarray
        self.memory = Watch(cupy)
        launch.use(launch.Machine(cupy))

    @functools.cached_property
    def kernels(self) -> Mapping[str, Callable[..., Any]]:  # type: ignore[override]  # made at first use
        """The fused kernels, loaded when the first op is linked."""
        from .kernels import KERNELS

        return KERNELS

    def linked(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        function = checked(name, function)
        return placed(self.cupy, name, function) if self.several and name != "transfer" else function

    @functools.cached_property
    def graphs(self) -> Any:
        """What records CUDA graphs; see cuda/graphs.py."""
        from .graph import Graphs

        return Graphs(self)

    @functools.cached_property
    def special(self) -> Any:
        """CuPy's own, on the GPU."""
        return Special(self.cupy, outside("cupyx.scipy.special"), lambda: super(CupyBackend, self).special)

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        with self.guard(device or DeviceKey("cuda")) as place:
            if not isinstance(obj, self.array_type):
                return self.cupy.array(obj, dtype=dtype)
            if device is not None and obj.data.device_id != place.id:
                obj, copy = self._moved(obj, place), False
            if dtype is None or obj.dtype == dtype:
                return obj.copy() if copy else obj
            if copy is False and device is None:
                raise ValueError(f"a copy is needed to make {dtype} of {obj.dtype}")
            return obj.astype(dtype)

    def _moved(self, array: Any, place: Any) -> Any:
        """A copy on the current device, `place`; the streams of both devices wait for each other, as in PyTorch."""
        cuda = self.cupy.cuda
        with cuda.Device(array.data.device_id):
            ready = cuda.Event(disable_timing=True)
            ready.record()
        with place:
            cuda.get_current_stream().wait_event(ready)
            out = array.copy()  # CuPy copies to the current device
            done = cuda.Event(disable_timing=True)
            done.record()
        with cuda.Device(array.data.device_id):
            cuda.get_current_stream().wait_event(done)
        return out

    def copy_for(self, leaf: Any, g: Any, spare: bool) -> Any:
        """As the leaf lies, be it channels-last: optimizers then take both as flat memory."""
        return g.copy() if leaf.flags.c_contiguous else gradient_for(leaf, g, spare)

    def to_numpy(self, array: Any) -> Any:
        host = self.cupy.asnumpy(array)
        bounds.raise_pending()
        return host

    def device_of(self, array: Any) -> DeviceKey:
        return DeviceKey("cuda", array.device.id)

    def device_count(self) -> int:
        return self._count

    def lend(self, array: Any, stream: Any) -> None:
        self.memory.lend(array, stream)

    def synchronize(self, device: DeviceKey | None = None) -> None:
        with self.guard(device or DeviceKey("cuda")) as place:
            place.synchronize()
        self.memory.take_back()
        bounds.raise_pending()

    def current(self) -> int:
        return int(self.cupy.cuda.runtime.getDevice())

    def follow(self, array: Any) -> Callable[[], None]:
        runtime = self.cupy.cuda.runtime
        before, here = runtime.getDevice(), array.data.device_id
        if here != before:
            runtime.setDevice(here)
        return functools.partial(runtime.setDevice, before)

    def guard(self, device: DeviceKey) -> Any:
        """Makes the device the current one inside. RuntimeError for an index that no device has."""
        if device.index is None:
            return self.cupy.cuda.Device()
        if device.index >= self._count:
            there = "there is one device, cuda:0" if self._count == 1 else f"there are cuda:0 to cuda:{self._count - 1}"
            raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{device.index} was asked for; {there}")
        return self.cupy.cuda.Device(device.index)


def make() -> CupyBackend:
    """The backend object, for the registry. ImportError where CuPy or a device is missing."""
    return CupyBackend()
