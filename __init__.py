"""tapegrad: the PyTorch API on plain arrays. `import tapegrad as torch`."""

from __future__ import annotations

from . import autograd as autograd
from .autograd.api import FUNCTIONS
from .autograd.modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled  # noqa: F401
from .autograd.tensor import Tensor as Tensor

globals().update(FUNCTIONS)
