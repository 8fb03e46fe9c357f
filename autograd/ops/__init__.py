"""Every op of the library, by family. Importing this package fills the op table; nothing is generated until used."""

from . import core, cumulative, elementwise, index, matrix, reduce, scatter, shape, softmax, sort

__all__ = ["core", "cumulative", "elementwise", "index", "matrix", "reduce", "scatter", "shape", "softmax", "sort"]
