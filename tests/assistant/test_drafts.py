"""Real models draft: a server on this machine, and a tiny language model with random weights."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tiny_causal import build_tiny_causal

from recsys.assistant.drafts import DraftError, EndpointDrafter, LocalDrafter, make_drafter
from recsys.errors import ConfigError


def test_an_endpoint_is_asked_as_openai_is(endpoint, monkeypatch) -> None:
    monkeypatch.delenv("RECSYS_LLM_KEY", raising=False)
    endpoint.reply = lambda prompt: {"choices": [{"message": {"content": f" {prompt.upper()} \n"}}]}
    assert EndpointDrafter(f"{endpoint.url}/", "small").draft("say this") == "SAY THIS"
    headers, body = endpoint.requests[0]
    assert body["model"] == "small"
    assert body["messages"] == [{"role": "user", "content": "say this"}]
    assert "Authorization" not in headers


def test_the_key_comes_from_the_environment_and_stays_out_of_errors(endpoint, monkeypatch) -> None:
    monkeypatch.setenv("RECSYS_LLM_KEY", "hush-hush")
    endpoint.status = 401
    with pytest.raises(DraftError, match="answered 401 Unauthorized") as caught:
        EndpointDrafter(endpoint.url, "small").draft("x")
    assert endpoint.requests[0][0]["Authorization"] == "Bearer hush-hush"
    assert "hush" not in f"{caught.value} {caught.value.__cause__} {vars(EndpointDrafter(endpoint.url, 'small'))}"


@pytest.mark.parametrize(
    ("reply", "message"),
    [({}, "without choices"), ([], "without choices"), ({"choices": []}, "without choices"),
     ({"choices": [{"message": {"content": " "}}]}, "empty text"),
     ({"choices": [{"message": {"content": 5}}]}, "empty text")],
)  # fmt: skip
def test_an_answer_that_is_no_draft(endpoint, reply, message) -> None:
    endpoint.reply = lambda prompt: reply
    with pytest.raises(DraftError, match=message):
        EndpointDrafter(endpoint.url, "small").draft("x")


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(DraftError, match=rf"{url}/chat/completions gave no answer"):
        EndpointDrafter(url, "small").draft("x")


def test_a_local_model_writes(tmp_path: Path) -> None:
    drafter = LocalDrafter(build_tiny_causal(tmp_path / "tiny"))
    first = drafter.draft("tell me of the tent")
    assert first
    assert drafter.draft("tell me of the tent") == first, "greedy: the same prompt gives the same draft"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EndpointDrafter("localhost:8000", "m"), "'localhost:8000' is no http or https URL"),
        (lambda: LocalDrafter("/no/such/model"), "/no/such/model does not exist"),
        (lambda: make_drafter("http://localhost", None), "needs the name of a model: add --model NAME"),
    ],
)
def test_a_wrong_setting_is_told(make, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"the language model {tmp_path} cannot be loaded"):
        LocalDrafter(tmp_path).draft("x")


def test_no_model_is_no_drafter() -> None:
    assert make_drafter(None, None) is None
