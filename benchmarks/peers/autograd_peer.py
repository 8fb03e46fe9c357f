"""HIPS autograd: NumPy programs and value_and_grad; the updates are NumPy's, as in its examples.

Convolution is left out: autograd has none but a correlation of two whole arrays (autograd.scipy.signal).
"""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.misc import flatten

from autograd import make_hvp, value_and_grad

from ..workloads.common import Step, initial, integers, normal
from ..workloads.sequence import random_trees
from . import shapes
from .shapes import Shapes

Parameters = dict[str, Any]


def parameters(named: Shapes) -> Parameters:
    return {name: value for (name, _), value in zip(named, initial(named), strict=True)}


def linear(p: Parameters, name: str, x: Any) -> Any:
    out = anp.dot(x, p[f"{name}.weight"].T)
    return out + p[f"{name}.bias"] if f"{name}.bias" in p else out


def log_softmax(logits: Any) -> Any:
    shifted = logits - anp.max(logits, axis=-1, keepdims=True)
    return shifted - anp.log(anp.sum(anp.exp(shifted), axis=-1, keepdims=True))


def cross_entropy(logits: Any, wanted: Any) -> Any:
    return -anp.mean(log_softmax(logits)[np.arange(len(wanted)), wanted])


def sigmoid(x: Any) -> Any:
    return 0.5 * (anp.tanh(0.5 * x) + 1.0)


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    centred = x - anp.mean(x, axis=-1, keepdims=True)
    return centred / anp.sqrt(anp.mean(centred * centred, axis=-1, keepdims=True) + np.float32(1e-5)) * w + b


def normed(p: Parameters, name: str, x: Any) -> Any:
    return layer_norm(x, p[f"{name}.weight"], p[f"{name}.bias"])


def sgd(p: Parameters, lr: float) -> Any:
    def update(g: Parameters) -> None:
        for name in p:
            p[name] = p[name] - np.float32(lr) * g[name]

    return update


