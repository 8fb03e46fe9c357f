# mypy: ignore-errors
"""Look-up tables' gradients, maximum pooling, sums over whole arrays."""

from __future__ import annotations

from .language import (
    Int,
    T,
    at,
    inline,
    inline_sums,
    kernel,
    load,
    maximum,
    pairs,
    spread,
    store_pairs,
    where_equal,
)  # fmt: skip


@kernel("T* i8 i8")
def zero(out, start, stop):
    for i in range(start, stop):
        out[i] = T(0)


@kernel("T* i8* T* i8 i8 i8 i8 i8")
def add_rows(g, index, out, count, width, padding, start, stop):
    """out[index[i]] += g[i] for the columns start..stop of both; rows of g for index `padding` are left out."""
    for i in range(count):
        place = index[i]
        if place != padding:
            r, o = at(g, i * width), at(out, place * width)
            for j in range(start, stop):
                o[j] += r[j]


@inline_sums
def squares_of(x, count):
    total = T(0)
    for i in range(count):
        total += x[i] * x[i]
    return total


@kernel("T* f8* i8 i8")
def squares(x, out, start, stop):
    """out[0] = the sum of x[i]**2, in double precision between pieces of 4096."""
    total = 0.0
    for i in range(start, stop, 4096):
        total += squares_of(at(x, i), min(4096, stop - i))
    out[0] = total


# ---- maximum pooling of planes (H, W) -> (OH, OW); start and stop count planes. rows, columns: for each tap of a
# window in that dimension its offset, and the first and the end of the windows that it serves


@kernel("T* T* i8* i8* i8 i8 i8 i8 i8 i8 i8 i8 T i8 i8")
def max_pool(x, out, rows, columns, high, wide, out_high, out_wide, taps_y, taps_x, step_y, step_x, low, start, stop):
    for m in range(start, stop):
        plane = at(x, m * high * wide)
        for oy in range(out_high):
            o = at(out, (m * out_high + oy) * out_wide)
            for ox in range(out_wide):
                o[ox] = low
            for ky in range(taps_y):
                if oy < rows[3 * ky + 1] or oy >= rows[3 * ky + 2]:
                    continue
                r = at(plane, (oy * step_y + rows[3 * ky]) * wide)
                for kx in range(taps_x):
                    first, end = columns[3 * kx + 1], columns[3 * kx + 2]
                    s = at(r, columns[3 * kx])
                    if step_x == 1:
                        for ox in range(first, end):
                            o[ox] = maximum(o[ox], s[ox])
                    elif step_x == 2:
                        for ox in range(first, end):
                            o[ox] = maximum(o[ox], s[2 * ox])
                    else:
                        for ox in range(first, end):
                            o[ox] = maximum(o[ox], s[step_x * ox])


@inline
def last_nan(plane, rows, columns, wide, oy, ox, taps_y, taps_x, step_y, step_x):
    """The place of a window's last nan."""
    found = 0
    for ky in range(taps_y):
        if rows[3 * ky + 1] <= oy < rows[3 * ky + 2]:
            for kx in range(taps_x):
                if columns[3 * kx + 1] <= ox < columns[3 * kx + 2]:
                    place = (oy * step_y + rows[3 * ky]) * wide + ox * step_x + columns[3 * kx]
                    if plane[place] != plane[place]:
                        found = place
    return found


@kernel("T* T* T* T* I* i8* i8* i8 i8 i8 i8 i8 i8 i8 i8 i8 i8")
def max_pool_backward(
    g, x, y, gx, found, rows, columns, high, wide, out_high, out_wide, taps_y, taps_x, step_y, step_x, start, stop
):
    """Each window's gradient is added at the first of its taps that equals the maximum; of nans at the last.

    found: (out_wide,), for the place of each window of a row relative to the window.
    """
    none = Int(-(1 << 30))
    for m in range(start, stop):
        plane, target = at(x, m * high * wide), at(gx, m * high * wide)
        for i in range(high * wide):
            target[i] = T(0)
        for oy in range(out_high):
            h, top = at(g, (m * out_high + oy) * out_wide), at(y, (m * out_high + oy) * out_wide)
            for ox in range(out_wide):
                found[ox] = none
            for ky in range(taps_y - 1, -1, -1):
                if oy < rows[3 * ky + 1] or oy >= rows[3 * ky + 2]:
                    continue
                r = at(plane, (oy * step_y + rows[3 * ky]) * wide)
                for kx in range(taps_x - 1, -1, -1):
                    first, end = columns[3 * kx + 1], columns[3 * kx + 2]
                    s, place = at(r, columns[3 * kx]), Int(rows[3 * ky] * wide + columns[3 * kx])
                    if step_x == 1:
                        for ox in range(first, end):
                            found[ox] = place if s[ox] == top[ox] else found[ox]
                    elif step_x == 2:
                        for ox in range(first, end):
                            found[ox] = place if s[2 * ox] == top[ox] else found[ox]
                    else:
                        for ox in range(first, end):
                            found[ox] = place if s[step_x * ox] == top[ox] else found[ox]
            base = oy * step_y * wide
            for ox in range(out_wide):
                if found[ox] == none:
                    spot = last_nan(plane, rows, columns, wide, oy, ox, taps_y, taps_x, step_y, step_x)
                else:
                    spot = base + ox * step_x + found[ox]
                target[spot] += h[ox]


