"""examples/serve.py over real HTTP: answers, bad input, limits, many clients at once, shutdown in mid-request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tapegrad as torch
from library import ROOT

httpx = pytest.importorskip("httpx")
for package in ("fastapi", "uvicorn", "prometheus_client", "sklearn"):
    pytest.importorskip(package)

EXAMPLES = ROOT / "examples"
IMAGE = [[(5 * i + 3 * j) % 17 for j in range(8)] for i in range(8)]
SLOW = """
import pathlib, sys, time, uvicorn, serve, tapegrad as torch
def predict(images):
    if images[0, 0, 0] == 16:
        raise ValueError("a model that fails")
    pathlib.Path("computing").touch()
    while pathlib.Path("hold").exists():
        time.sleep(0.01)
    return torch.eye(10)[images[:, 0, 0].long() % 10]
limits = serve.Limits(queue=3, images=2, request=float(sys.argv[2]))
uvicorn.run(serve.create_app(predict, limits), port=int(sys.argv[1]), timeout_graceful_shutdown=10, log_level="error")
"""


def start(port: int, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """The service's process, once it takes requests."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES)}
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    for _ in range(600):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200:
                return process
        except httpx.TransportError:
            time.sleep(0.05)
        if process.poll() is not None:
            break
    process.kill()
    raise AssertionError(process.communicate()[0])


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def stop(process: subprocess.Popen[str]) -> str:
    """What it printed; killed if SIGTERM does not end it."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.communicate(timeout=20)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: Any) -> Path:
    """As the example trains it, for an instant."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import serve

        path = tmp_path_factory.mktemp("serve") / "digits.pt"
        state = torch.get_rng_state()
        serve.train(path, epochs=2)
        torch.set_rng_state(state)
        return path
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def service(checkpoint: Path) -> Iterator[str]:
    port = free_port()
    process = start(
        port, str(EXAMPLES / "serve.py"), "--checkpoint", str(checkpoint), "--port", str(port), "--max-body", "65536",
        cwd=checkpoint.parent,
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    assert "Traceback" not in stop(process) and process.returncode in (0, -signal.SIGTERM)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    """The checkpoint's model, here."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import serve

        return serve.load(checkpoint)
    finally:
        sys.path.remove(str(EXAMPLES))


def test_answers_are_the_models(service: str, model: Any) -> None:
    images = torch.randint(0, 17, (5, 8, 8), generator=torch.Generator().manual_seed(1)).float()
    answer = httpx.post(f"{service}/predict", json={"images": images.tolist()}, timeout=20).json()
    expected = model(images)
    torch.testing.assert_close(torch.tensor(answer["probabilities"]), expected, rtol=1e-5, atol=1e-6)
    assert answer["labels"] == expected.argmax(1).tolist()
    assert httpx.get(f"{service}/health").json() == {"status": "lives"}
    assert httpx.get(f"{service}/ready").json() == {"waiting": 0}


def changed(i: int, j: int, value: Any) -> list[list[Any]]:
    return [[value if (a, b) == (i, j) else x for b, x in enumerate(row)] for a, row in enumerate(IMAGE)]


BAD = {
    "no json": (b"{nope", 422, "JSON"),
    "nothing": (b"", 422, "required"),
    "wrong key": ({"pictures": [IMAGE]}, 422, "images"),
    "no image": ({"images": []}, 422, "at least 1"),
    "too many images": ({"images": [IMAGE] * 65}, 422, "at most 64"),
    "a row short": ({"images": [IMAGE[:7]]}, 422, "at least 8"),
    "ragged": ({"images": [[*IMAGE[:7], [1]]]}, 422, "at least 8"),
    "text": ({"images": [changed(3, 4, "x")]}, 422, "number"),
    "null": ({"images": [changed(3, 4, None)]}, 422, "number"),
    "not finite": (json.dumps({"images": [changed(3, 4, 1)]}).replace("[[0", "[[NaN", 1).encode(), 422, "images"),
    "huge number": ({"images": [changed(3, 4, 1e300)]}, 422, "less than or equal to 16"),
    "negative": ({"images": [changed(3, 4, -1)]}, 422, "greater than or equal to 0"),
    "too large": (b'{"images": "' + b"x" * 70_000 + b'"}', 413, "65536 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(service: str, name: str) -> None:
    body, status, text = BAD[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(f"{service}/predict", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status and text in answer.text, answer.text
    assert "detail" in answer.json()


def test_a_body_that_does_not_say_its_size_is_counted(service: str) -> None:
    answer = httpx.post(f"{service}/predict", content=(b" " * 8192 for _ in range(20)))
    assert answer.status_code == 413, answer.text


def test_wrong_routes(service: str) -> None:
    assert httpx.get(f"{service}/predict").status_code == 405
    assert httpx.get(f"{service}/nothing").status_code == 404


def test_two_hundred_clients_at_once(service: str, model: Any) -> None:
    """Each gets the answer to its own image, though many are computed together."""
    images = torch.randint(0, 17, (200, 8, 8), generator=torch.Generator().manual_seed(2)).float()

    async def all_at_once() -> list[Any]:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as client:
            posts = (client.post(f"{service}/predict", json={"images": [image.tolist()]}) for image in images)
            return await asyncio.gather(*posts)

    answers = asyncio.run(all_at_once())
    assert {a.status_code for a in answers} == {200}
    got = torch.tensor([a.json()["probabilities"][0] for a in answers])
    torch.testing.assert_close(got, model(images), rtol=1e-4, atol=1e-5)
    text = httpx.get(f"{service}/metrics").text
    counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(counts['requests_total{path="/predict",status="200"}']) >= 200
    assert float(counts["batch_images_sum"]) >= 200
    assert float(counts["batch_images_count"]) < float(counts["batch_images_sum"])
    assert float(counts["queue_images"]) == 0


class Held:
    """A service whose model computes only while the file `hold` is away, and what a test asks of it."""

    def __init__(self, folder: Path, seconds: float):
        self.folder, self.port = folder, free_port()
        self.process = start(self.port, "-c", SLOW, str(self.port), str(seconds), cwd=folder)
        self.url = f"http://127.0.0.1:{self.port}"

    def hold(self, held: bool) -> None:
        (self.folder / "hold").touch() if held else (self.folder / "hold").unlink()
        (self.folder / "computing").unlink(missing_ok=True)

    async def until_it_computes(self) -> None:
        while not (self.folder / "computing").exists():
            await asyncio.sleep(0.01)

    def post(self, client: Any, *values: int) -> asyncio.Task[Any]:
        images = [[[value] * 8] * 8 for value in values]
        return asyncio.create_task(client.post(f"{self.url}/predict", json={"images": images}))

    def run(self, story: Any) -> str:
        """What the process printed; the story takes a client."""

        async def told() -> None:
            async with asyncio.timeout(60), httpx.AsyncClient(timeout=30) as client:
                await story(client)

        try:
            asyncio.run(told())
        finally:
            output = stop(self.process)
        assert self.process.returncode in (0, -signal.SIGTERM), output
        return output


def test_full_line_failing_model_and_shutdown_in_mid_request(tmp_path: Path) -> None:
    service = Held(tmp_path, seconds=30)

    async def waiting(client: Any, count: int) -> int:
        while (answer := await client.get(f"{service.url}/ready")).json()["waiting"] != count:
            await asyncio.sleep(0.01)
        return int(answer.status_code)

    async def story(client: Any) -> None:
        failed = await service.post(client, 16)
        assert failed.status_code == 500 and "model failed" in failed.text
        service.hold(True)
        first = service.post(client, 1, 2)
        await service.until_it_computes()
        others = [service.post(client, value) for value in (3, 4, 5)]
        assert await waiting(client, 3) == 503
        busy = await service.post(client, 6)
        assert busy.status_code == 503 and busy.headers["retry-after"] == "1"
        service.hold(False)
        assert (await first).json()["labels"] == [1, 2]
        assert [(await answer).json()["labels"] for answer in others] == [[3], [4], [5]]
        assert await waiting(client, 0) == 200
        service.hold(True)
        under_way = service.post(client, 7)
        await service.until_it_computes()
        service.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        service.hold(False)
        assert (await under_way).json()["labels"] == [7]

    output = service.run(story)
    assert "a model that fails" in output  # the reason is in the log, not in the answer
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{service.url}/health", timeout=5)


def test_slow_request(tmp_path: Path) -> None:
    """No answer in time: 408; the service goes on, and does not compute what nobody waits for."""
    service = Held(tmp_path, seconds=1.0)

    async def story(client: Any) -> None:
        service.hold(True)
        late = [service.post(client, value) for value in (1, 2)]
        assert [(await answer).status_code for answer in late] == [408, 408]
        assert "within 1.0 s" in (await late[0]).text
        service.hold(False)
        assert (await service.post(client, 3)).json()["labels"] == [3]

    service.run(story)


def test_without_the_extra(tmp_path: Path) -> None:
    """Each package's absence names the extra."""
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        code = f"import sys; sys.modules[{package!r}] = None; sys.path.insert(0, {str(EXAMPLES)!r}); import serve"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 1 and "pip install 'tapegrad[serve]'" in done.stderr, done.stderr
