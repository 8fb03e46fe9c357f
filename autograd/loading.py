"""Loads NumPy and the functions of this room, with Python's collector at rest.

An import makes tens of thousands of objects that stay and no garbage to speak of; looking through them again and again
took a tenth of its time.
"""

from __future__ import annotations

import gc


def load() -> None:
    """Imports NumPy (first, which it likes best) and `api`, which gives Tensor its methods."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        import numpy  # noqa: F401

        from . import api  # noqa: F401

        if collecting and not gc.get_freeze_count():  # what was made joins the old generation, unlooked at
            gc.freeze()
            gc.unfreeze()
    finally:
        if collecting:
            gc.enable()


load()
