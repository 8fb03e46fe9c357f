"""A service over a checkpoint: python examples/serve.py --checkpoint digits.pt --port 8000

Answers which digit handwritten 8x8 images show. Without the checkpoint's file it trains one first (ten seconds) and
saves it. Requests that come together are computed together; bodies, waiting lines and times are limited; SIGTERM lets
the requests under way end. Needs the extra `serve`: pip install 'tapegrad[serve]'

    curl localhost:8000/predict -H 'content-type: application/json' -d '{"images": [[[0, 0, 5, 13, 9, 1, 0, 0], ...]]}'
    curl localhost:8000/health      # the process lives
    curl localhost:8000/ready       # it takes requests
    curl localhost:8000/metrics     # counters and histograms in Prometheus' form
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tapegrad as torch

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from pydantic import BaseModel, Field
except ImportError as error:
    raise SystemExit(f"{error}; this example needs the extra serve: pip install 'tapegrad[serve]'") from error

nn = torch.nn
SIDE = 8  # pixels


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take. Bytes, images, seconds."""

    body: int = 1 << 20
    images: int = 64  # of one request, and of one computation
    queue: int = 2048  # images that wait
    gather: float = 0.002  # how long the first image of a computation waits for others
    request: float = 10.0


# ---- the model ----------------------------------------------------------------------------------------------------


def network() -> Any:
    """(N, 1, 8, 8) grey values in [0, 1] -> (N, 10) logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


def train(path: Path, epochs: int = 15) -> None:
    """Learn scikit-learn's digits and save the checkpoint: {"model": state dict, "accuracy": of the test images}."""
    import digits

    torch.manual_seed(0)
    x, y, test_x, test_y = digits.load(torch)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(test_x).argmax(1) == test_y).float().mean().item()
    torch.save({"model": model.state_dict(), "accuracy": accuracy}, path)
    print(f"trained: test accuracy {accuracy:.3f}, saved as {path}")


def load(path: Path) -> Callable[[Any], Any]:
    """images (N, 8, 8) float32 in [0, 16] -> probabilities (N, 10), by the checkpoint's model."""
    model = network()
    model.load_state_dict(torch.load(path)["model"])
    model.eval()

    def predict(images: Any) -> Any:
        with torch.inference_mode():
            return model(images.unsqueeze(1) / 16).softmax(1)

    return predict


# ---- requests that come together are computed together ------------------------------------------------------------


class Busy(Exception):
    """As many images wait as may."""


class Failed(Exception):
    """The model raised; the log says what."""


class Batcher:
    """Gathers what comes within `limits.gather` seconds, or while a computation runs, into one call of `predict`.

    `predict` runs in a thread of its own, one call at a time, so that the event loop stays free to take requests.
    When it raises, every request of that call gets Failed.
    """

    def __init__(self, predict: Callable[[Any], Any], limits: Limits, computed: Callable[[int], None]):
        self.predict, self.limits, self.computed = predict, limits, computed
        self.waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self.rows = 0
        self.arrived, self.enough = asyncio.Event(), asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "predict")

    async def submit(self, images: Any) -> Any:
        """The rows of `predict` for these images (N, 8, 8). Busy if they find no place in the line."""
        if self.rows + len(images) > self.limits.queue:
            raise Busy
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append((images, answer))
        self._count(len(images))
        return await answer

    def _count(self, change: int) -> None:
        self.rows += change
        for event, wanted in ((self.arrived, 1), (self.enough, self.limits.images)):
            event.set() if self.rows >= wanted else event.clear()

    def _take(self) -> list[tuple[Any, asyncio.Future[Any]]]:
        """The oldest requests that fit into one computation; those whose client has gone are dropped."""
        taken, rows = [], 0
        while self.waiting and rows + len(self.waiting[0][0]) <= self.limits.images:
            images, answer = self.waiting.popleft()
            self._count(-len(images))
            if not answer.done():
                taken.append((images, answer))
                rows += len(images)
        return taken

    async def run(self) -> None:
        """Compute until cancelled; then what waits is computed too."""
        try:
            while True:
                await self.arrived.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.limits.gather):
                        await self.enough.wait()
                await self._compute(self._take())
        finally:
            while self.waiting:
                await self._compute(self._take())
            self.thread.shutdown()

    async def _compute(self, requests: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        if not requests:
            return
        inputs = torch.cat([images for images, _ in requests])
        self.computed(len(inputs))
        try:
            rows = await asyncio.get_running_loop().run_in_executor(self.thread, self.predict, inputs)
        except Exception:
            logging.getLogger("serve").exception("the model failed on %d images", len(inputs))
            rows = None
        begin = 0
        for images, answer in requests:
            end = begin + len(images)
            if not answer.done():  # the client may have gone meanwhile
                answer.set_exception(Failed()) if rows is None else answer.set_result(rows[begin:end])
            begin = end


# ---- the service --------------------------------------------------------------------------------------------------

Pixel = Annotated[float, Field(ge=0, le=16, allow_inf_nan=False)]
Row = Annotated[list[Pixel], Field(min_length=SIDE, max_length=SIDE)]
Image = Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE)]


