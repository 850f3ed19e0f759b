"""What the experiment of benchmarks/convergence says of its trainings: statistics and findings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "benchmarks" / "convergence"


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


def test_interval_of_known_values():
    """t with two degrees of freedom is 4.303 at 97.5 %; the standard error of 1, 2, 3 is 0.577."""
    from statistics_of_seeds import Sample

    low, high = Sample((1.0, 2.0, 3.0)).interval()
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert str(Sample((1.0,))) == "1.000"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((0.001, 0.002, -0.001), True),
        ((0.101, 0.102, 0.099), False),
        ((0.02, -0.02, 0.06), None),  # too uncertain
        ((0.015, 0.018, 0.021), None),  # too near to the margin
    ],
)
def test_equivalence_has_three_answers(values, found):
    from statistics_of_seeds import Sample, is_equivalent

    assert is_equivalent(Sample(values)) is found


def test_pairs_are_of_the_same_seed():
    from statistics_of_seeds import paired

    assert paired({0: 1.0, 1: 2.0, 2: 5.0}, {1: 1.5, 2: 4.5, 3: 9.0}).values == (0.5, 0.5)


def results(**scores: dict) -> list:
    """Trainings with three seeds: method, limit, N and rate in a name, and the mean."""
    from cells import Cell
    from table import Result

    return [
        Result(
            Cell(method, limit == "limit", int(n), 100, float(rate), seed=seed), 1, mean + jitter
        )
        for name, mean in scores.items()
        for method, limit, n, rate in [name.split("_")]
        for seed, jitter in enumerate((0.0, 0.001, -0.001 * int(n)))
    ]


def verdicts(found: list) -> dict[str, bool | None]:
    from findings import findings, scores_of

    return {finding.statement: finding.holds for finding in findings(scores_of(found))}


def test_findings_are_two_sided():
    found = verdicts(
        results(
            online_limit_1_1=-1.0,
            online_limit_4_1=-1.01,
            plain_limit_1_1=-1.2,
            plain_limit_4_1=-0.9,
            plain_limit_1_4=-1.25,
        )
    )
    ahead = "online NG-SGD with the limit is ahead of plain SGD, both with N = {}"
    assert found[ahead.format(1)] is True
    assert found[ahead.format(4)] is False  # it is behind
    alike = "{} SGD with the limit ends alike by 4 jobs and by one, within 0.02"
    assert found[alike.format("online NG-").replace("NG- ", "NG-")] is True
    assert found[alike.format("plain")] is False
    assert found["plain SGD with the limit: one job stands 4 times the rate, within 0.02"] is False


def test_each_method_at_its_best_rate():
    found = verdicts(
        results(
            online_limit_1_1=-1.2,
            online_limit_1_4=-1.0,
            plain_limit_1_1=-1.1,
            plain_limit_1_4=-1.3,
            online_limit_4_1=-1.4,
            online_limit_4_2=-1.005,
        )
    )
    assert found["online NG-SGD with the limit is ahead of plain SGD, both with N = 1"] is False
    best = "Each at its best rate, online NG-SGD with the limit"
    assert found[f"{best} is ahead of plain SGD, N = 1"] is True
    assert found[f"{best} ends alike by 4 jobs and by one, within 0.02"] is True
    assert (
        found["online NG-SGD with the limit ends alike by 4 jobs and by one, within 0.02"] is False
    )


def test_a_best_rate_at_the_end_of_those_tried_says_so():
    from findings import findings, scores_of

    found = results(
        online_limit_1_1=-1.2,
        online_limit_1_4=-1.0,
        plain_limit_1_1=-1.3,
        plain_limit_1_4=-1.1,
        plain_limit_1_16=-1.4,
    )
    [what] = [f.what for f in findings(scores_of(found)) if f.statement.startswith("Each at its")]
    assert what == "4 (the highest tried) and 4 times the rate"


def test_survivors_do_not_speak_for_a_cell_that_lost_a_training():
    """Of three seeds one is lost: nothing is said of the other two, nor is theirs the best rate."""
    from findings import best_rates, scores_of
    from table import Result

    found = results(online_limit_1_1=-1.2, plain_limit_1_1=-1.1, plain_limit_1_4=-1.0)
    lost = next(r for r in found if r.cell.rate == 4 and r.cell.seed == 1)
    found[found.index(lost)] = Result(lost.cell, 1, error="the parameters are not finite")
    scores = scores_of(found)
    assert lost.cell.key not in scores and len(scores) == 2
    assert not best_rates(scores)
    assert len(verdicts(found)) == 1


def test_one_seed_says_nothing():
    found = [r for r in results(online_limit_1_1=-1.0, plain_limit_1_1=-2.0) if r.cell.seed == 0]
    assert not verdicts(found)


def test_report_of_a_few_trainings(tmp_path):
    from report import write_report
    from table import MEANS_HEADER, PEER_HEADER, Result, add_result, append, shown

    found = results(
        online_limit_1_1=-1.0, online_limit_4_1=-1.0, plain_limit_1_1=-1.2, plain_limit_1_2=-1.1
    )
    for result in found:
        whole = dataclasses.replace(result, combined=-1.0, trained=-0.9, limited=0.25, cpu_s=9.0)
        add_result(tmp_path, whole, [(0, -2.0), (1, result.held_out)])
    lost = dataclasses.replace(found[0].cell, rate=4.0)
    add_result(tmp_path, Result(lost, 1, error="the parameters are not finite"), [])
    points = [
        ["adamw", "1", "0.001", "0", 1, "3.0", "-1.3", "-1.2"],
        ["adamw", "1", "0.001", "0", 2, "7.0", "-1.1", "-1"],
        ["adamw", "4", "0.001", "0", 2, "8.0", "-1.05", "-1.01"],
    ]
    append(tmp_path / "peers.csv", PEER_HEADER, points)
    cell = [*map(shown, found[0].cell.asdict().values())]
    append(tmp_path / "means.csv", MEANS_HEADER, [[*cell, 8, "-0.96", "-0.94"]])
    write_report(tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "| PyTorch, AdamW | 0.001 | -1.100 | -1.000 | 7 |" in page
    assert "| PyTorch, AdamW, N = 4, averaged | 0.001 | -1.050 | -1.010 | 8 |" in page
    assert "| online NG-SGD | 1 | -1.000 ± 0.002 | -0.900 ± 0.000 | 9 |" in page
    assert "| online NG-SGD, limited, N = 4 | -1.001 ± 0.007 |" in page
    assert "| online NG-SGD, limited, N = 1 | -1.000 ± 0.002 | -0.960 | -0.900 ± 0.000 |" in page
    of_trained = page.split("## The same on frames that were trained on")[1]
    assert (
        "alike by 4 jobs and by one, within 0.02: **holds** (N = 4 minus N = 1: 0.000" in of_trained
    )
    assert "25.0%" in page
    assert "with the limit is ahead of plain SGD, both with N = 1: **holds**" in page
    for picture in "curves.png", "rates.png":
        assert f"({picture})" in page
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "the parameters are not finite" in page
