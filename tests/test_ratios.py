"""The arithmetic of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import token_server
from benchmarks.abandoned import left_by
from benchmarks.ratios import fastest, line, measured


def test_ratio_is_the_median_of_the_rounds() -> None:
    found = line("a callback", [0.002, 0.004, 0.009], [0.001, 0.001, 0.003], against="x")

    assert (found.ratio, found.least, found.most) == pytest.approx((3, 2, 4))
    assert found.absolute == "4.0 ms"


@pytest.mark.parametrize(("better", "name"), [("less", "quick"), ("more", "slow")])
def test_fastest_has_the_best_median(better: str, name: str) -> None:
    found = {"quick": [1.0, 1.0, 9.0], "slow": [2.0, 2.0, 2.0], "left out": [0.0, 9.0, 9.0]}

    assert fastest(found, but={"left out"}, better=better) == name


def test_each_round_begins_with_another() -> None:
    order: list[str] = []

    def cost(name: str) -> float:
        order.append(name)
        return 1.0

    found = measured({"a": lambda: cost("a"), "b": lambda: cost("b")}, rounds=2)

    assert order == ["a", "b", "b", "a"]
    assert found == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_abandoned_flows_leave_no_row(tmp_path: Path) -> None:
    with token_server.running() as server:
        left = left_by(f"sqlite:///{tmp_path}/finch.db", server, flows=5)

    assert left.written == 0
    assert left.rows == dict.fromkeys(("finch_attempts", "finch_connections", "finch_events"), 0)
