# mypy: ignore-errors
"""The transforms of Winograd's convolution F(4x4, 3x3): 16 outputs of a 3x3 kernel by 36 products instead of 144.

Y = A' [(K w K') * (B' d B)] A for a tile d of 6x6 inputs (A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural
Networks", 2016). The points are 0, +-5/8, +-3/2 and infinity instead of the paper's 0, +-1, +-2: the error is a fifth.

Tiles come in rows of `across`, and rows in a batch, image after image with `down` each; a block is `rows` of them from
`first` on. A block's array in the transformed domain is (36, channels, wide), wide at least rows * across. `lines` is
scratch memory of LINES numbers.

The columns of the tiles first, along a row of the image; the six (or four) numbers that each gives stand in lines, for
`group` rows of tiles, so that small images fill vectors too. A vector then is one place of eight tiles: every fourth
number of a line, and for the last two places of a line that is moved by a tile. What the last vector of a group writes
too much is overwritten by the next group; where `group` rows are not whole vectors, wide leaves room for it.
"""

from __future__ import annotations

from .language import T, added, added_each, at, deal, gather, inline, is_null, kernel, load, spread, store

A2, B2 = 25 / 64, 9 / 4  # squares of the points
A1, B1 = 5 / 8, 3 / 2
LANES = 8
LINE = 4 * 1048 + 8  # a row of 1024 tiles, and what is written behind it; no multiple of a page
MOVED = 6 * LINE  # where the lines that are moved by a tile begin
LINES = 12 * LINE + 2 * LANES


@inline
def six(a, b, c, d, e, f):
    """B' of six vectors."""
    even, odd = e - spread(T(B2)) * c, spread(T(A1)) * (d - spread(T(B2)) * b)
    even2, odd2 = e - spread(T(A2)) * c, spread(T(B1)) * (d - spread(T(A2)) * b)
    ends, sums = spread(T(A2 * B2)), spread(T(A2 + B2))
    return ends * a - sums * c + e, even + odd, even - odd, even2 + odd2, even2 - odd2, ends * b - sums * d + f


@inline
def six_of_four(a, b, c, d):
    """A of four vectors."""
    even, odd = a + spread(T(A2)) * c, spread(T(A1)) * (b + spread(T(A2)) * d)
    even2, odd2 = a + spread(T(B2)) * c, spread(T(B1)) * (b + spread(T(B2)) * d)
    return a, even + odd, even - odd, even2 + odd2, even2 - odd2, d


@inline
def four(a, b, c, d, e, f):
    """A' of six vectors."""
    plus, minus, plus2, minus2 = b + c, spread(T(A1)) * (b - c), d + e, spread(T(B1)) * (d - e)
    third = spread(T(A2)) * plus + spread(T(B2)) * plus2
    return a + plus + plus2, minus + minus2, third, spread(T(A2)) * minus + spread(T(B2)) * minus2 + f


@inline
def put(lines, place, values):
    """Six vectors into six lines."""
    store(lines, place, values[0])
    store(lines, place + LINE, values[1])
    store(lines, place + 2 * LINE, values[2])
    store(lines, place + 3 * LINE, values[3])
    store(lines, place + 4 * LINE, values[4])
    store(lines, place + 5 * LINE, values[5])


@inline
def cleared(lines, place):
    """0 at one place of six lines."""
    lines[place] = T(0)
    lines[place + LINE] = T(0)
    lines[place + 2 * LINE] = T(0)
    lines[place + 3 * LINE] = T(0)
    lines[place + 4 * LINE] = T(0)
    lines[place + 5 * LINE] = T(0)


@inline
def planes(domain, plane, values):
    """Six vectors into six planes."""
    store(domain, 0, values[0])
    store(domain, plane, values[1])
    store(domain, 2 * plane, values[2])
    store(domain, 3 * plane, values[3])
    store(domain, 4 * plane, values[4])
    store(domain, 5 * plane, values[5])


