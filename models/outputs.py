"""What models return."""

from __future__ import annotations

from typing import Any

__all__ = ["ModelOutput"]


class ModelOutput(dict[str, Any]):
    """Named results, in order, as those of transformers: `out.logits`, `out["logits"]`, `out[0]`, `out.to_tuple()`.

    What was not asked for (None) is left out of the dictionary; as an attribute it is None where the model can give it.

    >>> out = ModelOutput(loss=None, logits=3.0)
    >>> out[0], out.logits, out.loss, list(out)
    (3.0, 3.0, None, ['logits'])
    """

    def __init__(self, **results: Any):
        super().__init__({name: value for name, value in results.items() if value is not None})
        object.__setattr__(self, "_names", frozenset(results))

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in self.__dict__.get("_names", ()):
            return None
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'; it has {', '.join(self)}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The results without their names."""
        return tuple(self.values())
