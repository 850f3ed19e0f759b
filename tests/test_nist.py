"""Scoring by NIST's rules: mapping rules, word graphs, their alignment, segments."""

import random
import re
import subprocess
from pathlib import Path

import pytest

from nnet.decoding.nist import MappingRules, Rule, TimedWord, WordGraph, align, read_stm, score
from nnet.decoding.symbols import SymbolTable
from nnet.drivers.data_dir import read_table
from nnet.errors import NgtrainError
from nnet.io.text import write_lines
from steps.score_nist import Scorer, ctm_line, find_hubscr

NO_SCTK = "needs hubscr.pl of NIST's scoring toolkit (Debian's package sctk)"

GLM = """\
;;  a comment
* name "test.glm"
* copy_no_hit = 'T'
UH  => %HESITATION / [ ] __ [ ] ;; hesitation
FOOT BALL => FOOTBALL / [ ] __ [ ]
[CAN NOT] => [CANNOT] / [ ] __ [ ]
'CAUSE => BECAUSE
BUT / OR => {BUT / OR}
CANNOT => never reached
ING => IN' / __ [ ]
;;  INPUT_DEPENDENT_APPLICATION = "ctm"
[HE'S] => [{HE IS / HE HAS}] / [ ] __ [ ]
;;  INPUT_DEPENDENT_APPLICATION = "ref"
GONNA => GOING TO / [ ] __ [ ]
"""
NO_RULES = MappingRules([])


def rules(tmp_path, *kinds: str) -> MappingRules:
    (tmp_path / "glm").write_text(GLM)
    return MappingRules.load(str(tmp_path / "glm"), kinds)


@pytest.mark.parametrize(
    "text, mapped",
    [
        ("uh the foot ball", "%HESITATION THE FOOTBALL"),
        ("uhm the football", "UHM THE FOOTBALL"),
        ("i can not", "I CANNOT"),
        ("'cause", "BECAUSE"),
        ("but / or", "{BUT / OR}"),
        ("going singing ingot", "GOIN' SINGIN' INGOT"),
        ("he's", "{HE IS / HE HAS}"),
        ("she's gonna", "SHE'S GONNA"),
    ],
)
def test_first_rule_that_fits_is_applied(tmp_path, text, mapped):
    assert rules(tmp_path, "ctm", "hyp").apply(text) == mapped


def test_rules_hold_for_the_kind_of_text_that_they_name(tmp_path):
    assert rules(tmp_path, "stm", "ref").apply("he's gonna") == "HE'S GOING TO"


def test_a_context_is_not_consumed():
    mapping = MappingRules([Rule("a", "b", " ", " ")])
    assert mapping.apply("a a a") == "B B B"


@pytest.mark.parametrize("line", ["A -> B", "=> B"])
def test_line_that_is_no_rule_is_named(tmp_path, line):
    (tmp_path / "glm").write_text(f";;\n{line}\n")
    with pytest.raises(NgtrainError, match="line 2"):
        MappingRules.load(str(tmp_path / "glm"), ("ctm",))


