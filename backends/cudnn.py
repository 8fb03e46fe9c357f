"""torch.backends.cudnn: the switches of convolution and attention on CUDA devices, with PyTorch's defaults.

They are read when an operation runs: `enabled` (cuDNN at all; without it the library's own kernels serve), `benchmark`
(the first run of each shape measures `benchmark_limit` ways, 10 by default, 0: all, and keeps the fastest),
`deterministic` (only ways that give the same bits every time; so does use_deterministic_algorithms), `allow_tf32` and
`conv.fp32_precision` (single precision on tensor cores, rounded to TF32). `depthwise_kernel` is kept and
chooses nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from . import precision

enabled = True
benchmark = False
deterministic = False
benchmark_limit: int | None = None
depthwise_kernel = "auto"

_BOOLS = {"enabled": "enabled_cudnn", "benchmark": "benchmark_cudnn", "deterministic": "deterministic_cudnn"}
conv, rnn = precision.Precision("cuda", "conv"), precision.Precision("cuda", "rnn")


class _Settings(ModuleType):
    """The module itself, so that `cudnn.allow_tf32 = False` is seen."""

    fp32_precision = precision.word_of("cuda")
    allow_tf32 = property(lambda room: precision.cudnn_allowed(), lambda room, value: precision.allow_cudnn(value))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _BOOLS and not isinstance(value, bool):
            raise RuntimeError(f"set_{_BOOLS[name]} expects a bool, but got {type(value).__name__}")
        if name == "depthwise_kernel" and value not in ("auto", "cudnn", "native"):
            raise RuntimeError(
                f"Unknown cuDNN depthwise kernel mode: {value}. Expected one of: auto, cudnn, native"
            )
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Settings


def is_deterministic() -> bool:
    """Whether only ways that give the same bits every time may be taken: by `deterministic`, or by the program."""
    return deterministic or precision.State.deterministic


def _library() -> Any:
    """The CuPy backend's cuDNN, or None; loads CuPy."""
    from . import registry

    try:
        assert registry.load("cupy").kernels  # linking them tells the machine
    except (ImportError, RuntimeError):
        return None
    from .cupy import cudnn

    return cudnn.library()


def is_available() -> bool:
    """Whether cuDNN can be used: there is a CUDA device, and the extra tapegrad[cudnn13] is installed."""
    return _library() is not None


def version() -> int | None:
    """cuDNN's version, 91900 for 9.19.0; None where there is none."""
    found = _library()
    return None if found is None else int(found.frontend.backend_version())


def is_acceptable(tensor: Any) -> bool:
    """Whether cuDNN would serve this tensor: on a CUDA device, of a dtype in PyTorch's list, and cuDNN may be used."""
    dtypes = ("float16", "float32", "float64")
    return enabled and tensor.device.type == "cuda" and tensor.array.dtype.name in dtypes and is_available()


@contextmanager
def flags(
    enabled: bool = False,
    benchmark: bool = False,
    benchmark_limit: int | None = 10,
    deterministic: bool = False,
    allow_tf32: bool = True,
    fp32_precision: str = "none",
    depthwise_kernel: str = "auto",
) -> Iterator[None]:
    """Inside, the settings are those given; after it, what they were."""
    new = locals()
    module: Any = sys.modules[__name__]
    precision.cudnn_allowed()  # RuntimeError where the settings contradict each other
    before = {name: getattr(module, name) for name in new if "32" not in name}
    kept = precision.kept()
    try:
        for name, value in new.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
        precision.restore(kept)