@inline
def tiles_in(x, zeros, domain, lines, channels, height, width, low, down, across, first, rows, group, wide, plane):
    """B' d B. x: (images, channels, height, width >= LANES), padded by `low` zeros; zeros: as many as x is wide."""
    used = min(width, 4 * across + 2 - low)
    outside, nothing = 4 * across + 2 - low - width, spread(T(0))  # columns of the last tiles that are padding; up to 5
    for c in range(channels):
        for begin in range(0, rows, group):
            count = min(group, rows - begin)
            for r in range(count):
                image = (first + begin + r) // down
                top = 4 * (first + begin + r - image * down) - low
                source = at(x, (image * channels + c) * height * width)
                x0 = at(source, top * width) if top >= 0 and top < height else zeros
                x1 = at(source, (top + 1) * width) if top + 1 >= 0 and top + 1 < height else zeros
                x2 = at(source, (top + 2) * width) if top + 2 < height else zeros
                x3 = at(source, (top + 3) * width) if top + 3 < height else zeros
                x4 = at(source, (top + 4) * width) if top + 4 < height else zeros
                x5 = at(source, (top + 5) * width) if top + 5 < height else zeros
                here = at(lines, LANES + 4 * r * across)
                for begun in range(0, used, LANES):
                    t = min(begun, width - LANES)
                    values = six(load(x0, t), load(x1, t), load(x2, t), load(x3, t), load(x4, t), load(x5, t))
                    put(here, t + low, values)
                    put(here, t + low + MOVED - 4, values)
                if low > 0:
                    cleared(here, 0)
                if low > 1:
                    cleared(here, 1)
                if low + width < 4 * across:
                    put(here, low + width, (nothing, nothing, nothing, nothing, nothing, nothing))
            for r in range(count):  # not before the next row, which writes here
                here = at(lines, LANES + MOVED + 4 * r * across + 4 * across)
                if outside > 0:
                    cleared(here, -3)
                if outside > 1:
                    cleared(here, -4)
                if outside > 4:
                    cleared(here, -7)
            place = c * wide + begin * across
            for t in range(0, count * across, LANES):
                for i in range(6):
                    p0, p1, p2, p3 = deal(lines, LANES + i * LINE + 4 * t)
                    p4, p5, _, _ = deal(lines, LANES + MOVED + i * LINE + 4 * t)
                    planes(at(domain, 6 * i * plane + place + t), plane, six(p0, p1, p2, p3, p4, p5))


@inline
def gradients_in(g, zeros, domain, lines, channels, height, width, down, across, first, rows, group, wide, plane):
    """A g A' of tiles of 4x4, as `tiles_in`."""
    nothing = spread(T(0))
    for c in range(channels):
        for begin in range(0, rows, group):
            count = min(group, rows - begin)
            for r in range(count):
                image = (first + begin + r) // down
                top = 4 * (first + begin + r - image * down)
                source = at(g, ((image * channels + c) * height + top) * width)
                x1 = at(source, width) if top + 1 < height else zeros
                x2 = at(source, 2 * width) if top + 2 < height else zeros
                x3 = at(source, 3 * width) if top + 3 < height else zeros
                here = at(lines, LANES + 4 * r * across)
                for begun in range(0, width, LANES):
                    t = min(begun, width - LANES)
                    put(here, t, six_of_four(load(source, t), load(x1, t), load(x2, t), load(x3, t)))
                if width < 4 * across:
                    put(here, width, (nothing, nothing, nothing, nothing, nothing, nothing))
            place = c * wide + begin * across
            for t in range(0, count * across, LANES):
                for i in range(6):
                    a, b, c_, d = deal(lines, LANES + i * LINE + 4 * t)
                    planes(at(domain, 6 * i * plane + place + t), plane, six_of_four(a, b, c_, d))


@inline
def tiles_out(domain, bias, out, lines, channels, height, width, down, across, first, rows, group, wide, plane):
    """A' m A, plus a bias per channel unless null, into out: (images, channels, height, width >= LANES).

    Returns NaN where a result is not finite, else 0.
    """
    work, check = at(lines, MOVED), spread(T(0))
    for c in range(channels):
        shift = spread(T(0) if is_null(bias) else bias[c])
        for begin in range(0, rows, group):
            count = min(group, rows - begin)
            place = c * wide + begin * across
            for t in range(0, count * across, LANES):
                for j in range(6):
                    z = at(domain, j * plane + place + t)
                    m0, m1, m2 = load(z, 0), load(z, 6 * plane), load(z, 12 * plane)
                    m3, m4, m5 = load(z, 18 * plane), load(z, 24 * plane), load(z, 30 * plane)
                    v0, v1, v2, v3 = four(m0, m1, m2, m3, m4, m5)
                    store(work, 8 * j, v0)
                    store(work, 8 * j + 48, v1)
                    store(work, 8 * j + 96, v2)
                    store(work, 8 * j + 144, v3)
                for i in range(4):
                    z = at(work, 48 * i)
                    v0, v1, v2, v3 = four(load(z, 0), load(z, 8), load(z, 16), load(z, 24), load(z, 32), load(z, 40))
                    gather(lines, i * LINE + 4 * t, v0 + shift, v1 + shift, v2 + shift, v3 + shift)
            for r in range(count):
                image = (first + begin + r) // down
                top = 4 * (first + begin + r - image * down)
                target = at(out, ((image * channels + c) * height + top) * width)
                for i in range(min(4, height - top)):
                    line, row = at(lines, i * LINE + 4 * r * across), at(target, i * width)
                    for begun in range(0, width, LANES):
                        t = min(begun, width - LANES)
                        value = load(line, t)
                        store(row, t, value)
                        check = check + value * spread(T(0))
    return added(check)


