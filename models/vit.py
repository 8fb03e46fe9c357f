"""ViT. Dosovitskiy et al., An image is worth 16x16 words, 2020 (arXiv:2010.11929).

N images of P patches, H numbers for each. Module names are those of the checkpoints.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from ..autograd.api.creation import zeros
from ..autograd.api.join import cat
from ..autograd.tensor import Tensor
from ..nn import Dropout, LayerNorm, Module, ModuleList, Parameter, init
from ..nn import functional as F
from .configuration import PretrainedConfig
from .layers import ACTIVATION_NAMES, Conv2d, Linear, SelfAttention, activation
from .losses import classification_loss
from .outputs import ModelOutput
from .pretrained import PretrainedModel

__all__ = ["ViTConfig", "ViTForImageClassification", "ViTModel"]


@dataclasses.dataclass(kw_only=True)
class ViTConfig(PretrainedConfig):
    """What a ViT is like; defaults are those of vit-base-patch16-224."""

    model_type: ClassVar[str] = "vit"
    allowed: ClassVar[dict[str, tuple[Any, ...]]] = {"hidden_act": ACTIVATION_NAMES, "pooler_act": ACTIVATION_NAMES}

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: Any = 224  # pixels: a number, or (height, width)
    patch_size: Any = 16
    num_channels: int = 3
    qkv_bias: bool = True
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"
    problem_type: str | None = None

    def validate(self) -> None:
        self.grid()
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is no multiple of num_attention_heads={self.num_attention_heads}"
            )

    def grid(self) -> tuple[int, int]:
        """Patches down and across. ValueError where image_size or patch_size is no size."""
        image, patch = _sides("image_size", self.image_size), _sides("patch_size", self.patch_size)
        if image[0] < patch[0] or image[1] < patch[1]:
            raise ValueError(f"patch_size={self.patch_size} is larger than image_size={self.image_size}")
        return image[0] // patch[0], image[1] // patch[1]


def _sides(name: str, size: Any) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"{name} must be a number of pixels, or (height, width), not {size!r}")
    return sides


class ViTPatchEmbeddings(Module):
    """Each patch of an image as a vector."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        patch = _sides("patch_size", config.patch_size)
        self.projection = Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(N, C, height, width) -> (N, P, H)."""
        return self.projection(pixel_values).flatten(2).transpose(1, 2)


class ViTEmbeddings(Module):
    """A token for the image, and its patches, each with its position."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        down, across = config.grid()
        self.cls_token = Parameter(zeros(1, 1, config.hidden_size))
        self.patch_embeddings = ViTPatchEmbeddings(config)
        self.position_embeddings = Parameter(zeros(1, down * across + 1, config.hidden_size))
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool) -> Tensor:
        """(N, C, height, width) -> (N, P + 1, H)."""
        if pixel_values.dim() != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values must be of shape (N, {self.config.num_channels}, height, width), "
                f"not {tuple(pixel_values.shape)}"
            )
        height, width = pixel_values.shape[2:]
        expected = _sides("image_size", self.config.image_size)
        if (height, width) != expected and not interpolate_pos_encoding:
            raise ValueError(
                f"Input image size ({height}*{width}) doesn't match model ({expected[0]}*{expected[1]}): resize it, "
                "or use interpolate_pos_encoding=True"
            )
        patches = self.patch_embeddings(pixel_values.to(self.cls_token.dtype))
        x = cat([self.cls_token.expand(len(patches), -1, -1), patches], 1)
        positions = self.position_embeddings if (height, width) == expected else self._positions(height, width)
        return self.dropout(x + positions)

    def _positions(self, height: int, width: int) -> Tensor:
        """The positions of another number of patches, between those that were trained. -> (1, P + 1, H)."""
        down, across = self.config.grid()
        patch = _sides("patch_size", self.config.patch_size)
        grid = self.position_embeddings[:, 1:].reshape(1, down, across, -1).permute(0, 3, 1, 2)
        size = (height // patch[0], width // patch[1])
        grid = F.interpolate(grid, size=size, mode="bicubic", align_corners=False)
        return cat([self.position_embeddings[:, :1], grid.flatten(2).transpose(1, 2)], 1)


class _Dense(Module):
    """A projection followed by dropout, in a module of its own since the files have it so."""

    def __init__(self, inputs: int, outputs: int, dropout: float):
        super().__init__()
        self.dense = Linear(inputs, outputs)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.dense(x))


