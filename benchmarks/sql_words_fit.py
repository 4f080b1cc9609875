"""Fitting the confidence of readings: a logistic regression, each database judged by the weights of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RIDGE = 3.0
STEPS = 60
LARGEST_SHARE = 150
"""Questions of one database that count; more are weighted down, so that no database rules."""


def fit(inputs: Array, right: Array, weights: Array) -> Array:
    """Return the weights of a ridge-penalised logistic regression, by Newton's method; the first input is constant."""
    beta = np.zeros(inputs.shape[1])
    penalty = np.full(inputs.shape[1], RIDGE)
    penalty[0] = 1e-6
    for _ in range(STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(inputs @ beta, -30, 30)))
        slope = inputs.T @ (weights * (right - chance)) - penalty * beta
        curve = (inputs * (weights * chance * (1 - chance))[:, None]).T @ inputs + np.diag(penalty)
        beta = beta + np.linalg.solve(curve, slope)
    return beta


def fit_and_judge(examples: Sequence[tuple[str, Mapping[str, float], bool]]) -> None:
    names = sorted({name for _, found, _ in examples for name in found})
    inputs = np.array([[1.0, *(found.get(name, 0.0) for name in names)] for _, found, _ in examples])
    right = np.array([float(flag) for *_, flag in examples])
    homes = np.array([home for home, *_ in examples])
    counts = {home: int((homes == home).sum()) for home in set(homes)}
    weights = np.array([min(1.0, LARGEST_SHARE / counts[home]) for home in homes])
    judged = np.zeros(len(right))
    for home in sorted(counts):
        others = homes != home
        beta = fit(inputs[others], right[others], weights[others])
        judged[~others] = inputs[~others] @ beta
        top = np.argsort(-judged[~others])[: max(1, round(0.4 * counts[home]))]
        own = right[~others]
        print(f"{home}: n={len(own)} right {own.mean():.1%}, at 40% coverage {own[top].mean():.1%}")
    order = np.argsort(-judged)
    for coverage in (0.2, 0.4, 0.6, 0.8):
        kept = right[order][: round(coverage * len(order))]
        print(f"all, by the weights of the others, at {coverage:.0%}: {kept.mean():.1%}")
    beta = fit(inputs, right, weights)
    print("WEIGHTS: Final[Mapping[str, float]] = {")
    for name, value in zip(["", *names], beta, strict=True):
        print(f'    "{name}": {value:.2f},')
    print("}")
