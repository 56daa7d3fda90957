"""The service: routes, limits and metrics. Every answer comes from one whole model, taken once a request."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.ranking_service.bodies import MOST_K, K, RecommendBody, RerankBody
from examples.ranking_service.exposures import ExposureLog, shuffled
from recsys import Recommender, RecommenderHandle
from recsys.errors import RecsysError, RequestError, UnknownIdError
from recsys.parallel.threads import single

T = TypeVar("T")
log = logging.getLogger(__name__)
BUCKETS = (0.001, 0.002, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2)


@dataclass(frozen=True)
class Settings:
    """How a service runs.

    Attributes:
        bundle: The bundle root.
        exposures: The folder of the exposure log; None logs nothing.
        workers: Threads that compute.
        waiting: Requests that may wait beyond those; more are refused with 503.
        timeout: Seconds after which a request is answered with 504.
        most_bytes: The largest body.
        explore: The temperature (in units of the score) at which lists are shuffled for the exposure log; 0 shuffles
            nothing.
    """

    bundle: Path
    exposures: Path | None = None
    workers: int = 2
    waiting: int = 64
    timeout: float = 2.0
    most_bytes: int = 256 << 10
    explore: float = 0.0


class Limited:
    """Refuses bodies above a number of bytes, declared or streamed, with 413."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most:
            await self._refuse(scope, receive, send)
            return
        received = 0
        messages = []
        while True:
            message = await receive()
            messages.append(message)
            received += len(message.get("body", b""))
            if received > self._most:
                await self._refuse(scope, receive, send)
                return
            if message["type"] != "http.request" or not message.get("more_body", False):
                break

        async def again() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, again, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = JSONResponse({"detail": f"the body may have {self._most} bytes at most"}, status_code=413)
        await answer(scope, receive, send)


