"""How much the service takes: real clients on loopback, bounded in count and time, also while versions are published.

    python -m examples.ranking_service.load_test --bundle artifacts/demo

copies the bundle aside, serves it in a process of its own, and asks for lists of ten. Half way the same model is
published again and again. What it prints is what it saw.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer

from recsys import Recommender
from recsys.artifacts import bundle as bundles
from recsys.artifacts import versions

MOST_SECONDS = 120


@dataclass
class Seen:
    """What the clients saw."""

    milliseconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def told(self) -> dict[str, Any]:
        """Return figures to print."""
        p50, p99 = np.percentile(self.milliseconds or [np.nan], [50, 99])
        return {"requests": len(self.milliseconds), "failed": dict(self.failed), "versions": len(self.versions),
                "per_second": round(len(self.milliseconds) / self.seconds, 1), "p50_ms": round(float(p50), 2),
                "p99_ms": round(float(p99), 2)}  # fmt: skip


async def ask(url: str, users: list[Any], clients: int, requests: int) -> Seen:
    """Let so many clients send so many requests, each as soon as its last one is answered."""
    seen, left = Seen(), iter(range(requests))
    begun = time.perf_counter()

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
            for number in left:
                if time.perf_counter() - begun > MOST_SECONDS:
                    seen.failed["not sent: out of time"] += 1
                    continue
                sent = time.perf_counter()
                try:
                    answer = await http.post("/recommend", json={"user_id": users[number % len(users)], "k": 10})
                except httpx.HTTPError as error:
                    seen.failed[type(error).__name__] += 1
                    continue
                seen.milliseconds.append((time.perf_counter() - sent) * 1000)
                if answer.status_code != 200 or len(answer.json()["items"]) != 10:
                    seen.failed[str(answer.status_code)] += 1
                else:
                    seen.versions[answer.json()["model_version"]] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    seen.seconds = time.perf_counter() - begun
    return seen


def republish(root: Path) -> None:
    """Publish the current model once more, as a training that learnt nothing new would."""
    now = bundles.load(root)
    bundles.publish(root, now.arrays, now.tables, now.about)


async def publishing(root: Path, work: asyncio.Task[Seen], every: float) -> int:
    """Publish every few seconds until the work is done; return how often."""
    times = 0
    while not work.done():
        await asyncio.to_thread(republish, root)
        times += 1
        await asyncio.wait([work], timeout=every)
    return times


async def measure(url: str, root: Path, users: list[Any], clients: int, requests: int) -> dict[str, Any]:
    """Ask twice: in peace, and while versions are published."""
    await ask(url, users, clients, min(requests, 200))
    calm = await ask(url, users, clients, requests)
    work = asyncio.create_task(ask(url, users, clients, requests))
    times = await publishing(root, work, every=2.0)
    return {"calm": calm.told(), "while publishing": (await work).told() | {"published": times}}


def wait_until_ready(url: str, service: subprocess.Popen[bytes]) -> None:
    """Wait until the service has a model. Raises `RuntimeError` where it ends or takes over a minute."""
    for _ in range(600):
        if service.poll() is not None:
            raise RuntimeError(f"the service ended with {service.returncode}")
        try:
            if httpx.get(url + "/health", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the service was not ready within a minute")


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def load_test(
    bundle: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("artifacts/demo"),
    clients: Annotated[int, typer.Option(min=1, max=256, help="Clients at a time.")] = 4,
    requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="Requests in each of the two runs.")] = 2_000,
) -> None:
    """Measure requests per second, p50 and p99, and count failures; print JSON."""
    users = Recommender.load(bundle).user_ids.to_list()[:1_000]
    with tempfile.TemporaryDirectory() as folder:
        root, port = Path(folder) / "bundle", free_port()
        current = bundles.load(bundle)
        shutil.copytree(current.path, root / versions.VERSIONS / current.version)
        versions.set_current(root, current.version)
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "examples.ranking_service", "--bundle", str(root), "--port", str(port)]
        service = subprocess.Popen([*command, "--exposures", f"{folder}/exposures"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            wait_until_ready(url, service)
            print(json.dumps(asyncio.run(measure(url, root, users, clients, requests)), indent=1))
        finally:
            service.terminate()
            service.wait(30)


if __name__ == "__main__":
    typer.run(load_test)
