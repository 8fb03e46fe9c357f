"""New tensors from data and from nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import resolve
from ..dtypes import from_numpy_dtype, get_default_dtype
from ..tensor import Tensor, wrap
from .table import public


def legacy_array(data: tuple[Any, ...], device: Any) -> Any:
    """The raw array of the legacy constructor Tensor(...)."""
    place = resolve(device)
    if len(data) == 1 and not isinstance(data[0], int):
        host = np.array(data[0], np.float32)
    else:
        host = np.empty(data or (0,), np.float32)
    return place.backend().asarray(host, device=place.key)


@public(method=False)
def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of data. -> (*shape of data)."""
    host = np.array(data)
    if dtype is None and host.dtype == np.float64 and not isinstance(data, (np.ndarray, np.generic)):
        host = host.astype(get_default_dtype().np)
    if dtype is not None:
        host = host.astype(dtype.np)
    from_numpy_dtype(host.dtype)
    place = resolve(device)
    t = wrap(place.backend().asarray(host, device=place.key))
    t.requires_grad = requires_grad
    return t