class Meters:
    """The figures of `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("recsys_requests", "Requests.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "recsys_seconds", "Seconds to answer.", ["route"], buckets=BUCKETS, registry=self.registry
        )
        self.model = Gauge("recsys_model", "1 for the model that answers.", ["version"], registry=self.registry)
        self.ready = Gauge("recsys_ready", "1 where a model answers.", registry=self.registry)
        self.lost = Counter("recsys_exposures_lost", "Answers that could not be logged.", registry=self.registry)

    def page(self, handle: RecommenderHandle) -> bytes:
        """Return all figures in the format of Prometheus."""
        self.ready.set(handle.ready)
        self.model.clear()
        if handle.ready:
            self.model.labels(handle.recommender.version).set(1)
        return generate_latest(self.registry)


class Desk:
    """Runs work on a few threads, with a bounded queue; late work is answered with 504."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # One thread a request is all the parallelism there is: BLAS and OpenMP must not add theirs.
        self._pool = ThreadPoolExecutor(settings.workers, "ranking", initializer=single)
        self._taken = 0

    async def do(self, work: Callable[[], T]) -> T:
        """Run on a thread. Raises `HTTPException`: 503 where too much is waiting, 504 where it takes too long."""
        if self._taken >= self._settings.workers + self._settings.waiting:
            raise HTTPException(503, "too many requests wait already", headers={"Retry-After": "1"})
        self._taken += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._done)
        try:
            # Shielded, since a thread cannot be stopped: its place is taken until it ends.
            return await asyncio.wait_for(asyncio.shield(future), self._settings.timeout)
        except TimeoutError:
            raise HTTPException(504, f"no answer within {self._settings.timeout:g} seconds") from None

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._taken -= 1
        if not future.cancelled():
            future.exception()  # retrieved, so that asyncio does not warn about one that nobody waited for

    def close(self) -> None:
        """Wait for running work to end."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def create_app(settings: Settings) -> FastAPI:
    """Build the service. Where there is no bundle yet it waits for one: `/health` says 503 and why until then."""
    meters = Meters()
    handle = RecommenderHandle(settings.bundle)
    exposures = None if settings.exposures is None else ExposureLog(settings.exposures)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.desk, app.state.lacks = Desk(settings), None
        begun = asyncio.create_task(begin())
        yield
        begun.cancel()
        app.state.desk.close()
        handle.close()
        if exposures is not None:
            exposures.close()

    async def begin() -> None:
        while not handle.ready:
            try:
                await asyncio.to_thread(handle.start)
            except RecsysError as error:
                app.state.lacks = error
                await asyncio.sleep(1)

    app = FastAPI(title="recsys", lifespan=life)
    app.add_middleware(Limited, most_bytes=settings.most_bytes)

    @app.middleware("http")
    async def measured(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        begun = time.perf_counter()
        answer = await call_next(request)
        route = getattr(request.scope.get("route"), "path", "none")  # not the path: it could be anything
        meters.seconds.labels(route).observe(time.perf_counter() - begun)
        meters.requests.labels(route, answer.status_code).inc()
        return answer

    @app.exception_handler(RecsysError)
    async def refused(request: Request, error: RecsysError) -> JSONResponse:
        status = 404 if isinstance(error, UnknownIdError) else 422 if isinstance(error, RequestError) else 500
        if status == 500:
            log.error("%s: %s", request.url.path, error)
        return JSONResponse({"detail": str(error), "error": type(error).__name__}, status_code=status)

    def current() -> Recommender:
        if not handle.ready:
            raise HTTPException(503, "no model is loaded yet", headers={"Retry-After": "1"})
        return handle.recommender

    async def do(work: Callable[[Recommender], T]) -> T:
        recommender = current()
        return await app.state.desk.do(lambda: work(recommender))

    def shown(answer: dict[str, Any], fixed: int) -> Response:
        """Shuffle where the service explores, log who was shown what, and answer."""
        items = answer["items"]
        rng = np.random.default_rng()  # one generator must not serve several threads
        order, chance = shuffled([item["score"] for item in items], fixed, settings.explore, rng)
        answer["items"] = [items[place] | {"rank": rank} for rank, place in enumerate(order, start=1)]
        if exposures is not None:
            try:
                exposures.write(answer, chance)
            except OSError as error:  # a full disk must not cost an answer
                meters.lost.inc()
                log.error("exposures of request %s are lost: %s", answer["request_id"], error)
        return Response(json.dumps(answer, ensure_ascii=False), media_type="application/json")

    @app.post("/recommend")
    async def recommend(body: RecommendBody) -> Response:
        """A list for a user."""
        return await do(
            lambda r: shown(r.recommend(body.user_id, body.k, **body.arguments()).to_dict(), len(body.pinned))
        )

    @app.post("/rerank")
    async def rerank(body: RerankBody) -> Response:
        """An order for items that the caller has."""
        k = min(body.k or len(body.candidates), MOST_K)
        return await do(lambda r: shown(r.recommend(body.user_id, k, **body.arguments()).to_dict(), len(body.pinned)))

    @app.get("/similar/{item_id}")
    async def similar(item_id: str, k: Annotated[K, Query()] = 10) -> dict[str, Any]:
        """Items whose texts are most like an item's."""
        return await do(lambda r: {"model_version": r.version, "items": r.similar_items(item_id, k).rows(named=True)})

    @app.get("/search")
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=500)], k: Annotated[K, Query()] = 10
    ) -> dict[str, Any]:
        """Items whose texts are most like some words. The first search loads the encoder, which takes seconds."""
        return await do(lambda r: {"model_version": r.version, "items": r.search(q, k).rows(named=True)})

    @app.get("/health")
    async def health() -> JSONResponse:
        """200 where a model answers, 503 where none does yet; `last_error` is why the current version is not served."""
        ready = handle.ready
        error = handle.last_error if ready else app.state.lacks
        state = {"ready": ready, "version": handle.recommender.version if ready else None,
                 "last_error": None if error is None else str(error)}  # fmt: skip
        return JSONResponse(state, status_code=200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(meters.page(handle), media_type=CONTENT_TYPE_LATEST)

    return app
