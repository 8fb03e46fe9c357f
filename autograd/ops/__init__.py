"""Every op of the library, by family. Importing this package fills the op table; nothing is generated until used."""

from . import core, elementwise, matrix, reduce, shape

__all__ = ["core", "elementwise", "matrix", "reduce", "shape"]
