"""Tables: data frames of pandas or polars, and CSV files through either, as features and targets.

An extra: `pip install 'tapegrad[tables]'`.
"""

from __future__ import annotations

import csv
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ....autograd import dtypes
from ....autograd.api.creation import tensor
from ....autograd.tensor import Tensor
from .base import LabelledDataset, damaged

LIBRARIES = ("pandas", "polars")
NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "None", "?")


def library(name: str | None = None) -> Any:
    """pandas or polars: the one asked for, else whichever is installed. ImportError naming the extra otherwise."""
    if name is not None and name not in LIBRARIES:
        raise ValueError(f"library must be one of {', '.join(LIBRARIES)}, not {name!r}")
    for each in [name] if name else LIBRARIES:
        try:
            return importlib.import_module(each)
        except ImportError:
            continue
    raise ImportError(f"tables need {name or ' or '.join(LIBRARIES)}: pip install 'tapegrad[tables]'")


def _series(table: Any, name: str) -> tuple[Any, Any]:
    """A column as (values, missing): numbers as an array, anything else as a list; missing: bool (N,)."""
    column = table[name]
    if type(table).__module__.split(".")[0] == "polars":
        missing = column.is_null().to_numpy()
        if column.dtype.is_integer() and not missing.any():
            return column.to_numpy(), missing
        if column.dtype.is_numeric() or str(column.dtype) == "Boolean":
            numbers = column.cast(library("polars").Float64).to_numpy()
            return numbers, np.isnan(numbers)
        return column.to_list(), missing
    missing = column.isna().to_numpy()
    types = library("pandas").api.types
    if types.is_numeric_dtype(column) or types.is_bool_dtype(column):
        whole = types.is_integer_dtype(column) and not missing.any()
        return column.to_numpy(np.int64) if whole else column.to_numpy(np.float64, na_value=np.nan), missing
    return column.tolist(), missing


class TableDataset(LabelledDataset):
    """A data frame of pandas or polars. Samples: (features (F,), target), or the features alone without a target.

    Args:
        table: the data frame.
        target: name of the column to be learned, or names of several; None: there is none.
        columns: names of the features, in their order; default: all but the target.
        categories: {column: its values}, in the order of their codes 0, 1, ...; default: for columns that are not
            numbers, the values found, sorted. Give a test set the `categories` of its training set.
        dtype: of the features and of a target that is a floating number; default: the default dtype. Missing values
            are NaN (see `transforms.Impute`).
        unknown: what a value that is none of `categories` is: an "error", or missing ("nan").
        transform, target_transform: functions of a sample's features and of its target.

    Attributes:
        data: (N, F). targets: (N,) or (N, T): int64 codes of categories and integers, else of `dtype`; None without.
        columns: names of the features. classes: a target's categories as text. categories.

    ValueError naming the column that is not there, is no table's column of numbers or text, or has a value that it may
    not have; ImportError naming the extra where the library is absent.
    """

    def __init__(
        self,
        table: Any,
        target: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        *,
        categories: Mapping[str, Sequence[Any]] | None = None,
        dtype: Any = None,
        unknown: str = "error",
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        source: str = "the table",
    ):
        super().__init__(None, transform, target_transform)
        if unknown not in ("error", "nan"):
            raise ValueError(f'unknown must be "error" or "nan", not {unknown!r}')
        self.source, self._unknown = source, unknown
        there = [str(name) for name in table.columns]
        targets = [target] if isinstance(target, str) else list(target or [])
        self.columns = [name for name in there if name not in targets] if columns is None else list(columns)
        for name in [*targets, *self.columns]:
            if name not in there:
                raise ValueError(f"{source} has no column {name!r}, only {', '.join(there)}")
        self.categories: dict[str, list[Any]] = {name: list(values) for name, values in (categories or {}).items()}
        self._dtype = dtype if dtype is not None else dtypes.get_default_dtype()
        features = [self._column(table, name)[0].astype(np.float64) for name in self.columns]
        matrix = np.stack(features, 1) if features else np.zeros((len(table), 0))
        self.data: Tensor = tensor(matrix, dtype=self._dtype)
        self.targets: Tensor | None = self._target(table, targets, isinstance(target, str)) if targets else None
        if isinstance(target, str) and target in self.categories:
            self.classes = [str(value) for value in self.categories[target]]

    def _target(self, table: Any, names: list[str], single: bool) -> Tensor:
        found = []
        for name in names:
            values, missing = self._column(table, name)
            if missing.any():
                raise ValueError(f"{self.source}: the target {name!r} is missing in row {int(missing.argmax())}")
            found.append(values.astype(np.int64) if name in self.categories else values)
        whole = all(values.dtype.kind in "iu" for values in found)
        matrix = found[0] if single else np.stack(found, 1)
        return tensor(matrix.astype(np.int64)) if whole else tensor(matrix, dtype=self._dtype)

    def _column(self, table: Any, name: str) -> tuple[Any, Any]:
        """A column's numbers or codes, and where they are missing (NaN). -> (N,), bool (N,)."""
        values, missing = _series(table, name)
        if name not in self.categories:
            if isinstance(values, np.ndarray):
                return values, missing
            self.categories[name] = self._found(name, values, missing)
        codes = {value: code for code, value in enumerate(self.categories[name])}
        out = np.full(len(values), np.nan)
        for row, value in enumerate(values):
            if missing[row]:
                continue
            if value in codes:
                out[row] = codes[value]
            elif self._unknown == "error":
                raise ValueError(
                    f"{self.source}: column {name!r} has {value!r} in row {row}, which is none of its categories "
                    f'{self.categories[name]}; with unknown="nan" it would be missing'
                )
        return out, np.isnan(out)

    def _found(self, name: str, values: list[Any], missing: Any) -> list[Any]:
        there = {value for value, absent in zip(values, missing, strict=True) if not absent}
        if any(not isinstance(value, str | bool | int) for value in there):
            kind = next(type(value).__name__ for value in there if not isinstance(value, str | bool | int))
            raise ValueError(f"{self.source}: column {name!r} has a {kind}, and not numbers or text")
        return sorted(there, key=lambda value: (type(value).__name__, value))

    def __getitem__(self, index: Any) -> Any:
        if self.targets is not None:
            return super().__getitem__(index)
        value = self.data[index]
        return value if self.transform is None else self.transform(value)

    def _sample(self, index: int) -> tuple[Any, Any]:
        return self.data[index], None if self.targets is None else self.targets[index]

    def __len__(self) -> int:
        return self.data.size(0)


