# mypy: ignore-errors
"""What is made of many small matrix products: recurrent layers and attention, forward and backward.

Products take their second factor as panels: y (K, N) is cut into panels of `wide` columns, 64 bytes, each row-major,
the last one filled up with zeros. A panel's row is read once for up to six rows of x, whose sums stay in registers.
What a product gives has rows of `span` numbers, a multiple of `wide`.

Recurrent layers: one call goes through all steps of some rows of the state, which never meet (start to stop). A step is
a product and, in one pass, all pointwise work. `steps` has the first row and the number of rows of each step, in the
order of work; row i of the state and row first + i of the arrays of all steps belong together. n: the state's width.
Gates that are written lie side by side in a row and have a pointer each, from which it is known that they are apart;
each is read through its own pointer too.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .language import T, at, inline, inline_sums, is_null, kernel, maximum
from .maths import exp, exp_down, sigmoid, tanh

# ---- products

HALF = 32  # bytes: a vector of AVX2, two of which are a panel's row


def _tile(count: int) -> Any:
    """out[r] = sum over i of x[r][i] * panel[i], plus what out was if `keep`, for `count` rows; k > 0.

    Rows of x and out lie x_row and out_row apart, the numbers of a row of x x_step.
    """

    def tile(
        context: Any, x: Any, x_row: Any, x_step: Any, panel: Any, out: Any, out_row: Any, k: Any, keep: Any
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            x, x_row, x_step, panel, out, out_row, k, keep = args
            number, word = context.get_value_type(sig.args[0].dtype), ir.IntType(64)
            size = sig.args[0].dtype.bitwidth // 8
            lanes = HALF // size
            vector, index = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(32), lanes)
            zero, empty = ir.Constant(vector, [0.0] * lanes), ir.Constant(vector, ir.Undefined)
            wide = ir.PointerType(vector)

            def place(array: Any, offset: Any) -> Any:
                return builder.bitcast(builder.gep(array, [offset]), wide)

            rows = [builder.gep(x, [builder.mul(x_row, word(r))]) for r in range(count)]
            targets = [
                place(out, builder.add(builder.mul(out_row, word(r)), word(h * lanes)))
                for r in range(count) for h in range(2)
            ]  # fmt: skip
            kept = builder.icmp_signed("!=", keep, word(0))
            begin = [builder.select(kept, builder.load(target, align=size), zero) for target in targets]
            before, loop, done = builder.block, builder.append_basic_block("tile"), builder.append_basic_block("tiled")
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(word)
            sums = [builder.phi(vector) for _ in targets]
            both = [
                builder.load(place(panel, builder.add(builder.mul(i, word(2 * lanes)), word(h * lanes))), align=size)
                for h in range(2)
            ]
            found = []
            for r, row in enumerate(rows):
                loaded = builder.load(builder.gep(row, [builder.mul(i, x_step)]))
                one = builder.insert_element(empty, loaded, ir.IntType(32)(0))
                spread = builder.shuffle_vector(one, empty, ir.Constant(index, [0] * lanes))
                for h in range(2):
                    product = builder.fmul(spread, both[h], flags=("contract",))
                    found.append(builder.fadd(product, sums[2 * r + h], flags=("contract",)))
            following = builder.add(i, word(1))
            for phi, first, later in zip([i, *sums], [word(0), *begin], [following, *found], strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(later, loop)
            builder.cbranch(builder.icmp_signed("<", following, k), loop, done)
            builder.position_at_end(done)
            for target, value in zip(targets, found, strict=True):
                builder.store(value, target, align=size)
            return context.get_dummy_value()

        step = types.intp
        return types.none(x, step, step, panel, out, step, step, step), generate

    return intrinsic(tile)


tile1, tile2, tile3, tile4, tile5, tile6 = (_tile(n) for n in range(1, 7))


@inline
def product(x, x_row, x_step, k, panels, depth, out, span, rows, columns, wide, keep):
    """x (rows, k) times the first k rows and some columns (whole panels) of `panels`, which have `depth` rows.

    To the first columns of out (rows, span), or (keep) added to them.
    """
    for first in range(0, columns, wide):
        panel, r = at(panels, first * depth), 0
        while r < rows:
            left = rows - r
            count = left if left <= 6 else 6 if left > 11 else (left + 1) // 2  # the last two of nearly one size
            a, c = at(x, r * x_row), at(out, r * span + first)
            if count == 6:
                tile6(a, x_row, x_step, panel, c, span, k, keep)
            elif count == 5:
                tile5(a, x_row, x_step, panel, c, span, k, keep)
            elif count == 4:
                tile4(a, x_row, x_step, panel, c, span, k, keep)
            elif count == 3:
                tile3(a, x_row, x_step, panel, c, span, k, keep)
            elif count == 2:
                tile2(a, x_row, x_step, panel, c, span, k, keep)
            else:
                tile1(a, x_row, x_step, panel, c, span, k, keep)
            r += count


@inline
def all_columns(x, x_row, k, panels, depth, out, span, rows, wide, keep):
    """`product` with all columns, of an x whose rows are contiguous."""
    product(x, x_row, 1, k, panels, depth, out, span, rows, span, wide, keep)


@inline
def pack_panels(y, panels, depth, columns, row_step, column_step, wide):
    """Panels of y (depth, columns), whose numbers lie row_step and column_step apart."""
    for first in range(0, columns, wide):
        panel, count = at(panels, first * depth), min(wide, columns - first)
        source = at(y, first * column_step)
        if count < wide:
            for i in range(depth * wide):
                panel[i] = T(0)
        if column_step == 1:
            for i in range(depth):
                for j in range(count):
                    panel[i * wide + j] = source[i * row_step + j]
        else:
            for j in range(count):
                for i in range(depth):
                    panel[i * wide + j] = source[i * row_step + j * column_step]


@kernel("T* T* i8 i8 i8 i8 i8 i8 i8")
def pack(y, panels, depth, columns, row_step, column_step, wide, start, stop):
    """The panels start to stop."""
    first = start * wide
    count = min(stop * wide, columns) - first
    pack_panels(at(y, first * column_step), at(panels, first * depth), depth, count, row_step, column_step, wide)


# ---- rows


@inline
def add_row(x, y, n):
    for j in range(n):
        x[j] += y[j]


@inline
def copy_row(x, y, n):
    for j in range(n):
        y[j] = x[j]


@inline
def take_over(state, new, kept, n):
    """The state that a step began with is kept, the new one takes its place."""
    for j in range(n):
        kept[j] = state[j]
        state[j] = new[j]


# ---- long short-term memory


@inline
def lstm_row(y, x, i_, f_, g_, o_, cell, before, shown, new, n):
    for j in range(n):
        i, f = sigmoid(y[j] + x[j]), sigmoid(y[n + j] + x[n + j])
        g, o = tanh(y[2 * n + j] + x[2 * n + j]), sigmoid(y[3 * n + j] + x[3 * n + j])
        i_[j] = i
        f_[j] = f
        g_[j] = g
        o_[j] = o
        old = cell[j]
        before[j] = old
        both = f * old + i * g
        cell[j] = both
        seen = tanh(both)
        shown[j] = seen
        new[j] = o * seen


@kernel("T* T* T* T* T* T* T* T* T* T* T* T* T* T* T* T* i8* i8 i8 i8 i8 i8 i8 i8 i8")
def lstm_forward(
    w, y, x, zi, zf, zg, zo, c, kept_c, shown, h, kept_h, out, r, full, v,
    steps, count, n, p, span, short, wide, start, stop,
):  # fmt: skip
    """z: the activations; x: the input's part; w, r: panels of w^T (p, 4 n) and r^T (n, p) or null, when p = n.

    y (B, span), full (B, n), v (B, short): scratch memory, the last two null with r.
    """
    for s in range(count):
        first, high = steps[2 * s], min(steps[2 * s + 1], stop)
        if high <= start:
            continue
        all_columns(at(h, start * p), p, p, w, p, at(y, start * span), span, high - start, wide, 0)
        for row in range(start, high):
            t, own = first + row, row * n
            new = at(out, t * n) if is_null(r) else at(full, own)
            lstm_row(
                at(y, row * span), at(x, 4 * t * n), at(zi, 4 * t * n), at(zf, 4 * t * n), at(zg, 4 * t * n),
                at(zo, 4 * t * n), at(c, own), at(kept_c, t * n), at(shown, t * n), new, n,
            )  # fmt: skip
        if not is_null(r):
            all_columns(at(full, start * n), n, n, r, n, at(v, start * short), short, high - start, wide, 0)
            for row in range(start, high):
                copy_row(at(v, row * short), at(out, (first + row) * p), p)
        for row in range(start, high):
            take_over(at(h, row * p), at(out, (first + row) * p), at(kept_h, (first + row) * p), p)


@inline
def lstm_row_backward(i_, f_, g_, o_, a, before, shown, arriving, cell, n):
    for j in range(n):
        i, f, new, o, seen, dh = a[j], a[n + j], a[2 * n + j], a[3 * n + j], shown[j], arriving[j]
        dc = cell[j] + dh * o * (T(1) - seen * seen)
        i_[j] = dc * new * (i * (T(1) - i))
        f_[j] = dc * before[j] * (f * (T(1) - f))
        g_[j] = dc * i * (T(1) - new * new)
        o_[j] = dh * seen * (o * (T(1) - o))
        cell[j] = dc * f


@kernel("T* T* T* T* T* T* T* T* T* T* T* T* T* T* i8* i8 i8 i8 i8 i8 i8 i8 i8")
def lstm_backward(
    w, zi, zf, zg, zo, a, kept_c, shown, d, g, e, r, arrived, full,
    steps, count, n, p, span, short, wide, start, stop,
):  # fmt: skip
    """z: the gates' gradients; w, r: panels of w (4 n, p) and r (p, n) or null.

    d (B, span), g: what arrives at the output, from the next step and from outside (or null); e: at the cell. With r,
    what arrives in all is kept in `arrived`; full (B, short): scratch memory.
    """
    for s in range(count):
        first, high = steps[2 * s], min(steps[2 * s + 1], stop)
        if high <= start:
            continue
        for row in range(start, high):
            if not is_null(g):
                add_row(at(d, row * span), at(g, (first + row) * p), p)
            if not is_null(r):
                copy_row(at(d, row * span), at(arrived, (first + row) * p), p)
        if not is_null(r):
            all_columns(at(d, start * span), span, p, r, p, at(full, start * short), short, high - start, wide, 0)
        for row in range(start, high):
            t = first + row
            arriving = at(d, row * span) if is_null(r) else at(full, row * short)
            lstm_row_backward(
                at(zi, 4 * t * n), at(zf, 4 * t * n), at(zg, 4 * t * n), at(zo, 4 * t * n), at(a, 4 * t * n),
                at(kept_c, t * n), at(shown, t * n), arriving, at(e, row * n), n,
            )  # fmt: skip
        own, target, part = 4 * (first + start) * n, at(d, start * span), n * wide
        all_columns(at(zi, own), 4 * n, n, w, 4 * n, target, span, high - start, wide, 0)
        all_columns(at(zf, own), 4 * n, n, at(w, part), 4 * n, target, span, high - start, wide, 1)
        all_columns(at(zg, own), 4 * n, n, at(w, 2 * part), 4 * n, target, span, high - start, wide, 1)
        all_columns(at(zo, own), 4 * n, n, at(w, 3 * part), 4 * n, target, span, high - start, wide, 1)


# ---- gated recurrent unit


@inline
def gru_row(r_, z_, n_, x, y, mid, state, new, n):
    for j in range(n):
        r, z, v = sigmoid(x[j] + y[j]), sigmoid(x[n + j] + y[n + j]), y[2 * n + j]
        t = tanh(x[2 * n + j] + r * v)
        r_[j] = r
        z_[j] = z
        n_[j] = t
        mid[j] = v
        new[j] = t + z * (state[j] - t)


@kernel("T* T* T* T* T* T* T* T* T* T* T* i8* i8 i8 i8 i8 i8 i8")
def gru_forward(w, y, x, b, ar, az, an, inner, h, kept_h, out, steps, count, n, span, wide, start, stop):
    """a: the activations; x: the input's part; w: panels of w^T (n, 3 n). y: scratch memory (B, span).

    b (3 n,): added to h w^T unless null.
    """
    for s in range(count):
        first, high = steps[2 * s], min(steps[2 * s + 1], stop)
        if high <= start:
            continue
        all_columns(at(h, start * n), n, n, w, n, at(y, start * span), span, high - start, wide, 0)
        for row in range(start, high):
            t, hidden = first + row, at(y, row * span)
            if not is_null(b):
                add_row(hidden, b, 3 * n)
            gru_row(
                at(ar, 3 * t * n), at(az, 3 * t * n), at(an, 3 * t * n), at(x, 3 * t * n), hidden, at(inner, t * n),
                at(h, row * n), at(out, t * n), n,
            )  # fmt: skip
            take_over(at(h, row * n), at(out, t * n), at(kept_h, t * n), n)


@inline
def gru_row_backward(r_, z_, n_, hr, hz, hn, a, mid, before, arriving, n):
    for j in range(n):
        r, z, new, dh = a[j], a[n + j], a[2 * n + j], arriving[j]
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


@kernel("T* T* T* T* T* T* T* T* T* T* T* T* i8* i8 i8 i8 i8 i8 i8")
def gru_backward(
    w, xr, xz, xn, yr, yz, yn, a, inner, kept_h, d, g, steps, count, n, span, wide, start, stop,
):  # fmt: skip
    """x, y: gradients of the input's part and of h w^T + b; w: panels of w (3 n, n). d, g: as in lstm_backward."""
    for s in range(count):
        first, high = steps[2 * s], min(steps[2 * s + 1], stop)
        if high <= start:
            continue
        for row in range(start, high):
            t, arriving = first + row, at(d, row * span)
            if not is_null(g):
                add_row(arriving, at(g, t * n), n)
            gru_row_backward(
                at(xr, 3 * t * n), at(xz, 3 * t * n), at(xn, 3 * t * n), at(yr, 3 * t * n), at(yz, 3 * t * n),
                at(yn, 3 * t * n), at(a, 3 * t * n), at(inner, t * n), at(kept_h, t * n), arriving, n,
            )  # fmt: skip
        own, target, part = 3 * (first + start) * n, at(d, start * span), n * wide
        all_columns(at(yr, own), 3 * n, n, w, 3 * n, target, span, high - start, wide, 1)
        all_columns(at(yz, own), 3 * n, n, at(w, part), 3 * n, target, span, high - start, wide, 1)
        all_columns(at(yn, own), 3 * n, n, at(w, 2 * part), 3 * n, target, span, high - start, wide, 1)


