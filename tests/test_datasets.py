"""Data sets from local files, whole and damaged, and transforms beside scikit-learn's."""

from __future__ import annotations

import datetime
import gzip
import importlib.util
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tapegrad as torch
from library import ROOT
from tapegrad.utils import data
from tapegrad.utils.data.datasets import tables

DATA = ROOT.parent / "shared" / "data"
NAN = float("nan")


def idx(array) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


# ---- MNIST -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path):
    """A folder as torchvision has it, and its arrays."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 28, 28), np.uint8), np.arange(12, dtype=np.uint8) % 10
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:4])))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[:4]))
    return tmp_path, folder, images, labels


def test_mnist_plain_and_gzipped_in_every_place(digits):
    root, folder, images, labels = digits
    for place in (root, folder.parent, folder, folder / "train-images-idx3-ubyte"):
        found = data.MNIST(place)
        assert len(found) == 12 and found.data.dtype == torch.uint8 and found.targets.dtype == torch.int64
        np.testing.assert_array_equal(found.data.numpy(), images)
        assert found.targets.tolist() == labels.tolist()
    assert len(data.MNIST(root, train=False)) == 4 and len(data.FashionMNIST(folder)) == 12
    assert found.class_to_idx["3 - three"] == 3 and "Number of datapoints: 12" in repr(found)
    image, label = found[5]
    assert isinstance(image, np.ndarray) and image.dtype == np.uint8 and label == 5
    loader = data.DataLoader(data.MNIST(root, True, data.ToTensor(), lambda n: -n), batch_size=5)
    x, y = next(iter(loader))
    assert x.shape == (5, 1, 28, 28) and x.dtype == torch.float32 and y.tolist() == [0, -1, -2, -3, -4]
    np.testing.assert_array_equal(x[:, 0].numpy(), images[:5] / np.float32(255))


def bad_idx(images):
    whole = idx(images)
    packed = gzip.compress(whole)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 4
    return {
        "cut": (whole[:-1], "but 9407 follow"),
        "longer": (whole + b"x", "but more follow"),
        "no header": (b"\0\0", "no idx file"),
        "empty": (b"", "no idx file"),
        "other type": (b"\0\0\x0d\x03" + whole[4:], "no idx file of unsigned bytes in 3"),
        "other dimensions": (idx(images.reshape(12, -1)), "no idx file of unsigned bytes in 3"),
        "huge": (whole[:4] + b"\x7f" * 12 + whole[16:], "cannot hold"),
        "huge, packed": (gzip.compress(whole[:4] + b"\x7f" * 12 + whole[16:]), "cannot hold"),
        "other images": (idx(images[:, :14]), "28 x 28"),
        "fewer images": (idx(images[:11]), "12 labels for 11 images"),
        "gzip cut": (packed[:-20], "ended before"),
        "gzip flipped": (bytes(flipped), "CRC check failed|invalid"),
    }


@pytest.mark.parametrize("name", bad_idx(np.zeros((12, 28, 28), np.uint8)))
def test_damaged_idx_files(digits, name):
    root, folder, images, _ = digits
    content, message = bad_idx(images)[name]
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(RuntimeError, match=f"corrupted: .*train-(images|labels).*: .*({message})"):
        data.MNIST(root)


def test_mnist_wrong_labels_and_places(digits):
    root, folder, _, labels = digits
    labels[7] = 11
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(RuntimeError, match=r"train-labels-idx1-ubyte\.gz: label 11 at 7"):
        data.MNIST(root)
    with pytest.raises(RuntimeError, match="there is no train-images-idx3-ubyte or .*gz in .*nowhere"):
        data.MNIST(root / "nowhere")
    with pytest.raises(RuntimeError, match="download=True"):
        data.MNIST(root, download=True)


def test_the_published_test_set():
    if not (DATA / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("the MNIST idx files are not on this machine")
    found = data.MNIST(DATA, train=False)
    assert found.data.shape == (10000, 28, 28)
    assert np.bincount(found.targets.numpy()).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ---- CIFAR -----------------------------------------------------------------------------------------------------------


def of_python_2(entry) -> bytes:
    """A pickle as Python 2 and NumPy of its time wrote it, which is what was published."""

    def text(value):
        return b"T" + len(value).to_bytes(4, "little") + value

    def array(x):
        shape = b"".join(b"J" + n.to_bytes(4, "little") for n in x.shape)
        dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        return made + b"(K\x01(" + shape + b"t" + dtype + b"\x89" + text(x.tobytes()) + b"tb"

    out = b"\x80\x02}("
    for key, value in entry.items():
        out += text(key.encode())
        if isinstance(value, np.ndarray):
            out += array(value)
        elif isinstance(value, list):
            out += b"](" + b"".join(b"K" + bytes([v]) if isinstance(v, int) else text(v.encode()) for v in value) + b"e"
        else:
            out += text(value.encode())
    return out + b"u."


def batch(seed, count=4, classes=10):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, classes, count).tolist()


@pytest.mark.parametrize("writer", ["python 2", "protocol 2", "protocol 4"])
def test_cifar_pickles(tmp_path, writer):
    write = of_python_2 if writer == "python 2" else lambda entry: pickle.dumps(entry, int(writer[-1]))
    assert pickle.loads(of_python_2({"a": np.zeros((1, 2), np.uint8)}), encoding="latin1")["a"].tolist() == [[0, 0]]
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    batches = [batch(i) for i in range(6)]
    for name, (pixels, labels) in zip(names, batches, strict=True):
        (folder / name).write_bytes(write({"batch_label": "one", "labels": labels, "data": pixels, "filenames": ["a"]}))
    assert data.CIFAR10(tmp_path).classes[3] == "3"
    (folder / "batches.meta").write_bytes(write({"label_names": ["plane", *"bcdefghij"]}))
    for root in (tmp_path, folder):
        found = data.CIFAR10(root)
        assert found.data.shape == (20, 32, 32, 3) and found.targets == [n for _, labels in batches[:5] for n in labels]
    assert found.classes[0] == "plane" and found.class_to_idx["j"] == 9
    image, label = data.CIFAR10(tmp_path, train=False, transform=data.ToTensor())[2]
    pixels, labels = batches[5]
    np.testing.assert_array_equal(image.numpy(), pixels[2].reshape(3, 32, 32) / np.float32(255))
    assert label == labels[2]


def test_cifar_binary_and_a_hundred(tmp_path):
    pixels, labels = batch(1)
    rows = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1)
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)]:
        (tmp_path / name).write_bytes(rows.tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    found = data.CIFAR10(tmp_path)
    assert len(found) == 20 and found.targets[:4] == labels and found.classes == list("abcdefghij")
    np.testing.assert_array_equal(found[1][0], pixels[1].reshape(3, 32, 32).transpose(1, 2, 0))
    pixels, labels = batch(2, classes=100)
    fine = np.array(labels, np.uint8)[:, None]
    (tmp_path / "test.bin").write_bytes(np.concatenate([np.zeros_like(fine), fine, pixels], 1).tobytes())
    entry = {"data": pixels, "fine_labels": labels, "coarse_labels": [0] * 4}
    (tmp_path / "train").write_bytes(of_python_2(entry))
    for train in (True, False):
        found = data.CIFAR100(tmp_path, train)
        assert found.targets == labels and len(found.classes) == 100
    (tmp_path / "test.bin").write_bytes(b"\0" * 3075)
    with pytest.raises(RuntimeError, match=r"test\.bin: 3075 bytes, which is no multiple of 3074"):
        data.CIFAR100(tmp_path, train=False)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def bad_pickles():
    pixels, labels = batch(0)
    good = of_python_2({"labels": labels, "data": pixels})
    twice = b"\x80\x02}()" + b"2\x86" * 60 + b"K\x01u."
    return {
        "cut": good[:-100],
        "empty": b"",
        "call": pickle.dumps({"labels": labels, "data": Evil()}, 2),
        "name": b"\x80\x02}(U\x01acos\nsystem\nu.",
        "inst": b"(S'evil'\nios\nmkdir\n.",
        "state": b"\x80\x02cnumpy\ndtype\n}U\x01aK\x01sb.",
        "state of a list": b"\x80\x02](K\x01K\x02tb.",
        "persistent": b"\x80\x02K\x01Q.",
        "objects": good.replace(b"U\x02u1", b"U\x02O8"),
        "shape": good.replace(b"J\x04\x00\x00\x00", b"J\x05\x00\x00\x00"),
        "negative shape": good.replace(b"J\x04\x00\x00\x00", b"J\xff\xff\xff\xff"),
        "memory": b"\x80\x02\x96" + b"\xff" * 7 + b"\x7f.",
        "keys": twice,
        "no dict": b"\x80\x02].",
        "no data": of_python_2({"labels": labels}),
        "no labels": of_python_2({"data": pixels}),
        "data of text": of_python_2({"labels": labels, "data": "text"}),
        "data of other size": of_python_2({"labels": labels, "data": pixels[:, :3071]}),
        "fewer labels": of_python_2({"labels": labels[:3], "data": pixels}),
        "other labels": of_python_2({"labels": [*labels[:3], 10], "data": pixels}),
    }


@pytest.mark.parametrize("name", bad_pickles())
def test_damaged_and_hostile_batches(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(bad_pickles()[name])
    with pytest.raises(RuntimeError, match="corrupted: .*test_batch: "):
        data.CIFAR10(tmp_path, train=False)
    assert os.listdir(tmp_path) == ["test_batch"]


def test_flipped_bits_of_a_batch(tmp_path):
    """No crash, nor an error without the file's name; what a flip makes of the numbers nobody can see."""
    pixels, labels = batch(0, 1)
    good = bytearray(of_python_2({"labels": labels, "data": pixels}))
    seen = 0
    places = [i for i in range(len(good)) if i < 120 or i > len(good) - 20]
    for place in places:
        for bit in (1, 6):
            good[place] ^= 1 << bit
            (tmp_path / "test_batch").write_bytes(good)
            good[place] ^= 1 << bit
            try:
                data.CIFAR10(tmp_path, train=False)
            except RuntimeError as error:
                assert "test_batch" in str(error)
                seen += 1
    assert seen > len(places) // 2


