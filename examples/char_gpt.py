"""A small GPT that learns to write like a text file, character by character.

    python examples/char_gpt.py FILE [--steps N] [--sample N]

Trains on the first 90 % of the file, tells the loss on the rest, and writes a sample at the end.
Radford et al., Language models are unsupervised multitask learners, 2019 (pre-norm blocks, tied embedding).
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import tapegrad as torch

nn = torch.nn
F = torch.nn.functional


class Block(nn.Module):
    """Attention and a two-layer network, each behind a layer norm and beside a residual path."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.ln1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.ln1(x)).split(width, dim=2)
        q, k, v = (t.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for t in (q, k, v))
        drop = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """Token indices (N, T) -> logits (N, T, vocabulary)."""

    def __init__(
        self, vocabulary: int, context: int, width: int = 96, layers: int = 3, heads: int = 4, dropout: float = 0.1
    ):
        super().__init__()
        self.context = context
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(self.init)
        self.head.weight = self.token.weight

    def init(self, module: Any) -> None:
        """Normal weights of deviation 0.02, zero biases."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, index: Any) -> Any:
        x = self.drop(self.token(index) + self.position(torch.arange(index.shape[1])))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))

    @torch.no_grad()
    def generate(self, index: Any, count: int, temperature: float = 0.8, top_k: int = 20) -> Any:
        """`count` further tokens for each row, drawn from the top_k likeliest. index: (N, T) -> (N, T + count)."""
        self.eval()
        for _ in range(count):
            logits = self(index[:, -self.context :])[:, -1] / temperature
            least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -float("inf"))
            index = torch.cat([index, torch.multinomial(F.softmax(logits, dim=-1), 1)], dim=1)
        self.train()
        return index


def batch(data: Any, size: int, context: int, generator: Any) -> tuple[Any, Any]:
    """`size` random windows of the text and the same windows one character later: (size, context) each."""
    starts = torch.randint(len(data) - context - 1, (size,), generator=generator).tolist()
    inputs = torch.stack([data[i : i + context] for i in starts])
    return inputs, torch.stack([data[i + 1 : i + context + 1] for i in starts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--sample", type=int, default=200)
    args = parser.parse_args()
    torch.manual_seed(1337)
    text = args.file.read_text(encoding="utf-8")
    alphabet = sorted(set(text))
    number = {c: i for i, c in enumerate(alphabet)}
    data = torch.tensor([number[c] for c in text])
    cut = int(0.9 * len(data))
    train, valid = data[:cut], data[cut:]
    model = GPT(len(alphabet), args.context)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(text)} characters, {len(alphabet)} of them different; {parameters} parameters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1, betas=(0.9, 0.99))
    warm = max(1, args.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, 0.1 + 0.45 * (1 + math.cos(math.pi * s / args.steps)))
    )
    generator = torch.Generator().manual_seed(0)

    def validation() -> float:
        model.eval()
        fixed = torch.Generator().manual_seed(1)
        with torch.no_grad():
            losses = []
            for _ in range(8):
                x, y = batch(valid, args.batch_size, args.context, fixed)
                losses.append(F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item())
        model.train()
        return sum(losses) / len(losses)

    began = time.perf_counter()
    for step in range(1, args.steps + 1):
        x, y = batch(train, args.batch_size, args.context, generator)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, args.steps // 10) == 0 or step == 1:
            seconds = time.perf_counter() - began
            print(f"step {step:5}  loss {loss.item():.4f}  validation {validation():.4f}  {seconds:.0f} s", flush=True)
    start = torch.tensor([[number.get("\n", 0)]])
    print("".join(alphabet[i] for i in model.generate(start, args.sample)[0].tolist()))


if __name__ == "__main__":
    main()
