"""Loads NumPy and this room's functions, with Python's collector at rest.

An import makes tens of thousands of objects that stay and no garbage to speak of; looking through them again and again
took a tenth of its time.
"""

from __future__ import annotations

import gc
import importlib


def load(*names: str) -> None:
    """Imports the modules in order. The collector's switch and thresholds are afterwards what they were before."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        for name in names:
            importlib.import_module(name, __package__)
        if collecting and not gc.get_freeze_count():  # what was made joins the old generation, unlooked at
            gc.freeze()
            gc.unfreeze()
    finally:
        if collecting:
            gc.enable()


load("numpy", ".api")  # NumPy first: from deep inside the rooms its import takes 15 ms longer
