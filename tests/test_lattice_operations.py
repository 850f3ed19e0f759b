"""Operations on lattices, and the programs around them, beside what Kaldi's programs wrote."""

from __future__ import annotations

import numpy as np
import pytest
from archives import read_table

from nnet.errors import NgtrainError
from nnet.io.tables import INTEGERS, POSTERIOR, REAL
from nnet.lattices.acoustic_costs import with_acoustic_costs_of
from nnet.lattices.conversion import to_compact_lattice, to_lattice
from nnet.lattices.lattice import ACOUSTIC, LATTICE_ARC, Lattice
from nnet.lattices.operations import pruned, scaled
from nnet.lattices.paths import best_path, best_paths, linear, random_paths
from nnet.lattices.posteriors import forward_backward
from nnet.lattices.sweep import Sweep
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE, naming
from nnet.lattices.times import depth, depth_per_frame, state_times

RAW = "kaldi/golden/lattices/raw.ark.gz"


def assert_equal(found: dict, expected: dict) -> None:
    """Check that lattices have the same best paths with the same costs, and the same depth."""
    assert_same_paths(found, expected)
    for key, lattice in found.items():
        assert depth(lattice)[1] == depth(expected[key])[1]
        assert depth(lattice)[0] == pytest.approx(depth(expected[key])[0], rel=1e-3)


def assert_same_paths(found: dict, expected: dict, acoustic_scale: float = 0.1) -> None:
    """Check that the 30 best paths of lattices are the same, with costs within 1e-3."""
    assert list(found) == list(expected)
    for key, lattice in found.items():
        ours = best_paths(scaled(lattice, 1, acoustic_scale), 30)
        theirs = best_paths(scaled(expected[key], 1, acoustic_scale), 30)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one.words(lattice) == other.words(expected[key])
            assert one.alignment(lattice) == other.alignment(expected[key])
            np.testing.assert_allclose(
                one.weight(lattice), other.weight(expected[key]), atol=1e-3, rtol=1e-6
            )


@pytest.mark.parametrize(
    "command, expected",
    [
        (("lattice-scale", "--inv-acoustic-scale=12", "--lm-scale=0.9"), "scaled.txt"),
        (("lattice-add-penalty", "--word-ins-penalty=0.5"), "penalty.txt"),
        (("lattice-1best", "--acoustic-scale=0.1"), "1best.txt"),
        (("lattice-depth",), "depth.txt"),
        (("lattice-depth-per-frame",), "depth_per_frame.txt"),
    ],
)
def test_the_bytes_of_kaldi(command, expected, kaldi_lattices, run_program, tmp_path):
    run_program(*command, f"ark:{kaldi_lattices}/lat.ark", f"ark,t:{tmp_path}/out")
    assert (tmp_path / "out").read_bytes() == (kaldi_lattices / expected).read_bytes()


def test_best_path(kaldi_lattices, run_program, tmp_path):
    result = run_program(
        "lattice-best-path", "--acoustic-scale=0.05", f"ark:{kaldi_lattices}/lat.ark",
        f"ark,t:{tmp_path}/words", f"ark,t:{tmp_path}/ali",
    )  # fmt: skip
    for name, expected in ("words", "best_path.txt"), ("ali", "best_path_ali.txt"):
        assert (tmp_path / name).read_bytes() == (kaldi_lattices / expected).read_bytes()
    log = (kaldi_lattices / "lattice-best-path.log").read_text()
    said = [line.partition(") ")[2] for line in result.stderr.decode().splitlines()]
    assert said[-2:] == [line.partition(") ")[2] for line in log.splitlines()[-2:]]


@pytest.mark.parametrize(
    "command, expected",
    [
        (("lattice-prune", "--acoustic-scale=0.1", "--beam=4"), "pruned.txt"),
        (("lattice-to-nbest", "--acoustic-scale=0.1", "--n=5"), "nbest.txt"),
        (("lattice-to-phone-lattice", "MODEL"), "phones.txt"),
    ],
)
def test_the_lattices_of_kaldi(command, expected, kaldi_lattices, run_program, tmp_path, reference):
    model = reference("kaldi/exp/tri2_ali/final.mdl")
    command = [str(model) if word == "MODEL" else word for word in command]
    run_program(*command, f"ark:{kaldi_lattices}/lat.ark", f"ark:{tmp_path}/out")
    found = read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)
    file = reference(f"kaldi/golden/lattices/{expected}")
    assert_equal(found, read_table(f"ark:{file}", COMPACT_LATTICE))


