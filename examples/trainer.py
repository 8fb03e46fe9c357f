"""The Trainer on handwritten digits: metrics, early stopping, checkpoints, a picture; Ctrl-C and kill lose nothing.

python examples/trainer.py                                     scikit-learn's 8x8 digits
python examples/trainer.py --data DIR                          MNIST, from its published idx files in DIR
python examples/trainer.py --checkpoint run                    keeps run/last.pt: press Ctrl-C, or kill it, then
python examples/trainer.py --checkpoint run --resume           goes on where it was, bit for bit
python examples/trainer.py --kill-and-resume                   shows that: runs itself, kills itself with SIGKILL in
                                                               the middle of an epoch, resumes, and compares
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import digits
import mnist
import tapegrad as torch

nn = torch.nn
callbacks = torch.train.callbacks


class Shifted(torch.utils.data.Dataset):
    """Images moved by up to one pixel, another way in each epoch, drawn from the default generator."""

    def __init__(self, images: Any, labels: Any):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        down, right = (torch.randint(3, (2,)) - 1).tolist()
        return self.images[index].roll((down, right), (-2, -1)), self.labels[index]


def network(size: int) -> nn.Module:
    """(N, 1, size, size) -> (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * (size // 4) ** 2, 10),
    )  # fmt: skip


def data(args: argparse.Namespace) -> tuple[Any, ...]:
    """Train images and labels, test images and labels."""
    if args.data is None:
        found = digits.load(torch)
    else:
        train, test = mnist.load(args.data, "train"), mnist.load(args.data, "t10k")
        if test is None:
            raise SystemExit(f"no MNIST idx files in {args.data}: expected t10k-images-idx3-ubyte[.gz] and its labels")
        if train is None:
            images, labels = test
            train, test = (images[:8000], labels[:8000]), (images[8000:], labels[8000:])
        found = (*train, *test)
    images, labels, test_images, test_labels = found
    return (images[:480], labels[:480], test_images, test_labels) if args.quick else found


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    images, labels, test_images, test_labels = data(args)
    model = network(images.shape[-1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    metrics = torch.train.metrics
    trainer = torch.train.Trainer(
        model, "cross_entropy", optimizer,
        metrics=["accuracy", metrics.F1(name="f1", zero_division=0), metrics.ConfusionMatrix(name="confusion")],
        scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, factor=0.3),
        clip_norm=5.0, l2=1e-4,
    )  # fmt: skip
    rest = [callbacks.LearningRateMonitor(), callbacks.EarlyStopping("val_loss", patience=5, restore_best=True)]
    if args.checkpoint:
        args.checkpoint.mkdir(parents=True, exist_ok=True)
        rest += [
            callbacks.BestCheckpoint(args.checkpoint / "best.pt"),
            callbacks.CSVLogger(args.checkpoint / "log.csv"),
        ]
    try:
        history = trainer.fit(
            Shifted(images, labels), epochs=args.epochs, batch_size=args.batch_size, validation_split=0.15,
            callbacks=rest, progress=args.progress, checkpoint=args.checkpoint, resume=args.resume,
            checkpoint_every=5 if args.checkpoint else None,
        )  # fmt: skip
    except KeyboardInterrupt as stopped:
        raise SystemExit("\n".join(getattr(stopped, "__notes__", []))) from None
    result = trainer.evaluate(test_images, test_labels)
    print(trainer.metrics[2].table())
    print(f"{len(history)} epochs; test accuracy {result['accuracy']:.4f}, f1 {result['f1']:.4f}")
    if args.out:
        history.plot(["loss", "accuracy", "f1", "lr"], path=args.out)
        print(f"the curves are in {args.out}")


def kill_and_resume(args: argparse.Namespace) -> None:
    """One run to its end; one killed with SIGKILL within its second epoch, or later, and resumed: the same bits?"""
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder, "whole"), Path(folder, "broken")
        command = [sys.executable, str(Path(__file__).resolve()), "--checkpoint", "run", "--epochs", str(args.epochs)]
        command += ["--batch-size", str(args.batch_size)] + ["--quick"] * args.quick
        command += ["--data", str(args.data.resolve())] if args.data else []
        whole.mkdir()
        broken.mkdir()
        subprocess.run(command, check=True, cwd=whole, stdout=subprocess.DEVNULL)
        with subprocess.Popen(command, cwd=broken, stdout=subprocess.DEVNULL) as process:
            place = wait_for_the_middle_of_an_epoch(process, broken / "run" / "last.pt")
            process.kill()
        print(f"killed (exit status {process.returncode}) in epoch {place['epoch'] + 1}, after step {place['step']}")
        subprocess.run([*command, "--resume"], check=True, cwd=broken)
        a, b = (torch.load(each / "run" / "last.pt") for each in (whole, broken))
        for name in ("model", "optimizer", "scheduler", "history", "place", "fit"):
            if not same(a[name], b[name]):
                raise SystemExit(f"{name} differs from the run that was never killed")
            print(f"{name}: the same, bit for bit")
        assert same(a["random"]["torch"], b["random"]["torch"])
        assert (whole / "run" / "log.csv").read_bytes() == (broken / "run" / "log.csv").read_bytes()
        print("killed and resumed: bit for bit the run that was never killed")


def wait_for_the_middle_of_an_epoch(process: subprocess.Popen, path: Path) -> dict[str, Any]:
    """The checkpoint's place, once it lies within the second epoch or later."""
    while process.poll() is None:
        if path.exists():
            place = torch.load(path)["place"]  # whole at any moment: it is never written in place
            if place["epoch"] >= 1 and place["batch"]:
                return place
        time.sleep(0.005)
    raise SystemExit("the run was over before it could be killed: give more --epochs")


def same(a: Any, b: Any) -> bool:
    """Whether two trees of tensors and numbers are equal, bit for bit; random states of `random` are left out."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in ("python", "numpy"))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return a.numpy().tobytes() == b.numpy().tobytes()
    return repr(a) == repr(b)


def main() -> None:
    about, _, usage = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder with MNIST's idx files")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="keep last.pt, best.pt and log.csv there")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    parser.add_argument("--progress", choices=("tqdm", "rich"), help="a bar in place of a line per epoch")
    parser.add_argument("--out", type=Path, help="a picture of the curves")
    parser.add_argument("--kill-and-resume", action="store_true", help="show that a killed run goes on bit for bit")
    parser.add_argument("--quick", action="store_true", help="few samples and epochs")
    args = parser.parse_args()
    if args.resume and not args.checkpoint:
        parser.error("--resume needs --checkpoint FOLDER")
    args.epochs = args.epochs or (20 if not args.quick else 6 if args.kill_and_resume else 3)
    (kill_and_resume if args.kill_and_resume else train)(args)


if __name__ == "__main__":
    main()
