"""Reliability: whether what is predicted at 10% happens one time in ten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys.arrays import BoolArray, FloatArray

BINS = 15


def reliability(probability: FloatArray, label: BoolArray, segments: Mapping[str, BoolArray]) -> dict[str, Any]:
    """Compare probabilities with what happened.

    Args:
        probability: Predicted probabilities `(n,)`.
        label: Whether the event happened `(n,)`.
        segments: Masks `(n,)` of parts to measure apart; empty ones are left out.

    Returns:
        Plain numbers: `pairs`, `labels`, `base_rate`, `mean` (predicted), `ece`, `brier`, `bins`, and `segments` with
        the same for each part but without bins. `ece` is the expected calibration error over `BINS` bins of equal
        counts (Naeini, Cooper and Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"),
        `brier` the mean squared error (Brier 1950, "Verification of forecasts expressed in terms of probability"),
        which the base rate for everyone would make `base_rate * (1 - base_rate)`. `bins` are the points of a
        reliability plot, lowest first: `mean` predicted, `observed` rate, `count`.
    """
    overall = _measured(probability, label)
    parts = {name: _measured(probability[mask], label[mask]) for name, mask in segments.items() if mask.any()}
    for part in parts.values():
        del part["bins"]
    return overall | {"segments": parts}


def _measured(probability: FloatArray, label: BoolArray) -> dict[str, Any]:
    predicted = probability.astype(np.float64)
    order = np.argsort(predicted, kind="stable")
    bins = [
        {"mean": float(predicted[rows].mean()), "observed": float(label[rows].mean()), "count": len(rows)}
        for rows in np.array_split(order, BINS)
        if len(rows)
    ]
    return {
        "pairs": len(label),
        "labels": int(label.sum()),
        "base_rate": float(label.mean()),
        "mean": float(predicted.mean()),
        "ece": sum(b["count"] * abs(b["mean"] - b["observed"]) for b in bins) / len(label),
        "brier": float(np.mean((predicted - label) ** 2)),
        "bins": bins,
    }
