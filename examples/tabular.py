"""Real tabular data with missing values: imputation, L1 and L2 penalties, dropout, early stopping; with and without.

python examples/tabular.py                              Wisconsin breast cancer, scikit-learn's CSV file, by pandas
python examples/tabular.py --data FILE.csv --target COLUMN       a table of your own (--library polars)

The breast cancer table is complete: one value in five of its features is removed at random, by a fixed seed, so that
there is something to impute. 4 of 10 rows train, 2 validate, 4 test; few, and 60 epochs, so that there is something to
overfit. Every line is the mean over several splits. Imputation and scaling are fitted on the training rows alone.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import tapegrad as torch

nn = torch.nn
data = torch.utils.data
MISSING, SEED = 0.2, 0

MEANS = "radius texture perimeter area smoothness compactness concavity concave_points symmetry fractal_dimension"
COLUMNS = [f"{kind}_{name}" for kind in ("mean", "error", "worst") for name in MEANS.split()]

# name -> settings; what a setting is not named for is off
TRAINING: dict[str, dict[str, Any]] = {
    "nothing": {},
    "early stopping": {"stop": True},
    "L1 penalty": {"l1": 1e-3},
    "L2 penalty": {"l2": 1e-2},
    "dropout": {"dropout": 0.5},
    "L2, dropout, early stopping": {"l2": 1e-2, "dropout": 0.5, "stop": True},
}
IMPUTING: dict[str, dict[str, Any]] = {
    "zeros": {"strategy": "constant"},
    "mean": {"strategy": "mean"},
    "median": {"strategy": "median"},
    "most frequent": {"strategy": "most_frequent"},
    "mean, and where it was missing": {"strategy": "mean", "add_indicator": True},
}


def breast_cancer() -> Any:
    """The table of 569 tumours by 30 numbers, one value in five removed; the column "diagnosis" is the target."""
    try:
        import pandas
        import sklearn.datasets
    except ImportError as error:
        raise SystemExit(f"{error}: pip install 'tapegrad[examples]', or give --data and --target") from None
    path = Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"
    table = pandas.read_csv(path, skiprows=1, names=[*COLUMNS, "diagnosis"])  # its first line has counts, not names
    table["diagnosis"] = table["diagnosis"].map({0: "malignant", 1: "benign"})
    return table.mask(removed(table.shape, target=len(COLUMNS)))


def removed(shape: tuple[int, int], target: int) -> Any:
    """bool (N, F): which values are taken away; never the target's."""
    gone = np.random.default_rng(SEED).random(shape) < MISSING
    gone[:, target] = False
    return gone


def split(count: int, seed: int) -> tuple[Any, Any, Any]:
    """Rows to train, validate and test."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: int(0.4 * count)], order[int(0.4 * count) : int(0.6 * count)], order[int(0.6 * count) :]


def network(features: int, classes: int, dropout: float) -> nn.Module:
    """(N, features) -> (N, classes)."""
    layers: list[nn.Module] = []
    for width in (64, 64):
        layers += [nn.Linear(features, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, classes))


def train(
    table: Any, seed: int, epochs: int, imputing: dict[str, Any], *, l1: float = 0.0, l2: float = 0.0,
    dropout: float = 0.0, stop: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Results of one split: losses (nats), accuracy, the share of weights near zero, epochs."""
    torch.manual_seed(seed)
    rows, validation, test = split(len(table), seed)
    prepare = data.Compose([data.Impute(**imputing), data.Standardize()]).fit(table.data[rows])
    x, y = prepare(table.data), table.targets
    model = network(x.shape[1], len(table.classes), dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    trainer = torch.train.Trainer(model, "cross_entropy", optimizer, metrics=["accuracy"], l1=l1, l2=l2)
    callbacks = [torch.train.callbacks.EarlyStopping("val_loss", patience=8, restore_best=True)] if stop else []
    history = trainer.fit(
        x[rows], y[rows], epochs=epochs, batch_size=32, validation_data=(x[validation], y[validation]),
        callbacks=callbacks, verbose=False,
    )  # fmt: skip
    result = trainer.evaluate(x[test], y[test])
    weights = torch.cat([p.detach().flatten() for p in model.parameters() if p.dim() > 1])
    return {
        "train loss": history["loss"][-1], "test loss": result["loss"], "accuracy": result["accuracy"],
        "near zero": (weights.abs() < 1e-3).float().mean().item(), "epochs": float(len(history)),
    }  # fmt: skip


def compare(table: Any, title: str, lines: dict[str, Any], args: argparse.Namespace) -> None:
    """Prints a line for each name -> (imputation, training)."""
    print(f"\n{title:32} train loss  test loss  test accuracy  weights near 0  epochs")
    for name, (imputing, settings) in lines.items():
        runs = [train(table, seed, args.epochs, imputing, **settings) for seed in range(args.splits)]
        mean = {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}
        spread = statistics.pstdev(run["accuracy"] for run in runs)
        print(
            f"{name:32} {mean['train loss']:10.3f} {mean['test loss']:10.3f}   {mean['accuracy']:.3f} +- {spread:.3f}"
            f" {mean['near zero']:14.1%} {mean['epochs']:8.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--data", type=Path, help="a CSV file with names in its first line")
    parser.add_argument("--target", help="the column that is to be told, of categories")
    parser.add_argument("--library", choices=("pandas", "polars"), help="which reads --data; default: what is there")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one split, 8 epochs")
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.splits = 8, 1
    if args.data and not args.target:
        parser.error("--data needs --target")
    if args.data:
        table: Any = data.CSVDataset(args.data, args.target, library=args.library)
    else:
        table = data.TableDataset(breast_cancer(), "diagnosis")
    if not table.classes:
        raise SystemExit(f"the target {args.target!r} has numbers; this example tells categories")
    missing = table.data.isnan().float().mean().item()
    print(f"{len(table)} rows, {len(table.columns)} features, {missing:.1%} missing; {', '.join(table.classes)}")
    mean = IMPUTING["mean"]
    compare(table, "training (mean imputed)", {name: (mean, how) for name, how in TRAINING.items()}, args)
    best = TRAINING["L2, dropout, early stopping"]
    compare(table, "imputation (with all three)", {name: (how, best) for name, how in IMPUTING.items()}, args)


if __name__ == "__main__":
    main()
