"""LeNet on MNIST in its published idx files: python examples/mnist.py --data DIR

DIR holds train-images-idx3-ubyte[.gz] and train-labels-idx1-ubyte[.gz] (and t10k-*), or the t10k files alone: then the
first 8,000 of their images train and the last 2,000 test. LeCun et al., Gradient-based learning applied to document
recognition, 1998.
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import tapegrad as torch

nn = torch.nn
F = torch.nn.functional


def read_idx(path: Path) -> Any:
    """The array in an idx file (gzipped or not): uint8, of the shape that its header says."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        data = file.read()
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no idx file of unsigned bytes (it begins with {data[:4].hex()})")
    ndim = data[3]
    shape = tuple(np.frombuffer(data, ">u4", ndim, 4).astype(int))
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def load(folder: Path, name: str) -> Any:
    """images (N, 1, 28, 28) float32 in [0, 1] and labels (N,) int64 of one of the published pairs, or None."""
    arrays = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        found = [p for p in (folder / f"{name}-{kind}", folder / f"{name}-{kind}.gz") if p.exists()]
        if not found:
            return None
        arrays.append(read_idx(found[0]))
    images, labels = arrays
    return torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 255, torch.tensor(labels, dtype=torch.int64)


class LeNet(nn.Module):
    """(N, 1, 28, 28) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    train, test = load(args.data, "train"), load(args.data, "t10k")
    if train is None:
        if test is None:
            raise SystemExit(f"no MNIST idx files in {args.data}: expected t10k-images-idx3-ubyte[.gz] and its labels")
        images, labels = test
        train, test = (images[:8000], labels[:8000]), (images[8000:], labels[8000:])
    model = LeNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*train), args.batch_size, shuffle=True)
    for epoch in range(args.epochs):
        began, total = time.perf_counter(), 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        with torch.no_grad():
            parts = zip(test[0].split(500), test[1].split(500), strict=True)
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in parts)
        seconds = time.perf_counter() - began
        loss, accuracy = total / len(train[1]), right / len(test[1])
        print(f"epoch {epoch + 1}: loss {loss:.4f}, test accuracy {accuracy:.4f}, {seconds:.1f} s")


if __name__ == "__main__":
    main()
