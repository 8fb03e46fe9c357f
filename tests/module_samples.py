"""Modules that the tests of nn share; made from the library that is given."""

import pytest


def affine(torch):
    """A class with a parameter, a None parameter, two buffers (one not saved) and a repr."""

    class Affine(torch.nn.Module):
        def __init__(self, size=2):
            super().__init__()
            self.size = size
            self.weight = torch.nn.Parameter(torch.full((size,), 2.0))
            self.register_parameter("bias", None)
            self.register_buffer("steps", torch.tensor(0))
            self.register_buffer("cache", torch.zeros(1), persistent=False)

        def forward(self, x):
            return x * self.weight

        def extra_repr(self):
            return f"size={self.size}"

    return Affine


def net(torch):
    """A module of modules: two children, one of them a container, and one parameter used in two places."""
    Affine = affine(torch)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Affine()
            self.rest = torch.nn.Sequential(Affine(3), Affine(3))
            self.tied = self.first
            self.none = None
            self.register_module("absent", None)

        def forward(self, x):
            return self.first(x)

    return Net()


def raises(kind, call, *args, **kwargs):
    """The text of the error of exactly this kind that the call raises."""
    with pytest.raises(Exception) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is kind
    return caught.value.args[0]
