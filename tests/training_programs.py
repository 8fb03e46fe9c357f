"""Training programs written once against a torch-like namespace, run on tapegrad and on torch with one seed.

Each function builds a model, data and an optimizer and gives (model, step): `step(i)` does the i-th training step and
gives its loss as a float.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Program = tuple[Any, Callable[[int], float]]


def mlp(torch: Any) -> Program:
    """A multilayer perceptron with dropout; SGD with momentum."""
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 64), nn.Tanh(), nn.Dropout(0.1), nn.Linear(64, 5)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    x, y = torch.randn(256, 20), torch.randint(0, 5, (256,))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)
    batches = [b for _ in range(4) for b in loader]

    def step(i: int) -> float:
        a, b = batches[i]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(a), b)
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, step


def lenet(torch: Any) -> Program:
    """LeNet with dropout on noisy pictures of ten patterns; Adam.

    Pure noise would not do: one unit near zero then decides a step, and PyTorch with and without oneDNN differ by 2e-4.
    """
    nn = torch.nn
    F = nn.functional

    class LeNet(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.drop = nn.Dropout2d(0.1)
            self.fc1 = nn.Linear(400, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.drop(self.conv2(x))), 2)
            x = x.view(x.size(0), -1)
            x = F.dropout(F.relu(self.fc1(x)), 0.3, self.training)
            return F.log_softmax(self.fc3(F.relu(self.fc2(x))), dim=1)

    torch.manual_seed(1)
    model = LeNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    y = torch.randint(0, 10, (64,))
    x = torch.rand(10, 1, 28, 28)[y] + 0.1 * torch.randn(64, 1, 28, 28)

    def step(i: int) -> float:
        rows = torch.randperm(64)[:16]
        optimizer.zero_grad()
        loss = F.nll_loss(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, step


def lstm(torch: Any) -> Program:
    """A two-layer LSTM with dropout between the layers; RMSprop."""
    nn = torch.nn

    class Reader(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(30, 12)
            self.lstm = nn.LSTM(12, 24, num_layers=2, batch_first=True, dropout=0.2)
            self.fc = nn.Linear(24, 4)

        def forward(self, x: Any) -> Any:
            h0 = torch.zeros(2, x.size(0), 24).to(x.device)
            c0 = torch.zeros(2, x.size(0), 24).to(x.device)
            out, _ = self.lstm(self.embedding(x), (h0, c0))
            return self.fc(out[:, -1, :])

    torch.manual_seed(2)
    model = Reader()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    x, y = torch.randint(0, 30, (64, 11)), torch.randint(0, 4, (64,))

    def step(i: int) -> float:
        rows = slice(16 * (i % 4), 16 * (i % 4) + 16)
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        return loss.item()

    return model, step


def gpt(torch: Any) -> Program:
    """A small GPT with dropout; AdamW in two groups, cosine schedule with warm-up, gradient clipping."""
    nn = torch.nn
    F = nn.functional

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, heads: int):
            super().__init__()
            self.heads = heads
            self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width)
            self.proj = nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            self.drop = nn.Dropout(0.1)
            self.register_buffer("mask", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

        def forward(self, x: Any) -> Any:
            b, t, c = x.size()
            q, k, v = self.qkv(self.ln1(x)).split(c, dim=2)
            q, k, v = (s.view(b, t, self.heads, c // self.heads).transpose(1, 2) for s in (q, k, v))
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.mask[:, :, :t, :t] == 0, float("-inf"))
            att = self.drop(F.softmax(att, dim=-1))
            y = (att @ v).transpose(1, 2).contiguous().view(b, t, c)
            x = x + self.drop(self.proj(y))
            return x + self.drop(self.mlp(self.ln2(x)))

    class GPT(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(40, 32), nn.Embedding(16, 32)
            self.drop = nn.Dropout(0.1)
            self.h = nn.ModuleList([Block(32, 4) for _ in range(2)])
            self.ln = nn.LayerNorm(32)
            self.head = nn.Linear(32, 40, bias=False)
            self.apply(self._init)

        def _init(self, module: Any) -> None:
            if isinstance(module, (nn.Linear, nn.Embedding)):
                torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                torch.nn.init.zeros_(module.bias)

        def forward(self, idx: Any) -> Any:
            x = self.drop(self.wte(idx) + self.wpe(torch.arange(idx.size(1)).unsqueeze(0)))
            for block in self.h:
                x = block(x)
            return self.head(self.ln(x))

    torch.manual_seed(3)
    model = GPT()
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    # eps above the rounding of the gradients, which Adam otherwise makes a step of: torch with and without oneDNN then
    # differ in single weights by two thirds of what the test allows
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), eps=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    text = torch.randint(0, 40, (400,))

    def step(i: int) -> float:
        starts = torch.randint(400 - 17, (8,))
        x = torch.stack([text[s : s + 16] for s in starts])
        y = torch.stack([text[s + 1 : s + 17] for s in starts])
        logits = model(x)
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        return loss.item()

    return model, step


PROGRAMS: dict[str, Callable[[Any], Program]] = {"mlp": mlp, "lenet": lenet, "lstm": lstm, "gpt": gpt}
