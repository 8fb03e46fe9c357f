"""MyGrad: its tensors and mygrad.nnet's layers and losses; it has no optimizers, so the updates are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mygrad as mg
import numpy as np
from mygrad.nnet import conv_nd, max_pool, relu, sigmoid, softmax_crossentropy

from ..workloads.common import Step, initial, integers, normal
from ..workloads.sequence import random_trees
from . import shapes
from .shapes import Shapes

Parameters = dict[str, Any]


def parameters(named: Shapes) -> Parameters:
    return {name: mg.tensor(value) for (name, _), value in zip(named, initial(named), strict=True)}


def linear(p: Parameters, name: str, x: Any) -> Any:
    return mg.matmul(x, p[f"{name}.weight"].T) + p[f"{name}.bias"]


def sgd(p: Parameters, lr: float, momentum: float = 0.0) -> Callable[[], None]:
    velocity = {name: np.zeros_like(t.data) for name, t in p.items()}

    def update() -> None:
        for name, t in p.items():
            g = t.grad
            if momentum:
                velocity[name] *= momentum
                velocity[name] += g
                g = velocity[name]
            t.data -= lr * g

    return update


def adam(p: Parameters, lr: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Callable[[], None]:
    m, v = ({name: np.zeros_like(t.data) for name, t in p.items()} for _ in range(2))
    count = 0

    def update() -> None:
        nonlocal count
        count += 1
        for name, t in p.items():
            m[name] = b1 * m[name] + (1 - b1) * t.grad
            v[name] = b2 * v[name] + (1 - b2) * t.grad**2
            t.data -= lr * m[name] / (1 - b1**count) / (np.sqrt(v[name] / (1 - b2**count)) + eps)

    return update


def training(loss_function: Callable[[], Any], update: Callable[[], None]) -> Step:
    def step() -> Any:
        loss = loss_function()
        loss.backward()
        update()
        return loss.item()

    return step


def gradients(loss_function: Callable[..., Any], leaves: list[Any]) -> Step:
    """Loss plus the mean square of the first 1,000 elements of each gradient, as in the torch-like workloads."""
    leaves = [mg.tensor(leaf) for leaf in leaves]

    def step() -> Any:
        loss = loss_function(*leaves)
        loss.backward()
        return loss.item() + sum((t.grad.reshape(-1)[:1000] ** 2).mean() for t in leaves)

    return step


def tape(shape: tuple[int, ...], length: int = 250) -> Step:
    shape = tuple(shape)
    x = mg.tensor(normal(shape, 0, 0.1))
    a, b = mg.tensor(1.02 + normal(shape, 1, 0.001)), mg.tensor(normal(shape, 2, 0.02))

    def step() -> Any:
        h = x
        for _ in range(length):
            h = mg.tanh((h * a) + b) - b
        loss = h.sum()
        loss.backward()
        return loss.item()

    return step


def elementwise(size: int) -> Step:
    def loss(x: Any, a: Any, b: Any) -> Any:
        h = mg.tanh(x * a + b) * sigmoid(x)
        return mg.exp(-(h * h)).mean()

    return gradients(loss, [normal((size,), i) for i in range(3)])


def linear_regression(rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    y = x @ normal((columns, 1), 2) + normal((rows, 1), 3, 0.1)
    p = parameters(shapes.perceptron([columns, 1]))
    return training(lambda: mg.mean((linear(p, "0", x) - y) ** 2), sgd(p, 0.1))


def logistic_regression(rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    y = (x @ normal((columns, 1), 2) > 0).astype("f4")
    p = parameters(shapes.perceptron([columns, 1]))

    def loss() -> Any:
        z = linear(p, "0", x)
        return mg.mean(mg.logaddexp(np.float32(0), z) - z * y)

    return training(loss, sgd(p, 0.1))


def mlp(batch: int, width: int = 512, depth: int = 2) -> Step:
    x, y = normal((batch, 784)), integers(10, (batch,))
    p = parameters(shapes.perceptron([784, *[width] * depth, 10]))

    def loss() -> Any:
        h: Any = x
        for i in range(depth):
            h = relu(linear(p, f"{i}", h))
        return softmax_crossentropy(linear(p, f"{depth}", h), y)

    return training(loss, adam(p, 1e-3))


def lenet(batch: int) -> Step:
    x, y = np.pad(normal((batch, 1, 28, 28)), ((0, 0), (0, 0), (2, 2), (2, 2))), integers(10, (batch,))
    p = parameters(shapes.lenet())

    def loss() -> Any:
        bias = p["conv1.bias"].reshape(1, -1, 1, 1), p["conv2.bias"].reshape(1, -1, 1, 1)
        h = max_pool(relu(conv_nd(x, p["conv1.weight"], stride=1) + bias[0]), (2, 2), 2)
        h = max_pool(relu(conv_nd(h, p["conv2.weight"], stride=1) + bias[1]), (2, 2), 2).reshape(batch, -1)
        h = relu(linear(p, "fc2", relu(linear(p, "fc1", h))))
        return softmax_crossentropy(linear(p, "fc3", h), y)

    return training(loss, sgd(p, 0.01, 0.9))


def conv2d(inputs: int, outputs: int, side: int, kernel: int, stride: int = 1, batch: int = 8) -> Step:
    pad = kernel // 2
    x = normal((batch, inputs, side, side), 0)
    w = normal((outputs, inputs, kernel, kernel), 1, (inputs * kernel**2) ** -0.5)
    b = normal((outputs,), 2)
    out = (side + 2 * pad - kernel) // stride + 1
    g = normal((batch, outputs, out, out), 3)
    extra = (side + 2 * pad - kernel) % stride  # MyGrad takes no part of a window: the far edge is padded less

    def loss(x: Any, w: Any, b: Any) -> Any:
        padded = conv_nd(x, w, stride=stride, padding=pad)
        return ((padded + b.reshape(1, -1, 1, 1)) * g).mean()

    def loss_cut(x: Any, w: Any, b: Any) -> Any:
        wide = np.zeros((batch, inputs, side + 2 * pad - extra, side + 2 * pad - extra), "f4")
        wide = mg.tensor(wide)
        wide[:, :, pad : pad + side, pad : pad + side] = x
        return ((conv_nd(wide, w, stride=stride) + b.reshape(1, -1, 1, 1)) * g).mean()

    function = loss_cut if extra else loss
    return gradients(function, [x, w, b]) if inputs > 3 else gradients(lambda w, b: function(x, w, b), [w, b])


def cross_entropy(rows: int, classes: int) -> Step:
    y = integers(classes, (rows,))
    return gradients(lambda x: softmax_crossentropy(x, y), [normal((rows, classes))])


def layer_norm(rows: int, width: int) -> Step:
    g = normal((rows, width), 3)
    leaves = [normal((rows, width)), 1 + normal((width,), 1, 0.1), normal((width,), 2, 0.1)]

    def loss(x: Any, w: Any, b: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = mg.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))
        return ((centred / deviation * w + b) * g).mean()

    return gradients(loss, leaves)


def embedding(vocabulary: int, width: int, batch: int = 8, length: int = 512) -> Step:
    rank = vocabulary ** (integers(1 << 20, (batch, length)) / (1 << 20))
    index, g = rank.astype("i8") - 1, normal((batch, length, width), 3)
    return gradients(lambda weight: (weight[index] * g).mean(), [normal((vocabulary, width))])


def trees(count: int, leaves: int, width: int = 64) -> Step:
    forest, y = random_trees(count, leaves), integers(2, (count,))
    p = parameters(shapes.trees(width))

    def node(tree: Any) -> Any:
        if isinstance(tree, int):
            return p["token"][tree]
        return mg.tanh(linear(p, "join", mg.concatenate([node(tree[0]), node(tree[1])])))

    return training(
        lambda: softmax_crossentropy(linear(p, "head", mg.stack([node(tree) for tree in forest])), y), sgd(p, 0.05)
    )


WORKLOADS = {
    "tape-8": tape,
    "tape-64x64": tape,
    "elementwise": elementwise,
    "linear-regression": linear_regression,
    "logistic-regression": logistic_regression,
    "mlp-64": mlp,
    "mlp-512": mlp,
    "lenet": lenet,
    "conv-64x56-k3": conv2d,
    "conv-256x14-k3": conv2d,
    "conv-128x28-k3s2": conv2d,
    "conv-256x28-k1": conv2d,
    "conv-3x112-k7s2": conv2d,
    "cross-entropy": cross_entropy,
    "layer-norm": layer_norm,
    "embedding": embedding,
    "trees": trees,
}
