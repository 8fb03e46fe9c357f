"""One model trained by several processes, beside one process with the same batches: the same loss curve.

mpiexec -n 4 python examples/train_distributed.py
python examples/train_distributed.py --processes 4             the same: starts itself under mpiexec
python examples/train_distributed.py --processes 4 --data DIR  MNIST, from its published idx files in DIR

Each process reads its share of every batch (DistributedSampler). DistributedDataParallel averages the gradients while
the backward pass runs; SyncBatchNorm normalises over the batches of all; with no_sync, gradients of several small
batches travel once; ZeroRedundancyOptimizer keeps 1/N of AdamW's state on each process. Needs mpi4py and an MPI:
pip install 'tapegrad[mpi]'.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import digits
import mnist
import tapegrad as torch

D, nn, F = torch.distributed, torch.nn, torch.nn.functional
DistributedSampler = torch.utils.data.distributed.DistributedSampler


class Case(NamedTuple):
    """What is trained: the network, whether by ZeRO, and in how many parts each batch."""

    title: str
    conv: bool
    zero: bool
    parts: int


CASES = [
    Case("MLP, SGD with momentum", conv=False, zero=False, parts=1),
    Case("convolutions with SyncBatchNorm, SGD", conv=True, zero=False, parts=1),
    Case("MLP, each batch in 2 parts, one message (no_sync)", conv=False, zero=False, parts=2),
    Case("MLP, AdamW by ZeroRedundancyOptimizer", conv=False, zero=True, parts=1),
]


def network(conv: bool, size: int) -> nn.Module:
    """(N, 1, size, size) -> (N, 10), the same on every process."""
    torch.manual_seed(0)
    if not conv:
        return nn.Sequential(nn.Flatten(), nn.Linear(size * size, 128), nn.ReLU(), nn.Linear(128, 10))
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * (size // 4) ** 2, 10),
    )  # fmt: skip


def shared(case: Case, size: int) -> tuple[Any, Any]:
    """The model and the optimizer of one of several processes."""
    net = nn.SyncBatchNorm.convert_sync_batchnorm(network(case.conv, size))
    model = nn.parallel.DistributedDataParallel(net)
    if case.zero:
        return model, D.optim.ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=3e-3)
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def alone(case: Case, size: int) -> tuple[Any, Any]:
    """The model and the optimizer of a process that does everything."""
    model = network(case.conv, size)
    if case.zero:
        return model, torch.optim.AdamW(model.parameters(), lr=3e-3)
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def train(
    model: Any, optimizer: Any, data: Any, batch: int, steps: int, parts: int, rank: int, world: int
) -> list[float]:
    """The loss of each step, averaged over the processes. batch: of all of them together."""
    sampler = DistributedSampler(data, world, rank, seed=1, drop_last=True)
    loader = torch.utils.data.DataLoader(data, batch // world, sampler=sampler, drop_last=True)
    losses: list[float] = []
    for epoch in range(steps):
        sampler.set_epoch(epoch)
        for x, y in loader:
            if len(losses) == steps:
                return losses
            optimizer.zero_grad()
            total = 0.0
            pieces = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
            for i, (a, b) in enumerate(pieces):
                last = i == len(pieces) - 1
                with contextlib.nullcontext() if last or world == 1 else model.no_sync():
                    loss = F.cross_entropy(model(a), b) / len(pieces)
                    loss.backward()
                total = total + loss.detach()
            optimizer.step()
            if world > 1:
                D.all_reduce(total)
            losses.append(total.item() / world)
    return losses


def accuracy(model: Any, images: Any, labels: Any) -> float:
    """Of the whole test set, of which every process sees a part."""
    model.eval()
    rank, world = D.get_rank(), D.get_world_size()
    with torch.no_grad():
        found = torch.tensor([(model(images[rank::world]).argmax(1) == labels[rank::world]).sum().item()])
    D.all_reduce(found)
    return found.item() / len(labels)


def checkpoint(model: Any, optimizer: Any, path: Path) -> dict[str, Any]:
    """Rank 0 writes model and optimizer, all read: the model's state."""
    if hasattr(optimizer, "consolidate_state_dict"):
        optimizer.consolidate_state_dict(to=0)
    if D.get_rank() == 0:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    D.barrier()
    return torch.load(path)["model"]


