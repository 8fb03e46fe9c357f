"""Which backends there are, which one serves an array, and where new tensors go.

A backend is loaded when it is first asked for, never at import. The environment variable TAPEGRAD_BACKEND names the
backend whose device is the default (numpy, cupy, or a plug-in of the entry-point group `tapegrad.backends`); it is
read at the first creation of a tensor. TAPEGRAD_GENERIC=1 uses no fused kernels.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from .base import Backend, DeviceKey, NoHardware

# name -> (module, the line that installs what it needs, its device types)
KNOWN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "numpy": (".numpy", "pip install numpy", ("cpu",)),
    "cupy": (".cupy", "pip install 'tapegrad[cupy13]' (CUDA 13) or 'tapegrad[cupy12]' (CUDA 12)", ("cuda",)),
    "fake": (".fake", "part of tapegrad", ("fake",)),
    "array_api": (".array_api", "pip install 'tapegrad[array-api]' and the library itself", (
        "array_api", "array_api_torch", "array_api_numpy", "array_api_cupy", "array_api_jax", "array_api_dpnp",
    )),
}  # fmt: skip
# whose `make` takes what follows a colon in the name; array_api:torch serves the device array_api_torch
CHOOSING = ("array_api",)
ENTRY_POINTS = "tapegrad.backends"

_loaded: dict[str, Backend] = {}
_by_type: dict[type, Backend] = {}


class BackendError(RuntimeError):
    """A backend that was asked for is unknown or cannot be used on this machine."""


def load(name: str) -> Backend:
    """The backend of that name.

    Raises BackendError when the name is unknown, or when what it needs is not installed or finds no device; the text
    lists the known names and how to install this one.
    """
    found = _loaded.get(name)
    if found is not None:
        return found
    family, *choice = name.split(":", 1)  # array_api:torch is the backend array_api made with "torch"
    if family in KNOWN and (not choice or family in CHOOSING):
        module, install, _ = KNOWN[family]
        try:
            backend = importlib.import_module(module, __package__).make(*choice)
        except ImportError as error:
            remedy = "" if isinstance(error, NoHardware) else f" Install it with: {install}."
            raise BackendError(f"backend '{name}' cannot be used here: {error}.{remedy} {_known_text()}") from error
        backend = _loaded.setdefault(backend.name, backend)  # array_api:strict is array_api
    else:
        backend = _load_plugin(name)
    _loaded[name] = backend
    return backend


def _plugins() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _known_text() -> str:
    return "Known backends: " + ", ".join([*KNOWN, *_plugins()]) + "."


def _load_plugin(name: str) -> Backend:
    point = _plugins().get(name)
    if point is None:
        raise BackendError(f"unknown backend '{name}' (from TAPEGRAD_BACKEND or load()). {_known_text()}")
    try:
        made = point.load()
        return _checked(made if isinstance(made, Backend) else made())
    except Exception as error:
        raise BackendError(
            f"backend '{name}' of {point.value} cannot be used here: {type(error).__name__}: {error}. {_known_text()}"
        ) from error


def _checked(made: Any) -> Backend:
    """What a plug-in gave, if it is a backend with all its fields. TypeError else."""
    if not isinstance(made, Backend):
        raise TypeError(f"the entry point gives {made!r}, which is no tapegrad.backends.base.Backend")
    lacking = [field for field in ("name", "device_types", "xp", "array_type") if not hasattr(made, field)]
    if lacking:
        raise TypeError(f"{type(made).__name__} does not say its {', '.join(lacking)}")
    return made


def register(backend: Backend, name: str | None = None) -> Backend:
    """Adds a backend object by hand, as a plug-in would by its entry point."""
    _loaded[name or backend.name] = backend
    return backend


def backend_of_type(array_type: type) -> Backend:
    """The backend whose arrays are of this type. TypeError when none is."""
    found = _by_type.get(array_type)
    if found is None:
        for kind in array_type.__mro__:
            for backend in (*_loaded.values(), *([] if "numpy" in _loaded else [load("numpy")])):
                if backend.array_type is kind:
                    _by_type[array_type] = backend
                    return backend
        if any(kind.__module__ == "numpy" for kind in array_type.__mro__):  # NumPy's scalars, ml_dtypes' among them
            found = _by_type[array_type] = load("numpy")
            return found
        raise TypeError(f"no backend for arrays of type {array_type.__module__}.{array_type.__name__}")
    return found


def backend_of(array: Any) -> Backend:
    """The backend of a raw array."""
    return _by_type.get(type(array)) or backend_of_type(type(array))


def backend_of_device(device_type: str) -> Backend:
    """The backend that serves a device type such as 'cpu' or 'cuda'. BackendError when there is none."""
    for backend in _loaded.values():
        if device_type in backend.device_types:
            return backend
    for name, (_, _, types) in KNOWN.items():
        if device_type in types:
            choice = device_type.removeprefix(name + "_") if name in CHOOSING else device_type
            return load(name if choice == device_type else f"{name}:{choice}")
    for name in _plugins():
        backend = load(name)
        if device_type in backend.device_types:
            return backend
    raise BackendError(f"no backend serves the device '{device_type}'. {_known_text()}")


def known_device_types() -> tuple[str, ...]:
    """The device types of the known backends, loaded or not."""
    types = [t for _, _, kinds in KNOWN.values() for t in kinds]
    types += [t for backend in _loaded.values() for t in backend.device_types if t not in types]
    return tuple(types)


def environment_device() -> DeviceKey:
    """The device that TAPEGRAD_BACKEND asks for, else cpu."""
    name = os.environ.get("TAPEGRAD_BACKEND")
    if not name:
        return DeviceKey("cpu")
    backend = load(name)
    return DeviceKey(backend.device_types[0])


def kernels_of(backend: Backend) -> Any:
    """The fused kernels in force: none under TAPEGRAD_GENERIC=1."""
    return {} if os.environ.get("TAPEGRAD_GENERIC") == "1" else backend.kernels
