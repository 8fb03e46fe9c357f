"""Every op of the library, by family. Importing this package fills the op table; nothing is generated until used."""

from . import core, cumulative, elementwise, matrix, reduce, shape, softmax, sort

__all__ = ["core", "cumulative", "elementwise", "matrix", "reduce", "shape", "softmax", "sort"]
