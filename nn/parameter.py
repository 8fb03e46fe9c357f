"""Parameter and Buffer: the tensors that a Module registers when they are assigned as attributes."""

from ..autograd.parameter import Buffer, Parameter

__all__ = ["Buffer", "Parameter"]
