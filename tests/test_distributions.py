"""torch.distributions beside PyTorch: moments, densities, gradients, draws of one seed, divergences, errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tapegrad
from both import Programs, check

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True, scope="module")
def checks_as_at_first() -> None:
    """torch's distributions check their arguments again: torch._dynamo, which other tests wake, switches that off."""
    torch.distributions.Distribution.set_default_validate_args(True)


def param(T, values):
    """A float64 leaf, or an integer as it is."""
    return T.tensor(values, dtype=T.float64, requires_grad=True) if isinstance(values, (float, list)) else values


PD = [[2.0, 0.5, 0.1], [0.5, 1.5, 0.2], [0.1, 0.2, 1.0]]
# name -> (class, keyword arguments, a value of the support)
CASES = {
    "normal": ("Normal", {"loc": [0.5, -1.0], "scale": [1.5, 0.3]}, [0.2, -0.8]),
    "bernoulli": ("Bernoulli", {"probs": [0.3, 0.9]}, [1.0, 0.0]),
    "bernoulli logits": ("Bernoulli", {"logits": [0.3, -0.9]}, [1.0, 0.0]),
    "categorical": ("Categorical", {"probs": [[0.2, 0.3, 0.5], [1.0, 3.0, 4.0]]}, [1, 2]),
    "categorical logits": ("Categorical", {"logits": [[0.2, -0.3, 0.5], [1.0, 3.0, 4.0]]}, [1, 2]),
    "one_hot": ("OneHotCategorical", {"probs": [[0.2, 0.3, 0.5]]}, [[0.0, 1.0, 0.0]]),
    "uniform": ("Uniform", {"low": [0.0, -1.0], "high": [1.0, 3.0]}, [0.25, 0.5]),
    "exponential": ("Exponential", {"rate": [0.5, 2.0]}, [0.25, 0.5]),
    "laplace": ("Laplace", {"loc": [0.5, -1.0], "scale": [1.5, 0.3]}, [0.2, -0.8]),
    "cauchy": ("Cauchy", {"loc": [0.5, -1.0], "scale": [1.5, 0.3]}, [0.2, -0.8]),
    "gamma": ("Gamma", {"concentration": [0.5, 3.0], "rate": [1.0, 2.0]}, [0.2, 0.8]),
    "chi2": ("Chi2", {"df": [0.5, 3.0]}, [0.2, 0.8]),
    "beta": ("Beta", {"concentration1": [0.5, 3.0], "concentration0": [1.0, 2.0]}, [0.2, 0.8]),
    "dirichlet": ("Dirichlet", {"concentration": [[0.5, 3.0, 1.0], [2.0, 2.0, 1.5]]}, [[0.2, 0.3, 0.5]] * 2),
    "poisson": ("Poisson", {"rate": [0.5, 30.0]}, [1.0, 25.0]),
    "geometric": ("Geometric", {"probs": [0.5, 0.2]}, [1.0, 4.0]),
    "geometric logits": ("Geometric", {"logits": [0.5, 0.2]}, [1.0, 4.0]),
    "binomial": ("Binomial", {"total_count": 10, "probs": [0.5, 0.2]}, [1.0, 4.0]),
    "binomial logits": ("Binomial", {"total_count": 60, "logits": [0.5, -0.2]}, [1.0, 4.0]),
    "multinomial": ("Multinomial", {"total_count": 4, "probs": [[0.2, 0.3, 0.5]]}, [[1.0, 1.0, 2.0]]),
    "mvn": ("MultivariateNormal", {"loc": [0.5, 1.0, -1.0], "covariance_matrix": PD}, [[0.2, 0.1, 0.3]]),
    "mvn precision": ("MultivariateNormal", {"loc": [0.5, 1.0, -1.0], "precision_matrix": PD}, [[0.2, 0.1, 0.3]]),
    "mvn tril": (
        "MultivariateNormal",
        {"loc": [0.5, 1.0], "scale_tril": [[[1.0, 0.0], [0.5, 2.0]]] * 2},
        [[0.2, 0.1], [1.0, 2.0]],
    ),
    "half_normal": ("HalfNormal", {"scale": [0.5, 2.0]}, [0.25, 0.5]),
    "log_normal": ("LogNormal", {"loc": [0.5, -1.0], "scale": [1.5, 0.3]}, [0.2, 0.8]),
    "gumbel": ("Gumbel", {"loc": [0.5, -1.0], "scale": [1.5, 0.3]}, [0.2, 0.8]),
    "negative_binomial": ("NegativeBinomial", {"total_count": [3.0, 5.0], "probs": [0.3, 0.6]}, [1.0, 4.0]),
    "half_cauchy": ("HalfCauchy", {"scale": [0.5, 2.0]}, [0.25, 0.5]),
    "pareto": ("Pareto", {"scale": [0.5, 2.0], "alpha": [3.0, 1.5]}, [0.75, 2.5]),
    "weibull": ("Weibull", {"scale": [0.5, 2.0], "concentration": [3.0, 1.5]}, [0.75, 2.5]),
    "inverse_gamma": ("InverseGamma", {"concentration": [0.5, 3.0], "rate": [1.0, 2.0]}, [0.2, 0.8]),
    "relaxed_bernoulli": ("RelaxedBernoulli", {"temperature": 2.0, "probs": [0.3, 0.6]}, [0.2, 0.7]),
    "relaxed_one_hot": ("RelaxedOneHotCategorical", {"temperature": 2.0, "probs": [[0.3, 0.6]]}, [[0.2, 0.8]]),
    "studentT": ("StudentT", {"df": [0.7, 3.0], "loc": [0.5, -1.0], "scale": [1.5, 0.3]}, [0.2, 0.8]),
}
QUESTIONS = ["mean", "mode", "variance", "stddev"]
METHODS = ["entropy", "perplexity"]


