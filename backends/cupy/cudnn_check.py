"""python -m tapegrad.backends.cupy.cudnn_check: asks cuDNN whether it serves our graphs on sm_80 and sm_90. No GPU.

cuDNN plans for a device that it is only told of. Of convolutions a plan is built; attention's kernels are compiled for
the device when a plan is built, so of these the answer alone is asked. Ends in a line `N cuDNN graphs supported for
sm_80 and sm_90`; the exit code is 1 where one is not. The extra tapegrad[cudnn-check] installs what it needs (1.2 GB).
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import cudnn
from .attention_kernels import TILE, Attention
from .conv_kernels import Convolution

Ints = tuple[int, ...]

# What cuDNN asks of a device: from NVIDIA's data sheets of the H200 and the A100, and the programming guide's tables
COMMON: dict[str, Any] = {
    "cudaDeviceId": 0, "driverVer": 13000, "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536, "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "reservedSharedMemoryPerBlock": 1024,
    "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048,
    "isTccDriver": 0, "supportCoopLaunch": 1,
}  # fmt: skip
DEVICES: dict[int, dict[str, Any]] = {
    80: {
        "deviceName": "NVIDIA A100-SXM4-80GB", "deviceVer": 800, "totalGlobalMem": 85_000_000_000,
        "multiProcessorCount": 108, "smClockRateKHz": 1_410_000, "memClockRateKHz": 1_593_000,
        "l2CacheSize": 41_943_040, "maxSharedMemoryPerBlockOptin": 166_912, "pciDeviceId": 0x20B2,
    },
    90: {
        "deviceName": "NVIDIA H200", "deviceVer": 900, "totalGlobalMem": 150_000_000_000, "multiProcessorCount": 132,
        "smClockRateKHz": 1_980_000, "memClockRateKHz": 3_201_000, "l2CacheSize": 62_914_560,
        "maxSharedMemoryPerBlockOptin": 232_448, "pciDeviceId": 0x2335,
    },
}  # fmt: skip

# ---- the graphs

# The convolutions of ResNet-50: (channels, size, channels out, kernel, stride)
RESNET = [
    (3, 224, 64, 7, 2), (64, 56, 64, 1, 1), (64, 56, 64, 3, 1), (64, 56, 256, 1, 1), (256, 56, 64, 1, 1),
    (256, 56, 128, 1, 1), (128, 56, 128, 3, 2), (128, 28, 512, 1, 1), (256, 56, 512, 1, 2), (512, 28, 128, 1, 1),
    (128, 28, 128, 3, 1), (512, 28, 256, 1, 1), (256, 28, 256, 3, 2), (256, 14, 1024, 1, 1), (512, 28, 1024, 1, 2),
    (1024, 14, 256, 1, 1), (256, 14, 256, 3, 1), (1024, 14, 512, 1, 1), (512, 14, 512, 3, 2), (512, 7, 2048, 1, 1),
    (1024, 14, 2048, 1, 2), (2048, 7, 512, 1, 1), (512, 7, 512, 3, 1),
]  # fmt: skip
# (x, w, stride, padding, dilation): lines, volumes, groups, depthwise, dilation, padding wider than the kernel
OTHERS: list[tuple[Ints, Ints, Ints, Ints, Ints]] = [
    ((16, 80, 1, 3000), (384, 80, 1, 3), (1, 1), (0, 1), (1, 1)),
    ((16, 384, 1, 3000), (384, 384, 1, 3), (1, 2), (0, 1), (1, 1)),
    ((4, 16, 1, 100), (32, 16, 1, 3), (1, 1), (0, 4), (1, 4)),
    ((4, 16, 8, 28, 28), (32, 16, 3, 3, 3), (1, 2, 2), (1, 1, 1), (1, 1, 1)),
    ((32, 128, 56, 56), (128, 4, 3, 3), (1, 1), (1, 1), (1, 1)),
    ((32, 96, 28, 28), (96, 1, 3, 3), (2, 2), (1, 1), (1, 1)),
    ((32, 768, 14, 14), (768, 1, 7, 7), (1, 1), (3, 3), (1, 1)),
    ((8, 64, 65, 65), (64, 64, 3, 3), (1, 1), (6, 6), (6, 6)),
    ((4, 8, 9, 9), (8, 4, 3, 3), (3, 3), (4, 4), (2, 2)),
    ((128, 1, 28, 28), (32, 1, 3, 3), (1, 1), (0, 0), (1, 1)),
    ((128, 3, 32, 32), (7, 3, 3, 2), (1, 2), (0, 1), (1, 1)),
    ((32, 3, 224, 224), (768, 3, 16, 16), (16, 16), (0, 0), (1, 1)),
]  # fmt: skip
OPS = ("conv", "conv_input", "conv_weight")
# (dtype, channels last, TF32)
WAYS = [
    ("float32", False, True), ("float32", True, True), ("float32", False, False), ("float32", True, False),
    ("bfloat16", False, False), ("bfloat16", True, False), ("float16", False, False), ("float16", True, False),
]  # fmt: skip

# (B, H, L, S, E, V, causal): GPT-2, BERT, ViT, a decoder that looks at an encoder, short ones, other widths of heads
HEADS = [
    (16, 12, 1024, 1024, 64, 64, True), (32, 12, 512, 512, 64, 64, False), (128, 12, 197, 197, 64, 64, False),
    (8, 8, 100, 300, 64, 64, False), (8, 8, 300, 100, 64, 64, True), (2, 3, 1, 300, 64, 64, False),
    (2, 3, 7, 7, 8, 8, True), (2, 16, 2048, 2048, 128, 128, True), (2, 8, 4096, 4096, 40, 40, False),
    (2, 8, 256, 256, 80, 80, True), (2, 8, 256, 256, 96, 96, True), (2, 8, 128, 128, 64, 32, True),
]  # fmt: skip


def convolutions() -> Iterator[tuple[Convolution, bool]]:
    """(description, TF32) of all."""
    resnet = [((128, c, n, n), (o, c, k, k), (s, s), (k // 2, k // 2), (1, 1)) for c, n, o, k, s in RESNET]
    double = [("float64", False, False), ("float64", True, False)]
    cases: list[tuple[Any, Any]] = [(resnet, WAYS), (OTHERS, WAYS + double)]
    for geometry, ways in cases:
        for x, w, stride, padding, dilation in geometry:
            sizes = zip(x[2:], w[2:], stride, padding, dilation, strict=True)
            y = (x[0], w[0], *[(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes])
            for dtype, last, tf32 in ways:
                for op in OPS:
                    yield Convolution(op, dtype, x, w, y, stride, padding, dilation, last, op == "conv"), tf32


def attentions(deterministic: bool = False) -> Iterator[Attention]:
    """Both directions, heads within rows and before them."""
    for batch, heads, queries, keys, width, deep, causal in HEADS:
        lengths, widths = (queries, keys, keys, queries), (width, width, deep, deep)
        shapes = tuple([(batch, heads, n, e) for n, e in zip(lengths, widths, strict=True)])
        rows = tuple([(n * heads * e, e, heads * e, 1) for _, _, n, e in shapes])
        before = tuple([(n * heads * e, n * e, e, 1) for _, _, n, e in shapes])
        padded = bool(queries % TILE or keys % TILE)
        for dtype in ("bfloat16", "float16"):
            for strides in (rows, before):
                for backward in (False, True):
                    yield Attention(
                        backward, dtype, shapes, strides, strides[:3] if backward else (), causal, width**-0.5, padded,
                        backward and deterministic,
                    )  # fmt: skip


# ---- the answers

# What cuDNN looks for in the driver before it answers for attention. NVIDIA's toolkit has such a library, whose
# functions all return CUDA_ERROR_STUB_LIBRARY; none of its packages on PyPI does.
DRIVER = """
cuCtxGetCurrent cuCtxGetLimit cuCtxPopCurrent cuCtxPushCurrent cuDeviceGet cuDeviceGetCount cuDriverGetVersion
cuGetErrorName cuGetErrorString cuInit cuKernelGetAttribute cuKernelSetAttribute cuLaunchCooperativeKernel
cuLaunchKernel cuLaunchKernelEx cuLibraryGetKernel cuLibraryLoadData cuLibraryLoadFromFile cuLibraryUnload
cuLinkAddData cuLinkComplete cuLinkCreate cuLinkDestroy cuOccupancyMaxPotentialClusterSize cuStreamGetCtx
"""


def driver() -> str | None:
    """Loads libcuda.so.1, or a stub of it, into the process; None, or why not."""
    try:
        ctypes.CDLL("libcuda.so.1")
        return None
    except OSError:
        pass
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "no NVIDIA driver, and no C compiler that could make a stub of it"
    code = "".join(f"int {name}(void) {{ return 34; }}\n" for name in DRIVER.split())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "libcuda.so.1")
        command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", "-", "-o", str(path)]
        done = subprocess.run(command, input=code, capture_output=True, text=True)
        if done.returncode:
            return f"a stub of the NVIDIA driver cannot be made: {done.stderr.strip()}"
        ctypes.CDLL(str(path))
    return None


def answer(frontend: Any, arch: int, description: cudnn.Description, tf32: bool, build: bool) -> str | None:
    """None where cuDNN serves the graph on that architecture, else its reason."""
    properties = frontend.create_device_properties(json.dumps(COMMON | DEVICES[arch]))
    mode = cudnn.Mode(tf32, getattr(description, "deterministic", False))
    try:
        graph = cudnn.graph_of(frontend, description, mode, device_property=properties, sm_version=arch)
        if build:
            cudnn.Plan(frontend, graph, False)
    except cudnn.refusals(frontend) as error:
        return str(error).splitlines()[0] or type(error).__name__
    return None


def answers(frontend: Any, arch: int) -> Iterator[tuple[str, cudnn.Description, str | None]]:
    """(kind, description, reason or None) of each graph."""
    for convolution, tf32 in convolutions():
        kind = f"{convolution.op}, {convolution.dtype}" + (" as TF32" if tf32 else "")
        yield kind, convolution, answer(frontend, arch, convolution, tf32, True)
    for deterministic in (False, True):
        for attention in attentions(deterministic):
            if deterministic <= attention.backward:
                kind = f"attention{' backward' if attention.backward else ''}, {attention.dtype}"
                yield kind, attention, answer(frontend, arch, attention, False, False)


def main() -> int:
    """Asks for all and prints a line per kind and architecture."""
    try:
        frontend = cudnn.load()
    except ImportError as error:
        print(f"the check cannot run: {error}; the extra tapegrad[cudnn-check] installs it", file=sys.stderr)
        return 2
    reason = driver()
    if reason:
        print(f"the check cannot run: {reason}", file=sys.stderr)
        return 2
    print(f"cuDNN {frontend.backend_version_string()}, frontend {frontend.__version__}")
    total = wrong = 0
    for arch in DEVICES:
        kinds: dict[str, list[int]] = {}
        for kind, description, why in answers(frontend, arch):
            count = kinds.setdefault(kind, [0, 0])
            count[why is not None] += 1
            if why is not None:
                print(f"sm_{arch} refuses {description}: {why}")
        for kind, (good, bad) in kinds.items():
            print(f"sm_{arch} {kind:40} {good:4} supported, {bad} refused", flush=True)
            total, wrong = total + good, wrong + bad
    names = " and ".join(f"sm_{arch}" for arch in DEVICES)
    refused = f", {wrong} refused" if wrong else ""
    print(f"{total // len(DEVICES) if not wrong else total} cuDNN graphs supported for {names}{refused}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
