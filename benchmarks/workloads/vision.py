"""Convolution networks, and conv2d alone."""

from __future__ import annotations

from typing import Any

from .common import Step, fill, gradients, integers, normal, training, workload


@workload("lenet", "LeNet-5, 28 x 28, batch 64, SGD", 40, quick=True, batch=64)
def lenet(lib: Any, batch: int) -> Step:
    """LeCun et al., Gradient-based learning applied to document recognition, 1998, with ReLU and max pooling."""
    nn = lib.nn
    model = fill(
        lib,
        nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        ),
    )  # fmt: skip
    data, wanted = lib.tensor(normal((batch, 1, 28, 28))), lib.tensor(integers(10, (batch,)))
    return training(
        lib,
        lambda: nn.functional.cross_entropy(model(data), wanted),
        lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    )


def residual_network(lib: Any, blocks: int) -> Any:
    """He et al., Deep residual learning, 2016, for 32 x 32: three stages of `blocks` blocks, 16, 32 and 64 channels."""
    nn = lib.nn
    relu = nn.functional.relu

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = None
            if stride != 1 or inputs != outputs:
                convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            h = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            return relu(h + (x if self.shortcut is None else self.shortcut(x)))

    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for index in range(blocks):
            layers.append(Block(inputs, outputs, stride if index == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@workload("resnet", "residual BatchNorm CNN (20 layers), 32 x 32, batch 32, SGD", 41, batch=32, blocks=3)
def resnet(lib: Any, batch: int, blocks: int) -> Step:
    model = fill(lib, residual_network(lib, blocks))
    data, wanted = lib.tensor(normal((batch, 3, 32, 32))), lib.tensor(integers(10, (batch,)))
    return training(
        lib,
        lambda: lib.nn.functional.cross_entropy(model(data), wanted),
        lib.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4),
    )


@workload("conv-64x56-k3", "conv2d 8x64x56x56 -> 64, 3 x 3", 42, inputs=64, outputs=64, side=56, kernel=3)
@workload("conv-256x14-k3", "conv2d 8x256x14x14 -> 256, 3 x 3", 43, inputs=256, outputs=256, side=14, kernel=3)
@workload(
    "conv-128x28-k3s2", "conv2d 8x128x28x28 -> 256, 3 x 3, stride 2", 44,
    inputs=128, outputs=256, side=28, kernel=3, stride=2,
)  # fmt: skip
@workload("conv-256x28-k1", "conv2d 8x256x28x28 -> 128, 1 x 1", 45, inputs=256, outputs=128, side=28, kernel=1)
@workload(
    "conv-3x112-k7s2", "conv2d 8x3x112x112 -> 64, 7 x 7, stride 2", 46,
    inputs=3, outputs=64, side=112, kernel=7, stride=2,
)  # fmt: skip
def conv2d(lib: Any, inputs: int, outputs: int, side: int, kernel: int, stride: int = 1, batch: int = 8) -> Step:
    """Forward and backward to images (not where they have 3 channels: they are data), weight and bias."""
    x = lib.tensor(normal((batch, inputs, side, side), 0), requires_grad=inputs > 3)
    w = lib.tensor(normal((outputs, inputs, kernel, kernel), 1, (inputs * kernel**2) ** -0.5), requires_grad=True)
    b = lib.tensor(normal((outputs,), 2), requires_grad=True)
    out_side = (side + 2 * (kernel // 2) - kernel) // stride + 1
    g = lib.tensor(normal((batch, outputs, out_side, out_side), 3))

    def loss() -> Any:
        return (lib.nn.functional.conv2d(x, w, b, stride, kernel // 2) * g).mean()

    return gradients(lib, loss, [leaf for leaf in (x, w, b) if leaf.requires_grad])
