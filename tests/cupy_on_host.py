"""CuPy itself on a machine without a driver: all it does on the host, over devices that are pretended.

CuPy's modules reach the CUDA runtime and driver through tables of function pointers (`__pyx_capi__`), which they read
when they are imported. Here these are filled with functions of Python first: device memory is host memory, streams and
events are numbers, and launches are kept in `launched` and not made. So CuPy checks arguments, picks dtypes, shapes and
kernels as it does on a GPU, and copies move bytes; what a kernel would have computed stays zero.

`cupy()` gives the module, or raises ImportError. A process that called it has no real CuPy: run it in one of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from types import ModuleType
from typing import Any

DEVICES = 2
TOTAL = 8 << 30

launched: list[tuple[int, str]] = []  # (device, kernel)
allocated: dict[int, tuple[int, int]] = {}  # address -> (device, bytes)
calls: list[tuple[Any, ...]] = []  # what streams and events were asked
current = 0
capturing: set[int] = set()
names: dict[int, str] = {}
limit = TOTAL

_libc = ctypes.CDLL(None)
_libc.calloc.restype, _libc.calloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
_libc.free.restype, _libc.free.argtypes = None, (ctypes.c_void_p,)
ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
ctypes.pythonapi.PyCapsule_GetName.restype = ctypes.c_char_p
ctypes.pythonapi.PyCapsule_GetName.argtypes = (ctypes.py_object,)

TYPES = {
    "PyObject *": ctypes.py_object, "int": ctypes.c_int, "unsigned int": ctypes.c_uint, "intptr_t": ctypes.c_ssize_t,
    "size_t": ctypes.c_size_t, "uintmax_t": ctypes.c_size_t, "float": ctypes.c_float, "CUdevice": ctypes.c_int,
}  # fmt: skip


def counter() -> Any:
    state = [0x1000]

    def following(*_: Any) -> int:
        state[0] += 16
        return state[0]

    return following


new = counter()


def malloc(size: int) -> int:
    address = _libc.calloc(max(size, 1), 1)
    allocated[address] = (current, size)
    return address


def owner(address: int) -> int:
    """The device where an address lies."""
    return next((d for start, (d, size) in allocated.items() if start <= address < start + max(size, 1)), 0)


def free(address: int) -> None:
    if allocated.pop(address, None) is not None:
        _libc.free(address)


def copied(to: int, of: int, size: int, *_: Any) -> None:
    if size:
        ctypes.memmove(to, of, size)


def filled(to: int, value: int, size: int, *_: Any) -> None:
    if size:
        ctypes.memset(to, value, size)


def set_device(index: int) -> None:
    global current
    current = index


def note(name: str) -> Any:
    return lambda *arguments: calls.append((name, *arguments))


def function(module: int, name: Any) -> int:
    made = new()
    names[made] = name if isinstance(name, str) else name.decode()
    return made


def launch(kernel: int, *_: Any) -> None:
    launched.append((current, names.get(kernel, "?")))


ATTRIBUTES = {75: 9, 76: 0, 16: 132, 1: 1024, 8: 49152, 97: 232448, 10: 32, 39: 2048}

RUNTIME: dict[str, Any] = {
    "getDevice": lambda: current, "setDevice": set_device, "getDeviceCount": lambda: DEVICES,
    "driverGetVersion": lambda: 13000, "runtimeGetVersion": lambda: 13000, "_getCUDAMajorVersion": lambda: 13,
    "deviceGetAttribute": lambda attribute, device: ATTRIBUTES.get(attribute, 1),
    "deviceCanAccessPeer": lambda a, b: 1, "_deviceEnsurePeerAccess": lambda peer: None,
    "deviceEnablePeerAccess": lambda peer: None, "_ensure_context": lambda: None, "check_status": lambda status: None,
    "deviceSynchronize": note("deviceSynchronize"), "memGetInfo": lambda: (TOTAL // 2, TOTAL),
    "getDeviceProperties": lambda device: {
        "name": b"pretended", "major": 9, "minor": 0, "warpSize": 32, "totalGlobalMem": TOTAL,
        "multiProcessorCount": 132,
    },
    "malloc": malloc, "mallocAsync": lambda size, stream: malloc(size), "free": free,
    "freeAsync": lambda address, stream: free(address), "hostAlloc": lambda size, flags: malloc(size), "freeHost": free,
    "memcpy": copied, "memcpyAsync": copied, "memset": filled, "memsetAsync": filled,
    "memcpyPeer": lambda to, a, of, b, size: copied(to, of, size),
    "memcpyPeerAsync": lambda to, a, of, b, size, stream: copied(to, of, size),
    "eventCreate": new, "eventCreateWithFlags": new, "eventDestroy": lambda event: None,
    "eventQuery": lambda event: 0, "eventSynchronize": note("eventSynchronize"),
    "eventRecord": note("eventRecord"), "eventElapsedTime": lambda a, b: 2.5,
    "streamCreate": new, "streamCreateWithFlags": new, "streamCreateWithPriority": new,
    "streamDestroy": lambda stream: None, "streamQuery": lambda stream: 0, "streamGetFlags": lambda stream: 1,
    "pointerGetMemoryType": lambda address: 2 if address in allocated else 0,
    "streamSynchronize": note("streamSynchronize"), "streamGetPriority": lambda stream: 0,
    "streamWaitEvent": note("streamWaitEvent"), "streamIsCapturing": lambda stream: int(stream in capturing),
}  # fmt: skip
DRIVER: dict[str, Any] = {
    "ctxGetCurrent": lambda: 1, "ctxSetCurrent": lambda context: None, "ctxGetDevice": lambda: current,
    "moduleLoadData": new, "moduleLoad": new, "moduleUnload": lambda module: None, "moduleGetFunction": function,
    "moduleGetGlobal": lambda module, name: malloc(4096), "launchKernel": launch, "launchCooperativeKernel": launch,
    "funcGetAttribute": lambda attribute, kernel: 1024, "funcSetAttribute": lambda *_: None,
    "occupancyMaxActiveBlocksPerMultiprocessor": lambda *_: 2, "get_build_version": lambda: 13000,
    "occupancyMaxPotentialBlockSize": lambda *_: (132, 256),
}  # fmt: skip

_held: list[Any] = []  # callbacks and names: what has a pointer must not be freed


def replace(module: Any, functions: dict[str, Any]) -> None:
    """Fills a module's table, and its names, with these functions; the types are those that the table states."""
    table = module.__pyx_capi__
    for name, function in functions.items():
        setattr(module, name, function)
        if name not in table:
            continue
        signature = ctypes.pythonapi.PyCapsule_GetName(table[name])
        result, words = re.fullmatch(r"(.*?)\((.*)\)", signature.decode()).groups()
        if result.strip() not in TYPES:
            continue
        given = [w.strip() for w in words.split(",")]
        kinds = [TYPES.get(w, ctypes.c_void_p) for w in given if w not in ("void",) and "__pyx_skip" not in w]
        kinds += [ctypes.c_int] * ("__pyx_skip" in words)
        count = len([w for w in given if w in TYPES])

        def called(*arguments: Any, function: Any = function, count: int = count) -> Any:
            return function(*arguments[:count])

        callback = ctypes.PYFUNCTYPE(TYPES[result.strip()], *kinds)(called)
        _held.extend((callback, signature, table[name]))
        pointer = ctypes.cast(callback, ctypes.c_void_p)
        mark = ctypes.create_string_buffer(signature)
        _held.append(mark)
        table[name] = ctypes.pythonapi.PyCapsule_New(pointer, ctypes.addressof(mark), None)