# ---- plain recurrence


@kernel("T* T* T* T* T* T* i8* i8 i8 i8 i8 i8 i8 i8")
def rnn_forward(w, y, x, h, kept_h, out, steps, count, n, span, wide, relu, start, stop):
    """x: the input's part; w: panels of w^T (n, n). y: scratch memory (B, span)."""
    for s in range(count):
        first, high = steps[2 * s], min(steps[2 * s + 1], stop)
        if high <= start:
            continue
        all_columns(at(h, start * n), n, n, w, n, at(y, start * span), span, high - start, wide, 0)
        for row in range(start, high):
            hidden, outside, new = at(y, row * span), at(x, (first + row) * n), at(out, (first + row) * n)
            if relu:
                for j in range(n):
                    v = hidden[j] + outside[j]
                    new[j] = T(0) if v < T(0) else v
            else:
                for j in range(n):
                    new[j] = tanh(hidden[j] + outside[j])
            take_over(at(h, row * n), new, at(kept_h, (first + row) * n), n)


@kernel("T* T* T* T* T* i8* i8 i8 i8 i8 i8 i8 i8")
def rnn_backward(w, z, out, d, g, steps, count, n, span, wide, relu, start, stop):
    """z: the gates' gradient; w: panels of w (n, n); out: the step's output; d, g: as in lstm_backward."""
    for s in range(count):
        first, high = steps[2 * s], min(steps[2 * s + 1], stop)
        if high <= start:
            continue
        for row in range(start, high):
            t, arriving = (first + row) * n, at(d, row * span)
            if not is_null(g):
                add_row(arriving, at(g, t), n)
            target, new = at(z, t), at(out, t)
            if relu:
                for j in range(n):
                    target[j] = T(0) if new[j] <= T(0) else arriving[j]
            else:
                for j in range(n):
                    target[j] = arriving[j] * (T(1) - new[j] * new[j])
        own = at(z, (first + start) * n)
        all_columns(own, n, n, w, n, at(d, start * span), span, high - start, wide, 0)


