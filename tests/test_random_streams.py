"""The raw random streams are torch's: compared with torch where it is installed, else with frozen values of it."""

from __future__ import annotations

import copy
import pickle
import platform
import subprocess
import sys
import threading
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tapegrad
from tapegrad.backends.numpy.random import MT19937Generator
from tapegrad.backends.numpy.random_math import box_muller, fma, swap_all, swap_in_turn

F32, F64 = np.float32, np.float64
SIZES = [0, 1, 15, 16, 17, 1000]
SEEDS = [0, 1, 2**40 + 7]
FLOATS = ["float32", "float64", "float16", "bfloat16"]


def cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


INTEL = "GenuineIntel" in cpuinfo()
needs_no_mkl = pytest.mark.skipif(
    INTEL, reason="on Intel processors torch takes bernoulli_(p) and exponential_ from MKL, another stream"
)
# NumPy takes log, sin, cos, ... of float64 from the C library, as torch does, except with AVX-512 and off x86
C_LIBRARY = platform.machine() in ("x86_64", "AMD64") and "avx512f" not in cpuinfo()


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def generators(torch, seed):
    """The same stream twice: ours and torch's."""
    return MT19937Generator(seed), torch.Generator().manual_seed(seed)


def np_dtype(name):
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def as_numpy(t):
    """A tensor as an array; bfloat16 as its bits."""
    return t.view(t.new_zeros(()).to("cpu").short().dtype).numpy() if str(t.dtype) == "torch.bfloat16" else t.numpy()


def assert_same(ours, theirs):
    """Shape, dtype and every bit."""
    theirs = as_numpy(theirs)
    if ours.dtype.name == "bfloat16":
        ours = ours.view(np.int16)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs, strict=True)
    assert np.ascontiguousarray(ours).tobytes() == np.ascontiguousarray(theirs).tobytes()  # -0 and +0 too


def assert_same_state(ours, theirs):
    np.testing.assert_array_equal(ours.get_state(), theirs.get_state().numpy())


# name: (ours(generator, out), torch's method name and arguments, dtypes, what the values go through)
EXACT, LIBM, BLOCKS = "exact", "libm", "blocks"
INTS = ["uint8", "int8", "int16", "int32", "int64"]
FILLS = {
    "uniform": (lambda g, a: g.uniform_(a), "uniform_", (), FLOATS, EXACT),
    "uniform range": (lambda g, a: g.uniform_(a, -0.3, 2.4), "uniform_", (-0.3, 2.4), FLOATS, EXACT),
    "uniform to": (lambda g, a: g.uniform_(a, 0, 0.07), "uniform_", (0, 0.07), FLOATS, EXACT),
    "uniform far": (lambda g, a: g.uniform_(a, 100, 101), "uniform_", (100, 101), FLOATS, EXACT),
    "uniform point": (lambda g, a: g.uniform_(a, 5, 5), "uniform_", (5, 5), FLOATS, EXACT),
    "normal": (lambda g, a: g.normal_(a), "normal_", (), FLOATS, BLOCKS),
    "normal std": (lambda g, a: g.normal_(a, 0, 0.02), "normal_", (0, 0.02), FLOATS, BLOCKS),
    "normal mean std": (lambda g, a: g.normal_(a, 0.3, 2.7), "normal_", (0.3, 2.7), FLOATS, BLOCKS),
    "normal zero std": (lambda g, a: g.normal_(a, 1.5, 0), "normal_", (1.5, 0), FLOATS, BLOCKS),
    "log_normal": (lambda g, a: g.log_normal_(a, 0.3, 0.7), "log_normal_", (0.3, 0.7), FLOATS, LIBM),
    "exponential": (lambda g, a: g.exponential_(a, 0.7), "exponential_", (0.7,), FLOATS, LIBM),
    "exponential inf": (lambda g, a: g.exponential_(a, np.inf), "exponential_", (np.inf,), FLOATS, LIBM),
    "cauchy": (lambda g, a: g.cauchy_(a, 0.3, 0.7), "cauchy_", (0.3, 0.7), FLOATS, LIBM),
    "geometric": (lambda g, a: g.geometric_(a, 0.3), "geometric_", (0.3,), FLOATS + INTS, EXACT),
    "bernoulli": (lambda g, a: g.bernoulli_(a, 0.3), "bernoulli_", (0.3,), FLOATS + INTS + ["bool"], EXACT),
    "bernoulli sure": (lambda g, a: g.bernoulli_(a, 1), "bernoulli_", (1.0,), ["float32", "bool"], EXACT),
    "random": (lambda g, a: g.random_(a), "random_", (), FLOATS + INTS + ["bool"], EXACT),
    "random range": (lambda g, a: g.random_(a, 3, 100), "random_", (3, 100), FLOATS + INTS, EXACT),
    "random from": (lambda g, a: g.random_(a, 7), "random_", (7, None), FLOATS + INTS, EXACT),
    "random to": (lambda g, a: g.random_(a, high=100), "random_", (100,), FLOATS + INTS, EXACT),
    "random all bits": (
        lambda g, a: g.random_(a, -(2**63)),
        "random_",
        (-(2**63), None),
        ["float32", "float64", "bfloat16", "int64"],
        EXACT,
    ),
}  # fmt: skip
FROM_MKL = {"exponential", "exponential inf", "bernoulli", "bernoulli sure"}


