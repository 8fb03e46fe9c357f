"""Whether this thread runs a model in order to export it: then a short cut that depends on values must not be taken."""

from __future__ import annotations

import threading


class _Exporting(threading.local):
    active = False


exporting = _Exporting()


def is_exporting() -> bool:
    """Whether `torch.onnx.export` is running the model now, in this thread."""
    return exporting.active
