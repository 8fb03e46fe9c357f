"""Named results: `max(dim)` gives a pair (values, indices) that is also a tuple. PyTorch's names, fields and repr.

>>> import tapegrad as torch
>>> torch.return_types.max((1, 2))
torch.return_types.max(
values=1,
indices=2)

A class is made when it is first named, so that importing this costs nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

_PAIR = ("values", "indices")
FIELDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("max", "min", "median", "nanmedian", "mode", "kthvalue", "sort", "topk", "cummax", "cummin"), _PAIR
    ),
    "aminmax": ("min", "max"),
    "histogram": ("hist", "bin_edges"),
    "histogramdd": ("hist", "bin_edges"),
    "frexp": ("mantissa", "exponent"),
    "geqrf": ("a", "tau"),
    "qr": ("Q", "R"),
    "svd": ("U", "S", "V"),
    "slogdet": ("sign", "logabsdet"),
    "triangular_solve": ("solution", "cloned_coefficient"),
    "lu_unpack": ("P", "L", "U"),
    "linalg_cholesky_ex": ("L", "info"),
    "linalg_eig": ("eigenvalues", "eigenvectors"),
    "linalg_eigh": ("eigenvalues", "eigenvectors"),
    "linalg_inv_ex": ("inverse", "info"),
    "linalg_ldl_factor": ("LD", "pivots"),
    "linalg_ldl_factor_ex": ("LD", "pivots", "info"),
    "linalg_lstsq": ("solution", "residuals", "rank", "singular_values"),
    "linalg_lu": ("P", "L", "U"),
    "linalg_lu_factor": ("LU", "pivots"),
    "linalg_lu_factor_ex": ("LU", "pivots", "info"),
    "linalg_qr": ("Q", "R"),
    "linalg_slogdet": ("sign", "logabsdet"),
    "linalg_solve_ex": ("result", "info"),
    "linalg_svd": ("U", "S", "Vh"),
}


def _new(cls: Any, *fields: Any) -> Any:
    """From one sequence of the fields, as PyTorch takes them, or from the fields one by one."""
    values: Iterable[Any] = fields[0] if len(fields) == 1 else fields
    made = tuple.__new__(cls, values)
    if len(made) != cls.n_fields:
        raise TypeError(
            f"torch.return_types.{cls.__name__}() takes a {cls.n_fields}-sequence ({len(made)}-sequence given)"
        )
    return made


def _repr(self: Any) -> str:
    lines = [f"{name}={value!r}" for name, value in zip(self.__match_args__, self, strict=True)]
    return f"torch.return_types.{type(self).__name__}(\n" + ",\n".join(lines) + ")"


def _reduce(self: Any) -> Any:
    return (type(self), (tuple(self),))


def named(name: str, fields: tuple[str, ...]) -> type:
    """A tuple class with those fields."""
    body: dict[str, Any] = {field: property(operator.itemgetter(i)) for i, field in enumerate(fields)}
    body |= {"__new__": _new, "__repr__": _repr, "__reduce__": _reduce, "__module__": __name__, "__slots__": ()}
    body |= {"__match_args__": fields, "n_fields": len(fields), "n_sequence_fields": len(fields), "n_unnamed_fields": 0}
    return type(name, (tuple,), body)


def __getattr__(name: str) -> Any:
    if name not in FIELDS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    made = globals()[name] = named(name, FIELDS[name])
    return made


def __dir__() -> list[str]:
    return sorted(FIELDS)
