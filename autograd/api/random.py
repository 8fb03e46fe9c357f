"""Sampling functions: PyTorch's arguments over the raw streams. One seed gives PyTorch's values."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import as_dtype, get_default_dtype, int64
from ..inplace import assign, check_overlap, check_writable
from ..modes import mode
from ..op import GRAPH
from ..random import Generator, default_generator
from ..tensor import Tensor, wrap
from ..versions import mark_written
from .creation import creates, finish, new_like, size_of
from .rearrange import broadcast_tensors
from .table import public


def _raw(generator: Generator | None) -> Any:
    try:
        return (generator if generator is not None else default_generator).raw
    except AttributeError:
        raise TypeError(f"argument 'generator' must be torch.Generator, not {type(generator).__name__}") from None


def _sample(method: str, size: Any, generator: Any, dtype: Any, device: Any, requires_grad: bool, *args: Any) -> Tensor:
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    return finish(getattr(_raw(generator), method)(size, d.np, *args), device, requires_grad)


@creates
def rand(
    *size: Any, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """Uniform on [0, 1). -> (*size)."""
    return _sample("uniform", size_of(size, kw, "rand"), generator, dtype, device, requires_grad)


@creates
def randn(
    *size: Any, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """Standard normal. -> (*size)."""
    return _sample("normal", size_of(size, kw, "randn"), generator, dtype, device, requires_grad)


@creates
def randint(
    *args: Any, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """randint(low=0, high, size): integers of [low, high). -> (*size), int64 by default."""
    values = list(args)
    size = kw["size"] if "size" in kw else values.pop()
    low = kw.get("low", 0)
    high = kw["high"] if "high" in kw else values.pop()
    if values:
        low = values.pop()
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"randint(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    d = int64 if dtype is None else as_dtype(dtype)
    if int(low) >= int(high):
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={int(low)} >= to={int(high)}")
    host = _raw(generator).randint(tuple(int(n) for n in size), int(low), int(high), d.np)
    return finish(host, device, requires_grad)


@creates
def randperm(
    n: int, *, generator: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False, **_: Any
) -> Tensor:
    """A random permutation of 0 .. n-1. -> (n,) int64."""
    d = int64 if dtype is None else as_dtype(dtype)
    return finish(_raw(generator).randperm(n, d.np), device, requires_grad)


@public(method=False)
def rand_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
    **_: Any,
) -> Tensor:
    """Uniform on [0, 1), of input's shape, dtype and device. (*S) -> (*S)."""
    return _like("uniform", input, generator, dtype, device, requires_grad)


@public(method=False)
def randn_like(
    input: Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
    **_: Any,
) -> Tensor:
    """Standard normal, of input's shape, dtype and device. (*S) -> (*S)."""
    return _like("normal", input, generator, dtype, device, requires_grad)


@public(method=False)
def randint_like(
    input: Tensor, *args: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **kw: Any
) -> Tensor:
    """Integers of [low, high), of input's shape, dtype and device. (*S) -> (*S)."""
    kw.pop("memory_format", None)
    d = input.dtype if dtype is None else dtype
    place = input.device if device is None else device
    return randint(*args, tuple(input.shape), dtype=d, device=place, requires_grad=requires_grad, **kw)


