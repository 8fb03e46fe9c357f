# mypy: ignore-errors
"""Softmax, cross-entropy and normalisation: one row of `width` elements after the other; start and stop count rows."""

from __future__ import annotations

from .language import T, at, inline, inline_sums, is_null, kernel, maximum, sqrt
from .maths import exp, exp_down


@inline_sums
def largest(x, width):
    top = x[0]
    for j in range(width):
        top = maximum(top, x[j])
    return top


@inline
def real(top):
    """1 for a finite maximum, NaN for others: the softmax of their row is NaN throughout."""
    return T(1) + (top - top)


@kernel("T* T* i8 i8 i8", sums=True)
def softmax(x, out, width, start, stop):
    for i in range(start, stop):
        r, o = at(x, i * width), at(out, i * width)
        top = largest(r, width)
        total = T(0)
        for j in range(width):
            e = exp_down(r[j] - top)
            o[j] = e
            total += e
        factor = real(top) / total
        for j in range(width):
            o[j] = o[j] * factor


@kernel("T* T* T* i8 i8 i8", sums=True)
def softmax_backward(g, y, out, width, start, stop):
    for i in range(start, stop):
        h, r, o = at(g, i * width), at(y, i * width), at(out, i * width)
        level = T(0)
        for j in range(width):
            level += h[j] * r[j]
        for j in range(width):
            o[j] = (h[j] - level) * r[j]


@kernel("T* T* T* i8 i8 i8", sums=True)
def row_sums(x, top, total, width, start, stop):
    """Each row's maximum, and its sum of exp(x - maximum)."""
    for i in range(start, stop):
        r = at(x, i * width)
        high = largest(r, width)
        sum_ = T(0)
        for j in range(width):
            sum_ += exp_down(r[j] - high)
        top[i] = high
        total[i] = sum_ * real(high)


@kernel("T* T* T* T* i8 i8 i8")
def shifted(x, top, shift, out, width, start, stop):
    """x less its row's maximum, and then less its shift: of large numbers their sum would lose the shift's digits."""
    for i in range(start, stop):
        r, o, high, s = at(x, i * width), at(out, i * width), top[i], shift[i]
        for j in range(width):
            o[j] = (r[j] - high) - s


@kernel("T* T* T* i8 i8 i8", sums=True)
def log_softmax_backward(g, y, out, width, start, stop):
    for i in range(start, stop):
        h, r, o = at(g, i * width), at(y, i * width), at(out, i * width)
        total = T(0)
        for j in range(width):
            total += h[j]
        for j in range(width):
            o[j] = h[j] - exp(r[j]) * total


@kernel("T* T* T* T* i8 i8 i8")
def scaled_exp(x, top, scale, out, width, start, stop):
    """exp(x - top) * scale of each row; scale is NaN where top is no finite number."""
    for i in range(start, stop):
        r, o, high, factor = at(x, i * width), at(out, i * width), top[i], scale[i]
        for j in range(width):
            o[j] = exp_down(r[j] - high) * factor


# ---- normalisation


@kernel("T* T* T* T* T* T* T i8 i8 i8", sums=True)
def layer_norm(x, w, b, out, mean, rstd, eps, width, start, stop):
    """w and b may be null."""
    for i in range(start, stop):
        r, o = at(x, i * width), at(out, i * width)
        m = T(0)
        for j in range(width):
            m += r[j]
        m /= T(width)
        v = T(0)
        for j in range(width):
            d = r[j] - m
            v += d * d
        s = T(1) / sqrt(v / T(width) + eps)
        mean[i] = m
        rstd[i] = s
        if is_null(w):
            for j in range(width):
                o[j] = (r[j] - m) * s
        else:
            for j in range(width):
                o[j] = ((r[j] - m) * s) * w[j]
        if not is_null(b):
            for j in range(width):
                o[j] += b[j]


