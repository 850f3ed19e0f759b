"""Minimum Bayes risk decoding, confidences and the oracle of lattices, beside Kaldi's."""

import numpy as np
import pytest
from archives import read_table

from nnet.io.tables import INTEGERS, POSTERIOR, REAL, REAL_PAIRS, sequential_table, table_writer
from nnet.lattices import sausages
from nnet.lattices.edit_distance import EditDistance
from nnet.lattices.lattice import EPSILON, CompactLattice
from nnet.lattices.operations import scaled, with_super_final
from nnet.lattices.oracle import oracle
from nnet.lattices.order import topsorted
from nnet.lattices.paths import best_paths
from nnet.lattices.tables import COMPACT_LATTICE


@pytest.mark.slow
def test_mbr_and_ctm_are_kaldis(kaldi_lattices, run_program, tmp_path):
    source = f"ark:{kaldi_lattices}/lat.ark"
    result = run_program("lattice-to-ctm-conf", "--acoustic-scale=0.1", source, tmp_path / "ctm")
    assert (tmp_path / "ctm").read_bytes() == (kaldi_lattices / "conf.ctm").read_bytes()
    assert b"Done 13 lattices." in result.stderr
    outputs = [f"ark,t:{tmp_path}/{name}" for name in ("mbr", "risk", "sausages", "times")]
    run_program("lattice-mbr-decode", "--acoustic-scale=0.1", source, *outputs)
    assert (tmp_path / "mbr").read_bytes() == (kaldi_lattices / "mbr.txt").read_bytes()
    risks, bins, times = (
        read_table(output, holder)
        for output, holder in zip(outputs[1:], (REAL, POSTERIOR, REAL_PAIRS), strict=True)
    )
    assert len(risks) == len(bins) == len(times) == 13
    for key, frames in times.items():
        assert len(frames) == len(bins[key])
        assert all(begin <= end for begin, end in frames)
        sums = [sum(p for _, p in words) for words in bins[key]]
        assert sums == pytest.approx([1] * len(sums), abs=1e-5)


@pytest.mark.slow
def test_map_decoding_keeps_the_words_that_are_given(
    lattices, kaldi_lattices, run_program, tmp_path
):
    given = {key: [2, 3] for key in list(lattices)[1:]}
    with table_writer(f"ark:{tmp_path}/words", INTEGERS) as table:
        for key, words in given.items():
            table.write(key, words)
    arguments = ["--decode-mbr=false", "--inv-acoustic-scale=10", f"ark:{kaldi_lattices}/lat.ark"]
    result = run_program(
        "lattice-to-ctm-conf", *arguments, f"ark:{tmp_path}/words", tmp_path / "ctm"
    )
    lines = [line.split() for line in (tmp_path / "ctm").read_text().splitlines()]
    assert [(line[0], line[4]) for line in lines] == [(k, w) for k in given for w in "23"]
    assert b"1 utterances are left out, such as no key lucas-0-04" in result.stderr


def plain_recursion(lattice: CompactLattice, r: list[int]):
    """The recursion of the paper's figures 4 and 5, arc by arc and position by position."""
    lattice = with_super_final(topsorted(lattice))
    n_states, size, costs = lattice.num_states, len(r), lattice.costs
    end = int(np.flatnonzero(lattice.is_final)[0])
    log_alpha = np.full(n_states, -np.inf)
    log_alpha[0] = 0
    entering = {n: np.flatnonzero(lattice.arcs["nextstate"] == n) for n in range(n_states)}

    def loss(a, b, more=0.0):
        return 0.0 if a == b else 1.0 + more

    alpha, beta = np.zeros((n_states, size + 1)), np.zeros((n_states, size + 1))
    alpha[0, 1:] = np.cumsum([loss(EPSILON, word) for word in r])
    over_arc = {}
    for n in range(1, n_states):
        for a in entering[n]:
            log_alpha[n] = np.logaddexp(log_alpha[n], log_alpha[lattice.source[a]] - costs[a])
        for a in entering[n]:
            s, w = lattice.source[a], lattice.words[a]
            distances, steps = [alpha[s, 0] + loss(w, EPSILON, 1e-5)], [0]
            for q in range(1, size + 1):
                choices = [
                    alpha[s, q - 1] + loss(w, r[q - 1]),
                    alpha[s, q] + loss(w, EPSILON, 1e-5),
                    distances[-1] + loss(EPSILON, r[q - 1]),
                ]
                steps.append(int(np.argmin(np.round(choices, 10))) + 1)
                distances.append(min(choices))
            share = np.exp(log_alpha[s] - costs[a] - log_alpha[n])
            over_arc[a] = share, steps
            alpha[n] += share * np.array(distances)
    gamma: list[dict[int, float]] = [{} for _ in r]
    beta[end, size] = 1

    def count(q, word, amount):
        gamma[q - 1][word] = gamma[q - 1].get(word, 0.0) + amount

    for n in range(n_states - 1, 0, -1):
        for a in entering[n]:
            (share, steps), s = over_arc[a], lattice.source[a]
            beta_arc = share * beta[n]
            for q in range(size, 0, -1):
                if steps[q] == 1:
                    beta[s, q - 1] += beta_arc[q]
                    count(q, int(lattice.words[a]), beta_arc[q])
                elif steps[q] == 2:
                    beta[s, q] += beta_arc[q]
                else:
                    beta_arc[q - 1] += beta_arc[q]
                    count(q, EPSILON, beta_arc[q])
            beta[s, 0] += beta_arc[0]
    left = beta[0].copy()
    for q in range(size, 0, -1):
        left[q - 1] += left[q]
        count(q, EPSILON, left[q])
    return alpha[end, size], gamma


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], [2], [11, 4], [6, 6, 3], [5, 2, 9, 4]])
def test_all_arcs_of_a_level_at_once_give_what_one_by_one_gives(lattices, words):
    r = [EPSILON]
    for word in words:
        r += [word, EPSILON]
    for key in "lucas-0-04", "lucas-1-34", "yweweler-7-34", "yweweler-9-14":
        lattice = scaled(lattices[key], 0.2, 0.005)  # much is possible
        expected, gamma = plain_recursion(lattice, r)
        found, counts = EditDistance(lattice).between(np.array(r))
        assert found == pytest.approx(expected, abs=1e-6)
        for q, word, value in zip(counts.position, counts.word, counts.gamma, strict=True):
            assert value == pytest.approx(gamma[q].pop(int(word)), abs=1e-7)
        assert all(rest < 1e-10 for each in gamma for rest in each.values())


