"""The CuPy backend: tensors on NVIDIA GPUs. CuPy is imported when this backend is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ..base import Backend, DeviceKey
from .errors import found_cupy, usable_devices


class CupyBackend(Backend):
    """Arrays are cupy.ndarray; ops without a kernel run in their generic form on CuPy's NumPy-like module."""

    name = "cupy"
    device_types = ("cuda",)

    def __init__(self) -> None:
        cupy = found_cupy()
        self._count = usable_devices(cupy)
        self.xp = cupy
        self.array_type = cupy.ndarray

    @functools.cached_property
    def kernels(self) -> Mapping[str, Callable[..., Any]]:  # type: ignore[override]
        """The fused kernels, loaded when the first op is linked."""
        from . import launch
        from .kernels import KERNELS

        launch.use(launch.Machine(self.xp))
        return KERNELS

    @property
    def special(self) -> Any:
        """CuPy's own, on the GPU."""
        import cupyx.scipy.special

        return cupyx.scipy.special

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        with self.guard(device or DeviceKey("cuda")):
            return self.xp.array(obj, dtype=dtype, copy=bool(copy))

    def to_numpy(self, array: Any) -> Any:
        return self.xp.asnumpy(array)

    def device_of(self, array: Any) -> DeviceKey:
        return DeviceKey("cuda", array.device.id)

    def device_count(self) -> int:
        return self._count

    def storage_of(self, array: Any) -> Any:
        return array.data.mem

    def synchronize(self, device: DeviceKey | None = None) -> None:
        with self.guard(device or DeviceKey("cuda")):
            self.xp.cuda.get_current_stream().synchronize()

    def guard(self, device: DeviceKey) -> Any:
        index = device.index if device.index is not None else self.xp.cuda.runtime.getDevice()
        return self.xp.cuda.Device(index)


def make() -> CupyBackend:
    """The backend object, for the registry. ImportError where CuPy or a device is missing."""
    return CupyBackend()
