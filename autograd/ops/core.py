"""The ops that the engine and the in-place machinery rest on: casts, sums to a shape, copies, regions of views."""

from __future__ import annotations

from ..op import composite, op


@op()
def alias(xp, x):
    """The same value and memory, with a node of its own. x: (*S) -> (*S)."""
    return x


alias.vjp(x=lambda F, g: g)


@op(grad_name="Clone")
def clone(xp, x):
    """A copy in new memory, in row-major order. x: (*S) -> (*S)."""
    return xp.array(x, copy=True, order="C")


clone.vjp(x=lambda F, g: g)


@op(grad_name="Clone")
def clone_kept(xp, x):
    """A copy in new memory, its dimensions in x's order of memory. x: (*S) -> (*S)."""
    return xp.array(x, copy=True, order="C" if 0 in x.strides else "K")


clone_kept.vjp(x=lambda F, g: g)


@op(grad_name="ToCopy")
def cast(xp, x, *, dtype):
    """x in another NumPy dtype; complex to real drops the imaginary part. x: (*S) -> (*S) of dtype."""
    if x.dtype.kind == "c" and dtype.kind != "c":
        x = x.real if dtype.kind != "b" else x != 0
    return x.astype(dtype, order="C") if 0 in x.strides else x.astype(dtype)


cast.vjp(x=lambda F, g, *, x_dtype: F.cast(g, dtype=x_dtype))


@op(grad_name="SumToSize")
def sum_to(xp, x, *, shape):
    """x summed over the dimensions that broadcasting added or stretched. x: (*S) -> (*shape)."""
    lead = x.ndim - len(shape)
    if lead:
        x = xp.add.reduce(x, axis=tuple(range(lead)))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return xp.add.reduce(x, axis=stretched, keepdims=True) if stretched else xp.asarray(x)


sum_to.vjp(x=lambda F, g, *, x_shape: F.expand(g, shape=x_shape))


def writable(view, x):
    """NumPy makes some views read-only; here each may be written wherever x may be."""
    if getattr(x.flags, "writeable", False):
        view.flags.writeable = True
    return view


@op(view=True)
def expand(xp, x, *, shape):
    """x broadcast to a larger shape, without a copy. x: (*S) -> (*shape)."""
    return writable(xp.broadcast_to(x, shape), x)


expand.vjp(x=lambda F, g, *, x_shape: F.sum_to(g, shape=x_shape))


@op()
def zeros_like(xp, x):
    """Zeros of x's shape and dtype. x: (*S) -> (*S)."""
    return xp.zeros(x.shape, x.dtype)


@op()
def ones_like(xp, x):
    """Ones of x's shape and dtype. x: (*S) -> (*S)."""
    return xp.ones(x.shape, x.dtype)


@op(grad_name="Zero")
def cut(xp, x):
    """x's memory, of which nothing flows back: the history of a tensor that was overwritten. x: (*S) -> (*S)."""
    return x


cut.vjp(x=lambda F, g: F.zeros_like(g))


@op(grad_name="Sampled")
def sampled(xp, x, draw):
    """draw, a random sample that was made from x: x gets a gradient of zeros. x: (*S), draw: (*T) -> (*T)."""
    return xp.array(draw, copy=True)


sampled.vjp(x=lambda F, g, *, x_shape: F.zeros_of(g, shape=x_shape))


@op(grad_name="CopySlices")
def copy_slices(xp, base, value, *, chain):
    """base with the region of the view `chain` replaced by value. base: (*B), value: (*V) -> (*B).

    Only its rules are used: the in-place write has done the forward (see views.py).
    """
    out = xp.array(base, copy=True)
    region = out
    for name, kw in chain:
        region = _raw_view(xp, name, region, kw)
    region[...] = value
    return out


def _raw_view(xp, name, x, kw):
    """One view op on a raw array."""
    from ..op import OPS

    made = OPS[name]
    return getattr(xp, made.ufunc)(x, **kw) if made.ufunc else made.generic(xp, x, **kw)


copy_slices.vjp(
    base=lambda F, g, *, chain: F.zero_region(g, chain=chain),
    value=lambda F, g, *, chain: F.view_region(g, chain=chain),
)


@composite
def view_region(F, x, *, chain):
    """The region of x that a chain of view ops selects. x: (*B) -> (*V)."""
    for name, kw in chain:
        x = getattr(F, _BY_VALUE.get(name, name))(x, **kw)
    return x


# What shows the same of an array that lies otherwise in memory than the one the view was taken of.
_BY_VALUE = {"view": "reshape", "as_strided": "as_strided_gather"}

_PARTS = ("real", "imag", "view_as_real", "view_as_complex")


@op()
def zero_region(xp, x, *, chain):
    """x with zeros in the region that a chain of view ops selects. x: (*B) -> (*B). Its own adjoint."""
    out = xp.array(x, copy=True, order="C")
    if any(name in _PARTS for name, _ in chain):  # views of parts of elements: no element numbers lead there
        region = out
        for name, kw in chain:
            region = _raw_view(xp, name, region, kw)
        region[...] = 0
        return out
    places = xp.arange(out.size).reshape(out.shape)
    for name, kw in chain:
        if name == "as_strided":  # which may show more than there is: number 0 stands for that
            places = _raw_view(xp, "as_strided_gather", places + 1, kw) - 1
        else:
            places = _raw_view(xp, _BY_VALUE.get(name, name), places, kw)
    places = places.reshape(-1)
    out.reshape(-1)[places[places >= 0]] = 0
    return out


zero_region.vjp(x=lambda F, g, *, chain: F.zero_region(g, chain=chain))


@op(grad_name="ToCopy", moves=True)
def transfer(xp, x, *, device):
    """x on another device. x: (*S) -> (*S)."""
    from ...backends.registry import backend_of

    backend = device.backend()
    if backend.xp is xp and backend is backend_of(x):
        return backend.asarray(x, device=device.key, copy=True)
    return backend.asarray(backend_of(x).to_numpy(x), device=device.key)


transfer.vjp(x=lambda F, g, *, x_device: F.transfer(g, device=x_device))
