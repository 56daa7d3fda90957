"""Tuning an encoder from a shop's tables to a folder that a run may use."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from shops import write_tiny_config
from tiny_bert import WORDS, build_tiny_bert

from recsys.audit.audit import check_encoder
from recsys.cli import main
from recsys.config import load_config
from recsys.embedding.lineage import Lineage
from recsys.engine.embeddings import embed
from recsys.engine.plan import Plan
from recsys.errors import ConfigError, DataError, LeakageError, RecsysError
from recsys.finetuning.quality import improves
from recsys.jobs import finetune as job
from recsys.jobs.evaluate import evaluate
from recsys.jobs.finetune import finetune, tuning_fold
from recsys.jobs.ingest import ingest
from recsys.tables.split import holdouts

PAIRS, USERS, LAST_DAY = 12, 240, 67
DAY, START = 86_400, 1_700_000_000
ADJACENT = {"kind": "pairs", "distance": 1}
RECIPE = {"objectives": [ADJACENT | {"epochs": 20}], "batch": 32, "learning_rate": 3e-3, "checks": 2}
SPLIT = {"kind": "time", "horizon_days": 10, "folds": 1}
# Three horizons before the end, in microseconds: from here on no tuning may know what happened.
FIRST_CHANGED = 1_000_000 * (START + (LAST_DAY - 30) * DAY) + 1


def tables(seed: int, late: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each user buys an even item every 20 days, and its odd partner 8 days later: titles do not say whose it is.

    `late` changes what is bought from `FIRST_CHANGED` on.
    """
    words = [f"{one} {other}" for one, other in itertools.combinations(WORDS, 2)][: 2 * PAIRS]
    items = pl.DataFrame({"item_id": [f"i{row:02}" for row in range(2 * PAIRS)], "title": words})
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        start = int(rng.integers(20))
        for day, first in zip((start, start + 20, start + 40), 2 * rng.choice(PAIRS, 3, replace=False), strict=True):
            for item, when in ((first, day), (first + 1, day + 8)):
                second = START + int(when) * DAY
                shift = late if 1_000_000 * second >= FIRST_CHANGED else 0
                rows.append((f"u{user:03}", f"i{(item + shift) % (2 * PAIRS):02}", second))
    return items, pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def config_in(folder: Path, bert: Path, late: int = 0, **changes: Any) -> Path:
    items, events = tables(1, late)
    path = write_tiny_config(folder, bert, items, events, "time", **{"split": SPLIT, "finetune": RECIPE} | changes)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["embedding"]["whitening"] = False  # of fewer items than dimensions it leaves no likeness
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> tuple[Path, Path]:
    """The config and the encoder that the command line published."""
    folder = tmp_path_factory.mktemp("tuned")
    config = config_in(folder, bert)
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", str(config), "--out", str(folder / "encoder"), "--plot", str(folder / "curve.svg")])
    assert not stopped.value.code
    assert "pairs" in (folder / "curve.svg").read_text(encoding="utf-8")
    return config, folder / "encoder"


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def with_model(config: Path, model: Path, **changes: Any) -> Any:
    loaded = load_config(config)
    return loaded.model_copy(update={"embedding": loaded.embedding.model_copy(update={"model": str(model)}), **changes})


def test_what_behaviour_teaches_is_found_by_text(published: tuple[Path, Path]) -> None:
    _, folder = published
    found = json.loads((folder / "finetuning.json").read_text(encoding="utf-8"))
    assert found["after"]["ndcg@10"] > found["before"]["ndcg@10"] + 0.03
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| ndcg@10 | {found['before']['ndcg@10']:.4f} | {found['after']['ndcg@10']:.4f} |" in card
    assert not list(folder.glob("*.bin"))
    steps = [entry["step"] for entry in found["curves"]["0_pairs"] if "loss" in entry]
    assert steps == sorted(steps)


def test_a_run_with_the_tuned_encoder_is_allowed_and_judged(published: tuple[Path, Path]) -> None:
    config, folder = published
    report = evaluate(with_model(config, folder))
    assert report["metrics"]["engine"]["ndcg@10"] > 0
    evaluate(with_model(config, folder), validation=True)


def test_an_encoder_that_knows_the_future_of_a_cut_is_refused(published: tuple[Path, Path]) -> None:
    config, folder = published
    longer = load_config(config).split.model_copy(update={"folds": 3})
    changed = with_model(config, folder, split=longer)
    said = r"tuned on events up to 2023-12-\d\d, and this run cuts at 2023-1\d-\d\d: it would know the future"
    with pytest.raises(LeakageError, match=said):
        evaluate(changed)
    plan, read = Plan.of(changed), ingest(changed)
    folds = holdouts(read.interactions, plan.split, plan.end(read.interactions), 4)
    embeddings = embed(changed.embedding, read.catalog, changed.vector_folder)
    assert check_encoder(embeddings, folds, "time").status == "FAIL"
    assert check_encoder(embeddings, folds[:2], "time").status == "OK"


