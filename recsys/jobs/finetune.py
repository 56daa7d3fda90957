"""Tune the encoder on the shop's texts and logs, and publish it where it finds more than it did."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recsys.arrays import FloatArray
from recsys.config import Config, FinetuneConfig
from recsys.embedding.hardware import find_device, find_precision
from recsys.embedding.lineage import Lineage
from recsys.embedding.locate import FINGERPRINT_FILES, USAGE_FILES, find_model, find_usage
from recsys.embedding.registry import load_encoder
from recsys.embedding.store import VectorStore
from recsys.embedding.texts import item_texts
from recsys.engine.embeddings import embed
from recsys.engine.plan import Plan
from recsys.errors import ConfigError
from recsys.extras import require
from recsys.finetuning.base import Corpus, Objective
from recsys.finetuning.quality import SCORE, improves, measure
from recsys.finetuning.registry import OBJECTIVES
from recsys.formatting import moment
from recsys.jobs.ingest import ingest
from recsys.progress import Progress, quiet
from recsys.ragged import offsets_of
from recsys.registry import construct
from recsys.storage import atomic
from recsys.tables.split import Fold, holdouts
from recsys.types import State, Tables

WEIGHTS = "model"
ENCODED_AT_ONCE = 64


@dataclass(frozen=True)
class Tuned:
    """What came out of a tuning.

    Attributes:
        folder: The encoder that was published; None where it is no better.
        verdict: Why, with both numbers.
        before: What `recsys.finetuning.quality.measure` says of the encoder as it was.
        after: What it says of the tuned one.
        curves: Loss and checks by step, for each objective.
        lineage: What it was tuned on.
    """

    folder: Path | None
    verdict: str
    before: dict[str, float]
    after: dict[str, float]
    curves: dict[str, list[dict[str, Any]]]
    lineage: Lineage

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"folder": None if self.folder is None else str(self.folder)}


def tuning_fold(plan: Plan, tables: Tables) -> Fold:
    """Return the cut that a tuned encoder may know: older than every cut of `evaluate`, also with `--validation`.

    Its labels are the events between it and the oldest of those cuts: what tuning is judged by.

    Raises:
        DataError: the log is too short for so many cuts.
    """
    cuts = 2 + plan.split.folds
    return holdouts(tables.interactions, plan.split, plan.end(tables.interactions), cuts, cuts)[-1]


def finetune(config: Config, progress: Progress = quiet, *, out: Path | None = None) -> Tuned:
    """Tune the encoder of a config, and publish it if validation improves and new items lose nothing.

    It learns from what was known before every cut of `evaluate`, so a run may judge it. A run that was killed goes on
    from its last checkpoint.

    Args:
        config: The run; `finetune` says what to learn and how.
        progress: Shows progress.
        out: The folder to publish to. Default: `encoders/` and the time, in `config.folder`.

    Returns:
        What came out.

    Raises:
        ConfigError: a package is missing, the encoder is no transformer, `out` exists, or a setting is wrong.
        DataError: as `ingest`; the log is too short, or an objective finds nothing to learn from.
    """
    require("finetune", "recsys finetune")
    settings = config.finetune
    if config.embedding.encoder != "transformer" or config.embedding.precision == "int8":
        raise ConfigError("recsys finetune tunes a transformer in floats: set embedding.encoder and precision so")
    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already: name another folder with --out")
    if Lineage.read(config.embedding.model) is not None:
        raise ConfigError("embedding.model is a tuned encoder: name the one it started from, and tune that")
    objectives = [_objective(place, one) for place, one in enumerate(settings.objectives)]
    plan, tables = Plan.of(config), ingest(config, progress)
    fold = tuning_fold(plan, tables)
    base = find_model(config.embedding.model)
    fingerprint = load_encoder(config.embedding).fingerprint
    lineage = Lineage(fold.as_of, len(fold.known), fingerprint, config.seed, tuple(one.name for one in objectives))
    run = _Run(config, plan, tables, fold, settings)
    before = run.measure_folder(str(base))
    key = hashlib.sha256(
        json.dumps([asdict(lineage), config.model_dump(mode="json")], default=str).encode()
    ).hexdigest()
    work = config.folder / "finetune" / key[:16]
    curves: dict[str, list[dict[str, Any]]] = {}
    folder = base
    for place, objective in enumerate(objectives):
        stage = work / f"{place}_{objective.name}"
        curves[stage.name] = run.stage(objective, folder, stage, progress)
        folder = stage / "whole"
    after = run.measure_folder(str(folder))
    better, verdict = improves(before, after)
    published = None
    if better:
        published = out or config.folder / "encoders" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        found = Tuned(published, verdict, before, after, curves, lineage)
        _publish(folder, published, found, config, fold, tables)
    shutil.rmtree(work)
    with contextlib.suppress(OSError):  # another run's stages may lie there
        work.parent.rmdir()
    return Tuned(published, verdict, before, after, curves, lineage)


def _objective(place: int, raw: Mapping[str, Any]) -> Objective:
    settings = {key: value for key, value in raw.items() if key != "kind"}
    built: Objective = construct(OBJECTIVES, raw.get("kind", ""), settings, f"finetune.objectives.{place}")
    return built


@dataclass(frozen=True, eq=False)
class _Run:
    """What the stages share."""

    config: Config
    plan: Plan
    tables: Tables
    fold: Fold
    settings: FinetuneConfig

    def measure_folder(self, model: str) -> dict[str, float]:
        """Measure an encoder by the path that every run takes."""
        settings = self.config.embedding.model_copy(update={"model": model, "whitening": False})
        encoder = load_encoder(settings)
        texts = item_texts(self.tables.catalog, settings.text, settings.html)
        return self._measured(VectorStore(self.config.vector_folder).encode(texts, encoder))

    def _measured(self, raw: FloatArray) -> dict[str, float]:
        return measure(raw, self.tables.catalog, self.fold, whitening=self.config.embedding.whitening,
                       drop_seen=self.plan.drop_seen, users=self.settings.users, seed=self.config.seed)  # fmt: skip

    def stage(self, objective: Objective, base: Path, folder: Path, progress: Progress) -> list[dict[str, Any]]:
        """Run one stage, unless it is done; leave the whole encoder in `folder/whole`."""
        whole = folder / "whole"
        if whole.is_dir():
            curve: list[dict[str, Any]] = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
            return curve
        from recsys.finetuning.training import Recipe, run_stage

        folder.mkdir(parents=True, exist_ok=True)
        embedding, own = self.config.embedding, self.settings
        device = find_device(embedding.device)
        precision = find_precision(embedding.precision, device) if own.precision == "auto" else own.precision
        recipe = Recipe(own.batch, own.learning_rate, own.warm_up, own.frozen_layers, own.lora_rank,
                        precision == "bfloat16", device, own.checks, own.patience, SCORE, self.config.seed)  # fmt: skip
        corpus = self._corpus(base)

        def check(encoder: Any) -> Mapping[str, float]:
            return self._measured(_encode(encoder, corpus))

        pooling = find_usage(embedding, base).pooling
        curve = run_stage(objective, corpus, base, pooling, recipe, folder, check, progress)
        aside = folder / "assembled"
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(folder / WEIGHTS, aside)
        for pattern in FINGERPRINT_FILES:
            for path in base.glob(pattern):
                if path.suffix != ".safetensors" and path.name != "config.json" and ".safetensors" not in path.name:
                    shutil.copy2(path, aside / path.name)
        for name in USAGE_FILES:
            if (base / name).is_file():
                (aside / name).parent.mkdir(exist_ok=True)
                shutil.copy2(base / name, aside / name)
        aside.rename(whole)
        return curve

    def _corpus(self, base: Path) -> Corpus:
        from transformers import AutoTokenizer

        settings = self.config.embedding.model_copy(update={"model": str(base)})
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        texts = item_texts(self.tables.catalog, settings.text, settings.html)
        prefix = find_usage(settings, base).prefix
        valid = [(prefix + text).encode("utf-8", "replace").decode() for text in texts]
        ids = tokenizer(valid, truncation=True, max_length=self.settings.max_tokens, verbose=False)["input_ids"]
        offsets = offsets_of(np.array([len(one) for one in ids], dtype=np.int64))
        tokens = np.concatenate([np.asarray(one, dtype=np.int64) for one in ids])
        vectors = embed(settings, self.tables.catalog, self.config.vector_folder).items
        state = State(self.tables.catalog, self.fold.known, vectors, self.fold.as_of)
        return Corpus(state, tokens, offsets, tokenizer.pad_token_id or 0, tokenizer.mask_token_id,
                        frozenset(tokenizer.all_special_ids), len(tokenizer), self.plan.drop_seen)  # fmt: skip


def _encode(encoder: Any, corpus: Corpus) -> FloatArray:
    """Encode the texts of the catalogue with an encoder that is being tuned, longest first `(I, d)`."""
    import torch

    device = next(encoder.parameters()).device
    order = np.argsort(-np.diff(corpus.offsets), kind="stable")
    parts = []
    with torch.inference_mode():
        for start in range(0, len(order), ENCODED_AT_ONCE):
            texts = corpus.pad(order[start : start + ENCODED_AT_ONCE])
            batch = {name: torch.from_numpy(array).to(device) for name, array in texts.items()}
            parts.append(encoder(**batch).float().cpu().numpy())
    features: FloatArray = np.concatenate(parts)[np.argsort(order)]
    return features


def _publish(model: Path, folder: Path, tuned: Tuned, config: Config, fold: Fold, tables: Tables) -> None:
    """Write the encoder's folder whole: weights, tokenizer, lineage and model card, or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(model, aside)
    tuned.lineage.write(aside)
    (aside / "README.md").write_text(_card(tuned, config, fold, tables), encoding="utf-8")
    (aside / "finetuning.json").write_text(
        json.dumps(replace(tuned, folder=None).to_dict(), indent=1), encoding="utf-8"
    )
    for path in aside.iterdir():
        atomic.sync(path)
    aside.rename(folder)
    atomic.sync(folder.parent)


def _card(tuned: Tuned, config: Config, fold: Fold, tables: Tables) -> str:
    """The model card: what it was tuned on, how, and how good it is."""
    first, last = (moment(int(when), tables.clock) for when in (fold.known.time.min(), fold.known.time.max()))
    rows = "\n".join(f"| {name} | {tuned.before[name]:.4f} | {tuned.after[name]:.4f} |" for name in tuned.before)
    objectives = "\n".join(f"- {one}" for one in config.finetune.objectives)
    usage = find_usage(config.embedding, find_model(config.embedding.model))
    table = f"| | before | after |\n|---|---:|---:|\n{rows}\n"
    return (
        f"# An encoder tuned for {config.name}\n\n"
        f"Made by `recsys finetune` from `{config.embedding.model}` "
        f"(fingerprint {tuned.lineage.base[:12]}), pooling {usage.pooling}, seed {config.seed}.\n\n"
        f"Learned from {len(fold.known):,} events from {first} to {last}, and knows nothing later. Objectives:\n\n"
        f"{objectives}\n\nFound by text alone, of what users did next:\n\n{table}"
    )
