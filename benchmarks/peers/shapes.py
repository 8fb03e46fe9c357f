"""Names and shapes of the parameters of each network, in the order in which the torch-like modules have them.

So that `workloads.common.initial` gives every library the same numbers; PyTorch's layouts, (out, in) for matrices.
"""

from __future__ import annotations

Shapes = list[tuple[str, tuple[int, ...]]]


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    return [(f"{name}.weight", (outputs, inputs)), *([(f"{name}.bias", (outputs,))] if bias else [])]


def norm(name: str, width: int) -> Shapes:
    return [(f"{name}.weight", (width,)), (f"{name}.bias", (width,))]


def conv(name: str, inputs: int, outputs: int, kernel: int, bias: bool = False) -> Shapes:
    return [(f"{name}.weight", (outputs, inputs, kernel, kernel)), *([(f"{name}.bias", (outputs,))] if bias else [])]


def perceptron(sizes: list[int]) -> Shapes:
    return [pair for i, (n, m) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)) for pair in linear(f"{i}", n, m)]


def lenet() -> Shapes:
    return [
        *conv("conv1", 1, 6, 5, True), *conv("conv2", 6, 16, 5, True),
        *linear("fc1", 400, 120), *linear("fc2", 120, 84), *linear("fc3", 84, 10),
    ]  # fmt: skip


def resnet_blocks(blocks: int) -> list[tuple[str, int, int, int]]:
    """(name, input channels, output channels, stride) of each residual block."""
    out, inputs = [], 16
    for stage, (outputs, stride) in enumerate(((16, 1), (32, 2), (64, 2))):
        for index in range(blocks):
            out.append((f"{stage}.{index}", inputs, outputs, stride if index == 0 else 1))
            inputs = outputs
    return out


def resnet(blocks: int) -> Shapes:
    out = [*conv("conv", 3, 16, 3), *norm("bn", 16)]
    for name, inputs, outputs, stride in resnet_blocks(blocks):
        out += [*conv(f"{name}.conv1", inputs, outputs, 3), *norm(f"{name}.bn1", outputs)]
        out += [*conv(f"{name}.conv2", outputs, outputs, 3), *norm(f"{name}.bn2", outputs)]
        if stride != 1 or inputs != outputs:
            out += [*conv(f"{name}.convs", inputs, outputs, 1), *norm(f"{name}.bns", outputs)]
    return [*out, *linear("head", 64, 10)]


def lstm(layers: int, inputs: int, width: int) -> Shapes:
    out: Shapes = []
    for layer in range(layers):
        out += [(f"ih{layer}.weight", (4 * width, inputs)), (f"hh{layer}.weight", (4 * width, width))]
        out += [(f"ih{layer}.bias", (4 * width,)), (f"hh{layer}.bias", (4 * width,))]
        inputs = width
    return [*out, *linear("head", width, 10)]


def gpt(layers: int, width: int, context: int, vocabulary: int) -> Shapes:
    out: Shapes = [("token.weight", (vocabulary, width)), ("position.weight", (context, width))]
    for i in range(layers):
        out += [*norm(f"{i}.ln1", width), *linear(f"{i}.qkv", width, 3 * width), *linear(f"{i}.proj", width, width)]
        out += [*norm(f"{i}.ln2", width), *linear(f"{i}.up", width, 4 * width), *linear(f"{i}.down", 4 * width, width)]
    return [*out, *norm("ln", width), *linear("head", width, vocabulary, bias=False)]


def bert_layer(width: int) -> Shapes:
    return [
        *linear("qkv", width, 3 * width), *linear("proj", width, width),
        *linear("up", width, 4 * width), *linear("down", 4 * width, width), *norm("ln1", width), *norm("ln2", width),
    ]  # fmt: skip


def trees(width: int) -> Shapes:
    return [("token", (100, width)), *linear("join", 2 * width, width), *linear("head", width, 2)]
