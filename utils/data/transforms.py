"""Transforms of samples and of tables: fitted on training data, applied to any, kept in checkpoints.

    Compose             one after the other
    Impute              missing values filled
    Standardize         mean 0, standard deviation 1
    OneHot              categories as columns of 0 and 1
    ToTensor            images as torchvision's ToTensor makes them

A transform with `fit` takes features in the last dimension: a table (N, F), or in `__call__` a sample (F,), too.
Tensors give tensors, NumPy arrays give arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...autograd.api.creation import tensor
from ...autograd.tensor import Tensor

__all__ = ["Compose", "Impute", "OneHot", "Standardize", "ToTensor"]

STRATEGIES = ("mean", "median", "most_frequent", "constant")


def _host(x: Any) -> Any:
    """Numbers as a NumPy array."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _float(dtype: Any) -> Any:
    return dtype if dtype.kind == "f" else np.dtype(np.float32)


class Transform:
    """A transform with a state: `fit(x)` learns it, `state_dict` keeps it. Subclasses write `_fit` and `_apply`."""

    _state: tuple[str, ...] = ()  # names of what was learned: arrays
    _settings: tuple[str, ...] = ()  # names of the arguments that the result depends on
    n_features: int | None = None

    def fit(self, x: Any) -> Any:
        """Learns from a table (N, F). -> the transform itself. ValueError for another shape."""
        array, name = _host(x), type(self).__name__
        if array.ndim != 2 or not len(array):
            raise ValueError(f"{name}.fit: a table (N, F) with rows is expected, got shape {array.shape}")
        self._fit(array.astype(np.float64))
        self.n_features = array.shape[1]
        return self

    def __call__(self, x: Any) -> Any:
        """x: (..., F) -> (..., G). ValueError before `fit`, and for another number of features."""
        name = type(self).__name__
        if self.n_features is None:
            raise ValueError(f"This {name} is not fitted yet: call fit with training data, or load_state_dict")
        array = _host(x)
        if array.ndim < 1 or array.shape[-1] != self.n_features:
            raise ValueError(f"{name} was fitted on {self.n_features} features, but x has shape {array.shape}")
        rows = array.reshape(-1, self.n_features)
        out = self._apply(rows.astype(np.float64)).astype(_float(array.dtype))
        out = out.reshape(*array.shape[:-1], out.shape[1])
        return tensor(out, device=x.device) if isinstance(x, Tensor) else out

    def fit_transform(self, x: Any) -> Any:
        """`fit`, and the same data transformed."""
        return self.fit(x)(x)

    def _fit(self, x: Any) -> None:
        raise TypeError(f"{type(self).__name__} has no _fit(x)")

    def _apply(self, x: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no _apply(x)")

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as tensors, and the arguments: for `save`, and for a service that has no training data."""
        if self.n_features is None:
            raise ValueError(f"This {type(self).__name__} is not fitted yet: it has no state")
        learned = {name: _kept(getattr(self, name)) for name in self._state}
        return {"n_features": self.n_features, **{k: getattr(self, k) for k in self._settings}, **learned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave, the arguments too. KeyError for the state of another transform."""
        expected = {"n_features", *self._settings, *self._state}
        if state_dict.keys() != expected:
            text = f"{type(self).__name__}.load_state_dict: {sorted(expected)} expected, {sorted(state_dict)} found"
            raise KeyError(text)
        for name in self._settings:
            setattr(self, name, copy.copy(state_dict[name]))
        for name in self._state:
            setattr(self, name, _restored(state_dict[name]))
        self.n_features = int(state_dict["n_features"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={getattr(self, k)!r}' for k in self._settings)})"


def _kept(value: Any) -> Any:
    return [tensor(each) for each in value] if isinstance(value, list) else tensor(value)


def _restored(value: Any) -> Any:
    return [_host(each) for each in value] if isinstance(value, list) else _host(value)


class Impute(Transform):
    """Missing values replaced by what their column's other values say, as scikit-learn's SimpleImputer.

    Args:
        strategy: "mean", "median", "most_frequent" (the smallest of several), or "constant" (`fill_value`).
        fill_value: for "constant"; 0 by default.
        missing_values: what is missing: NaN, or a number.
        add_indicator: appends, for each column that had missing values in `fit`, a column of 1 where it is missing.
        keep_empty_features: a column without any value in `fit` is filled with 0 (with `fill_value`); otherwise it is
            left out.

    >>> import tapegrad as torch
    >>> from tapegrad.utils.data.transforms import Impute
    >>> x = torch.tensor([[1.0, 2.0], [float("nan"), 4.0], [5.0, 6.0]])
    >>> Impute(add_indicator=True).fit_transform(x)
    tensor([[1., 2., 0.],
            [3., 4., 1.],
            [5., 6., 0.]])
    """

    _state = ("statistics", "had_missing")
    _settings = ("strategy", "fill_value", "missing_values", "add_indicator", "keep_empty_features")

    def __init__(
        self,
        strategy: str = "mean",
        fill_value: float | None = None,
        missing_values: float = float("nan"),
        add_indicator: bool = False,
        keep_empty_features: bool = False,
    ):
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        self.strategy, self.fill_value, self.missing_values = strategy, fill_value, missing_values
        self.add_indicator, self.keep_empty_features = add_indicator, keep_empty_features

    def _missing(self, x: Any) -> Any:
        return np.isnan(x) if self.missing_values != self.missing_values else x == self.missing_values

    def _fit(self, x: Any) -> None:
        missing = self._missing(x)
        fill = 0.0 if self.fill_value is None else float(self.fill_value)
        empty = (fill if self.strategy == "constant" else 0.0) if self.keep_empty_features else np.nan
        found = [self._statistic(column[~absent], fill) for column, absent in zip(x.T, missing.T, strict=True)]
        self.statistics = np.array([empty if value is None else value for value in found])
        self.had_missing = missing.any(0)

    def _statistic(self, values: Any, fill: float) -> float | None:
        """A column's replacement, from the values that are there; None where there are none."""
        if not values.size:
            return None
        if self.strategy == "constant":
            return fill
        if self.strategy == "most_frequent":
            distinct, counts = np.unique(values, return_counts=True)
            return float(distinct[counts.argmax()])
        return float(np.mean(values) if self.strategy == "mean" else np.median(values))

    def _apply(self, x: Any) -> Any:
        missing = self._missing(x)
        kept = ~np.isnan(self.statistics)
        out = np.where(missing, self.statistics, x)[:, kept]
        return np.concatenate([out, missing[:, self.had_missing]], 1) if self.add_indicator else out


class Standardize(Transform):
    """(x - mean) / std of the training data's columns, as scikit-learn's StandardScaler: NaN are left out and stay.

    Args:
        with_mean, with_std: whether the mean is subtracted, and whether it is divided by the standard deviation
            (of the population; 1 for a column that does not vary).
    """

    _state = ("mean", "std")
    _settings = ("with_mean", "with_std")

    def __init__(self, with_mean: bool = True, with_std: bool = True):
        self.with_mean, self.with_std = with_mean, with_std

    def _fit(self, x: Any) -> None:
        there = ~np.isnan(x)
        count = np.maximum(there.sum(0), 1)
        mean = np.where(there, x, 0).sum(0) / count
        variance = np.where(there, (x - mean) ** 2, 0).sum(0) / count
        flat = variance <= count * np.finfo(np.float64).eps * variance + (count * mean * np.finfo(np.float64).eps) ** 2
        self.mean = mean if self.with_mean else np.zeros_like(mean)
        self.std = np.where(flat, 1.0, np.sqrt(variance)) if self.with_std else np.ones_like(mean)

    def _apply(self, x: Any) -> Any:
        return (x - self.mean) / self.std

    def inverse(self, x: Any) -> Any:
        """The values that were standardised to x. (..., F) -> (..., F)."""
        if self.n_features is None:
            raise ValueError("This Standardize is not fitted yet")
        array = _host(x)
        out = (array * self.std + self.mean).astype(_float(array.dtype))
        return tensor(out, device=x.device) if isinstance(x, Tensor) else out


class OneHot(Transform):
    """Columns of categories, each replaced by as many columns of 0 and 1 as it has categories, in its place.

    Args:
        columns: their numbers, negative ones from the end; default: all.
        categories: "auto": the values in the training data, sorted (NaN is one of them); or a list of values for each.
        handle_unknown: a value that is none of the categories is an "error", or gives zeros ("ignore").

    >>> import tapegrad as torch
    >>> from tapegrad.utils.data.transforms import OneHot
    >>> OneHot([1]).fit_transform(torch.tensor([[0.5, 2.0], [0.1, 7.0], [0.9, 2.0]]))
    tensor([[0.5000, 1.0000, 0.0000],
            [0.1000, 0.0000, 1.0000],
            [0.9000, 1.0000, 0.0000]])
    """

    _state = ("categories_",)
    _settings = ("columns", "handle_unknown")

    def __init__(
        self, columns: Sequence[int] | None = None, categories: Any = "auto", handle_unknown: str = "error"
    ):
        if handle_unknown not in ("error", "ignore"):
            raise ValueError(f'handle_unknown must be "error" or "ignore", not {handle_unknown!r}')
        self.columns = None if columns is None else [int(i) for i in columns]
        self.categories, self.handle_unknown = categories, handle_unknown

    def _places(self, count: int) -> list[int]:
        asked = range(count) if self.columns is None else self.columns
        outside = [i for i in asked if not -count <= i < count]
        if outside:
            raise ValueError(f"OneHot: column {outside[0]} of {count}")
        return [i % count for i in asked]

    def _fit(self, x: Any) -> None:
        places = self._places(x.shape[1])
        if isinstance(self.categories, str):
            self.categories_ = [np.unique(x[:, i]) for i in places]
            return
        if len(self.categories) != len(places):
            raise ValueError(f"OneHot: {len(self.categories)} lists of categories for {len(places)} columns")
        given = [np.asarray(values, np.float64) for values in self.categories]
        for i, values in zip(places, given, strict=True):
            if self.handle_unknown == "error":
                self._codes(x[:, i], values, i)
        self.categories_ = given

    def _codes(self, column: Any, values: Any, place: int) -> Any:
        """bool (N, categories): which category each value is. ValueError for none, unless they are ignored."""
        same = (column[:, None] == values) | (np.isnan(column)[:, None] & np.isnan(values))
        unknown = ~same.any(1)
        if unknown.any() and self.handle_unknown == "error":
            found = np.unique(column[unknown]).tolist()
            raise ValueError(f"Found unknown categories {found[:5]} in column {place} during transform")
        return same

    def _apply(self, x: Any) -> Any:
        values = dict(zip(self._places(x.shape[1]), self.categories_, strict=True))
        parts = [self._codes(x[:, i], values[i], i) if i in values else x[:, i : i + 1] for i in range(x.shape[1])]
        return np.concatenate(parts, 1)


class Compose:
    """Transforms, one after the other; those with `fit` are fitted on what the ones before them give.

    Args:
        transforms: of this module, or functions.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]):
        self.transforms = list(transforms)

    def fit(self, x: Any) -> Any:
        """Fits each on the training data as it gets there. -> the transform itself."""
        self.fit_transform(x)
        return self

    def fit_transform(self, x: Any) -> Any:
        """`fit`, and the same data transformed."""
        for each in self.transforms:
            x = each.fit_transform(x) if hasattr(each, "fit_transform") else each(x)
        return x

    def __call__(self, x: Any) -> Any:
        """The sample or table after all of them."""
        for each in self.transforms:
            x = each(x)
        return x

    def _with_state(self) -> dict[str, Any]:
        return {str(i): each for i, each in enumerate(self.transforms) if hasattr(each, "state_dict")}

    def state_dict(self) -> dict[str, Any]:
        """The state of each that has one, by its place."""
        return {place: each.state_dict() for place, each in self._with_state().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave. KeyError where the places are others."""
        own = self._with_state()
        if own.keys() != state_dict.keys():
            raise KeyError(f"Compose.load_state_dict: places {sorted(own)} expected, {sorted(state_dict)} found")
        for place, each in own.items():
            each.load_state_dict(state_dict[place])

    def __repr__(self) -> str:
        return "Compose(\n" + "".join(f"    {each}\n" for each in self.transforms) + ")"


class ToTensor:
    """An image, an array (H, W) or (H, W, C), as a tensor (C, H, W): uint8 becomes float32 in [0, 1], else as it is."""

    def __call__(self, pic: Any) -> Tensor:
        """ValueError for another number of dimensions."""
        array = _host(pic)
        if array.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {array.ndim} dimensions.")
        array = np.ascontiguousarray((array[:, :, None] if array.ndim == 2 else array).transpose(2, 0, 1))
        return tensor(array.astype(np.float32) / 255 if array.dtype == np.uint8 else array)

    def __repr__(self) -> str:
        return "ToTensor()"