@pytest.mark.parametrize(
    "reference, hypothesis, substitutions, deletions, insertions, num_words",
    [
        ("A B C", "A B C", 0, 0, 0, 3),
        ("A B C", "A X C D", 1, 0, 1, 3),
        ("A B C", "", 0, 3, 0, 3),
        ("(UH) A", "A", 0, 0, 0, 2),  # an optional word that is missing is a correct one
        ("(UH) A", "UH A", 0, 0, 0, 2),
        ("{ A / B C / @ } D", "D", 0, 0, 0, 1),
        ("{ A / B C / @ } D", "B C D", 0, 0, 0, 3),
        ("{ A / B C } D", "B X D", 1, 0, 0, 3),
        ("IT IS", "{IT IS / IT'S}", 0, 0, 0, 2),
        ("BEC- A", "BECAUSE A", 0, 0, 0, 2),
        ("BEC- A", "BUT A", 1, 0, 0, 2),
        ("-CAUSE", "BECAUSE", 0, 0, 0, 1),
        ("WELL-KNOWN", "WELL KNOWN", 0, 0, 0, 2),
        ("A", "A (UH)", 0, 0, 0, 2),
        # Of alignments that cost the same, the one with substitutions: it has fewer errors.
        ("A B C", "C X Y", 3, 0, 0, 3),
        ("A B C D", "X Y A Z", 4, 0, 0, 4),
        ("ONE OLD MAN SAW IT", "THE COLD ONE SAT IN", 5, 0, 0, 5),
        ("C E B B F H B F", "F D H H E A", 5, 2, 0, 8),
        ("B H A F A F G C E G C", "C G E A C C C H A", 7, 2, 0, 11),
    ],
)
def test_alignments_are_those_of_sclite(
    reference, hypothesis, substitutions, deletions, insertions, num_words
):
    """Each was scored by NIST's sclite -F -D, too."""
    path = align(WordGraph(reference), WordGraph(hypothesis))
    assert (path.substitutions, path.deletions, path.insertions, path.num_words) == (
        substitutions,
        deletions,
        insertions,
        num_words,
    )


@pytest.mark.parametrize("text", ["{ A / B", "A } B", "{ A { B } }"])
def test_alternatives_must_be_well_formed(text):
    with pytest.raises(NgtrainError, match="alternatives"):
        WordGraph(text)


STM = """\
;; a comment
c A c_A 0.0 2.0 <O,en,F,en-F> (%HESITATION) YES I
c A c_A 2.0 4.0 <O,en,F,en-F> IGNORE_TIME_SEGMENT_IN_SCORING
c A c_A 4.0 5.0 <O,en,F,en-F>
c B c_B 0.0 1.0 NO
"""


def timed(*words: tuple[str, float, str]) -> list[TimedWord]:
    return [TimedWord("c", channel, start, 0.1, word) for channel, start, word in words]


def test_words_are_scored_in_the_segments_they_fall_into(tmp_path):
    (tmp_path / "stm").write_text(STM)
    segments = read_stm(str(tmp_path / "stm"))
    words = timed(
        ("A", 0.1, "uh"), ("A", 0.5, "yes"),  # I is missing
        ("A", 3.0, "ignored"), ("A", 4.5, "inserted"), ("A", 7.0, "outside"),
        ("B", 0.1, "know"),
    )  # fmt: skip
    errors = score(segments, words, NO_RULES, MappingRules([Rule("UH", "%HESITATION", " ", " ")]))
    assert (errors.substitutions, errors.deletions, errors.insertions) == (1, 1, 2)
    assert errors.num_words == 4
    assert errors.num_sentences == 4  # the three that count, and what is outside


def test_capitals_of_recordings_and_channels_do_not_count(tmp_path):
    (tmp_path / "stm").write_text("C a s 0.0 1.0 <O> yes\n")
    errors = score(read_stm(str(tmp_path / "stm")), timed(("A", 0.1, "YES")), NO_RULES, NO_RULES)
    assert (errors.total, errors.num_words) == (0, 1)


@pytest.mark.parametrize("line", ["c A c_A 0.0", "c A c_A zero 1.0 <O> YES"])
def test_line_that_is_no_segment_is_named(tmp_path, line):
    (tmp_path / "stm").write_text(f";;\n{line}\n")
    with pytest.raises(NgtrainError, match="line 2"):
        read_stm(str(tmp_path / "stm"))


