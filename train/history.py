"""What a training was: a list of values per epoch for each quantity."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..utils.extras import require
from ..utils.files import replacing


class History:
    """`history["val_loss"]` is a list of one value per epoch, `history.epoch` the epochs' numbers, from 0.

    `history.history` is the dict of all lists, as in Keras. A quantity that an epoch does not have (validation every
    second epoch) has None there.

    >>> history = History()
    >>> history.append(0, {"loss": 0.5})
    >>> history.append(1, {"loss": 0.25, "val_loss": 0.3})
    >>> history["val_loss"], history.epoch
    ([None, 0.3], [0, 1])
    >>> History.from_json(history.to_json()) == history
    True
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def append(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Adds an epoch's values: numbers, lists, or dicts of numbers."""
        for name in logs:
            self.history.setdefault(name, [None] * len(self.epoch))
        self.epoch.append(epoch)
        for name, values in self.history.items():
            values.append(logs.get(name))

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.history:
            raise KeyError(f"{name!r} is not in the history, which has {', '.join(self.history) or 'nothing'}")
        return self.history[name]

    def __contains__(self, name: object) -> bool:
        return name in self.history

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.epoch)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.state_dict() == other.state_dict()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"History({len(self.epoch)} epochs of {', '.join(self.history) or 'nothing'})"

    def state_dict(self) -> dict[str, Any]:
        """{"epoch": list, "history": dict of lists}."""
        return {"epoch": list(self.epoch), "history": {name: list(values) for name, values in self.history.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Becomes what `state_dict` gave. ValueError where lists and epochs differ in length."""
        epoch, history = list(state["epoch"]), {name: list(values) for name, values in state["history"].items()}
        wrong = [name for name, values in history.items() if len(values) != len(epoch)]
        if wrong:
            raise ValueError(f"a history of {len(epoch)} epochs has other lengths of {', '.join(wrong)}")
        self.epoch, self.history = epoch, history

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The history as JSON text, written to `path` too where one is given. NaN and infinity are Python's names."""
        text = json.dumps(self.state_dict())
        if path is not None:
            with replacing(path) as file:
                file.write(text.encode())
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> History:
        """A history from JSON text, or from the file of that path. ValueError for other text."""
        text = str(source)
        if not text.lstrip().startswith("{"):
            with open(text, encoding="utf-8") as file:
                text = file.read()
        state = json.loads(text)
        if not isinstance(state, dict) or set(state) != {"epoch", "history"}:
            raise ValueError('History.from_json(): {"epoch": [...], "history": {...}} is needed')
        made = cls()
        made.load_state_dict(state)
        return made

    def plot(
        self, names: str | Sequence[str] | None = None, path: str | os.PathLike[str] | None = None, figure: Any = None
    ) -> Any:
        """Curves over epochs, a panel for each quantity, validation dashed in the same one; gives matplotlib's Figure.

        names: which quantities, without "val_"; all by default. path: a file to write. figure: one to draw into.
        Needs matplotlib: ImportError names the extra.
        """
        if figure is None:
            figure = new_figure()
        names = [names] if isinstance(names, str) else names
        figure.clear()
        panels = [name for name in self.history if not (name.startswith("val_") and name[4:] in self.history)]
        panels = [name for name in (panels if names is None else names) if self._numbers(name)]
        if not panels:
            raise ValueError(f"nothing to plot: the history has {', '.join(self.history) or 'no epochs'}")
        rows = (len(panels) + 2) // 3
        columns = min(len(panels), 3)
        figure.set_size_inches(4.4 * columns, 3.2 * rows)
        for index, name in enumerate(panels):
            axes = figure.add_subplot(rows, columns, index + 1)
            for key, style in ((name, "-"), (f"val_{name}", "--")):
                if key in self.history and self._numbers(key):
                    values = [float("nan") if value is None else value for value in self.history[key]]
                    marker = "o" if len(values) < 2 else None
                    label = "validation" if key != name else "training" if not name.startswith("val_") else name
                    axes.plot([e + 1 for e in self.epoch], values, style, marker=marker, label=label)
            axes.set_xlabel("epoch")
            axes.set_title(name)
            axes.grid(alpha=0.3)
            axes.legend()
        figure.tight_layout()
        if path is not None:
            format = os.path.splitext(os.fspath(path))[1][1:] or "png"
            with replacing(path) as file:
                figure.savefig(file, format=format, dpi=110)
        return figure

    def _numbers(self, name: str) -> bool:
        return all(isinstance(value, (int, float, type(None))) for value in self[name])


def new_figure() -> Any:
    """A matplotlib Figure that belongs to no window. ImportError naming the extra."""
    return require("matplotlib.figure", "plot", "plots need").Figure()