def assert_as_torch(torch, ours, theirs, through):
    """Bit for bit, but for what the processor rules out: float64 by NumPy's own functions, torch without AVX2."""
    if through == BLOCKS and ours.dtype != np.float64:
        if "AVX" not in torch.backends.cpu.get_cpu_capability():  # torch then has other polynomials
            rtol = {"float32": 0, "float16": 2.0**-10, "bfloat16": 2.0**-7}[ours.dtype.name]
            np.testing.assert_allclose(ours.astype(float), theirs.double().numpy(), rtol=rtol, atol=1e-5)
            return
    elif through != EXACT and ours.dtype == np.float64 and not C_LIBRARY:
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-15, atol=2e-15)
        return
    assert_same(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[needs_no_mkl] if name in FROM_MKL else [], id=f"{name}-{dtype}")
        for name, (_, _, _, dtypes, _) in FILLS.items()
        for dtype in dtypes
    ],
)
def test_fill_equals_torch(torch, name, dtype, size):
    """Values, and the position in the stream afterwards."""
    ours, method, args, _, through = FILLS[name]
    for seed in SEEDS:
        g, t = generators(torch, seed)
        for _ in range(3):  # the first call may leave a cached value for the next
            a = ours(g, np.empty(size, np_dtype(dtype)))
            b = getattr(torch.empty(size, dtype=getattr(torch, dtype)), method)(*args, generator=t)
            assert_as_torch(torch, a, b, through)
        if through == EXACT or C_LIBRARY:
            assert_same_state(g, t)


@pytest.mark.parametrize("name", FILLS)
def test_fill_across_chunks(torch, name):
    """Long arrays are drawn in pieces; the pieces join up."""
    if name in FROM_MKL and INTEL:
        pytest.skip("on Intel processors torch takes bernoulli_(p) and exponential_ from MKL, another stream")
    ours, method, args, dtypes, through = FILLS[name]
    for dtype in dtypes[:2]:
        g, t = generators(torch, 3)
        a = ours(g, np.empty(70_003, dtype))
        b = getattr(torch.empty(70_003, dtype=getattr(torch, dtype)), method)(*args, generator=t)
        assert_as_torch(torch, a, b, through)


def layouts(make):
    """Arrays or tensors that are no plain rows, the same for NumPy and torch."""
    yield make((5, 8)).T if make is np_make else make((5, 8)).t()
    yield make((40, 2))[:, 0]
    yield make((6, 10))[::2, 1::3]
    three = make((3, 4, 5))
    yield three.transpose(2, 0, 1) if make is np_make else three.permute(2, 0, 1)
    four = make((2, 3, 4, 6))
    yield four.transpose(0, 2, 3, 1)[:, :, ::2] if make is np_make else four.permute(0, 2, 3, 1)[:, :, ::2]
    yield make((1, 17, 1))
    yield make(())


