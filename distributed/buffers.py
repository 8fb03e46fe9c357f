"""Tensors as what transports move: flat arrays of contiguous memory, the tensor's own wherever that is possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..autograd.versions import mark_written
from ..backends.registry import backend_of

Finish = Callable[[], None]


def check_tensor(value: Any, name: str) -> None:
    """TypeError unless it is a dense tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"Invalid function argument. Expected parameter `{name}` of type torch.Tensor\n"
            f"             but got {type(value)} instead."
        )
    if value.is_sparse:
        raise RuntimeError(f"`{name}` is a sparse tensor: processes exchange dense ones, `{name}.to_dense()`")


def check_list(value: Any, name: str) -> None:
    """TypeError unless it is a list of dense tensors; ValueError where their dtypes differ."""
    if not isinstance(value, list | tuple) or not all(isinstance(p, Tensor) for p in value):
        got = type(value) if not isinstance(value, list | tuple) else [type(p) for p in value]
        raise TypeError(
            f"Invalid function argument. Expected parameter `{name}` of type List[torch.Tensor]\n"
            f"             but got {got} instead."
        )
    for tensor in value:
        check_tensor(tensor, name)


def check_dtypes(*tensors: Tensor) -> None:
    """ValueError unless all have one dtype."""
    for tensor in tensors[1:]:
        if tensor.dtype != tensors[0].dtype:
            raise ValueError(
                f"Invalid usage of tensors with different dtypesFound {tensors[0].dtype} and  {tensor.dtype}"
            )


def reads(tensor: Tensor, host: bool) -> Any:
    """The values as a flat contiguous array, for sending. host: as a NumPy array."""
    array = tensor.array
    if host:
        array = backend_of(array).to_numpy(array)
    if not array.flags.c_contiguous:
        array = array.copy(order="C")
    return array.reshape(-1)


def writes(tensor: Tensor, host: bool) -> tuple[Any, Finish]:
    """(a flat contiguous array that holds the values and takes new ones, what brings those into the tensor)."""
    array = tensor.array
    if array.flags.c_contiguous and (not host or type(array) is np.ndarray):
        return array.reshape(-1), lambda: mark_written(tensor)
    backend = backend_of(array)
    flat = backend.to_numpy(array) if host else array
    flat = flat.reshape(-1).copy() if flat.flags.c_contiguous else flat.copy(order="C").reshape(-1)

    def finish() -> None:
        shaped = flat.reshape(tensor.shape)
        source = backend.asarray(shaped, device=backend.device_of(array)) if host else shaped
        with no_grad():
            tensor.copy_(Tensor._of(source))

    return flat, finish


def all_of(finishes: Sequence[Finish]) -> Finish:
    """One call for several."""

    def finish() -> None:
        for one in finishes:
            one()

    return finish
