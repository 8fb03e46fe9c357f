"""torch's CPU random numbers on raw NumPy arrays: one seed, the same values.

Notation of the recipes, all checked against torch 2.13: `w_0, w_1, ...` are the 32-bit words of MT19937; `f_i =
(w_i mod 2**24) / 2**24` is the float32 uniform, one word each; `q_i = w_2i * 2**32 + w_2i+1` is a draw of 64 bits, and
`d_i = (q_i mod 2**53) / 2**53` the float64 uniform, two words each. `u_i` is `f_i` for float32 and narrower, `d_i` for
float64. "One rounding" is a fused multiply-add.

Values equal torch's bit for bit on x86 processors with AVX2, with one reserve. What is computed in float64 by `log`,
`log1p`, `exp`, `tan`, `sin` or `cos` takes NumPy's functions: they are the C library's, as torch's are, except where
NumPy serves them by vector code of its own (processors with AVX-512), whose results lie within 4 units in the last
place; a float32 result shows that only where a rounding boundary lies between.

torch itself differs between processors, this module does not: where torch has no AVX2 (ARM), its contiguous float32
normals lie up to 3e-6 from those here; on Intel processors it takes `bernoulli_(p)`, hence dropout, and `exponential_`
from MKL, whose values are others altogether than those of AMD and ARM, which are given here.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .random_checks import (
    COMPLEX,
    FLOATING,
    INTEGRAL,
    MIN_INT64,
    check_multinomial,
    check_permutation,
    check_probabilities,
    check_probability,
    check_std,
    check_uniform,
    integer_range,
    kind_of,
    name_of,
    require,
    require_continuous,
)
from .random_math import TWO_PI, box_muller, fma, scale_shift, swap_all, swap_in_turn

Array = np.ndarray
Shape = Sequence[int]

DEFAULT_SEED = 67280421310721  # that of a new torch.Generator()
_WORDS = 1 << 15  # words per chunk: the arrays of a chunk stay in the processor's cache
_LOW_24, _LOW_21, _32 = np.uint32(2**24 - 1), np.uint64(2**21 - 1), np.uint64(32)
_WIDE_RANGE = 2**28  # from this range on, randint takes 64 bits per value
_WIDE_PERMUTATION = (2**32 - 1) // 20  # and randperm from this length on

# CPUGeneratorImplState of ATen/CPUGeneratorImpl.cpp, 5056 bytes; what is not named here is padding, zero.
_STATE = np.dtype(
    {
        "names": ["seed", "left", "seeded", "next", "words", "normal", "has_normal", "normal32", "has_normal32"],
        "formats": ["<u8", "<i4", "<i4", "<u8", ("<u8", 624), "<f8", "<i4", "<f4", "u1"],
        "offsets": [0, 8, 12, 16, 24, 5024, 5040, 5048, 5052],
        "itemsize": 5056,
    }
)


class MT19937Generator:
    """The state of one of torch's CPU generators, and every distribution drawn from it.

    A method `name_(out, ...)` fills an array in place and returns it; `name(shape, dtype, ...)` returns a fresh one. An
    array that is not contiguous is filled in the order of its memory, as torch fills a tensor. Each call is atomic, so
    threads may share a generator.

    >>> MT19937Generator(0).uniform((3,))
    array([0.4962566 , 0.7682218 , 0.08847743], dtype=float32)
    """

    def __init__(self, seed: int = DEFAULT_SEED) -> None:
        self._lock = threading.RLock()
        self.manual_seed(seed)

    # ------------------------------------------------------------------ seeds and states

    def manual_seed(self, seed: int) -> MT19937Generator:
        """Start the stream of `seed` again; forgets a cached normal value. Returns the generator itself.

        seed: an int in [-2**63, 2**64), a negative one counted from 2**64. Only its low 32 bits choose the stream.
        Raises RuntimeError for what is no int, ValueError outside the range.
        """
        if type(seed) is not int:
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        if not MIN_INT64 <= seed < 2**64:
            raise ValueError("Overflow when unpacking long long")
        with self._lock:
            self._seed = seed % 2**64
            self._bits: Any = None  # NumPy's bit generator, made by the first draw: numpy.random costs time to import
            self._next: int | None = 0  # torch's field of this name while the next draw makes new words, else None
            self._normal: float | None = None
            self._normal32: float | None = None  # torch stores one, but its CPU samplers neither write nor read it
        return self

    def initial_seed(self) -> int:
        """The seed last given, in [0, 2**64)."""
        return self._seed

    def seed(self) -> int:
        """Seed from the operating system's entropy; returns the seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def get_state(self) -> Array:
        """The state in the bytes of `torch.Generator().get_state()`. -> (5056,) uint8, a copy."""
        with self._lock:
            state = self._start().state["state"]
            record = np.zeros(1, _STATE)
            position = int(state["pos"])
            record["seed"], record["seeded"], record["words"] = self._seed, 1, state["key"]
            record["left"] = 625 - position
            record["next"] = position if self._next is None else self._next
            if self._normal is not None:
                record["normal"], record["has_normal"] = self._normal, 1
            if self._normal32 is not None:
                record["normal32"], record["has_normal32"] = self._normal32, 1
        return record.view(np.uint8)

    def set_state(self, state: Array) -> MT19937Generator:
        """Continue from a state that `get_state`, here or of a torch generator, gave. state: (5056,) uint8.

        Raises TypeError for another dtype, RuntimeError for another size or a state that no generator has.
        """
        if state.dtype != np.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if state.size != _STATE.itemsize:
            raise RuntimeError(
                f"Expected a CPUGeneratorImplState of size {_STATE.itemsize} but found the input RNG state size "
                f"to be {state.size}"
            )
        record = np.ascontiguousarray(state).reshape(-1).view(_STATE)[0]
        left, following = int(record["left"]), int(record["next"])
        consistent = following == 625 - left or (left == 1 and following <= 624)
        if record["seeded"] != 1 or not 1 <= left <= 624 or not consistent:
            raise RuntimeError("Invalid mt19937 state")
        with self._lock:
            self.manual_seed(int(record["seed"]))
            key = record["words"].astype(np.uint32)
            self._start().state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 625 - left}}
            self._next = following if left == 1 else None
            self._normal = float(record["normal"]) if record["has_normal"] else None
            self._normal32 = float(record["normal32"]) if record["has_normal32"] else None
        return self

    def clone_state(self) -> MT19937Generator:
        """A new generator that continues as this one would."""
        return MT19937Generator().set_state(self.get_state())

    def __reduce__(self) -> tuple[Callable[[Array], MT19937Generator], tuple[Array]]:
        return _restore, (self.get_state(),)

    # ------------------------------------------------------------------ words and uniforms

    def _start(self) -> Any:
        """NumPy's bit generator, seeded at first use."""
        if self._bits is None:
            from numpy.random import MT19937, RandomState

            bits = MT19937(0)
            RandomState(bits).seed(self._seed & 0xFFFFFFFF)  # init_genrand of Matsumoto and Nishimura, as torch seeds
            self._bits = bits
        return self._bits

    def _raw(self, n: int) -> Array:
        """The next n words. -> (n,) uint64, each below 2**32."""
        bits = self._bits or self._start()
        if n:
            self._next = None
        return bits.random_raw(n)

    def _words(self, n: int) -> Array:
        """The next n words. -> (n,) uint32."""
        return self._raw(n).astype(np.uint32)

    def _draws(self, n: int) -> Array:
        """The next n draws of 64 bits, `q_i`. -> (n,) uint64."""
        words = self._raw(2 * n)
        high = words[::2] << _32
        high |= words[1::2]
        return high

    def draw(self) -> int:
        """The next draw of 64 bits, `q_0`."""
        return int(self._draws(1)[0])

    def _unit(self, n: int, dtype: Any = np.float64) -> Array:
        """The next n uniforms in [0, 1): `d_i` for float64, `f_i` for float32. -> (n,) dtype."""
        if dtype == np.float32:
            words = self._words(n)
            words &= _LOW_24
            u = words.view(np.int32).astype(np.float32)
            u *= np.float32(2.0**-24)
            return u
        words = self._raw(2 * n)
        high = words[::2] & _LOW_21
        high <<= _32
        high |= words[1::2]
        d = high.view(np.int64).astype(np.float64)
        d *= 2.0**-53
        return d

    def _fill(self, out: Array, draw: Callable[[Array], None]) -> Array:
        """`draw(flat)` on the elements of `out`, in the order of memory, whichever layout it has. Returns `out`."""
        array = np.asarray(out)
        with self._lock:
            if array.flags.c_contiguous:
                draw(array.reshape(-1))
                return out
            ordered = array.transpose(_memory_order(array))
            if ordered.flags.c_contiguous:
                draw(ordered.reshape(-1))
            else:
                flat = np.empty(ordered.size, ordered.dtype)
                draw(flat)
                ordered[...] = flat.reshape(ordered.shape)
        return out

    def _fill_from_doubles(self, out: Array, value: Callable[[Array], Array]) -> Array:
        """Every element `value(d_i)`: two words each, in float64, then rounded."""

        def draw(flat: Array) -> None:
            for part in _chunks(flat, 2):
                _round_into(part, value(self._unit(part.size)))

        return self._fill(out, draw)

    # ------------------------------------------------------------------ continuous distributions

    def uniform_(self, out: Array, low: float = 0.0, high: float = 1.0) -> Array:
        """Uniform in [low, high): `u_i * (high - low) + low` with one rounding.

        float16 and bfloat16 round the float32 value, and what rounds up to `high` becomes `low`. Complex: real and
        imaginary part in turn. RuntimeError for bounds outside the dtype or in the wrong order.
        """
        low, high = float(low), float(high)
        real = _real_dtype(out.dtype)
        check_uniform(real, low, high)
        work = np.float64 if real == np.float64 else np.float32
        unit = low == 0.0 and high == 1.0
        span = float(work(high) - work(low))

        def draw(flat: Array) -> None:
            for part in _chunks(flat.view(real), 2 if work is np.float64 else 1):
                u = self._unit(part.size, work)
                part[...] = u if unit else scale_shift(u, span, low)
                if real.itemsize == 2:
                    part[part >= np.asarray(high).astype(real)] = np.asarray(low).astype(real)

        return self._fill(out, draw)

    def normal_(self, out: Array, mean: float = 0.0, std: float = 1.0) -> Array:
        """Normal values by Box and Muller, by one of two recipes as torch chooses it.

        Contiguous with 16 elements or more: see `box_muller`. The uniforms of each block of 16 consecutive `u_i`
        become its values; where the count is no multiple of 16, 16 fresh uniforms give the last 16 values anew. torch
        draws the count's remainder before these and drops it, except in float16 and bfloat16, which otherwise round
        the float32 value.

        Else: pairs of float64 from `u = d_2i, v = d_2i+1`: `r = sqrt(-2 log1p(-v))` gives `r cos(2 pi u)`, then `r
        sin(2 pi u)`, times std plus mean with one rounding, then rounded to the dtype. An odd count leaves the second
        value cached in the generator for the next call of this kind, whatever is drawn in between.

        Complex: real and imaginary part in turn, each with `std / sqrt(2)`. RuntimeError for a negative std.
        """
        mean, std = float(mean), float(std)
        real = _real_dtype(out.dtype)
        check_std("normal expects std >= 0.0, but found std ", std, zero_allowed=True)
        require(out.dtype, FLOATING | COMPLEX, "normal_kernel_cpu")
        size = out.size
        if real != out.dtype:
            std, size = std / math.sqrt(2.0), 2 * size
        sampler = self._normal_blocks if size >= 16 and out.flags.c_contiguous else self._normal_pairs
        return self._fill(out, lambda flat: sampler(flat.view(real), mean, std))

    def _normal_blocks(self, flat: Array, mean: float, std: float) -> None:
        """The first recipe of `normal_`. flat: (n,) with n >= 16."""
        work = np.float64 if flat.dtype == np.float64 else np.float32
        rest = flat.size % 16
        words = 2 if work is np.float64 else 1
        for part in _chunks(flat[: flat.size - rest], words):
            part[...] = box_muller(self._unit(part.size, work), mean, std)
        if rest:
            if flat.dtype.itemsize > 2:
                self._raw(rest * words)
            flat[-16:] = box_muller(self._unit(16, work), mean, std)

    def _normal_pairs(self, flat: Array, mean: float, std: float) -> None:
        """The second recipe of `normal_`. flat: (n,)."""
        for part in _chunks(flat, 2):
            _round_into(part, fma(self._standard_normals(part.size), std, mean))

    def _standard_normals(self, n: int) -> Array:
        """The next n values of the second recipe, starting with a cached one. -> (n,) float64."""
        z = np.empty(n)
        start = 0
        if n and self._normal is not None:
            z[0], self._normal, start = self._normal, None, 1
        missing = n - start
        d = self._unit(missing + missing % 2)
        radius = np.sqrt(-2.0 * np.log1p(-d[1::2]))
        angle = TWO_PI * d[::2]
        sin = radius * np.sin(angle)
        z[start::2] = radius * np.cos(angle)
        z[start + 1 :: 2] = sin[: missing // 2]
        if missing % 2:
            self._normal = float(sin[-1])
        return z

    def log_normal_(self, out: Array, mean: float = 1.0, std: float = 2.0) -> Array:
        """exp, in float64, of normal values by the second recipe of `normal_`. RuntimeError unless std > 0."""
        mean, std = float(mean), float(std)
        check_std("log_normal_ expects std > 0.0, but found std=", std, zero_allowed=False)
        require(out.dtype, FLOATING, "log_normal_cpu")

        def draw(flat: Array) -> None:
            for part in _chunks(flat, 2):
                with np.errstate(over="ignore"):
                    _round_into(part, np.exp(fma(self._standard_normals(part.size), std, mean)))

        return self._fill(out, draw)

    def exponential_(self, out: Array, rate: float = 1.0) -> Array:
        """Exponential with the given rate (1/scale): `(-1 / rate) * log1p(-d_i)`. RuntimeError unless rate > 0."""
        rate = float(rate)
        check_std("exponential_ expects lambda > 0.0, but found lambda=", rate, zero_allowed=False)
        require_continuous(out.dtype, "Exponential", kind_of(out.dtype).scalar)
        return self._fill_from_doubles(out, lambda d: np.log1p(-d) * (-1.0 / rate))

    def cauchy_(self, out: Array, median: float = 0.0, sigma: float = 1.0) -> Array:
        """Cauchy: `sigma * tan(pi (d_i - 1/2)) + median` with one rounding. RuntimeError unless sigma > 0."""
        median, sigma = float(median), float(sigma)
        require_continuous(out.dtype, "Cauchy", kind_of(out.dtype).c_name)
        check_std("cauchy_ expects sigma > 0.0, but found sigma=", sigma, zero_allowed=False)
        return self._fill_from_doubles(out, lambda d: fma(np.tan(math.pi * (d - 0.5)), sigma, median))

    # ------------------------------------------------------------------ discrete distributions

    def random_(self, out: Array, low: int | None = None, high: int | None = None) -> Array:
        """Integers: in [low, high), from 0 where only `high` is given; from `low` to the dtype's largest integer
        where only `low` is given (all 64 bits from -2**63 on); with neither, from 0 to the dtype's largest integer,
        2**digits for floating point.

        `w_i mod range + low`, or `q_i mod range + low` from a range of 2**28 on. With neither bound, int64 and
        float64 take `q_i`, all others `w_i`.
        """
        dtype = out.dtype
        if low is None and high is None:
            require(dtype, INTEGRAL | FLOATING | {"bool"}, "random_kernel_cpu")
            first, span = 0, integer_range(dtype, 0, None)[1]
            wide = name_of(dtype) in ("int64", "float64")
        elif low == MIN_INT64 and high is None:
            if name_of(dtype) in INTEGRAL - {"int64"}:
                raise RuntimeError(
                    "random_full_64_bits_range_kernel_cpu handles only int64, double, float and bfloat16"
                )
            allowed = FLOATING - {"float16"} | {"int64"}
            require(dtype, allowed, "random_full_64_bits_range_kernel_cpu")
            first, span, wide = 0, 2**64, True
        else:
            first, span = integer_range(dtype, low or 0, high)
            wide = span >= _WIDE_RANGE

        def draw(flat: Array) -> None:
            for part in _chunks(flat, 2 if wide else 1):
                value = self._below(part.size, span, wide)
                value += np.uint64(first % 2**64)
                part[...] = value.view(np.int64)

        return self._fill(out, draw)

    def _below(self, n: int, span: int, wide: bool) -> Array:
        """n draws modulo span, of 64 bits each where `wide`, else of one word. -> (n,) uint64."""
        if not wide:
            return _remainder(self._words(n), np.uint32(span)).astype(np.uint64)
        return _remainder(self._draws(n), np.uint64(span)) if span < 2**64 else self._draws(n)

    def bernoulli_(self, out: Array, p: float | Array = 0.5) -> Array:
        """Ones with probability p, else zeros, in any dtype.

        p a number: `d_i < p`. p an array, which broadcasts to `out`: `d_i < p` where it is float64, else `f_i < p`.
        RuntimeError for a probability outside [0, 1].
        """
        if isinstance(p, np.ndarray):
            return self._bernoulli_each(out, p)
        p = float(p)
        check_probability(p)
        require(out.dtype, INTEGRAL | FLOATING | {"bool"}, "bernoulli_scalar_cpu_")

        def draw(flat: Array) -> None:
            for part in _chunks(flat, 2):
                part[...] = self._hits(part.size, p)

        return self._fill(out, draw)

    def _hits(self, n: int, p: float) -> Array:
        """`d_i < p` for the next n draws, compared as integers of 53 bits. -> (n,) bool."""
        words = self._raw(2 * n)
        high, low = divmod(math.ceil(p * 2.0**53), 2**32)
        top = words[::2] & _LOW_21
        hits = top < np.uint64(high)
        close = np.flatnonzero(top == np.uint64(high))
        hits[close] = words[1::2][close] < np.uint64(low)
        return hits

    def _bernoulli_each(self, out: Array, p: Array) -> Array:
        """`bernoulli_` with one probability per element."""
        require(p.dtype, FLOATING, "bernoulli_tensor_cpu_p_")
        require(out.dtype, INTEGRAL | FLOATING | {"bool"}, "bernoulli_tensor_cpu_self_")
        check_probabilities(p)
        work = np.float64 if p.dtype == np.float64 else np.float32
        each = np.broadcast_to(np.asarray(p), out.shape).transpose(_memory_order(out)).astype(work).ravel()

        def draw(flat: Array) -> None:
            words = 2 if work is np.float64 else 1
            for part, share in zip(_chunks(flat, words), _chunks(each, words), strict=True):
                part[...] = self._unit(part.size, work) < share

        return self._fill(out, draw)

    def geometric_(self, out: Array, p: float) -> Array:
        """Trials up to the first success: `ceil(log(d_i) / log1p(-p))`. RuntimeError unless 0 < p < 1."""
        p = float(p)
        if not 0.0 < p < 1.0:
            raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
        require(out.dtype, INTEGRAL | FLOATING, "geometric_cpu")

        def value(d: Array) -> Array:
            with np.errstate(divide="ignore"):  # d = 0 gives infinity
                trials = np.ceil(np.log(d) / np.log1p(-p))
            return trials if name_of(out.dtype) in FLOATING else trials.astype(np.int64)

        return self._fill_from_doubles(out, value)

    def dropout_mask_(self, out: Array, p: float) -> Array:
        """The factors of dropout: `1 / (1 - p)` where `d_i < 1 - p`, else 0. Draws nothing where p is 0 or 1.

        For torch's masks give an `out` of the layout that the input has in torch: `np.empty_like(x)` for dropout,
        shape (N, C, 1, ...) for the channel-wise kinds.
        """
        if p in (0, 1):
            out[...] = 1 - p
            return out
        self.bernoulli_(out, 1.0 - p)
        if out.dtype == np.float64:
            out *= 1.0 / (1.0 - p)
        else:
            out *= (np.float32(1) / np.float32(1.0 - p)).astype(out.dtype)
        return out

    def multinomial(self, p: Array, num_samples: int, replacement: bool = False) -> Array:
        """Categories drawn with the weights p, which need not sum to 1. p: (K,) or (N, K) -> (num_samples,) or
        (N, num_samples), int64.

        With replacement: the first category whose cumulative share, in p's precision, is at least `d_i`. Without, and
        for a single sample: the `num_samples` largest of `p / e` with `e` from `exponential_(1)`, both in p's
        precision. Where fewer categories than samples have weight, the order of the others is not torch's.
        """
        check_multinomial(p, num_samples, replacement)
        if replacement and num_samples > 1:
            return self._with_replacement(p, num_samples)
        share = self.exponential_(np.empty_like(p))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            np.divide(p, share, out=share)
        if num_samples == 1:
            return share.argmax(axis=-1)[..., None]
        return np.argsort(-share, axis=-1, kind="stable")[..., :num_samples]

    def _with_replacement(self, p: Array, num_samples: int) -> Array:
        """`multinomial` with replacement."""
        rows = np.atleast_2d(p)
        picked = np.empty((len(rows), num_samples), np.int64)
        work = np.float64 if p.dtype == np.float64 else np.float32
        with self._lock:
            for row, samples in zip(rows, picked, strict=True):
                cumulative: Array = np.cumsum(row, dtype=work)
                cumulative /= cumulative[-1]
                cumulative[-1] = 1
                samples[...] = np.searchsorted(cumulative, self._unit(num_samples))
        return picked.reshape(p.shape[:-1] + (num_samples,))

    def binomial(self, count: Array, p: Array) -> Array:
        """See random_counts.binomial."""
        from .random_counts import binomial

        return binomial(self, count, p)

    def poisson(self, rates: Array) -> Array:
        """See random_counts.poisson."""
        from .random_counts import poisson

        return poisson(self, rates)

    def randperm(self, n: int, dtype: Any = np.int64) -> Array:
        """A permutation of 0 .. n - 1: for i = 0 .. n - 2, swap the elements i and `i + w_i mod (n - i)`. -> (n,)
        dtype.

        From 214,748,364 elements on, 64-bit draws and another order: for i = 0 .. n - 1, element i moves to the place
        `q_i mod (i + 1)` and the one there to place i. RuntimeError where n is negative or too large for the dtype.
        """
        dtype = np.dtype(dtype)
        check_permutation(n, dtype)
        with self._lock:
            if n >= _WIDE_PERMUTATION:
                return self._inside_out(n).astype(dtype, copy=False)
            steps = np.arange(max(n - 1, 0), dtype=np.uint32)
            target = self._words(steps.size) % (np.uint32(n) - steps) + steps if n > 1 else steps
        shuffle = swap_in_turn if n < 4096 else swap_all  # the same values
        return shuffle(n, target).astype(dtype, copy=False)

    def _inside_out(self, n: int) -> Array:
        """`randperm` for lengths that one word per element would not shuffle evenly. -> (n,) int64."""
        out = np.empty(n, np.int64)
        element = out.data  # indexed from Python, a memoryview is faster than its array
        for start in range(0, n, _WORDS):
            count = np.arange(start + 1, min(start + _WORDS, n) + 1, dtype=np.uint64)
            for i, j in enumerate((self._draws(count.size) % count).tolist(), start):
                element[i] = element[j]
                element[j] = i
        return out

    # ------------------------------------------------------------------ fresh arrays

    def uniform(self, shape: Shape, dtype: Any = np.float32, low: float = 0.0, high: float = 1.0) -> Array:
        """A fresh array, see `uniform_`."""
        return self.uniform_(np.empty(shape, dtype), low, high)

    def normal(self, shape: Shape, dtype: Any = np.float32, mean: float = 0.0, std: float = 1.0) -> Array:
        """A fresh array, see `normal_`."""
        return self.normal_(np.empty(shape, dtype), mean, std)

    def log_normal(self, shape: Shape, dtype: Any = np.float32, mean: float = 1.0, std: float = 2.0) -> Array:
        """A fresh array, see `log_normal_`."""
        return self.log_normal_(np.empty(shape, dtype), mean, std)

    def exponential(self, shape: Shape, dtype: Any = np.float32, rate: float = 1.0) -> Array:
        """A fresh array, see `exponential_`."""
        return self.exponential_(np.empty(shape, dtype), rate)

    def cauchy(self, shape: Shape, dtype: Any = np.float32, median: float = 0.0, sigma: float = 1.0) -> Array:
        """A fresh array, see `cauchy_`."""
        return self.cauchy_(np.empty(shape, dtype), median, sigma)

    def geometric(self, shape: Shape, dtype: Any = np.float32, p: float = 0.5) -> Array:
        """A fresh array, see `geometric_`."""
        return self.geometric_(np.empty(shape, dtype), p)

    def randint(self, shape: Shape, low: int, high: int, dtype: Any = np.int64) -> Array:
        """A fresh array of integers in [low, high), see `random_`."""
        return self.random_(np.empty(shape, dtype), low, high)

    def bernoulli(self, p: Array) -> Array:
        """A fresh array like p, contiguous, with one probability per element: see `bernoulli_`."""
        return self._bernoulli_each(np.empty(p.shape, p.dtype), p)

    def dropout_mask(self, shape: Shape, dtype: Any = np.float32, p: float = 0.5) -> Array:
        """A fresh array, see `dropout_mask_`."""
        return self.dropout_mask_(np.empty(shape, dtype), p)


def _restore(state: Array) -> MT19937Generator:
    """The generator of a pickled state."""
    return MT19937Generator().set_state(state)


def _real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of the real part."""
    return np.empty(0, dtype).real.dtype if dtype.kind == "c" else dtype


def _memory_order(array: Array) -> tuple[int, ...]:
    """The axes from the farthest apart in memory to the nearest."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def _chunks(flat: Array, words: int) -> Iterator[Array]:
    """Views of a flat array, of about `_WORDS` words each where an element takes `words`: a multiple of 16 elements."""
    step = _WORDS // words
    for start in range(0, flat.size, step):
        yield flat[start : start + step]


def _round_into(part: Array, value: Array) -> None:
    """float64 values into an array of any real dtype; by way of float32 into 16 bits, as torch converts."""
    with np.errstate(over="ignore"):
        part[...] = value.astype(np.float32) if part.dtype.itemsize == 2 and name_of(part.dtype) in FLOATING else value


def _remainder(x: Array, divisor: Any) -> Array:
    """x mod divisor, in place. NumPy divides in vector instructions, but takes `%` one by one."""
    multiple = x // divisor
    multiple *= divisor
    x -= multiple
    return x
