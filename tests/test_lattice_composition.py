"""Lattices composed with transducers and each other, and unions of lattices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from archives import read_table

from nnet.decoding.fst import FST, ArrayFst
from nnet.decoding.rescoring import ModelChange, backoff_model, graph_costs
from nnet.errors import NgtrainError
from nnet.io.tables import table_writer
from nnet.lattices.combination import relative_weights, union, with_total
from nnet.lattices.composition import ArcTransducer, compose
from nnet.lattices.conversion import to_compact_lattice, to_lattice
from nnet.lattices.lattice import COMPACT_ARC, CompactLattice
from nnet.lattices.operations import scaled
from nnet.lattices.paths import best_path, best_paths
from nnet.lattices.strings import LabelStrings
from nnet.lattices.sweep import Sweep
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE
from nnet.lattices.times import depth

PHI, RHO = 9, 8
BIGRAM = ["0 1 1 1 0.5", "0 1 9 0 2", "1 1 1 1 1", "1 1 2 2 0.25", "1 0.125"]
"""The word 1, and by back-off what state 1 has, 1 (dearer) and 2."""


def random_lattice(rng: np.random.Generator, num_states: int = 5) -> CompactLattice:
    """A lattice of the words 1 and 2, with arcs without a word, and a string at an end."""
    source, into = np.triu_indices(num_states, 1)
    kept = (into == source + 1) | (rng.random(len(source)) < 0.5)
    source = np.repeat(source[kept], 2)
    arcs = np.zeros(len(source), COMPACT_ARC)
    arcs["nextstate"] = np.repeat(into[kept], 2)
    arcs["label"] = rng.integers(0, 3, len(arcs))
    arcs["weight"] = rng.integers(0, 50, (len(arcs), 2)) / 8
    finals = np.full((num_states, 2), np.inf)
    finals[[2, -1]] = [[1, 0.5], [0, 0]]
    strings = LabelStrings.of([rng.integers(1, 9, n) for n in arcs["nextstate"] - source])
    final_strings = LabelStrings.of([[], [], [7], *([] for _ in range(num_states - 3))])
    return CompactLattice.from_arcs(0, finals, source, arcs, strings, final_strings)


def random_fst(rng: np.random.Generator) -> ArrayFst:
    """A transducer with all kinds of arcs, without a cycle of silent ones."""
    lines = []
    for _ in range(9):
        begin, to = sorted(rng.integers(0, 3, 2))
        label = rng.choice([1, 2, PHI]) if begin == to else rng.choice([0, 1, 2])
        if label != PHI:
            lines.append(f"{begin} {to} {label} {rng.integers(0, 4)} {rng.integers(0, 40) / 8}")
    return ArrayFst.parse("\n".join(["0 2 1 1", *lines, "2 0.25", "1 2"]))


def ways(
    fst: ArrayFst, words: list[int], state: int = 0
) -> Iterator[tuple[tuple[int, ...], float]]:
    """All outputs and costs with which a transducer reads words; PHI is tried by hand."""
    arcs = fst.arcs[fst.first_arc[state] : fst.first_arc[state + 1]].tolist()
    backs_off = [(cost, to) for label, _, cost, to in arcs if label == PHI]
    reads = {label for label, *_ in arcs}
    if not words and fst.finals[state] < np.inf:
        yield (), float(fst.finals[state])
    for label, output, cost, to in arcs:
        if label == 0 or (words and label == words[0]):
            for outputs, more in ways(fst, words[label != 0 :], to):
                yield (*((output,) if output else ()), *outputs), cost + more
    if backs_off and (words[0] not in reads if words else fst.finals[state] == np.inf):
        ((cost, to),) = backs_off
        yield from ((outputs, cost + more) for outputs, more in ways(fst, words, to))


def all_paths(lattice: CompactLattice) -> list[tuple[list[int], tuple[int, ...], np.ndarray]]:
    return [
        (path.words(lattice), tuple(path.alignment(lattice)), path.weight(lattice))
        for path in best_paths(lattice, 100_000)
    ]


def counted(paths) -> Counter:
    return Counter((tuple(w), a, tuple(np.round(weight, 3).tolist())) for w, a, weight in paths)


@pytest.mark.parametrize("seed", range(8))
def test_each_pair_of_paths_is_one_path(seed):
    rng = np.random.default_rng(seed)
    lattice = random_lattice(rng)
    fst = ArrayFst.parse("\n".join(BIGRAM)) if seed == 0 else random_fst(rng)
    expected = [
        (outputs, alignment, weight + np.array([cost, 0]))
        for words, alignment, weight in all_paths(lattice)
        for outputs, cost in ways(fst, words)
    ]
    assert len(expected) > 3
    composed = compose(lattice, ArcTransducer(graph_costs(fst), phi=PHI))
    assert counted(all_paths(composed)) == counted(expected)
    as_ids = compose(to_lattice(lattice), ArcTransducer(graph_costs(fst), phi=PHI))
    assert counted(all_paths(to_compact_lattice(as_ids))) == counted(expected)


def test_other_words():
    lattice = random_lattice(np.random.default_rng(1))
    fst = ArrayFst.parse(f"0 0 1 3 0.5\n0 0 {RHO} {RHO} 2\n0")
    for words, _, _ in all_paths(compose(lattice, ArcTransducer(graph_costs(fst), rho=RHO))):
        assert set(words) <= {2, 3}
    circle = ArrayFst.parse(f"0 1 {PHI} 0\n1 0 {PHI} 0")
    with pytest.raises(ValueError, match="the label 9 lead in a circle"):
        compose(lattice, ArcTransducer(graph_costs(circle), phi=PHI))


@pytest.mark.slow
def test_a_grammar_is_taken_away_as_by_kaldi(kaldi_lattices, kaldi, run_program, tmp_path):
    """As steps/lmrescore.sh --mode 2 does."""
    grammar = f"fstproject --project_output=true {kaldi}/data/lang_test/G.fst |"
    negative = "lattice-scale --acoustic-scale=-1 --lm-scale=-1"
    source = f"ark:{negative} ark:{kaldi_lattices}/lat.ark ark:- |"
    run_program("lattice-compose", source, grammar, f"ark:{tmp_path}/composed")
    back = f"ark:| {negative} ark:- ark:{tmp_path}/out"
    run_program("lattice-determinize", f"ark:{tmp_path}/composed", back)
    theirs = read_table(f"ark:{kaldi_lattices}/lm_removed.txt", COMPACT_LATTICE)
    ours = read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)
    assert list(ours) == list(theirs)
    for key, lattice in ours.items():
        assert depth(lattice) == depth(theirs[key])
        pairs = zip(best_paths(lattice, 50), best_paths(theirs[key], 50), strict=True)
        for one, other in pairs:
            assert one.words(lattice) == other.words(theirs[key])
            assert one.weight(lattice) == pytest.approx(other.weight(theirs[key]), abs=2e-3)


# Programs -----------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path):
    """Two tables of lattices, of which the second lacks a key; and a table of transducers."""
    rng = np.random.default_rng(0)
    for name, keys in ("a", "xyz"), ("b", "xz"):
        with table_writer(f"ark:{tmp_path}/{name}", COMPACT_LATTICE) as table:
            for key in keys:
                table.write(key, random_lattice(rng))
    ArrayFst.parse("\n".join(BIGRAM)).save(f"{tmp_path}/fst")
    with table_writer(f"ark:{tmp_path}/fsts", FST) as table:
        table.write("x", ArrayFst.load(f"{tmp_path}/fst"))
        table.write("z", ArrayFst.parse("0 1 5 5\n1"))
    return tmp_path


def test_what_lattices_are_composed_with(run_program, tables):
    source, out = f"ark:{tables}/a", f"ark:{tables}/out"
    run_program("lattice-compose", "--phi-label=9", source, tables / "fst", out)
    alone = read_table(out, COMPACT_LATTICE)
    assert list(alone) == ["x", "y", "z"]
    options = ["--phi-label=9", "--compose-with-fst=true", "--write-compact=false"]
    result = run_program("lattice-compose", *options, source, f"ark:{tables}/fsts", out)
    assert b"no key y in" in result.stderr and b"Empty lattice for utterance z" in result.stderr
    by_key = read_table(out, LATTICE)
    assert list(by_key) == ["x"]
    assert counted(all_paths(to_compact_lattice(by_key["x"]))) == counted(all_paths(alone["x"]))
    for options, second, reason in (
        (["--phi-label=0"], tables / "fst", b"--phi-label=0 is no label"),
        (["--phi-label=3", "--rho-label=4"], tables / "fst", b"exclude each other"),
        (["--compose-with-fst=false"], tables / "fst", b"needs a table of lattices"),
    ):
        result = run_program("lattice-compose", *options, source, second, out, check=False)
        assert result.returncode == 1 and reason in result.stderr


def test_means_of_two_systems(run_program, tables):
    """lattice-interp is lattice-project, lattice-compose and lattice-scale."""
    first, second, out = (f"ark:{tables}/{name}" for name in ("a", "b", "out"))
    result = run_program("lattice-interp", "--alpha=0.25", first, second, out)
    assert b"Done 2 lattices; failed for 1" in result.stderr and b"no key y" in result.stderr
    interpolated = read_table(out, COMPACT_LATTICE)
    run_program("lattice-project", second, f"ark:{tables}/projected")
    run_program("lattice-compose", first, f"ark:{tables}/projected", out)
    one, other = (read_table(table, COMPACT_LATTICE) for table in (first, second))
    for key, composed in read_table(out, COMPACT_LATTICE).items():
        expected = [
            (words, alignment, 0.25 * weight + 0.75 * more)
            for words, alignment, weight in all_paths(one[key])
            for same, _, more in all_paths(other[key])
            if words == same
        ]
        assert counted(all_paths(interpolated[key])) == counted(expected)
        assert len(all_paths(composed)) == len(expected)
    run_program("lattice-project", "--project-output=false", second, f"ark:{tables}/projected")
    projected = read_table(f"ark:{tables}/projected", LATTICE)["x"]
    assert (projected.arcs["ilabel"] == projected.arcs["olabel"]).all()
    assert projected.arcs["ilabel"].any()


def log_total(lattice: CompactLattice) -> float:
    return Sweep(lattice).backward(-lattice.costs, -lattice.final_costs, np.logaddexp)[0]


def test_systems_are_combined_by_their_weights(run_program, tables):
    lattices = [random_lattice(np.random.default_rng(seed)) for seed in range(2)]
    normalized = [with_total(lattices[0], 0.25), with_total(lattices[1], 0.75)]
    assert [log_total(one) for one in normalized] == pytest.approx(np.log([0.25, 0.75]), abs=1e-5)
    both = union(normalized)
    assert log_total(both) == pytest.approx(0, abs=1e-5)
    assert counted(all_paths(both)) == sum(map(counted, map(all_paths, normalized)), Counter())
    first, second, out = (f"ark:{tables}/{name}" for name in ("a", "b", "out"))
    options = ["--inv-acoustic-scale=2", "--lat-weights=1:3"]
    result = run_program("lattice-combine", *options, first, second, out, check=False)
    assert result.returncode == 0
    assert b"Produced output for 3 utterances; 1 total missing lattices" in result.stderr
    combined, one = read_table(out, COMPACT_LATTICE), read_table(first, COMPACT_LATTICE)
    assert log_total(combined["x"]) == pytest.approx(0, abs=1e-5)
    assert log_total(combined["y"]) == pytest.approx(np.log(0.25), abs=1e-5)
    best = best_path(scaled(one["y"], 1, 0.5))
    assert best_path(combined["y"]).words(combined["y"]) == best.words(one["y"])


def test_lattices_without_a_path_are_left_out_of_unions(run_program, tables):
    """And one archive stands in for another."""
    with table_writer(f"ark:{tables}/empty", COMPACT_LATTICE) as table:
        for key in "xyz":
            table.write(key, random_lattice(np.random.default_rng(0)).renumbered(np.array([0])))
    first, second, out = (f"ark:{tables}/{name}" for name in ("empty", "b", "out"))
    result = run_program("lattice-combine", first, second, out, check=False)
    assert b"no path of the lattice reaches a final state" in result.stderr
    assert list(read_table(out, COMPACT_LATTICE)) == ["x", "z"]
    result = run_program("lattice-copy-backoff", f"ark:{tables}/a", second, out)
    assert b"1 lattices are those of the first table" in result.stderr
    copied, other = (read_table(table, COMPACT_LATTICE) for table in (out, second))
    assert list(copied) == ["x", "y", "z"]
    assert counted(all_paths(copied["x"])) == counted(all_paths(other["x"]))
    result = run_program("lattice-union", f"ark:{tables}/a", second, out)
    assert b"1 lattices have no other" in result.stderr
    best: dict[tuple, float] = {}
    for table in f"ark:{tables}/a", second:
        for words, _, weight in all_paths(read_table(table, COMPACT_LATTICE)["x"]):
            best[tuple(words)] = min(best.get(tuple(words), np.inf), weight.sum())
    united = all_paths(read_table(out, COMPACT_LATTICE)["x"])
    assert {tuple(w): weight.sum() for w, _, weight in united} == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("text", ["1:2:3", "1:x", "1:0", "1:-1", "nan:1"])
def test_weights_that_are_none(text):
    with pytest.raises(NgtrainError, match="expected 2 numbers greater than 0"):
        relative_weights(text, 2)


def test_determinization_keeps_the_best_of_equal_words(run_program, tables):
    run_program("lattice-determinize", f"ark:{tables}/a", f"ark:{tables}/out")
    run_program("lattice-determinize", "--prune=true", "--beam=2", f"ark:{tables}/a",
                f"ark:{tables}/pruned")  # fmt: skip
    before = read_table(f"ark:{tables}/a", COMPACT_LATTICE)
    pruned = read_table(f"ark:{tables}/pruned", COMPACT_LATTICE)
    for key, lattice in read_table(f"ark:{tables}/out", COMPACT_LATTICE).items():
        best: dict[tuple, float] = {}
        for words, _, weight in all_paths(before[key]):
            best[tuple(words)] = min(best.get(tuple(words), np.inf), weight.sum())
        found = {tuple(words): weight.sum() for words, _, weight in all_paths(lattice)}
        assert len(all_paths(lattice)) == len(best) and found == pytest.approx(best, abs=1e-3)
        near = {words for words, cost in best.items() if cost <= min(best.values()) + 2}
        assert near <= {tuple(words) for words, _, _ in all_paths(pruned[key])} < set(best)


def test_costs_of_transitions(run_program, kaldi_lattices, reference, model, lattices, tmp_path):
    options = ["--transition-scale=0.9", "--self-loop-scale=0.1"]
    run_program("lattice-add-trans-probs", *options, reference("kaldi/exp/tri2_ali/final.mdl"),
                f"ark:{kaldi_lattices}/lat.ark", f"ark:{tmp_path}/out")  # fmt: skip
    costs = -model.scaled_log_probs(0.9, 0.1)
    for key, lattice in read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE).items():
        pairs = zip(best_paths(lattice, 10**6), [lattices[key]] * 10**6, strict=False)
        before = {tuple(p.words(lattices[key])): p for p in best_paths(lattices[key], 10**6)}
        for path, old in pairs:
            added = costs[path.alignment(lattice)].sum()
            expected = before[tuple(path.words(lattice))].weight(old) + np.array([added, 0])
            assert path.weight(lattice) == pytest.approx(expected, rel=1e-5)


def test_one_grammar_for_another(run_program, tables):
    """Costs are those of the back-off models; what is beyond the beam goes."""
    old, new = ArrayFst.parse("\n".join(BIGRAM)), ArrayFst.parse("0 0 1 1 0.5\n0 0 2 2 3\n0 1")
    for name, fst in ("old", old), ("new", new):
        fst.arcs["olabel"][fst.arcs["olabel"] == PHI] = 0
        fst.save(f"{tables}/{name}")
    options = ["--lm-scale=0.5", "--acoustic-scale=0.25"]
    models = [tables / "old", tables / "new"]
    for beam in 1000, 3:
        scales = [*options, f"--lattice-compose-beam={beam}"]
        arguments = [*models, f"ark:{tables}/a", f"ark:{tables}/out"]
        run_program("lattice-lmrescore-pruned", *scales, *arguments)
        before = read_table(f"ark:{tables}/a", COMPACT_LATTICE)
        for key, lattice in read_table(f"ark:{tables}/out", COMPACT_LATTICE).items():
            expected = [
                (words, alignment, weight + np.array([0.5 * (added - removed), 0]))
                for words, alignment, weight in all_paths(before[key])
                for (_, removed), (_, added) in zip(ways(old, words), ways(new, words), strict=True)
            ]
            totals = [graph + 0.25 * acoustic for _, _, (graph, acoustic) in expected]
            near = [e for e, t in zip(expected, totals, strict=True) if t <= min(totals) + beam]
            found = counted(all_paths(lattice))
            assert counted(near) <= found
            assert (found == counted(expected)) == (beam == 1000)


def test_words_that_a_model_lacks_have_no_costs():
    lacks = backoff_model(ArrayFst.parse("0 0 1 1 0.5\n0 1"))
    change = ModelChange(lacks, backoff_model(ArrayFst.parse("\n".join(BIGRAM))), 1.0)
    assert change.follow(change.start, 2) == []
