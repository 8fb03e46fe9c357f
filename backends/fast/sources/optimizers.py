# mypy: ignore-errors
"""The optimizers' formulas, each in one pass over a parameter, its gradient and its state; see ../../../optim/.

sign: -1 to maximise. l2: weight decay added to the gradient. decay: what the parameter is first multiplied by. rest:
1 - beta, which a float32 beta has lost the digits of.
"""

from __future__ import annotations

from .language import T, inline, is_null, kernel, sqrt


@inline
def steered(g, p, sign, l2):
    """The gradient to go by."""
    h = g * sign
    return h + p * l2 if l2 != T(0) else h


@kernel("T* T* T* T* T* T T T T T T T T T i8 i8")
def adam(p, g, m, v, top, sign, l2, decay, rest1, beta2, rest2, inverse_root, eps, rate, start, stop):
    """top may be null (no amsgrad). rate: lr / (1 - beta1**step). inverse_root: (1 - beta2**step)**-0.5."""
    if is_null(top):
        for i in range(start, stop):
            x = p[i]
            h = steered(g[i], x, sign, l2)
            mean = m[i] + (h - m[i]) * rest1
            square = v[i] * beta2 + h * h * rest2
            m[i] = mean
            v[i] = square
            p[i] = x * decay - rate * mean / (sqrt(square) * inverse_root + eps)
    else:
        for i in range(start, stop):
            x = p[i]
            h = steered(g[i], x, sign, l2)
            mean = m[i] + (h - m[i]) * rest1
            square = v[i] * beta2 + h * h * rest2
            m[i] = mean
            v[i] = square
            high = square if square > top[i] or square != square else top[i]
            top[i] = high
            p[i] = x * decay - rate * mean / (sqrt(high) * inverse_root + eps)


@kernel("T* T* T T T i8 i8")
def sgd(p, g, sign, l2, lr, start, stop):
    for i in range(start, stop):
        p[i] -= steered(g[i], p[i], sign, l2) * lr


@kernel("T* T* T* T T T T T T T i8 i8")
def sgd_momentum(p, g, b, sign, l2, lr, momentum, share, old, new, start, stop):
    """b = momentum b + share h; p -= lr (new h + old b): old 1 and new 0, with nesterov momentum and 1."""
    for i in range(start, stop):
        h = steered(g[i], p[i], sign, l2)
        c = b[i] * momentum + h * share if momentum != T(0) else h
        b[i] = c
        p[i] -= lr * (h * new + c * old if new != T(0) else c)


@kernel("T* T* T* T* T* T T T T T T T i8 i8")
def rmsprop(p, g, v, b, mean, sign, l2, lr, alpha, rest, eps, momentum, start, stop):
    """b (momentum) and mean (centered) may be null."""
    for i in range(start, stop):
        h = steered(g[i], p[i], sign, l2)
        square = v[i] * alpha + h * h * rest
        v[i] = square
        if not is_null(mean):
            c = mean[i] + (h - mean[i]) * rest
            mean[i] = c
            square = square - c * c
        step = h / (sqrt(square) + eps)
        if not is_null(b):
            step = b[i] * momentum + step
            b[i] = step
        p[i] -= lr * step


@kernel("T* T* T* T T T T i8 i8")
def adagrad(p, g, s, sign, l2, rate, eps, start, stop):
    for i in range(start, stop):
        h = steered(g[i], p[i], sign, l2)
        square = s[i] + h * h
        s[i] = square
        p[i] -= rate * h / (sqrt(square) + eps)


@kernel("T* T* T* T* T T T T T T i8 i8")
def adamax(p, g, m, u, sign, l2, rest1, beta2, eps, rate, start, stop):
    for i in range(start, stop):
        h = steered(g[i], p[i], sign, l2)
        mean = m[i] + (h - m[i]) * rest1
        m[i] = mean
        size, old = abs(h) + eps, u[i] * beta2
        high = size if size > old or size != size else old
        u[i] = high
        p[i] -= rate * mean / high


@kernel("T* T* T* T* T T T T T T i8 i8")
def adadelta(p, g, v, d, sign, l2, lr, rho, rest, eps, start, stop):
    for i in range(start, stop):
        h = steered(g[i], p[i], sign, l2)
        square = v[i] * rho + h * h * rest
        v[i] = square
        delta = sqrt(d[i] + eps) / sqrt(square + eps) * h
        d[i] = d[i] * rho + delta * delta * rest
        p[i] -= lr * delta


@kernel("T* T* T* T* T T T T T T T T T T i8 i8")
def nadam(p, g, m, v, sign, l2, decay, rest1, beta2, rest2, inverse_square, eps, rate, next_rate, start, stop):
    """inverse_square: 1 / (1 - beta2**step). rate, next_rate: of the gradient and of its mean."""
    for i in range(start, stop):
        x = p[i]
        h = steered(g[i], x, sign, l2)
        mean = m[i] + (h - m[i]) * rest1
        square = v[i] * beta2 + h * h * rest2
        m[i] = mean
        v[i] = square
        p[i] = x * decay - (rate * h + next_rate * mean) / (sqrt(square * inverse_square) + eps)


@kernel("T* T* T* T* T T T T T T T T T i8 i8")
def radam(p, g, m, v, sign, l2, decay, rest1, beta2, rest2, eps, rate, rectified, start, stop):
    """rectified: 0 while the variance is not yet to be used, else its factor times (1 - beta2**step)**0.5."""
    for i in range(start, stop):
        x = p[i]
        h = steered(g[i], x, sign, l2)
        mean = m[i] + (h - m[i]) * rest1
        square = v[i] * beta2 + h * h * rest2
        m[i] = mean
        v[i] = square
        step = mean * rate
        p[i] = x * decay - (step if rectified == T(0) else step * rectified / (sqrt(square) + eps))
