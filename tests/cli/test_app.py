"""The command line: answers on stdout, the rest on stderr, and an exit code for each kind of trouble."""

from __future__ import annotations

import json
import re
import shutil
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest
import yaml
from shops import ROOT, Shop, write_shop_config

from recsys.cli import console, doctor, main
from recsys.cli.demo import shortest
from recsys.cli.learn import DEMO_CONFIG
from recsys.errors import ArtifactError, ConfigError, DataError, LeakageError, RecsysError, RequestError, UnknownIdError

COMMANDS = ["demo", "init", "check", "profile", "train", "update", "evaluate", "audit", "score", "explain", "similar",
            "search", "candidates", "inspect", "versions", "rollback", "prune", "forget", "doctor", "ask",
            "copy"]  # fmt: skip
USER, ITEM = "u029", "i001"


class Runner:
    """Runs a command in this process; returns exit code, stdout and stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: object) -> tuple[int, str, str]:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        out, err = self._capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    def json(self, *args: object) -> dict:
        code, out, err = self(*args, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def recsys(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def ask(recsys: Runner, shop: Shop):
    """Run a command that reads the shop's bundle."""
    return lambda *args: recsys(*args, "--bundle", shop.folder)


@pytest.fixture
def ask_json(recsys: Runner, shop: Shop):
    return lambda *args: recsys.json(*args, "--bundle", shop.folder)


# Help


