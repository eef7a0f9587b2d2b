"""The hypotheses over seeds: counts, the sign test, and which p a claim of several rivals gets."""

import json
from pathlib import Path

import pytest

from benchmarks.tables import CLAIMS, Claim, agreeing, lines, p_of, rows_of

ABOVE = Claim("A", True, "merged", ("base", "ded"), ("abilities",))
NOT_BELOW = Claim("B", False, "merged", ("base", "ded"), ("abilities",))


def seed(base: float, ded: float) -> dict:
    """A seed where these rivals differ from the merge by so many points, ± 1."""
    pairs = [
        {"a": "merged", "b": b, "task": "mean", "difference": d, "ci95": [d - 1, d + 1]}
        for b, d in (("base", base), ("ded", ded))
    ]
    model = {"model": "merged", "tasks": {"t": {"mean": 0.5, "n": 100}}}
    other = {"model": "coin", "tasks": {"t": {"mean": 0.1, "n": 100}}}
    return {"abilities": {"pairs": pairs, "models": [model, other]}}


def test_the_weakest_rival_counts_for_above() -> None:
    seeds = {i: seed(-5, -5 if i else 3) for i in range(6)}
    rows = rows_of(ABOVE, seeds)
    assert [row.counts for row in rows] == [(6, 0), (5, 1)]
    assert [row.p for row in rows] == pytest.approx([2 / 64, 14 / 64])
    assert p_of(ABOVE, rows) == pytest.approx(14 / 64)
    assert agreeing(ABOVE, rows) == 5


def test_a_rival_that_is_above_everywhere_shows_nothing_and_contradicts() -> None:
    seeds = {i: seed(-5, 5) for i in range(6)}
    rows = rows_of(ABOVE, seeds)
    assert p_of(ABOVE, rows) == 1.0
    assert agreeing(ABOVE, rows) == 0
    assert p_of(NOT_BELOW, rows) == pytest.approx(2 * 2 / 64)  # two rivals were looked at
    assert agreeing(NOT_BELOW, rows) == 0


def test_what_is_equal_says_nothing() -> None:
    rows = rows_of(NOT_BELOW, {i: seed(0.0, 0.0) for i in range(6)})
    assert [row.p for row in rows] == [1.0, 1.0]
    assert p_of(NOT_BELOW, rows) == 1.0
    assert agreeing(NOT_BELOW, rows) == 6
    assert str(rows[0].seeds[0][0]) == "0.0"  # and not -0.0


def test_models_that_were_not_paired_get_the_wider_interval() -> None:
    row = rows_of(Claim("C", False, "merged", ("coin",), ("abilities",)), {1: seed(0, 0)})[0]
    half = 1.96 * (0.25 / 100 + 0.09 / 100) ** 0.5
    assert row.seeds[0] == pytest.approx((0.4, 0.4 - half, 0.4 + half))


def test_every_claim_of_the_plan_is_read_from_the_committed_seeds() -> None:
    files = sorted(Path(__file__).parents[1].glob("docs/tables/seed-*.json"))
    seeds = {i: json.loads(file.read_text())["stages"] for i, file in enumerate(files)}
    text = list(lines(seeds))
    assert len([line for line in text if line.startswith("| H")]) == len(CLAIMS) + sum(
        len(claim.rivals) * len(claim.places) for claim in CLAIMS
    )
