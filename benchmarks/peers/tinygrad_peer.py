"""tinygrad: lazy tensors, the whole training step captured by TinyJit (its third call replays the kernels)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad import Context, Tensor, TinyJit, nn

from ..workloads.common import Step, initial, integers, normal
from . import shapes
from .shapes import Shapes

Parameters = dict[str, Any]


def wait(value: Any) -> None:
    """Until the kernels that were sent off are done."""
    if value is not None:
        value.item()


def value(tensor: Any) -> float:
    return float(tensor.item())


def constant(array: Any) -> Any:
    return Tensor(array).is_param_(False).realize()


def parameters(named: Shapes) -> Parameters:
    return {name: Tensor(value).realize() for (name, _), value in zip(named, initial(named), strict=True)}


def linear(p: Parameters, name: str, x: Any) -> Any:
    return x.linear(p[f"{name}.weight"].T, p.get(f"{name}.bias"))


def normed(p: Parameters, name: str, x: Any) -> Any:
    return x.layernorm() * p[f"{name}.weight"] + p[f"{name}.bias"]


def conv(p: Parameters, name: str, x: Any, stride: int = 1, padding: int = 0) -> Any:
    return x.conv2d(p[f"{name}.weight"], p.get(f"{name}.bias"), stride=stride, padding=padding)


def training(loss_function: Callable[[], Any], optimizer: Any) -> Step:
    @TinyJit
    def step() -> Any:
        with Context(TRAINING=1):
            optimizer.zero_grad()
            loss = loss_function().backward()
            return loss.realize(*optimizer.schedule_step())

    return step


def gradients(loss_function: Callable[..., Any], leaves: list[Any]) -> Step:
    """Loss plus the mean square of the first 1,000 elements of each gradient, as in the torch-like workloads."""
    leaves = [Tensor(leaf).realize() for leaf in leaves]

    @TinyJit
    def step() -> Any:
        loss = loss_function(*leaves)
        g = loss.gradient(*leaves)
        out = loss + sum((x.flatten()[:1000] ** 2).mean() for x in g)
        return out.realize(*g)

    return step


def elementwise(size: int) -> Step:
    def loss(x: Any, a: Any, b: Any) -> Any:
        h = (x * a + b).tanh() * x.sigmoid()
        return (-(h * h)).exp().mean()

    return gradients(loss, [normal((size,), i) for i in range(3)])


def linear_regression(rows: int, columns: int) -> Step:
    array = normal((rows, columns))
    x, y = constant(array), constant(array @ normal((columns, 1), 2) + normal((rows, 1), 3, 0.1))
    p = parameters(shapes.perceptron([columns, 1]))
    return training(lambda: (linear(p, "0", x) - y).square().mean(), nn.optim.SGD(list(p.values()), lr=0.1))


def logistic_regression(rows: int, columns: int) -> Step:
    array = normal((rows, columns))
    x, y = constant(array), constant((array @ normal((columns, 1), 2) > 0).astype("f4"))
    p = parameters(shapes.perceptron([columns, 1]))
    return training(
        lambda: linear(p, "0", x).binary_crossentropy_logits(y), nn.optim.SGD(list(p.values()), lr=0.1)
    )


def images(shape: tuple[int, ...]) -> tuple[Any, Any]:
    return constant(normal(shape)), constant(integers(10, shape[:1]).astype("i4"))


def mlp(batch: int, width: int = 512, depth: int = 2) -> Step:
    p, (x, y) = parameters(shapes.perceptron([784, *[width] * depth, 10])), images((batch, 784))

    def loss() -> Any:
        h = x
        for i in range(depth):
            h = linear(p, f"{i}", h).relu()
        return linear(p, f"{depth}", h).sparse_categorical_crossentropy(y)

    return training(loss, nn.optim.Adam(list(p.values()), lr=1e-3))


def lenet(batch: int) -> Step:
    p, (x, y) = parameters(shapes.lenet()), images((batch, 1, 28, 28))

    def loss() -> Any:
        h = conv(p, "conv1", x, 1, 2).relu().max_pool2d((2, 2))
        h = conv(p, "conv2", h).relu().max_pool2d((2, 2)).flatten(1)
        h = linear(p, "fc2", linear(p, "fc1", h).relu()).relu()
        return linear(p, "fc3", h).sparse_categorical_crossentropy(y)

    return training(loss, nn.optim.SGD(list(p.values()), lr=0.01, momentum=0.9))


def resnet(batch: int, blocks: int) -> Step:
    p, (x, y) = parameters(shapes.resnet(blocks)), images((batch, 3, 32, 32))

    def bn(name: str, h: Any) -> Any:
        mean = h.mean((0, 2, 3))
        variance = (h - mean.reshape(1, -1, 1, 1)).square().mean((0, 2, 3))
        return h.batchnorm(p[f"{name}.weight"], p[f"{name}.bias"], mean, (variance + 1e-5).rsqrt())

    def loss() -> Any:
        h = bn("bn", conv(p, "conv", x, 1, 1)).relu()
        for name, _, _, stride in shapes.resnet_blocks(blocks):
            z = bn(f"{name}.bn1", conv(p, f"{name}.conv1", h, stride, 1)).relu()
            z = bn(f"{name}.bn2", conv(p, f"{name}.conv2", z, 1, 1))
            if f"{name}.convs.weight" in p:
                h = bn(f"{name}.bns", conv(p, f"{name}.convs", h, stride))
            h = (h + z).relu()
        return linear(p, "head", h.mean((2, 3))).sparse_categorical_crossentropy(y)

    return training(loss, nn.optim.SGD(list(p.values()), lr=0.05, momentum=0.9, weight_decay=1e-4))


def conv2d(inputs: int, outputs: int, side: int, kernel: int, stride: int = 1, batch: int = 8) -> Step:
    x = normal((batch, inputs, side, side), 0)
    w = normal((outputs, inputs, kernel, kernel), 1, (inputs * kernel**2) ** -0.5)
    b = normal((outputs,), 2)
    out = (side + 2 * (kernel // 2) - kernel) // stride + 1
    g = constant(normal((batch, outputs, out, out), 3))

    def loss(x: Any, w: Any, b: Any) -> Any:
        return (x.conv2d(w, b, stride=stride, padding=kernel // 2) * g).mean()

    if inputs > 3:
        return gradients(loss, [x, w, b])
    data = constant(x)
    return gradients(lambda w, b: loss(data, w, b), [w, b])


def attention(p: Parameters, prefix: str, x: Any, heads: int, causal: bool) -> Any:
    batch, length, width = x.shape
    parts = linear(p, f"{prefix}qkv", x).split(width, dim=2)
    q, k, v = (t.reshape(batch, length, heads, width // heads).transpose(1, 2) for t in parts)
    y = q.scaled_dot_product_attention(k, v, is_causal=causal)
    return linear(p, f"{prefix}proj", y.transpose(1, 2).reshape(batch, length, width))


def feed_forward(p: Parameters, prefix: str, x: Any) -> Any:
    return linear(p, f"{prefix}down", linear(p, f"{prefix}up", x).gelu("none"))


def gpt(layers: int, width: int, heads: int, context: int, batch: int, vocabulary: int = 65) -> Step:
    text = integers(vocabulary, (batch, context + 1)).astype("i4")
    index, wanted = constant(text[:, :-1].copy()), constant(text[:, 1:].copy())
    p = parameters(shapes.gpt(layers, width, context, vocabulary))

    def loss() -> Any:
        x = p["token.weight"][index] + p["position.weight"]
        for i in range(layers):
            x = x + attention(p, f"{i}.", normed(p, f"{i}.ln1", x), heads, True)
            x = x + feed_forward(p, f"{i}.", normed(p, f"{i}.ln2", x))
        return linear(p, "head", normed(p, "ln", x)).sparse_categorical_crossentropy(wanted)

    return training(loss, nn.optim.AdamW(list(p.values()), lr=1e-3, weight_decay=0.01))


def bert_layer(batch: int, length: int, width: int = 768, heads: int = 12) -> Step:
    named, shape = shapes.bert_layer(width), (batch, length, width)
    names, g = [name for name, _ in named], constant(normal(shape, 3))

    def loss(x: Any, *values: Any) -> Any:
        p = dict(zip(names, values, strict=True))
        x = normed(p, "ln1", x + attention(p, "", x, heads, False))
        return (normed(p, "ln2", x + feed_forward(p, "", x)) * g).mean()

    return gradients(loss, [normal(shape), *initial(named)])


def cross_entropy(rows: int, classes: int) -> Step:
    y = constant(integers(classes, (rows,)).astype("i4"))
    return gradients(lambda x: x.sparse_categorical_crossentropy(y), [normal((rows, classes))])


def layer_norm(rows: int, width: int) -> Step:
    g = constant(normal((rows, width), 3))
    leaves = [normal((rows, width)), 1 + normal((width,), 1, 0.1), normal((width,), 2, 0.1)]
    return gradients(lambda x, w, b: ((x.layernorm() * w + b) * g).mean(), leaves)


def adam(size: int, tensors: int = 20) -> Step:
    shape = size // tensors // 500, 500
    weights = [Tensor(normal(shape, i)).realize() for i in range(tensors)]
    g = [constant(normal(shape, 100 + i)) for i in range(tensors)]
    optimizer = nn.optim.Adam(weights, lr=1e-3)

    @TinyJit
    def step() -> Any:
        with Context(TRAINING=1):
            for weight, value in zip(weights, g, strict=True):
                weight.grad = value
            Tensor.realize(*optimizer.schedule_step())
            return weights[0][0, 0].contiguous().realize()

    return step


WORKLOADS = {
    "elementwise": elementwise,
    "linear-regression": linear_regression,
    "logistic-regression": logistic_regression,
    "mlp-64": mlp,
    "mlp-512": mlp,
    "lenet": lenet,
    "resnet": resnet,
    "conv-64x56-k3": conv2d,
    "conv-256x14-k3": conv2d,
    "conv-128x28-k3s2": conv2d,
    "conv-256x28-k1": conv2d,
    "conv-3x112-k7s2": conv2d,
    "gpt-6x384": gpt,
    "gpt-2x64": gpt,
    "bert-layer": bert_layer,
    "cross-entropy": cross_entropy,
    "layer-norm": layer_norm,
    "adam-10m": adam,
}