def test_help_names_every_command_and_exit_code(recsys: Runner) -> None:
    code, out, err = recsys("--help")
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert f" {name} " in out
    flat = " ".join(out.split())
    family = {1: RecsysError, 3: ConfigError, 4: DataError, 5: ArtifactError, 6: UnknownIdError, 7: RequestError}
    assert all(error.exit_code == code for code, error in family.items())
    assert LeakageError.exit_code == DataError.exit_code
    assert (
        "0 fine · 1 another error · 2 wrong usage · 3 config · 4 data · 5 bundle or store · 6 unknown id · 7 request"
        in flat
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_that_parses(recsys: Runner, command: str) -> None:
    code, out, _ = recsys(command, "--help")
    assert code == 0
    assert f"Example: recsys {command}" in " ".join(out.split())


def test_recommend_is_another_name_of_score(ask_json) -> None:
    first, second = (ask_json(name, USER, "--k", 3) for name in ("score", "recommend"))
    assert [item["item_id"] for item in first["items"]] == [item["item_id"] for item in second["items"]]


def test_version(recsys: Runner) -> None:
    assert recsys("--version") == (0, f"recsys {metadata.version('recsys')}\n", "")


# Answers


def test_train_prints_the_bundle_alone_on_stdout(shop: Shop) -> None:
    assert shop.version.parent == shop.folder / "versions"
    assert (shop.folder / "CURRENT").read_text().strip() == shop.version.name
    assert "recsys score USER_ID --config" in shop.stderr


def test_score_shows_history_then_reasons(ask) -> None:
    code, out, err = ask("score", USER, "--k", 5)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "User u029: the newest 10 of 23 events"
    assert re.search(r"^2025-07-19 +i338 ", lines[2])  # the last event of that user in data/shop
    first = next(line for line in lines if re.match(r" +1 ", line))
    assert re.search(r"i\d{3} .* -?\d+\.\d{3} .*(history|had|popular).* \w+:\d+", first)
    assert sum(bool(re.match(r" +\d+ +i\d{3} ", line)) for line in lines) == 5


def test_score_json(ask_json) -> None:
    told = ask_json("score", USER, "--k", 7)
    assert told["user_id"] == USER
    assert told["fallback"] is False
    assert [item["rank"] for item in told["items"]] == [1, 2, 3, 4, 5, 6, 7]
    assert {"item_id", "title", "score", "sources", "reasons"} <= told["items"][0].keys()
    assert told["history"][0] == {"item_id": "i338", "title": "余烬公道杯", "time": "2025-07-19T23:57:57+00:00"}


def test_explain_an_item_of_the_list(ask, ask_json) -> None:
    first = ask_json("score", USER)["items"][0]
    told = ask_json("explain", USER, first["item_id"])
    assert told["user_id"] == USER
    assert (told["why_not"]["stage"], told["why_not"]["rank"]) == ("in the list", 1)
    found = told["explanation"]
    assert (found["item_id"], found["score"], found["sources"]) == (first["item_id"], first["score"], first["sources"])
    assert list(found["contributions"])[:3] == list(first["reasons"])
    code, out, err = ask("explain", USER, first["item_id"])
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{first['title']} ({first['item_id']}) for user {USER}, list of 10: in the list"
    assert lines[1].startswith("It is in the list, at place 1: proposed by ")
    name, amount = next(iter(found["contributions"].items()))
    assert re.search(rf"^{re.escape(name)} +{re.escape(f'{amount:+.3f}')} +█{{24}}", out, re.MULTILINE)
    cause = found["because"][0]
    effect = re.escape(f"{cause['effect']:+.3f}")
    assert re.search(rf"\({cause['item_id']}\) +{effect} +█{{24}}$", out, re.MULTILINE)
    # The table's own rows sum to the score, but for rounding to three digits.
    shown = out[out.index("the mean candidate") : out.index("How far")]
    amounts = [float(number) for number in re.findall(r" ([+-]\d+\.\d{3})\b", shown)]
    assert len(amounts) == 13
    assert sum(amounts[:-1]) == pytest.approx(amounts[-1], abs=0.007)
    assert amounts[-1] == pytest.approx(first["score"], abs=0.0006)


def test_explain_why_not(ask, ask_json) -> None:
    below = ask_json("score", USER, "--k", 30)["items"][-1]["item_id"]
    told = ask_json("explain", USER, below, "--k", 5)["why_not"]
    assert (told["stage"], told["rank"]) == ("ranked below k", 30)
    code, out, err = ask("explain", USER, below, "--k", 5)
    assert (code, err) == (0, "")
    assert " ".join(told["text"].split()) in " ".join(out.split())
    assert f"What each feature gives {told['kth']['title']}, at place 5, more than it" in out
    ahead = f"{told['kth']['score'] - told['score']:+.3f}"
    assert re.search(rf"^ahead by +{re.escape(ahead)} ", out, re.MULTILINE)
    assert "How far each retriever" not in out
    last = ask_json("score", USER, "--k", 344)["items"][-1]["item_id"]
    reached = ask_json("explain", USER, last)["why_not"]["retrievers"]["semantic"]
    code, out, _ = ask("explain", USER, last)
    assert out.splitlines()[0].endswith(": not retrieved")
    assert re.search(rf"^semantic +{reached['place']} +{reached['depth']} ", out, re.MULTILINE)
    assert re.search(r"^repeat +never +30 +0 ", out, re.MULTILINE)


def test_explain_wants_known_ids(ask) -> None:
    for ids, said in [(("u999", ITEM), "user 'u999'"), ((USER, "i999"), "'i999'")]:
        code, out, err = ask("explain", *ids)
        assert (code, out) == (6, "")
        assert said in err


def test_more_than_the_catalogue_holds_is_told(recsys: Runner, shop: Shop) -> None:
    code, out, err = recsys("score", USER, "--k", 1000, "--json", "--bundle", shop.folder)
    assert code == 0
    assert len(json.loads(out)["items"]) == 344
    assert err == "344 of 1000 items could be given: the catalogue holds 344 items\n"


def test_score_of_a_part_of_the_catalogue(ask, ask_json) -> None:
    asked = "score", USER, "--k", 8
    whole = [item["item_id"] for item in ask_json(*asked)["items"]]
    told = ask_json(*asked, "--exclude", whole[0], "--exclude", whole[2], "--where", "price < 10", "--diversity", 0.4)
    shown = [item["item_id"] for item in told["items"]]
    assert len(shown) == 8
    assert not {whole[0], whole[2]} & set(shown)
    prices = dict(pl.read_csv(ROOT / "data" / "shop" / "items.csv").select("item_id", "price").iter_rows())
    assert all(prices[item] < 10 for item in shown)
    assert max(prices[item] for item in whole) >= 10
    code, out, err = ask(*asked, "--where", "pric < 30")
    assert (code, out) == (7, "")
    assert "where: the catalogue has no column 'pric'; did you mean 'price'?" in err
    code, _, err = ask(*asked, "--where", "item_id in ('i001', 'i002')")
    assert (code, "2 of 8 items could be given: the catalogue holds 344 items, 2 meet the filter" in err) == (0, True)


def test_unknown_user_is_an_error_or_a_flagged_fallback(ask, recsys: Runner, shop: Shop) -> None:
    code, out, err = ask("score", "u999")
    assert (code, out) == (6, "")
    assert "user 'u999' is not among the 600 users of this bundle" in err
    code, out, err = recsys("score", "u999", "--fallback", "--json", "--bundle", shop.folder)
    told = json.loads(out)
    assert (code, told["fallback"], told["history"], len(told["items"])) == (0, True, [], 10)
    assert "what is popular" in err
    code, out, _ = ask("score", "u999", "--fallback")
    assert code == 0
    assert "popular" in out


def test_an_id_may_start_with_a_dash(recsys: Runner, shop: Shop) -> None:
    code, _, err = recsys("score", "--bundle", shop.folder, "--", "-7")
    assert code == 6
    assert "user '-7'" in err


def test_similar(ask, ask_json) -> None:
    told = ask_json("similar", ITEM, "--k", 4)
    assert told["item_id"] == ITEM
    assert len(told["items"]) == 4
    assert ITEM not in [item["item_id"] for item in told["items"]]
    scores = [item["score"] for item in told["items"]]
    assert scores == sorted(scores, reverse=True)
    code, out, _ = ask("similar", ITEM, "--k", 4)
    assert code == 0
    assert out.startswith("Like i001\n")


def test_unknown_item(ask) -> None:
    code, out, err = ask("similar", "i999")
    assert (code, out) == (6, "")
    assert "'i999'" in err


def test_search_finds_an_item_by_its_own_text(ask_json) -> None:
    told = ask_json("search", "Aurora sleeping bag Outdoor > Camping Aurora sleeping bag, Camping", "--k", 20)
    assert len(told["items"]) == 20
    assert "sleeping bag" in " ".join(item["title"] for item in told["items"])


def test_candidates(ask_json, ask, shop: Shop, tmp_path: Path) -> None:
    told = ask_json("candidates", "--out", tmp_path / "out", "--k", 3, "--shard-users", 250)
    assert {key: told[key] for key in ("users", "rows", "shards", "k")} == {
        "users": 600,
        "rows": 1800,
        "shards": 3,
        "k": 3,
    }
    assert pl.read_parquet(tmp_path / "out" / "*.parquet").height == 1800
    code, out, err = ask("candidates", "--out", tmp_path / "out", "--k", 4)
    assert (code, out) == (5, "")
    assert "k was 3 and is 4" in err
    code, out, err = ask("candidates", "--out", tmp_path / "again", "--k", 3)
    assert (code, out.strip()) == (0, str(tmp_path / "again"))
    assert "1,800 rows for 600 users in 1 shard:" in err


def test_inspect(ask, ask_json, shop: Shop) -> None:
    told = ask_json("inspect")
    assert (told["model_version"], told["counts"]["users"]) == (shop.version.name, 600)
    code, out, _ = ask("inspect")
    assert code == 0
    flat = " ".join(out.split())
    assert "events of 600 users on 344 items, 2025-01-01 to 2025-07-19" in flat
    assert "every checksum matches" in flat
    assert "vectors.npy" in flat


def test_inspect_names_other_versions(recsys: Runner, shop: Shop, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(shop.folder, root)
    shutil.copytree(root / "versions" / shop.version.name, root / "versions" / "20200101T000000-old")
    told = recsys.json("inspect", "--bundle", root)
    assert told["versions"] == ["20200101T000000-old", shop.version.name]
    _, out, _ = recsys("inspect", "--bundle", root)
    assert re.search(r"other versions +20200101T000000-old", out)
    _, out, _ = recsys("inspect", "--bundle", shop.version)  # one version by its own folder
    assert re.search(r"other versions +none", out)


def test_versions_rollback_and_prune(recsys: Runner, shop: Shop, tmp_path: Path) -> None:
    root, name = tmp_path / "root", shop.version.name
    shutil.copytree(shop.folder, root)
    old = ["20200101T000000000000-1a", "20210101T000000000000-2b"]
    for version in old:
        shutil.copytree(shop.version, root / "versions" / version)
    (root / "versions" / old[0] / "manifest.json").write_text("{")
    told = recsys.json("versions", "--bundle", root)
    assert [(one["version"], one["current"]) for one in told] == [(old[0], False), (old[1], False), (name, True)]
    made = json.loads((shop.version / "manifest.json").read_text())["created_at"]
    assert told[2]["created_at"] == told[1]["created_at"] == made
    code, out, _ = recsys("versions", "--bundle", root)
    assert code == 0
    assert re.search(rf"^{old[0]} +damaged ", out, re.MULTILINE)
    assert re.search(rf"^{name} +{re.escape(made)} +[\d.]+ kB +current$", out, re.MULTILINE)
    assert recsys("rollback", "--bundle", root) == (0, f"{root / 'versions' / old[1]}\n", "")
    code, _, err = recsys("rollback", "--bundle", root)
    assert code == 5
    assert "manifest.json is damaged" in err
    assert recsys.json("rollback", name, "--bundle", root) == {"bundle": str(root / "versions" / name), "version": name}
    assert recsys.json("rollback", "--bundle", root)["version"] == old[1]
    assert recsys("prune", "--keep", 1, "--bundle", root) == (0, f"{old[0]}\n", "")
    assert recsys("prune", "--keep", 1, "--bundle", root) == (0, "", "")
    assert recsys.json("rollback", name, "--bundle", root)["version"] == name
    assert recsys.json("prune", "--keep", 1, "--bundle", root) == {"deleted": [old[1]]}
    assert recsys("prune", "--bundle", root)[0] == recsys("prune", "--keep", 0, "--bundle", root)[0] == 2
    code, _, err = recsys("versions", "--bundle", shop.version)  # a version has none of its own
    assert code == 5
    assert "holds no bundle" in err


def test_the_bundle_of_a_config(recsys: Runner, shop: Shop) -> None:
    assert recsys.json("inspect", "--config", shop.config)["model_version"] == shop.version.name


def test_evaluate(recsys: Runner, shop: Shop) -> None:
    told = recsys.json("evaluate", shop.config)
    assert set(told["metrics"]) == {"engine", "popularity", "item_knn", "repeat"}
    assert 0.3 < told["metrics"]["engine"]["recall@10"] <= 1
    assert told["metrics"]["engine"]["ndcg@10"] > told["metrics"]["popularity"]["ndcg@10"]
    code, out, _ = recsys("evaluate", shop.config, "--validation")
    assert code == 0
    assert re.search(r"^engine( +0\.\d{4}){5} ", out, re.MULTILINE)
    assert re.search(r"^in the list +\d+\.\d% +\d+\.\d% to \d+\.\d%$", out, re.MULTILINE)
    assert re.search(r"best baseline, \w+: \+0\.\d{4} \(95% interval \+0\.\d{4} to \+0\.\d{4}", out)
    for told_text in (
        "Where targets are lost",
        "all together",
        "all, 5 times as deep",
        "Users by the events known",
        "Targets by the events known",
        "Targets by the days since",
    ):
        assert told_text in out


def test_the_demo_names_its_config_as_one_would_write_it_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert shortest(DEMO_CONFIG) == Path("configs/demo.yaml")
    monkeypatch.chdir(tmp_path)
    assert shortest(DEMO_CONFIG) == DEMO_CONFIG
    (tmp_path / "mine.yaml").touch()
    assert shortest(tmp_path / "mine.yaml") == Path("mine.yaml")


def test_demo(recsys: Runner, tmp_path: Path, tiny_model: Path) -> None:
    config = write_shop_config(tmp_path, tiny_model)
    code, out, err = recsys("demo", "--config", config)
    assert code == 0
    for number in range(1, 7):
        assert f"\n{number}. " in err
    assert "7,838 purchases and 1,944 views by 600 users of 338 items" in err
    assert out.count("Recommended: ") == 3
    user = re.search(r"score (\w+) --config", out)
    assert user
    assert recsys("score", user[1], "--config", config)[0] == 0
    told = recsys.json("demo", "--config", config)
    assert len(told["users_shown"]) == 3
    assert told["ingest"]["interactions"]["users"] == 600
    shown = told["users_shown"][0]
    assert all({"why", "followed", "rank"} <= item.keys() for item in shown["items"])
    manifest = recsys.json("inspect", "--config", config)
    assert manifest["metrics"]["ndcg@10"] == told["metrics"]["engine"]["ndcg@10"]
    # The published engine is the one that was judged: it knows none of the 600 last events.
    assert manifest["counts"]["events"] == 9042


# Doctor


def test_doctor(recsys: Runner) -> None:
    checks = {check["name"]: check for check in recsys.json("doctor")}
    assert checks["faiss"]["status"] == "OK"
    assert "numpy" in checks["packages"]["text"]
    assert {"torch", "encoder", "cores", "memory", "disk", "faiss gpu"} <= checks.keys()
    code, out, _ = recsys("doctor")
    assert code == 0
    assert re.search(r"^OK    faiss: faiss-\w+ \d", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        (["faiss-cpu", "faiss-gpu"], "share the module `faiss` and break each other: pip uninstall"),
        ([], "not installed"),
    ],
)
def test_doctor_wants_exactly_one_faiss(
    recsys: Runner, monkeypatch: pytest.MonkeyPatch, installed: list[str], said: str
) -> None:
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"faiss": installed})
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.0")
    code, out, _ = recsys("doctor")
    assert code == 1
    assert re.search(rf"^FAIL  faiss: .*{re.escape(said)}", out, re.MULTILINE)


