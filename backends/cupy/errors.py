"""Why the CuPy backend cannot be used here, in words that say what to do."""

from __future__ import annotations

import os
from typing import Any

from ..base import NoHardware
from .compile import outside


def found_cupy() -> Any:
    """The package cupy. ImportError where it is missing, or there and broken, with the reason."""
    try:
        return outside("cupy")
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise ImportError("the package cupy is not installed") from error
        raise ImportError(_broken(error)) from error
    except Exception as error:  # CuPy raises several kinds where its CUDA libraries are missing or do not fit
        raise ImportError(_broken(error)) from error


def _broken(error: BaseException) -> str:
    wheels = _wheels()
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if len(wheels) > 1:
        return f"several builds of CuPy hide each other ({', '.join(wheels)}): uninstall all but one. {reason}"
    return f"the package cupy is installed ({', '.join(wheels) or 'not by pip'}) but does not import: {reason}"


def _wheels() -> list[str]:
    """The installed distributions that bring a module cupy."""
    from importlib.metadata import packages_distributions, version

    return [f"{name} {version(name)}" for name in sorted(set(packages_distributions().get("cupy", ())))]


def usable_devices(cupy: Any) -> int:
    """How many devices CuPy can use. ImportError where there is none, saying whether driver, build or device lacks."""
    runtime = cupy.cuda.runtime
    try:
        count = int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        driver = runtime.driverGetVersion() if getattr(error, "status", None) == INSUFFICIENT_DRIVER else 0
        raise (ImportError if driver else NoHardware)(_no_device(runtime, error)) from error
    if not count:
        raise NoHardware(_hidden())
    return count


def usable_compiler(cupy: Any) -> None:
    """ImportError where CuPy does not find NVRTC, which it looks for at its first kernel."""
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # CuPy's and the loader's kinds
        wheels = [wheel.split()[0] for wheel in _wheels() if wheel.startswith("cupy-cuda")] or ["cupy"]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImportError(
            f"{wheels[0]} is installed and finds a device, but not CUDA's compiler library NVRTC ({reason}): "
            f"pip install '{wheels[0]}[ctk]' brings CUDA's libraries, or install the build for the CUDA that is here"
        ) from error


INSUFFICIENT_DRIVER, NO_DEVICE, DRIVER_MISMATCH = 35, 100, 803  # cudaError_t


def _no_device(runtime: Any, error: Any) -> str:
    status = getattr(error, "status", None)
    if status == NO_DEVICE:
        return _hidden()
    if status == DRIVER_MISMATCH:
        return "the NVIDIA driver was updated and its kernel module not yet: load it again, or restart the machine"
    if status == INSUFFICIENT_DRIVER:
        driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if not driver:
            return "no NVIDIA driver is loaded (`nvidia-smi` shows it): CuPy is there, but no GPU to use it on"
        return (
            f"the NVIDIA driver supports CUDA {_dotted(driver)}, and this CuPy is built for CUDA {_dotted(built)}: "
            "update the driver, or install the build for the older CUDA"
        )
    return f"CuPy finds no usable NVIDIA device: {error}"


def _dotted(version: int) -> str:
    """13020 -> "13.2"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _hidden() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "the NVIDIA driver finds no device"
    return f"the NVIDIA driver finds no device (CUDA_VISIBLE_DEVICES is {visible!r})"