def test_posteriors(kaldi_lattices, run_program, tmp_path):
    result = run_program("lattice-to-post", "--acoustic-scale=0.1", f"ark:{kaldi_lattices}/lat.ark",
                         f"ark:{tmp_path}/post", f"ark:{tmp_path}/loglikes")  # fmt: skip
    found = read_table(f"ark:{tmp_path}/post", POSTERIOR)
    expected = read_table(f"ark:{kaldi_lattices}/post.txt", POSTERIOR)
    assert list(found) == list(expected)
    for ours, theirs in zip(found.values(), expected.values(), strict=True):
        for frame, other in zip(ours, theirs, strict=True):
            assert [index for index, _ in frame] == [index for index, _ in other]
            np.testing.assert_allclose(*([p for _, p in pairs] for pairs in (frame, other)), 1e-5)
    log = (kaldi_lattices / "lattice-to-post.log").read_text()
    said = log[log.index("Overall") :].splitlines()[0]
    assert said in result.stderr.decode()
    assert len(read_table(f"ark:{tmp_path}/loglikes", REAL)) == len(found)


def test_phones_instead_of_transition_ids(kaldi_lattices, run_program, tmp_path, reference, model):
    """Of one path, they are the phones of its alignment."""
    final = reference("kaldi/exp/tri2_ali/final.mdl")
    run_program("lattice-to-phone-lattice", "--replace-words=false", final,
                f"ark:{kaldi_lattices}/1best.txt", f"ark:{tmp_path}/out")  # fmt: skip
    best = read_table(f"ark:{kaldi_lattices}/1best.txt", COMPACT_LATTICE)
    for key, lattice in read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE).items():
        ids = np.array(best_path(best[key]).alignment(best[key]))
        assert (
            best_path(lattice).alignment(lattice)
            == model.phone_of[ids[model.is_final[ids]]].tolist()
        )


def test_all_paths_in_order(lattices):
    """The n best are the best n, and all that there are in a small one."""
    lattice = min(lattices.values(), key=lambda lattice: lattice.num_arcs)
    paths = best_paths(lattice, 10_000)
    costs = [path.weight(lattice).sum() for path in paths]
    assert costs == sorted(costs)
    assert [path.arcs for path in best_paths(lattice, 3)] == [path.arcs for path in paths[:3]]
    ways = Sweep(lattice).forward(np.zeros(lattice.num_arcs), np.logaddexp)
    assert round(np.exp(ways[lattice.is_final]).sum()) == len(paths)
    assert len({tuple(path.arcs) for path in paths}) == len(paths)


def test_forward_backward_of_all_paths(lattices):
    """The posterior of an arc is that of all paths through it."""
    lattice = min(lattices.values(), key=lambda lattice: lattice.num_arcs)
    weighted = to_lattice(scaled(lattice, 1, 0.1))
    paths = best_paths(weighted, 10_000)
    likelihoods = np.exp([-path.weight(weighted).sum() for path in paths])
    found = forward_backward(weighted)
    assert found.log_likelihood == pytest.approx(np.log(likelihoods.sum()))
    expected = np.zeros(weighted.num_arcs)
    for path, likelihood in zip(paths, likelihoods / likelihoods.sum(), strict=True):
        expected[path.arcs] += likelihood
    np.testing.assert_allclose(found.arcs, expected, rtol=1e-6)
    acoustic = [-path.weight(weighted)[1] for path in paths]
    assert found.acoustic == pytest.approx(acoustic @ likelihoods / likelihoods.sum())


def test_pruning_keeps_the_best(lattices):
    for lattice in lattices.values():
        weighted = scaled(lattice, 1, 0.1)
        left = pruned(weighted, 3.0)
        costs = [path.weight(weighted).sum() for path in best_paths(weighted, 500)]
        num_within = sum(cost <= costs[0] + 3.0 for cost in costs)
        kept = best_paths(left, 500)
        assert [path.weight(left).sum() for path in kept[:num_within]] == pytest.approx(
            costs[:num_within]
        )