# Trouble


def test_usage_errors(recsys: Runner, shop: Shop) -> None:
    for args, said in [
        (["score"], "USER_ID"),
        (["score", USER, "--k", "0"], "greater than or equal to 1"),
        (["scor", USER], "score"),
        (["similar", ITEM, "--bundle", str(shop.folder), "--config", str(shop.config)], "not both"),
        (["search", " "], "empty"),
    ]:
        code, out, err = recsys(*args)
        assert (code, out) == (2, ""), args
        assert said.lower() in err.lower()


def test_config_errors(recsys: Runner, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = recsys("train", shop.config.with_name("shpo.yaml"))
    assert (code, out) == (3, "")
    assert f"did you mean {shop.config}?" in " ".join(err.split())

    raw = yaml.safe_load(shop.config.read_text(encoding="utf-8"))
    typo = tmp_path / "typo.yaml"
    typo.write_text(yaml.safe_dump(raw | {"retreivers": raw["retrievers"]}), encoding="utf-8")
    code, _, err = recsys("evaluate", typo)
    assert code == 3
    assert "retreivers: unknown key; did you mean 'retrievers'?" in err

    monkeypatch.delenv("SHOP_DATA", raising=False)
    unset = tmp_path / "unset.yaml"
    unset.write_text(yaml.safe_dump(raw | {"output": "${SHOP_DATA}/out"}), encoding="utf-8")
    code, _, err = recsys("score", USER, "--config", unset)
    assert code == 3
    assert "the environment variable SHOP_DATA is not set" in err


def test_missing_data_file(recsys: Runner, tmp_path: Path, tiny_model: Path) -> None:
    data = {"catalog": {"source": "csv", "path": str(tmp_path / "none.csv")}, "interactions": {"source": "csv"}}
    code, out, err = recsys("train", write_shop_config(tmp_path, tiny_model, data=data))
    assert (code, out) == (4, "")
    assert "none.csv" in err


def test_no_bundle_names_the_command_that_makes_one(
    recsys: Runner, shop: Shop, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_shop_config(tmp_path, tiny_model)
    code, out, err = recsys("score", USER, "--config", config)
    assert (code, out) == (5, "")
    assert f"make one with `recsys train {config}`" in err
    monkeypatch.chdir(tmp_path)
    code, _, err = recsys("inspect")
    assert code == 5
    assert "no bundle at artifacts/demo: make one with `recsys demo`" in err
    (tmp_path / "empty").mkdir()
    code, _, err = recsys("inspect", "--bundle", tmp_path / "empty")
    assert code == 5
    assert "recsys train" in err


def test_corrupted_bundle(recsys: Runner, shop: Shop, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(shop.folder, root)
    file = root / "versions" / shop.version.name / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    code, out, err = recsys("score", USER, "--bundle", root)
    assert (code, out) == (5, "")
    assert "vectors.npy differs from its checksum" in err


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        console.guarded(lambda: 1 / 0)