def test_nothing_after_the_cut_changes_the_encoder(tmp_path: Path, bert: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    short = RECIPE | {"objectives": [ADJACENT | {"steps": 6}], "checks": 1}
    weights = []
    for late in (0, 4):
        config = load_config(config_in(tmp_path / str(late), bert, late, finetune=short))
        assert tuning_fold(Plan.of(config), ingest(config)).as_of == FIRST_CHANGED
        # Whether it is published depends on what followed the cut; what was learned does not.
        monkeypatch.setattr(job, "improves", lambda before, after: (True, "published to be compared"))
        folder = finetune(config).folder
        assert folder is not None
        weights.append(digest(folder))
    assert weights[0] == weights[1]


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path, bert: Path) -> None:
    config = load_config(config_in(tmp_path, bert, finetune=RECIPE | {"objectives": [{"kind": "pairs", "steps": 20}],
                                                                      "checks": 4}))  # fmt: skip
    steps: list[int] = []

    def stop_after_twelve(stage: str, done: int, total: int) -> None:
        if stage == "tune the encoder: pairs" and done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(config, stop_after_twelve)
    finetune(config, lambda stage, done, total: steps.append(done) if stage.startswith("tune") else None)
    assert steps[0] == 11  # the checkpoint of step 10
    assert steps[-1] == 20
    assert not (config.folder / "finetune").exists()


def test_an_encoder_that_is_no_better_is_not_published(tmp_path: Path, bert: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    still = RECIPE | {"objectives": [{"kind": "pairs", "steps": 2}], "learning_rate": 1e-12, "checks": 1}
    config = config_in(tmp_path, bert, finetune=still)
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", str(config), "--json"])
    assert not stopped.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] is None
    assert found["before"]["ndcg@10"] == found["after"]["ndcg@10"]
    assert not (load_config(config).folder / "encoders").exists()


def test_new_items_must_not_lose() -> None:
    before = {"ndcg@10": 0.10, "new": 0.05, "rare": 0.02}
    assert improves(before, {"ndcg@10": 0.11, "new": 0.05, "rare": 0.0})[0]
    better, said = improves(before, {"ndcg@10": 0.12, "new": 0.04, "rare": 0.03})
    assert not better
    assert said == "ndcg@10 by text alone 0.1000 before and 0.1200 after, recall@10 of new items 0.0500 and 0.0400"
    assert improves({"ndcg@10": 0.1, "rare": 0.1}, {"ndcg@10": 0.2, "rare": 0.05})[0] is False
    assert improves({"ndcg@10": 0.1}, {"ndcg@10": 0.2})[0]


@pytest.mark.parametrize("changes", [{"frozen_layers": 1}, {"lora_rank": 2}])
def test_parts_of_the_encoder_can_stay_as_they_are(tmp_path: Path, bert: Path, changes: dict[str, int],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from safetensors.numpy import load_file

    recipe = RECIPE | {"objectives": [{"kind": "pairs", "steps": 4}], "checks": 1} | changes
    monkeypatch.setattr(job, "improves", lambda before, after: (True, "published to be compared"))
    folder = finetune(load_config(config_in(tmp_path, bert, finetune=recipe))).folder
    assert folder is not None
    before, after = load_file(bert / "model.safetensors"), load_file(folder / "model.safetensors")
    words = next(name for name in after if name.endswith("word_embeddings.weight"))
    assert np.array_equal(before[words], after[words])
    assert any(not np.array_equal(before[name], after[name]) for name in after)


def test_refusals(tmp_path: Path, bert: Path, published: tuple[Path, Path]) -> None:
    config, folder = published
    refused: list[tuple[Any, dict[str, Any], type[RecsysError], str]] = [
        (load_config(config), {"out": folder}, ConfigError, "encoder exists already: name another folder"),
        (with_model(config, folder), {}, ConfigError, "embedding.model is a tuned encoder"),
        (with_model(config, bert, split=load_config(config).split.model_copy(update={"folds": 9})), {}, DataError,
         "the split leaves"),
    ]  # fmt: skip
    for loaded, options, error, said in refused:
        with pytest.raises(error, match=said):
            finetune(loaded, **options)
    said = r"shop.yaml, line \d+: finetune.objectives.0.distanse: unknown setting of .pairs.; did you mean .distance"
    with pytest.raises(ConfigError, match=said):
        load_config(config_in(tmp_path, bert, finetune={"objectives": [{"kind": "pairs", "distanse": 1}]}))


def test_a_damaged_lineage_is_told(tmp_path: Path, bert: Path) -> None:
    import shutil

    folder = tmp_path / "encoder"
    shutil.copytree(bert, folder)
    (folder / "recsys.json").write_text('{"as_of": 1}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recsys.json is damaged \(KeyError\('events'\)\): tune the encoder again"):
        Lineage.read(str(folder))


@pytest.mark.parametrize(
    ("lineage", "cut", "said"),
    [
        ((None, 10), (5, 10), "tuned under another kind of split"),
        ((None, 10), (None, 9), "tuned on 10 events, and a cut of this run knows 9"),
        ((86_400_000_000, 10), (0, 99), "tuned on events up to 1970-01-02, and this run cuts at 1970-01-01"),
    ],
)
def test_lineage_refuses(lineage: Any, cut: Any, said: str) -> None:
    with pytest.raises(LeakageError, match=said):
        Lineage(*lineage, "base", 0, ("pairs",)).check(*cut)
