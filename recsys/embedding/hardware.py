"""Which device and precision a machine offers."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import platform
import re
import runpy
import sys
from pathlib import Path

from recsys import extras
from recsys.errors import ConfigError


def find_device(configured: str) -> str:
    """Resolve `embedding.device` without importing torch.

    Args:
        configured: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.

    Returns:
        The device; for `auto` the GPU that both the driver and the installed torch support, else `cpu`.

    Raises:
        ConfigError: The device is none of these.
    """
    if configured != "auto":
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", configured):
            raise ConfigError(f"embedding.device: unknown device {configured!r}; known: auto, cpu, mps, cuda, cuda:N")
        return configured
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "cpu"
    count = ctypes.c_int(0)
    with contextlib.suppress(OSError):  # no driver: no GPU
        version = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
        if not version["cuda"]:  # a build of torch without CUDA
            return "cpu"
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) == 0:
            driver.cuDeviceGetCount(ctypes.byref(count))
    return "cuda" if count.value else "cpu"


def check_int8(device: str) -> None:
    """Check that this machine can run `embedding.precision: int8`.

    Args:
        device: The configured `embedding.device`.

    Raises:
        ConfigError: The device is a GPU, or a package is missing.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"embedding.precision is int8, which runs on the CPU, and embedding.device is {device!r}")
    extras.require("int8", "embedding.precision: int8")


def find_precision(configured: str, device: str) -> str:
    """Resolve `embedding.precision`.

    Args:
        configured: `auto`, or a precision, which is returned unchanged.
        device: As `find_device` returns it.

    Returns:
        For `auto`: `float16` on a GPU, `bfloat16` on a CPU that computes in it, else `float32`.
    """
    if configured != "auto":
        return configured
    if device != "cpu":
        return "float16"
    flags = Path("/proc/cpuinfo")
    fast = flags.is_file() and re.search(r"\b(amx|avx512)_bf16\b", flags.read_text(encoding="utf-8"))
    return "bfloat16" if fast else "float32"
