"""Matrix products."""

from __future__ import annotations

from ..op import op


@op(ufunc="matmul", promote="equal", holomorphic=True)
def mm(xp, x, y):
    """Matrix product. x: (N, K), y: (K, M) -> (N, M)."""


mm.vjp(x=lambda F, g, *, y: F.mm(g, F.mT(y)), y=lambda F, g, *, x: F.mm(F.mT(x), g))


@op(view=True)
def mT(xp, x):
    """The last two dimensions exchanged. x: (*B, N, M) -> (*B, M, N)."""
    return xp.swapaxes(x, -1, -2)


mT.vjp(x=lambda F, g: F.mT(g))