def nothing(*_: Any, **__: Any) -> int:
    return 0


class Silent(ModuleType):
    """A module whose functions do nothing and give 0, and whose constants are 0: a library of NVIDIA's."""

    def __getattr__(self, name: str) -> Any:
        if name == "__pyx_capi__":
            raise ImportError(f"the library {self.__name__} is not here")
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.isupper() else nothing


class Transforms(Silent):
    """cupy.cuda.cufft: plans that do nothing."""

    class Plan1d:
        def __init__(self, size: int, kind: str, batch: int, **_: Any):
            self.nx, self.batch, self.fft_type, self.gpus, self.work_area = size, batch, kind, None, None

        def get_output_array(self, x: Any) -> Any:
            to_real, to_complex = self.fft_type.endswith(("C2R", "Z2D")), self.fft_type.endswith(("R2C", "D2Z"))
            size = self.nx // 2 + 1 if to_complex else self.nx
            kind = {"C2R": "f4", "Z2D": "f8", "R2C": "c8", "D2Z": "c16", "C2C": "c8", "Z2Z": "c16"}[self.fft_type[-3:]]
            assert not to_real or x.dtype.kind == "c"
            return _made[0].empty((*x.shape[:-1], size), kind)

        fft = check_output_array = nothing

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    class PlanNd:
        """Never made: its constructor is given up for one transform after the other."""

    @staticmethod
    def get_current_plan() -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return name if name.startswith("CUFFT_") else super().__getattr__(name)


_made: list[Any] = []


def cupy() -> Any:
    """The module cupy over the pretended devices. ImportError where it is not installed."""
    if _made:
        return _made[0]
    from tapegrad.backends.cupy.compile import outside

    os.environ["CUPY_ACCELERATORS"] = ""
    os.environ["CUPY_DISABLE_JITIFY_FEATURE"] = "1"
    runtime = outside("cupy_backends.cuda.api.runtime")
    TYPES["struct __pyx_obj_13cupy_backends_4cuda_3api_7runtime_PointerAttributes *"] = ctypes.py_object
    replace(runtime, RUNTIME | {"pointerGetAttributes": lambda at: runtime.PointerAttributes(owner(at), at, 0)})
    replace(outside("cupy_backends.cuda.api.driver"), DRIVER)
    package = outside("cupy_backends.cuda.libs")
    for library in ("cublas", "cusolver", "cusparse", "curand"):
        sys.modules[f"{package.__name__}.{library}"] = silent = Silent(library)
        setattr(package, library, silent)
    found = outside("cupy")
    found.fft.config.enable_nd_planning = False
    found.cuda.cufft = Transforms("cupy.cuda.cufft")
    for name in ("sort", "argsort", "lexsort"):
        setattr(found.cuda.thrust, name, nothing)
    compiler = outside("cupy.cuda.compiler")

    def compiled(*_: Any, name_expressions: Any = None, **__: Any) -> Any:
        made = found.cuda.function.Module()
        made.load(b"no code")
        made._set_mapping({name: name for name in name_expressions or ()})
        return made

    compiler._compile_module_with_cache = compiled
    _made.append(found)
    return found