def test_frames(lattices, kaldi_lattices):
    lengths = {
        key: len(ali) for key, ali in read_table(f"ark:{kaldi_lattices}/ali.txt", INTEGERS).items()
    }
    for key, lattice in lattices.items():
        value, num_frames = depth(lattice)
        assert num_frames == lengths[key] == len(depth_per_frame(lattice))
        assert depth_per_frame(lattice).mean() == pytest.approx(value)
        expanded = to_lattice(lattice)
        assert (state_times(expanded)[: lattice.num_states] == state_times(lattice)).all()


@pytest.mark.slow
def test_lattices_of_one_path_as_tables_and_back(kaldi_lattices, run_program, tmp_path):
    """What Kaldi wrote of the best paths comes of them, and they come of it but for their arcs."""
    best = f"ark:{tmp_path}/1best"
    run_program("lattice-1best", "--acoustic-scale=0.05", f"ark:{kaldi_lattices}/lat.ark", best)
    names = "ali", "words", "lm", "ac"
    run_program("nbest-to-linear", best, *(f"ark,t:{tmp_path}/{name}" for name in names))
    for name, expected in ("ali", "best_path_ali.txt"), ("words", "best_path.txt"):
        assert (tmp_path / name).read_bytes() == (kaldi_lattices / expected).read_bytes()
    run_program("linear-to-nbest", *(f"ark:{tmp_path}/{name}" for name in names),
                f"ark:{tmp_path}/nbest")  # fmt: skip
    assert_same_paths(read_table(f"ark:{tmp_path}/nbest", COMPACT_LATTICE),
                      read_table(best, COMPACT_LATTICE))  # fmt: skip


def test_several_paths_and_none_are_left_out_of_tables_and_ctm(run_program, tmp_path):
    (tmp_path / "lat").write_text("a \n0 1 5 1,2,7_8_8\n0 1 6\n1\n\nb \n\nc \n0 1 5 1,2,7\n1\n\n")
    for program in "nbest-to-linear", "nbest-to-ctm":
        target = f"ark,t:{tmp_path}/out" if program.endswith("linear") else tmp_path / "out"
        result = run_program(program, f"ark:{tmp_path}/lat", target)
        assert b"2 lattices are left out, such as a: the lattice is not one path" in result.stderr
        assert (tmp_path / "out").read_text() in ("c 7 \n", "c 1 0.000 0.010 5\n")
    (tmp_path / "lat").write_text("b \n\n")
    for program in "nbest-to-linear", "nbest-to-ctm":
        target = "ark:-" if program.endswith("linear") else "-"
        assert run_program(program, f"ark:{tmp_path}/lat", target, check=False).returncode == 1


def test_random_paths(lattices, run_program, kaldi_lattices, tmp_path):
    lattice = next(iter(lattices.values()))
    first = random_paths(lattice, 20, np.random.default_rng(1))
    again = random_paths(lattice, 20, np.random.default_rng(1))
    assert [path.arcs for path in first] == [path.arcs for path in again]
    assert len({tuple(path.arcs) for path in first}) > 5
    for path in first:
        assert lattice.is_final[path.final]
        assert linear(lattice, path).num_arcs == len(path.arcs)
    run_program("lattice-to-nbest", "--random=true", "--n=2", f"ark:{kaldi_lattices}/lat.ark",
                f"ark:{tmp_path}/out")  # fmt: skip
    assert len(read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)) == 2 * len(lattices)


def test_a_lattice_that_is_no_utterance(lattices):
    """Paths that differ in their frames, and what the message says."""
    lattice = to_lattice(next(iter(lattices.values())))
    lattice.arcs["ilabel"][0] = 0
    with pytest.raises(NgtrainError, match=r"lattice of a: .* differ in their frames"), naming("a"):
        forward_backward(lattice)


def test_scales_exclude_each_other(run_program, kaldi_lattices):
    result = run_program("lattice-scale", "--acoustic-scale=2", "--inv-acoustic-scale=2",
                         f"ark:{kaldi_lattices}/lat.ark", "ark:-", check=False)  # fmt: skip
    assert result.returncode == 1 and b"exclude each other" in result.stderr


