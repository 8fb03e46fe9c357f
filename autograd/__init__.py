"""The tape: Tensor, ops and their gradients, the engine; and torch.autograd's names."""

from __future__ import annotations

import importlib
from typing import Any

from . import loading  # noqa: F401  (first: gives Tensor its methods)
from .grads import backward as backward
from .grads import grad as grad
from .modes import enable_grad as enable_grad
from .modes import inference_mode as inference_mode
from .modes import no_grad as no_grad
from .modes import set_grad_enabled as set_grad_enabled

# name -> the module that defines it, loaded when the name is first used
_LAZY = {
    "Function": "function", "once_differentiable": "function", "detect_anomaly": "anomaly",
    "set_detect_anomaly": "anomaly", "Variable": "variable", "gradcheck": "checks", "gradgradcheck": "checks",
    "GradcheckError": "checks", "set_multithreading_enabled": "grad_mode", "is_multithreading_enabled": "grad_mode",
    "is_view_replay_enabled": "grad_mode",
}  # fmt: skip

__all__ = ["backward", "enable_grad", "grad", "inference_mode", "no_grad", "set_grad_enabled", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = found  # the function, where a module has the same name
        return found
    if name in ("forward_ad", "function", "functional", "grad_mode", "graph", "profiler", "variable"):
        return importlib.import_module(f".{name}", __name__)
    if name == "anomaly_mode":
        return importlib.import_module(".anomaly", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