@pytest.fixture
def decoded(tmp_path):
    """A data directory of two sides of a call, and a decoding directory of two settings."""
    data, graph, directory = tmp_path / "data", tmp_path / "graph", tmp_path / "nnet" / "decode"
    for path in data, graph, directory / "scoring":
        path.mkdir(parents=True)
    (graph / "words.txt").write_text("<eps> 0\nyes 1\nno 2\nuh 3\n[noise] 4\nt._v. 5\n<unk> 6\n")
    (data / "segments").write_text("u1 sw_1 0.0 2.0 0\nu2 sw_1 0.0 1.0 1\nu3 en_1 0.0 1.0 0\n")
    (data / "glm").write_text(GLM)
    (data / "stm").write_text(
        ';; LABEL "O" "Overall" "Overall"\n'
        "sw_1 A x 0.0 2.0 <O> (%HESITATION) YES T. V.\nsw_1 B x 0.0 1.0 <O> NO\n"
        "en_1 A x 0.0 1.0 <O> NO NO\n"
    )
    (directory / "scoring" / "10_0.0.1.tra").write_text("u1 3 1 4 5\nu2 2\nu3 2 6 1\n")
    (directory / "scoring" / "12_0.0.1.tra").write_text("u1 1\nu2 1\nu3\n")
    return data, graph, directory


def test_program_writes_the_best_result_of_each_subset(run_program, decoded):
    _, _, directory = decoded
    run_program("score_nist.py", "--scorer", "own", "--subsets", "swbd=sw_ callhome=en_", *decoded)
    lines = (directory / "nist_wer").read_text().splitlines()
    assert [line.split(" ] ")[0] for line in lines] == [
        "%WER 14.29 [ 1 / 7, 0 ins, 0 del, 1 sub",
        "%WER 0.00 [ 0 / 5, 0 ins, 0 del, 0 sub",
        "%WER 50.00 [ 1 / 2, 0 ins, 0 del, 1 sub",
    ]
    assert all("10_0.0" in line for line in lines)


@pytest.mark.slow
def test_program_and_sclite_agree(run_program, decoded):
    if not find_hubscr():
        pytest.skip(NO_SCTK)
    _, _, directory = decoded
    results = []
    for scorer in "own", "sclite":
        run_program("score_nist.py", "--scorer", scorer, *decoded)
        results.append((directory / "nist_wer").read_text().split("]")[0])
    assert results[0] == results[1]


def test_program_names_utterance_without_segment(run_program, decoded):
    data, _, _ = decoded
    (data / "segments").write_text("u1 sw_1 0.0 2.0 0\n")
    result = run_program("score_nist.py", "--scorer", "own", *decoded, check=False)
    assert result.returncode != 0
    assert "u2" in result.stderr.decode().splitlines()[-1]


# The same texts by NIST's programs ----------------------------------------------------------------


def scores_of_sclite(pairs: list[tuple[str, str]], directory) -> list[tuple[int, int, int]]:
    """Substitutions, deletions and insertions in each pair of a reference and a hypothesis."""
    hubscr = find_hubscr()
    if not hubscr:
        pytest.skip(NO_SCTK)
    for name, texts in zip(("ref", "hyp"), zip(*pairs, strict=True), strict=True):
        write_lines(directory / name, (f"{text} (s-{n})" for n, text in enumerate(texts)))
    files = ["-r", directory / "ref", "trn", "-h", directory / "hyp", "trn", "-i", "spu_id"]
    sclite = [Path(hubscr).with_name("sclite"), "-F", "-D", *files, "-o", "pralign", "stdout"]
    said = subprocess.run(sclite, capture_output=True, text=True, check=True).stdout
    pattern = r"id: \(s-(\d+)\)\nScores: \(#C #S #D #I\) \d+ (\d+) (\d+) (\d+)\n"
    scores = {int(n): tuple(map(int, counts)) for n, *counts in re.findall(pattern, said)}
    return [scores[n] for n in range(len(pairs))]


def own_score(reference: str, hypothesis: str) -> tuple[int, int, int]:
    path = align(WordGraph(reference), WordGraph(hypothesis))
    return path.substitutions, path.deletions, path.insertions