@kernel("T* T* i8 i8 i8 i8 i8 i8")
def max_pool_2x2(x, out, high, wide, out_high, out_wide, start, stop):
    """As max_pool, for windows of 2 x 2 in steps of 2 without padding."""
    for m in range(start, stop):
        plane = at(x, m * high * wide)
        for oy in range(out_high):
            upper, lower = at(plane, 2 * oy * wide), at(plane, (2 * oy + 1) * wide)
            o = at(out, (m * out_high + oy) * out_wide)
            for ox in range(out_wide):
                o[ox] = maximum(
                    maximum(upper[2 * ox], upper[2 * ox + 1]), maximum(lower[2 * ox], lower[2 * ox + 1])
                )


@inline
def chosen(a, b, c, d, top):
    """Which of four is the first to equal their maximum; where that is nan, which is the last nan."""
    k = T(2) if c == top else T(3)
    k = T(1) if b == top else k
    k = T(0) if a == top else k
    last = T(1) if b != b else T(0)
    last = T(2) if c != c else last
    last = T(3) if d != d else last
    return k if top == top else last


@inline
def chosen_lanes(a, b, c, d, top):
    """`chosen`, of vectors."""
    k = where_equal(c, top, spread(T(2)), spread(T(3)))
    k = where_equal(b, top, spread(T(1)), k)
    k = where_equal(a, top, spread(T(0)), k)
    last = where_equal(b, b, spread(T(0)), spread(T(1)))
    last = where_equal(c, c, last, spread(T(2)))
    last = where_equal(d, d, last, spread(T(3)))
    return where_equal(top, top, k, last)


@kernel("f4* f4* f4* f4* i8 i8 i8 i8")
def max_pool_2x2_backward(g, x, y, gx, out_high, out_wide, start, stop):
    """As max_pool_backward, for windows of 2 x 2 in steps of 2 that cover the plane, out_wide >= 4.

    What the vectors of a short row write too much, the next row overwrites; the last one is written number by number.
    """
    zero, wide = spread(T(0)), 2 * out_wide
    for row in range(start * out_high, stop * out_high):
        upper, one, h, top = at(x, 2 * row * wide), at(gx, 2 * row * wide), at(g, row * out_wide), at(y, row * out_wide)
        if out_wide < 8 and row == stop * out_high - 1:
            for ox in range(out_wide):
                k = chosen(upper[2 * ox], upper[2 * ox + 1], upper[wide + 2 * ox], upper[wide + 2 * ox + 1], top[ox])
                one[2 * ox] = h[ox] if k == T(0) else T(0)
                one[2 * ox + 1] = h[ox] if k == T(1) else T(0)
                one[wide + 2 * ox] = h[ox] if k == T(2) else T(0)
                one[wide + 2 * ox + 1] = h[ox] if k == T(3) else T(0)
        else:
            for begun in range(0, out_wide, 8):
                ox = max(0, min(begun, out_wide - 8))
                a, b = pairs(upper, 2 * ox)
                c, d = pairs(upper, wide + 2 * ox)
                k, v = chosen_lanes(a, b, c, d, load(top, ox)), load(h, ox)
                store_pairs(one, 2 * ox, where_equal(k, zero, v, zero), where_equal(k, spread(T(1)), v, zero))
                c, d = where_equal(k, spread(T(2)), v, zero), where_equal(k, spread(T(3)), v, zero)
                store_pairs(one, wide + 2 * ox, c, d)
