"""The tape: Tensor, ops and their gradients, the engine; and torch.autograd's names."""

from __future__ import annotations

from . import api  # noqa: F401
from .grads import backward, grad
from .modes import enable_grad, inference_mode, no_grad, set_grad_enabled
from .tensor import Tensor as Variable

__all__ = ["Variable", "backward", "enable_grad", "grad", "inference_mode", "no_grad", "set_grad_enabled"]