def read(folder: Path | None) -> tuple[Any, ...]:
    """Train images and labels, test images and labels."""
    if folder is None:
        return digits.load(torch)
    found = mnist.load(folder, "train") or mnist.load(folder, "t10k")
    if found is None:
        raise SystemExit(f"no MNIST idx files in {folder}")
    (images, test_images), (labels, test_labels) = (t.split([len(t) - 2000, 2000]) for t in found)
    return images, labels, test_images, test_labels


def run(args: argparse.Namespace, folder: Path) -> None:
    rank, world = D.get_rank(), D.get_world_size()
    say = print if rank == 0 else (lambda *a, **k: None)
    found = [read(args.data) if rank == 0 else None]
    D.broadcast_object_list(found, src=0)
    images, labels, test_images, test_labels = found[0]
    data, size = torch.utils.data.TensorDataset(images, labels), images.shape[-1]
    worst = 0.0
    for case in CASES:
        model, optimizer = shared(case, size)
        losses = train(model, optimizer, data, args.batch_size, args.steps, case.parts, rank, world)
        right = accuracy(model, test_images, test_labels)
        state = checkpoint(model, optimizer, folder / "model.pt")
        again, _ = shared(case, size)
        again.load_state_dict(state)
        assert accuracy(again, test_images, test_labels) == right
        say(f"\n{case.title}: {world} process{'es' * (world > 1)}, {len(images)} images, batches of {args.batch_size}")
        if rank == 0:
            one = train(*alone(case, size), data, args.batch_size, args.steps, 1, 0, 1)
            shown = sorted({round(i * (len(one) - 1) / 7) for i in range(8)})
            say(f"  {'step':>5}  {f'{world} processes':>12}  {'one':>12}  {'difference':>10}")
            for i in shown:
                say(f"  {i + 1:5d}  {losses[i]:12.7f}  {one[i]:12.7f}  {abs(losses[i] - one[i]):10.1e}")
            difference = max(abs(a - b) for a, b in zip(losses, one, strict=True))
            worst = max(worst, difference)
            say(f"  largest difference {difference:.1e}; test accuracy {right:.4f}")
        D.barrier()
    say(f"\nlargest difference of all: {worst:.1e}")
    if rank == 0 and worst > 1e-5:
        raise SystemExit("the curves differ by more than 1e-5")


def launch(processes: int) -> int:
    """Starts this program again as several processes, each with its share of the cores; their exit status."""
    beside = Path(sys.executable).parent / "mpiexec"  # where pip puts that of the package mpich
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None or not D.is_mpi_available():
        raise SystemExit("several processes need mpi4py and an MPI: pip install 'tapegrad[mpi]'")
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    environment = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, **os.environ}
    return subprocess.call([found, "-n", str(processes), sys.executable, *sys.argv], env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=1, help="start this many by mpiexec")
    parser.add_argument("--data", type=Path, help="folder of MNIST's idx files; by default scikit-learn's digits")
    parser.add_argument("--steps", type=int, default=44)
    parser.add_argument("--batch-size", type=int, default=128, help="of all processes together")
    parser.add_argument("--checkpoint", type=Path, help="folder for model.pt, by default a temporary one")
    parser.add_argument("--quick", action="store_true", help="8 steps")
    args = parser.parse_args()
    args.steps = 8 if args.quick else args.steps
    started = "PMI_RANK" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ
    if args.processes > 1 and not started:
        raise SystemExit(launch(args.processes))
    D.init_process_group("mpi") if started else D.init_process_group("gloo", rank=0, world_size=1)
    if args.batch_size % (2 * D.get_world_size()):
        raise SystemExit(f"--batch-size must be a multiple of {2 * D.get_world_size()}")
    with contextlib.ExitStack() as stack:
        place = [stack.enter_context(tempfile.TemporaryDirectory()) if D.get_rank() == 0 else ""]
        D.broadcast_object_list(place, src=0)
        folder = args.checkpoint or Path(place[0])
        folder.mkdir(parents=True, exist_ok=True)
        run(args, folder)
        D.barrier()
    D.destroy_process_group()


if __name__ == "__main__":
    main()
