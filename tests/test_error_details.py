"""Errors that one can read."""

from collections import Counter

import numpy as np
import pytest

from nnet.decoding.decoder import parse_values
from nnet.decoding.error_details import ErrorDetails, speakers_of, wer_interval

REFERENCES = [("a", ["yes", "no"]), ("b", ["no", "no"]), ("c", []), ("absent", ["no"])]
HYPOTHESES = {"a": ["yes", "yes", "no"], "b": ["yes", "no"], "c": []}


def test_utterances_are_shown_word_by_word():
    details = ErrorDetails(REFERENCES, HYPOTHESES)
    assert details.per_utt == [
        "a ref  yes  ***  no",
        "a hyp  yes  yes  no",
        "a op     C    I   C",
        "a #csid 2 0 1 0",
        "b ref   no  no",
        "b hyp  yes  no",
        "b op     S   C",
        "b #csid 1 1 0 0",
        "c ref",
        "c hyp",
        "c op",
        "c #csid 0 0 0 0",
    ]


def test_most_frequent_errors_come_first():
    details = ErrorDetails([*REFERENCES, ("d", ["no"])], HYPOTHESES | {"d": ["yes"]})
    assert details.op_lines() == [
        "substitution no yes 2",
        "insertion *** yes 1",
        "correct no no 2",
        "correct yes yes 1",
    ]
    assert details.most_confused() == "no -> yes (2), *** -> yes (1)"
    assert ErrorDetails([], {}).most_confused() == ""


def test_ranges_of_fractions():
    assert parse_values("0:2:0.5") == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    assert parse_values("0.0:0.3:0.1,7:9") == ["0.0", "0.1", "0.2", "0.3", "7", "8", "9"]


def test_help_and_version(run_program):
    assert b"Usage:" in run_program("tree-info", "-h").stdout
    assert b"Usage:" in run_program("score.py", "-h").stdout
    assert run_program("tree-info", "--version").stdout.startswith(b"tree-info ")


def test_speakers_and_the_interval_of_the_rate():
    details = ErrorDetails(REFERENCES, HYPOTHESES)
    speaker_of = {key: "s1" if key == "a" else "s2" for key in details.kinds}
    lines = details.speaker_lines(speaker_of)
    assert lines[0].split()[:3] == ["SPEAKER", "#SENT", "#WORD"]
    assert [line.split()[0] for line in lines[1:]] == ["s1", "s2"]
    totals = sum((Counter(kinds) for kinds in details.speakers(speaker_of).values()), Counter())
    assert totals["S"] + totals["D"] + totals["I"] == sum(
        count for (kind, *_), count in details.ops.items() if kind != "correct"
    )


def test_interval_is_that_of_the_mean_over_speakers():
    same = [{"C": 90, "S": 10, "I": 0, "D": 0}] * 30
    assert wer_interval(same) == (10.0, 10.0)
    rng = np.random.default_rng(0)
    speakers = [{"C": 100 - n, "S": n, "I": 0, "D": 0} for n in rng.integers(0, 41, 400).tolist()]
    low, high = wer_interval(speakers, srand=1)
    half = 1.96 * np.std([kinds["S"] for kinds in speakers]) / 400**0.5
    mean = np.mean([kinds["S"] for kinds in speakers])
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.15 * half)


def test_differences_are_paired_by_speaker():
    """Speakers differ by much, systems by one error in ten words, and that is certain."""
    ours = [Counter(C=9 - n, S=n, D=1) for n in range(9)]
    theirs = [Counter(C=10 - n, S=n) for n in range(9)]
    assert wer_interval(ours, theirs) == (10.0, 10.0)
    low, high = wer_interval(ours)
    assert high - low > 20
    assert wer_interval(ours, ours) == (0.0, 0.0)


def test_speakers_are_read_back():
    details = ErrorDetails([("a-1", ["yes", "no"]), ("b-1", ["no"])], {"a-1": ["yes"], "b-1": []})
    speakers = {"a-1": "a", "b-1": "b"}
    assert speakers_of(details.speaker_lines(speakers)) == {
        name: Counter({kind: kinds[kind] for kind in "CSID"})
        for name, kinds in details.speakers(speakers).items()
    }
