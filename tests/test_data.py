"""utils.data: each case is checked on tapegrad, and where torch is installed the same case is checked on torch too.

A case is a function of the library, `lambda lib: ...`; its result is turned into plain Python values by `plain`.
"""

from __future__ import annotations

import gc
import importlib
import math
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections import OrderedDict, namedtuple
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import tapegrad
from tapegrad.utils import data
from tapegrad.utils.data import workers

Point = namedtuple("Point", ["x", "y"])


@pytest.fixture(params=["tapegrad", "torch"])
def lib(request):
    """Both libraries: what is asked of tapegrad is asked of torch as well."""
    if request.param == "tapegrad":
        return tapegrad
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.utils.data")
    return torch


def plain(value):
    """Tensors as (dtype, nested list), containers walked; types of containers kept."""
    if hasattr(value, "tolist") and hasattr(value, "dtype") and not isinstance(value, (np.ndarray, np.generic)):
        return str(value.dtype).split(".")[-1], value.tolist()
    if isinstance(value, dict):
        return type(value)({key: plain(item) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(plain, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("data_worker_")]


def soon(condition, seconds: float = 10.0) -> bool:
    """Whether the condition becomes true in that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


# ---- errors: (call, type, text) ----


def iterable(lib, n: int, sized: bool = False):
    class Stream(lib.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(n))

    class SizedStream(Stream):
        def __len__(self):
            return n

        def __repr__(self):
            return "SizedStream"

    return SizedStream() if sized else Stream()


def loader(lib, dataset=None, **options):
    return lib.utils.data.DataLoader(range(10) if dataset is None else dataset, **options)


def set_attribute(lib, name):
    setattr(loader(lib), name, None)


def bad_subset(lib):
    class Doubled(lib.utils.data.Subset):
        def __getitem__(self, idx):
            return 2 * super().__getitem__(idx)

    return Doubled(range(4), [0])


def bad_getitems(lib):
    class Short(lib.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitems__(self, indices):
            return [0]

    return lib.utils.data.StackDataset(Short()).__getitems__([0, 1])


STREAM = "DataLoader with IterableDataset: expected unspecified"
ERRORS = {
    "num_workers": (lambda t: loader(t, num_workers=-1), ValueError,
        "num_workers option should be non-negative; use num_workers=0 to disable multiprocessing."),
    "timeout": (lambda t: loader(t, timeout=-1), ValueError, "timeout option should be non-negative"),
    "prefetch without workers": (lambda t: loader(t, prefetch_factor=2), ValueError,
        "prefetch_factor option could only be specified in multiprocessing."
        "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."),
    "prefetch negative": (lambda t: loader(t, num_workers=1, prefetch_factor=-1), ValueError,
        "prefetch_factor option should be non-negative"),
    "timeout without workers": (lambda t: iter(loader(t, timeout=1)), AssertionError,
        "_SingleProcessDataLoaderIter requires timeout == 0"),
    "persistent": (lambda t: loader(t, persistent_workers=True), ValueError,
        "persistent_workers option needs num_workers > 0"),
    "stream shuffle": (lambda t: loader(t, iterable(t, 3), shuffle=True), ValueError,
        f"{STREAM} shuffle option, but got shuffle=True"),
    "stream sampler": (lambda t: loader(t, iterable(t, 3), sampler=[0]), ValueError,
        f"{STREAM} sampler option, but got sampler=[0]"),
    "stream batch_sampler": (lambda t: loader(t, iterable(t, 3), batch_sampler=[[0]]), ValueError,
        f"{STREAM} batch_sampler option, but got batch_sampler=[[0]]"),
    "stream len": (lambda t: len(loader(t, iterable(t, 3))), TypeError, "object of type 'Stream' has no len()"),
    "sampler and shuffle": (lambda t: loader(t, sampler=[0], shuffle=True), ValueError,
        "sampler option is mutually exclusive with shuffle"),
    "batch_sampler and batch_size": (lambda t: loader(t, batch_sampler=[[0]], batch_size=2), ValueError,
        "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"),
    "batch_sampler and drop_last": (lambda t: loader(t, batch_sampler=[[0]], drop_last=True), ValueError,
        "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"),
    "no batches to drop": (lambda t: loader(t, batch_size=None, drop_last=True), ValueError,
        "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"),
    "batch_size 0": (lambda t: loader(t, batch_size=0), ValueError,
        "batch_size should be a positive integer value, but got batch_size=0"),
    "batch_size bool": (lambda t: loader(t, batch_size=True), ValueError,
        "batch_size should be a positive integer value, but got batch_size=True"),
    "batch_size float": (lambda t: loader(t, batch_size=2.0), ValueError,
        "batch_size should be a positive integer value, but got batch_size=2.0"),
    "drop_last int": (lambda t: t.utils.data.BatchSampler(range(3), 2, 1), ValueError,
        "drop_last should be a boolean value, but got drop_last=1"),
    "context without workers": (lambda t: loader(t, multiprocessing_context="fork"), ValueError,
        "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got num_workers=0"),
    "context unknown": (lambda t: loader(t, num_workers=1, multiprocessing_context="thread"), ValueError,
        "multiprocessing_context option should specify a valid start method in "
        f"{multiprocessing.get_all_start_methods()!r}, but got multiprocessing_context='thread'"),
    "context type": (lambda t: loader(t, num_workers=1, multiprocessing_context=3), TypeError,
        "multiprocessing_context option should be a valid context object or a string specifying the start method, "
        "but got multiprocessing_context=3"),
    "empty shuffle": (lambda t: loader(t, [], shuffle=True), ValueError,
        "num_samples should be a positive integer value, but got num_samples=0"),
    **{f"set {name}": (lambda t, name=name: set_attribute(t, name), ValueError,
        f"{name} attribute should not be set after DataLoader is initialized")
       for name in ["batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"]},
    "pickled iterator": (lambda t: pickle.dumps(iter(loader(t))), NotImplementedError,
        "('{} cannot be pickled', '_SingleProcessDataLoaderIter')"),
    "replacement": (lambda t: t.utils.data.RandomSampler(range(3), replacement=1), TypeError,
        "replacement should be a boolean value, but got replacement=1"),
    "num_samples": (lambda t: t.utils.data.RandomSampler(range(3), num_samples=0), ValueError,
        "num_samples should be a positive integer value, but got num_samples=0"),
    "num_samples float": (lambda t: t.utils.data.RandomSampler(range(3), num_samples=2.0), ValueError,
        "num_samples should be a positive integer value, but got num_samples=2.0"),
    "weighted num_samples": (lambda t: t.utils.data.WeightedRandomSampler([1.0], True), ValueError,
        "num_samples should be a positive integer value, but got num_samples=True"),
    "weighted replacement": (lambda t: t.utils.data.WeightedRandomSampler([1.0], 1, replacement=0), ValueError,
        "replacement should be a boolean value, but got replacement=0"),
    "weighted 2-D": (lambda t: t.utils.data.WeightedRandomSampler([[1.0, 2.0]], 1), ValueError,
        "weights should be a 1d sequence but given weights have shape (1, 2)"),
    "rank": (lambda t: t.utils.data.DistributedSampler(range(3), num_replicas=2, rank=2), ValueError,
        "Invalid rank 2, rank should be in the interval [0, 1]"),
    "rank negative": (lambda t: t.utils.data.DistributedSampler(range(3), num_replicas=2, rank=-1), ValueError,
        "Invalid rank -1, rank should be in the interval [0, 1]"),
    "dataset getitem": (lambda t: t.utils.data.Dataset()[0], NotImplementedError,
        "Subclasses of Dataset should implement __getitem__."),
    "tensor sizes": (lambda t: t.utils.data.TensorDataset(t.zeros(2), t.zeros(3)), AssertionError,
        "Size mismatch between tensors"),
    "stack nothing": (lambda t: t.utils.data.StackDataset(), ValueError, "At least one dataset should be passed"),
    "stack both": (lambda t: t.utils.data.StackDataset(range(2), a=range(2)), ValueError,
        "Supported either ``tuple``- (via ``args``) or"
        "``dict``- (via ``kwargs``) like input/output, but both types are given."),
    "stack sizes": (lambda t: t.utils.data.StackDataset(range(2), range(3)), ValueError,
        "Size mismatch between datasets"),
    "stack getitems": (bad_getitems, ValueError, "Nested dataset's output size mismatch. Expected 2, got 1"),
    "concat nothing": (lambda t: t.utils.data.ConcatDataset([]), AssertionError,
        "datasets should not be an empty iterable"),
    "concat stream": (lambda t: t.utils.data.ConcatDataset([iterable(t, 2)]), AssertionError,
        "ConcatDataset does not support IterableDataset"),
    "concat index": (lambda t: t.utils.data.ConcatDataset([range(2)])[-3], ValueError,
        "absolute value of index should not exceed dataset length"),
    "chain of maps": (lambda t: list(t.utils.data.ChainDataset([range(2)])), AssertionError,
        "ChainDataset only supports IterableDataset"),
    "chain len": (lambda t: len(t.utils.data.ChainDataset([range(2)])), AssertionError,
        "ChainDataset only supports IterableDataset"),
    "split sum": (lambda t: t.utils.data.random_split(range(5), [2, 2]), ValueError,
        "Sum of input lengths does not equal the length of the input dataset!"),
    "split fraction": (lambda t: t.utils.data.random_split(range(5), [-0.5, 1.5]), ValueError,
        "Fraction at index 0 is not between 0 and 1"),
    "collate object": (lambda t: t.utils.data.default_collate([object()]), TypeError,
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found <class 'object'>"),
    "collate complex": (lambda t: t.utils.data.default_collate([1j]), TypeError,
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found <class 'complex'>"),
    "collate text array": (lambda t: t.utils.data.default_collate([np.array(["a"])]), TypeError,
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found <U1"),
    "collate lengths": (lambda t: t.utils.data.default_collate([[1, 2], [3]]), RuntimeError,
        "each element in list of batch should be of equal size"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_error(lib, case):
    call, error, text = ERRORS[case]
    with pytest.raises(Exception) as caught:
        call(lib)
    assert (caught.type, str(caught.value)) == (error, text)


def test_subset_with_its_own_getitem_must_have_getitems(lib):
    with pytest.raises(NotImplementedError, match="Doubled overrides __getitem__ but not __getitems__"):
        bad_subset(lib)


def test_nothing_to_prefetch():
    """On its own, since in torch the half-made iterator complains a second time when it is collected."""
    with pytest.raises(AssertionError, match="prefetch_factor must be greater than 0"):
        iter(loader(tapegrad, num_workers=1, prefetch_factor=0))


def test_distributed_sampler_asks_for_its_numbers():
    with pytest.raises(ValueError, match="Default process group has not been initialized"):
        data.DistributedSampler(range(3))


# ---- datasets and collate: (case, result) ----


def int64(*values):
    return "int64", list(values)


def tensors(lib):
    return lib.utils.data.TensorDataset(lib.arange(6).reshape(3, 2), lib.tensor([1.0, 2.0, 3.0]))


DATASETS = {
    "tensors": (lambda t: tensors(t)[1], (int64(2, 3), ("float32", 2.0))),
    "tensors slice": (lambda t: tensors(t)[:2], (("int64", [[0, 1], [2, 3]]), ("float32", [1.0, 2.0]))),
    "tensors len": (lambda t: len(tensors(t)), 3),
    "stack tuple": (lambda t: t.utils.data.StackDataset(range(3), "abc")[1], (1, "b")),
    "stack dict": (lambda t: t.utils.data.StackDataset(a=range(3), b="abc")[1], {"a": 1, "b": "b"}),
    "stack batch": (lambda t: t.utils.data.StackDataset(range(3), "abc").__getitems__([2, 0]), [(2, "c"), (0, "a")]),
    "stack dict batch": (lambda t: t.utils.data.StackDataset(a=t.utils.data.Subset(range(9), [5, 6, 7]), b="abc")
        .__getitems__([2, 0]), [{"a": 7, "b": "c"}, {"a": 5, "b": "a"}]),
    "concat": (lambda t: [t.utils.data.ConcatDataset([range(2), "", "abc"])[i] for i in range(-5, 5)],
        [0, 1, "a", "b", "c"] * 2),
    "concat sizes": (lambda t: t.utils.data.ConcatDataset([range(2), "", "abc"]).cumulative_sizes, [2, 2, 5]),
    "add": (lambda t: list(map(len, [tensors(t) + tensors(t), tensors(t) + tensors(t) + range(2)])), [6, 8]),
    "chain": (lambda t: list(iterable(t, 2) + iterable(t, 3)), [0, 1, 0, 1, 2]),
    "chain len": (lambda t: len(t.utils.data.ChainDataset([iterable(t, n, sized=True) for n in (2, 3)])), 5),
    "subset": (lambda t: [t.utils.data.Subset("abcd", [3, 1])[i] for i in (0, 1)], ["d", "b"]),
    "subset list": (lambda t: t.utils.data.Subset(np.arange(9), [3, 1, 7])[[2, 0]].tolist(), [7, 3]),
    "subset of subset": (lambda t: t.utils.data.Subset(t.utils.data.Subset("abcd", [3, 1]), [1, 0, 1])
        .__getitems__([0, 1, 2]), ["b", "d", "b"]),
    "split lengths": (lambda t: [len(s) for s in t.utils.data.random_split(range(10), [0.3, 0.3, 0.4])], [3, 3, 4]),
    "split remainder": (lambda t: [len(s) for s in t.utils.data.random_split(range(11), [0.5, 0.25, 0.25])], [6, 3, 2]),
    "split covers": (lambda t: sorted(i for s in t.utils.data.random_split(range(9), [4, 5]) for i in s),
        list(range(9))),
    "sequential": (lambda t: list(t.utils.data.SequentialSampler("abc")), [0, 1, 2]),
    "batches": (lambda t: list(t.utils.data.BatchSampler(range(5), 2, False)), [[0, 1], [2, 3], [4]]),
    "batches dropped": (lambda t: list(t.utils.data.BatchSampler(range(5), 2, True)), [[0, 1], [2, 3]]),
    "batches len": (lambda t: [len(t.utils.data.BatchSampler(range(n), 3, drop)) for n in (0, 2, 3, 4)
        for drop in (False, True)], [0, 0, 1, 0, 1, 1, 2, 1]),
    "random len": (lambda t: [len(t.utils.data.RandomSampler("abc")),
        len(t.utils.data.RandomSampler("abc", num_samples=7))], [3, 7]),
    "distributed padded": (lambda t: [list(t.utils.data.DistributedSampler(range(5), 3, rank, shuffle=False))
        for rank in range(3)], [[0, 3], [1, 4], [2, 0]]),
    "distributed dropped": (lambda t: [list(t.utils.data.DistributedSampler(range(5), 3, rank, False, drop_last=True))
        for rank in range(3)], [[0], [1], [2]]),
    "distributed tiny": (lambda t: [list(t.utils.data.DistributedSampler(range(2), 5, rank, False))
        for rank in range(5)], [[0], [1], [0], [1], [0]]),
    "distributed tiny dropped": (lambda t: [len(t.utils.data.DistributedSampler(range(n), 3, 0, drop_last=True))
        for n in range(1, 8)], [0, 0, 1, 1, 1, 2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("case", DATASETS)
def test_dataset(lib, case):
    call, result = DATASETS[case]
    assert plain(call(lib)) == result


class Words(list):
    """A sequence of its own type."""


COLLATE = {
    "ints": ([1, 2], int64(1, 2)),
    "bools": ([True, False], ("bool", [True, False])),
    "floats": ([1, 2.5], ("float32", [1.0, 2.5])),
    "floats first": ([0.1, 1], ("float64", [0.1, 1.0])),
    "text": (["a", "b"], ["a", "b"]),
    "bytes": ([b"a"], [b"a"]),
    "float64 scalars": ([np.float64(1), np.float64(2)], ("float64", [1.0, 2.0])),
    "float32 scalars": ([np.float32(1), np.float32(2)], ("float32", [1.0, 2.0])),
    "int32 scalars": ([np.int32(1)], ("int32", [1])),
    "bool scalars": ([np.bool_(True)], ("bool", [True])),
    "arrays": ([np.arange(2), np.arange(2) + 5], ("int64", [[0, 1], [5, 6]])),
    "uint8 arrays": ([np.zeros((1, 2), np.uint8)], ("uint8", [[[0, 0]]])),
    "0-d arrays": ([np.array(1.5), np.array(2.5)], ("float64", [1.5, 2.5])),
    "pairs": ([(1, "a"), (2, "b")], [int64(1, 2), ("a", "b")]),
    "lists": ([[1, 2.0], [3, 4.0]], [int64(1, 3), ("float64", [2.0, 4.0])]),
    "dicts": ([{"x": 1, "y": "a"}, {"x": 2, "y": "b"}], {"x": int64(1, 2), "y": ["a", "b"]}),
    "ordered": ([OrderedDict(b=1, a=2)], OrderedDict(b=int64(1), a=int64(2))),
    "proxy": ([MappingProxyType({"x": 1})], MappingProxyType({"x": int64(1)})),
    "points": ([Point(1, 2.0), Point(3, 4.0)], Point(int64(1, 3), ("float64", [2.0, 4.0]))),
    "own sequence": ([Words([1, "a"]), Words([2, "b"])], Words([int64(1, 2), ("a", "b")])),
    "ranges": ([range(2), range(2, 4)], [int64(0, 2), int64(1, 3)]),
    "nested": ([{"p": [Point(1, (2, 3))]}], {"p": [Point(int64(1), [int64(2), int64(3)])]}),
    "empty": ([(), ()], []),
}
CONVERT = {
    "int": (1, 1),
    "text": ("ab", "ab"),
    "array": (np.arange(2), int64(0, 1)),
    "text array": (np.array(["a"]), np.array(["a"])),
    "scalar": (np.float32(1), ("float32", 1.0)),
    "np.str_": (np.str_("a"), "a"),
    "pair": ((1, np.arange(1)), [1, int64(0)]),
    "point": (Point(1, np.arange(1)), Point(1, int64(0))),
    "dict": ({"x": np.arange(1), "y": None}, {"x": int64(0), "y": None}),
    "own sequence": (Words([np.arange(1), "a"]), Words([int64(0), "a"])),
    "range": (range(2), [0, 1]),
    "set": ({1}, {1}),
}


def plain_mapping(value):
    value = plain(dict(value)) if isinstance(value, MappingProxyType) else plain(value)
    return value


@pytest.mark.parametrize("case", COLLATE)
def test_collate(lib, case):
    batch, result = COLLATE[case]
    got = lib.utils.data.default_collate(batch)
    assert isinstance(got, tuple) or type(got) is type(result) or isinstance(result, tuple)
    assert plain_mapping(got) == plain_mapping(result)


@pytest.mark.parametrize("case", CONVERT)
def test_convert(lib, case):
    value, result = CONVERT[case]
    got = lib.utils.data.default_convert(value)
    assert plain(got) == result
    assert isinstance(result, tuple) or type(got) in (type(result), type(value))


def test_collate_tensors(lib):
    batch = [{"x": lib.ones(2, dtype=lib.float16), "y": lib.tensor(i)} for i in range(2)]
    result = {"x": ("float16", [[1.0, 1.0]] * 2), "y": int64(0, 1)}
    assert plain(lib.utils.data.default_collate(batch)) == result


def test_collate_keeps_the_graph(lib):
    x = lib.ones(2, requires_grad=True)
    lib.utils.data.default_collate([x, 2 * x]).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_collate_keeps_what_a_mapping_carries(lib):
    class Tagged(dict):
        tag = None

    sample = Tagged(x=1)
    sample.tag = "kept"
    for got in (lib.utils.data.default_collate([sample]), lib.utils.data.default_convert(sample)):
        assert type(got) is Tagged and got.tag == "kept" and got is not sample
    assert sample == {"x": 1}


def test_collate_map_can_be_extended():
    from tapegrad.utils.data.collate import collate, default_collate_fn_map

    class Id(int):
        pass

    mapping = {Id: lambda batch, *, collate_fn_map: sum(batch), **default_collate_fn_map}
    assert plain(collate([(Id(1), 1), (Id(2), 2)], collate_fn_map=mapping)) == [3, int64(1, 2)]


def test_convert_shares_memory(lib):
    array = np.zeros(2)
    with lib.device("cpu"):
        lib.utils.data.default_convert([array])[0][0] = 7.0
    assert array[0] == 7.0


def test_empty_split_warns(lib):
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0. This might result in an empty dataset."):
        lib.utils.data.random_split(range(1), [0.5, 0.5])


def test_the_old_name_of_cumulative_sizes_warns(lib):
    with pytest.warns(FutureWarning, match="`cummulative_sizes` attribute is renamed to `cumulative_sizes`"):
        assert lib.utils.data.ConcatDataset([range(2)]).cummulative_sizes == [2]


# ---- order and draws: the same numbers as torch, and the same afterwards ----


def seeded(lib, seed):
    return lib.Generator().manual_seed(seed)


ORDERS = {
    "sequential": lambda t: {"batch_size": 3},
    "shuffled": lambda t: {"batch_size": 3, "shuffle": True},
    "drop_last": lambda t: {"batch_size": 3, "shuffle": True, "drop_last": True},
    "single": lambda t: {"batch_size": None, "shuffle": True},
    "generator": lambda t: {"batch_size": 5, "shuffle": True, "generator": seeded(t, 3)},
    "default generator": lambda t: {"batch_size": 5, "shuffle": True, "generator": t.default_generator},
    "workers": lambda t: {"batch_size": 3, "shuffle": True, "num_workers": 2},
    "workers, generator": lambda t: {"batch_size": 3, "shuffle": True, "num_workers": 2, "generator": seeded(t, 3)},
    "persistent": lambda t: {"batch_size": 2, "shuffle": True, "num_workers": 2, "persistent_workers": True},
    "replacement": lambda t: {"sampler": t.utils.data.RandomSampler(range(10), True, 70), "batch_size": 4},
    "replacement, generator": lambda t: {
        "sampler": t.utils.data.RandomSampler(range(10), True, 70, generator=seeded(t, 5)), "batch_size": 4},
    "from the default generator": lambda t: {
        "sampler": t.utils.data.RandomSampler(range(10), True, 70, generator=t.default_generator), "batch_size": 4},
    "more than once": lambda t: {"sampler": t.utils.data.RandomSampler(range(10), num_samples=25), "batch_size": 4},
    "twice, shared": lambda t: {
        "sampler": t.utils.data.RandomSampler(range(10), num_samples=20, generator=t.default_generator),
        "batch_size": 4, "num_workers": 2},
    "subset": lambda t: {"sampler": t.utils.data.SubsetRandomSampler([3, 1, 4, 5, 9])},
    "weighted": lambda t: {"sampler": t.utils.data.WeightedRandomSampler([0.1, 3.0, 0.0, 1.5, 1e-3], 9)},
    "weighted without": lambda t: {"sampler": t.utils.data.WeightedRandomSampler([0.1, 3.0, 1.0, 1.5], 3, False)},
    "batch sampler": lambda t: {"batch_sampler": t.utils.data.BatchSampler(
        t.utils.data.RandomSampler(range(10), generator=t.default_generator), 4, True)},
    "distributed": lambda t: {"sampler": t.utils.data.DistributedSampler(range(10), 3, 1, seed=4), "batch_size": 2},
}  # fmt: skip


def order(lib, case):
    """Two whole epochs and one broken off, with draws in between; then what the generators give next."""
    lib.manual_seed(7)
    options = ORDERS[case](lib)
    batches = loader(lib, **options)
    seen = []
    for epoch in range(3):
        if "distributed" in case:
            options["sampler"].set_epoch(epoch)
        for i, batch in enumerate(batches):
            seen.append((plain(batch), lib.rand(1).item()))
            if epoch == 2 and i == 1:
                break
    generator = options.get("generator")
    return seen, lib.rand(2).tolist(), None if generator is None else lib.rand(2, generator=generator).tolist()


def intel() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "GenuineIntel" in cpuinfo.read_text()


@pytest.mark.parametrize("case", ORDERS)
def test_order_is_that_of_torch(case):
    torch = pytest.importorskip("torch")
    if case == "weighted without" and intel():
        pytest.skip("torch takes exponential_ from MKL on Intel processors")
    assert order(tapegrad, case) == order(torch, case)


def test_split_is_that_of_torch():
    torch = pytest.importorskip("torch")

    def splits(lib):
        lib.manual_seed(3)
        split = lib.utils.data.random_split
        found = [split(range(10), [3, 7]), split(range(11), [0.5, 0.25, 0.25]), split(range(5), [1.0])]
        found += [split(range(10), [2, 8], generator=seeded(lib, 42)), split(range(10), [2, 8], None)]
        return [[part.indices for part in parts] for parts in found], lib.rand(2).tolist()

    assert splits(tapegrad) == splits(torch)


def test_an_eager_sampler_is_asked_as_often_as_by_torch(lib):
    """torch calls iter() once per pass, and twice for the first one with workers."""

    class Eager:
        asked = 0

        def __iter__(self):
            self.asked += 1
            return iter([2, 1])

    counts = []
    for workers_, persistent in [(0, False), (1, False), (1, True)]:
        sampler = Eager()
        options = {"num_workers": workers_, "persistent_workers": persistent, "batch_size": None}
        batches = loader(lib, sampler=sampler, **options)
        for _ in range(2):
            assert list(batches) == [2, 1]
            counts.append(sampler.asked)
    assert counts == [1, 2, 2, 4, 2, 3]


def test_first_values_of_a_seed():
    """Without torch at hand: what it gives (torch 2.13) for one shuffle and the number after it."""
    tapegrad.manual_seed(0)
    batches = [plain(batch)[1] for batch in loader(tapegrad, batch_size=4, shuffle=True)]
    assert batches == [[6, 7, 1, 4], [2, 0, 9, 8], [3, 5]]
    assert tapegrad.rand(1).item() == 0.30742281675338745


# ---- the loader in one thread ----


@pytest.mark.parametrize("num_workers", [0, 2])
def test_lengths(lib, num_workers):
    def length(dataset, **options):
        return len(loader(lib, dataset, num_workers=num_workers, **options))

    assert length(range(10), batch_size=3) == len(iter(loader(lib, batch_size=3))) == 4
    assert length(range(10), batch_size=3, drop_last=True) == 3
    assert length(range(10), batch_size=None) == 10
    assert length(range(10), batch_sampler=[[0], [1, 2]]) == 2
    stream = iterable(lib, 10, sized=True)
    assert [length(stream, batch_size=3, drop_last=drop) for drop in (False, True)] == [4, 3]
    assert length(stream, batch_size=None) == 10


def test_attributes(lib):
    one = loader(lib, num_workers=1)
    assert (one.prefetch_factor, one.batch_size, one.drop_last, one.pin_memory) == (2, 1, False, False)
    assert one.collate_fn is lib.utils.data.default_collate
    none = loader(lib, batch_size=None)
    assert none.collate_fn is lib.utils.data.default_convert and none.batch_sampler is None
    assert (none.prefetch_factor, none.num_workers, none.timeout, none.in_order) == (None, 0, 0, True)
    none.worker_init_fn = print  # only what decides the order is fixed
    assert isinstance(one.sampler, lib.utils.data.SequentialSampler)


def test_collate_fn_and_getitems(lib):
    class Batched(lib.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert list(loader(lib, Batched(), batch_size=2, collate_fn=tuple)) == [(0, 10), (20, 30), (40,)]
    assert list(loader(lib, Batched(), batch_sampler=[[4], [0, 1]], collate_fn=tuple)) == [(40,), (0, 10)]


def test_batches_of_tensors(lib):
    dataset = tensors(lib)
    got = plain(list(loader(lib, dataset, batch_size=2)))
    assert got == [
        [("int64", [[0, 1], [2, 3]]), ("float32", [1.0, 2.0])],
        [("int64", [[4, 5]]), ("float32", [3.0])],
    ]


def in_tensors(lib):
    x = lib.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)
    return lib.utils.data.TensorDataset(x, lib.arange(4), lib.zeros(4, 0), lib.ones(4, dtype=lib.bool))


def test_tensors_are_read_at_once_as_one_by_one(lib):
    """A `TensorDataset` is read by one indexing per batch; the result is that of the samples collated."""
    whole = in_tensors(lib)
    for dataset in (whole, lib.utils.data.Subset(whole, [3, 1, 0]),
                    lib.utils.data.Subset(lib.utils.data.Subset(whole, [3, 1, 0]), [2, 2, 1])):  # fmt: skip
        for indices in ([0, 2], [1], [-1, 0, 1, 1], lib.tensor([1, 0])):
            (batch,) = loader(lib, dataset, batch_sampler=[indices])
            samples = lib.utils.data.default_collate([dataset[i] for i in indices])
            assert type(batch) is list and plain(batch) == plain(samples)
            assert all(a.is_contiguous() and a.shape == b.shape for a, b in zip(batch, samples, strict=True))
    for bad in ([], [0, 4]):
        with pytest.raises(IndexError):
            next(iter(loader(lib, whole, batch_sampler=[bad])))


def test_what_reads_its_samples_in_its_own_way_is_asked_for_them(lib):
    class Doubled(lib.utils.data.TensorDataset):
        def __getitem__(self, index):
            return tuple(2 * tensor for tensor in super().__getitem__(index))

    class Shifted(lib.utils.data.Subset):
        def __getitem__(self, idx):
            return self.__getitems__([idx])[0]

        def __getitems__(self, indices):
            return [self.dataset[self.indices[i] + 1] for i in indices]

    doubled = Doubled(lib.arange(5))
    shifted = Shifted(lib.utils.data.TensorDataset(lib.arange(5)), [3, 1])
    datasets = [doubled, lib.utils.data.Subset(doubled, [3, 1]), shifted]
    first = [next(iter(loader(lib, dataset, batch_size=2))) for dataset in datasets]
    assert plain(first) == [[int64(0, 2)], [int64(6, 2)], [int64(4, 2)]]


def test_a_changed_collate_map_is_obeyed(lib, monkeypatch):
    name = "torch.utils.data._utils.collate" if lib is not tapegrad else "tapegrad.utils.data.collate"
    own = {lib.Tensor: lambda batch, *, collate_fn_map: "own"}
    mapping = importlib.import_module(name).default_collate_fn_map
    for key, function in own.items():
        monkeypatch.setitem(mapping, key, function)
    assert next(iter(loader(lib, lib.utils.data.TensorDataset(lib.arange(3))))) == ["own"]


def test_gradients_of_batches(lib):
    x = lib.ones(4, 2, requires_grad=True)
    next(iter(loader(lib, lib.utils.data.TensorDataset(x), batch_size=3)))[0].sum().backward()
    assert x.grad.sum(1).tolist() == [2.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streams(lib, num_workers):
    def batches(**options):
        return plain(list(loader(lib, iterable(lib, 5), num_workers=num_workers, **options)))

    twice = 2 if num_workers else 1  # each worker reads the whole stream
    assert batches(batch_size=2) == sorted([int64(0, 1), int64(2, 3), int64(4)] * twice)
    assert batches(batch_size=2, drop_last=True) == sorted([int64(0, 1), int64(2, 3)] * twice)
    assert batches(batch_size=None) == sorted([0, 1, 2, 3, 4] * twice)


def test_a_stream_longer_than_it_said_warns(lib):
    class Liar(lib.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(3))

        def __len__(self):
            return 2

        def __repr__(self):
            return "Liar"

    batches = loader(lib, Liar())
    assert len(list(batches)) == 3  # nobody asked for the length
    assert len(batches) == 2
    text = r"Length of IterableDataset Liar was reported to be 2\(when accessing len\(dataloader\)\), but 3 samples"
    with pytest.warns(UserWarning, match=text):
        list(batches)


def test_pinning_is_accepted(lib):
    with pytest.warns(UserWarning, match="'pin_memory' argument is set as true but no accelerator is found"):
        assert plain(next(iter(loader(lib, batch_size=2, pin_memory=True)))) == int64(0, 1)


def test_no_warning_of_pinning_with_an_accelerator(monkeypatch):
    monkeypatch.setattr("tapegrad.utils.data.iterators.load", lambda name: object())
    assert plain(next(iter(loader(tapegrad, batch_size=2, pin_memory=True)))) == int64(0, 1)


def test_the_device_to_pin_for_is_deprecated(lib):
    with pytest.warns(UserWarning) as caught:
        iter(loader(lib, pin_memory=True, pin_memory_device="cuda"))
    assert "pin_memory_device is deprecated" in str(caught[0].message) and caught[0].filename == caught[1].filename


def test_many_processes_warn_but_many_threads_do_not(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    loader(tapegrad, num_workers=2)
    with pytest.warns(UserWarning, match="This DataLoader will create 2 worker processes in total. Our suggested max"):
        loader(tapegrad, num_workers=2, multiprocessing_context="spawn")


def test_subclasses_may_set_attributes_before_init():
    class Mine(data.DataLoader):
        def __init__(self, dataset):
            self.dataset = None
            super().__init__(dataset)

    assert len(Mine(range(3))) == 3


def test_generic_classes_can_be_subscripted():
    class Numbers(data.Dataset[int]):
        pass

    class Order(data.Sampler[int]):
        pass

    assert issubclass(Numbers, data.Dataset) and data.DataLoader[int] and issubclass(Order, data.Sampler)


def test_a_loader_can_be_pickled():
    again = pickle.loads(pickle.dumps(loader(tapegrad, batch_size=3, num_workers=2)))
    assert len(again) == 4 and again.num_workers == 2


# ---- workers ----


class Asking(data.Dataset):
    """Sample i is `ask(i)`."""

    def __init__(self, ask, n=8):
        self.ask = ask
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.ask(i)


@pytest.fixture
def no_threads_left():
    """No worker is left when the test is over; gc is off, so it is references that ended them."""
    assert not worker_threads()
    gc.collect()
    gc.disable()
    try:
        yield
        left = worker_threads()
    finally:
        gc.enable()
    assert not left


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("prefetch", [1, 4])
def test_workers_keep_the_order(no_threads_left, num_workers, prefetch):
    def slowly(i):
        time.sleep(0.002 * (i % 3))
        return i

    batches = loader(tapegrad, Asking(slowly, 23), batch_size=2, num_workers=num_workers, prefetch_factor=prefetch)
    for _ in range(2):
        assert [i for batch in batches for i in batch.tolist()] == list(range(23))
        assert not worker_threads()


def test_workers_work_at_the_same_time(no_threads_left):
    together = threading.Barrier(3)

    def meet(i):
        together.wait(timeout=10)
        return threading.get_ident()

    found = list(loader(tapegrad, Asking(meet, 3), num_workers=3, collate_fn=list))
    assert len({ident for batch in found for ident in batch}) == 3
    assert threading.get_ident() not in {ident for batch in found for ident in batch}


def test_prefetch_is_bounded(no_threads_left):
    asked = []
    iterator = iter(loader(tapegrad, Asking(lambda i: asked.append(i) or i, 50), num_workers=2, prefetch_factor=3))
    assert soon(lambda: len(asked) == 6)
    time.sleep(0.05)
    assert len(asked) == 6
    next(iterator)
    assert soon(lambda: len(asked) == 7)


def test_out_of_order(no_threads_left):
    arrived = threading.Event()

    def first_waits(i):
        assert i or arrived.wait(timeout=10)
        return i

    iterator = iter(loader(tapegrad, Asking(first_waits, 6), num_workers=2, prefetch_factor=1, in_order=False))
    others = [next(iterator).item() for _ in range(5)]
    arrived.set()
    assert others == [1, 2, 3, 4, 5]
    assert [batch.item() for batch in iterator] == [0]


class TwoParts(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


ERRORS_IN_WORKERS = {
    "ValueError": (lambda: ValueError("bad sample"), ValueError),
    "KeyError": (lambda: KeyError("bad sample"), KeyError),
    "two arguments": (lambda: TwoParts("bad sample", 2), RuntimeError),
}


@pytest.mark.parametrize("case", ERRORS_IN_WORKERS)
def test_exceptions_of_workers(lib, case):
    make, expected = ERRORS_IN_WORKERS[case]

    class Failing(lib.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            if i == 1:
                raise make()
            return i

    iterator = iter(loader(lib, Failing(), num_workers=2))
    assert next(iterator).item() == 0
    with pytest.raises(expected) as caught:
        next(iterator)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Caught {type(make()).__name__} in DataLoader worker process 1."
    assert lines[1] == "Original Traceback (most recent call last):"
    assert "    raise make()" in lines and "bad sample" in lines[-1]
    assert [batch.item() for batch in iterator] == [2, 3, 4, 5]  # one bad batch does not end the pass


def test_an_exception_leaves_no_thread(no_threads_left):
    def fail(i):
        raise ValueError(i)

    with pytest.raises(ValueError, match="in DataLoader worker process 0"):
        for _ in loader(tapegrad, Asking(fail), num_workers=2):
            pass


def test_worker_init_fn(no_threads_left):
    began = {}
    batches = loader(
        tapegrad,
        Asking(lambda i: data.get_worker_info().id),
        num_workers=2,
        worker_init_fn=lambda worker_id: began.update({worker_id: threading.current_thread()}),
    )
    assert [batch.item() for batch in batches] == [0, 1] * 4
    assert set(began) == {0, 1} and len(set(began.values())) == 2


def test_errors_of_worker_init_fn(lib):
    def fail(worker_id):
        raise ArithmeticError(f"init {worker_id}")

    iterator = iter(loader(lib, num_workers=2, worker_init_fn=fail))
    with pytest.raises(ArithmeticError, match="(?s)Caught ArithmeticError in DataLoader worker process 0.*init 0"):
        next(iterator)
    iterator._shutdown_workers()


def test_worker_info():
    assert data.get_worker_info() is None
    tapegrad.manual_seed(1)
    dataset = Asking(lambda i: data.get_worker_info())
    first, second, *_ = [infos[0] for infos in loader(tapegrad, dataset, num_workers=2, collate_fn=list)]
    assert (first.id, second.id, first.num_workers, first.worker_method) == (0, 1, 2, "thread")
    assert second.seed == first.seed + 1 and first.rng.torch_generator.initial_seed() == first.seed
    assert first.rng.random_generator.random() == random.Random(first.seed).random()
    assert first.dataset is not dataset and first.dataset.ask is dataset.ask
    with pytest.raises(AttributeError):
        first.id = 3
    assert data.get_worker_info() is None


def test_seeds_and_draws_in_workers_are_those_of_torch():
    torch = pytest.importorskip("torch")

    def draws(lib):
        class Drawing(lib.utils.data.Dataset):
            def __len__(self):
                return 6

            def __getitem__(self, i):
                return lib.utils.data.get_worker_info().seed, lib.initial_seed(), lib.rand(2).tolist()

        lib.manual_seed(5)
        batches = loader(lib, Drawing(), num_workers=2, collate_fn=list, shuffle=True)
        return [list(batches) for _ in range(2)], lib.rand(2).tolist()

    assert draws(tapegrad) == draws(torch)


def test_draws_in_workers_leave_the_generator_alone(no_threads_left):
    def pass_over(num_workers, draw):
        tapegrad.manual_seed(2)
        dataset = Asking(lambda i: (draw and tapegrad.rand(3), tapegrad.randn(1).item() if draw else 0.0)[1])
        return [batch.item() for batch in loader(tapegrad, dataset, num_workers=num_workers)], tapegrad.rand(2).tolist()

    drawn, after = pass_over(3, True)
    assert (drawn, after) == pass_over(3, True) and len(set(drawn)) == len(drawn)
    assert after == pass_over(0, False)[1] == pass_over(3, False)[1]


def test_seeding_in_a_worker_seeds_the_worker(no_threads_left):
    tapegrad.manual_seed(4)
    expected = tapegrad.rand(1).item()
    tapegrad.manual_seed(11)
    dataset = Asking(lambda i: tapegrad.manual_seed(4) and tapegrad.rand(1).item(), 4)
    assert [batch.item() for batch in loader(tapegrad, dataset, num_workers=2)] == [pytest.approx(expected)] * 4
    after = tapegrad.rand(1).item()
    tapegrad.manual_seed(11)
    list(loader(tapegrad, num_workers=2))
    assert after == tapegrad.rand(1).item()


def test_device_goes_with_the_work(no_threads_left):
    dataset = Asking(lambda i: tapegrad.zeros(1), 2)
    with tapegrad.device("fake"):
        with tapegrad.device("cpu"):
            iterator = iter(loader(tapegrad, dataset, num_workers=1))
        assert next(iterator).device.type == "cpu"
        assert [batch.device.type for batch in loader(tapegrad, dataset, num_workers=1)] == ["fake", "fake"]
        assert tapegrad.zeros(1).device.type == "fake"
    del iterator


def test_shuffles_do_not_depend_on_the_device():
    def shuffled():
        tapegrad.manual_seed(1)
        parts = data.random_split(range(9), [4, 5])
        return [part.indices for part in parts], [b.tolist() for b in loader(tapegrad, batch_size=3, shuffle=True)]

    expected = shuffled()
    with tapegrad.device("fake"):
        assert shuffled() == expected


def test_grad_mode_goes_with_the_work(no_threads_left):
    dataset = Asking(lambda i: tapegrad.is_grad_enabled(), 2)
    assert [batch.item() for batch in loader(tapegrad, dataset, num_workers=1)] == [True, True]
    with tapegrad.no_grad():
        assert [batch.item() for batch in loader(tapegrad, dataset, num_workers=1)] == [False, False]


# ---- streams in workers ----


def range_stream(lib, configured_by_init):
    class Stream(lib.utils.data.IterableDataset):
        def __init__(self):
            self.start, self.end = 3, 12

        def __iter__(self):
            info = lib.utils.data.get_worker_info()
            if info is None or configured_by_init:
                return iter(range(self.start, self.end))
            share = math.ceil((self.end - self.start) / info.num_workers)
            start = self.start + info.id * share
            return iter(range(start, min(start + share, self.end)))

    return Stream()


def test_streams_are_split_by_worker_info(lib):
    dataset = range_stream(lib, configured_by_init=False)
    assert plain(list(loader(lib, dataset, batch_size=2))) == [int64(3, 4), int64(5, 6), int64(7, 8), int64(9, 10),
                                                              int64(11)]  # fmt: skip
    got = plain(list(loader(lib, dataset, batch_size=2, num_workers=2)))
    assert got == [int64(3, 4), int64(8, 9), int64(5, 6), int64(10, 11), int64(7)]


def test_streams_are_split_by_worker_init_fn(lib):
    dataset = range_stream(lib, configured_by_init=True)

    def take_share(worker_id):
        info = lib.utils.data.get_worker_info()
        start, end = info.dataset.start, info.dataset.end
        share = math.ceil((end - start) / info.num_workers)
        info.dataset.start = start + worker_id * share
        info.dataset.end = min(info.dataset.start + share, end)

    options = {"batch_size": 2, "num_workers": 2, "worker_init_fn": take_share}
    for _ in range(2):
        got = plain(list(loader(lib, dataset, **options)))
        assert got == [int64(3, 4), int64(8, 9), int64(5, 6), int64(10, 11), int64(7)]
    assert (dataset.start, dataset.end) == (3, 12)


@pytest.mark.parametrize("persistent", [False, True])
def test_uneven_streams(lib, persistent):
    class Uneven(lib.utils.data.IterableDataset):
        def __iter__(self):
            worker = lib.utils.data.get_worker_info().id
            return iter(range(100 * worker, 100 * worker + [1, 9][worker]))

    batches = loader(lib, Uneven(), batch_size=2, num_workers=2, persistent_workers=persistent)
    for _ in range(2):
        got = plain(list(batches))
        assert got == [int64(0), int64(100, 101), int64(102, 103), int64(104, 105), int64(106, 107), int64(108)]


# ---- the end of workers ----


def test_dropping_the_iterator_ends_the_workers(no_threads_left):
    for _ in range(20):
        iterator = iter(loader(tapegrad, batch_size=2, num_workers=3))
        next(iterator)
        assert len(worker_threads()) == 3
        del iterator
        assert not worker_threads()
    for _ in loader(tapegrad, num_workers=2):
        break
    assert not worker_threads()


def test_workers_end_with_the_pass(no_threads_left):
    iterator = iter(loader(tapegrad, batch_size=5, num_workers=2))
    assert len(list(iterator)) == 2 and not worker_threads()
    with pytest.raises(StopIteration):
        next(iterator)


def test_shutdown_by_hand(no_threads_left):
    iterator = iter(loader(tapegrad, num_workers=2))
    iterator._shutdown_workers()
    assert not worker_threads()
    iterator._shutdown_workers()


def test_batches_are_not_kept(no_threads_left):
    made = weakref.WeakSet()

    class Sample:
        pass

    def make(i):
        sample = Sample()
        made.add(sample)
        return sample

    iterator = iter(loader(tapegrad, Asking(make, 40), num_workers=2, prefetch_factor=1, collate_fn=list))
    for _ in range(30):
        batch = next(iterator)
    assert len(made) <= 4
    del batch, iterator
    assert not made


def test_a_blocked_worker_is_not_waited_for(no_threads_left, monkeypatch):
    monkeypatch.setattr(workers, "STATUS_CHECK_INTERVAL", 0.1)
    release = threading.Event()
    iterator = iter(loader(tapegrad, Asking(lambda i: release.wait(20), 4), num_workers=2))
    began = time.monotonic()
    del iterator
    assert time.monotonic() - began < 5
    release.set()
    assert soon(lambda: not worker_threads())


def test_timeout(no_threads_left):
    release = threading.Event()
    iterator = iter(loader(tapegrad, Asking(lambda i: release.wait(20), 4), num_workers=1, timeout=0.05))
    with pytest.raises(RuntimeError, match="^DataLoader timed out after 0.05 seconds$"):
        next(iterator)
    release.set()
    del iterator


def test_a_dead_worker_is_noticed(no_threads_left, monkeypatch):
    monkeypatch.setattr(workers, "STATUS_CHECK_INTERVAL", 0.05)
    with pytest.raises(RuntimeError, match=r"^DataLoader worker \(thread\(s\) \d+\) exited unexpectedly$"):
        next(iter(loader(tapegrad, Asking(lambda i: sys.exit(3)), num_workers=1)))


def test_persistent_workers_stay(no_threads_left):
    batches = loader(
        tapegrad, Asking(lambda i: threading.get_ident()), num_workers=2, persistent_workers=True, collate_fn=list
    )
    first = list(batches)
    assert len(worker_threads()) == 2
    iterator = iter(batches)
    next(iterator)  # broken off: what is under way does not come up in the next pass
    assert list(batches) == first and batches._iterator is iterator
    assert len(worker_threads()) == 2
    del batches, iterator


def test_persistent_workers_after_an_error(no_threads_left):
    failing = []

    def maybe(i):
        if failing and i == 2:
            raise ValueError("once")
        return i

    batches = loader(tapegrad, Asking(maybe), num_workers=2, persistent_workers=True)
    failing.append(True)
    with pytest.raises(ValueError, match="once"):
        list(batches)
    failing.clear()
    assert [batch.item() for batch in batches] == list(range(8))
    batches._iterator = None


def test_half_read_loaders_at_exit(tmp_path):
    """Neither a message nor a wait when the program ends with workers in the middle of their work."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import time
        import tapegrad as torch
        from tapegrad.utils.data import DataLoader, Dataset

        class Slow(Dataset):
            def __len__(self): return 1000
            def __getitem__(self, i):
                time.sleep(0.001)
                return torch.zeros(10)

        iterators = [iter(DataLoader(Slow(), 4, num_workers=2)) for _ in range(3)]
        persistent = DataLoader(Slow(), 4, num_workers=2, persistent_workers=True)
        iterators.append(iter(persistent))
        for iterator in iterators:
            next(iterator)
        print("end")
        """)
    )
    began = time.monotonic()
    result = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")
    assert time.monotonic() - began < 20


# ---- copies of the dataset ----


def test_a_worker_has_its_own_dataset_object_and_the_same_data(no_threads_left):
    array = np.zeros(3)
    dataset = Asking(None)
    dataset.array, dataset.count = array, 0

    def count(i):
        mine = data.get_worker_info().dataset
        mine.count += 1
        return mine.count, mine.array is array

    dataset.ask = count
    assert list(loader(tapegrad, dataset, num_workers=2, collate_fn=list)) == [
        [(n, True)] for n in (1, 1, 2, 2, 3, 3, 4, 4)
    ]
    assert dataset.count == 0


def test_replicate():
    class Slotted(data.Dataset):
        __slots__ = ("inner", "name")

    class Closing(data.Dataset):
        def __del__(self):
            pass

    class Sticky(data.Dataset):
        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __getstate__(self):
            raise TypeError("not to be pickled")

        def __len__(self):
            return 2

    class ListSet(data.Dataset, list):
        pass

    inner = Sticky()
    inner.inner = array = np.zeros(2)
    copy = workers.replicate(inner)
    assert type(copy) is Sticky and copy is not inner and copy.inner is array
    slotted = Slotted()
    slotted.inner, slotted.name, slotted.more = array, "n", 1
    copy = workers.replicate(slotted)
    assert (copy.inner is array, copy.name, copy.more) == (True, "n", 1)
    chain = data.ConcatDataset([data.Subset(inner, [0]), inner])
    copy = workers.replicate(chain)
    assert copy.datasets[0].dataset is copy.datasets[1] is not inner and copy.datasets[1].inner is array
    stack = workers.replicate(data.StackDataset(a=chain))
    assert stack.datasets["a"] is not chain and stack.datasets["a"].datasets[1].inner is array
    for shared in (Closing(), ListSet([1, 2]), range(3), [1, 2], array):
        assert workers.replicate(shared) is shared
    loop = data.Subset(None, [0])
    loop.dataset = loop
    copy = workers.replicate(loop)
    assert copy.dataset is copy is not loop


# ---- processes ----


class Process(data.Dataset):
    """Sample i says where it was made; index 3 fails, index 4 ends the process."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i == 3:
            raise ValueError("three")
        if i == 4:
            time.sleep(0.5)  # sample 2 is to be on its way before this process is gone
            os._exit(1)
        info = data.get_worker_info()
        return (
            i, os.getpid(), info.id, info.seed, info.worker_method, tapegrad.initial_seed(), random.random(),
            np.random.rand(), tapegrad.rand(1),
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="fork is of POSIX")
def test_processes(monkeypatch):
    monkeypatch.setattr(workers, "STATUS_CHECK_INTERVAL", 1.0)
    options = {"num_workers": 2, "multiprocessing_context": "fork"}
    tapegrad.manual_seed(6)
    batches = list(loader(tapegrad, Process(3), **options))
    index, pid, worker, seed, method, initial, rand, np_rand, drawn = batches[1]
    assert [batch[0].item() for batch in batches] == [0, 1, 2]
    assert pid.item() != os.getpid() and worker.item() == 1 and list(method) == ["multiprocessing"]
    assert seed.item() == initial.item() and rand.item() == random.Random(seed.item()).random()
    assert seed.item() == batches[0][3].item() + 1
    assert not multiprocessing.active_children() and not worker_threads()

    iterator = iter(loader(tapegrad, Process(6), **options))
    assert len(multiprocessing.active_children()) == 2
    assert [next(iterator)[0].item() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="(?s)Caught ValueError in DataLoader worker process 1.*three"):
        next(iterator)
    with pytest.raises(RuntimeError, match=r"^DataLoader worker \(pid\(s\) \d+\) exited unexpectedly$"):
        next(iterator)
    del iterator
    gc.collect()
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="fork is of POSIX")
def test_processes_dropped_half_way():
    big = Asking(lambda i: np.zeros(200_000), 20)  # more than a pipe holds
    iterator = iter(loader(tapegrad, big, num_workers=2, multiprocessing_context="fork"))
    next(iterator)
    del iterator
    assert not multiprocessing.active_children()
