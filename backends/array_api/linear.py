"""numpy.linalg and numpy.fft over the extensions of the standard of those names."""

from __future__ import annotations

from typing import Any

import numpy as np

# function -> the number of results
LINALG = {
    "cholesky": 1, "det": 1, "eig": 2, "eigh": 2, "eigvals": 1, "eigvalsh": 1, "inv": 1, "pinv": 1, "qr": 2,
    "slogdet": 2, "solve": 1, "svd": 3, "svdvals": 1, "matrix_rank": 1,
}  # fmt: skip
FFT = dict.fromkeys(["fft", "ifft", "rfft", "irfft", "fftn", "ifftn", "rfftn", "irfftn", "hfft", "ihfft"], 1)
_OF_REAL = ("rfft", "rfftn", "ihfft")


class Extension:
    """`xp.linalg` or `xp.fft`: its functions take and give Arrays; singular matrices raise NumPy's LinAlgError."""

    LinAlgError = np.linalg.LinAlgError

    def __init__(self, module: Any, name: str, table: dict[str, int]):
        self.module, self.name, self.table = module, name, table

    def __getattr__(self, name: str) -> Any:
        library = self.module.library
        if name not in self.table:
            raise library.lacks(f"no function '{self.name}.{name}'")
        function, several = getattr(library, f"{self.name}.{name}"), self.table[name] > 1

        def call(*args: Any, **kw: Any) -> Any:
            if name == "svd" and kw.pop("compute_uv", True) is False:
                return self.svdvals(args[0])
            given = [self._value(a, name) for a in args]
            if self.name == "fft":  # NumPy's arguments after the array, which the standard takes by keyword
                kw |= zip(("s", "axes", "norm") if name[-1] == "n" else ("n", "axis", "norm"), given[1:], strict=False)
                given = given[:1]
            try:
                found = function(*given, **kw)
            except Exception as error:
                if "LinAlgError" in type(error).__name__:
                    raise np.linalg.LinAlgError(str(error)) from error
                raise
            return tuple(map(self.module.wrap, found)) if several else self.module.wrap(found)

        setattr(self, name, call)
        return call

    def _value(self, a: Any, name: str) -> Any:
        """An argument as the library takes it: integers as float64, and complex numbers where they must be."""
        if not hasattr(a, "shadow"):
            return a
        if a.dtype.kind in "biu":
            a = a.astype("f8")
        if self.name == "fft" and name not in _OF_REAL and a.dtype.kind != "c":
            a = a.astype("c16" if a.dtype.itemsize == 8 else "c8")
        return a.value