class Answer(BaseModel):
    """labels (N,) and the probabilities (N, 10) of all digits."""

    labels: list[int]
    probabilities: list[list[float]]


class Metrics:
    """What the service counts, in a registry of its own (two services in one process would share the default one)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "requests_total", "requests by path and status", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("request_seconds", "from the first byte to the answer", registry=self.registry)
        self.batch = Histogram(
            "batch_images", "images computed together", buckets=[1, 2, 4, 8, 16, 32, 64], registry=self.registry
        )
        self.queue = Gauge("queue_images", "images that wait", registry=self.registry)


class Guard:
    """ASGI middleware: bodies over `limits.body` bytes get 413, requests over `limits.request` seconds 408; counts.

    The size is counted as the body comes: a chunked one does not say it, and one that says it may lie.
    """

    def __init__(self, app: Any, limits: Limits, metrics: Metrics):
        self.app, self.limits, self.metrics = app, limits, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, seen, status = time.perf_counter(), 0, 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limits.body:
                # a connection closed with input unread is reset, and the client may never see the answer
                while message.get("more_body") and seen < 10 * self.limits.body:
                    message = await receive()
                    seen += len(message.get("body", b""))
                raise HTTPException(413, f"the body is over {self.limits.body} bytes", {"connection": "close"})
            return message

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            async with asyncio.timeout(self.limits.request):
                await self.app(scope, counted, noted)
        except TimeoutError:
            if not status:
                late = {"detail": f"no answer within {self.limits.request} s"}
                await JSONResponse(late, 408, {"connection": "close"})(scope, receive, noted)
        finally:
            known = scope["path"] if scope["path"] in ("/predict", "/health", "/ready", "/metrics") else "other"
            self.metrics.requests.labels(known, status).inc()
            self.metrics.seconds.observe(time.perf_counter() - began)


def create_app(predict: Callable[[Any], Any], limits: Limits | None = None) -> FastAPI:
    """The ASGI application around a function from images (N, 8, 8) to probabilities (N, 10)."""
    limits, metrics = limits or Limits(), Metrics()

    class Query(BaseModel):
        images: Annotated[list[Image], Field(min_length=1, max_length=limits.images)]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.batcher = Batcher(predict, limits, metrics.batch.observe)
        worker = asyncio.create_task(app.state.batcher.run())
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker

    app = FastAPI(title="tapegrad digits", lifespan=lifespan)
    app.add_middleware(Guard, limits=limits, metrics=metrics)

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError) -> Response:
        """Without the input, which FastAPI would send back: it may be long, and NaN is no JSON."""
        return JSONResponse({"detail": [{k: e[k] for k in ("loc", "msg", "type")} for e in error.errors()[:10]]}, 422)

    async def answer(query: Query) -> Answer:
        try:
            rows = await app.state.batcher.submit(torch.tensor(query.images, dtype=torch.float32))
        except Busy:
            raise HTTPException(503, "too many images wait; try again", {"retry-after": "1"}) from None
        except Failed:
            raise HTTPException(500, "the model failed; the log has the reason") from None
        return Answer(labels=rows.argmax(1).tolist(), probabilities=rows.tolist())

    async def health() -> dict[str, str]:
        return {"status": "lives"}

    async def ready(response: Response) -> dict[str, Any]:
        waiting = app.state.batcher.rows
        response.status_code = 200 if waiting < limits.queue else 503
        return {"waiting": waiting}

    async def counts() -> Response:
        metrics.queue.set(app.state.batcher.rows)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    # FastAPI reads annotations as objects, and those of this function's own names are strings under __future__
    answer.__annotations__ = {"query": Query, "return": Answer}
    routes: list[tuple[str, str, Callable[..., Awaitable[Any]]]] = [
        ("POST", "/predict", answer), ("GET", "/health", health), ("GET", "/ready", ready), ("GET", "/metrics", counts),
    ]  # fmt: skip
    for method, path, function in routes:
        app.add_api_route(path, function, methods=[method])
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("digits.pt"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-body", type=int, default=Limits.body, help="bytes of a request's body")
    parser.add_argument("--grace", type=int, default=20, help="seconds that requests under way get after SIGTERM")
    parser.add_argument("--train-only", action="store_true", help="make the checkpoint and stop")
    args = parser.parse_args()
    if not args.checkpoint.exists():
        train(args.checkpoint)
    if args.train_only:
        return
    app = create_app(load(args.checkpoint), Limits(body=args.max_body))
    uvicorn.run(app, host=args.host, port=args.port, timeout_graceful_shutdown=args.grace, limit_concurrency=2000,
                log_level="warning")  # fmt: skip


if __name__ == "__main__":
    main()