@inline
def products(u, v, m, channels, deep, wide, tiles):
    """m = u v at each point. u: (36, deep / 4, channels, 4), v: (36, channels, wide), m: (36, deep, wide)."""
    for p in range(36):
        for t in range(0, tiles, 16):
            for o in range(0, deep, 4):
                w, z = at(u, (p * deep + o) * channels), at(v, p * channels * wide + t)
                a0, a1, a2, a3 = spread(T(0)), spread(T(0)), spread(T(0)), spread(T(0))
                b0, b1, b2, b3 = spread(T(0)), spread(T(0)), spread(T(0)), spread(T(0))
                for c in range(channels):
                    a, b = load(z, c * wide), load(z, c * wide + 8)
                    a0, b0 = a0 + spread(w[4 * c]) * a, b0 + spread(w[4 * c]) * b
                    a1, b1 = a1 + spread(w[4 * c + 1]) * a, b1 + spread(w[4 * c + 1]) * b
                    a2, b2 = a2 + spread(w[4 * c + 2]) * a, b2 + spread(w[4 * c + 2]) * b
                    a3, b3 = a3 + spread(w[4 * c + 3]) * a, b3 + spread(w[4 * c + 3]) * b
                r = at(m, (p * deep + o) * wide + t)
                store(r, 0, a0)
                store(r, 8, b0)
                store(r, wide, a1)
                store(r, wide + 8, b1)
                store(r, 2 * wide, a2)
                store(r, 2 * wide + 8, b2)
                store(r, 3 * wide, a3)
                store(r, 3 * wide + 8, b3)


@inline
def product_sums(m, v, sums, more, deep, channels, wide, tiles):
    """sums = m v', or += where there is more, at each point. m: (36, deep, wide), v: (36, channels, wide), sums: (36,
    deep / 4, channels / 2, 2, 4); channels even.
    """
    for p in range(36):
        for some in range(0, channels, 32):
            for o in range(0, deep, 4):
                for c in range(some, min(some + 32, channels), 2):
                    w, z = at(m, (p * deep + o) * wide), at(v, (p * channels + c) * wide)
                    a0, a1, a2, a3 = spread(T(0)), spread(T(0)), spread(T(0)), spread(T(0))
                    b0, b1, b2, b3 = spread(T(0)), spread(T(0)), spread(T(0)), spread(T(0))
                    for t in range(0, tiles, LANES):
                        a, b = load(z, t), load(z, t + wide)
                        g0, g1, g2, g3 = load(w, t), load(w, t + wide), load(w, t + 2 * wide), load(w, t + 3 * wide)
                        a0, b0 = a0 + g0 * a, b0 + g0 * b
                        a1, b1 = a1 + g1 * a, b1 + g1 * b
                        a2, b2 = a2 + g2 * a, b2 + g2 * b
                        a3, b3 = a3 + g3 * a, b3 + g3 * b
                    place = (p * deep + o) * channels + 4 * c
                    value = added_each(a0, a1, a2, a3, b0, b1, b2, b3)
                    store(sums, place, value + load(sums, place) if more else value)


@inline
def ended(domain, count, tiles, wide):
    """0 in the last vector of each row behind its tiles."""
    for row in range(count if tiles % LANES else 0):
        for t in range(tiles, (tiles + LANES - 1) // LANES * LANES):
            domain[row * wide + t] = T(0)


@kernel("f4* f4* f4* f4* f4* f4* f4* i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8")
def convolved(
    x, u, bias, out, checks, zeros, space, channels, height, width, low, results, deep, out_height, out_width,
    down, across, total, rows, group, wide, start, stop,
):  # fmt: skip
    """Blocks start to stop of a convolution; checks: one number for each, NaN where a result is not finite.

    u: (36, deep / 4, channels, 4); deep: `results`, rounded up to fours; total: rows of tiles in the batch;
    space: LINES numbers, and both arrays of the transformed domain.
    """
    v = at(space, LINES)
    m = at(v, 36 * channels * wide)
    for block in range(start, stop):
        first = block * rows
        count = min(rows, total - first)
        tiles_in(
            x, zeros, v, space, channels, height, width, low, down, across, first, count, group, wide, channels * wide
        )
        products(u, v, m, channels, deep, wide, count * across)
        checks[block] = tiles_out(
            m, bias, out, space, results, out_height, out_width, down, across, first, count, group, wide, deep * wide
        )


@kernel("f4* f4* f4* f4* f4* i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8")
def weight_sums(
    x, g, sums, zeros, space, channels, even, height, width, low, results, deep, out_height, out_width,
    down, across, total, rows, group, wide, start, stop,
):  # fmt: skip
    """sums (36, deep / 4, even / 2, 2, 4) of blocks start to stop; see `convolved`.

    even: `channels`, rounded up to twos.
    """
    v = at(space, LINES)
    m = at(v, 36 * even * wide)
    for block in range(start, stop):
        first = block * rows
        count = min(rows, total - first)
        tiles_in(x, zeros, v, space, channels, height, width, low, down, across, first, count, group, wide, even * wide)
        gradients_in(
            g, zeros, m, space, results, out_height, out_width, down, across, first, count, group, wide, deep * wide
        )
        ended(v, 36 * even, count * across, wide)
        ended(m, 36 * deep, count * across, wide)
        product_sums(m, v, sums, block > start, deep, even, wide, count * across)
