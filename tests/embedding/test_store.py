"""The vector store: every text is encoded once, and what is stored survives crashes, writers and full disks."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import toy_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import DIMENSION, MAX_TOKENS, TEXTS, config_for
from toy_encoder import Toy

from recsys.arrays import FloatArray, LongArray
from recsys.embedding import store as store_module
from recsys.embedding.base import Encoder
from recsys.embedding.registry import load_encoder
from recsys.embedding.store import Lookup, VectorStore
from recsys.errors import ArtifactError

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Counting:
    """Passes on to an encoder, and remembers the texts that reached it."""

    def __init__(self, encoder: Encoder, slow: float = 0.0) -> None:
        self.inner, self.fingerprint, self.dimension, self.slow = encoder, encoder.fingerprint, encoder.dimension, slow
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> FloatArray:
        raise AssertionError("the store encodes in batches")

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[LongArray, FloatArray]]:
        for rows, batch in self.inner.encode_batches(texts):
            self.texts += [texts[row] for row in rows]
            time.sleep(self.slow)
            yield rows, batch


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*TEXTS, "oil", "gel", "\x00", "口"]), max_size=15), min_size=1, max_size=4))
def test_the_store_gives_what_the_encoder_gives(
    encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, calls: list[list[str]]
) -> None:
    store = VectorStore(tmp_path_factory.mktemp("store"), checkpoint_s=0)
    for texts in calls:
        vectors = store.encode(texts, encoder)
        assert vectors.shape == (len(texts), DIMENSION)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-5)


def test_only_what_is_new_is_encoded(encoder: Encoder, tmp_path: Path) -> None:
    texts = [f"red soap {number}" for number in range(300)]
    store, counting = VectorStore(tmp_path), Counting(encoder)
    first = store.encode([*texts, texts[0]], counting)
    assert sorted(counting.texts) == sorted(texts)
    assert store.last == Lookup(found=0, encoded=300)
    counting.texts.clear()
    again, reopened = [*texts[::-1], "new 1", "new 2", "new 3", "new 1"], VectorStore(tmp_path)
    vectors = reopened.encode(again, counting)
    assert sorted(counting.texts) == ["new 1", "new 2", "new 3"]
    assert reopened.last == Lookup(found=300, encoded=3)
    np.testing.assert_array_equal(vectors[:300], first[:300][::-1])


def test_nothing_missing_loads_no_model(tiny_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    vectors = VectorStore(tmp_path).encode(TEXTS, encoder)
    program = f"""
        import sys
        from recsys.config import EmbeddingConfig
        from recsys.embedding.registry import load_encoder
        from recsys.embedding.store import VectorStore
        config = EmbeddingConfig(model={str(tiny_model)!r}, max_tokens={MAX_TOKENS}, precision="float32", device="cpu")
        vectors = VectorStore({str(tmp_path)!r}).encode({TEXTS!r}, load_encoder(config))
        print(vectors.shape, float(vectors.sum()), "torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{vectors.shape} {float(vectors.sum())} False"


def test_fingerprints_never_mix(tiny_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    store, mean = VectorStore(tmp_path), Counting(load_encoder(config_for(tiny_model, pooling="mean")))
    store.encode(TEXTS, encoder)
    np.testing.assert_allclose(store.encode(TEXTS, mean), mean.inner.encode(TEXTS), atol=1e-5)
    assert sorted(mean.texts) == sorted(set(TEXTS))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([encoder.fingerprint, mean.fingerprint])


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other width"])
def test_a_damaged_shard_is_told_of_and_encoded_again(
    damage: str, encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = VectorStore(tmp_path).encode(TEXTS, encoder)
    (shard,) = tmp_path.glob("*/*.npy")
    content = shard.read_bytes()
    flipped = bytearray(content)
    flipped[-3] ^= 1
    if damage == "other width":
        shard.unlink()
        shard = store_module._write(
            shard.parent, store_module._shard(np.array([b"k" * 32]), np.ones((1, 5), np.float32))
        )
    else:
        shard.write_bytes({"cut": content[:-7], "flip": bytes(flipped), "empty": b""}[damage])
    counting = Counting(encoder)
    np.testing.assert_allclose(VectorStore(tmp_path).encode(TEXTS, counting), wanted, atol=1e-5)
    assert f"shard {shard} is damaged; it is ignored and its texts are encoded again" in caplog.text
    assert sorted(counting.texts) == sorted(set(TEXTS))
    caplog.clear()
    np.testing.assert_allclose(VectorStore(tmp_path).encode(TEXTS, counting), wanted, atol=1e-5)
    assert not caplog.text
    assert shard.with_suffix(".damaged").exists()


def test_a_shard_that_cannot_be_read(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / encoder.fingerprint / "folder.npy").mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"a shard cannot be read: .*folder\.npy"):
        VectorStore(tmp_path).encode(["x"], encoder)


def test_many_shards_are_merged(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MANY", 4)
    monkeypatch.setattr(store_module, "_LARGE", 6)
    store, texts = VectorStore(tmp_path), [f"gel {number}" for number in range(15)]
    for text in texts:
        store.encode([text], encoder)
        assert len(list(tmp_path.glob("*/*.npy"))) <= 4 + 2
    counting = Counting(encoder)
    for reader in (store, VectorStore(tmp_path)):
        np.testing.assert_allclose(reader.encode(texts, counting), encoder.encode(texts), atol=1e-5)
    assert not counting.texts


def test_merging_equal_shards_keeps_one(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MANY", 1)
    store = VectorStore(tmp_path)
    vectors = store.encode(["soap", "hair"], encoder)
    (shard,) = tmp_path.glob("*/*.npy")
    one = np.load(shard)
    store_module._write(shard.parent, one[:1])  # a part of the other: joined they are the other
    store._merge(shard.parent, DIMENSION)
    assert list(tmp_path.glob("*/*.npy")) == [shard]
    np.testing.assert_array_equal(VectorStore(tmp_path).encode(["soap", "hair"], Counting(encoder)), vectors)


def start(program: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.Popen(command, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_killed_in_the_middle_it_resumes(tiny_model: Path, encoder: Encoder, tmp_path: Path) -> None:
    program = f"""
        import time
        from recsys.config import EmbeddingConfig
        from recsys.embedding.transformer import TransformerEncoder
        from recsys.embedding.store import VectorStore

        class Stuck(TransformerEncoder):
            def encode_batches(self, texts):
                for number, batch in enumerate(super().encode_batches(texts)):
                    if number > 8:
                        time.sleep(3600)
                    yield batch

        config = EmbeddingConfig(
            model={str(tiny_model)!r}, max_tokens={MAX_TOKENS}, precision="float32", device="cpu", batch_tokens=64
        )
        VectorStore({str(tmp_path)!r}, checkpoint_s=0).encode([f"soap {{i}}" for i in range(400)], Stuck(config))
    """
    running, deadline = start(program), time.monotonic() + 3600
    while len(list(tmp_path.glob("*/*.npy"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    texts = [f"soap {number}" for number in range(400)]
    store, counting = VectorStore(tmp_path), Counting(encoder)
    np.testing.assert_allclose(store.encode(texts, counting), encoder.encode(texts), atol=1e-5)
    assert store.last.found >= 5
    assert store.last.encoded == len(counting.texts) == 400 - store.last.found > 0


def test_processes_write_and_merge_at_once(tmp_path: Path) -> None:
    program = """
        import sys
        sys.path.insert(0, {tests!r})
        from recsys.embedding import store
        from toy_encoder import Toy
        store._MANY = 2
        writing = store.VectorStore({folder!r}, checkpoint_s=0)
        for first in range({first}, {first} + 60, 6):
            writing.encode([f"soap {{i}}" for i in range(first, first + 6)], Toy())
    """
    tests = str(Path(toy_encoder.__file__).parent)
    running = [start(program.format(tests=tests, folder=str(tmp_path), first=first)) for first in (0, 30, 60)]
    assert [one.wait(timeout=3600) for one in running] == [0, 0, 0]
    texts = [f"soap {number}" for number in range(120)]
    store = VectorStore(tmp_path)
    vectors = store.encode(texts, Toy())
    assert store.last == Lookup(found=120, encoded=0)
    np.testing.assert_array_equal(vectors[:, 1], [sum(map(ord, text)) for text in texts])


def test_a_full_disk_is_told_and_leaves_nothing_half_written(encoder: Encoder, tmp_path: Path) -> None:
    store, texts = VectorStore(tmp_path), [f"oil {number}" for number in range(200)]
    store.encode(["soap"], encoder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (10_000, limits[1])
    )  # the system refuses the write, as it does on a full disk
    try:
        with pytest.raises(
            ArtifactError,
            match=rf"{tmp_path}.*: 32,128 bytes for 200 vectors could not be written: .*File too large.* "
            r"\([\d,]+ bytes are free there\): make room, .*, and run again; what was published before is kept",
        ):
            store.encode(texts, encoder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.suffix for path in tmp_path.glob("*/*")] == [".npy"]
    np.testing.assert_allclose(store.encode(texts, encoder), encoder.encode(texts), atol=1e-5)


def test_a_store_below_a_file_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"for 1 vectors could not be written: .*Not a directory"):
        VectorStore(tmp_path / "file").encode(["x"], encoder)


def test_what_dead_writers_left_is_swept(encoder: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / encoder.fingerprint
    folder.mkdir()
    for name, age in ((".old.npy.1.99", 7200), (".young.npy.1.99", 5)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    VectorStore(tmp_path).encode(["x"], encoder)
    assert [path.name for path in folder.glob(".*")] == [".young.npy.1.99"]


def test_what_was_encoded_before_an_error_is_kept(encoder: Encoder, tmp_path: Path) -> None:
    class Failing(Counting):
        def encode_batches(self, texts):
            yield from super().encode_batches(texts[:3])
            raise KeyboardInterrupt

    store, counting = VectorStore(tmp_path), Counting(encoder)
    with pytest.raises(KeyboardInterrupt):
        store.encode(TEXTS, Failing(encoder))
    store.encode(TEXTS, counting)
    assert store.last.found == 3


def test_progress_is_logged_without_a_terminal(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_module, "_LOG_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO):
        VectorStore(tmp_path).encode(["a", "b"], encoder)
    assert "0 texts found, 2 to encode" in caplog.text
    assert "encoded 2 of 2 texts, " in caplog.text


def test_progress_is_a_bar_on_a_terminal(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    VectorStore(tmp_path).encode(["a", "b"], encoder)
    captured = capsys.readouterr()
    assert "encoding texts" in captured.err
    assert not captured.out
