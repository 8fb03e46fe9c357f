"""Single layers and losses, forward and backward, and one optimizer."""

from __future__ import annotations

from typing import Any

from .common import Step, gradients, integers, normal, workload


@workload("cross-entropy", "softmax cross-entropy, 512 x 50,257 classes", 60, rows=512, classes=50_257)
def cross_entropy(lib: Any, rows: int, classes: int) -> Step:
    logits = lib.tensor(normal((rows, classes)), requires_grad=True)
    wanted = lib.tensor(integers(classes, (rows,)))
    return gradients(lib, lambda: lib.nn.functional.cross_entropy(logits, wanted), [logits])


@workload("layer-norm", "layer norm, (4096, 768)", 61, quick=True, rows=4096, width=768)
def layer_norm(lib: Any, rows: int, width: int) -> Step:
    x = lib.tensor(normal((rows, width)), requires_grad=True)
    w = lib.tensor(1 + normal((width,), 1, 0.1), requires_grad=True)
    b = lib.tensor(normal((width,), 2, 0.1), requires_grad=True)
    g = lib.tensor(normal((rows, width), 3))

    def loss() -> Any:
        return (lib.nn.functional.layer_norm(x, (width,), w, b) * g).mean()

    return gradients(lib, loss, [x, w, b])


@workload("embedding", "embedding, 30,522 x 768, (8, 512) indices", 62, vocabulary=30_522, width=768)
def embedding(lib: Any, vocabulary: int, width: int, batch: int = 8, length: int = 512) -> Step:
    """Forward and backward; indices are distributed as words are (density ~ 1 / rank)."""
    weight = lib.tensor(normal((vocabulary, width)), requires_grad=True)
    rank = vocabulary ** (integers(1 << 20, (batch, length)) / (1 << 20))
    index = lib.tensor(rank.astype("i8") - 1)
    g = lib.tensor(normal((batch, length, width), 3))
    return gradients(lib, lambda: (lib.nn.functional.embedding(index, weight) * g).mean(), [weight])


@workload("adam-10m", "Adam's update of 10 M parameters in 20 tensors", 70, size=10_000_000)
def adam(lib: Any, size: int, tensors: int = 20) -> Step:
    weights = [lib.tensor(normal((size // tensors // 500, 500), i), requires_grad=True) for i in range(tensors)]
    for i, weight in enumerate(weights):
        weight.grad = lib.tensor(normal(tuple(weight.shape), 100 + i))
    optimizer = lib.optim.Adam(weights, lr=1e-3)

    def step() -> Any:
        optimizer.step()
        return weights[0].detach()[0, 0]

    return step
