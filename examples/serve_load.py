"""Two hundred clients at once ask examples/serve.py, and then it is stopped: python examples/serve_load.py

Starts the service on this machine, compares every answer with the model's own, prints times and how many images were
computed together, sends SIGTERM while requests are under way and says what became of them.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import serve
import tapegrad as torch

try:
    import httpx
except ImportError as error:
    raise SystemExit(f"{error}; this example needs httpx: pip install 'tapegrad[examples]'") from error


async def post(client: Any, url: str, image: Any, seconds: list[float]) -> tuple[str, Any]:
    """(status, the answer or None); "no connection" if it was refused or closed before the request was taken."""
    began = time.perf_counter()
    try:
        answer = await client.post(f"{url}/predict", json={"images": [image.tolist()]})
    except httpx.TransportError:
        return "no connection", None
    seconds.append(time.perf_counter() - began)
    return str(answer.status_code), answer.json()


async def load(url: str, clients: int, rounds: int, predict: Any, process: Any) -> None:
    images = torch.randint(0, 17, (clients, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    expected = predict(images)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        seconds: list[float] = []
        began, worst = time.perf_counter(), 0.0
        for _ in range(rounds):
            answers = await asyncio.gather(*(post(client, url, image, seconds) for image in images))
            assert {status for status, _ in answers} == {"200"}, Counter(status for status, _ in answers)
            got = torch.tensor([answer["probabilities"][0] for _, answer in answers])
            worst = max(worst, (got - expected).abs().max().item())
        took = time.perf_counter() - began
        text = (await client.get(f"{url}/metrics")).text
        count, total = (float(re.findall(rf"^batch_images_{kind} (\S+)", text, re.M)[0]) for kind in ("count", "sum"))
        ordered = sorted(seconds)
        print(f"{clients} clients at once, {len(seconds)} requests: all answered, {len(seconds) / took:.0f} a second")
        print(f"time of a request: median {1e3 * statistics.median(seconds):.0f} ms, "
              f"99 % {1e3 * ordered[int(0.99 * (len(ordered) - 1))]:.0f} ms")  # fmt: skip
        print(f"images computed together: {total / count:.1f} on average")
        print(f"largest difference from the model {worst:.1e}")
        assert worst < 1e-5
        under_way = [asyncio.create_task(post(client, url, image, seconds)) for image in images]
        await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        ends = Counter(status for status, _ in await asyncio.gather(*under_way))
        print(f"SIGTERM while {clients} requests are sent:", ", ".join(f"{n} x {end}" for end, n in ends.items()))
        assert set(ends) <= {"200", "no connection"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("digits.pt"))
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5, help="requests of each client")
    args = parser.parse_args()
    if not args.checkpoint.exists():
        serve.train(args.checkpoint)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, serve.__file__, "--checkpoint", str(args.checkpoint), "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}/ready")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        asyncio.run(load(url, args.clients, args.rounds, serve.load(args.checkpoint), process))
        print("the service ended with", process.wait(timeout=30))
    finally:
        process.kill()


if __name__ == "__main__":
    main()