def test_decoding_lessens_the_expected_errors(lattices):
    for lattice in lattices.values():
        flat = scaled(lattice, 0.2, 0.01)
        decoded, start = sausages.decode(flat), sausages.decode(flat, update=False)
        assert decoded.risk <= start.risk + 1e-9
        assert all(b.posteriors == sorted(b.posteriors, reverse=True) for b in decoded.bins)
        every = sausages.decode(flat, keep_silence=True)
        assert [word for word in every.words if word] == decoded.words
        assert len(every.words) == len(decoded.bins)
        ends = [time for pair in decoded.times for time in pair]
        assert ends == sorted(ends)


# The oracle ---------------------------------------------------------------------------------------


def distance(a, b) -> int:
    d = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, d[0] = d.copy(), i
        for j, y in enumerate(b, 1):
            d[j] = min(before[j] + 1, d[j - 1] + 1, before[j - 1] + (x != y))
    return d[-1]


@pytest.mark.slow
def test_no_path_has_fewer_errors_and_none_with_as_few_costs_less(lattices):
    rng = np.random.default_rng(0)
    for lattice in lattices.values():
        paths = best_paths(lattice, 1000)
        for _ in range(3):
            reference = rng.integers(2, 12, rng.integers(0, 5)).tolist()
            path, errors = oracle(lattice, reference)
            distances = [distance(p.words(lattice), reference) for p in paths]
            assert errors.total == min(distances) == distance(path.words(lattice), reference)
            assert errors.num_words == len(reference)
            best = paths[distances.index(min(distances))]
            assert path.weight(lattice).sum() == pytest.approx(best.weight(lattice).sum(), abs=0.01)


@pytest.mark.slow
def test_oracle_is_kaldis(kaldi_lattices, reference, run_program, tmp_path):
    symbols, transcripts = reference("kaldi/data/lang/words.txt"), reference("kaldi/data/test/text")
    text = f"ark:sym2int.py -f 2- {symbols} {transcripts} |"
    outputs = [f"ark,t:{tmp_path}/words", f"ark,t:{tmp_path}/errors"]
    written = f"--write-lattices=ark:{tmp_path}/lattices"
    result = run_program("lattice-oracle", written, f"ark:{kaldi_lattices}/lat.ark", text, *outputs)
    assert (tmp_path / "words").read_bytes() == (kaldi_lattices / "oracle.txt").read_bytes()
    theirs = (kaldi_lattices / "lattice-oracle.log").read_text()
    overall = "Overall %WER 0 [ 0 / 13, 0 insertions, 0 deletions, 0 substitutions ]"
    assert overall in theirs and overall in result.stderr.decode()
    for key, lattice in sequential_table(f"ark:{tmp_path}/lattices", COMPACT_LATTICE):
        [path] = best_paths(lattice, 2)
        assert f"{key} {path.words(lattice)[0]}" in (tmp_path / "words").read_text()


def test_wildcards_are_no_errors(lattices):
    lattice = lattices["lucas-0-04"]
    everything = range(1, 12)
    path, errors = oracle(lattice, [2, 3, 4], everything)
    assert errors.total == errors.num_words == 0
    assert path.weight(lattice).sum() == pytest.approx(
        best_paths(lattice, 1)[0].weight(lattice).sum()
    )
