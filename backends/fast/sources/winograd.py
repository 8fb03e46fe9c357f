# mypy: ignore-errors
"""The transforms of Winograd's convolution F(4x4, 3x3): 16 outputs of a 3x3 kernel by 36 products instead of 144.

Y = A' [(K w K') * (B' d B)] A for a tile d of 6x6 inputs (A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural
Networks", 2016). The points are 0, +-5/8, +-3/2 and infinity instead of the paper's 0, +-1, +-2: the error is a fifth.

Tiles come in rows of `across`, and rows in a batch, image after image with `down` each; a block is `rows` of them from
`first` on. A block's arrays in the transformed domain are (36, channels, rows * across), their planes `plane` numbers
apart, at least LANES more than they hold: what a vector writes too much is overwritten by the next row. start and stop
count channels; `work` and `phases` are scratch memory of WORK and PHASES numbers, `phases` finite.

Columns first, along a row of the image; then the numbers are dealt out by their place in the tile, for as many rows as
make AHEAD tiles, so that small images fill vectors too. LLVM makes vectors of a loop whose distances are constants in
scratch memory and whose other targets are arguments of their own.
"""

from __future__ import annotations

from .language import T, at, is_null, kernel

A2, B2 = 25 / 64, 9 / 4  # squares of the points
A1, B1 = 5 / 8, 3 / 2
LANES, AHEAD = 8, 64
PHASE = 1048  # of a row of 1024 tiles, and of what is read behind it; no multiple of a page
ROW = 4 * PHASE
WORK, PHASES = 6 * ROW, 48 * PHASE


