"""Errors that one can read."""

from collections import Counter

import numpy as np
import pytest

from nnet.decoding.bootstrap import bootstrap, errors_of_sentences
from nnet.decoding.decoder import parse_values
from nnet.decoding.error_details import ErrorDetails, speakers_of, wer_interval
from nnet.decoding.scoring import aligned
from nnet.errors import NgtrainError
from nnet.io.random_access import random_access_table
from nnet.io.tables import TOKENS

REFERENCES = [("a", ["yes", "no"]), ("b", ["no", "no"]), ("c", []), ("absent", ["no"])]
HYPOTHESES = {"a": ["yes", "yes", "no"], "b": ["yes", "no"], "c": []}


def test_utterances_are_shown_word_by_word():
    details = ErrorDetails(REFERENCES, HYPOTHESES)
    assert details.per_utt == [
        "a ref  ***  yes  no",
        "a hyp  yes  yes  no",
        "a op     I    C   C",
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


@pytest.mark.parametrize(
    "reference, hypothesis, pairs",
    [
        ("bac", "bba", "bb ab ca"),  # rather two substitutions than an insertion and a deletion
        ("ca", "abbb", "*a *b cb ab"),
        ("ab", "b", "a* bb"),
        ("aa", "a", "a* aa"),
        ("", "a", "*a"),
        ("", "", ""),
    ],
)
def test_of_equal_alignments_that_of_kaldis_align_text_is_taken(reference, hypothesis, pairs):
    found = aligned("u", reference, hypothesis, "*")
    assert " ".join(map("".join, found)) == pairs


def test_align_text(run_program, tmp_path):
    (tmp_path / "ref").write_text("u1 a b c\nu2 d e\nu3 f\n")
    (tmp_path / "hyp").write_text("u1 a c\nu2 f e\n")
    tables = [f"ark:{tmp_path}/{name}" for name in ("ref", "hyp")]
    result = run_program("align-text", *tables, "ark,t:-")
    assert result.stdout == b"u1 a a ; b <eps> ; c c \nu2 d f ; e e \n"
    assert b"Done 2 sentences, failed for 1" in result.stderr and b"u3" in result.stderr
    result = run_program("align-text", "--special-symbol=e", *tables, "ark,t:-", check=False)
    assert result.returncode == 1 and b"sentence u2 has the special symbol e" in result.stderr


def test_intervals_by_sentences_are_those_of_the_variance():
    """Of n sentences of one word the rate p has the variance p (1 - p) / n."""
    words, errors = np.ones(400, int), np.arange(400) % 4 == 0
    found = bootstrap(words, np.array([errors, errors & (np.arange(400) < 200)]), 2000, srand=1)
    assert found.rates == pytest.approx([25, 12.5], abs=0.3)
    assert found.halves == pytest.approx([196 * (p * (1 - p) / 400) ** 0.5 for p in (0.25, 0.125)],
                                         rel=0.1)  # fmt: skip
    assert found.improves == 100
    assert bootstrap(words, np.array([errors]), 10, srand=1).improves is None


@pytest.mark.parametrize(
    "mode, words, errors",
    [("present", [2, 1], [[1, 0], [2, 1]]), ("all", [2, 3, 1], [[1, 3, 0], [2, 1, 1]])],
)
def test_sentences_that_a_system_has_not(run_program, tmp_path, mode, words, errors):
    (tmp_path / "ref").write_text("u1 a b\nu2 c d e\nu3 f\n")
    (tmp_path / "1").write_text("u1 a\nu3 f\n")
    (tmp_path / "2").write_text("u1 c\nu2 c d\nu3 g\n")
    references = [("u1", ["a", "b"]), ("u2", ["c", "d", "e"]), ("u3", ["f"])]
    with (
        random_access_table(f"ark:{tmp_path}/1", TOKENS) as one,
        random_access_table(f"ark:{tmp_path}/2", TOKENS) as two,
    ):
        found = errors_of_sentences(references, [one, two], mode)
        assert [array.tolist() for array in found] == [words, errors]
        with pytest.raises(NgtrainError, match="u2"):
            errors_of_sentences(references, [one, two], "strict")
        with pytest.raises(NgtrainError, match="no words"):
            errors_of_sentences([("u9", ["a"])], [one, two], "present")
    tables = [f"ark:{tmp_path}/{name}" for name in ("ref", "1", "2")]
    said = run_program("compute-wer-bootci", f"--mode={mode}", *tables).stdout.decode().splitlines()
    assert [line.split(" [ ")[0].split()[0] for line in said] == ["Set1:", "Set2:", "Probability"]
    assert said[0].startswith("Set1: %WER ") and "95% Conf Interval [ " in said[0]