def np_make(shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("name", ["uniform", "normal", "log_normal", "random range", "cauchy", "geometric"])
def test_not_contiguous_arrays_fill_in_the_order_of_memory(torch, name):
    ours, method, args, _, through = FILLS[name]
    g, t = generators(torch, 11)
    for a, b in zip(layouts(np_make), layouts(torch.zeros), strict=True):
        assert ours(g, a) is a
        getattr(b, method)(*args, generator=t)
        assert_as_torch(torch, a, b, through)
    assert_same_state(g, t)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex(torch, dtype, size):
    g, t = generators(torch, 2)
    through = EXACT if dtype == "complex64" or C_LIBRARY else LIBM
    a, b = g.normal((size,), dtype), torch.randn(size, dtype=getattr(torch, dtype), generator=t)
    assert_as_torch(torch, a.view(a.real.dtype), torch.view_as_real(b).reshape(-1), through)
    assert_same(g.uniform((size,), dtype), torch.rand(size, dtype=getattr(torch, dtype), generator=t))
    a, b = np.zeros((size, 2), dtype)[:, 0], torch.zeros(size, 2, dtype=getattr(torch, dtype))[:, 0]
    assert_same(g.uniform_(a, -1, 2), b.uniform_(-1, 2, generator=t))


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 1), (-5, 10), (0, 2**25), (0, 2**28 - 1), (0, 2**28), (-(2**27), 2**27), (0, 2**31), (0, 2**32 - 1),
        (0, 2**32), (-(2**40), 2**41), (-(2**63), 2**63 - 1), (2**62, 2**63 - 1),
    ],
)  # fmt: skip
def test_randint_ranges(torch, low, high):
    """One word below a range of 2**28, two from there on."""
    g, t = generators(torch, 5)
    for size in SIZES:
        assert_same(g.randint((size,), low, high), torch.randint(low, high, (size,), generator=t))
    assert_same_state(g, t)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint8", 0, 256), ("int8", -128, 128), ("int16", -(2**15), 2**15), ("int32", -(2**31), 2**31), ("bool", 0, 2),
        ("uint16", 5, 2**16), ("uint32", 0, 2**32), ("uint64", 0, 2**63 - 1), ("float16", -2048, 2049),
        ("bfloat16", -100, 100), ("float32", -(2**24), 2**24), ("float64", 0, 2**53), ("float16", 0, 3000),
        ("bfloat16", 1025, 5000), ("float32", 2**24 + 1, 2**24 + 4), ("float32", -(2**25) - 1, 2**25 + 1),
        ("float64", 2**53 + 1, 2**53 + 9), ("float32", -(2**62), 2**62 + 3), ("float16", -60001, -40001),
    ],
)  # fmt: skip
def test_randint_dtypes(torch, dtype, low, high):
    """Also beyond what a floating dtype holds exactly, where both warn with the same words."""
    g, t = generators(torch, 6)
    with warnings.catch_warnings(record=True) as ours:
        warnings.simplefilter("always")
        a = g.randint((50,), low, high, np_dtype(dtype))
    with warnings.catch_warnings(record=True) as theirs:
        warnings.simplefilter("always")
        b = torch.randint(low, high, (50,), dtype=getattr(torch, dtype), generator=t)
    assert_same(a, b)
    assert [w.category for w in ours] == [w.category for w in theirs]
    assert all(str(b.message).startswith(str(a.message)) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 16, 1000, 4095, 4096, 20_000])
def test_randperm(torch, n):
    g, t = generators(torch, 7)
    assert_same(g.randperm(n), torch.randperm(n, generator=t))
    assert_same(g.randperm(min(n, 128), np.int8), torch.randperm(min(n, 128), dtype=torch.int8, generator=t))
    assert_same(g.randperm(n, np.float32), torch.randperm(n, dtype=torch.float32, generator=t))
    assert_same_state(g, t)


@pytest.mark.parametrize("n", [2, 3, 5, 40, 3000])
def test_swaps_at_once_equal_swaps_in_turn(n):
    rng = np.random.default_rng(n)
    for _ in range(30):
        target = rng.integers(np.arange(n - 1), n)
        np.testing.assert_array_equal(swap_all(n, target), swap_in_turn(n, target))
    same = np.arange(n - 1)
    np.testing.assert_array_equal(swap_all(n, same), np.arange(n))
    last = np.full(n - 1, n - 1)
    np.testing.assert_array_equal(swap_all(n, last), swap_in_turn(n, last))


def test_permutation_of_64_bit_draws():
    """torch takes this one from 214,748,364 elements on. It was compared with torch 2.13 there; here by definition."""
    n = 1000
    words = np.random.RandomState(9)._bit_generator.random_raw(2 * n).astype(object)
    expected = list(range(n))
    for i in range(n):
        j = ((words[2 * i] << 32) + words[2 * i + 1]) % (i + 1)
        expected[i], expected[j] = expected[j], i
    np.testing.assert_array_equal(MT19937Generator(9)._inside_out(n), expected)


@needs_no_mkl
@pytest.mark.parametrize("dtype", FLOATS)
def test_multinomial(torch, dtype):
    rng = np.random.default_rng(0)
    g, t = generators(torch, 8)
    for shape in [(1,), (7,), (200,), (3, 5), (0, 4)]:
        p = torch.from_numpy(rng.random(shape) + 0.01).to(getattr(torch, dtype))
        q = np.array(p.double().numpy(), np_dtype(dtype))
        for samples, replacement in [(1, False), (1, True), (shape[-1], False), (2, True), (50, True)]:
            before = g.clone_state()
            ours, theirs = (
                g.multinomial(q, samples, replacement),
                torch.multinomial(p, samples, replacement, generator=t),
            )
            if not replacement and samples > 1 and q.itemsize == 2:  # 16 bits: ties, whose order torch leaves open
                with np.errstate(all="ignore"):
                    key = q / before.exponential(shape, q.dtype)
                np.testing.assert_array_equal(np.sort(ours), np.sort(theirs.numpy()))
                ours, theirs = (np.take_along_axis(key, np.asarray(i), -1).astype(F32) for i in (ours, theirs))
                np.testing.assert_array_equal(ours, theirs)
            else:
                assert_same(ours, theirs)
    assert_same_state(g, t)