@kernel("f4* f4* f4* f4* f4* f4* f4* f4* f4* f4* i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8")
def tiles_in(
    x, zeros, o0, o1, o2, o3, o4, o5, work, phases,
    channels, height, width, low, down, across, first, rows, plane, start, stop,
):  # fmt: skip
    """B' d B. x: (images, channels, height, width), padded by `low` zeros; zeros: as many as x is wide.

    o0 to o5: the first six planes.
    """
    for i in range(6):
        for t in range(low):
            work[i * ROW + t] = T(0)
        for t in range(low + width, 4 * across + 4):
            work[i * ROW + t] = T(0)
    used = min(width, 4 * across + 2 - low)
    group = max(1, AHEAD // across)
    for c in range(start, stop):
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
                half = at(work, low)
                for t in range(used):
                    a, b, c_, d, e, f = x0[t], x1[t], x2[t], x3[t], x4[t], x5[t]
                    even, odd = e - T(B2) * c_, T(A1) * (d - T(B2) * b)
                    even2, odd2 = e - T(A2) * c_, T(B1) * (d - T(A2) * b)
                    half[t] = T(A2 * B2) * a - T(A2 + B2) * c_ + e
                    half[ROW + t] = even + odd
                    half[2 * ROW + t] = even - odd
                    half[3 * ROW + t] = even2 + odd2
                    half[4 * ROW + t] = even2 - odd2
                    half[5 * ROW + t] = T(A2 * B2) * b - T(A2 + B2) * d + f
                for i in range(6):
                    z, p = at(work, i * ROW), at(phases, 8 * i * PHASE + r * across)
                    for t in range(across):  # the last two are nobody's: whole groups of four make vectors
                        p[t] = z[4 * t]
                        p[PHASE + t] = z[4 * t + 1]
                        p[2 * PHASE + t] = z[4 * t + 2]
                        p[3 * PHASE + t] = z[4 * t + 3]
                        p[4 * PHASE + t] = z[4 * t + 4]
                        p[5 * PHASE + t] = z[4 * t + 5]
                        p[6 * PHASE + t] = z[4 * t + 6]
                        p[7 * PHASE + t] = z[4 * t + 7]
            lanes = (count * across + LANES - 1) // LANES * LANES
            for i in range(6):
                p, place = at(phases, 8 * i * PHASE), 6 * i * plane + (c * rows + begin) * across
                q0, q1, q2 = at(o0, place), at(o1, place), at(o2, place)
                q3, q4, q5 = at(o3, place), at(o4, place), at(o5, place)
                for t in range(lanes):
                    a, b, c_ = p[t], p[PHASE + t], p[2 * PHASE + t]
                    d, e, f = p[3 * PHASE + t], p[4 * PHASE + t], p[5 * PHASE + t]
                    even, odd = e - T(B2) * c_, T(A1) * (d - T(B2) * b)
                    even2, odd2 = e - T(A2) * c_, T(B1) * (d - T(A2) * b)
                    q0[t] = T(A2 * B2) * a - T(A2 + B2) * c_ + e
                    q1[t] = even + odd
                    q2[t] = even - odd
                    q3[t] = even2 + odd2
                    q4[t] = even2 - odd2
                    q5[t] = T(A2 * B2) * b - T(A2 + B2) * d + f


@kernel("f4* f4* f4* f4* f4* f4* f4* f4* f4* f4* i8 i8 i8 i8 i8 i8 i8 i8 i8 i8")
def gradients_in(
    g, zeros, o0, o1, o2, o3, o4, o5, work, phases,
    channels, height, width, down, across, first, rows, plane, start, stop,
):  # fmt: skip
    """A g A' of tiles of 4x4, as `tiles_in`."""
    for i in range(6):
        for t in range(width, 4 * across):
            work[i * ROW + t] = T(0)
    group = max(1, AHEAD // across)
    for c in range(start, stop):
        for begin in range(0, rows, group):
            count = min(group, rows - begin)
            for r in range(count):
                image = (first + begin + r) // down
                top = 4 * (first + begin + r - image * down)
                source = at(g, ((image * channels + c) * height + top) * width)
                x1 = at(source, width) if top + 1 < height else zeros
                x2 = at(source, 2 * width) if top + 2 < height else zeros
                x3 = at(source, 3 * width) if top + 3 < height else zeros
                for t in range(width):
                    a, b, c_, d = source[t], x1[t], x2[t], x3[t]
                    even, odd = a + T(A2) * c_, T(A1) * (b + T(A2) * d)
                    even2, odd2 = a + T(B2) * c_, T(B1) * (b + T(B2) * d)
                    work[t] = a
                    work[ROW + t] = even + odd
                    work[2 * ROW + t] = even - odd
                    work[3 * ROW + t] = even2 + odd2
                    work[4 * ROW + t] = even2 - odd2
                    work[5 * ROW + t] = d
                for i in range(6):
                    z, p = at(work, i * ROW), at(phases, 4 * i * PHASE + r * across)
                    for t in range(across):
                        p[t] = z[4 * t]
                        p[PHASE + t] = z[4 * t + 1]
                        p[2 * PHASE + t] = z[4 * t + 2]
                        p[3 * PHASE + t] = z[4 * t + 3]
            lanes = (count * across + LANES - 1) // LANES * LANES
            for i in range(6):
                p, place = at(phases, 4 * i * PHASE), 6 * i * plane + (c * rows + begin) * across
                q0, q1, q2 = at(o0, place), at(o1, place), at(o2, place)
                q3, q4, q5 = at(o3, place), at(o4, place), at(o5, place)
                for t in range(lanes):
                    a, b, c_, d = p[t], p[PHASE + t], p[2 * PHASE + t], p[3 * PHASE + t]
                    even, odd = a + T(A2) * c_, T(A1) * (b + T(A2) * d)
                    even2, odd2 = a + T(B2) * c_, T(B1) * (b + T(B2) * d)
                    q0[t] = a
                    q1[t] = even + odd
                    q2[t] = even - odd
                    q3[t] = even2 + odd2
                    q4[t] = even2 - odd2
                    q5[t] = d


@kernel("f4* f4* f4* f4* f4* f4* i8 i8 i8 i8 i8 i8 i8 i8 i8 i8", sums=True)
def tiles_out(
    domain, bias, out, checks, work, line, channels, height, width, down, across, first, rows, plane, start, stop
):
    """A' m A, plus a bias per channel unless null, into out: (images, channels, height, width).

    checks: (channels), NaN where a result is not finite, else 0. work: WORK numbers; line: PHASES.
    """
    group = max(1, AHEAD // across)
    for c in range(start, stop):
        shift = T(0) if is_null(bias) else bias[c]
        check = T(0)
        for begin in range(0, rows, group):
            count = min(group, rows - begin)
            lanes = (count * across + LANES - 1) // LANES * LANES
            for j in range(6):  # planes (6, 6) -> work (4, 6)
                z, o = at(domain, j * plane + (c * rows + begin) * across), at(work, j * PHASE)
                z1, z2, z3 = at(z, 6 * plane), at(z, 12 * plane), at(z, 18 * plane)
                z4, z5 = at(z, 24 * plane), at(z, 30 * plane)
                for t in range(lanes):
                    b, c_, d, e = z1[t], z2[t], z3[t], z4[t]
                    plus, minus, plus2, minus2 = b + c_, T(A1) * (b - c_), d + e, T(B1) * (d - e)
                    o[t] = z[t] + plus + plus2
                    o[6 * PHASE + t] = minus + minus2
                    o[12 * PHASE + t] = T(A2) * plus + T(B2) * plus2
                    o[18 * PHASE + t] = T(A2) * minus + T(B2) * minus2 + z5[t]
            for i in range(4):
                h, o = at(work, 6 * i * PHASE), at(line, i * ROW)
                for t in range(lanes):
                    b, c_, d, e = h[PHASE + t], h[2 * PHASE + t], h[3 * PHASE + t], h[4 * PHASE + t]
                    plus, minus, plus2, minus2 = b + c_, T(A1) * (b - c_), d + e, T(B1) * (d - e)
                    o[4 * t] = h[t] + plus + plus2 + shift
                    o[4 * t + 1] = minus + minus2 + shift
                    o[4 * t + 2] = T(A2) * plus + T(B2) * plus2 + shift
                    o[4 * t + 3] = T(A2) * minus + T(B2) * minus2 + h[5 * PHASE + t] + shift
            for r in range(count):
                image = (first + begin + r) // down
                top = 4 * (first + begin + r - image * down)
                target = at(out, ((image * channels + c) * height + top) * width)
                for i in range(min(4, height - top)):
                    o, place = at(line, i * ROW + 4 * r * across), i * width
                    for t in range(width):
                        target[place + t] = o[t]
                        check += o[t] * T(0)
        checks[c] = check
