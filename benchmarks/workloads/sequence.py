"""Recurrent networks, transformers, and recursion over trees."""

from __future__ import annotations

from typing import Any

from .common import Step, fill, gradients, integers, normal, rng, training, workload


@workload("lstm", "LSTM 2 x 256, sequence 50, batch 32, Adam", 50, batch=32, length=50, width=256)
def lstm(lib: Any, batch: int, length: int, width: int, layers: int = 2, inputs: int = 128) -> Step:
    """A classifier of sequences of vectors: the last output of the last layer, a linear layer, cross-entropy."""
    nn = lib.nn

    class Classifier(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(inputs, width, layers, batch_first=True)
            self.head = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    model = fill(lib, Classifier())
    data, wanted = lib.tensor(normal((batch, length, inputs))), lib.tensor(integers(10, (batch,)))
    return training(
        lib,
        lambda: nn.functional.cross_entropy(model(data), wanted),
        lib.optim.Adam(model.parameters(), lr=1e-3),
    )


def gpt_model(lib: Any, layers: int, width: int, heads: int, context: int, vocabulary: int) -> Any:
    """Radford et al., Language models are unsupervised multitask learners, 2019: pre-norm blocks. (N, T) -> logits."""
    nn, functional = lib.nn, lib.nn.functional

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
            self.proj, self.ln2 = nn.Linear(width, width), nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            parts = self.qkv(self.ln1(x)).split(width, dim=2)
            q, k, v = (t.view(batch, length, heads, width // heads).transpose(1, 2) for t in parts)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).contiguous().view(batch, length, width))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, index: Any) -> Any:
            x = self.token(index) + self.position(lib.arange(index.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.head(self.ln(x))

    return GPT()


@workload(
    "gpt-6x384", "GPT 6 layers x 384, context 256, batch 8, AdamW", 51, layers=6, width=384, heads=6, context=256,
    batch=8,
)  # fmt: skip
@workload(
    "gpt-2x64", "GPT 2 layers x 64, context 64, batch 16, AdamW", 52, quick=True, layers=2, width=64, heads=4,
    context=64, batch=16,
)  # fmt: skip
def gpt(lib: Any, layers: int, width: int, heads: int, context: int, batch: int, vocabulary: int = 65) -> Step:
    """A language model of characters; attention by scaled_dot_product_attention, no dropout."""
    model = fill(lib, gpt_model(lib, layers, width, heads, context, vocabulary))
    text = integers(vocabulary, (batch, context + 1))
    data, wanted = lib.tensor(text[:, :-1].copy()), lib.tensor(text[:, 1:].copy())

    def loss() -> Any:
        logits = model(data)
        return lib.nn.functional.cross_entropy(logits.view(-1, vocabulary), wanted.view(-1))

    return training(lib, loss, lib.optim.AdamW(model.parameters(), lr=1e-3))


@workload("bert-layer", "BERT-base layer, (8, 128, 768)", 53, batch=8, length=128)
def bert_layer(lib: Any, batch: int, length: int, width: int = 768, heads: int = 12) -> Step:
    """nn.TransformerEncoderLayer (post-norm, GELU, no dropout): forward and backward to its input and weights."""
    layer = fill(
        lib, lib.nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, activation="gelu", batch_first=True)
    )
    x = lib.tensor(normal((batch, length, width)), requires_grad=True)
    g = lib.tensor(normal((batch, length, width), 3))
    return gradients(lib, lambda: (layer(x) * g).mean(), [x, *layer.parameters()])


def random_trees(count: int, leaves: int) -> list[Any]:
    """`count` random binary trees as nested pairs, of leaves / 2 to leaves leaves; a leaf is its token's number."""
    generator = rng(5)

    def grow(size: int) -> Any:
        if size == 1:
            return int(generator.integers(100))
        left = int(generator.integers(1, size))
        return grow(left), grow(size - left)

    return [grow(int(generator.integers(leaves // 2, leaves + 1))) for _ in range(count)]


@workload("trees", "recursion over 16 random trees of up to 32 leaves, width 64, SGD", 91, count=16, leaves=32)
def trees(lib: Any, count: int, leaves: int, width: int = 64) -> Step:
    """A recursive network (Socher et al., 2011): every tree is another graph. h(l, r) = tanh(W [h(l), h(r)] + b)."""
    nn = lib.nn

    class Tree(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(lib.zeros(100, width))
            self.join, self.head = nn.Linear(2 * width, width), nn.Linear(width, 2)

        def node(self, tree: Any) -> Any:
            if isinstance(tree, int):
                return self.token[tree]
            return lib.tanh(self.join(lib.cat([self.node(tree[0]), self.node(tree[1])])))

        def forward(self, forest: list[Any]) -> Any:
            return self.head(lib.stack([self.node(tree) for tree in forest]))

    model, forest = fill(lib, Tree()), random_trees(count, leaves)
    wanted = lib.tensor(integers(2, (count,)))
    return training(
        lib,
        lambda: nn.functional.cross_entropy(model(forest), wanted),
        lib.optim.SGD(model.parameters(), lr=0.05),
    )