# ---- IMDB ------------------------------------------------------------------------------------------------------------


def test_imdb(tmp_path):
    folder = tmp_path / "aclImdb" / "train"
    for name, reviews in {"neg": {"0_3": "bad", "10_1": "worse", "2_2": "dull"}, "pos": {"0_9": "gööd"}}.items():
        (folder / name).mkdir(parents=True)
        for stem, text in reviews.items():
            (folder / name / f"{stem}.txt").write_text(text, "utf-8")
    for root in (tmp_path, tmp_path / "aclImdb"):
        found = data.IMDB(root, transform=str.upper)
        assert list(found) == [("BAD", 0), ("DULL", 0), ("WORSE", 0), ("GÖÖD", 1)] and found.classes == ["neg", "pos"]
    texts, labels = next(iter(data.DataLoader(data.IMDB(tmp_path), batch_size=4)))
    assert texts[3] == "gööd" and labels.tolist() == [0, 0, 0, 1]
    with pytest.raises(RuntimeError, match="aclImdb/test"):
        data.IMDB(tmp_path, train=False)
    for content, message in ((b"", "an empty file"), (b"\xff\xfe", "utf-8"), (b"x" * (1 << 20) + b"x", "more than")):
        (folder / "pos" / "0_9.txt").write_bytes(content)
        with pytest.raises(RuntimeError, match=f"0_9.txt: .*{message}"):
            data.IMDB(tmp_path)[3]
    (folder / "pos" / "0_9.txt").unlink()
    with pytest.raises(RuntimeError, match="pos: no folder with files"):
        data.IMDB(tmp_path)


