"""JAX: a pure loss function of a dictionary of parameters; the step with its update under jit, buffers donated."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..workloads.common import Step, initial, integers, normal
from . import shapes
from .shapes import Shapes

wait = jax.block_until_ready
Parameters = dict[str, Any]


def parameters(named: Shapes) -> Parameters:
    return {name: jnp.asarray(value) for (name, _), value in zip(named, initial(named), strict=True)}


def linear(p: Parameters, name: str, x: Any) -> Any:
    out = x @ p[f"{name}.weight"].T
    return out + p[f"{name}.bias"] if f"{name}.bias" in p else out


def cross_entropy(logits: Any, wanted: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[:, None], 1).mean()


def layer_norm(x: Any, w: Any, b: Any, eps: float = 1e-5) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + eps) * w + b


def normed(p: Parameters, name: str, x: Any) -> Any:
    return layer_norm(x, p[f"{name}.weight"], p[f"{name}.bias"])


def conv(x: Any, w: Any, stride: int = 1, pad: int = 0) -> Any:
    return lax.conv_general_dilated(
        x, w, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW")
    )


def sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> Any:
    """(initial state, update) as PyTorch's SGD."""

    def start(p: Parameters) -> Any:
        return jax.tree.map(jnp.zeros_like, p) if momentum else None

    def update(p: Parameters, g: Parameters, state: Any) -> Any:
        g = jax.tree.map(lambda g, p: g + weight_decay * p, g, p) if weight_decay else g
        if momentum:
            g = state = jax.tree.map(lambda m, g: momentum * m + g, state, g)
        return jax.tree.map(lambda p, g: p - lr * g, p, g), state

    return start, update


def adam(lr: float, decay: float = 0.0, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """(initial state, update) as PyTorch's Adam, or AdamW with a decay."""

    def start(p: Any) -> Any:
        return jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)

    def update(p: Any, g: Any, state: Any) -> Any:
        count, m, v = state
        count += 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
        c1, c2 = 1 - b1**count, 1 - b2**count
        p = jax.tree.map(
            lambda p, m, v: p * (1 - lr * decay) - lr * (m / c1) / (jnp.sqrt(v / c2) + eps), p, m, v
        )
        return p, (count, m, v)

    return start, update


def training(p: Parameters, loss_function: Any, data: Any, optimizer: Any) -> Step:
    """The jitted step; the loss is a device value, so steps are dispatched ahead as in any JAX program."""
    start, update = optimizer

    def whole(p: Parameters, state: Any, data: Any) -> Any:
        loss, g = jax.value_and_grad(loss_function)(p, *data)
        p, state = update(p, g, state)
        return p, state, loss

    jitted = jax.jit(whole, donate_argnums=(0, 1))
    held = [p, start(p)]

    def step() -> Any:
        held[0], held[1], loss = jitted(held[0], held[1], data)
        return loss

    return step


def gradients(loss_function: Any, leaves: list[Any], *data: Any) -> Step:
    """Loss plus the mean square of the first 1,000 elements of each gradient, as in the torch-like workloads."""

    def whole(leaves: list[Any], *data: Any) -> Any:
        loss, g = jax.value_and_grad(loss_function)(leaves, *data)
        return loss + sum((x.reshape(-1)[:1000] ** 2).mean() for x in g), g

    jitted = jax.jit(whole)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    data = tuple(jnp.asarray(value) for value in data)
    return lambda: jitted(leaves, *data)[0]  # the gradients are outputs, so that they are not optimised away


def elementwise(size: int) -> Step:
    def loss(leaves: list[Any]) -> Any:
        x, a, b = leaves
        h = jnp.tanh(x * a + b) * jax.nn.sigmoid(x)
        return jnp.exp(-(h * h)).mean()

    return gradients(loss, [normal((size,), i) for i in range(3)])


