# mypy: ignore-errors
"""The pointwise work of one step of a recurrent layer, forward and backward, each in one pass over its rows.

Row i of the state and row i of the step's other arrays belong together; n: the state's width. Gates that are written
lie side by side in a row and have a pointer each, from which it is known that they are apart.
"""

from __future__ import annotations

from .language import T, at, inline, is_null, kernel
from .maths import sigmoid, tanh


@inline
def add_row(x, y, n):
    for j in range(n):
        x[j] += y[j]


@inline
def take_over(state, new, kept, n):
    """The state that a step began with is kept, the new one takes its place."""
    for j in range(n):
        kept[j] = state[j]
        state[j] = new[j]


@kernel("T* T* T* T* T* T* T* T* T* T* T* i8 i8 i8")
def lstm_forward(zi, zf, zg, zo, x, c, kept_c, shown, h, kept_h, out, n, start, stop):
    """z: h w^T, becomes the activations; x: the input's part. h: the state, null where `out` is not the new one."""
    for row in range(start, stop):
        wide, own = 4 * row * n, row * n
        i_, f_, g_, o_ = at(zi, wide), at(zf, wide), at(zg, wide), at(zo, wide)
        xi, xf, xg, xo = at(x, wide), at(x, wide + n), at(x, wide + 2 * n), at(x, wide + 3 * n)
        cell, before, t, new = at(c, own), at(kept_c, own), at(shown, own), at(out, own)
        for j in range(n):
            i, f = sigmoid(i_[j] + xi[j]), sigmoid(f_[j] + xf[j])
            g, o = tanh(g_[j] + xg[j]), sigmoid(o_[j] + xo[j])
            i_[j] = i
            f_[j] = f
            g_[j] = g
            o_[j] = o
            old = cell[j]
            before[j] = old
            both = f * old + i * g
            cell[j] = both
            seen = tanh(both)
            t[j] = seen
            new[j] = o * seen
        if not is_null(h):
            take_over(at(h, own), new, at(kept_h, own), n)


@kernel("T* T* T* T* T* T* T* T* T* T* i8 i8 i8")
def lstm_backward(zi, zf, zg, zo, a, kept_c, shown, d, g, e, n, start, stop):
    """z: the gates' gradients. d, g: what arrives at the output, from the next step and from outside (or null).

    e: what arrives at the cell; becomes what arrives at the cell before.
    """
    for row in range(start, stop):
        wide, own = 4 * row * n, row * n
        i_, f_, g_, o_ = at(zi, wide), at(zf, wide), at(zg, wide), at(zo, wide)
        ai, af, ag, ao = at(a, wide), at(a, wide + n), at(a, wide + 2 * n), at(a, wide + 3 * n)
        before, t, cell, arriving = at(kept_c, own), at(shown, own), at(e, own), at(d, own)
        if not is_null(g):
            add_row(arriving, at(g, own), n)
        for j in range(n):
            i, f, new, o, seen, dh = ai[j], af[j], ag[j], ao[j], t[j], arriving[j]
            dc = cell[j] + dh * o * (T(1) - seen * seen)
            i_[j] = dc * new * (i * (T(1) - i))
            f_[j] = dc * before[j] * (f * (T(1) - f))
            g_[j] = dc * i * (T(1) - new * new)
            o_[j] = dh * seen * (o * (T(1) - o))
            cell[j] = dc * f


@kernel("T* T* T* T* T* T* T* T* T* T* i8 i8 i8")
def gru_forward(ar, az, an, x, y, b, inner, h, kept_h, out, n, start, stop):
    """a: the activations; x: the input's part; y: h w^T, to which b (3 n,) is added unless null."""
    for row in range(start, stop):
        wide, own = 3 * row * n, row * n
        r_, z_, n_ = at(ar, wide), at(az, wide), at(an, wide)
        xr, xz, xn = at(x, wide), at(x, wide + n), at(x, wide + 2 * n)
        yr, yz, yn = at(y, wide), at(y, wide + n), at(y, wide + 2 * n)
        state, mid, new = at(h, own), at(inner, own), at(out, own)
        if not is_null(b):
            add_row(yr, b, 3 * n)
        for j in range(n):
            r, z, v = sigmoid(xr[j] + yr[j]), sigmoid(xz[j] + yz[j]), yn[j]
            t = tanh(xn[j] + r * v)
            r_[j] = r
            z_[j] = z
            n_[j] = t
            mid[j] = v
            new[j] = t + z * (state[j] - t)
        take_over(state, new, at(kept_h, own), n)


@kernel("T* T* T* T* T* T* T* T* T* T* T* i8 i8 i8")
def gru_backward(xr, xz, xn, yr, yz, yn, a, inner, kept_h, d, g, n, start, stop):
    """x, y: gradients of the input's part and of h w^T + b. d, g: as in lstm_backward; d becomes d z."""
    for row in range(start, stop):
        wide, own = 3 * row * n, row * n
        r_, z_, n_ = at(xr, wide), at(xz, wide), at(xn, wide)
        hr, hz, hn = at(yr, wide), at(yz, wide), at(yn, wide)
        ar, az, an = at(a, wide), at(a, wide + n), at(a, wide + 2 * n)
        mid, before, arriving = at(inner, own), at(kept_h, own), at(d, own)
        if not is_null(g):
            add_row(arriving, at(g, own), n)
        for j in range(n):
            r, z, new, dh = ar[j], az[j], an[j], arriving[j]
            rest = T(1) - z
            by_n = dh * rest * (T(1) - new * new)
            by_z = (before[j] - new) * dh * (rest * z)
            by_inner = by_n * r
            by_r = by_inner * (T(1) - r) * mid[j]
            r_[j] = by_r
            z_[j] = by_z
            n_[j] = by_n
            hr[j] = by_r
            hz[j] = by_z
            hn[j] = by_inner
            arriving[j] = dh * z


@kernel("T* T* T* T* i8 i8 i8")
def rnn_tanh_forward(z, x, h, kept_h, n, start, stop):
    """z: h w^T, becomes the new state; x: the input's part."""
    for row in range(start, stop):
        own = row * n
        new, outside = at(z, own), at(x, own)
        for j in range(n):
            new[j] = tanh(new[j] + outside[j])
        take_over(at(h, own), new, at(kept_h, own), n)


@kernel("T* T* T* T* i8 i8 i8")
def rnn_relu_forward(z, x, h, kept_h, n, start, stop):
    for row in range(start, stop):
        own = row * n
        new, outside = at(z, own), at(x, own)
        for j in range(n):
            v = new[j] + outside[j]
            new[j] = T(0) if v < T(0) else v
        take_over(at(h, own), new, at(kept_h, own), n)


@kernel("T* T* T* T* i8 i8 i8")
def rnn_tanh_backward(z, new, d, g, n, start, stop):
    """z: the gates' gradient; new: the step's output; d, g: as in lstm_backward."""
    for row in range(start, stop):
        own = row * n
        out, after, arriving = at(z, own), at(new, own), at(d, own)
        if not is_null(g):
            add_row(arriving, at(g, own), n)
        for j in range(n):
            out[j] = arriving[j] * (T(1) - after[j] * after[j])


@kernel("T* T* T* T* i8 i8 i8")
def rnn_relu_backward(z, new, d, g, n, start, stop):
    for row in range(start, stop):
        own = row * n
        out, after, arriving = at(z, own), at(new, own), at(d, own)
        if not is_null(g):
            add_row(arriving, at(g, own), n)
        for j in range(n):
            out[j] = T(0) if after[j] <= T(0) else arriving[j]
