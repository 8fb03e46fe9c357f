"""The CuPy backend: tensors on NVIDIA GPUs. CuPy is imported when this backend is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ..base import Backend, DeviceKey
from . import bounds
from .errors import found_cupy, usable_devices
from .memory import Watch


class CupyBackend(Backend):
    """Arrays are cupy.ndarray; ops without a kernel run in their generic form on CuPy's NumPy-like module."""

    name = "cupy"
    device_types = ("cuda",)

    def __init__(self) -> None:
        cupy = found_cupy()
        self._count = usable_devices(cupy)
        self.xp = cupy
        self.array_type = cupy.ndarray
        self.memory = Watch(cupy)

    @functools.cached_property
    def kernels(self) -> Mapping[str, Callable[..., Any]]:  # type: ignore[override]  # made at first use
        """The fused kernels, loaded when the first op is linked."""
        from . import launch
        from .kernels import KERNELS

        launch.use(launch.Machine(self.xp))
        if self._count == 1:
            return KERNELS
        return {name: self._at_its_array(kernel) for name, kernel in KERNELS.items()}

    def _at_its_array(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """The kernel on the device of its first array, as PyTorch runs ops; asked only where there are several."""

        @functools.wraps(kernel)
        def placed(*arrays: Any, **kw: Any) -> Any:
            for found in arrays:
                if isinstance(found, self.array_type):
                    with self.xp.cuda.Device(found.device.id):
                        return kernel(*arrays, **kw)
            return kernel(*arrays, **kw)

        return placed

    @property
    def special(self) -> Any:
        """CuPy's own, on the GPU."""
        import cupyx.scipy.special

        return cupyx.scipy.special

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        with self.guard(device or DeviceKey("cuda")) as place:
            if not isinstance(obj, self.array_type):
                return self.xp.array(obj, dtype=dtype)
            if device is not None and obj.device.id != place.id:
                obj, copy = obj.copy(), False  # CuPy copies to the current device
            if dtype is None or obj.dtype == dtype:
                return obj.copy() if copy else obj
            if copy is False and device is None:
                raise ValueError(f"a copy is needed to make {dtype} of {obj.dtype}")
            return obj.astype(dtype)

    def to_numpy(self, array: Any) -> Any:
        host = self.xp.asnumpy(array)
        bounds.raise_pending()
        return host

    def device_of(self, array: Any) -> DeviceKey:
        return DeviceKey("cuda", array.device.id)

    def device_count(self) -> int:
        return self._count

    def storage_of(self, array: Any) -> Any:
        return array.data.mem

    def synchronize(self, device: DeviceKey | None = None) -> None:
        with self.guard(device or DeviceKey("cuda")) as place:
            place.synchronize()
        bounds.raise_pending()

    def guard(self, device: DeviceKey) -> Any:
        """Makes the device the current one inside. RuntimeError for an index that no device has."""
        if device.index is None:
            return self.xp.cuda.Device()
        if device.index >= self._count:
            there = "there is one device, cuda:0" if self._count == 1 else f"there are cuda:0 to cuda:{self._count - 1}"
            raise RuntimeError(f"CUDA error: invalid device ordinal: cuda:{device.index} was asked for; {there}")
        return self.xp.cuda.Device(device.index)


def make() -> CupyBackend:
    """The backend object, for the registry. ImportError where CuPy or a device is missing."""
    return CupyBackend()
