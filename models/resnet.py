"""ResNet. He et al., Deep residual learning for image recognition, 2015 (arXiv:1512.03385).

The bottleneck has its stride in the 3x3 convolution (version 1.5), unless the configuration says otherwise. Module
names are those of the checkpoints.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

from ..autograd.tensor import Tensor
from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Flatten, Identity, MaxPool2d, Module, ModuleList, Sequential, init
from .configuration import PretrainedConfig
from .layers import ACTIVATION_NAMES, Conv2d, Linear, activation
from .losses import classification_loss
from .outputs import ModelOutput
from .pretrained import PretrainedModel

__all__ = ["ResNetConfig", "ResNetForImageClassification", "ResNetModel"]

_REDUCTION = 4  # a bottleneck has a quarter of the channels

# name -> kind of layer, layers per stage (table 1 of the paper)
_SHAPES: dict[str, tuple[str, list[int]]] = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
    "resnet101": ("bottleneck", [3, 4, 23, 3]),
    "resnet152": ("bottleneck", [3, 8, 36, 3]),
}


@dataclasses.dataclass(kw_only=True)
class ResNetConfig(PretrainedConfig):
    """What a ResNet is like; defaults are those of resnet-50."""

    model_type: ClassVar[str] = "resnet"
    allowed: ClassVar[dict[str, tuple[Any, ...]]] = {
        "hidden_act": ACTIVATION_NAMES,
        "layer_type": ("basic", "bottleneck"),
    }

    num_channels: int = 3
    embedding_size: int = 64
    hidden_sizes: list[int] = dataclasses.field(default_factory=lambda: [256, 512, 1024, 2048])
    depths: list[int] = dataclasses.field(default_factory=lambda: [3, 4, 6, 3])
    layer_type: str = "bottleneck"
    hidden_act: str = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False
    problem_type: str | None = None

    def validate(self) -> None:
        for name, sizes in (("hidden_sizes", self.hidden_sizes), ("depths", self.depths)):
            if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes) or not sizes:
                raise ValueError(f"{name} must be a list of positive whole numbers, not {sizes!r}")
        if len(self.hidden_sizes) != len(self.depths):
            raise ValueError(f"hidden_sizes={self.hidden_sizes} and depths={self.depths} must be of the same length")

    @classmethod
    def named(cls, name: str, **changes: Any) -> Self:
        """The configuration of a model of the paper: "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"."""
        if name not in _SHAPES:
            raise ValueError(f"{name!r} is unknown; known are {', '.join(_SHAPES)}")
        kind, depths = _SHAPES[name]
        sizes = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
        return cls(**{"layer_type": kind, "depths": list(depths), "hidden_sizes": sizes, **changes})


class ResNetConvLayer(Module):
    """Convolution, normalisation, activation. (N, C, h, w) -> (N, K, h / stride, w / stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: str = "relu"):
        super().__init__()
        self.convolution = Conv2d(inputs, outputs, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False)
        self.normalization = BatchNorm2d(outputs)
        self.activation = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.normalization(self.convolution(x)))


class ResNetLayer(Module):
    """Two convolutions (basic) or three (bottleneck), added to what came in. (N, C, h, w) -> (N, K, h', w')."""

    def __init__(self, config: ResNetConfig, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        changes = inputs != outputs or stride != 1
        self.shortcut: Module = Identity()
        if changes:
            self.shortcut = ResNetConvLayer(inputs, outputs, kernel=1, stride=stride, act="linear")
        self.layer = Sequential(*self._parts(config, inputs, outputs, stride))
        self.activation = activation(config.hidden_act)

    @staticmethod
    def _parts(config: ResNetConfig, inputs: int, outputs: int, stride: int) -> list[Module]:
        if config.layer_type == "basic":
            return [
                ResNetConvLayer(inputs, outputs, stride=stride, act=config.hidden_act),
                ResNetConvLayer(outputs, outputs, act="linear"),
            ]
        within = outputs // _REDUCTION
        first, second = (stride, 1) if config.downsample_in_bottleneck else (1, stride)
        # ReLU inside, whatever hidden_act says: so transformers computes it
        return [
            ResNetConvLayer(inputs, within, kernel=1, stride=first),
            ResNetConvLayer(within, within, stride=second),
            ResNetConvLayer(within, outputs, kernel=1, act="linear"),
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x) + self.shortcut(x))


