"""Trains a small convolutional network on real handwritten digits and draws what it learnt.

    make demo        (or: python examples/demo.py [--epochs N] [--out PATH])

Prints a line of loss and accuracy per epoch and, at the end, the path of a PNG with the loss curve, the test accuracy
and a grid of predictions.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import digits
import tapegrad as torch

nn = torch.nn
F = torch.nn.functional


class Net(nn.Module):
    """Two convolutions and two linear layers: (N, 1, 8, 8) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(self.drop(x.flatten(1))))
        return self.fc2(x)


def accuracy(model: Any, images: Any, labels: Any) -> tuple[float, Any]:
    """(share of right answers, the answers)."""
    model.eval()
    with torch.no_grad():
        guesses = model(images).argmax(dim=1)
    model.train()
    return (guesses == labels).float().mean().item(), guesses


def draw(path: Path, losses: list[float], accuracies: list[float], images: Any, labels: Any, guesses: Any) -> None:
    """Writes the PNG: loss per step, test accuracy per epoch, 32 test digits with the answer given."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 6.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    top, bottom = left.subplots(2, 1)
    top.plot(losses, lw=0.8, color="tab:blue")
    top.set(title="training loss", xlabel="step", yscale="log")
    bottom.plot(range(1, len(accuracies) + 1), accuracies, marker="o", ms=3, color="tab:green")
    bottom.set(title=f"test accuracy: {accuracies[-1]:.4f}", xlabel="epoch", ylim=(0.85, 1.005))
    right.suptitle("predictions on unseen digits (red: wrong)")
    wrong = [i for i in range(len(labels)) if guesses[i] != labels[i]]
    shown = (wrong + [i for i in range(len(labels)) if i not in wrong])[:32]
    for axes, i in zip(right.subplots(4, 8).flat, sorted(shown), strict=True):
        axes.imshow(images[i, 0].numpy(), cmap="gray_r")
        right_answer = guesses[i].item() == labels[i].item()
        axes.set_title(str(guesses[i].item()), color="black" if right_answer else "red", fontsize=10, pad=2)
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("demo.png"))
    args = parser.parse_args()
    from tqdm import tqdm

    began = time.perf_counter()
    torch.manual_seed(0)
    images, labels, test_images, test_labels = digits.load(torch)
    data = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=args.epochs * len(loader))
    print(model)
    losses: list[float] = []
    accuracies: list[float] = []
    guesses: Any = None
    for epoch in range(args.epochs):
        for x, y in tqdm(loader, desc=f"epoch {epoch + 1:2}", leave=False, ascii=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        share, guesses = accuracy(model, test_images, test_labels)
        accuracies.append(share)
        mean = sum(losses[-len(loader) :]) / len(loader)
        print(f"epoch {epoch + 1:2}  loss {mean:.4f}  test accuracy {share:.4f}", flush=True)
    draw(args.out, losses, accuracies, test_images, test_labels, guesses)
    print(f"{time.perf_counter() - began:.1f} s; test accuracy {accuracies[-1]:.4f}; picture: {args.out.resolve()}")


if __name__ == "__main__":
    main()