# ---- tables ----------------------------------------------------------------------------------------------------------

TABLE = """age,town,member,score,kind
31,Ulm,true,1.5,b
,Bonn,false,NA,a
45,,true,2.5,b
28,Ulm,false,-1,a
"""


@pytest.mark.parametrize("library", tables.LIBRARIES)
def test_csv(tmp_path, library):
    pytest.importorskip(library)
    path = tmp_path / "people.csv"
    path.write_text(TABLE)
    found = data.CSVDataset(path, "kind", library=library)
    assert found.columns == ["age", "town", "member", "score"] and found.classes == ["a", "b"]
    assert found.categories == {"town": ["Bonn", "Ulm"], "kind": ["a", "b"]}
    expected = [[31, 1, 1, 1.5], [NAN, 0, 0, NAN], [45, NAN, 1, 2.5], [28, 1, 0, -1]]
    np.testing.assert_array_equal(found.data.numpy(), np.array(expected, np.float32))
    assert found.data.dtype == torch.float32 and found.targets.tolist() == [1, 0, 1, 0]
    x, y = found[3]
    assert x.tolist() == [28, 1, 0, -1] and y.item() == 0
    chosen = data.CSVDataset(path, None, ["score", "age"], library=library, dtype=torch.float64)
    assert chosen.data.dtype == torch.float64 and chosen[0].tolist() == [1.5, 31] and chosen.targets is None
    both = data.CSVDataset(path, ["member", "kind"], library=library)
    assert both.targets.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]] and both.columns == ["age", "town", "score"]
    filled = data.CSVDataset(path, "kind", library=library, transform=data.Impute().fit(found.data))
    batch = next(iter(data.DataLoader(filled, batch_size=4)))[0]
    np.testing.assert_allclose(batch[1, 0].item(), (31 + 45 + 28) / 3, rtol=1e-6)
    path.write_text("age;town\n3;Rom\n4;Ulm\n")
    semi = data.CSVDataset(path, library=library, sep=";", categories={"town": ["Ulm", "Rom"]})
    assert semi.data.tolist() == [[3, 1], [4, 0]]
    with pytest.raises(ValueError, match="people.csv: column 'town' has 'Rom' in row 0, which is none of"):
        data.CSVDataset(path, library=library, sep=";", categories=found.categories)
    missing = data.CSVDataset(path, library=library, sep=";", categories=found.categories, unknown="nan").data
    np.testing.assert_array_equal(missing.numpy(), [[3, NAN], [4, 1]])


