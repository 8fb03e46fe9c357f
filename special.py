"""`tapegrad.special`: PyTorch's special functions, elementwise.

Bessel functions other than the modified ones of the first kind, Airy's, and the incomplete gamma functions are SciPy's:
`pip install 'tapegrad[scipy]'`. All else needs NumPy alone.

>>> import tapegrad as torch
>>> torch.special.i0e(torch.tensor([0.0, 1.0]))
tensor([1.0000, 0.4658])
>>> torch.special.legendre_polynomial_p(torch.tensor(0.5), 2)
tensor(-0.1250)
"""

from __future__ import annotations

from .autograd.api.special import FUNCTIONS

__all__ = sorted(FUNCTIONS)  # noqa: PLE0605
globals().update(FUNCTIONS)
