"""The scan finds whoever is named, in every kind of file, and nobody else."""

from __future__ import annotations

import gzip
import re
import shutil

import numpy as np
import polars as pl
import pytest
from forgetting import GONE, Run, naming, republished

from recsys import Recommender, errors, forget
from recsys.artifacts import bundle

PLANTED = {
    "report.json": (b'{"a": [1, {"b": "for u383!"}]}', r"report.json: a\[1\].b"),
    "keys.json": (b'{"a": {"u383": 1}}', "keys.json: a: a key"),
    "evaluation.json": (b'{"u383": 1}', "evaluation.json: : a key"),
    "lines.jsonl": (b'{"a": 1}\n{"user": "u383"}\n', "lines.jsonl: line 2 .user"),
    "broken.json": (b"{u383", "broken.json: line 1"),
    "table.csv": (b"who,item_id\nx,u383\nu383,y\n", "table.csv: column who, 1 rows"),
    "notes.txt": ("ärger\n mit u383, u3830\n".encode(), "notes.txt: line 2"),
    "packed.txt.gz": (gzip.compress(b"of u383."), "packed.txt.gz: line 1"),
    "binary.dat": (b"\xff\x00\x07u383\x00", "binary.dat: byte 3"),
    "u383.txt": (b"", "u383.txt: its name"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_scan_names_the_file_and_the_place(run: Run, name: str) -> None:
    content, place = PLANTED[name]
    (run.root / name).write_bytes(content)
    with pytest.raises(errors.ArtifactError, match="^1 places still name .*\n  .*" + place.replace(".", r"\.")):
        run.forget(GONE)
    (run.root / name).unlink()
    told = run.forget(GONE)
    assert (told.new, told.version, told.hits) == (0, None, 0), "all else was done already"


@pytest.mark.parametrize("name", PLANTED)
def test_the_scan_does_not_take_another_user_for_this_one(run: Run, name: str) -> None:
    for other in ("u3830", "u383-a", "u383@x.example", "xu383", "u383.b"):
        content = gzip.decompress(PLANTED[name][0]) if name.endswith(".gz") else PLANTED[name][0]
        content = re.sub(b"u383\\b", other.encode(), content)
        path = run.root / name.replace("u383", other)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        kept = path.read_bytes()
        assert forget(run.root, [GONE]).hits == 0
        assert path.read_bytes() == kept


def test_the_scan_reads_tables_and_arrays(run: Run) -> None:
    out = run.root / "exports"
    out.mkdir()
    nested = pl.DataFrame({"who": [[{"name": "u1"}, {"name": GONE}]], "n": [1]})
    nested.write_parquet(out / "nested.parquet")
    pl.DataFrame({"customer": ["u1", GONE, GONE]}, schema={"customer": pl.Categorical}).write_parquet(out / "c.parquet")
    np.save(out / "names.npy", np.array(["u1", GONE]))
    np.save(out / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (out / "cut.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(errors.ArtifactError) as caught:
        run.forget(GONE)
    told = str(caught.value)
    assert told.startswith("5 places still name somebody, or cannot be searched:")
    for place in ("nested.parquet: column who, 1 rows", "c.parquet: column customer, 2 rows", "names.npy: 1 entries",
                  "objects.npy: it cannot be read", "cut.parquet: it cannot be read"):  # fmt: skip
        assert place in told
    assert naming(run.root / "versions", GONE) == []


def test_a_user_called_like_a_brand_or_a_setting(run: Run) -> None:
    loaded = bundle.load(run.root)
    brand = loaded.tables["catalog"]["brand"].drop_nulls()[0]
    users = loaded.tables["users"].with_columns(pl.col("user_id").replace({GONE: brand, "u384": "logistic"}))
    order = users["user_id"].arg_sort()
    assert order.to_list() != list(range(len(order))), "the rows move"
    shutil.rmtree(run.root)
    republished(run.root, loaded, users.sort("user_id"))
    told = run.forget(brand, "logistic")
    assert told.hits == 0
    assert len(told.mentions) == 2
    assert any("catalog.parquet: column brand" in mention for mention in told.mentions)
    assert any("manifest.json: config.scorer.kind" in mention for mention in told.mentions)
    assert Recommender.load(run.root).user_ids.len() == 598