@needs_no_mkl
def test_multinomial_never_takes_a_category_without_weight(torch):
    g, t = generators(torch, 1)
    p = np.array([0, 2, 0, 1, 0, 3, 0], np.float32)
    for samples, replacement in [(1, False), (3, False), (300, True)]:
        ours = g.multinomial(p, samples, replacement)
        assert_same(ours, torch.multinomial(torch.from_numpy(p), samples, replacement, generator=t))
        assert set(ours.tolist()) <= {1, 3, 5}


@pytest.mark.parametrize("dtype", FLOATS)
def test_bernoulli_of_probabilities(torch, dtype):
    """One word each, two for float64 probabilities; nothing of MKL's in it."""
    g, t = generators(torch, 4)
    for shape in [(0,), (1,), (1000,), (20, 30)]:
        p = torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))
        q = np.array(p.double().numpy(), np_dtype(dtype))
        assert_same(g.bernoulli(q), torch.bernoulli(p, generator=t))
        assert_same(g.bernoulli_(np.empty(shape, bool), q), torch.empty(shape, dtype=bool).bernoulli_(p, generator=t))
    assert_same(g.bernoulli(q.T), torch.bernoulli(p.t(), generator=t))
    ours, theirs = np.zeros((30, 20), np.float32).T, torch.zeros(30, 20).t()
    assert_same(g.bernoulli_(ours, q), theirs.bernoulli_(p, generator=t))
    assert_same(g.bernoulli_(ours, q[0]), theirs.bernoulli_(p[0], generator=t))  # broadcast along the rows
    assert_same_state(g, t)


@needs_no_mkl
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.7, 1.0])
def test_dropout_mask(torch, p, dtype):
    torch.manual_seed(12)
    g = MT19937Generator(12)
    ones = torch.ones(50, 7, dtype=getattr(torch, dtype))
    assert_same(g.dropout_mask((50, 7), np_dtype(dtype), p), torch.nn.functional.dropout(ones, p))
    ours = g.dropout_mask_(np.empty((7, 50), np_dtype(dtype)).T, p)  # the input's layout decides
    assert_same(ours, torch.nn.functional.dropout(ones.t().contiguous().t(), p))
    np.testing.assert_array_equal(g.get_state(), torch.get_rng_state().numpy())


STEPS = {
    "normal few": (lambda g, n: g.normal((n % 15,)), lambda t, g, n: t.randn(n % 15, generator=g)),
    "normal few wide": (
        lambda g, n: g.normal((n % 15,), np.float64),
        lambda t, g, n: t.randn(n % 15, dtype=t.float64, generator=g),
    ),
    "normal": (lambda g, n: g.normal((n + 16,)), lambda t, g, n: t.randn(n + 16, generator=g)),
    "uniform": (lambda g, n: g.uniform((n,)), lambda t, g, n: t.rand(n, generator=g)),
    "uniform wide": (
        lambda g, n: g.uniform((n,), np.float64),
        lambda t, g, n: t.rand(n, dtype=t.float64, generator=g),
    ),
    "integers": (lambda g, n: g.randint((n,), 0, 1000), lambda t, g, n: t.randint(0, 1000, (n,), generator=g)),
    "permutation": (lambda g, n: g.randperm(n), lambda t, g, n: t.randperm(n, generator=g)),
    "log normal": (
        lambda g, n: g.log_normal((n % 9,), np.float32, 0.0, 1.0),
        lambda t, g, n: t.empty(n % 9).log_normal_(0.0, 1.0, generator=g),
    ),
    "bernoulli each": (
        lambda g, n: g.bernoulli(np.full(n, 0.4, np.float32)),
        lambda t, g, n: t.bernoulli(t.full((n,), 0.4), generator=g),
    ),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mixed_draws(torch, seed):
    """Any order of draws; the cached normal value waits for the call that takes it; states agree all along."""
    pick = np.random.default_rng(seed)
    g, t = generators(torch, seed)
    waited = 0
    for _ in range(150):
        ours, theirs = STEPS[pick.choice(list(STEPS))]
        n = int(pick.integers(0, 200))
        before = g._normal
        a, b = ours(g, n), theirs(torch, t, n)
        waited += before is not None and g._normal == before and a.size > 0
        assert_as_torch(torch, a, b, BLOCKS)
        if C_LIBRARY:
            assert_same_state(g, t)
    assert waited > 5  # draws did happen while a value was cached


# ---------------------------------------------------------------------- states and seeds

MOVES = [0, 1, 2, 622, 623, 624, 625, 1248, 1300]


@pytest.mark.parametrize("words", MOVES)
@pytest.mark.parametrize("cached", [False, True])
def test_states_travel_both_ways(torch, words, cached):
    g, t = generators(torch, -3)
    if cached:
        g.normal((1,))
        torch.randn(1, generator=t)
    g.uniform((words,))
    torch.rand(words, generator=t)
    assert_same_state(g, t)
    ours = MT19937Generator().set_state(t.get_state().numpy())
    theirs = torch.Generator()
    theirs.set_state(torch.from_numpy(g.get_state()))
    assert_same_state(ours, t)
    assert ours.initial_seed() == t.initial_seed() == theirs.initial_seed() == 2**64 - 3
    for _ in range(2):
        assert_same(ours.normal((3,)), torch.randn(3, generator=t))
        assert_same(g.normal((3,)), torch.randn(3, generator=theirs))
        assert_same(ours.uniform((700,)), torch.rand(700, generator=t))
        assert_same(g.uniform((700,)), torch.rand(700, generator=theirs))


def test_a_state_keeps_what_torch_puts_in_it(torch):
    """The float32 cache, which no CPU sampler of torch fills, comes back out; so does `next` before a draw."""
    state = torch.Generator().get_state().numpy()
    state[5048:5052] = np.array([1.25], np.float32).view(np.uint8)
    state[5052] = 1
    state[16:24] = np.array([624], np.uint64).view(np.uint8)
    np.testing.assert_array_equal(MT19937Generator().set_state(state).get_state(), state)
    theirs = torch.Generator()
    theirs.set_state(torch.from_numpy(state))
    np.testing.assert_array_equal(theirs.get_state().numpy(), state)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g)), lambda g: g.clone_state()])
