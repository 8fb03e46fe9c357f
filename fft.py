"""`tapegrad.fft`: PyTorch's discrete Fourier transforms, of any order of derivative.

>>> import tapegrad as torch
>>> x = torch.tensor([0.0, 1.0, 0.0, -1.0])
>>> torch.fft.rfft(x).abs()
tensor([0., 2., 0.])
"""

from __future__ import annotations

from .autograd.api.fft import fft as fft
from .autograd.api.fft import fft2 as fft2
from .autograd.api.fft import fftfreq as fftfreq
from .autograd.api.fft import fftn as fftn
from .autograd.api.fft import fftshift as fftshift
from .autograd.api.fft import hfft as hfft
from .autograd.api.fft import hfft2 as hfft2
from .autograd.api.fft import hfftn as hfftn
from .autograd.api.fft import ifft as ifft
from .autograd.api.fft import ifft2 as ifft2
from .autograd.api.fft import ifftn as ifftn
from .autograd.api.fft import ifftshift as ifftshift
from .autograd.api.fft import ihfft as ihfft
from .autograd.api.fft import ihfft2 as ihfft2
from .autograd.api.fft import ihfftn as ihfftn
from .autograd.api.fft import irfft as irfft
from .autograd.api.fft import irfft2 as irfft2
from .autograd.api.fft import irfftn as irfftn
from .autograd.api.fft import rfft as rfft
from .autograd.api.fft import rfft2 as rfft2
from .autograd.api.fft import rfftfreq as rfftfreq
from .autograd.api.fft import rfftn as rfftn
