"""torch.backends.cuda: settings of matrix products and of attention, which the CuPy backend follows."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from . import precision, set_inside

# What kernels read. cudaDataType_t of the factors -> (whether parts of a sum may be added in half precision, whether a
# product may be split); whether products of float16 are added up in float16.
held = {2: (True, True), 14: (True, True)}
FP16 = [False]

_REDUCTIONS = {"allow_fp16_reduced_precision_reduction": 2, "allow_bf16_reduced_precision_reduction": 14}


class _Matmul:
    """Settings of matrix products on the device.

    allow_tf32, fp32_precision: the old and the new name of the same choice; see precision.py.
    allow_fp16_reduced_precision_reduction, allow_bf16_...: whether parts of a sum may be added in half precision where
    a product is split along its inner dimension. A pair (this, whether it may be split at all) is taken too.
    allow_fp16_accumulation: whether products of float16 are added up in float16.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "allow_tf32":
            return precision.matmul_allowed()
        if name == "fp32_precision":
            return precision.get("cuda", "matmul")
        if name == "allow_fp16_accumulation":
            return FP16[0]
        if name.removesuffix("_split_k") in _REDUCTIONS:
            return held[_REDUCTIONS[name.removesuffix("_split_k")]][name.endswith("_split_k")]
        raise AttributeError("Unknown attribute " + name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "allow_tf32":
            precision.allow_matmul(value)
        elif name == "fp32_precision":
            precision.put("cuda", "matmul", value)
        elif name == "allow_fp16_accumulation":
            if not isinstance(value, bool):
                raise RuntimeError(f"set_allow_fp16_accumulation_cublas expects a bool, but got {type(value).__name__}")
            FP16[0] = value
        elif name in _REDUCTIONS:
            held[_REDUCTIONS[name]] = _pair(value, name)
        else:
            raise AttributeError("Unknown attribute " + name)


def _pair(value: Any, name: str) -> tuple[bool, bool]:
    """(allowed, may be split) of a bool, or of a list or tuple of one or two."""
    given = (value,) if isinstance(value, bool) else value
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{name} expects a bool or a tuple/list of bools, but got {value!r}")
    if not 0 < len(given) <= 2:
        raise TypeError(f"{name} expects at {'most two boolean arguments' if given else 'least one boolean argument'}")
    for word, flag in zip(("allow_reduced_precision", "allow_splitk"), given, strict=False):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} expects a bool for {word}, but got {type(flag)!r}")
    allowed, split = (*given, True)[:2]
    if allowed and not split:
        raise RuntimeError("allow_splitk=False is not supported when reduced precision reductions are enabled")
    return allowed, split


class _PlanCache:
    """Settings of the cache of FFT plans, which CuPy keeps."""

    max_size = 0
    size = 0

    def clear(self) -> None:
        """Forgets the plans: nothing to do."""


matmul, cufft_plan_cache = _Matmul(), _PlanCache()
# which kinds of attention may be chosen, and the numbers of nn.attention.SDPBackend, the preferred one first
_sdp: dict[str, Any] = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True, "order": (1, 2, 0, 3, 4)}


def is_built() -> bool:
    """Whether this library is compiled against CUDA: no, CuPy is loaded when it is asked for."""
    return False


def flash_sdp_enabled() -> bool:
    """Whether flash attention may be chosen."""
    return _sdp["flash"]


def mem_efficient_sdp_enabled() -> bool:
    """Whether memory-efficient attention may be chosen."""
    return _sdp["mem_efficient"]


def math_sdp_enabled() -> bool:
    """Whether the plain form of attention may be chosen."""
    return _sdp["math"]


def cudnn_sdp_enabled() -> bool:
    """Whether cuDNN's attention may be chosen."""
    return _sdp["cudnn"]


def enable_flash_sdp(enabled: bool) -> None:
    """Sets what `flash_sdp_enabled` tells."""
    _sdp["flash"] = bool(enabled)


def enable_mem_efficient_sdp(enabled: bool) -> None:
    """Sets what `mem_efficient_sdp_enabled` tells."""
    _sdp["mem_efficient"] = bool(enabled)


def enable_math_sdp(enabled: bool) -> None:
    """Sets what `math_sdp_enabled` tells."""
    _sdp["math"] = bool(enabled)


def enable_cudnn_sdp(enabled: bool) -> None:
    """Sets what `cudnn_sdp_enabled` tells."""
    _sdp["cudnn"] = bool(enabled)


def sdp_order() -> tuple[int, ...]:
    """The numbers of nn.attention.SDPBackend, the preferred one first; `sdpa_kernel` with set_priority sets them."""
    return _sdp["order"]


def cudnn_attends() -> bool:
    """Whether attention is left to cuDNN where it serves.

    It may be chosen, and no order that was asked for puts the plain form, which is what else there is, before it. The
    order at first, which is PyTorch's, says nothing of it: there "plain" stands for the slowest way.
    """
    if not _sdp["cudnn"]:
        return False
    order = _sdp["order"]
    return order == (1, 2, 0, 3, 4) or not _sdp["math"] or order.index(3) < order.index(0)


def sdp_kernel(
    enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True, enable_cudnn: bool = True
) -> AbstractContextManager[None]:
    """Inside, the settings of attention are those given; after it, what they were."""
    new = {"flash": enable_flash, "math": enable_math, "mem_efficient": enable_mem_efficient, "cudnn": enable_cudnn}
    return set_inside(_sdp, new)
