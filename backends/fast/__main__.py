"""python -m tapegrad.backends.fast: compiles all kernels ahead, for images and continuous integration."""

from __future__ import annotations

import sys

from . import cache, has

if not has("numba"):
    sys.exit("tapegrad[fast] is not installed (pip install 'tapegrad[fast]'), or TAPEGRAD_FAST=0 is set")
folder = cache.cache_folder()
folder.mkdir(parents=True, exist_ok=True)
made = cache.compile_missing(folder)
print(f"{folder}: {len(cache.groups())} groups of kernels, {len(made)} of them compiled now")