def _like(method: str, input: Tensor, generator: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    d = input.dtype if dtype is None else as_dtype(dtype)
    like = _host(input)  # its memory order is the result's, and the order of draws follows it
    order: Any = "C" if 0 in like.strides else "K"
    host = np.empty_like(like, dtype=d.np, order=order, subok=False)
    getattr(_raw(generator), method + "_")(host)
    return finish(host, input.device if device is None else device, requires_grad)


@public
def bernoulli(input: Tensor, p: Any = None, *, generator: Any = None) -> Tensor:
    """1 with the probability that each element of input gives, else 0. input: (*S) floating -> (*S)."""
    if p is not None:
        return bernoulli_(input.clone(), p, generator=generator)
    if input.array.dtype.kind not in "fV":
        raise NotImplementedError(f"\"bernoulli_tensor_cpu_p_\" not implemented for '{input.dtype.legacy}'")
    return drawn(input, _raw(generator).bernoulli(_host(input)))


@public
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Indices drawn with the weights of each row. input: (C,) or (N, C) -> (num_samples,) or (N, num_samples) int64."""
    return new_like(input, _raw(generator).multinomial(_host(input), num_samples, replacement))


@public(method=False)
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, **kw: Any) -> Tensor:
    """Normal with mean and std given as numbers (with size) or tensors that broadcast. -> (*S)."""
    if size is not None:
        dtype, device = kw.get("dtype"), kw.get("device")
        return _sample("normal", tuple(size), generator, dtype, device, kw.get("requires_grad", False), mean, std)
    like = mean if isinstance(mean, Tensor) else std
    if not isinstance(like, Tensor):
        raise TypeError("normal(): mean or std must be a Tensor where no size is given")
    if isinstance(std, Tensor) and bool((_host(std) < 0).any()):
        raise RuntimeError("normal expects all elements of std >= 0.0")
    shape = np.broadcast_shapes(np.shape(getattr(mean, "array", mean)), np.shape(getattr(std, "array", std)))
    z = new_like(like, _raw(generator).normal(shape, like.array.dtype))
    out = (z * std + mean).detach()
    return drawn(like, out.array) if like._rg else out


@public(method=False)
def poisson(input: Tensor, generator: Any = None) -> Tensor:
    """Poisson counts of the given rates. input: (*S) -> (*S)."""
    rates = _host(input)
    if not (rates >= 0).all():
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    return drawn(input, _raw(generator).poisson(rates))


@public(method=False)
def binomial(count: Tensor, prob: Tensor, generator: Any = None) -> Tensor:
    """How many of count trials of probability prob succeed. (*S), (*T) floating -> (*broadcast(S, T)).

    ValueError for integer dtypes.
    """
    for word, t in (("count", count), ("prob", prob)):
        if t.array.dtype.kind not in "fV":
            raise ValueError(f"binomial only supports floating-point dtypes for {word}, got: {t.dtype.legacy}")
    n, p = broadcast_tensors(count, prob)
    if n.array.dtype != p.array.dtype:
        raise RuntimeError(f"Found dtype {p.dtype.legacy} but expected {n.dtype.legacy}")
    return drawn(count, _raw(generator).binomial(_host(n), _host(p)))


def drawn(source: Tensor, host: Any) -> Tensor:
    """A sample made from `source`, through which zeros flow back to it, as in PyTorch."""
    sample = new_like(source, host)
    return GRAPH.sampled(source, sample) if source._rg and mode.grad is not False else sample


def _host(t: Tensor) -> Any:
    return t.detach().cpu().array


def _filler(name: str, doc: str, shown: Any = None) -> Any:
    """The in-place sampling method `name`: fills the tensor from the stream of the generator. shown: its signature."""

    def fill(self: Tensor, *args: Any, generator: Any = None, **kw: Any) -> Tensor:
        check_writable(self, name)
        check_overlap(self.array, name)
        values = [_host(a) if isinstance(a, Tensor) else a for a in args]
        if name == "random_" and len(values) == 1:  # random_(to)
            values = [0, *values]
        kw = {_WORDS.get(k, k): _host(v) if isinstance(v, Tensor) else v for k, v in kw.items()}
        raw = getattr(_raw(generator), name)
        if self.device.type == "cpu":
            raw(self.array, *values, **kw)
        else:
            shape, dtype = self.array.shape, self.array.dtype
            # numbers are drawn in another order into memory with gaps
            host = np.empty(shape, dtype) if self.is_contiguous() else np.empty((*shape, 2), dtype)[..., 0]
            self.array[...] = new_like(self, raw(host, *values, **kw)).array
        if self._node is not None:
            return assign(self, wrap(self.array), name)
        mark_written(self)
        return self

    fill.__name__ = fill.__qualname__ = name
    fill.__doc__ = f"{doc} (*S) -> (*S)."
    if shown is not None:
        fill.__wrapped__ = shown  # type: ignore[attr-defined]  # for inspect.signature
    return public(fill, name=name, is_function=False)


_WORDS = {"from": "low", "to": "high", "a": "low", "b": "high", "lambd": "rate"}

uniform_ = _filler("uniform_", "Fills with uniform numbers of [from, to).")
normal_ = _filler(
    "normal_",
    "Fills with normal numbers of the given mean and std.",
    lambda self, mean=0, std=1, *, generator=None: ...,
)
exponential_ = _filler(
    "exponential_", "Fills with exponential numbers of rate lambd.", lambda self, lambd=1, *, generator=None: ...
)
bernoulli_ = _filler(
    "bernoulli_",
    "Fills with 1 at probability p (a number or a tensor), else 0.",
    lambda self, p=0.5, *, generator=None: ...,
)
random_ = _filler("random_", "Fills with integers of [from, to), or over the range of the dtype.")
cauchy_ = _filler("cauchy_", "Fills with Cauchy numbers.", lambda self, median=0, sigma=1, *, generator=None: ...)
log_normal_ = _filler(
    "log_normal_", "Fills with exp of normal numbers.", lambda self, mean=1, std=2, *, generator=None: ...
)
geometric_ = _filler(
    "geometric_",
    "Fills with the number of trials up to the first success at probability p.",
    lambda self, p, *, generator=None: ...,
)