def random_words(rng: random.Random, words: list[str], most: int) -> str:
    return " ".join(rng.choice(words) for _ in range(rng.randint(0, most)))


def test_random_words_are_aligned_as_by_sclite(tmp_path):
    """Every single one, although most have several alignments of the same cost."""
    rng = random.Random(0)
    words = list("ABCDEFGH")
    pairs = [(random_words(rng, words, 12), random_words(rng, words, 12)) for _ in range(1000)]
    assert [own_score(*pair) for pair in pairs] == scores_of_sclite(pairs, tmp_path)


@pytest.mark.slow
def test_decoded_words_are_aligned_as_by_sclite(kaldi_hypotheses, tmp_path):
    """Digits that Kaldi decoded, in strings, so that there is something to align."""
    rng = random.Random(0)
    pairs = []
    for _ in range(500):
        chosen = [rng.choice(kaldi_hypotheses) for _ in range(rng.randint(1, 25))]
        pairs.append(tuple(" ".join(texts) for texts in zip(*chosen, strict=True)))
    assert [own_score(*pair) for pair in pairs] == scores_of_sclite(pairs, tmp_path)


@pytest.fixture
def kaldi_hypotheses(shared, reference) -> list[tuple[str, str]]:
    """Transcripts, and what Kaldi decoded: a pair for each of the best paths of each utterance."""
    symbols = SymbolTable.load(str(shared / "kaldi/data/lang/words.txt"))
    transcripts = read_table(reference("kaldi/data/test/text"))
    pairs = []
    for path in (shared / "kaldi/golden/lattices/nbest.txt").read_text().strip().split("\n\n"):
        name, *arcs = path.strip().splitlines()
        numbers = [int(arc.split()[2]) for arc in arcs if len(arc.split()) == 4]
        words = " ".join(symbols[number] for number in numbers if number)
        pairs.append((transcripts[name.strip().rpartition("-")[0]].upper(), words.upper()))
    return pairs


def random_reference(rng: random.Random) -> str:
    def item() -> str:
        if rng.random() < 0.15:
            choices = [rng.choice(["@", "A", "B C", "D A"]) for _ in range(2)]
            return f"{{ {' / '.join(choices)} }}"
        return rng.choice(["A", "B", "C", "D", "BE-", "BECK", "(A)", "(B)", "(UH)"])

    return " ".join(item() for _ in range(rng.randint(0, 7)))


@pytest.mark.parametrize("seed", [0, 1])
def test_random_texts_get_as_many_errors_as_from_sclite(seed, tmp_path):
    """But for few alternatives that cost the same, of which sclite may choose another."""
    hubscr = find_hubscr()
    if not hubscr:
        pytest.skip(NO_SCTK)
    rng = random.Random(seed)
    stm, words = [';; LABEL "O" "Overall" "Overall"'], []
    for n in range(200):
        stm.append(f"c A s {2 * n}.00 {2 * n + 2}.00 <O> {random_reference(rng)}")
        for k in range(rng.randint(0, 7)):
            word = rng.choice(["A", "B", "C", "D", "BE", "BECK"])
            words.append(TimedWord("c", "A", 2 * n + 0.1 + 0.25 * k, 0.1, word))
    data = tmp_path / "random"
    data.mkdir()
    (data / "stm").write_text("\n".join(stm) + "\n")
    (data / "glm").write_text(GLM)
    (data / "segments").write_text("u c 0.0 1.0\n")
    scorer = Scorer(data, {"all": ""}, hubscr)
    write_lines(data / "all.ctm", map(ctm_line, words))
    theirs = scorer.run_hubscr(data / "all.ctm", words, "")
    ours = scorer.score(data / "all.ctm", words, "")
    assert ours.num_sentences == theirs.num_sentences
    assert ours.total == pytest.approx(theirs.total, rel=0.001)
    assert ours.num_words == pytest.approx(theirs.num_words, rel=0.01)
