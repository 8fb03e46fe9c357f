"""The benchmark suite: its arithmetic, its workloads at tiny sizes, a whole run, failures, comparison and page.

No test depends on how long anything takes.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import json
import math
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import tapegrad
from library import ROOT

TINY: dict[str, dict[str, Any]] = {  # sizes at which every workload takes milliseconds
    "tape-8": {"length": 3}, "tape-64x64": {"length": 2}, "elementwise": {"size": 50},
    "linear-regression": {"rows": 20, "columns": 3}, "logistic-regression": {"rows": 20, "columns": 3},
    "mlp-64": {"batch": 4, "width": 8}, "mlp-512": {"batch": 5, "width": 8}, "hvp": {"batch": 4, "width": 6},
    "lenet": {"batch": 2}, "resnet": {"batch": 2, "blocks": 1},
    "conv-64x56-k3": {"inputs": 4, "outputs": 5, "side": 6},
    "conv-256x14-k3": {"inputs": 5, "outputs": 4, "side": 5},
    "conv-128x28-k3s2": {"inputs": 4, "outputs": 6, "side": 7},
    "conv-256x28-k1": {"inputs": 8, "outputs": 4, "side": 4},
    "conv-3x112-k7s2": {"outputs": 4, "side": 12}, "lstm": {"batch": 2, "length": 4, "width": 8},
    "gpt-6x384": {"layers": 1, "width": 12, "context": 8, "batch": 2},
    "gpt-2x64": {"layers": 2, "width": 8, "context": 6, "batch": 2},
    "bert-layer": {"batch": 2, "length": 5, "width": 24}, "cross-entropy": {"rows": 4, "classes": 30},
    "layer-norm": {"rows": 4, "width": 8}, "embedding": {"vocabulary": 20, "width": 4, "batch": 2, "length": 3},
    "adam-10m": {"size": 20_000}, "trees": {"count": 2, "leaves": 4, "width": 6},
    "gpu-gpt2-124m": {"layers": 2, "width": 12, "heads": 3, "context": 8, "batch": 2, "vocabulary": 50},
    "gpu-resnet50-bf16": {"batch": 4, "side": 32, "stages": (1, 1), "width": 8},
    "gpu-resnet50-tf32": {"batch": 4, "side": 32, "stages": (1, 1), "width": 8},
    "gpu-lstm": {"batch": 2, "length": 4, "width": 8}, "gpu-mlp": {"batch": 4, "width": 8, "inputs": 8, "outputs": 6},
    "gpu-mlp-small": {"batch": 4, "width": 8, "inputs": 8},
}  # fmt: skip
# an update in each step
TRAINED = ("linear", "logistic", "mlp", "lenet", "resnet", "lstm", "gpt", "trees", "adam", "gpu")
PEERS = ("jax_peer", "tinygrad_peer", "autograd_peer", "mygrad_peer")


def suite(name: str) -> ModuleType:
    """A module of the package `benchmarks`, which no environment has: it belongs to the repository alone."""
    if "benchmarks" not in sys.modules:
        sys.modules["benchmarks"] = ModuleType("benchmarks")
        sys.modules["benchmarks"].__path__ = [str(ROOT / "benchmarks")]
    return importlib.import_module(f"benchmarks.{name}")


def first_losses(lib: Any, name: str) -> list[float]:
    entry = suite("workloads").registry()[name]
    step = entry.setup(lib, **{**entry.sizes, **TINY[name]})
    return [float(step()) for _ in range(3)]


def test_every_workload_has_tiny_sizes() -> None:
    assert sorted(TINY) == sorted(suite("workloads").registry())


@pytest.mark.parametrize("name", TINY)
def test_workload_computes_what_torch_computes(name: str) -> None:
    found = first_losses(tapegrad, name)
    assert all(math.isfinite(value) for value in found)
    assert (len(set(found)) == 3) == name.startswith(TRAINED), found
    torch = pytest.importorskip("torch")
    entry = suite("workloads").registry()[name]
    tolerance = 1e-4 if "numpy" in entry.backends else entry.tolerance  # half precision
    assert suite("statistic").agree(found, first_losses(torch, name), tolerance), (found, first_losses(torch, name))


@pytest.mark.parametrize("name", ["gpu-mlp-small", "conv-256x28-k1"])
def test_whole_steps_are_given_to_the_recorder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, common = first_losses(tapegrad, name), suite("workloads.common")
    recorded: list[Any] = []
    monkeypatch.setattr(common, "recorder", lambda step: recorded.append(step) or (lambda: step() * 2))
    assert first_losses(tapegrad, name) == pytest.approx([2 * loss for loss in expected]) and len(recorded) == 1
    assert common.optimizer_options() == {"capturable": True}


def test_each_backend_has_its_workloads_and_libraries() -> None:
    main = suite("__main__")

    def planned(*options: str) -> tuple[list[str], list[str]]:
        return main.plan(main.arguments().parse_args(options))

    on_cpu, on_gpu = planned(), planned("--backend", "cupy")
    assert not [name for name in on_cpu[0] if name.startswith("gpu-")] and on_cpu[1]
    assert set(on_gpu[0]) == set(TINY) and not on_gpu[1]
    assert planned("--backend", "cupy", "--only", "gpu-*")[0] == [n for n in on_gpu[0] if n.startswith("gpu-")]
    for backend, libraries in suite("libraries").DEFAULT.items():
        assert all(backend in suite("libraries").LIBRARIES[library].backends for library in libraries)


def test_initial_values_are_the_same_in_every_library() -> None:
    common = suite("workloads.common")
    first, second = (common.initial([("a.weight", (3, 4)), ("b.bias", (2,)), ("n.weight", (2,))]) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert first[1].tolist() == [0, 0] and first[2].tolist() == [1, 1] and abs(first[0]).max() > 0


@pytest.mark.parametrize("peer", PEERS)
def test_peers_serve_workloads_that_exist(peer: str) -> None:
    found = suite("peers").covers(peer)
    assert found and found <= set(suite("workloads").registry())


def test_shapes_of_the_peers_are_those_of_the_modules() -> None:
    shapes, sequence, vision = suite("peers.shapes"), suite("workloads.sequence"), suite("workloads.vision")

    def sizes(named: Any) -> list[tuple[int, ...]]:
        return [tuple(shape) for _, shape in named]

    def of(module: Any) -> list[tuple[int, ...]]:
        return [tuple(parameter.shape) for parameter in module.parameters()]

    assert sizes(shapes.gpt(2, 8, 6, 11)) == of(sequence.gpt_model(tapegrad, 2, 8, 2, 6, 11))
    assert sizes(shapes.resnet(2)) == of(vision.residual_network(tapegrad, 2))
    layer = tapegrad.nn.TransformerEncoderLayer(8, 2, 32, batch_first=True)
    assert sizes(shapes.bert_layer(8)) == of(layer)
    assert sizes(shapes.lstm(2, 5, 4))[:-2] == of(tapegrad.nn.LSTM(5, 4, 2))


def test_arithmetic() -> None:
    statistic = suite("statistic")
    assert statistic.quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert statistic.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert statistic.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert math.isnan(statistic.geometric_mean([]))
    assert statistic.exponent([1, 10, 100], [2, 200, 20000]) == pytest.approx(2.0)
    found = statistic.summary([[1.0, 2.0, 9.0], [3.0], [4.0]])
    assert (found["seconds"], found["samples"], found["rounds"]) == (3.0, 5, [2.0, 3.0, 4.0])
    assert statistic.agree([1.0, 2.0], [1.0, 2.001], 1e-3) and not statistic.agree([1.0], [1.01], 1e-3)
    assert not statistic.agree([math.nan], [math.nan], 1e-3)


def test_curves_vary_sizes_that_their_workloads_have() -> None:
    for curve in suite("scaling").CURVES:
        known = inspect.signature(suite("workloads").registry()[curve.workload].setup).parameters
        assert {curve.over, *curve.fixed} <= set(known), curve.name
        assert list(curve.sizes) == sorted(curve.sizes) and len(curve.sizes) >= 5


def test_linear_range() -> None:
    linear_range = suite("scaling").linear_range
    sizes = [1, 2, 4, 8, 16, 32]
    assert linear_range(sizes, [10, 10.5, 20, 40, 80, 320]) == (2, 16)  # a fixed cost below, a square beyond
    assert linear_range(sizes, [1, 4, 16, 64, 256, 1024]) is None
    assert linear_range(sizes, [5 * size for size in sizes]) == (1, 32)


def test_durations_have_three_digits() -> None:
    duration = suite("report").duration
    assert [duration(s) for s in (0.000812, 0.00405, 0.0123, 1.32, 131.0)] == [
        "812 us", "4.05 ms", "12.3 ms", "1.32 s", "131 s",
    ]  # fmt: skip


def result(seconds: float, losses: tuple[float, ...] = (1.0,), **more: Any) -> dict[str, Any]:
    return {
        "seconds": seconds, "low": seconds * 0.9, "high": seconds * 1.1, "samples": 3, "rounds": [seconds] * 3,
        "losses": list(losses), "first_seconds": seconds, "import_seconds": 0.1, "block": 1,
        "memory": {"peak": 30_000_000, "baseline": 10_000_000, "now": 20_000_000}, **more,
    }  # fmt: skip


def example_run() -> dict[str, Any]:
    processor = {"model": "P", "vendor": "V", "family": "1", "number": "2", "vectors": "avx2", "cores": 2, "usable": 2}
    curve = {"seconds": [0.001, 0.002], "exponent": 1.0, "last_slope": 1.0, "linear": [8, 16]}
    return {
        "format": 1, "date": "2026-01-02T03:04:05+00:00", "threads": 2, "backend": "numpy", "settings": {},
        "machine": {"processor": processor, "memory": 8 << 30, "system": "S", "python": "3.12"},
        "versions": {"numpy": "2.0"}, "libraries": ["tapegrad", "torch"], "absent": {"jax": "jax not installed"},
        "pools": {"tapegrad": [{"internal_api": "openblas", "architecture": "Zen"}]},
        "workloads": {
            "one": {"title": "1", "sizes": {}, "results": {"tapegrad": result(0.001), "torch": result(0.002)}},
            "two": {"title": "2", "sizes": {}, "results": {"tapegrad": result(0.008), "torch": result(0.004)}},
            "three": {"title": "3", "sizes": {}, "results": {"tapegrad": {"error": "Traceback\nE: why"}}},
        },
        "footprint": {
            "import": {"numpy": 0.1, "tapegrad": 0.12},
            "installed": {"tapegrad": {"own": 2_000_000, "all": 60_000_000}},
            "growth": {"tapegrad": {"early": 50_000_000, "late": 50_500_000}}, "growth_steps": [100, 1000],
        },
        "scaling": {"batch": {"title": "b", "over": "batch", "workload": "one", "sizes": [8, 16],
                              "results": {"tapegrad": curve, "torch": {"error": "it ended"}}}},
    }  # fmt: skip


def test_table_has_ratios_their_mean_and_the_failures() -> None:
    text = suite("report").table(example_run())
    assert "0.50" in text and "2.00" in text and "three, tapegrad failed:" in text and "E: why" in text
    assert "geometric mean               1.00 of 2" in text and "largest ratio                 2.00 two" in text
    assert "peak memory, geometric mean  1.00 of 2" in text


def test_table_marks_results_that_disagree() -> None:
    run = example_run()
    run["workloads"]["one"]["results"]["tapegrad"]["agrees"] = False
    assert "0.50 (!)" in suite("report").table(run)


def test_runs_are_checked() -> None:
    store, run = suite("store"), example_run()
    assert store.check(run) is run
    with pytest.raises(ValueError, match="format 1 was expected, this is 7"):
        store.check({**run, "format": 7})
    with pytest.raises(ValueError, match="'threads' must be int, got str"):
        store.check({**run, "threads": "2"})
    broken = copy.deepcopy(run)
    del broken["workloads"]["one"]["results"]["torch"]["seconds"]
    with pytest.raises(ValueError, match="one, torch: 'seconds' must be float"):
        store.check(broken)


def test_comparison_tells_quotients_and_which_are_apart() -> None:
    before, after = example_run(), example_run()
    after["workloads"]["one"]["results"]["tapegrad"] = result(0.0005)
    found = {(c["workload"], c["library"]): c for c in suite("compare").changes(before, after)}
    assert len(found) == 4
    assert found["one", "tapegrad"]["quotient"] == pytest.approx(0.5) and found["one", "tapegrad"]["apart"]
    assert found["two", "tapegrad"]["quotient"] == 1 and not found["two", "tapegrad"]["apart"]
    text = suite("compare").comparison(before, {**after, "threads": 1})
    assert "0.50*" in text and "differ in threads: 2 and 1" in text
    assert f"tapegrad: geometric mean {math.sqrt(0.5):.3f}" in text


def test_page_is_written_between_its_markers(tmp_path: Any) -> None:
    page, source = suite("page"), tmp_path / "run.json"
    target = tmp_path / "page.md"
    target.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    (tmp_path / "run-ratios.png").write_bytes(b"")
    for _ in range(2):  # a second time changes nothing
        page.write(example_run(), source, target)
    text = target.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("### Time of a step") == 1 and "(**0.50**)" in text and "| geometric mean | 1.00 of 2 |" in text
    assert "![Time of a step](run-ratios.png)" in text and "jax not installed" in text and "`E: why`" in text
    assert "+0.5 MB" in text and "8 to 16" in text
    target.write_text("nothing")
    with pytest.raises(ValueError, match="has no"):
        page.write(example_run(), source, target)


def test_the_committed_page_is_what_its_run_says() -> None:
    """No figure of docs/benchmarks.md is typed in: the JSON whose charts it shows gives the same tables."""
    committed = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    name = re.findall(r"benchmarks/results/([\w-]+)-ratios\.png", committed)[0]
    run = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
    charts = {kind: f"../benchmarks/results/{name}-{kind}.png" for kind in ("ratios", "memory", "scaling")}
    assert suite("page").sections(run, charts) in committed


def test_charts_are_drawn(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    paths = suite("charts").draw(example_run(), tmp_path / "run")
    assert [path.name for path in paths] == ["run-ratios.png", "run-memory.png", "run-scaling.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_names_are_chosen_by_pattern() -> None:
    main = suite("__main__")
    assert main.chosen("mlp-*,lenet", ["lenet", "mlp-64", "mlp-512"], "workload") == ["mlp-64", "mlp-512", "lenet"]
    with pytest.raises(SystemExit, match="no workload is named 'x'; there are a, b"):
        main.chosen("x", ["a", "b"], "workload")


def test_absent_libraries_are_named() -> None:
    libraries = suite("libraries")
    found = libraries.absent(["tapegrad+fast", "jax"], backend="cupy")
    assert found == dict.fromkeys(("tapegrad+fast", "jax"), "not measured with the backend cupy")
    assert libraries.installed(["json", "no_such_module"], sys.executable) == [True, False]
    assert libraries.absent(["tapegrad"]) == {}


def test_import_times_leave_out_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    found = suite("footprint").import_times(["json", "no_such_module"], 1)
    assert list(found) == ["json"] and found["json"] > 0
    assert "No module named 'no_such_module'" in capsys.readouterr().err


def test_sizes_count_what_a_library_needs() -> None:
    footprint = suite("footprint")
    alone, extra = (footprint.installed_size(name) for name in ("tapegrad", "tapegrad+fast"))
    numpy = footprint.files_size("numpy")
    assert numpy > 10**7 and alone["own"] > 10**6 and alone["all"] == alone["own"] + numpy <= extra["all"]
    assert footprint.name_of("NumPy>=2; python_version > '3'") == "numpy"


def test_workers_are_started_without_what_picks_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = suite("process").environment("tapegrad", 3, "numpy")
    assert "OPENBLAS_CORETYPE" not in found and found["TAPEGRAD_FAST"] == "0"
    assert found["OMP_NUM_THREADS"] == found["OPENBLAS_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "3"


def test_a_worker_that_fails_is_reported_and_the_others_go_on() -> None:
    runner = suite("runner")
    settings = runner.Settings(1, rounds=1, turn=0.0, warm=0.0)
    found = runner.measure("linear-regression", ["tapegrad"], settings, sizes={"rows": -1})
    assert "Traceback" in found["tapegrad"]["error"] and "linear_regression" in found["tapegrad"]["error"]
    worker = suite("process").Process("linear-regression", "tapegrad", 1)
    worker.ask("load")
    worker.process.kill()
    with pytest.raises(suite("process").WorkerError, match="it ended with status -9"):
        worker.ask("prepare")
    worker.close()


def test_a_whole_run_and_its_comparison_with_itself(tmp_path: Any) -> None:
    path = tmp_path / "run.json"
    command = [sys.executable, "-m", "benchmarks"]
    options = ["--quick", "--only", "linear-regression,tape-8", "--libs", "tapegrad", "--rounds", "1", "--threads", "1"]

    def call(*arguments: str) -> str:
        run = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout

    text = call(*options, "--no-charts", "--out", str(path))
    assert "linear-regression" in text and f"written: {path}" in text
    run = suite("store").load(path)
    assert run["libraries"] == ["tapegrad"] and list(run["workloads"]) == ["linear-regression", "tape-8"]
    one = run["workloads"]["linear-regression"]["results"]["tapegrad"]
    assert one["seconds"] > 0 and one["losses"][0] > one["losses"][2] and len(one["rounds"]) == 1
    assert one["low"] <= one["seconds"] <= one["high"]
    assert run["versions"]["tapegrad"] == tapegrad.__version__ and json.loads(path.read_text()) == run
    assert "tapegrad: geometric mean 1.000 over 2 workloads" in call("--compare", str(path), str(path))
