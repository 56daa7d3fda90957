"""Whitening: unit covariance, also for small and odd catalogues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import unit_rows
from recsys.embedding.whitening import Whitening
from recsys.errors import DataError


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_whitened_data_have_identity_covariance(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    data = ((rng.normal(size=(2_000, d)) * rng.uniform(0.5, 2, d)) @ turn + 5).astype(np.float32)
    whitening = Whitening.fit(data)
    whitened = (data - whitening.mean) @ whitening.projection
    np.testing.assert_allclose(np.cov(whitened.T, bias=True).reshape(d, d), np.eye(d), atol=2e-3)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(whitening.apply(data), unit_rows(whitened), atol=1e-4)
    assert whitening.mean.dtype == whitening.projection.dtype == np.float32


def test_whitening_tells_apart_the_items_of_a_small_catalogue() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(10, 64)).repeat(3, axis=0)  # ten kinds of three items each, in 64 dimensions
    rows = Whitening.fit((kinds + 0.3 * rng.normal(size=kinds.shape)).astype(np.float32)).apply(
        kinds.astype(np.float32)
    )
    cosine = rows @ rows.T
    same = np.kron(np.eye(10), np.ones((3, 3))).astype(bool)
    assert cosine[same].min() > cosine[~same].max() + 0.3


def test_whitening_keeps_odd_catalogues_finite() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 16))  # rank 3 in 16 dimensions
    for vectors in (np.ones((1, 16)), np.ones((5, 16)), np.zeros((3, 16)), rng.normal(size=(4, 16)), flat):
        rows = vectors.astype(np.float32)
        whitening = Whitening.fit(rows)
        probes = whitening.apply(np.concatenate([rows, rng.normal(size=(2, 16)).astype(np.float32)]))
        assert np.isfinite(probes).all()
        norms = np.linalg.norm(probes, axis=1)
        assert (np.isclose(norms, 1, atol=1e-5) | (norms == 0)).all()
        assert np.abs(whitening.apply(whitening.mean[None])).max() == 0
    assert Whitening.fit(flat.astype(np.float32)).apply(np.empty((0, 16), np.float32)).shape == (0, 16)


def test_whitening_in_chunks_and_back_from_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    whole = Whitening.fit(rows)
    monkeypatch.setattr("recsys.embedding.whitening._CHUNK", 7)
    parts = Whitening.from_arrays(Whitening.fit(rows).arrays())
    np.testing.assert_allclose(np.abs(parts.apply(rows)), np.abs(whole.apply(rows)), atol=1e-5)
    assert whole.apply(rows).dtype == np.float32


def test_whitening_refuses_what_it_cannot_use() -> None:
    rows = np.ones((4, 3), dtype=np.float32)
    with pytest.raises(DataError, match=r"no vector to learn from, only an empty \(0, 3\) table"):
        Whitening.fit(rows[:0])
    with pytest.raises(DataError, match=r"fitted on vectors of width 3, and is given width 5"):
        Whitening.fit(rows).apply(np.ones((2, 5), dtype=np.float32))
    rows[2, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 4 vectors are not finite, first row 2"):
        Whitening.fit(rows)
