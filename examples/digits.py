"""Handwritten digits that come with scikit-learn: 1797 images of 8x8 grey values, no download."""

from __future__ import annotations

from typing import Any


def load(torch: Any) -> tuple[Any, Any, Any, Any]:
    """(train images (1437, 1, 8, 8) float32 in [0, 1], train labels, test images (360, 1, 8, 8), test labels)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("this example needs scikit-learn: pip install 'tapegrad[demo]'") from error
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(data.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return images[:1437], labels[:1437], images[1437:], labels[1437:]