def test_empty_lattice():
    empty = Lattice.from_arcs(-1, [], [], np.zeros(0, LATTICE_ARC))
    assert best_path(empty) is None and pruned(empty, 1).num_states == 0


def test_determinization(kaldi_lattices, run_program, tmp_path, reference):
    result = run_program(
        "lattice-determinize-pruned", "--acoustic-scale=0.1", "--beam=4",
        f"ark:gunzip -c {reference(RAW)} |", f"ark:{tmp_path}/out",
    )  # fmt: skip
    found = read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)
    assert_equal(found, read_table(f"ark:{kaldi_lattices}/determinized.txt", COMPACT_LATTICE))
    log = (kaldi_lattices / "lattice-determinize-pruned.log").read_text()
    said = [line.partition(") ")[2] for line in result.stderr.decode().splitlines()]
    assert said[-2:] == [line.partition(") ")[2] for line in log.splitlines()[-2:]]


@pytest.fixture(params=["lattice-determinize-pruned", "lattice-determinize-phone-pruned"])
def determinize_raw(request, run_program, reference, tmp_path):
    """A function that runs a program on raw lattices, and returns the table that it wrote."""
    model = [reference("kaldi/exp/tri2_ali/final.mdl")] if "phone" in request.param else []

    def run(*options, holder=COMPACT_LATTICE):
        run_program(
            *(request.param, "--acoustic-scale=0.1", "--beam=4", *options, *model),
            *(f"ark:gunzip -c {reference(RAW)} |", f"ark:{tmp_path}/out"),
        )
        return read_table(f"ark:{tmp_path}/out", holder)

    return run


def test_determinization_has_the_paths_of_kaldi(determinize_raw, kaldi_lattices):
    expected = read_table(f"ark:{kaldi_lattices}/determinized.txt", COMPACT_LATTICE)
    assert_same_paths(determinize_raw(), expected)


def test_determinization_keeps_the_costs_of_frames(determinize_raw, kaldi_lattices, reference):
    found = determinize_raw("--write-compact=false", holder=LATTICE)
    raw = read_table(f"ark:gunzip -c {reference(RAW)} |", LATTICE)
    for key, lattice in found.items():
        assert costs_of_frames(lattice) <= costs_of_frames(raw[key])
    expected = read_table(f"ark:{kaldi_lattices}/determinized.txt", COMPACT_LATTICE)
    compact = {key: to_compact_lattice(lattice) for key, lattice in found.items()}
    assert_same_paths(compact, expected)


def costs_of_frames(lattice: Lattice) -> set[tuple]:
    """Frame, transition-id and acoustic cost of arcs."""
    arcs = lattice.arcs
    frames = state_times(lattice)[lattice.source]
    costs = arcs["weight"][:, ACOUSTIC].round(3)
    return set(zip(frames.tolist(), arcs["ilabel"].tolist(), costs.tolist(), strict=True))


def test_acoustic_costs_are_averaged_and_must_be_of_frames():
    arcs = np.array([(7, 1, (0, 2), 1), (7, 2, (0, 4), 1), (0, 3, (5, 0), 2)], LATTICE_ARC)
    finals = np.array([[np.inf] * 2, [np.inf] * 2, [1, 0]])
    raw = Lattice.from_arcs(0, finals, [0, 0, 1], arcs)
    weights = with_acoustic_costs_of(raw, scaled(raw, 1, 9)).arcs["weight"]
    assert weights.tolist() == [[0, 3], [0, 3], [5, 0]]
    raw.arcs["weight"][2, ACOUSTIC] = 1
    with pytest.raises(ValueError, match="without transition-ids"):
        with_acoustic_costs_of(raw, raw)


def test_determinization_without_any_pass_says_so(kaldi_lattices, run_program, reference, tmp_path):
    result = run_program(
        "lattice-determinize-phone-pruned", "--phone-determinize=false", "--word-determinize=false",
        reference("kaldi/exp/tri2_ali/final.mdl"), f"ark:{kaldi_lattices}/lat.ark",
        f"ark:{tmp_path}/out",
    )  # fmt: skip
    assert b"copying lattice without determinization" in result.stderr
    expected = read_table(f"ark:{kaldi_lattices}/lat.ark", COMPACT_LATTICE)
    assert_same_paths(read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE), expected)
