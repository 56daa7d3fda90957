"""One stage of tuning: an objective, run by the trainer of transformers. Checkpoints, resumes, stops early."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from recsys.arrays import LongArray
from recsys.embedding.pooling import Pooled, load_pooled
from recsys.finetuning.base import Corpus, Objective
from recsys.finetuning.losses import Loss
from recsys.progress import Progress

Measure = Callable[[Pooled], Mapping[str, float]]


@dataclass(frozen=True)
class Recipe:
    """How every stage learns.

    Attributes:
        batch: Examples a step.
        learning_rate: The highest rate; it rises over `warm_up` of the steps and falls to 0 after that.
        warm_up: Share of the steps.
        frozen_layers: Lower layers that stay as they are, the word vectors among them; 0 tunes everything.
        lora_rank: Rank of low-rank updates in place of the weights themselves; 0 for none.
        bfloat16: Whether to compute in bfloat16.
        device: `cpu` or a CUDA device.
        checks: How often a stage is measured on validation.
        patience: Checks without improvement after which a stage ends.
        score: The measure that decides.
        seed: Seeds everything that is drawn at random.
    """

    batch: int
    learning_rate: float
    warm_up: float
    frozen_layers: int
    lora_rank: int
    bfloat16: bool
    device: str
    checks: int
    patience: int
    score: str
    seed: int


def run_stage(objective: Objective, corpus: Corpus, base: Path, pooling: str, recipe: Recipe, folder: Path,
              measure: Measure, progress: Progress) -> list[dict[str, Any]]:  # fmt: skip
    """Tune an encoder for one objective; resumes where a killed run left its checkpoint.

    Args:
        objective: What to learn.
        corpus: What to learn from.
        base: Folder of the encoder to start from.
        pooling: `cls` or `mean`.
        recipe: How to learn.
        folder: Where checkpoints and, under `model/`, the tuned weights go.
        measure: Measures an encoder on validation.
        progress: Shows progress.

    Returns:
        The curve: the loss and each check by step.

    Raises:
        DataError: as `Objective.examples`.
    """
    rng = np.random.default_rng(recipe.seed)
    examples = objective.examples(corpus, rng)
    with _quiet():
        encoder = load_pooled(base, pooling)
    _freeze(encoder, recipe.frozen_layers)
    if recipe.lora_rank:
        encoder.transformer = _with_lora(encoder.transformer, recipe.lora_rank)
    loss = objective.loss(corpus, encoder.train())
    per_epoch = -(-len(examples) // recipe.batch)
    steps = max(1, round(objective.epochs * per_epoch))
    steps = min(steps, objective.steps or steps)
    every = max(1, -(-steps // recipe.checks))
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"), max_steps=steps, per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.learning_rate, warmup_steps=round(recipe.warm_up * steps), lr_scheduler_type="linear",
        eval_strategy="steps", eval_steps=every, save_strategy="steps", save_steps=every, save_total_limit=2,
        load_best_model_at_end=True, metric_for_best_model=recipe.score, greater_is_better=True,
        logging_steps=max(1, every // 5), bf16=recipe.bfloat16, use_cpu=recipe.device == "cpu", seed=recipe.seed,
        data_seed=recipe.seed, remove_unused_columns=False, report_to=[], disable_tqdm=True, label_names=[],
        dataloader_drop_last=False,
    )  # fmt: skip
    callbacks = [EarlyStoppingCallback(recipe.patience), _Reporting(objective.name, progress)]
    with _quiet():
        trainer = _StageTrainer(
            measure, model=loss, args=arguments, train_dataset=_Rows(examples), eval_dataset=_Rows(examples[:1]),
            data_collator=_Collator(objective, corpus, rng), callbacks=callbacks,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        began = get_last_checkpoint(str(folder / "checkpoints")) if (folder / "checkpoints").is_dir() else None
        trainer.train(resume_from_checkpoint=began)
        tuned = encoder.transformer.merge_and_unload() if recipe.lora_rank else encoder.transformer
        tuned.float().cpu().save_pretrained(folder / "model", safe_serialization=True)
    curve = [dict(entry) for entry in trainer.state.log_history]
    (folder / "curve.json").write_text(json.dumps(curve, indent=1), encoding="utf-8")
    return curve


class _Rows(torch.utils.data.Dataset[LongArray]):
    """The examples as a data set."""

    def __init__(self, examples: LongArray) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, row: int) -> LongArray:
        return self._examples[row]


class _Collator:
    """Turns examples into the tensors of a loss."""

    def __init__(self, objective: Objective, corpus: Corpus, rng: np.random.Generator) -> None:
        self._objective, self._corpus, self._rng = objective, corpus, rng

    def __call__(self, examples: list[LongArray]) -> dict[str, torch.Tensor]:
        arrays = self._objective.collate(self._corpus, np.stack(examples), self._rng)
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


class _StageTrainer(Trainer):  # type: ignore[misc]
    """The trainer, with checks on validation in place of a loss on held-out examples."""

    def __init__(self, measure: Measure, **settings: Any) -> None:
        super().__init__(**settings)
        self._measure = measure

    def evaluate(self, *args: Any, **settings: Any) -> dict[str, float]:
        """Measure the encoder as it is now."""
        model: Loss = self.accelerator.unwrap_model(self.model)
        encoder = model.encoder
        encoder.eval()
        found = {f"eval_{name}": value for name, value in self._measure(encoder).items()}
        model.train()
        self.log(found)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


class _Reporting(TrainerCallback):  # type: ignore[misc]
    """Shows progress step by step."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress

    def on_step_end(self, args: Any, state: Any, control: Any, **settings: Any) -> None:
        """Report a step."""
        self._progress(f"tune the encoder: {self._name}", state.global_step, state.max_steps)


def _layers(transformer: Any) -> Any:
    """The stack of layers of a BERT-like model: its longest list of modules."""
    stacks = [module for module in transformer.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(stacks, key=len)


def _freeze(encoder: Pooled, layers: int) -> None:
    """Keep the word vectors and the lower layers as they are."""
    if not layers:
        return
    frozen = [encoder.transformer.get_input_embeddings(), *_layers(encoder.transformer)[:layers]]
    for module in frozen:
        for parameter in module.parameters():
            parameter.requires_grad = False


def _with_lora(transformer: Any, rank: int) -> Any:
    """Tune low-rank updates of all linear layers in place of the weights (Hu et al. 2021, "LoRA", arXiv 2106.09685)."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(transformer, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the trainer's own lines off stderr: progress and curve say the same."""
    messages = transformers.utils.logging
    had, level = messages.get_verbosity(), logging.getLogger("accelerate").level
    bars = messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    try:
        yield
    finally:
        messages.set_verbosity(had)
        if bars:
            messages.enable_progress_bar()
        logging.getLogger("accelerate").setLevel(level)