BAD_TABLES = {
    "cut": (TABLE.encode()[:-6], "line 5 has 3 fields, but there are 5 names"),
    "long row": (TABLE.encode() + b"1,Ulm,true,1,a,7\n", "line 6 has 6 fields"),
    "flipped": (TABLE.encode().replace(b"Bonn", b"B\xefnn"), "utf-8"),
    "empty": (b"", "no names"),
    "twice": (b"a,b,a\n1,2,3\n", "column 'a' is there twice"),
    "open quote": (TABLE.encode() + b'1,"Ulm\n', "people.csv"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_damaged_csv(tmp_path, name):
    pytest.importorskip("pandas")
    content, message = BAD_TABLES[name]
    (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(RuntimeError) as caught:
        data.CSVDataset(tmp_path / "people.csv", "kind")
    assert "people.csv: " in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("library", tables.LIBRARIES)
def test_tables_of_both_libraries(library):
    frames = pytest.importorskip(library)
    table = frames.DataFrame({"n": [1, 2, 3], "name": ["x", "y", "x"], "y": [0.5, 1.5, 2.5]})
    found = data.TableDataset(table, "y")
    assert found.data.tolist() == [[1, 0], [2, 1], [3, 0]] and found.targets.tolist() == [0.5, 1.5, 2.5]
    assert data.TableDataset(table, "n").targets.dtype == torch.int64
    with pytest.raises(ValueError, match="no column 'z', only n, name, y"):
        data.TableDataset(table, "z")
    with pytest.raises(ValueError, match="unknown must be"):
        data.TableDataset(table, "y", unknown="zero")
    with pytest.raises(ValueError, match="the target 'y' is missing in row 1"):
        data.TableDataset(frames.DataFrame({"y": [1.0, None, 2.0], "n": [1, 2, 3]}), "y")
    with pytest.raises(ValueError, match="column 'day' has a .*, and not numbers or text"):
        data.TableDataset(frames.DataFrame({"day": [datetime.date(2020, 1, 1)] * 2}))


def test_without_the_libraries(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'tapegrad\[tables\]'"):
        data.CSVDataset(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="library must be one of"):
        data.CSVDataset(tmp_path / "x.csv", library="dask")


def test_nothing_is_loaded_before_it_is_named():
    code = (
        "import sys, tapegrad.utils.data as d; late = ('datasets', 'transforms');"
        "assert not [n for n in sys.modules if n.startswith('tapegrad.utils.data.') and n.endswith(late)];"
        "d.CSVDataset; assert not {'pandas', 'polars'} & set(sys.modules); assert 'MNIST' in dir(d)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---- transforms ------------------------------------------------------------------------------------------------------


def holes(empty=False):
    """(train, test) with missing values, some of them in columns that have none in the training data."""
    rng = np.random.default_rng(5)
    train = rng.integers(0, 4, (30, 5)).astype(np.float64) + rng.integers(0, 2, (30, 5)) / 2
    test = rng.standard_normal((8, 5))
    train[rng.random(train.shape) < 0.3] = NAN
    train[:, 2] = 7.5
    test[rng.random(test.shape) < 0.3] = NAN
    if empty:
        train[:, 3] = NAN
    return train, test


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("empty", [False, "dropped", "kept"])
@pytest.mark.parametrize("add_indicator", [False, True])
def test_impute_is_scikit_learns(strategy, empty, add_indicator):
    impute = pytest.importorskip("sklearn.impute")
    train, test = holes(bool(empty))
    arguments = {
        "strategy": strategy, "add_indicator": add_indicator, "keep_empty_features": empty == "kept",
        "fill_value": -3.5 if strategy == "constant" else None,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a column was left out
        theirs = impute.SimpleImputer(**arguments).fit(train)
        expected = [theirs.transform(x) for x in (train, test)]
    ours = data.Impute(**arguments).fit(torch.tensor(train))
    for x, wanted in zip((train, test), expected, strict=True):
        np.testing.assert_allclose(ours(x), wanted, rtol=1e-15)
        np.testing.assert_allclose(ours(torch.tensor(x)).numpy(), wanted, rtol=1e-15)
        np.testing.assert_allclose(ours(torch.tensor(x[0])).numpy(), wanted[0], rtol=1e-15)


def test_impute_other_missing_values():
    x = np.array([[1, -1], [-1, 4], [3, 5]])
    np.testing.assert_array_equal(data.Impute("median", missing_values=-1).fit_transform(x), [[1, 4.5], [2, 4], [3, 5]])


def test_standardize_is_scikit_learns():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    train, test = holes()
    for flags in ((True, True), (False, True), (True, False)):
        theirs = preprocessing.StandardScaler(with_mean=flags[0], with_std=flags[1]).fit(train)
        ours = data.Standardize(*flags).fit(train)
        np.testing.assert_allclose(ours(test), theirs.transform(test), rtol=1e-12)
        np.testing.assert_allclose(ours.inverse(torch.tensor(ours(test))).numpy(), test, rtol=1e-12)


def test_one_hot_is_scikit_learns():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    train, _ = holes()
    test = train[:4].copy()
    test[0, 0] = 99
    theirs = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train)
    ours = data.OneHot(handle_unknown="ignore").fit(train)
    np.testing.assert_array_equal(ours(train), theirs.transform(train))
    np.testing.assert_array_equal(ours(test), theirs.transform(test))
    assert ours(torch.tensor(test))[0, 0].item() == 0
    with pytest.raises(ValueError, match=r"Found unknown categories \[99.0\] in column 0"):
        data.OneHot().fit(train)(test)
    given = data.OneHot([-1], categories=[[2, 1]]).fit(np.array([[0.5, 1.0], [0.6, 2.0]]))
    np.testing.assert_array_equal(given(np.array([[0.7, 2.0]])), [[0.7, 1, 0]])
    with pytest.raises(ValueError, match="column 3 of 2"):
        data.OneHot([3]).fit(np.ones((2, 2)))
    with pytest.raises(ValueError, match="unknown categories"):
        data.OneHot([0], categories=[[5]]).fit(np.ones((2, 2)))
    with pytest.raises(ValueError, match="1 lists of categories for 2"):
        data.OneHot(categories=[[1]]).fit(np.ones((2, 2)))


def pipeline():
    return data.Compose([data.Impute("median", add_indicator=True), data.OneHot([2]), data.Standardize(), torch.relu])


def test_transforms_are_kept_in_checkpoints(tmp_path):
    train, test = holes()
    fitted = pipeline().fit(torch.tensor(train))
    torch.save({"transform": fitted.state_dict()}, tmp_path / "x.pt")
    fresh = pipeline()
    fresh.transforms[0] = data.Impute("constant")  # the arguments come with the state
    fresh.load_state_dict(torch.load(tmp_path / "x.pt")["transform"])
    test[:, 2] = 7.5
    assert torch.equal(fresh(torch.tensor(test)), fitted(torch.tensor(test)))
    assert fresh(torch.tensor(test, dtype=torch.float32)).dtype == torch.float32
    with pytest.raises(KeyError, match="places"):
        fresh.load_state_dict({})
    with pytest.raises(KeyError, match="Standardize"):
        data.Standardize().load_state_dict(data.Impute().fit(train).state_dict())
    assert repr(data.Compose([data.Standardize()])).count("with_mean=True")


def test_wrong_use_of_transforms():
    for use in (lambda t: t(np.ones((2, 2))), lambda t: t.state_dict(), lambda t: t.inverse(np.ones(2))):
        with pytest.raises(ValueError, match="not fitted yet"):
            use(data.Standardize())
    with pytest.raises(ValueError, match=r"a table \(N, F\)"):
        data.Impute().fit(np.ones(3))
    with pytest.raises(ValueError, match=r"fitted on 2 features, but x has shape \(4, 3\)"):
        data.Impute().fit(np.ones((2, 2)))(np.ones((4, 3)))
    with pytest.raises(ValueError, match="strategy must be one of"):
        data.Impute("mode")
    with pytest.raises(ValueError, match="handle_unknown must be"):
        data.OneHot(handle_unknown="skip")
    with pytest.raises(ValueError, match="2/3 dimensional"):
        data.ToTensor()(np.ones(3))


# ---- the example -----------------------------------------------------------------------------------------------------


def example(*arguments) -> str:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / "tabular.py"), "--quick", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_of_tabular_data():
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    lines = example().splitlines()
    assert lines[0] == "569 rows, 30 features, 20.1% missing; benign, malignant"
    loss = {line[:32].strip(): float(line[32:54].split()[1]) for line in lines if "+-" in line}
    zero = {line[:32].strip(): float(line.split("%")[0].split()[-1]) for line in lines if "+-" in line}
    assert len(loss) == 11 and loss["mean"] < loss["zeros"] and zero["L1 penalty"] > 10 > zero["nothing"]


def test_the_example_on_a_table_of_ones_own(tmp_path):
    library = next((name for name in tables.LIBRARIES if importlib.util.find_spec(name)), None)
    if library is None:
        pytest.skip("neither pandas nor polars")
    rows = [f"{i % 7},{'ab'[i % 2]},{'' if i % 5 else i},{'yes' if i % 7 > 3 else 'no'}\n" for i in range(80)]
    (tmp_path / "own.csv").write_text("x,kind,z,answer\n" + "".join(rows))
    text = example("--data", tmp_path / "own.csv", "--target", "answer", "--library", library)
    assert text.startswith("80 rows, 3 features, 26.7% missing; no, yes")
