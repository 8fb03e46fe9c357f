"""Pointwise functions."""

# mypy: ignore-errors
from __future__ import annotations

from .language import kernel
from .maths import exp, sigmoid, tanh


@kernel("T* T* i8 i8")
def exp_(x, out, start, stop):
    for i in range(start, stop):
        out[i] = exp(x[i])


@kernel("T* T* i8 i8")
def tanh_(x, out, start, stop):
    for i in range(start, stop):
        out[i] = tanh(x[i])


@kernel("T* T* i8 i8")
def sigmoid_(x, out, start, stop):
    for i in range(start, stop):
        out[i] = sigmoid(x[i])
