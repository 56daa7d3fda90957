"""Three shops with a tiny encoder, asked all their questions once; a chat endpoint that a test can script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from asked import SHOPS, Asked, ShopTables, load_questions, tables_of, train_shop

from recsys.assistant.facts import Answer
from recsys.assistant.questions import Assistant


@dataclass(frozen=True, eq=False)
class AskedShop:
    """A shop's assistant, its tables, and every question with its answer."""

    assistant: Assistant
    tables: ShopTables
    answers: list[tuple[Asked, Answer]]


@pytest.fixture(scope="session")
def asked_shops(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, AskedShop]:
    shops = {}
    for shop in SHOPS:
        assistant = Assistant(train_shop(shop, tmp_path_factory.mktemp(shop), tiny_model))
        answers = [(one, assistant.ask(one.text, one.user)) for one in load_questions(shop)]
        shops[shop] = AskedShop(assistant, tables_of(shop), answers)
    return shops


@dataclass
class Endpoint:
    """A chat endpoint on this machine. `reply` makes the answer's body from the prompt, `requests` keeps what came."""

    url: str
    reply: Callable[[str], object] = lambda prompt: chat("")
    status: int = 200
    requests: list[tuple[dict[str, str], dict[str, object]]] = field(default_factory=list)


def chat(text: object) -> dict[str, object]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scripted.requests.append((dict(self.headers), body))
            answer = json.dumps(scripted.reply(body["messages"][0]["content"])).encode()
            self.send_response(scripted.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted = Endpoint(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield scripted
    server.shutdown()
    server.server_close()
    thread.join()
