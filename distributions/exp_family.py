"""torch.distributions.exp_family."""

from .distribution import ExponentialFamily as ExponentialFamily