def adam(p: Parameters, lr: float, decay: float = 0.0, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    m, v = ({name: np.zeros_like(value) for name, value in p.items()} for _ in range(2))
    count = 0

    def update(g: Parameters) -> None:
        nonlocal count
        count += 1
        for name in p:
            m[name] = b1 * m[name] + (1 - b1) * g[name]
            v[name] = b2 * v[name] + (1 - b2) * g[name] ** 2
            step = m[name] / (1 - b1**count) / (np.sqrt(v[name] / (1 - b2**count)) + eps)
            p[name] = (1 - lr * decay) * p[name] - lr * step

    return update


def training(p: Parameters, loss_function: Any, update: Any) -> Step:
    both = value_and_grad(loss_function)

    def step() -> Any:
        loss, g = both(p)
        update(g)
        return loss

    return step


def gradients(loss_function: Any, leaves: list[Any]) -> Step:
    """Loss plus the mean square of the first 1,000 elements of each gradient, as in the torch-like workloads."""
    both = value_and_grad(loss_function)

    def step() -> Any:
        loss, g = both(leaves)
        return loss + sum((x.reshape(-1)[:1000] ** 2).mean() for x in g)

    return step


def tape(shape: tuple[int, ...], length: int = 250) -> Step:
    shape = tuple(shape)
    leaves = [normal(shape, 0, 0.1), 1.02 + normal(shape, 1, 0.001), normal(shape, 2, 0.02)]

    def forward(leaves: list[Any]) -> Any:
        h, a, b = leaves[0], leaves[1], leaves[2]
        for _ in range(length):
            h = anp.tanh((h * a) + b) - b
        return anp.sum(h)

    both = value_and_grad(forward)
    return lambda: both(leaves)[0]


def elementwise(size: int) -> Step:
    def loss(leaves: list[Any]) -> Any:
        x, a, b = leaves[0], leaves[1], leaves[2]
        h = anp.tanh(x * a + b) * sigmoid(x)
        return anp.mean(anp.exp(-(h * h)))

    return gradients(loss, [normal((size,), i) for i in range(3)])


def linear_regression(rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    y = x @ normal((columns, 1), 2) + normal((rows, 1), 3, 0.1)
    p = parameters(shapes.perceptron([columns, 1]))
    return training(p, lambda p: anp.mean((linear(p, "0", x) - y) ** 2), sgd(p, 0.1))


def logistic_regression(rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    y = (x @ normal((columns, 1), 2) > 0).astype("f4")
    p = parameters(shapes.perceptron([columns, 1]))

    def loss(p: Parameters) -> Any:
        z = linear(p, "0", x)
        return anp.mean(anp.logaddexp(np.float32(0), z) - z * y)

    return training(p, loss, sgd(p, 0.1))


def mlp(batch: int, width: int = 512, depth: int = 2) -> Step:
    x, y = normal((batch, 784)), integers(10, (batch,))
    p = parameters(shapes.perceptron([784, *[width] * depth, 10]))

    def loss(p: Parameters) -> Any:
        h = x
        for i in range(depth):
            h = anp.maximum(linear(p, f"{i}", h), np.float32(0))
        return cross_entropy(linear(p, f"{depth}", h), y)

    return training(p, loss, adam(p, 1e-3))


def hvp(batch: int, width: int) -> Step:
    x, y = normal((batch, 784)), integers(10, (batch,))
    p = parameters(shapes.perceptron([784, width, width, 10]))
    v = {name: normal(w.shape, 10 + i) for i, (name, w) in enumerate(p.items())}

    def loss(p: Parameters) -> Any:
        h = anp.tanh(linear(p, "1", anp.tanh(linear(p, "0", x))))
        return cross_entropy(linear(p, "2", h), y)

    flat, unflatten = flatten(p)
    direction = flatten(v)[0]
    times = make_hvp(lambda flat: loss(unflatten(flat)))

    def step() -> Any:
        return (times(flat)[0](direction) ** 2).sum()

    return step


def lstm(batch: int, length: int, width: int, layers: int = 2, inputs: int = 128) -> Step:
    x, y = normal((batch, length, inputs)), integers(10, (batch,))
    p = parameters(shapes.lstm(layers, inputs, width))

    def loss(p: Parameters) -> Any:
        sequence = [x[:, t] for t in range(length)]
        for layer in range(layers):
            w, u = p[f"ih{layer}.weight"].T, p[f"hh{layer}.weight"].T
            bias = p[f"ih{layer}.bias"] + p[f"hh{layer}.bias"]
            h = c = np.zeros((batch, width), "f4")
            out = []
            for inward in sequence:
                z = anp.dot(inward, w) + anp.dot(h, u) + bias
                i, f, o = sigmoid(z[:, :width]), sigmoid(z[:, width : 2 * width]), sigmoid(z[:, 3 * width :])
                c = f * c + i * anp.tanh(z[:, 2 * width : 3 * width])
                h = o * anp.tanh(c)
                out.append(h)
            sequence = out
        return cross_entropy(linear(p, "head", sequence[-1]), y)

    return training(p, loss, adam(p, 1e-3))


def softmax_cross_entropy(rows: int, classes: int) -> Step:
    y = integers(classes, (rows,))
    return gradients(lambda leaves: cross_entropy(leaves[0], y), [normal((rows, classes))])


def layer_norm_alone(rows: int, width: int) -> Step:
    g = normal((rows, width), 3)
    leaves = [normal((rows, width)), 1 + normal((width,), 1, 0.1), normal((width,), 2, 0.1)]
    return gradients(lambda t: anp.mean(layer_norm(t[0], t[1], t[2]) * g), leaves)


def embedding(vocabulary: int, width: int, batch: int = 8, length: int = 512) -> Step:
    rank = vocabulary ** (integers(1 << 20, (batch, length)) / (1 << 20))
    index, g = rank.astype("i8") - 1, normal((batch, length, width), 3)
    return gradients(lambda leaves: anp.mean(leaves[0][index] * g), [normal((vocabulary, width))])


def trees(count: int, leaves: int, width: int = 64) -> Step:
    forest, y = random_trees(count, leaves), integers(2, (count,))
    p = parameters(shapes.trees(width))

    def node(p: Parameters, tree: Any) -> Any:
        if isinstance(tree, int):
            return p["token"][tree]
        return anp.tanh(linear(p, "join", anp.concatenate([node(p, tree[0]), node(p, tree[1])])))

    def loss(p: Parameters) -> Any:
        return cross_entropy(linear(p, "head", anp.array([node(p, tree) for tree in forest])), y)

    return training(p, loss, sgd(p, 0.05))


WORKLOADS = {
    "tape-8": tape,
    "tape-64x64": tape,
    "elementwise": elementwise,
    "linear-regression": linear_regression,
    "logistic-regression": logistic_regression,
    "mlp-64": mlp,
    "mlp-512": mlp,
    "hvp": hvp,
    "lstm": lstm,
    "cross-entropy": softmax_cross_entropy,
    "layer-norm": layer_norm_alone,
    "embedding": embedding,
    "trees": trees,
}
