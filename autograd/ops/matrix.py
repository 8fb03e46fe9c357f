"""Matrix products. Half precisions are multiplied in float32, as BLAS has no other way."""

from __future__ import annotations

from ..op import composite, op


def product(xp, x, y):
    """xp.matmul with half precisions accumulated in float32."""
    if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
        return xp.matmul(x.astype("f4"), y.astype("f4")).astype(x.dtype)
    return xp.matmul(x, y)


@op(promote="equal", holomorphic=True)
def mm(xp, x, y):
    """Matrix product. x: (N, K), y: (K, M) -> (N, M)."""
    if x.shape[1] != y.shape[0]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({x.shape[0]}x{x.shape[1]} and {y.shape[0]}x{y.shape[1]})"
        )
    return product(xp, x, y)


mm.vjp(x=lambda F, g, *, y: F.mm(g, F.mT(y)), y=lambda F, g, *, x: F.mm(F.mT(x), g))


@op(promote="equal", holomorphic=True, broadcasts=True, grad_name="Bmm")
def bmm(xp, x, y):
    """Matrix products over leading axes that broadcast. x: (*B, N, K), y: (*C, K, M) -> (*broadcast(B, C), N, M)."""
    if x.shape[-1] != y.shape[-2]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{x.shape[0]}, {x.shape[-1]}] but got: "
            f"[{y.shape[0]}, {y.shape[-2]}]."
        )
    return product(xp, x, y)


bmm.vjp(x=lambda F, g, *, y: F.bmm(g, F.mT(y)), y=lambda F, g, *, x: F.bmm(F.mT(x), g))


@op(promote="equal", holomorphic=True)
def dot(xp, x, y):
    """Inner product without conjugation. x, y: (N,) -> ()."""
    if x.shape != y.shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{x.shape[0]}] and src [{y.shape[0]}] to have the same number "
            "of elements, but got " + f"{x.shape[0]} and {y.shape[0]} elements respectively"
        )
    return product(xp, x, y)


dot.vjp(x=lambda F, g, *, y: g * y, y=lambda F, g, *, x: g * x)


@op(promote="equal", holomorphic=True, grad_name="Addmm")
def linear(xp, x, w, b=None):
    """x times the transpose of w, plus b. x: (*, K), w: (M, K), b: (M,) -> (*, M)."""
    if x.shape[-1] != w.shape[1]:
        rows = 1
        for n in x.shape[:-1]:
            rows *= n
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{x.shape[-1]} and {w.shape[1]}x{w.shape[0]})"
        )
    out = product(xp, x if x.ndim <= 2 else x.reshape(-1, x.shape[-1]), w.T)
    if b is not None:
        out = xp.add(out, b, out=out) if out.ndim else out + b
    return out if x.ndim <= 2 else out.reshape(*x.shape[:-1], w.shape[0])


@op(view=True)
def mT(xp, x):
    """The last two dimensions exchanged. x: (*B, N, M) -> (*B, M, N)."""
    return x.swapaxes(-1, -2)


mT.vjp(x=lambda F, g: F.mT(g))


def _rows(F, x):
    """x: (*, K) -> (N, K)."""
    return x if x.ndim == 2 else F.reshape(x, shape=(-1, x.shape[-1]))


def _linear_x(F, g, *, w, x_shape):
    return F.mm(_rows(F, g), w) if len(x_shape) == 2 else F.reshape(F.mm(_rows(F, g), w), shape=x_shape)


linear.vjp(x=_linear_x)
linear.vjp_joint("w", "b", lambda F, g, needs, *, x: F.linear_parameters(g, x, needs=needs), x="w")


@composite
def linear_parameters(F, g, x, *, needs):
    """linear's gradients of weight and bias. g: (*, M), x: (*, K) -> (M, K), (M,), None for what is not needed."""
    g = _rows(F, g)
    w = F.mm(F.mT(g), _rows(F, x)) if needs[0] else None
    return w, F.sum(g, axis=(0,), keepdims=False) if needs[1] else None
