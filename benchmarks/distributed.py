"""Scaling of data-parallel training on this machine, overlap, and the cost model beside what was counted and measured.

    python benchmarks/distributed.py [--processes 1 2 4] [--steps 12] [--out FILE]

Starts itself under mpiexec for each number of processes, each with one thread. Where there are fewer cores than
processes, compute is shared too: the table says how many there are.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cost_model
import tapegrad as T

ROOT = Path(__file__).resolve().parents[1]
D, nn = T.distributed, T.nn
SIZES = [1 << n for n in (10, 12, 14, 16, 18, 20, 22)]  # elements of the all-reduces that alpha and beta are fitted to
STRONG, WEAK = 256, 128  # images of all processes together; of each
LINK = 0.25e9  # bytes per second of the pretended network


def network() -> Any:
    """784-512-512-512-512-10: 1.2 million parameters."""
    T.manual_seed(0)
    widths = [784, 512, 512, 512, 512]
    layers = [part for a, b in zip(widths, widths[1:], strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def median(work: Callable[[], Any], rounds: int, warm: int = 3) -> float:
    """Seconds of a call, the processes beginning together."""
    found = []
    for i in range(warm + rounds):
        D.barrier()
        began = time.perf_counter()
        work()
        if i >= warm:
            found.append(time.perf_counter() - began)
    return statistics.median(found)


class Counter:
    """Counts what this process sends, in the transport's own call for it."""

    def __init__(self) -> None:
        self.transport = D.group.WORLD.transport
        self.messages = self.bytes = 0

    def __enter__(self) -> Counter:
        if D.get_world_size() > 1:
            send = self.transport._send

            def counted(x: Any, peer: int, tag: int) -> Any:
                self.messages, self.bytes = self.messages + 1, self.bytes + x.nbytes
                return send(x, peer, tag)

            self.transport._send = counted
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.__dict__.pop("_send", None)


class Link:
    """A network that needs no processor: a bucket takes bytes / LINK seconds, one after the other."""

    def __init__(self) -> None:
        self.free = 0.0

    def hook(self, state: Any, bucket: D.GradBucket) -> T.futures.Future[T.Tensor]:
        buffer = bucket.buffer()
        self.free = end = max(self.free, time.perf_counter()) + buffer.numel() * 4 / LINK

        def finish() -> Any:
            time.sleep(max(0.0, end - time.perf_counter()))
            return buffer

        return T.futures.Future.from_call(lambda: time.perf_counter() >= end, finish)


class Step:
    """A training step of one process."""

    def __init__(self, batch: int, zero: bool = False, hook: Any = None, bucket_mb: float = 1.0):
        self.model = nn.parallel.DistributedDataParallel(network(), bucket_cap_mb=bucket_mb)
        if hook is not None:
            self.model.register_comm_hook(None, hook)
        if zero:
            self.optimizer = D.optim.ZeroRedundancyOptimizer(self.model.parameters(), T.optim.AdamW, lr=1e-3)
        else:
            self.optimizer = T.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.x, self.y = T.randn(batch, 784), T.randint(10, (batch,))

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()

    def alone(self) -> None:
        """The same without communication."""
        with self.model.no_sync():
            self()

    def buckets(self) -> list[int]:
        return [b.buffer.numel() for b in self.model.reducer.buckets]

    def communicate(self) -> None:
        """The reductions of a step, with nothing else to do."""
        work = [D.all_reduce(b.buffer, async_op=True) for b in self.model.reducer.buckets]
        for call in work:
            call.wait()


