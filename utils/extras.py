"""Optional packages, imported when something that needs them is used."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str, what: str) -> Any:
    """The module of an optional package.

    Args:
        module: its name, "rich.progress".
        extra: the extra of this library that installs the package.
        what: who needs it, the beginning of the error: "torch.onnx needs".

    Raises ImportError, which names the package and the extra, where it does not import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{what} the package {package}: pip install 'tapegrad[{extra}]'") from error
