"""config.json: what a checkpoint's arithmetic depends on."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ..utils.files import replacing

__all__ = ["PretrainedConfig", "read_json"]

CONFIG_NAME = "config.json"
_WORDS: dict[type, str] = {dict: "object", list: "array"}


def read_json(path: str, kind: type = dict) -> Any:
    """A JSON file's object, or, for `kind=list`, its array. ValueError naming a damaged file; FileNotFoundError."""
    with open(path, encoding="utf-8") as file:
        try:
            found = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(found, kind):
        raise ValueError(f"{path}: expected a JSON {_WORDS[kind]}, found {type(found).__name__}")
    return found


def write_json(path: str, content: Any) -> None:
    """Writes JSON; at any moment there is the old file or the new one."""
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


@dataclasses.dataclass(kw_only=True)
class PretrainedConfig:
    """The base of configurations: dataclasses with the fields, names and defaults of Hugging Face's.

    Class attributes of a subclass:
        model_type: Hugging Face's word for the family ("bert").
        allowed: key -> the values that are implemented, for keys that change the arithmetic. A file that says something
            else is refused; keys that are neither fields nor listed here are kept in `extra`, and have no effect.
    """

    model_type: ClassVar[str] = ""
    allowed: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    tie_word_embeddings: bool = True
    id2label: dict[int, str] | None = None  # names of the classes of a classifier
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)  # the other keys of the file, saved again

    def __post_init__(self) -> None:
        if self.id2label is not None:
            self.id2label = {int(index): label for index, label in self.id2label.items()}
        self._check({**self.extra, **vars(self)}, type(self).__name__)
        self.validate()

    def validate(self) -> None:
        """Raises ValueError for fields that contradict each other; subclasses say what these are."""

    @property
    def num_labels(self) -> int:
        """Classes of a classifier: as many as `id2label` names; 2 where it names none."""
        return 2 if self.id2label is None else len(self.id2label)

    @classmethod
    def _check(cls, values: Mapping[str, Any], where: str) -> None:
        for key, permitted in cls.allowed.items():
            if key in values and values[key] not in permitted:
                raise ValueError(
                    f"{where}: {key}={values[key]!r} is not implemented by tapegrad.models; "
                    f"implemented: {', '.join(map(repr, permitted))}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = CONFIG_NAME) -> Self:
        """The configuration that the object of a config.json describes; `where` names it in errors.

        Raises ValueError for another model_type, for a value that would need other arithmetic than is implemented, and
        for a number that is not one.
        """
        kind = values.get("model_type", cls.model_type)
        if cls.model_type and kind != cls.model_type:
            raise ValueError(f"{where}: model_type is {kind!r}; {cls.__name__} reads {cls.model_type!r}")
        cls._check(values, where)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.name != "extra"}
        known = {key: value for key, value in values.items() if key in fields}
        for key, value in known.items():
            _check_type(key, value, fields[key], where)
        if "id2label" not in known and isinstance(count := values.get("num_labels"), int):
            known["id2label"] = {i: f"LABEL_{i}" for i in range(count)}
        extra = {key: value for key, value in values.items() if key not in fields and key != "num_labels"}
        try:
            return cls(**known, extra=extra)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where}: {error}") from error

    @classmethod
    def from_pretrained(cls, folder: Any) -> Self:
        """The configuration in a folder's config.json. FileNotFoundError; ValueError as for `from_dict`."""
        path = os.path.join(os.fspath(folder), CONFIG_NAME)
        return cls.from_dict(read_config(folder), where=path)

    def to_dict(self) -> dict[str, Any]:
        """What config.json is to say."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        values = {key: value for key, value in values.items() if key != "id2label" or value is not None}
        return {**self.extra, **values, "model_type": self.model_type}

    def save_pretrained(self, folder: Any) -> None:
        """Writes config.json."""
        os.makedirs(folder, exist_ok=True)
        write_json(os.path.join(os.fspath(folder), CONFIG_NAME), self.to_dict())


def read_config(folder: Any) -> dict[str, Any]:
    """The object in a folder's config.json. FileNotFoundError that says what was looked for."""
    folder = os.fspath(folder)
    path = os.path.join(folder, CONFIG_NAME)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder}: no such folder; a checkpoint is a folder with {CONFIG_NAME} and weights")
    if not os.path.isfile(path):
        found = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
        raise FileNotFoundError(f"{folder}: no {CONFIG_NAME} in this folder, which has: {found}")
    return read_json(path)


def _check_type(key: str, value: Any, field: Any, where: str) -> None:
    """Numbers must be numbers: a text in the place of a size would fail far from here."""
    words = str(field.type).replace(" ", "").split("|")
    kinds = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
    if all(word in kinds or word == "None" for word in words):
        permitted = tuple(kind for word in words for kind in kinds.get(word, ()))
        good = value is None if "None" in words and value is None else isinstance(value, permitted)
        if not good or (isinstance(value, bool) and "bool" not in words):
            raise ValueError(f"{where}: {key} must be {' or '.join(words)}, found {value!r}")