class ResNetStage(Module):
    """Layers of which the first may halve height and width."""

    def __init__(self, config: ResNetConfig, inputs: int, outputs: int, stride: int, depth: int):
        super().__init__()
        later = [ResNetLayer(config, outputs, outputs) for _ in range(depth - 1)]
        self.layers = Sequential(ResNetLayer(config, inputs, outputs, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResNetEmbeddings(Module):
    """The stem. (N, C, height, width) -> (N, embedding_size, height / 4, width / 4)."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.embedder = ResNetConvLayer(config.num_channels, config.embedding_size, 7, 2, config.hidden_act)
        self.pooler = MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.num_channels = config.num_channels

    def forward(self, pixel_values: Tensor) -> Tensor:
        if pixel_values.dim() != 4 or pixel_values.shape[1] != self.num_channels:
            raise ValueError(
                f"pixel_values must be of shape (N, {self.num_channels}, height, width), "
                f"not {tuple(pixel_values.shape)}"
            )
        return self.pooler(self.embedder(pixel_values))


class ResNetEncoder(Module):
    """The stages, one after the other."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        sizes = [config.embedding_size, *config.hidden_sizes]
        strides = [2 if config.downsample_in_first_stage else 1, *[2] * (len(config.depths) - 1)]
        shapes = zip(sizes, config.hidden_sizes, strides, config.depths, strict=False)
        self.stages = ModuleList([ResNetStage(config, *shape) for shape in shapes])

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: (N, C, h, w) -> what goes into the first stage and comes out of each."""
        states = [x]
        for stage in self.stages:
            states.append(stage(states[-1]))
        return states


class ResNetPretrainedModel(PretrainedModel):
    """What the ResNet models have in common."""

    Config: ClassVar[type[PretrainedConfig]] = ResNetConfig
    prefix: ClassVar[str] = "resnet"
    ignored: ClassVar[tuple[str, ...]] = (r"^classifier\.",)

    def _init_weights(self, module: Module) -> None:
        if isinstance(module, Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNetModel(ResNetPretrainedModel):
    """The convolutions, without a classifier."""

    def __init__(self, config: ResNetConfig):
        super().__init__(config)
        self.embedder = ResNetEmbeddings(config)
        self.encoder = ResNetEncoder(config)
        self.pooler = AdaptiveAvgPool2d((1, 1))
        self.post_init()

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> ModelOutput:
        """What the image shows, at each place and in all.

        Args:
            pixel_values: (N, C, height, width), normalised as `ImageProcessor` does.
            output_hidden_states: whether to return them.

        Returns last_hidden_state: (N, K, h, w); pooler_output: (N, K, 1, 1); hidden_states: of the stem and of each
        stage. ValueError for images of another shape.
        """
        states = self.encoder(self.embedder(pixel_values))
        return ModelOutput(
            last_hidden_state=states[-1],
            pooler_output=self.pooler(states[-1]),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class ResNetForImageClassification(ResNetPretrainedModel):
    """A class for each image."""

    def __init__(self, config: ResNetConfig):
        super().__init__(config)
        self.resnet = ResNetModel(config)
        self.classifier = Sequential(Flatten(), Linear(config.hidden_sizes[-1], config.num_labels))
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Arguments are ResNetModel's; labels: (N,) int.

        Returns loss: (), where there are labels; logits: (N, classes); hidden_states.
        """
        found = self.resnet(pixel_values, **inputs)
        logits = self.classifier(found.pooler_output)
        loss = None if labels is None else classification_loss(self.config, logits, labels)
        return ModelOutput(loss=loss, logits=logits, hidden_states=found.hidden_states)
