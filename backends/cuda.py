"""torch.backends.cuda: settings of matrix products and of attention. They are kept and choose nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager

from . import set_inside


class _Matmul:
    """Settings of matrix products on the device."""

    allow_tf32 = False
    allow_fp16_reduced_precision_reduction = True
    allow_bf16_reduced_precision_reduction = True
    allow_fp16_accumulation = False
    fp32_precision = "none"


class _PlanCache:
    """Settings of the cache of FFT plans, which CuPy keeps."""

    max_size = 0
    size = 0

    def clear(self) -> None:
        """Forgets the plans: nothing to do."""


matmul, cufft_plan_cache = _Matmul(), _PlanCache()
_sdp = {"flash": True, "mem_efficient": True, "math": True, "cudnn": True}


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


def sdp_kernel(
    enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True, enable_cudnn: bool = True
) -> AbstractContextManager[None]:
    """Inside, the settings of attention are those given; after it, what they were."""
    new = {"flash": enable_flash, "math": enable_math, "mem_efficient": enable_mem_efficient, "cudnn": enable_cudnn}
    return set_inside(_sdp, new)