def test_copies_go_their_own_way(copier):
    g = MT19937Generator(21)
    g.normal((3,))
    twin = copier(g)
    first = g.normal((9,))
    np.testing.assert_array_equal(twin.normal((9,)), first)
    g.uniform((5,))
    assert not np.array_equal(twin.get_state(), g.get_state())


@pytest.mark.parametrize("seed", [0, 1, 5, 2**31, 2**32, 2**32 + 5, 2**63, 2**64 - 1, -1, -5, -(2**63)])
def test_seeds(torch, seed):
    g, t = generators(torch, seed)
    assert g.initial_seed() == t.initial_seed()
    assert_same_state(g, t)
    assert_same(g.uniform((4,)), torch.rand(4, generator=t))


def test_new_generators_start_at_the_default_seed(torch):
    assert MT19937Generator().initial_seed() == torch.Generator().initial_seed()
    assert_same_state(MT19937Generator(), torch.Generator())


def test_manual_seed_forgets_the_cached_normal():
    g = MT19937Generator(0)
    first = g.normal((1,))
    assert g._normal is not None
    assert g.manual_seed(0) is g
    np.testing.assert_array_equal(g.normal((1,)), first)


def test_seed_is_taken_from_the_system():
    g = MT19937Generator()
    seeds = {g.seed() for _ in range(4)}
    assert len(seeds) == 4
    assert g.initial_seed() in seeds
    np.testing.assert_array_equal(g.uniform((3,)), MT19937Generator(g.initial_seed()).uniform((3,)))


