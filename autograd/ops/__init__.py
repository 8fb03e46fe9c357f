"""Every op of the library, by family. Importing this package fills the op table; nothing is generated until used.

A new family is one more name here: below, or in LATE where only `nn` or `special` use it, which load it themselves.
"""
# ruff: noqa: F401

from ..op import LATE
from . import (
    comparison,
    complexes,
    core,
    cumulative,
    elementwise,
    factor,
    fft,
    index,
    linalg,
    matrix,
    reduce,
    rounding,
    scatter,
    shape,
    softmax,
    sort,
    special,
    special_bessel,
    special_gamma,
    transcendental,
)

LATE += [
    f"{__name__}.{family}"
    for family in (
        "activation attention conv ctc dropout embedding grid interpolate loss norm pool rnn special_normal "
        "special_polynomial"
    ).split()
]
