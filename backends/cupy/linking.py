"""What stands around an op on CuPy's arrays: its device is the current one, and its indices are checked there.

CuPy works on the current device, wherever arrays live, and takes wrong indices modulo the size; PyTorch works where the
arrays are, and refuses. Both cost a few comparisons on the host, and only for the ops and machines that need it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import bounds

AT = "index {index} is out of bounds for dimension %d with size {size}"
FLAT = "out of range: tried to access index {index} on a tensor of {size} elements."


def _at_places(x: Any, indices: tuple[Any, ...], places: tuple[int, ...]) -> None:
    for index, place in zip(indices, places, strict=True):
        n = x.shape[place]
        bounds.check(index, -n, n, n, AT % place)


def _of_index(x: Any, *indices: Any, places: tuple[int, ...], **_: Any) -> None:
    _at_places(x, indices, places)


def _of_index_put(x: Any, value: Any, *indices: Any, places: tuple[int, ...], **_: Any) -> None:
    _at_places(x, indices, places)


def _of_axis(x: Any, index: Any, *_: Any, axis: int, **__: Any) -> None:
    _at_places(x, (index,), (axis,))


def _of_flat(x: Any, index: Any, *_: Any, **__: Any) -> None:
    bounds.check(index, -x.size, x.size, x.size, FLAT)


# Ops whose indices NumPy checks while it indexes. Those which call `bounded` or `check_index` are only named.
CHECKED: dict[str, Callable[..., None]] = {
    "index": _of_index, "index_zero": _of_index, "index_put": _of_index_put, "index_fill": _of_axis,
    "index_fill_tensor": _of_axis, "take": _of_flat, "put": _of_flat,
}  # fmt: skip
NAMED = frozenset((
    "embedding", "embedding_by_frequency", "one_hot", "index_select", "index_add", "index_copy", "gather", "scatter",
    "scatter_fill", "scatter_add", "scatter_reduce", "max_unpool", "cross_entropy", "softmax_cross_entropy", "nll_loss",
    "nll_loss_2d", "nll_loss_backward", "binary_cross_entropy",
))  # fmt: skip


def checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of op `name`, after a check of its indices, or with its name noted for the checks that it makes."""
    check = CHECKED.get(name)
    if check is None and name not in NAMED:
        return function

    @functools.wraps(function)
    def call(*arrays: Any, **kw: Any) -> Any:
        bounds.named(name)
        if check is not None:
            check(*arrays, **kw)
        return function(*arrays, **kw)

    return call


def placed(cupy: Any, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function run with its arrays' device as the current one. RuntimeError where they live on several.

    Arrays may stand in lists: the ops on many tensors at once.
    """
    kind, current = cupy.ndarray, cupy.cuda.runtime.getDevice

    @functools.wraps(function)
    def call(*arrays: Any, **kw: Any) -> Any:
        home = None
        for a in arrays:
            for one in a if type(a) in (list, tuple) else (a,):
                if isinstance(one, kind):
                    place = one.data.device_id
                    if home is None:
                        home = place
                    elif place != home:
                        raise RuntimeError(_mixed(name, home, place))
        if home is None or home == current():
            return function(*arrays, **kw)
        with cupy.cuda.Device(home):
            return function(*arrays, **kw)

    return call


def _mixed(name: str, first: int, other: int) -> str:
    return (
        f"Expected all tensors to be on the same device, but found at least two devices, cuda:{first} and "
        f"cuda:{other}! (op {name}; move them with .to(device))"
    )