def make(T, case):
    name, keywords, value = CASES[case]
    given = {k: param(T, v) for k, v in keywords.items()}
    kind = T.int64 if name == "Categorical" else T.float64
    return getattr(T.distributions, name)(**given), given, T.tensor(value, dtype=kind)


def said(function):
    """The result, or the exception's type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()
    except Exception as error:
        return type(error)


def same(mine, theirs, rtol=1e-9):
    if isinstance(theirs, type):
        assert mine is theirs
        return
    assert str(mine.dtype) == str(theirs.dtype) and tuple(mine.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_moments_and_densities(case):
    (mine, _, value), (theirs, _, their_value) = make(tapegrad, case), make(torch, case)
    assert tuple(mine.batch_shape) == tuple(theirs.batch_shape) and tuple(mine.event_shape) == tuple(theirs.event_shape)
    assert repr(mine) == repr(theirs)
    assert repr(mine.support) == repr(theirs.support)
    assert mine.has_rsample == theirs.has_rsample and mine.has_enumerate_support == theirs.has_enumerate_support
    for question in QUESTIONS:
        same(said(lambda q=question: getattr(mine, q)), said(lambda q=question: getattr(theirs, q)))
    for method in METHODS:
        same(said(lambda m=method: getattr(mine, m)()), said(lambda m=method: getattr(theirs, m)()))
    for method in ("log_prob", "cdf"):
        same(said(lambda m=method: getattr(mine, m)(value)), said(lambda m=method: getattr(theirs, m)(their_value)))
    p = [0.3, 0.7]
    same(said(lambda: mine.icdf(tapegrad.tensor(p).double())), said(lambda: theirs.icdf(torch.tensor(p).double())))
    if mine.has_enumerate_support:
        for expand in (True, False):
            same(mine.enumerate_support(expand), theirs.enumerate_support(expand))


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_log_prob(case):
    grads = []
    for T in (tapegrad, torch):
        distribution, given, value = make(T, case)
        distribution.log_prob(value).sum().backward()
        grads.append({k: v.grad for k, v in given.items() if hasattr(v, "grad")})
    for name, theirs in grads[1].items():
        same(grads[0][name], theirs)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("case", CASES)
def test_one_seed_draws_the_same(case, shape):
    drawn = []
    for T in (tapegrad, torch):
        T.manual_seed(7)
        distribution, _, _ = make(T, case)
        drawn.append([distribution.sample(shape), distribution.sample(shape)])
        if distribution.has_rsample:
            drawn[-1].append(distribution.rsample(shape))
    for mine, theirs in zip(*drawn, strict=True):
        same(mine, theirs, rtol=1e-10)
        assert mine.requires_grad == theirs.requires_grad


_BY_GAMMA = ("gamma", "chi2", "beta", "dirichlet", "studentT", "inverse_gamma")


@pytest.mark.parametrize("case", CASES)
def test_one_seed_draws_the_same_in_float32(case):
    drawn = []
    for T in (tapegrad, torch):
        T.manual_seed(11)
        name, keywords, _ = CASES[case]
        given = {k: T.tensor(v) if isinstance(v, (float, list)) else v for k, v in keywords.items()}
        drawn.append(getattr(T.distributions, name)(**given).sample((50,)))
    same(*drawn, rtol=1e-5)


# The gradients of gamma samples are exact here and approximated in PyTorch: see the test below.
@pytest.mark.parametrize("case", [c for c in CASES if c not in _BY_GAMMA])
def test_gradients_of_rsample(case):
    grads = []
    for T in (tapegrad, torch):
        T.manual_seed(7)
        distribution, given, _ = make(T, case)
        if not distribution.has_rsample:
            return
        (distribution.rsample((4,)) ** 2).sum().backward()
        grads.append({k: v.grad for k, v in given.items() if hasattr(v, "grad")})
    for name, theirs in grads[1].items():
        same(grads[0][name], theirs)


def test_gradient_of_gamma_samples():
    """dx/da at a fixed probability, by finite differences of SciPy's quantile; PyTorch's own is right to 1e-3."""
    special = pytest.importorskip("scipy.special")
    tapegrad.manual_seed(0)
    a = tapegrad.tensor([0.05, 0.3, 1.0, 2.5, 20.0, 300.0], dtype=tapegrad.float64).repeat(20).requires_grad_()
    x = tapegrad.distributions.Gamma(a, tapegrad.ones_like(a)).rsample()
    x.sum().backward()
    a_, x_ = a.detach().numpy(), x.detach().numpy()
    upper = x_ > a_  # from the tail that keeps its digits
    p, q, h = special.gammainc(a_, x_), special.gammaincc(a_, x_), 1e-4 * a_

    def quantile(b):
        return np.where(upper, special.gammainccinv(b, q), special.gammaincinv(b, p))

    slope = (-quantile(a_ + 2 * h) + 8 * quantile(a_ + h) - 8 * quantile(a_ - h) + quantile(a_ - 2 * h)) / (12 * h)
    np.testing.assert_allclose(a.grad.numpy(), slope, rtol=1e-6, atol=1e-300)
    theirs = torch._standard_gamma_grad(torch.tensor(a_), torch.tensor(x_)).numpy()
    np.testing.assert_allclose(a.grad.numpy(), theirs, rtol=1e-2, atol=1e-12)


def test_gradient_of_a_large_gamma():
    """Above a = 1000 an approximation takes over; both sides of the bound agree."""
    from tapegrad.distributions.reparametrized import _slope_by_series, _slope_of_large

    a = np.full(5, 1000.0)
    x = a + np.sqrt(a) * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(_slope_of_large(a, x), _slope_by_series(a, x), rtol=2e-6)


def test_gradient_of_dirichlet_samples_follows_the_mean():
    """Averages of pathwise gradients are the gradient of the mean."""
    tapegrad.manual_seed(0)
    c = tapegrad.tensor([1.0, 2.0, 3.0], dtype=tapegrad.float64, requires_grad=True)
    n = 4000
    tapegrad.distributions.Dirichlet(c).rsample((n,))[:, 0].mean().backward()
    # the mean is c0 / sum(c)
    assert c.grad.numpy() == pytest.approx([5 / 36, -1 / 36, -1 / 36], abs=4e-3)


@pytest.mark.parametrize("case", CASES)
def test_expand(case):
    (mine, _, value), (theirs, _, their_value) = make(tapegrad, case), make(torch, case)
    shape = (3, *mine.batch_shape)
    mine, theirs = mine.expand(shape), theirs.expand(shape)
    assert tuple(mine.batch_shape) == shape and repr(mine) == repr(theirs)
    same(mine.log_prob(value), theirs.log_prob(their_value))
    same(said(lambda: mine.mean), said(lambda: theirs.mean))


PAIRS = """
normal normal | bernoulli bernoulli | categorical categorical | one_hot one_hot | uniform uniform | laplace laplace
exponential exponential | gamma gamma | beta beta | dirichlet dirichlet | poisson poisson | geometric geometric
binomial binomial | mvn mvn | mvn mvn precision | half_normal half_normal | log_normal log_normal | gumbel gumbel
exponential gamma | gamma exponential | exponential normal | normal laplace | laplace normal | uniform normal
bernoulli poisson | normal categorical
"""


@pytest.mark.parametrize("pair", [p.strip() for line in PAIRS.strip().splitlines() for p in line.split("|")])
def test_kl_divergence(pair):
    first, _, second = pair.partition(" ")
    results = []
    for T in (tapegrad, torch):
        q, given, _ = make(T, second)
        p, mine, _ = make(T, first)
        if first == second:  # other parameters
            given = {k: param(T, _shifted(v)) for k, v in CASES[second][1].items()}
            q = getattr(T.distributions, CASES[second][0])(**given)
        result = said(lambda p=p, q=q, T=T: T.distributions.kl_divergence(p, q))
        if not isinstance(result, type):
            result.sum().backward()
        results.append((result, [v.grad for v in (*mine.values(), *given.values()) if hasattr(v, "grad")]))
    same(results[0][0], results[1][0])
    if isinstance(results[1][0], type):
        return
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            same(a, b, rtol=1e-8)  # torch's trigamma is right to 5e-10


def _shifted(values):
    if not isinstance(values, list):
        return values
    return (np.array(values) * 1.1).tolist()


def test_register_kl():
    D = tapegrad.distributions

    class Mine(D.Normal):
        pass

    @D.register_kl(Mine, D.Normal)
    def kl(p, q):
        return tapegrad.tensor(42.0)

    assert D.kl_divergence(Mine(0.0, 1.0), D.Normal(0.0, 1.0)).item() == 42
    assert D.kl_divergence(D.Normal(0.0, 1.0), Mine(0.0, 1.0)).item() == 0
    with pytest.raises(TypeError):
        D.register_kl(int, D.Normal)


TRANSFORMS = """
ExpTransform() | SigmoidTransform() | TanhTransform() | SoftplusTransform() | AffineTransform(0.5, -2.0)
AffineTransform(0.5, T.tensor([1.0, -2.0, 3.0]).double(), event_dim=1) | StickBreakingTransform() | SoftmaxTransform()
ComposeTransform([AffineTransform(0.5, 0.2), TanhTransform()]) | ExpTransform().inv | AbsTransform()
IndependentTransform(ExpTransform(), 1) | ReshapeTransform((3,), (3, 1)) | LowerCholeskyTransform()
PositiveDefiniteTransform() | PowerTransform(T.tensor(2.0).double()) | identity_transform
CatTransform([ExpTransform(), TanhTransform()], -1, [1, 2]) | StackTransform([ExpTransform(), TanhTransform()], 0)
ComposeTransform([ExpTransform(), AffineTransform(1.0, 2.0)]).inv
"""


@pytest.mark.parametrize("text", [t.strip() for line in TRANSFORMS.strip().splitlines() for t in line.split(" | ")])
def test_transforms(text):
    results = []
    for T in (tapegrad, torch):
        names = {n: getattr(T.distributions.transforms, n) for n in T.distributions.transforms.__all__}
        t = eval(text, {**names, "T": T})
        square = "Cholesky" in text or "Definite" in text
        values = [[0.3, 0.2, 0.5], [0.9, 0.6, 0.1], [0.4, 0.7, 1.3]] if square else [[0.3, 0.2, 0.5], [0.9, 0.6, 0.1]]
        x = T.tensor(values, dtype=T.float64)
        if ").inv" in text and "1.0" in text:
            x = x * 10
        y = t(x)
        found = [y, said(lambda t=t, y=y: t.inv(y)), said(lambda t=t, x=x, y=y: t.log_abs_det_jacobian(x, y))]
        found += [t.bijective, repr(t), tuple(t.forward_shape((4, 3))), said(lambda t=t: t.event_dim)]
        found += [t.domain.event_dim, t.codomain.event_dim, t == t, t.inv.inv is t]
        results.append(found)
    for a, b in zip(*results, strict=True):
        if hasattr(b, "dtype") or isinstance(b, type):
            same(a, b)
        else:
            assert a == b


def test_a_cache_of_one_gives_the_very_tensor_back():
    D = tapegrad.distributions
    x = tapegrad.randn(3)
    t = D.TanhTransform(cache_size=1)
    assert t.inv(t(x)) is x
    assert D.TanhTransform().inv(t(x)) is not x


programs = Programs()


@programs
def transformed(T):
    D = T.distributions
    T.manual_seed(3)
    base = D.Normal(T.zeros(2, 3).double(), T.ones(2, 3).double())
    d = D.TransformedDistribution(base, [D.AffineTransform(0.5, 2.0), D.TanhTransform()])
    y = d.rsample((4,))
    logit = D.TransformedDistribution(D.Uniform(T.zeros(3).double(), T.ones(3).double()), D.SigmoidTransform().inv)
    z = T.tensor([0.1, -0.5, 2.0]).double()
    e = D.Independent(d, 1).expand((5, 2))
    return [
        y, d.log_prob(y), d.batch_shape, d.event_shape, repr(d.support), logit.log_prob(z), logit.cdf(z),
        logit.icdf(logit.cdf(z)), e.batch_shape, e.log_prob(y[0]), d.expand((7, 2, 3)).batch_shape,
    ]  # fmt: skip


@programs
def stick_breaking_flow(T):
    D = T.distributions
    base = D.Normal(T.zeros(2, 3).double(), T.ones(2, 3).double())
    d = D.TransformedDistribution(base, [D.StickBreakingTransform()])
    y = T.tensor([[0.1, 0.2, 0.3, 0.4]] * 2).double()
    return d.batch_shape, d.event_shape, d.log_prob(y)


@programs
def independent(T):
    D = T.distributions
    d = D.Independent(D.Normal(T.zeros(2, 3).double(), T.ones(2, 3).double()), 1)
    x = T.full((2, 3), 0.5).double()
    return d.batch_shape, d.event_shape, d.log_prob(x), d.entropy(), d.mean, d.variance, repr(d), repr(d.support)


@programs
def mixture(T):
    D = T.distributions
    T.manual_seed(5)
    mix = D.Categorical(T.tensor([[0.2, 0.8], [0.5, 0.5]]).double())
    parts = D.Independent(D.Normal(T.randn(2, 2, 3).double(), T.rand(2, 2, 3).double() + 0.1), 1)
    d = D.MixtureSameFamily(mix, parts)
    x = d.sample((4,))
    return x, d.log_prob(x), d.mean, d.variance, d.batch_shape, d.event_shape, d.expand((3, 2)).log_prob(x[0])


@programs
def registry(T):
    D = T.distributions
    x = T.tensor([[0.3, -0.2, 0.5]]).double()
    c = D.constraints
    sets = [c.real, c.positive, c.unit_interval, c.simplex, c.interval(-1.0, 2.0), c.greater_than(1.0)]
    sets.append(c.less_than(0.0))
    return [(D.transform_to(s)(x), D.biject_to(s)(x), repr(s)) for s in sets]


@programs
def numbers_as_parameters(T):
    D = T.distributions
    made = [D.Normal(0, 1), D.Bernoulli(0.5), D.Uniform(0, 1), D.Gamma(1.0, 2.0), D.Beta(1, 2), D.Exponential(2.0)]
    return [(d.batch_shape, d.mean, repr(d)) for d in made]


@programs
def policy_gradient(T):
    logits = T.tensor([[0.1, 0.2, 0.3]], dtype=T.float64, requires_grad=True)
    T.manual_seed(0)
    m = T.distributions.Categorical(logits=logits)
    action = m.sample()
    (-m.log_prob(action) * 2.0 + 0.01 * m.entropy()).sum().backward()
    return action, logits.grad


@programs
def straight_through(T):
    probs = T.tensor([0.2, 0.3, 0.5], dtype=T.float64, requires_grad=True)
    T.manual_seed(0)
    y = T.distributions.OneHotCategoricalStraightThrough(probs).rsample((2,))
    (y * T.arange(3.0).double()).sum().backward()
    return y, probs.grad


@pytest.mark.parametrize("name", programs)
def test_programs(name):
    programs.check(name, rtol=1e-9)


ERRORS = """
D.Normal(0.0, -1.0) | D.Normal(T.zeros(2), T.tensor([1.0, 0.0])) | D.Bernoulli(1.5) | D.Bernoulli()
D.Bernoulli(0.5, 0.5) | D.Categorical(T.tensor(0.5)) | D.Categorical(T.tensor([-1.0, 2.0])) | D.Uniform(1.0, 0.0)
D.Normal("a", 1.0) | D.Normal(0.0, 1.0).log_prob(1.0) | D.Bernoulli(0.5).log_prob(T.tensor(0.5))
D.Exponential(1.0).log_prob(T.tensor(-1.0)) | D.Normal(T.zeros(2), 1.0).log_prob(T.zeros(3))
D.Independent(D.Normal(0.0, 1.0), 1) | D.Geometric(0.0) | D.MultivariateNormal(T.zeros(2))
D.MultivariateNormal(T.zeros(2), T.zeros(2)) | D.MultivariateNormal(T.tensor(0.0), T.eye(2))
D.Categorical(T.ones(3)).log_prob(T.tensor(3)) | D.Binomial(2, T.tensor([0.5])).log_prob(T.tensor([3.0]))
D.transform_to(1) | D.TransformedDistribution(D.Normal(0.0, 1.0), 1) | D.ReshapeTransform((2,), (3,)) | D.Poisson(-1.0)
D.Dirichlet(T.tensor(1.0)) | D.Multinomial(T.tensor(1.0), T.ones(3)) | D.Beta(-1.0, 1.0)
D.Normal(0.0, 1.0, validate_args=False).log_prob(T.tensor(1.0)) | D.Normal(0.0, -1.0, validate_args=False).mean
"""


@pytest.mark.parametrize("text", [t.strip() for line in ERRORS.strip().splitlines() for t in line.split(" | ")])
def test_errors(text):
    check(text, length=30, D=lambda T: T.distributions)


@pytest.mark.parametrize(
    "text",
    ["D.Normal(0.0, 1.0).enumerate_support()", "D.Poisson(1.0).rsample()", "D.Cauchy(0.0, 1.0).icdf(1)"]
    + ["D.kl_divergence(D.Normal(0.0, 1.0), D.Poisson(1.0))", "D.Categorical(T.ones(2)).cdf(T.tensor(1))"],
)
def test_kinds_of_errors(text):
    """What a distribution does not have; PyTorch's errors are without a text."""
    check(text, length=0, D=lambda T: T.distributions)


def test_default_validation_can_be_switched():
    D = tapegrad.distributions
    D.Distribution.set_default_validate_args(False)
    try:
        D.Normal(0.0, -1.0)
    finally:
        D.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError):
        D.Normal(0.0, -1.0)
