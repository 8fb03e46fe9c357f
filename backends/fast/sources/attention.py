# mypy: ignore-errors
"""What attention does with blocks of scores between its matrix products. s: (heads * height, columns), contiguous.

Row r is query first + r % height of its head; with causal = 1 it sees the keys up to its own number, else all columns.
start and stop count rows.
"""

from __future__ import annotations

import math

from .language import T, at, inline_sums, is_null, kernel, maximum
from .maths import exp, exp_down


@inline_sums
def highest(x, width):
    top = x[0]
    for j in range(width):
        top = maximum(top, x[j])
    return top


@kernel("T* T* T* T* T i8 i8 i8 i8 i8 i8", sums=True)
def weigh(s, keep, top, total, scale, height, columns, first, causal, start, stop):
    """s becomes softmax(s * scale) keep; keep may be null. top, total: each row's maximum and sum of exponentials."""
    for r in range(start, stop):
        row = at(s, r * columns)
        seen = min(first + r % height + 1, columns) if causal else columns
        high = highest(row, seen) * scale
        sum_ = T(0)
        for j in range(seen):
            e = exp_down(row[j] * scale - high)
            row[j] = e
            sum_ += e
        if high == T(-math.inf):  # sees nothing: zeros
            factor, high, sum_ = T(0), T(math.inf), T(1)
        else:
            factor = T(1) / sum_ + (high - high)
        top[r] = high
        total[r] = sum_
        if is_null(keep):
            for j in range(seen):
                row[j] = row[j] * factor
        else:
            kept = at(keep, r * columns)
            for j in range(seen):
                row[j] = row[j] * factor * kept[j]
        for j in range(seen, columns):
            row[j] = T(0)


@kernel("T* T* T* T* T* T i8 i8 i8 i8 i8 i8", sums=True)
def score_gradients(s, d, keep, lse, delta, scale, height, columns, first, causal, start, stop):
    """From scores s and d, the gradient of the weights: s becomes the weights times keep (may be null), d the gradient
    of the scores before scaling, (d keep - delta) weights scale."""
    for r in range(start, stop):
        row, slope = at(s, r * columns), at(d, r * columns)
        seen = min(first + r % height + 1, columns) if causal else columns
        level, share = lse[r], delta[r]
        if is_null(keep):
            for j in range(seen):
                p = exp(row[j] * scale - level)
                row[j] = p
                slope[j] = (slope[j] - share) * (p * scale)
        else:
            kept = at(keep, r * columns)
            for j in range(seen):
                p = exp(row[j] * scale - level)
                row[j] = p * kept[j]
                slope[j] = (slope[j] * kept[j] - share) * (p * scale)
        for j in range(seen, columns):
            row[j] = T(0)
            slope[j] = T(0)


@kernel("T* T* T* i8* i8 i8 i8 i8 i8", sums=True)
def row_dots(x, y, out, steps, heads, length, width, start, stop):
    """out[r] = the sum of x y along a row. x, y: (B, heads, length, width); steps: their strides, in elements."""
    for r in range(start, stop):
        row, h, b = r % length, r // length % heads, r // (length * heads)
        p = at(x, b * steps[0] + h * steps[1] + row * steps[2])
        q = at(y, b * steps[3] + h * steps[4] + row * steps[5])
        total = T(0)
        for j in range(width):
            total += p[j] * q[j]
        out[r] = total