class CSVDataset(TableDataset):
    """A CSV file, read by pandas or polars. Samples and further arguments as `TableDataset`.

    Args:
        path: the file; its first line has the names of the columns.
        target, columns: names of columns.
        library: "pandas" or "polars"; default: whichever is installed, pandas first. Both give the same numbers.
        sep: between fields.
        nulls: what a missing value is written as.

    RuntimeError naming the file, and the line where there is one, for a file that is empty, no text in UTF-8, or has
    a row with more or fewer fields than names (of which the libraries fill some with missing values, silently).
    """

    def __init__(
        self,
        path: Any,
        target: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        *,
        library: str | None = None,
        sep: str = ",",
        nulls: Sequence[str] = NULLS,
        **arguments: Any,
    ):
        path = os.fspath(path)
        super().__init__(read_csv(path, library, sep, nulls), target, columns, source=path, **arguments)
        self.root = path


def _check_rows(path: str, sep: str) -> None:
    names: list[str] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=sep, strict=True)
            for row in reader:
                if not names:
                    names = row
                elif row and len(row) != len(names):
                    line = f"line {reader.line_num} has {len(row)} fields"
                    raise damaged(path, f"{line}, but there are {len(names)} names")
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, error) from error
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if not names or twice:
        raise damaged(path, f"column {twice[0]!r} is there twice" if twice else "no names of columns in its first line")


def read_csv(path: str, library_name: str | None = None, sep: str = ",", nulls: Sequence[str] = NULLS) -> Any:
    """The data frame of a CSV file. Errors as `CSVDataset`."""
    found = library(library_name)
    _check_rows(path, sep)
    try:
        if found.__name__ == "polars":
            return found.read_csv(path, separator=sep, null_values=list(nulls), infer_schema_length=None)
        return found.read_csv(path, sep=sep, na_values=list(nulls), keep_default_na=False)
    except Exception as error:  # each library has a dozen for a file that it cannot read
        raise damaged(path, f"{found.__name__} cannot read it: {error}") from error
