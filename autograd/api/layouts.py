"""Tensors in other layouts: what dense tensors are asked about sparse ones."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from .table import public


@public(is_function=False)
def to_sparse(self: Tensor, sparse_dim: int | None = None, *, layout: Any = None, **_: Any) -> Tensor:
    """The elements that are not zero, in coordinate form. (*S) -> sparse (*S); see tapegrad.sparse."""
    from ..sparse import to_sparse

    if layout is not None and str(layout) != "torch.sparse_coo":
        raise RuntimeError(f"to_sparse: conversion to {layout} is not supported: there is only torch.sparse_coo")
    return to_sparse(self, sparse_dim)


@public(is_function=False)
def to_sparse_coo(self: Tensor) -> Tensor:
    """`to_sparse()`. (*S) -> (*S)."""
    return to_sparse(self)


@public(is_function=False)
def sparse_mask(self: Tensor, mask: Any) -> Tensor:
    """The elements at the places of a coalesced sparse tensor. (*S), mask: sparse (*S) -> sparse (*S)."""
    if tuple(self.shape) != tuple(mask.shape):
        raise RuntimeError(
            f"sparse_mask(): operands have incompatible sizes; self has size {list(self.shape)} but mask has size "
            f"{list(mask.shape)}"
        )
    at = mask.coalesce()
    return at._with(at._read(self))
