"""Models that draft texts: an OpenAI-compatible endpoint, or a language model on this machine.

A draft is a proposal. Nothing that a model writes is shown before the verifier has passed it.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from recsys.errors import ConfigError
from recsys.extras import require

KEY = "RECSYS_LLM_KEY"  # the environment variable that holds the key of an endpoint
TIMEOUT_S = 60.0
NEW_TOKENS = 200


class DraftError(Exception):
    """A model gave no draft. The template is used instead, and the reason is kept."""


class Drafter(Protocol):
    """Writes a text for a prompt."""

    def draft(self, prompt: str) -> str:
        """Return a draft. Raises `DraftError` where the model gives none."""


class EndpointDrafter:
    """A chat model behind an OpenAI-compatible HTTP endpoint, such as vLLM, llama.cpp or a provider.

    The key comes from the environment variable `RECSYS_LLM_KEY`, is sent to the endpoint alone, and is in no message.
    """

    def __init__(self, url: str, model: str) -> None:
        """Name an endpoint.

        Args:
            url: The base, such as `http://localhost:8000/v1`.
            model: The model's name there.

        Raises:
            ConfigError: The URL is not http or https.
        """
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"the endpoint {url!r} is no http or https URL; give one such as http://localhost:8000/v1"
            )
        self._url, self._model = f"{url.rstrip('/')}/chat/completions", model

    def draft(self, prompt: str) -> str:
        """Return the first choice of the model. Raises `DraftError` where the endpoint does not answer with one."""
        body = {"model": self._model, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
                "max_tokens": NEW_TOKENS}  # fmt: skip
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                text = json.load(answer)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            raise DraftError(f"the endpoint {self._url} answered {error.code} {error.reason}") from None
        except (OSError, ValueError) as error:
            raise DraftError(f"the endpoint {self._url} gave no answer ({type(error).__name__})") from None
        except (KeyError, IndexError, TypeError):
            raise DraftError(f"the endpoint {self._url} answered without choices[0].message.content") from None
        if not isinstance(text, str) or not text.strip():
            raise DraftError(f"the endpoint {self._url} answered with an empty text")
        return text.strip()


class LocalDrafter:
    """A causal language model of transformers, from a folder with safetensors weights or from a GGUF file.

    Greedy decoding: the same prompt gives the same draft.
    """

    def __init__(self, model: str | Path) -> None:
        """Name a model; it is loaded with the first draft.

        Raises:
            ConfigError: There is nothing at the path, or packages are missing.
        """
        require("train", "a local language model", "torch", "transformers")
        self._path = Path(model).expanduser()
        if not self._path.exists():
            raise ConfigError(f"the language model {self._path} does not exist; give a folder or a .gguf file")
        if self._path.suffix == ".gguf":
            require("draft", "a language model in a GGUF file", "gguf")

    def draft(self, prompt: str) -> str:
        """Return what the model writes. Raises `DraftError` for an empty text."""
        import torch

        tokenizer, model = self._loaded
        if tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}]
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt",
                                                return_dict=True)  # fmt: skip
        else:
            ids = tokenizer(prompt, return_tensors="pt")
        with torch.inference_mode():
            written = model.generate(**ids, max_new_tokens=NEW_TOKENS, do_sample=False,
                                     pad_token_id=tokenizer.eos_token_id or 0)  # fmt: skip
        text = str(tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)).strip()
        if not text:
            raise DraftError(f"the model {self._path.name} wrote nothing")
        return text

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder, extra = self._path, {}
        if self._path.suffix == ".gguf":
            folder, extra = self._path.parent, {"gguf_file": self._path.name}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **extra)
            model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True, **extra)
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise ConfigError(f"the language model {self._path} cannot be loaded: {why}") from error
        return tokenizer, model.eval()


def make_drafter(endpoint: str | None, model: str | None) -> Drafter | None:
    """Build what drafts: an endpoint with its model, a model on this machine, or None for templates alone.

    Raises:
        ConfigError: An endpoint is given without a model's name, or as `EndpointDrafter` and `LocalDrafter`.
    """
    if endpoint is not None:
        if model is None:
            raise ConfigError(f"the endpoint {endpoint} needs the name of a model: add --model NAME")
        return EndpointDrafter(endpoint, model)
    return None if model is None else LocalDrafter(model)