class ViTAttention(Module):
    """Attention and its projection. (N, L, H) -> (N, L, H)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        size, dropout = config.hidden_size, config.attention_probs_dropout_prob
        self.attention = SelfAttention(size, config.num_attention_heads, dropout, bias=config.qkv_bias)
        self.output = _Dense(size, size, config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x))


class ViTIntermediate(Module):
    """The wide layer. (N, L, H) -> (N, L, intermediate_size)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)
        self.activation = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))


class ViTLayer(Module):
    """A transformer layer, normalised before each half. (N, L, H) -> (N, L, H)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.attention = ViTAttention(config)
        self.intermediate = ViTIntermediate(config)
        self.output = _Dense(config.intermediate_size, config.hidden_size, config.hidden_dropout_prob)
        self.layernorm_before = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layernorm_after = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output(self.intermediate(self.layernorm_after(x)))


class ViTEncoder(Module):
    """The layers, one after the other."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.layer = ModuleList([ViTLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: (N, L, H) -> what goes into the first layer and comes out of each, (N, L, H) each."""
        states = [x]
        for layer in self.layer:
            states.append(layer(states[-1]))
        return states


class ViTPooler(Module):
    """A layer on the image's token. (N, L, H) -> (N, pooler_output_size)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.pooler_output_size or config.hidden_size)
        self.activation = activation(config.pooler_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x[:, 0]))


# how transformers 5 names the modules in memory, and some files
_RENAMED = {
    r"^(vit\.)?layers\.": r"\1encoder.layer.",
    r"\.attention\.q_proj\.": ".attention.attention.query.",
    r"\.attention\.k_proj\.": ".attention.attention.key.",
    r"\.attention\.v_proj\.": ".attention.attention.value.",
    r"\.attention\.o_proj\.": ".attention.output.dense.",
    r"\.mlp\.fc1\.": ".intermediate.dense.",
    r"\.mlp\.fc2\.": ".output.dense.",
}


class ViTPretrainedModel(PretrainedModel):
    """What the ViT models have in common."""

    Config: ClassVar[type[PretrainedConfig]] = ViTConfig
    prefix: ClassVar[str] = "vit"
    ignored: ClassVar[tuple[str, ...]] = (r"(^|\.)pooler\.", r"^classifier\.", r"\.mask_token$")
    renamed: ClassVar[dict[str, str]] = _RENAMED

    def _init_weights(self, module: Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ViTEmbeddings):
            for parameter in (module.cls_token, module.position_embeddings):
                init.trunc_normal_(parameter, 0.0, self.config.initializer_range)


class ViTModel(ViTPretrainedModel):
    """The encoder. Without `add_pooling_layer` there is no pooler: for checkpoints that have none."""

    def __init__(self, config: ViTConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = ViTEmbeddings(config)
        self.encoder = ViTEncoder(config)
        self.layernorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = ViTPooler(config) if add_pooling_layer else None
        self.post_init()

    def forward(
        self, pixel_values: Tensor, interpolate_pos_encoding: bool = False, output_hidden_states: bool = False
    ) -> ModelOutput:
        """The patches in their context.

        Args:
            pixel_values: (N, C, height, width), normalised as `ImageProcessor` does.
            interpolate_pos_encoding: whether images may be of another size than the model was trained with.
            output_hidden_states: whether to return them.

        Returns last_hidden_state: (N, P + 1, H), the image's own token first; pooler_output; hidden_states: of the
        embeddings and of each layer. ValueError for images of another shape.
        """
        states = self.encoder(self.embeddings(pixel_values, interpolate_pos_encoding))
        last = self.layernorm(states[-1])
        return ModelOutput(
            last_hidden_state=last,
            pooler_output=None if self.pooler is None else self.pooler(last),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class ViTForImageClassification(ViTPretrainedModel):
    """A class for each image."""

    def __init__(self, config: ViTConfig):
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.classifier = Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Arguments are ViTModel's; labels: (N,) int.

        Returns loss: (), where there are labels; logits: (N, classes); hidden_states.
        """
        found = self.vit(pixel_values, **inputs)
        logits = self.classifier(found.last_hidden_state[:, 0])
        loss = None if labels is None else classification_loss(self.config, logits, labels)
        return ModelOutput(loss=loss, logits=logits, hidden_states=found.hidden_states)