# ---- attention
#
# start and stop count the heads of all batches. q: (B, heads, length, depth), k: (.., columns, depth), v: (.., columns,
# width) have contiguous rows; `steps`: the strides of the other dimensions, array after array. With causal = 1 query i
# sees the keys up to i, else all. Each thread does `per` heads at most and has `room` numbers of scratch memory.

BLOCK = 48  # queries that are worked on together: their scores stay in the cache


@inline
def whole(n, wide):
    return (n + wide - 1) // wide * wide


@inline
def of_head(x, steps, array, b, h):
    return at(x, b * steps[3 * array] + h * steps[3 * array + 1])


@inline_sums
def highest(x, width):
    top = x[0]
    for j in range(width):
        top = maximum(top, x[j])
    return top


@inline_sums
def weigh(row, keep, top, total, scale, seen, columns):
    """A row becomes softmax(row * scale) keep, zeros from `seen` on; keep may be null. top, total: its maximum and sum
    of exponentials."""
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
    top[0] = high
    total[0] = sum_
    if is_null(keep):
        for j in range(seen):
            row[j] = row[j] * factor
    else:
        for j in range(seen):
            row[j] = row[j] * factor * keep[j]
    for j in range(seen, columns):
        row[j] = T(0)


@kernel("T* T* T* T* T* T* T* T* i8* T i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8", sums=True)
def attention_forward(
    q, k, v, keep, out, top, total, work, steps, scale,
    heads, length, columns, depth, width, causal, wide, room, per, start, stop,
):  # fmt: skip
    """out = softmax(scale q k^T) keep v; steps: of q, k, v, out. keep (B, heads, length, columns): or null."""
    span, deep = whole(columns, wide), whole(width, wide)
    keys = at(work, start // per * room)
    values = at(keys, span * depth)
    s = at(values, deep * columns)
    o = at(s, BLOCK * span)
    for head in range(start, stop):
        b, h = head // heads, head % heads
        queries, results = of_head(q, steps, 0, b, h), of_head(out, steps, 3, b, h)
        pack_panels(of_head(k, steps, 1, b, h), keys, depth, columns, 1, steps[5], wide)
        pack_panels(of_head(v, steps, 2, b, h), values, columns, width, steps[8], 1, wide)
        for first in range(0, length, BLOCK):
            rows = min(BLOCK, length - first)
            end = min(first + rows, columns) if causal else columns
            broad = whole(end, wide)
            product(at(queries, first * steps[2]), steps[2], 1, depth, keys, depth, s, span, rows, broad, wide, 0)
            for r in range(rows):
                i = head * length + first + r
                seen = min(first + r + 1, columns) if causal else columns
                kept = keep if is_null(keep) else at(keep, i * columns)
                weigh(at(s, r * span), kept, at(top, i), at(total, i), scale, seen, broad)
            all_columns(s, span, end, values, columns, o, deep, rows, wide, 0)
            for r in range(rows):
                copy_row(at(o, r * deep), at(results, (first + r) * steps[11]), width)


@inline_sums
def dot(x, y, n):
    total = T(0)
    for j in range(n):
        total += x[j] * y[j]
    return total


@inline
def weights_and_slopes(row, slope, keep, level, share, scale, seen, columns):
    """From scores and the gradient of the weights: the weights times keep (may be null), and the gradient of the scores
    before scaling, (slope keep - share) weights scale."""
    if is_null(keep):
        for j in range(seen):
            p = exp(row[j] * scale - level)
            row[j] = p
            slope[j] = (slope[j] - share) * (p * scale)
    else:
        for j in range(seen):
            p = exp(row[j] * scale - level)
            row[j] = p * keep[j]
            slope[j] = (slope[j] * keep[j] - share) * (p * scale)
    for j in range(seen, columns):
        row[j] = T(0)
        slope[j] = T(0)


@kernel("T* T* T* T* T* T* T* T* T* T* T* i8* T i8 i8 i8 i8 i8 i8 i8 i8 i8 i8 i8", sums=True)
def attention_backward(
    q, k, v, g, out, keep, lse, gq, gk, gv, work, steps, scale,
    heads, length, columns, depth, width, causal, wide, room, per, start, stop,
):  # fmt: skip
    """gq, gk, gv may be null; steps: of q, k, v, g, out, gq, gk, gv. lse: (B, heads, length)."""
    span, short, deep = whole(columns, wide), whole(depth, wide), whole(width, wide)
    keys_t = at(work, start // per * room)
    values_t = at(keys_t, span * depth)
    keys, queries = at(values_t, span * width), at(values_t, span * width + short * columns)
    grads = at(queries, short * length)
    s = at(grads, deep * length)
    d = at(s, BLOCK * span)
    dq = at(d, BLOCK * span)
    dk = at(dq, BLOCK * short)
    dv = at(dk, columns * short)
    for head in range(start, stop):
        b, h = head // heads, head % heads
        q_, k_, v_ = of_head(q, steps, 0, b, h), of_head(k, steps, 1, b, h), of_head(v, steps, 2, b, h)
        g_, out_ = of_head(g, steps, 3, b, h), of_head(out, steps, 4, b, h)
        pack_panels(k_, keys_t, depth, columns, 1, steps[5], wide)
        pack_panels(v_, values_t, width, columns, 1, steps[8], wide)
        pack_panels(k_, keys, columns, depth, steps[5], 1, wide)
        pack_panels(q_, queries, length, depth, steps[2], 1, wide)
        pack_panels(g_, grads, length, width, steps[11], 1, wide)
        for j in range(columns * (short + deep)):
            dk[j] = T(0)
        for first in range(0, length, BLOCK):
            rows = min(BLOCK, length - first)
            end = min(first + rows, columns) if causal else columns
            broad = whole(end, wide)
            product(at(q_, first * steps[2]), steps[2], 1, depth, keys_t, depth, s, span, rows, broad, wide, 0)
            product(at(g_, first * steps[11]), steps[11], 1, width, values_t, width, d, span, rows, broad, wide, 0)
            for r in range(rows):
                i = head * length + first + r
                seen = min(first + r + 1, columns) if causal else columns
                kept = keep if is_null(keep) else at(keep, i * columns)
                share = dot(at(g_, (first + r) * steps[11]), at(out_, (first + r) * steps[14]), width)
                weights_and_slopes(at(s, r * span), at(d, r * span), kept, lse[i], share, scale, seen, broad)
            if not is_null(gq):
                all_columns(d, span, end, keys, columns, dq, short, rows, wide, 0)
                for r in range(rows):
                    copy_row(at(dq, r * short), at(of_head(gq, steps, 5, b, h), (first + r) * steps[17]), depth)
            if not is_null(gk):
                product(d, 1, span, rows, at(queries, first * wide), length, dk, short, end, short, wide, 1)
            if not is_null(gv):
                product(s, 1, span, rows, at(grads, first * wide), length, dv, deep, end, deep, wide, 1)
        for j in range(columns):
            if not is_null(gk):
                copy_row(at(dk, j * short), at(of_head(gk, steps, 6, b, h), j * steps[20]), depth)
            if not is_null(gv):
                copy_row(at(dv, j * deep), at(of_head(gv, steps, 7, b, h), j * steps[23]), width)
