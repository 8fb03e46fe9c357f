"""torch.save and torch.load, in PyTorch's own formats: files go from one library to the other.

    NAME/data.pkl       the object, pickled (protocol 2); each storage is a persistent id
    NAME/data/0, 1 ...  the storages' bytes, as they lie in memory, at multiples of 64 bytes
    NAME/byteorder      "little" or "big";  NAME/version: 3

Tensors over one storage are tensors over one storage again after loading, with their strides. `load` runs no code
from the file unless `weights_only=False` is given: the names that it may use are a closed list (rebuilding.py), and
what may be done with them is another (unpickling.py).
The format before PyTorch 1.6 is read too, see legacy.py.
"""

from __future__ import annotations

from .reading import load
from .rebuilding import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals
from .writing import DEFAULT_PROTOCOL, save

__all__ = [
    "DEFAULT_PROTOCOL", "add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save",
]  # fmt: skip