def worker(steps: int) -> dict[str, Any]:
    """What one number of processes measures."""
    D.init_process_group("mpi")
    p, rank = D.get_world_size(), D.get_rank()
    found: dict[str, Any] = {"processes": p}
    strong, weak = Step(STRONG // p), Step(WEAK)
    for name, step in (("strong", strong), ("weak", weak)):
        found[name] = {"step": median(step, steps), "alone": median(step.alone, steps)}
        found[name]["communication"] = median(step.communicate, steps)
    zero = Step(STRONG // p, zero=True)
    found["zero"] = {"step": median(zero, steps)}
    found["buckets"] = strong.buckets()
    reduced = [T.zeros(n) for n in SIZES]
    found["all_reduce"] = [[4 * len(t), median(lambda t=t: D.all_reduce(t), steps)] for t in reduced]
    for name, step in (("ddp", strong), ("zero", zero)):
        with Counter() as counter:
            step()
        expected = cost_model.ddp_step(step.buckets(), 4, p, rank)
        if name == "zero":
            shares = [sum(s.buffer.numel() for s in own) for own in zero.optimizer._shares]
            expected = cost_model.total([expected, cost_model.zero_step(shares, 4, p, rank)])
        found[f"{name} counted"], found[f"{name} model"] = [counter.messages, counter.bytes], list(expected)
    if p == 1:
        link = Link()
        one, many = Step(STRONG, hook=link.hook, bucket_mb=1000), Step(STRONG, hook=link.hook)
        bytes_ = 4 * sum(many.buckets())
        found["overlap"] = {"network": bytes_ / LINK, "none": median(strong, steps)}
        found["overlap"] |= {"one bucket": median(one, steps), "buckets": median(many, steps)}
        found["overlap"]["sizes"] = [4 * n for n in many.buckets()]
    every: list[Any] = [None] * p
    D.all_gather_object(every, found)
    found["equal on every rank"] = all(e[f"{n} counted"] == e[f"{n} model"] for e in every for n in ("ddp", "zero"))
    D.barrier()
    D.destroy_process_group()
    return found if rank == 0 else {}


def predictions(runs: list[dict[str, Any]]) -> None:
    """Adds alpha, beta and predicted step times to each run of several processes.

    Predicted: compute alone, plus copies into and out of the buckets (what one process pays for them), plus messages
    and bytes, nothing of them hidden: with a core per process and none to spare, the processor moves the bytes itself.
    """
    copies = {name: runs[0][name]["step"] - runs[0][name]["alone"] for name in ("strong", "weak")}
    for run in runs:
        p = run["processes"]
        if p == 1:
            continue
        sizes = [cost_model.all_reduce(b // 4, 4, p, 0) for b, _ in run["all_reduce"]]
        alpha, beta = cost_model.fit(sizes, [t for _, t in run["all_reduce"]])
        messages, size = run["ddp model"]
        told = alpha * messages + beta * size
        run["alpha"], run["beta"], run["communication predicted"] = alpha, beta, told
        for name in ("strong", "weak"):
            run[name]["predicted"] = run[name]["alone"] + copies[name] + told
        zero = alpha * run["zero model"][0] + beta * run["zero model"][1]
        run["zero"]["predicted"] = run["strong"]["alone"] + copies["strong"] + zero


def table(runs: list[dict[str, Any]]) -> str:
    """The figures as Markdown, in milliseconds."""
    titles = ["processes", "strong: step", "speed-up", "compute alone", "predicted"]
    titles += ["weak: step", "efficiency", "predicted", "ZeRO-1 (strong)"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    first = runs[0]
    for run in runs:
        strong, weak = run["strong"], run["weak"]
        cells = [run["processes"], f"{1e3 * strong['step']:.1f}", f"{first['strong']['step'] / strong['step']:.2f}"]
        cells += [f"{1e3 * strong['alone']:.1f}", f"{1e3 * strong.get('predicted', strong['alone']):.1f}"]
        cells += [f"{1e3 * weak['step']:.1f}", f"{first['weak']['step'] / weak['step']:.2f}"]
        cells += [f"{1e3 * weak.get('predicted', weak['alone']):.1f}", f"{1e3 * run['zero']['step']:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for run in runs[1:]:
        lines.append(
            f"\n{run['processes']} processes: alpha {1e6 * run['alpha']:.1f} us per message, beta "
            f"{1e9 * run['beta']:.2f} ns per byte; a step's reductions {1e3 * run['strong']['communication']:.1f} ms, "
            f"predicted {1e3 * run['communication predicted']:.1f}; counted {run['ddp counted']}, ZeRO-1 "
            f"{run['zero counted']} (messages, bytes), equal to the model on every rank: {run['equal on every rank']}"
        )
    overlap = first["overlap"]
    lines.append(
        f"\nA network of {LINK / 1e9} GB/s that needs no processor ({1e3 * overlap['network']:.1f} ms for the "
        f"gradients): without it {1e3 * overlap['none']:.1f} ms a step, one bucket {1e3 * overlap['one bucket']:.1f}, "
        f"{len(overlap['sizes'])} buckets {1e3 * overlap['buckets']:.1f}"
    )
    return "\n".join(lines)


def launch(processes: int, steps: int) -> dict[str, Any]:
    """One number of processes, each with one thread."""
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("this needs mpi4py and an MPI: pip install 'tapegrad[mpi]'")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [mpiexec, "-n", str(processes), sys.executable, __file__, "--worker", "--steps", str(steps)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, help="a JSON file; by default in benchmarks/results")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        found = worker(args.steps)
        if found:
            print(json.dumps(found), flush=True)
        return
    runs = [launch(p, args.steps) for p in sorted({1, *args.processes})]
    predictions(runs)
    date = datetime.datetime.now().strftime("%Y-%m-%dT%H%M%S")
    parameters, buckets = sum(runs[0]["buckets"]), len(runs[0]["buckets"])
    many = {p: cost_model.for_many(parameters, buckets, p) for p in (2, 4, 8, 64, 1024)}
    result = {"date": date, "cores": len(os.sched_getaffinity(0)), "parameters": parameters, "runs": runs, "many": many}
    path = args.out or ROOT / "benchmarks" / "results" / f"{date}-distributed.json"
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(f"{result['cores']} cores, {parameters} parameters in {buckets} buckets\n\n{table(runs)}\n\n{path}")


if __name__ == "__main__":
    main()
