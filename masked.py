"""`tapegrad.masked`: PyTorch's reductions and normalisations that leave out elements where a mask is False.

>>> import tapegrad as torch
>>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
>>> torch.masked.mean(x, 1, mask=torch.tensor([[True, True], [True, False]]))
tensor([1.5000, 3.0000])
"""

from __future__ import annotations

from .autograd.api.masked_reductions import _input_mask as _input_mask
from .autograd.api.masked_reductions import amax as amax
from .autograd.api.masked_reductions import amin as amin
from .autograd.api.masked_reductions import argmax as argmax
from .autograd.api.masked_reductions import argmin as argmin
from .autograd.api.masked_reductions import cumprod as cumprod
from .autograd.api.masked_reductions import cumsum as cumsum
from .autograd.api.masked_reductions import log_softmax as log_softmax
from .autograd.api.masked_reductions import logaddexp as logaddexp
from .autograd.api.masked_reductions import logsumexp as logsumexp
from .autograd.api.masked_reductions import mean as mean
from .autograd.api.masked_reductions import median as median
from .autograd.api.masked_reductions import norm as norm
from .autograd.api.masked_reductions import normalize as normalize
from .autograd.api.masked_reductions import prod as prod
from .autograd.api.masked_reductions import softmax as softmax
from .autograd.api.masked_reductions import softmin as softmin
from .autograd.api.masked_reductions import std as std
from .autograd.api.masked_reductions import sum as sum
from .autograd.api.masked_reductions import var as var