def linear_regression(rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    y = x @ normal((columns, 1), 2) + normal((rows, 1), 3, 0.1)
    p = parameters(shapes.perceptron([columns, 1]))

    def loss(p: Parameters, x: Any, y: Any) -> Any:
        return ((linear(p, "0", x) - y) ** 2).mean()

    return training(p, loss, (jnp.asarray(x), jnp.asarray(y)), sgd(0.1))


def logistic_regression(rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    y = (x @ normal((columns, 1), 2) > 0).astype("f4")
    p = parameters(shapes.perceptron([columns, 1]))

    def loss(p: Parameters, x: Any, y: Any) -> Any:
        z = linear(p, "0", x)
        return (jax.nn.softplus(z) - z * y).mean()

    return training(p, loss, (jnp.asarray(x), jnp.asarray(y)), sgd(0.1))


def images(shape: tuple[int, ...]) -> Any:
    return jnp.asarray(normal(shape)), jnp.asarray(integers(10, shape[:1]))


def mlp(batch: int, width: int = 512, depth: int = 2) -> Step:
    def loss(p: Parameters, x: Any, y: Any) -> Any:
        for i in range(depth):
            x = jax.nn.relu(linear(p, f"{i}", x))
        return cross_entropy(linear(p, f"{depth}", x), y)

    return training(
        parameters(shapes.perceptron([784, *[width] * depth, 10])), loss, images((batch, 784)), adam(1e-3)
    )


def hvp(batch: int, width: int) -> Step:
    p = parameters(shapes.perceptron([784, width, width, 10]))
    v = {name: jnp.asarray(normal(w.shape, 10 + i)) for i, (name, w) in enumerate(p.items())}
    x, y = images((batch, 784))

    def loss(p: Parameters, x: Any, y: Any) -> Any:
        h = jnp.tanh(linear(p, "1", jnp.tanh(linear(p, "0", x))))
        return cross_entropy(linear(p, "2", h), y)

    @jax.jit
    def product(p: Parameters, v: Parameters, x: Any, y: Any) -> Any:
        out = jax.jvp(lambda p: jax.grad(loss)(p, x, y), (p,), (v,))[1]  # forward over reverse
        return sum((leaf**2).sum() for leaf in out.values()), out

    return lambda: product(p, v, x, y)[0]


def pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def lenet(batch: int) -> Step:
    def loss(p: Parameters, x: Any, y: Any) -> Any:
        x = pool(jax.nn.relu(conv(x, p["conv1.weight"], 1, 2) + p["conv1.bias"][:, None, None]))
        x = pool(jax.nn.relu(conv(x, p["conv2.weight"]) + p["conv2.bias"][:, None, None]))
        x = x.reshape(len(x), -1)
        x = jax.nn.relu(linear(p, "fc2", jax.nn.relu(linear(p, "fc1", x))))
        return cross_entropy(linear(p, "fc3", x), y)

    return training(parameters(shapes.lenet()), loss, images((batch, 1, 28, 28)), sgd(0.01, 0.9))


def resnet(batch: int, blocks: int) -> Step:
    def bn(p: Parameters, name: str, x: Any) -> Any:
        mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        scale = p[f"{name}.weight"][:, None, None] * lax.rsqrt(variance + 1e-5)
        return (x - mean) * scale + p[f"{name}.bias"][:, None, None]

    def loss(p: Parameters, x: Any, y: Any) -> Any:
        x = jax.nn.relu(bn(p, "bn", conv(x, p["conv.weight"], 1, 1)))
        for name, _, _, stride in shapes.resnet_blocks(blocks):
            h = jax.nn.relu(bn(p, f"{name}.bn1", conv(x, p[f"{name}.conv1.weight"], stride, 1)))
            h = bn(p, f"{name}.bn2", conv(h, p[f"{name}.conv2.weight"], 1, 1))
            if f"{name}.convs.weight" in p:
                x = bn(p, f"{name}.bns", conv(x, p[f"{name}.convs.weight"], stride))
            x = jax.nn.relu(h + x)
        return cross_entropy(linear(p, "head", x.mean((2, 3))), y)

    return training(parameters(shapes.resnet(blocks)), loss, images((batch, 3, 32, 32)), sgd(0.05, 0.9, 1e-4))


def conv2d(inputs: int, outputs: int, side: int, kernel: int, stride: int = 1, batch: int = 8) -> Step:
    x = normal((batch, inputs, side, side), 0)
    w = normal((outputs, inputs, kernel, kernel), 1, (inputs * kernel**2) ** -0.5)
    b = normal((outputs,), 2)
    out = (side + 2 * (kernel // 2) - kernel) // stride + 1
    g = normal((batch, outputs, out, out), 3)

    def loss(leaves: list[Any], *data: Any) -> Any:
        x, w, b = leaves if len(leaves) == 3 else [data[1], *leaves]
        return ((conv(x, w, stride, kernel // 2) + b[:, None, None]) * data[0]).mean()

    return gradients(loss, [x, w, b], g) if inputs > 3 else gradients(loss, [w, b], g, x)


def lstm(batch: int, length: int, width: int, layers: int = 2, inputs: int = 128) -> Step:
    def layer(p: Parameters, number: int, x: Any) -> Any:
        projected = x @ p[f"ih{number}.weight"].T + p[f"ih{number}.bias"] + p[f"hh{number}.bias"]

        def cell(state: Any, z: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(z + h @ p[f"hh{number}.weight"].T, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[1], width))
        return lax.scan(cell, (zero, zero), projected)[1]

    def loss(p: Parameters, x: Any, y: Any) -> Any:
        x = x.swapaxes(0, 1)
        for number in range(layers):
            x = layer(p, number, x)
        return cross_entropy(linear(p, "head", x[-1]), y)

    data = jnp.asarray(normal((batch, length, inputs))), jnp.asarray(integers(10, (batch,)))
    return training(parameters(shapes.lstm(layers, inputs, width)), loss, data, adam(1e-3))


def attention(p: Parameters, prefix: str, x: Any, heads: int, causal: bool) -> Any:
    batch, length, width = x.shape
    q, k, v = (
        t.reshape(batch, length, heads, width // heads) for t in jnp.split(linear(p, f"{prefix}qkv", x), 3, -1)
    )
    y = jax.nn.dot_product_attention(q, k, v, is_causal=causal)
    return linear(p, f"{prefix}proj", y.reshape(batch, length, width))


def feed_forward(p: Parameters, prefix: str, x: Any) -> Any:
    return linear(p, f"{prefix}down", jax.nn.gelu(linear(p, f"{prefix}up", x), approximate=False))


def gpt(layers: int, width: int, heads: int, context: int, batch: int, vocabulary: int = 65) -> Step:
    text = integers(vocabulary, (batch, context + 1))

    def loss(p: Parameters, index: Any, wanted: Any) -> Any:
        x = p["token.weight"][index] + p["position.weight"]
        for i in range(layers):
            x = x + attention(p, f"{i}.", normed(p, f"{i}.ln1", x), heads, True)
            x = x + feed_forward(p, f"{i}.", normed(p, f"{i}.ln2", x))
        logits = linear(p, "head", normed(p, "ln", x))
        return cross_entropy(logits.reshape(-1, vocabulary), wanted.reshape(-1))

    data = jnp.asarray(text[:, :-1]), jnp.asarray(text[:, 1:])
    return training(parameters(shapes.gpt(layers, width, context, vocabulary)), loss, data, adam(1e-3, 0.01))


def bert_layer(batch: int, length: int, width: int = 768, heads: int = 12) -> Step:
    named = shapes.bert_layer(width)
    names = [name for name, _ in named]

    def loss(leaves: list[Any], g: Any) -> Any:
        x, p = leaves[0], dict(zip(names, leaves[1:], strict=True))
        x = normed(p, "ln1", x + attention(p, "", x, heads, False))
        return (normed(p, "ln2", x + feed_forward(p, "", x)) * g).mean()

    shape = batch, length, width
    return gradients(loss, [normal(shape), *initial(named)], normal(shape, 3))


def softmax_cross_entropy(rows: int, classes: int) -> Step:
    return gradients(
        lambda leaves, y: cross_entropy(leaves[0], y), [normal((rows, classes))], integers(classes, (rows,))
    )


def layer_norm_alone(rows: int, width: int) -> Step:
    leaves = [normal((rows, width)), 1 + normal((width,), 1, 0.1), normal((width,), 2, 0.1)]
    return gradients(lambda leaves, g: (layer_norm(*leaves) * g).mean(), leaves, normal((rows, width), 3))


def embedding(vocabulary: int, width: int, batch: int = 8, length: int = 512) -> Step:
    rank = vocabulary ** (integers(1 << 20, (batch, length)) / (1 << 20))
    return gradients(
        lambda leaves, index, g: (leaves[0][index] * g).mean(),
        [normal((vocabulary, width))], rank.astype("i8") - 1, normal((batch, length, width), 3),
    )  # fmt: skip


def adam_alone(size: int, tensors: int = 20) -> Step:
    shape = size // tensors // 500, 500
    weights = [jnp.asarray(normal(shape, i)) for i in range(tensors)]
    g = [jnp.asarray(normal(shape, 100 + i)) for i in range(tensors)]
    start, update = adam(1e-3)
    jitted = jax.jit(update, donate_argnums=(0, 2))
    held = [weights, start(weights)]

    def step() -> Any:
        held[0], held[1] = jitted(held[0], g, held[1])
        return held[0][0][0, 0]

    return step



WORKLOADS = {
    "elementwise": elementwise,
    "linear-regression": linear_regression,
    "logistic-regression": logistic_regression,
    "mlp-64": mlp,
    "mlp-512": mlp,
    "hvp": hvp,
    "lenet": lenet,
    "resnet": resnet,
    "conv-64x56-k3": conv2d,
    "conv-256x14-k3": conv2d,
    "conv-128x28-k3s2": conv2d,
    "conv-256x28-k1": conv2d,
    "conv-3x112-k7s2": conv2d,
    "lstm": lstm,
    "gpt-6x384": gpt,
    "gpt-2x64": gpt,
    "bert-layer": bert_layer,
    "cross-entropy": softmax_cross_entropy,
    "layer-norm": layer_norm_alone,
    "embedding": embedding,
    "adam-10m": adam_alone,
}
