"""Steps of the size that GPUs are bought for; measured with `--backend cupy` only.

Half precision is autocast to bfloat16 with float32 weights. float32 products are computed as the title says: TF32 means
`backends.cuda.matmul.allow_tf32` and `backends.cudnn.allow_tf32`, and elsewhere both libraries have PyTorch's defaults
(products in full float32, cuDNN's convolutions in TF32).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .common import Step, fill, integers, normal, optimizer_options, training, workload
from .sequence import gpt_model

GPU = ("cupy",)


def device_type(lib: Any) -> str:
    """Where the workload's tensors are: "cuda", or "cpu" in the tests."""
    return lib.get_default_device().type


def in_half(lib: Any, loss: Callable[[], Any]) -> Callable[[], Any]:
    """The loss computed under autocast to bfloat16."""

    def under() -> Any:
        with lib.autocast(device_type(lib), dtype=lib.bfloat16):
            return loss()

    return under


def allow_tf32(lib: Any) -> None:
    """TF32 in this process; nothing on a CPU."""
    if device_type(lib) == "cuda":
        lib.backends.cuda.matmul.allow_tf32 = lib.backends.cudnn.allow_tf32 = True


@workload(
    "gpu-gpt2-124m", "GPT-2 124M, 16 x 1024 tokens, bfloat16, AdamW", 100, backends=GPU, tolerance=2e-2,
    layers=12, width=768, heads=12, context=1024, batch=16, vocabulary=50304,
)  # fmt: skip
def gpt2(lib: Any, layers: int, width: int, heads: int, context: int, batch: int, vocabulary: int) -> Step:
    """The vocabulary of 50,257 is padded to a multiple of 128, as all who train it do."""
    model = fill(lib, gpt_model(lib, layers, width, heads, context, vocabulary))
    text = integers(vocabulary, (batch, context + 1))
    data, wanted = lib.tensor(text[:, :-1].copy()), lib.tensor(text[:, 1:].copy())

    def loss() -> Any:
        return lib.nn.functional.cross_entropy(model(data).view(-1, vocabulary), wanted.view(-1))

    optimizer = lib.optim.AdamW(model.parameters(), lr=1e-4, **optimizer_options())
    return training(lib, in_half(lib, loss), optimizer)


def resnet_50(lib: Any, stages: tuple[int, ...], width: int = 64, classes: int = 1000) -> Any:
    """He et al., Deep residual learning, 2016, with the stride in the 3 x 3 convolution. (N, 3, H, W) -> logits."""
    nn = lib.nn
    relu = nn.functional.relu

    class Bottleneck(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, inputs: int, inner: int, stride: int):
            super().__init__()
            outputs = 4 * inner
            self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
            self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
            self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            self.shortcut = None
            if stride != 1 or inputs != outputs:
                convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            h = relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))
            return relu(self.bn3(self.conv3(h)) + (x if self.shortcut is None else self.shortcut(x)))

    stem = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    layers, inputs = list(stem), width
    for number, blocks in enumerate(stages):
        inner = width * 2**number
        for index in range(blocks):
            layers.append(Bottleneck(inputs, inner, 2 if number and not index else 1))
            inputs = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


@workload(
    "gpu-resnet50-bf16", "ResNet-50, 128 x 224 x 224, bfloat16, channels last, SGD", 101, backends=GPU,
    tolerance=2e-2, half=True, batch=128, side=224, stages=(3, 4, 6, 3),
)  # fmt: skip
@workload(
    "gpu-resnet50-tf32", "ResNet-50, 128 x 224 x 224, TF32, channels last, SGD", 102, backends=GPU,
    tolerance=2e-2, half=False, batch=128, side=224, stages=(3, 4, 6, 3),
)  # fmt: skip
def resnet50(lib: Any, half: bool, batch: int, side: int, stages: tuple[int, ...], width: int = 64) -> Step:
    allow_tf32(lib)
    model = fill(lib, resnet_50(lib, tuple(stages), width)).to(memory_format=lib.channels_last)
    data = lib.tensor(normal((batch, 3, side, side))).contiguous(memory_format=lib.channels_last)
    wanted = lib.tensor(integers(1000, (batch,)))

    def loss() -> Any:
        return lib.nn.functional.cross_entropy(model(data), wanted)

    optimizer = lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return training(lib, in_half(lib, loss) if half else loss, optimizer)


@workload(
    "gpu-lstm", "LSTM 2 x 1024, sequence 128, batch 64, TF32, Adam", 103, backends=GPU, tolerance=2e-2,
    batch=64, length=128, width=1024,
)  # fmt: skip
def lstm(lib: Any, batch: int, length: int, width: int) -> Step:
    """Sequences of vectors as wide as the layers; the last output, a linear layer, cross-entropy."""
    allow_tf32(lib)
    nn = lib.nn

    class Classifier(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(width, width, 2, batch_first=True), nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    model = fill(lib, Classifier())
    data, wanted = lib.tensor(normal((batch, length, width))), lib.tensor(integers(10, (batch,)))
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-4, **optimizer_options())
    return training(lib, lambda: nn.functional.cross_entropy(model(data), wanted), optimizer)


@workload(
    "gpu-mlp", "MLP 3 x 4096, batch 4096, bfloat16, Adam", 104, backends=GPU, tolerance=2e-2, batch=4096, width=4096,
)  # fmt: skip
@workload(
    "gpu-mlp-small", "MLP 784-512-512-10, batch 128, Adam: launches, not arithmetic", 105, backends=GPU, half=False,
    batch=128, width=512, inputs=784, outputs=10,
)  # fmt: skip
def mlp(lib: Any, batch: int, width: int, inputs: int = 4096, outputs: int = 4096, half: bool = True) -> Step:
    nn = lib.nn
    sizes = inputs, width, width, outputs
    layers = [part for i, o in zip(sizes[:-1], sizes[1:], strict=True) for part in (nn.Linear(i, o), nn.ReLU())]
    model = fill(lib, nn.Sequential(*layers[:-1]))
    data, wanted = lib.tensor(normal((batch, inputs))), lib.tensor(integers(outputs, (batch,)))

    def loss() -> Any:
        return nn.functional.cross_entropy(model(data), wanted)

    optimizer = lib.optim.Adam(model.parameters(), lr=1e-4, **optimizer_options())
    return training(lib, in_half(lib, loss) if half else loss, optimizer)
