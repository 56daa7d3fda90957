"""Which device and precision a machine offers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_bert import config_for

from recsys.embedding import hardware
from recsys.embedding.registry import load_encoder
from recsys.errors import ConfigError


def test_a_device_that_is_not_there(tiny_model: Path) -> None:
    import torch

    absent = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(ConfigError, match=rf"embedding\.device is '{absent}', and torch .* sees no such device"):
        load_encoder(config_for(tiny_model, device=absent)).encode(["x"])


def test_automatic_device_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert hardware.find_device("auto") == expected
    assert hardware.find_device("cuda:1") == "cuda:1"
    assert hardware.find_precision("auto", "cuda") == "float16"
    assert hardware.find_precision("auto", "cpu") in ("float32", "bfloat16")
    assert hardware.find_precision("float32", "cuda") == "float32"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert hardware.find_device("auto") == "mps"
