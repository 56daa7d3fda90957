"""Reliability: whether what is called 10% happens one time in ten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys.arrays import BoolArray, FloatArray

BINS = 15


def reliability(probability: FloatArray, label: BoolArray, segments: Mapping[str, BoolArray]) -> dict[str, Any]:
    """Compare probabilities `(n,)` with what happened, as plain numbers: overall and for each segment (a mask).

    `ece` is the expected calibration error over `BINS` bins of equal counts (Naeini et al. 2015), `brier` the mean
    squared error (Brier 1950), which `base_rate` for everyone would make `base_rate * (1 - base_rate)`. `bins` are the
    points of a reliability plot, lowest first: `mean` said, `observed` rate, `count`.
    """
    overall = _measured(probability, label)
    parts = {name: _measured(probability[mask], label[mask]) for name, mask in segments.items() if mask.any()}
    for part in parts.values():
        del part["bins"]
    return overall | {"segments": parts}


def _measured(probability: FloatArray, label: BoolArray) -> dict[str, Any]:
    told = probability.astype(np.float64)
    order = np.argsort(told, kind="stable")
    bins = [
        {"mean": float(told[rows].mean()), "observed": float(label[rows].mean()), "count": len(rows)}
        for rows in np.array_split(order, BINS)
        if len(rows)
    ]
    return {
        "pairs": len(label),
        "labels": int(label.sum()),
        "base_rate": float(label.mean()),
        "mean": float(told.mean()),
        "ece": sum(b["count"] * abs(b["mean"] - b["observed"]) for b in bins) / len(label),
        "brier": float(np.mean((told - label) ** 2)),
        "bins": bins,
    }
