"""torch.special: functions of its own, and functions of the top level under the names they have there.

Ops declared with `public="special"` are not at the top level and no methods; each gets its PyTorch signature here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..coerce import into
from ..op import OPS, Op, load_late
from ..tensor import Tensor
from .elementwise import NUMBERS
from .elementwise import SPECIAL as _ELEMENTWISE
from .table import PUBLIC


def _of_one(op: Op) -> Callable[..., Tensor]:
    def call(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(
                f"special_{op.name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}"
            )
        return op.fn(input) if out is None else into(out, op.name, op.fn(input))

    return call


def _check_two(op: Op, **arguments: Any) -> None:
    """TypeError unless one is a tensor and the other a tensor or a number."""
    kinds = [type(value).__name__ for value in arguments.values()]
    if not any(isinstance(value, Tensor) for value in arguments.values()):
        raise TypeError(f"special_{op.name}(): one of the arguments must be a Tensor, but got ({', '.join(kinds)})")
    for place, (argument, value) in enumerate(arguments.items(), 1):
        if not isinstance(value, (Tensor, *NUMBERS)):
            raise TypeError(
                f"special_{op.name}(): argument '{argument}' (position {place}) must be Tensor or a number, "
                f"not {kinds[place - 1]}"
            )


def _of_two(op: Op) -> Callable[..., Tensor]:
    def call(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        _check_two(op, input=input, other=other)
        return op.fn(input, other) if out is None else into(out, op.name, op.fn(input, other))

    return call


def _of_degree(op: Op) -> Callable[..., Tensor]:
    def call(input: Any, n: Any, *, out: Tensor | None = None) -> Tensor:
        _check_two(op, input=input, n=n)
        return op.fn(input, n) if out is None else into(out, op.name, op.fn(input, n))

    return call


_FORMS = {("x",): _of_one, ("x", "y"): _of_two, ("x", "degree"): _of_degree}


def _made(op: Op) -> Callable[..., Tensor]:
    """The function of torch.special for an op, with PyTorch's parameter names and `out`."""
    function = _FORMS[op.inputs](op)
    function.__name__ = function.__qualname__ = op.name
    doc = (op.generic.__doc__ or "").replace("x: (*S)", "input: (*S)")
    function.__doc__ = doc.replace("y: (*T)", "other: (*T)").replace("degree: (*T)", "n: (*T)")
    return function


_TOP_LEVEL = {
    **_ELEMENTWISE, "gammainc": "igamma", "gammaincc": "igammac", "i0": "i0", "log_softmax": "log_softmax",
    "logsumexp": "logsumexp", "softmax": "softmax",
}  # fmt: skip

load_late()
# A name is in PUBLIC once the whole api is imported, so this module is imported from outside it.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _made(op) for name, op in OPS.items() if op.public == "special"},
    **{name: PUBLIC[top].function for name, top in _TOP_LEVEL.items()},
}
