"""PyTorch's functions on Tensors: signatures, defaults, dtype rules and errors, over the ops.

Importing this package gives Tensor its methods and operators, from the table.
"""

from __future__ import annotations

from typing import Any

from .. import ops  # noqa: F401  (fills the op table)
from ..inplace import inplace
from ..op import OPS
from ..tensor import Tensor
from . import (  # noqa: F401  (fill the table of public functions)
    algebra,
    convert,
    copies,
    covariance,
    creation,
    cumulative,
    einsum,
    elementwise,
    factor,
    index,
    join,
    layouts,
    linalg,
    masked,
    matrix,
    operators,
    random,
    rearrange,
    reduce,
    scatter,
    segment,
    shape,
    sort,
    spectral,
    storage,
    windows,
)
from .table import PUBLIC, declare, strict

for _op in OPS.values():
    if _op.public and _op.public != "special":
        declare(_op.name, strict(_op.name, _op.fn), _op.public == "inplace")

for _name, _entry in PUBLIC.items():
    if _entry.is_method and _name not in Tensor.__dict__:
        setattr(Tensor, _name, _entry.function)
    if _entry.inplace:
        setattr(Tensor, _name + "_", inplace(_entry.function, _name + "_"))

FUNCTIONS = {name: entry.function for name, entry in PUBLIC.items() if entry.is_function}
FUNCTIONS.update({f"{n}_": getattr(Tensor, f"{n}_") for n, e in PUBLIC.items() if e.inplace and e.is_function})
operators.attach(Tensor)
globals().update(FUNCTIONS)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"no public function '{name}'")