@kernel("T* T* T* T* T* T* T* T* i8 i8 i8", sums=True)
def layer_norm_backward(g, x, w, mean, rstd, gx, gw, gb, width, start, stop):
    """gw and gb: sums over the rows, added to what is there. gx, gw and gb may be null; w may not."""
    for i in range(start, stop):
        h, r, m, s = at(g, i * width), at(x, i * width), mean[i], rstd[i]
        if not is_null(gx):
            level, along = T(0), T(0)
            for j in range(width):
                q = h[j] * w[j]
                level += q
                along += q * (r[j] - m)
            level *= s / T(width)
            along *= s * s * s / T(width)
            o = at(gx, i * width)
            for j in range(width):
                o[j] = h[j] * w[j] * s - level - (r[j] - m) * along
        if not is_null(gw):
            for j in range(width):
                gw[j] += h[j] * ((r[j] - m) * s)
        if not is_null(gb):
            for j in range(width):
                gb[j] += h[j]


@kernel("T* T* T* T* T i8 i8 i8", sums=True)
def rms_norm(x, w, out, rstd, eps, width, start, stop):
    """w may be null."""
    for i in range(start, stop):
        r, o = at(x, i * width), at(out, i * width)
        v = T(0)
        for j in range(width):
            v += r[j] * r[j]
        s = T(1) / sqrt(v / T(width) + eps)
        rstd[i] = s
        if is_null(w):
            for j in range(width):
                o[j] = r[j] * s
        else:
            for j in range(width):
                o[j] = (r[j] * s) * w[j]


@kernel("T* T* T* T* T* T* i8 i8 i8", sums=True)
def rms_norm_backward(g, x, w, rstd, gx, gw, width, start, stop):
    """gw: sums over the rows, added to what is there. gx and gw may be null; w may not."""
    for i in range(start, stop):
        h, r, s = at(g, i * width), at(x, i * width), rstd[i]
        if not is_null(gx):
            along = T(0)
            for j in range(width):
                along += h[j] * w[j] * r[j]
            along *= s * s * s / T(width)
            o = at(gx, i * width)
            for j in range(width):
                o[j] = h[j] * w[j] * s - r[j] * along
        if not is_null(gw):
            for j in range(width):
                gw[j] += h[j] * (r[j] * s)


# ---- batch normalisation: x (N, C, L); start and stop count channels


@kernel("T* T* T* T* T* T* T* T i8 i8 i8 i8 i8", sums=True)
def batch_norm(x, w, b, out, mean, var, rstd, eps, images, channels, length, start, stop):
    """w and b may be null."""
    count = T(images * length)
    for c in range(start, stop):
        whole = 0.0
        for n in range(images):
            r = at(x, (n * channels + c) * length)
            sum_ = T(0)
            for j in range(length):
                sum_ += r[j]
            whole += sum_
        m = T(whole / count)
        whole = 0.0
        for n in range(images):
            r = at(x, (n * channels + c) * length)
            sum_ = T(0)
            for j in range(length):
                d = r[j] - m
                sum_ += d * d
            whole += sum_
        v = T(whole / count)
        s = T(1) / sqrt(v + eps)
        mean[c] = m
        var[c] = v
        rstd[c] = s
        factor = s if is_null(w) else s * w[c]
        shift = T(0) if is_null(b) else b[c]
        for n in range(images):
            r, o = at(x, (n * channels + c) * length), at(out, (n * channels + c) * length)
            for j in range(length):
                o[j] = (r[j] - m) * factor + shift


@kernel("T* T* T* T* T* T* T* T* i8 i8 i8 i8 i8", sums=True)
def batch_norm_backward(g, x, w, mean, rstd, gx, gw, gb, images, channels, length, start, stop):
    """w and gx may be null."""
    count = T(images * length)
    for c in range(start, stop):
        m, s = mean[c], rstd[c]
        total, slope = 0.0, 0.0
        for n in range(images):
            place = (n * channels + c) * length
            h, r = at(g, place), at(x, place)
            one, two = T(0), T(0)
            for j in range(length):
                one += h[j]
                two += h[j] * (r[j] - m)
            total += one
            slope += two
        gb[c] = T(total)
        gw[c] = T(slope) * s
        if not is_null(gx):
            factor = s if is_null(w) else s * w[c]
            k = -factor * s * gw[c] / count
            shift = -factor * T(total) / count
            for n in range(images):
                place = (n * channels + c) * length
                h, r, o = at(g, place), at(x, place), at(gx, place)
                for j in range(length):
                    o[j] = h[j] * factor + ((r[j] - m) * k + shift)
