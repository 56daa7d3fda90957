"""Which device and precision a machine offers."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import platform
import re
import runpy
import sys
from pathlib import Path

from recsys.errors import ConfigError

INT8_PACKAGES = ("onnxruntime", "onnx")  # of the extra `int8`


def _find_device(asked: str) -> str:
    """The device that `auto` means here, told without importing torch."""
    if asked != "auto":
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", asked):
            raise ConfigError(f"embedding.device: unknown device {asked!r}; known: auto, cpu, mps, cuda, cuda:N")
        return asked
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    spec = importlib.util.find_spec("torch")
    count = ctypes.c_int(0)
    with contextlib.suppress(OSError):  # no torch, no driver: no GPU
        version = Path((spec and spec.origin) or "").with_name("version.py")
        if not runpy.run_path(str(version))["cuda"]:  # a build of torch without CUDA
            return "cpu"
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) == 0:
            driver.cuDeviceGetCount(ctypes.byref(count))
    return "cuda" if count.value else "cpu"


def _int8_device(asked: str) -> str:
    """The device of int8, checked for what it needs."""
    if asked not in ("auto", "cpu"):
        raise ConfigError(f"embedding.precision is int8, which runs on the CPU, and embedding.device is {asked!r}")
    lacking = [name for name in INT8_PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(
            f"embedding.precision is int8, and {' and '.join(lacking)} is not installed: pip install 'recsys[int8]', "
            "or set precision to auto"
        )
    return "cpu"


def _find_precision(asked: str, device: str) -> str:
    """The precision that `auto` means on a device: half where its hardware computes in it, else float32."""
    if asked != "auto":
        return asked
    if device != "cpu":
        return "float16"
    flags = Path("/proc/cpuinfo")
    fast = flags.is_file() and re.search(r"\b(amx|avx512)_bf16\b", flags.read_text(encoding="utf-8"))
    return "bfloat16" if fast else "float32"