def test_importing_and_seeding_leaves_numpy_random_alone():
    code = (
        "import sys; from tapegrad.backends.numpy.random import MT19937Generator as G; g = G(3); g.manual_seed(4)\n"
        "assert 'numpy.random' not in sys.modules; g.uniform((1,)); assert 'numpy.random' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_threads_share_a_generator_without_tearing_its_stream():
    """Each call takes one uninterrupted piece of the stream, and a cached value is handed out once."""
    g = MT19937Generator(0)
    made: list[bytes] = []

    def work():
        for _ in range(60):
            made.append(g.normal((20_001,), np.float32).tobytes())
            made.append(g.log_normal((3,)).tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == len(made) == 480
    alone = MT19937Generator(0)
    for _ in range(240):
        alone.normal((20_001,), np.float32)
        alone.log_normal((3,))
    assert alone._normal is None
    assert g._normal is None
    np.testing.assert_array_equal(g.get_state(), alone.get_state())


# ---------------------------------------------------------------------- without torch

QUARTERS = np.array([0.1, 0.2, 0.3, 0.4], F32)
# Produced by torch 2.13.0 on an AMD processor, seed 0 (the second: seed 1).
GOLDEN = {
    "uniform": (lambda g: g.uniform((4,)), [0.4962566, 0.7682218, 0.08847743, 0.13203049]),
    "uniform float64": (
        lambda g: g.manual_seed(1).uniform((3,), F64),
        [0.06105327471962363, 0.2245545065676504, 0.23425251394483937],
    ),
    "uniform float16": (lambda g: g.uniform((4,), np.float16), [0.4963, 0.768, 0.0885, 0.1321]),
    "uniform range": (lambda g: g.uniform((4,), F32, -0.3, 2.4), [1.0398928, 1.7741989, -0.06111094, 0.056482308]),
    "normal 3": (lambda g: g.normal((3,)), [1.5409961, -0.2934289, -2.1787894]),
    "normal 16": (
        lambda g: g.normal((16,)),
        [
            -1.1258398, -1.1523602, -0.25057858, -0.4338788, 0.84871036, 0.69200915, -0.31601277, -2.1152194,
            0.32227492, -1.2633348, 0.3499832, 0.30813393, 0.11984151, 1.2376579, 1.1167772, -0.24727815,
        ],
    ),
    "normal 17": (lambda g: g.normal((17,))[-3:], [0.94629836, -0.84367675, 0.9318266]),
    "normal float16 17": (lambda g: g.normal((17,), np.float16)[-3:], [1.586, 0.9463, -0.8438]),
    "randint": (lambda g: g.randint((8,), -3, 7), [1, 6, 0, -3, 0, 6, 4, 0]),
    "randint wide": (lambda g: g.randint((3,), 0, 2**28), [130329135, 136432832, 195187451]),
    "random int64": (
        lambda g: g.random_(np.empty(3, np.int64)),
        [900450186894289455, 3969543146641149120, 1895649597198586619],
    ),
    "random float32": (lambda g: g.random_(np.empty(3, F32)), [8325664, 12888472, 1484222]),
    "random uint8": (lambda g: g.random_(np.empty(5, np.uint8)), [172, 47, 117, 192, 67]),
    "bernoulli": (lambda g: g.bernoulli_(np.empty(12, F32), 0.3), [0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1]),
    "bernoulli each": (lambda g: g.bernoulli(np.full(12, 0.3, F32)), [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    "randperm": (lambda g: g.randperm(10), [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]),
    "multinomial": (lambda g: g.multinomial(QUARTERS, 3), [2, 1, 3]),
    "multinomial again": (lambda g: g.multinomial(QUARTERS, 8, True), [3, 3, 2, 3, 3, 3, 1, 2]),
    "geometric": (lambda g: g.geometric((6,), F32, 0.3), [1, 1, 3, 1, 2, 1]),
    "exponential": (lambda g: g.exponential((3,), F32, 2.0), [1.7541631, 0.61519235, 0.30752206]),
    "cauchy": (lambda g: g.cauchy((3,), F32, 1.0, 2.0), [22.19546, 2.5295346, 0.7434013]),
    "log_normal": (lambda g: g.log_normal((3,), F32, 0.5, 0.25), [2.4235878, 1.5321052, 0.95628685]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    draw, expected = GOLDEN[name]
    ours = draw(MT19937Generator(0))
    np.testing.assert_array_equal(ours, np.array(expected, ours.dtype), strict=True)


def test_golden_float64_normal():
    expected = [-2.310411800234176, -0.3732508612577643, -1.0608166785462863]
    np.testing.assert_allclose(MT19937Generator(0).normal((16,), F64)[:3], expected, rtol=2e-15)


def test_float32_normal_is_near_the_exact_transform():
    """Within 2.6e-6: rounding the angle to float32 moves it by up to 4.1e-7, on a radius of up to 5.8."""
    g = MT19937Generator(0)
    u = g._unit(160_000, F32)
    u[:48:16] = 0, 1 - 2.0**-24, 0.5  # the ends of the logarithm: no infinity, no NaN
    u[8:56:16] = 0, 1 - 2.0**-24, 0.25
    wide = box_muller(u.astype(F64), 0.0, 1.0)
    assert np.abs(box_muller(u, 0.0, 1.0) - wide).max() < 2.6e-6
    assert np.isfinite(wide).all()


def test_fused_multiply_add():
    rng = np.random.default_rng(0)
    for scale, shift in [(0.7, -0.35), (1e-9, 1.0), (-3.3, 1e-12), (2.0**-30, 3.0), (1.0, 0.0), (1e200, -1e199)]:
        x = np.concatenate([rng.standard_normal(500), [0.0, -shift / scale, np.nextafter(-shift / scale, 9)]])
        exact = [float(Fraction(v) * Fraction(scale) + Fraction(shift)) for v in x.tolist()]
        np.testing.assert_array_equal(fma(x, scale, shift), exact)
    np.testing.assert_array_equal(fma(np.array([1e300, -1e300]), 1e300, 1.0), [np.inf, -np.inf])


def test_uniform_float16_never_reaches_its_upper_bound():
    values = MT19937Generator(0).uniform((200_000,), np.float16)
    assert values.max() < 1
    assert (values == 0).any()  # what rounds up to 1 became 0


# ---------------------------------------------------------------------- wrong calls

G = MT19937Generator
ERRORS = {
    "uniform order": (lambda: G().uniform((3,), F32, 1, 0), lambda t: t.empty(3).uniform_(1, 0)),
    "uniform inf": (lambda: G().uniform((3,), F32, 0, np.inf), lambda t: t.empty(3).uniform_(0, np.inf)),
    "uniform nan": (lambda: G().uniform((3,), F32, np.nan, 1), lambda t: t.empty(3).uniform_(np.nan, 1)),
    "uniform width": (lambda: G().uniform((3,), F32, -3e38, 3e38), lambda t: t.empty(3).uniform_(-3e38, 3e38)),
    "uniform int": (lambda: G().uniform((3,), np.int64), lambda t: t.rand(3, dtype=t.int64)),
    "uniform half": (lambda: G().uniform((3,), "f2", 0, 1e6), lambda t: t.empty(3, dtype=t.half).uniform_(0, 1e6)),
    "normal std": (lambda: G().normal((3,), F32, 0, -1), lambda t: t.empty(3).normal_(0, -1)),
    "normal nan": (lambda: G().normal((3,), F32, 0, np.nan), lambda t: t.empty(3).normal_(0, np.nan)),
    "normal int": (lambda: G().normal((3,), np.int32), lambda t: t.empty(3, dtype=t.int32).normal_()),
    "log_normal std": (lambda: G().log_normal((3,), F32, 0, 0), lambda t: t.empty(3).log_normal_(0, 0)),
    "log_normal int": (lambda: G().log_normal((3,), np.int8), lambda t: t.empty(3, dtype=t.int8).log_normal_()),
    "exponential rate": (lambda: G().exponential((3,), F32, 0), lambda t: t.empty(3).exponential_(0)),
    "exponential int": (lambda: G().exponential((3,), "i8"), lambda t: t.empty(3, dtype=t.int64).exponential_()),
    "cauchy sigma": (lambda: G().cauchy((3,), F32, 0, -1), lambda t: t.empty(3).cauchy_(0, -1)),
    "cauchy int": (lambda: G().cauchy((3,), "u1"), lambda t: t.empty(3, dtype=t.uint8).cauchy_()),
    "geometric p": (lambda: G().geometric((3,), F32, 1), lambda t: t.empty(3).geometric_(1)),
    "geometric bool": (lambda: G().geometric((3,), bool, 0.5), lambda t: t.empty(3, dtype=t.bool).geometric_(0.5)),
    "bernoulli p": (lambda: G().bernoulli_(np.empty(3), 2), lambda t: t.empty(3).bernoulli_(2.0)),
    "bernoulli nan": (lambda: G().bernoulli_(np.empty(3), np.nan), lambda t: t.empty(3).bernoulli_(np.nan)),
    "bernoulli complex": (lambda: G().bernoulli_(np.empty(3, "c8")), lambda t: t.empty(3, dtype=t.cfloat).bernoulli_()),
    "bernoulli each p": (lambda: G().bernoulli(np.full(3, 1.5)), lambda t: t.bernoulli(t.full((3,), 1.5))),
    "bernoulli each int": (lambda: G().bernoulli(np.ones(3, int)), lambda t: t.bernoulli(t.ones(3, dtype=t.int64))),
    "randint empty": (lambda: G().randint((3,), 5, 5), lambda t: t.randint(5, 5, (3,))),
    "randint high": (lambda: G().randint((3,), 0, 300, "u1"), lambda t: t.randint(0, 300, (3,), dtype=t.uint8)),
    "randint low": (lambda: G().randint((3,), -1, 3, "u1"), lambda t: t.randint(-1, 3, (3,), dtype=t.uint8)),
    "randint bool": (lambda: G().randint((3,), 0, 3, bool), lambda t: t.randint(0, 3, (3,), dtype=t.bool)),
    "randint short": (lambda: G().randint((3,), 0, 2**16, "i2"), lambda t: t.randint(0, 2**16, (3,), dtype=t.short)),
    "randint half": (lambda: G().randint((3,), -70000, 9, "f2"), lambda t: t.randint(-70000, 9, (3,), dtype=t.half)),
    "randint complex": (lambda: G().randint((3,), 0, 9, "c8"), lambda t: t.randint(0, 9, (3,), dtype=t.cfloat)),
    "random from": (
        lambda: G().random_(np.empty(3, "u1"), 300),
        lambda t: t.empty(3, dtype=t.uint8).random_(300, None),
    ),
    "random from float": (lambda: G().random_(np.empty(3, F32), 2**25), lambda t: t.empty(3).random_(2**25, None)),
    "random unsigned": (lambda: G().random_(np.empty(3, "u2")), lambda t: t.empty(3, dtype=t.uint16).random_()),
    "random all bits": (
        lambda: G().random_(np.empty(3, "i4"), -(2**63)),
        lambda t: t.empty(3, dtype=t.int32).random_(-(2**63), None),
    ),
    "random all bits half": (
        lambda: G().random_(np.empty(3, "f2"), -(2**63)),
        lambda t: t.empty(3, dtype=t.half).random_(-(2**63), None),
    ),
    "randperm negative": (lambda: G().randperm(-1), lambda t: t.randperm(-1)),
    "randperm byte": (lambda: G().randperm(257, np.uint8), lambda t: t.randperm(257, dtype=t.uint8)),
    "randperm half": (lambda: G().randperm(2050, np.float16), lambda t: t.randperm(2050, dtype=t.half)),
    "randperm float": (lambda: G().randperm(2**24 + 2, F32), lambda t: t.randperm(2**24 + 2, dtype=t.float)),
    "randperm bool": (lambda: G().randperm(2, bool), lambda t: t.randperm(2, dtype=t.bool)),
    "multinomial int": (lambda: G().multinomial(np.ones(2, int), 1), lambda t: t.multinomial(t.tensor([1, 1]), 1)),
    "multinomial many": (lambda: G().multinomial(np.ones(2), 3), lambda t: t.multinomial(t.ones(2), 3)),
    "multinomial none": (lambda: G().multinomial(np.ones(2), 0), lambda t: t.multinomial(t.ones(2), 0)),
    "multinomial dim": (lambda: G().multinomial(np.ones((1, 1, 1)), 1), lambda t: t.multinomial(t.ones(1, 1, 1), 1)),
    "multinomial negative": (
        lambda: G().multinomial(np.array([1.0, -2]), 1),
        lambda t: t.multinomial(t.tensor([1.0, -2]), 1),
    ),
    "multinomial negative again": (
        lambda: G().multinomial(np.array([1.0, -2]), 3, True),
        lambda t: t.multinomial(t.tensor([1.0, -2]), 3, True),
    ),
    "multinomial inf again": (
        lambda: G().multinomial(np.array([1.0, np.inf]), 3, True),
        lambda t: t.multinomial(t.tensor([1.0, np.inf]), 3, True),
    ),
    "multinomial zero": (lambda: G().multinomial(np.zeros(2), 1), lambda t: t.multinomial(t.zeros(2), 1)),
    "multinomial zero row": (
        lambda: G().multinomial(np.array([[0.0, 1], [0, 0]]), 2, True),
        lambda t: t.multinomial(t.tensor([[0.0, 1], [0, 0]]), 2, True),
    ),
    "seed high": (lambda: G(2**64), lambda t: t.Generator().manual_seed(2**64)),
    "seed low": (lambda: G(-(2**63) - 1), lambda t: t.Generator().manual_seed(-(2**63) - 1)),
    "seed float": (lambda: G(1.5), lambda t: t.Generator().manual_seed(1.5)),
    "seed bool": (lambda: G(True), lambda t: t.Generator().manual_seed(True)),
    "state size": (
        lambda: G().set_state(np.zeros(10, np.uint8)),
        lambda t: t.Generator().set_state(t.zeros(10, dtype=t.uint8)),
    ),
    "state dtype": (lambda: G().set_state(np.zeros(5056)), lambda t: t.Generator().set_state(t.zeros(5056))),
    "state of nothing": (
        lambda: G().set_state(np.zeros(5056, np.uint8)),
        lambda t: t.Generator().set_state(t.zeros(5056, dtype=t.uint8)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_calls_raise_as_torch_does(torch, name):
    ours, theirs = ERRORS[name]
    with pytest.raises(Exception) as a:  # noqa: B017 the type is compared below
        ours()
    with pytest.raises(Exception) as b:  # noqa: B017
        theirs(torch)
    assert type(a.value) is type(b.value)
    assert str(b.value).startswith(str(a.value))
    assert len(str(a.value)) > 20


def test_a_refused_call_draws_nothing():
    g = MT19937Generator(0)
    with pytest.raises(RuntimeError, match="std >= 0"):
        g.normal((3,), F32, 0, -1)
    with pytest.raises(RuntimeError, match="to be less than"):
        g.randint((3,), 3, 3)
    np.testing.assert_array_equal(g.get_state(), MT19937Generator(0).get_state())


@pytest.mark.parametrize("name", ["normal_", "uniform_", "exponential_"])
def test_devices_draw_what_the_cpu_draws(name):
    """Into memory without gaps and with gaps, where the order is another."""
    drawn = []
    for device in ("cpu", "fake"):
        tapegrad.manual_seed(5)
        views = [tapegrad.zeros(20, 3, device=device), tapegrad.zeros(20, 5, device=device)[:, ::2]]
        drawn.append([getattr(view, name)().cpu() for view in views])
    for mine, other in zip(*drawn, strict=True):
        assert tapegrad.equal(mine, other)
