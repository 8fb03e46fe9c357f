"""Sources of the compiled kernels: Python that Numba translates. Nothing here is imported while a program runs.

`language.py` is what they are written in, `maths.py` the functions that they share; every other file is one group,
compiled by ../build.py into one file of machine code, which ../compiled.py loads.
"""
