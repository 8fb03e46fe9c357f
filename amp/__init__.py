"""Mixed precision: `autocast` runs what gains from it in a half precision, `GradScaler` keeps gradients from vanishing.

>>> import tapegrad as torch
>>> x, w = torch.ones(2, 3), torch.ones(3, 2)
>>> with torch.autocast("cpu", dtype=torch.float16):
...     (x @ w).dtype
torch.float16
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from ..autograd.device import device as _device
from ..autograd.dtypes import as_dtype, dtype
from ..autograd.tensor import Tensor
from .door import dtype_for, enter, leave, state
from .grad_scaler import GradScaler as GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

_AVAILABLE = ("cpu", "cuda", "fake")
_HALF = ("bfloat16", "float16")


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast serves this device type."""
    return _device(device_type).type in _AVAILABLE


class autocast:
    """Inside, matrix products, convolutions and attention run in `dtype`, losses and the like in float32. Per thread.

    Args:
        device_type: "cpu" or "cuda": only tensors there are cast.
        dtype: torch.bfloat16 or torch.float16; default bfloat16 on the CPU, float16 on CUDA devices.
        enabled: False switches an outer region off inside.
        cache_enabled: whether the cast of a trained leaf is kept until the outermost region ends.

    A context manager and a decorator. What runs in which precision: PyTorch's lists, see amp/lists.py. float64 and
    integers stay what they are. ValueError for a device type that is no string; a dtype which is no half precision
    switches the region off with a warning.
    """

    def __init__(
        self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        self.device = _device(device_type).type
        if not is_autocast_available(self.device):
            raise RuntimeError(f"User specified an unsupported autocast device_type '{self.device}'")
        self.fast_dtype = dtype_for(self.device) if dtype is None and enabled else dtype
        self._cache_enabled = state.cache_enabled if cache_enabled is None else cache_enabled
        if self.device == "cuda" and enabled:
            from ..cuda import is_available

            if not is_available():
                warnings.warn(
                    "User provided device_type of 'cuda', but CUDA is not available. Disabling", stacklevel=2
                )
                enabled = False
        if enabled and as_dtype(self.fast_dtype).name not in _HALF:
            warnings.warn(
                f"In {self.device.upper()} autocast, but the target dtype is not supported. Disabling autocast.\n"
                f"{self.device.upper()} Autocast only supports dtype of torch.bfloat16, torch.float16 currently.",
                stacklevel=2,
            )
            enabled = False
        self._enabled = bool(enabled)

    def __enter__(self) -> autocast:
        self._before = (state.enabled, state.dtypes, state.cache_enabled)
        state.enabled = {**state.enabled, self.device: self._enabled}
        if self.fast_dtype is not None:
            state.dtypes = {**state.dtypes, self.device: self.fast_dtype}
        state.cache_enabled = self._cache_enabled
        enter()
        return self

    def __exit__(self, *_: object) -> None:
        leave()
        state.enabled, state.dtypes, state.cache_enabled = self._before

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(func)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with type(self)(self.device, self.fast_dtype, self._enabled, self._cache_enabled):
                return func(*args, **kwargs)

        return decorated


# ---- torch.is_autocast_enabled and the like


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether this thread is in a region of that device type."""
    return state.enabled.get(_device(device_type).type, False)


def is_autocast_cpu_enabled() -> bool:
    """Whether this thread is in a region of the CPU."""
    return is_autocast_enabled("cpu")


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Opens or closes a region by hand; an `autocast` block is the usual way."""
    if enabled and not any(state.enabled.values()):
        enter()
    elif not enabled and [k for k, on in state.enabled.items() if on] == [device_type]:
        leave()
    state.enabled = {**state.enabled, device_type: enabled}


def get_autocast_dtype(device_type: str) -> dtype:
    """What regions of that device type cast to."""
    return dtype_for(_device(device_type).type)


def set_autocast_dtype(device_type: str, dtype: Any) -> None:
    """Sets what regions of that device type cast to."""
    state.dtypes = {**state.dtypes, device_type: dtype}


def get_autocast_cpu_dtype() -> dtype:
    """What regions of the CPU cast to."""
    return dtype_for("cpu")


def get_autocast_gpu_dtype() -> dtype:
    """What regions of CUDA devices cast to."""
    return dtype_for("cuda")


def is_autocast_cache_enabled() -> bool:
    """Whether casts of trained leaves are kept within a region."""
    return state.cache_enabled


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Sets whether casts of trained leaves are kept within a region."""
    state.cache_enabled = enabled


def clear_autocast_cache() -> None:
    """Forgets the kept casts."""
    state.cache.clear()


# ---- autograd.Function inside a region


def _cast_all(value: Any, device_type: str, target: Any) -> Any:
    if isinstance(value, Tensor):
        fits = value.is_floating_point() and value.device.type == device_type and value.dtype.name != "float64"
        return value.to(target) if fits else value
    if isinstance(value, dict):
        return {_cast_all(k, device_type, target): _cast_all(v, device_type, target) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        made = [_cast_all(v, device_type, target) for v in value]
        return type(value)(made)
    return value


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: Any = None) -> Any:
    """For `forward` of an autograd.Function: runs it in the region's state, or on inputs cast to `cast_inputs` outside.

    Its `backward` is to be decorated with `custom_bwd`.
    """
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        ctx = args[0]
        ctx._dtype = get_autocast_dtype(device_type)
        inside = is_autocast_enabled(device_type)
        ctx._fwd_used_autocast = inside and cast_inputs is None
        if cast_inputs is None or not inside:
            return fwd(*args, **kwargs)
        with autocast(device_type=device_type, enabled=False):
            cast = _cast_all([list(args[1:]), kwargs], device_type, cast_inputs)
            return fwd(ctx, *cast[0], **cast[1])

    return decorated


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """For `backward` of an autograd.Function: runs it in the state that its `forward` ran in."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        with autocast(device_type=device_type, enabled=args[0]._fwd_used_autocast, dtype=args[0]._dtype):
            return bwd(*args, **kwargs)

    return decorated
