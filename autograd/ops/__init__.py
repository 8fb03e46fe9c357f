"""Every op of the library, by family. Importing this package fills the op table; nothing is generated until used.

A new family is one more name here.
"""
# ruff: noqa: F401

from . import (
    activation,
    attention,
    comparison,
    complexes,
    conv,
    core,
    ctc,
    cumulative,
    elementwise,
    embedding,
    factor,
    fft,
    grid,
    index,
    interpolate,
    linalg,
    loss,
    matrix,
    norm,
    pool,
    reduce,
    rnn,
    rounding,
    scatter,
    shape,
    softmax,
    sort,
    special,
    special_bessel,
    special_gamma,
    special_normal,
    special_polynomial,
    transcendental,
)
