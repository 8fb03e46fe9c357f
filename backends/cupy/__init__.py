"""The CuPy backend: tensors on NVIDIA GPUs. CuPy is imported when this backend is first asked for."""

from __future__ import annotations

from typing import Any

from ..base import Backend, DeviceKey


class CupyBackend(Backend):
    """Arrays are cupy.ndarray; every op runs in its generic form on CuPy's NumPy-like module."""

    name = "cupy"
    device_types = ("cuda",)

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise ImportError("the package cupy is not installed") from error
        try:
            self._count = cupy.cuda.runtime.getDeviceCount()
        except Exception as error:
            raise ImportError(f"CuPy finds no usable NVIDIA device ({error})") from error
        self.xp = cupy
        self.array_type = cupy.ndarray

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
