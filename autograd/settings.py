"""Switches of the whole process that PyTorch programs set: threads, precision, determinism, warnings.

Threads are set on the CPU; precision and determinism are followed on CUDA devices. The rest is kept and told back.
"""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

from ..backends import precision as computing
from ..backends import threads


class _State:
    """What was set, and what holds before."""

    interop = os.cpu_count() or 1
    warn_only = warn_always = False


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int):
        raise RuntimeError(f"{name} expects an int, but got {type(value).__name__}")
    if value <= 0:
        raise RuntimeError(f"{name} expects a positive integer")
    return value


def get_num_threads() -> int:
    """How many threads one op may use: what was set, else the number of cores."""
    return threads.count()


def set_num_threads(int: int) -> None:
    """Sets how many threads one op may use, in kernels and in NumPy's BLAS. RuntimeError for anything else than > 0."""
    threads.set_count(_whole("set_num_threads", int))


def get_num_interop_threads() -> int:
    """How many ops may run at once: what was set, else the number of cores."""
    return _State.interop


def set_num_interop_threads(int: int) -> None:
    """Notes how many ops may run at once. RuntimeError for what is no positive int."""
    _State.interop = _whole("set_num_interop_threads", int)


def get_float32_matmul_precision() -> str:
    """The word given to `set_float32_matmul_precision`, else "highest". RuntimeError where `backends` say otherwise."""
    return computing.matmul_word()


def set_float32_matmul_precision(precision: str) -> None:
    """How exactly float32 products are computed on CUDA devices. Another word than the three only warns.

    "highest": as float32. "high" and "medium": with TF32. On the CPU they keep full precision.
    """
    if not isinstance(precision, str):
        raise RuntimeError(f"set_float32_matmul_precision expects a str, but got {type(precision).__name__}")
    if precision not in ("highest", "high", "medium"):
        warnings.warn(
            f"{precision} is not one of 'highest', 'high', or 'medium'; the currentsetFloat32MatmulPrecision call has "
            "no effect.",
            stacklevel=2,
        )
        return
    computing.set_matmul_word(precision)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Asks for the same result in every run, which all ops give on the CPU.

    On CUDA devices convolutions and attention then take only those of cuDNN's kernels that do, as with
    `backends.cudnn.deterministic`. What has no other form there is not refused, with warn_only or without: values
    added to the same place (index_add, scatter_add, put with accumulate) are added in any order.
    """
    for word, value in (("mode", mode), ("warn_only", warn_only)):
        if not isinstance(value, bool):
            raise TypeError(
                f"_set_deterministic_algorithms(): argument '{word}' must be bool, not {type(value).__name__}"
            )
    computing.State.deterministic, _State.warn_only = mode, warn_only


def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` was told."""
    return computing.State.deterministic


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether `use_deterministic_algorithms` was told to warn only."""
    return _State.warn_only


_DEBUG = ("default", "warn", "error")


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """use_deterministic_algorithms by number or word: 0 "default", 1 "warn", 2 "error"."""
    if not isinstance(debug_mode, (int, str)):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if isinstance(debug_mode, str):
        if debug_mode not in _DEBUG:
            raise RuntimeError(
                f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got {debug_mode}"
            )
        debug_mode = _DEBUG.index(debug_mode)
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}")
    computing.State.deterministic, _State.warn_only = debug_mode > 0, debug_mode == 1


def get_deterministic_debug_mode() -> int:
    """0 "default", 1 "warn", 2 "error"."""
    return 0 if not computing.State.deterministic else 1 if _State.warn_only else 2


def set_warn_always(b: bool, /) -> None:
    """Notes whether warnings come every time. RuntimeError for what is no bool."""
    if not isinstance(b, bool):
        raise RuntimeError(f"setWarnOnlyOnce expects a bool, but got {type(b).__name__}")
    _State.warn_always = b


def is_warn_always_enabled() -> bool:
    """What `set_warn_always` was told."""
    return _State.warn_always


def set_flush_denormal(mode: bool) -> bool:
    """Whether subnormal numbers can be flushed to zero so: only turning it off, which is how NumPy computes."""
    return not mode


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
    """Turns anomaly mode on or off, as torch.autograd.set_detect_anomaly does."""
    from .anomaly import set_detect_anomaly

    set_detect_anomaly(enabled, check_nan)


def compiled_with_cxx11_abi() -> bool:
    """True, as of every present build of PyTorch."""
    return True


def is_vulkan_available() -> bool:
    """False: there is no such backend."""
    return False


def is_distributed(input: Any) -> bool:
    """Whether the tensor is spread over processes: never."""
    return False


# ---- PyTorch's functions of symbolic numbers: here numbers are numbers


def sym_int(a: Any) -> int:
    """The number without its fraction."""
    return math.trunc(a)


def sym_float(a: Any) -> float:
    """The number as a float."""
    return float(a)


def sym_max(a: Any, b: Any) -> Any:
    """The larger one, a float where either is."""
    return float(max(a, b)) if isinstance(a, float) or isinstance(b, float) else max(a, b)


def sym_min(a: Any, b: Any) -> Any:
    """The smaller one, a float where either is."""
    return float(min(a, b)) if isinstance(a, float) or isinstance(b, float) else min(a, b)


def sym_not(a: Any) -> bool:
    """not a."""
    return not a


def sym_sqrt(a: Any) -> float:
    """The square root."""
    return math.sqrt(a)


def sym_sum(args: Any) -> Any:
    """The sum of numbers."""
    return sum(args)


def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """t where b holds, else f. Both of one type."""
    if not isinstance(b, bool) or type(t) is not type(f):
        raise AssertionError("sym_ite expects a bool and two values of one type")
    return t if b else f


def cond(pred: Any, true_fn: Any, false_fn: Any, operands: Any = ()) -> Any:
    """true_fn(*operands) where pred (a bool or a tensor of one element) holds, else false_fn(*operands)."""
    return true_fn(*operands) if bool(pred) else false_fn(*operands)


def while_loop(cond_fn: Any, body_fn: Any, carried_inputs: Any) -> Any:
    """body_fn of the carried tensors, again and again while cond_fn of them holds. -> the last ones, a tuple."""
    state = tuple(carried_inputs)
    while bool(cond_fn(*state)):
        made = body_fn(*state)
        state = tuple(made) if isinstance(made, (tuple, list)) else (made,)
    return state
