"""Hurwitz's zeta function and the incomplete gamma functions."""

from __future__ import annotations

from ..op import op
from .kinds import only
from .reduce import narrow, wide
from .special import hurwitz, in_double, single_or_double


def _no_derivative(words):
    """The rule for a parameter by which PyTorch does not differentiate either: an error in the backward pass."""

    def rule(F, g):
        raise NotImplementedError(f"the derivative for '{words}' is not implemented.")

    return rule


@op(broadcasts=True, promote="float", public="special", grad_name="SpecialZeta")
def zeta(xp, x, y):
    """Sum of (y + k)**-x over k >= 0, for x > 1. x: (*S), y: (*T) -> (*broadcast(S, T)), float32 or float64."""
    s = single_or_double("zeta", x).astype("f8")
    return in_double("zeta", lambda xp, q: hurwitz(xp, *xp.broadcast_arrays(s, q)), xp, y)


zeta.vjp(x=_no_derivative("zeta"), y=lambda F, g, *, x, y: g * (-x * F.zeta(x + 1, y)))


@op(broadcasts=True, promote="same", public="inplace", library="special")
def igamma(special, x, y):
    """The regularised lower incomplete gamma function P(x, y). x: (*S), y: (*T) -> (*broadcast(S, T)), floating."""
    only("fV", "igamma", x)
    return narrow(special.gammainc(wide(x), wide(y)), x)


@op(broadcasts=True, promote="same", public="inplace", library="special")
def igammac(special, x, y):
    """1 - igamma(x, y), accurate where it is small. x: (*S), y: (*T) -> (*broadcast(S, T)), floating."""
    only("fV", "igammac", x)
    return narrow(special.gammaincc(wide(x), wide(y)), x)


def _density(F, x, y):
    """The density at y of the gamma distribution of shape x."""
    return F.exp((x - 1) * F.log(y) - y - F.lgamma(x))


igamma.vjp(x=_no_derivative("igamma: input"), y=lambda F, g, *, x, y: g * _density(F, x, y))
igammac.vjp(x=_no_derivative("igammac: input"), y=lambda F, g, *, x, y: -g * _density(F, x, y))
