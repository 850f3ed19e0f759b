"""Sequence training: against Kaldi's files, and its derivative against differences."""

from __future__ import annotations

import gzip
import re
from types import SimpleNamespace

import numpy as np
import pytest
from same_lattice import differences

from nnet.device.device import CPU
from nnet.egs.discriminative import DISCRIMINATIVE, DiscriminativeExample, joined, packed
from nnet.egs.discriminative_programs import shuffled
from nnet.egs.lattice_splitting import SplitOptions
from nnet.errors import NgtrainError
from nnet.io.tables import sequential_table, table_writer
from nnet.lattices.acceptor import Acceptor
from nnet.lattices.lattice import LATTICE_ARC, Lattice
from nnet.lattices.trellis import Trellis
from nnet.model.acoustic_model import AcousticModel
from nnet.natural_gradient import online
from nnet.training.sequence_criteria import Criterion, SequenceOptions, Supervision
from nnet.training.sequence_objective import SequenceObjective
from nnet.training.sequence_training import train_on_sequences

FOLDER = "kaldi/golden/discriminative"
SILENCE = frozenset([1])


@pytest.fixture
def kaldis(reference):
    """kaldis(name): a file that Kaldi made for sequence training."""
    return lambda name: reference(f"{FOLDER}/{name}")


@pytest.fixture
def examples(kaldis):
    return read(kaldis("combined.degs"))


def read(path) -> list[DiscriminativeExample]:
    return [example for _, example in sequential_table(f"ark:{path}", DISCRIMINATIVE)]


# The objective ------------------------------------------------------------------------------------


class Setting:
    """An example, with random outputs of a network and priors."""

    def __init__(self, transitions, example, options, seed=1):
        rng = np.random.default_rng(seed)
        priors = rng.dirichlet(np.full(transitions.num_pdfs, 5.0))
        model = SimpleNamespace(
            network=SimpleNamespace(device=CPU), transition_model=transitions,
            num_pdfs=transitions.num_pdfs, priors=priors,
        )  # fmt: skip
        self.objective = SequenceObjective(model, options)
        self.options, self.supervision = options, Supervision(example, transitions)
        self.log_y = np.log(rng.dirichlet(np.ones(len(priors)), self.supervision.num_frames))

    def at(self, log_y) -> tuple[float, np.ndarray]:
        """F, and its derivative w.r.t. log y."""
        totals = self.objective.totals
        before = totals.numerator, totals.objective
        log_derivative = self.objective(np.exp(log_y), self.supervision)
        numerator, objective = totals.numerator - before[0], totals.objective - before[1]
        derivative = np.zeros_like(log_y)
        derivative[log_derivative.rows, log_derivative.columns] = log_derivative.values
        is_mmi = self.options.criterion == "mmi"
        return numerator - objective if is_mmi else objective, derivative


@pytest.mark.parametrize(
    "options",
    [
        SequenceOptions("mmi", acoustic_scale=0.3),
        SequenceOptions("mmi", acoustic_scale=0.3, boost=0.4, silence_phones=SILENCE),
        SequenceOptions("mpfe", acoustic_scale=0.3, silence_phones=SILENCE),
        SequenceOptions("smbr", acoustic_scale=0.3, silence_phones=SILENCE),
        SequenceOptions("smbr", 0.3, one_silence_class=True, silence_phones=SILENCE),
    ],
    ids=["mmi", "boosted", "mpfe", "smbr", "one_silence_class"],
)
@pytest.mark.parametrize("which", [0, 2])
def test_the_derivative_is_that_of_the_objective(model, examples, options, which):
    example = examples[which]
    example.weight = 2.0
    setting = Setting(model, example, options)
    _, derivative = setting.at(setting.log_y)
    assert np.abs(derivative).sum() > 1
    rng = np.random.default_rng(2)
    for _ in range(4):
        direction = rng.standard_normal(derivative.shape) * (derivative != 0)
        step = 1e-4 * direction
        above, below = (setting.at(setting.log_y + sign * step)[0] for sign in (1, -1))
        predicted = options.acoustic_scale * (derivative * direction).sum()
        np.testing.assert_allclose((above - below) / 2e-4, predicted, rtol=1e-4, atol=1e-5)


def test_the_objective_of_mmi_falls_with_its_boost(model, examples):
    values = []
    for boost in 0.0, 0.5:
        options = SequenceOptions("mmi", 0.1, boost, silence_phones=SILENCE)
        setting = Setting(model, examples[0], options)
        values.append(setting.at(setting.log_y)[0])
    assert values[1] < values[0]


def test_dropped_frames_are_those_without_the_numerator(model, examples):
    setting = Setting(model, examples[0], SequenceOptions("mmi", 0.1))
    dropping = Setting(model, examples[0], SequenceOptions("mmi", 0.1, drop_frames=True))
    (_, every), (_, kept) = setting.at(setting.log_y), dropping.at(setting.log_y)
    s, pdf_of = setting.supervision, model.pdf_of
    possible = np.zeros_like(every, bool)
    possible[s.time, pdf_of[s.ids]] = True
    overlaps = possible[np.arange(s.num_frames), pdf_of[s.numerator]]
    assert 0 < overlaps.sum() < s.num_frames
    np.testing.assert_array_equal(kept, every * overlaps[:, None])


def test_bad_examples_are_named(model, examples):
    example = examples[0]
    shorter = DiscriminativeExample(
        1.0, example.num_ali[:-1], example.den_lat, example.input_frames, example.left_context
    )
    with pytest.raises(NgtrainError, match=r"denominator has \d+ frames, the numerator \d+"):
        Supervision(shorter, model)
    example.den_lat.arc_strings.values[3] = 30000
    with pytest.raises(NgtrainError, match="30000 is not a transition-id"):
        Supervision(example, model)
    with pytest.raises(NgtrainError, match="--criterion=mpe"):
        SequenceOptions("mpe")


@pytest.mark.parametrize("criterion", ["mmi", "mpfe", "smbr"])
@pytest.mark.slow
def test_objectives_are_kaldis(run_program, kaldis, criterion, tmp_path):
    """Before training, on whole lattices, and in the course of it."""
    whole = ["--boost=0.1", "--one-silence-class=true", "--learning-rate=0"]
    drop = criterion == "mmi"
    runs = [
        (whole, "whole.degs", f"{criterion}.objective.log", 1e-5),
        (
            [f"--drop-frames={drop}", "--learning-rate=0.0002"],
            "mmi.degs" if drop else "smbr.degs",
            f"{criterion}.log",
            1e-3,
        ),
    ]
    for options, degs, log_file, tolerance in runs:
        said = run_program(
            "nnet-train-discriminative-simple", f"--criterion={criterion}", "--silence-phones=1",
            *options, kaldis("0.mdl"), f"ark:{kaldis(degs)}", tmp_path / "new.mdl",
        ).stderr.decode()  # fmt: skip
        ours, theirs = numbers(said), numbers(kaldis(log_file).read_text())
        assert len(ours) == (5 if drop else 3)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    ours, theirs, start = (
        np.concatenate(parameters(AcousticModel.load(str(path))))
        for path in (tmp_path / "new.mdl", kaldis(f"{criterion}.mdl"), kaldis("0.mdl"))
    )
    # No more than rounding makes: test_kaldis_network_is_one_that_rounding_makes
    assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs - start)


@pytest.mark.slow
def test_kaldis_network_is_one_that_rounding_makes(kaldis, monkeypatch):
    """Kaldi's is as far from ours as ours are from each other, each rounded in another way.

    The first example has 6 frames, the estimates of Fisher matrices have rank 12: half of their
    rows are nothing but the roundoff of J_t, with Kaldi, whose log says so, as with us.
    """
    rng = np.random.default_rng(0)

    def rounded(J, *others):
        J *= (1 + 1e-7 * rng.standard_normal(J.shape)).astype(J.dtype)
        online.update_estimate(J, *others)

    def trained() -> AcousticModel:
        model = AcousticModel.load(str(kaldis("0.mdl")))
        model.network.set_learning_rate(0.0002)
        options = SequenceOptions("smbr", 0.1, silence_phones=SILENCE)
        train_on_sequences(model, f"ark:{kaldis('smbr.degs')}", options)
        return model

    monkeypatch.setattr(CPU, "update_estimate", rounded)
    start, theirs = (
        parameters(AcousticModel.load(str(kaldis(name)))) for name in ("0.mdl", "smbr.mdl")
    )
    ours = [parameters(trained()) for _ in range(3)]
    changes = [np.linalg.norm(new - old) for new, old in zip(theirs, start, strict=True)]

    def distances(one, other) -> np.ndarray:
        """Of each layer, relative to what training changed."""
        return np.array([np.linalg.norm(a - b) for a, b in zip(one, other, strict=True)]) / changes

    apart = np.mean([distances(ours[i], ours[i - 1]) for i in range(3)], axis=0)
    from_kaldi = np.mean([distances(mine, theirs) for mine in ours], axis=0)
    assert (from_kaldi < 1.5 * apart).all(), (from_kaldi, apart)
    assert apart[0] > 0.03 and (from_kaldi[1:] < 0.015).all()


def numbers(log: str) -> list[float]:
    """The numbers in the lines of statistics, and of the objective."""
    lines = [
        re.split(r"\) |cc:\d+\) ", line)[-1] for line in log.splitlines() if "per frame" in line
    ]
    return [
        float(word)
        for line in lines
        for word in re.findall(r"(?<![a-z])-?\d+\.?\d*(?:e-\d+)?", line)
    ]


def parameters(model: AcousticModel) -> list[np.ndarray]:
    """Those of each layer."""
    return [
        np.concatenate([component.linear_params.ravel(), component.bias_params]).astype(np.float64)
        for component in model.network.updatable_components
    ]


# Examples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["combined", "smbr", "mmi", "whole"])
def test_copies_are_equal_byte_for_byte(run_program, kaldis, name, tmp_path):
    path = kaldis(f"{name}.degs")
    run_program("nnet-copy-egs-discriminative", f"ark:{path}", f"ark:{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_text_form_is_kaldis(run_program, kaldis, tmp_path):
    binary, text = kaldis("smbr.degs"), gzip.decompress(kaldis("smbr.degs.txt.gz").read_bytes())
    run_program("nnet-copy-egs-discriminative", f"ark:{binary}", f"ark,t:{tmp_path}/text")
    assert (tmp_path / "text").read_bytes() == text


def test_text_is_read(examples, tmp_path):
    with table_writer(f"ark,t:{tmp_path}/text", DISCRIMINATIVE) as writer:
        writer.write("a", examples[2])
    (again,) = read(tmp_path / "text")
    assert again.num_ali.tolist() == examples[2].num_ali.tolist()
    assert differences(again.den_lat, examples[2].den_lat) == []
    rows, before = again.features(), examples[2].features()
    assert np.abs(rows - before).max() < 0.05 * np.abs(before).max()


def test_copying_in_turn_and_shuffling_lose_nothing(run_program, kaldis, tmp_path):
    path, outputs = kaldis("combined.degs"), [f"ark:{tmp_path}/{n}" for n in (1, 2)]
    run_program("nnet-copy-egs-discriminative", f"ark:{path}", *outputs)
    lengths = [[example.num_frames for example in read(tmp_path / n)] for n in ("1", "2")]
    every = [example.num_frames for example in read(path)]
    assert lengths == [every[::2], every[1::2]]
    for options in ["--srand=3"], ["--srand=3", "--buffer-size=2"]:
        run_program("nnet-shuffle-egs-discriminative", *options, f"ark:{path}", f"ark:{tmp_path}/s")
        shuffled = [example.num_frames for example in read(tmp_path / "s")]
        assert sorted(shuffled) == sorted(every)


def test_shuffling_has_orders_by_its_seed():
    orders = {
        tuple(shuffled(range(6), size, np.random.default_rng(seed)))
        for seed in range(8)
        for size in (0, 4)
    }
    assert len(orders) > 8 and {tuple(sorted(order)) for order in orders} == {tuple(range(6))}


def test_constant_features_are_averaged(run_program, kaldis, tmp_path):
    path = kaldis("combined.degs")
    run_program(
        "nnet-copy-egs-discriminative", "--const-feat-dim=3", f"ark:{path}", f"ark:{tmp_path}/new"
    )
    before, after = read(path)[0], read(tmp_path / "new")[0]
    assert after.features().shape == before.features().shape
    np.testing.assert_allclose(
        after.spk_info, before.features()[:, -3:].mean(axis=0), rtol=1e-4, atol=1e-5
    )


def test_combined_examples_are_kaldis(run_program, kaldis, tmp_path):
    run_program(
        "nnet-combine-egs-discriminative", "--max-length=300", f"ark:{kaldis('smbr.degs')}",
        f"ark:{tmp_path}/new",
    )  # fmt: skip
    ours, theirs = read(tmp_path / "new"), read(kaldis("combined.degs"))
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert one.num_ali.tolist() == other.num_ali.tolist()
        assert one.input_frames == other.input_frames
        assert one.left_context == other.left_context
        for name in "finals", "arcs", "first_arc":
            np.testing.assert_array_equal(getattr(one.den_lat, name), getattr(other.den_lat, name))
        assert one.den_lat.arc_strings.lists() == other.den_lat.arc_strings.lists()


def test_joining_adds_derivatives(model, examples):
    """Between the examples nothing moves, so that each keeps the derivative it has alone."""
    options = SequenceOptions("smbr", acoustic_scale=0.2, silence_phones=SILENCE)
    alone = [Setting(model, example, options, seed) for seed, example in enumerate(examples[1:])]
    both = Setting(model, joined(examples[1:]), options, seed=0)
    padding = examples[0].left_context + examples[0].right_context
    middle = np.log(np.full((padding, model.num_pdfs), 1 / model.num_pdfs))
    both.objective.log_priors = alone[1].objective.log_priors = alone[0].objective.log_priors
    value, derivative = both.at(np.concatenate([alone[0].log_y, middle, alone[1].log_y]))
    (first, before), (second, after) = (setting.at(setting.log_y) for setting in alone)
    padded = value - first - second  # the frames between are right, unless they are silence
    assert padded == pytest.approx(0 if model.phone_of[1] in SILENCE else padding)
    zeros = np.zeros_like(middle)
    np.testing.assert_allclose(derivative, np.concatenate([before, zeros, after]), atol=1e-5)


def test_packing_takes_the_first_that_fits():
    assert packed([5, 9, 3, 12, 2, 1], most=10) == [[0, 2, 4], [1, 5], [3]]


# Splitting ----------------------------------------------------------------------------------------


@pytest.fixture
def make_examples(run_program, kaldis, reference, tmp_path):
    """make_examples(*options) makes examples of the utterances that Kaldi used, and a log."""
    data, ali = reference("kaldi/data/train"), reference("kaldi/exp/tri2_ali")

    def make(*options) -> list[DiscriminativeExample]:
        features = (
            f'ark,s,cs:awk "NR % 125 == 3" {data}/feats.scp | apply-cmvn --utt2spk=ark:'
            f"{data}/utt2spk scp:{data}/cmvn.scp scp:- ark:- | splice-feats --left-context=3 "
            f"--right-context=3 ark:- ark:- | transform-feats {ali}/final.mat ark:- ark:- |"
        )
        done = run_program(
            "nnet-get-egs-discriminative", *options, kaldis("0.mdl"), features,
            f"ark:gunzip -c {ali}/ali.*.gz |", f"ark:{kaldis('denlats.ark')}",
            f"ark:{tmp_path}/new.degs",
        )  # fmt: skip
        (tmp_path / "log").write_bytes(done.stderr)
        return read(tmp_path / "new.degs")

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("smbr", ["--criterion=smbr"]),
        ("mmi", ["--criterion=mmi", "--drop-frames=true"]),
        ("whole", ["--criterion=smbr", "--split=false", "--excise=false"]),
    ],
)
def test_examples_are_kaldis(make_examples, kaldis, model, name, options):
    ours, theirs = make_examples(*options), read(kaldis(f"{name}.degs"))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.num_ali.tolist() == other.num_ali.tolist()
        # Compressed: some values, and quantiles, are a level higher or lower.
        np.testing.assert_allclose(one.features(), other.features(), atol=0.1)
        assert (np.abs(one.features() - other.features()) > 1e-3).mean() < 1e-3
        assert one.left_context == other.left_context
        if name == "whole":
            assert one.den_lat.num_arcs == other.den_lat.num_arcs
            continue
        for example in one, other:  # which transition-id of a pdf-id's is left is by chance
            values = example.den_lat.arc_strings.values
            values[:] = 1 + model.pdf_of[values]
        assert differences(one.den_lat, other.den_lat) == []


@pytest.mark.parametrize("options", [SplitOptions, SequenceOptions])
def test_criteria_that_are_none(options):
    with pytest.raises(NgtrainError, match="--criterion=mmie: expected one of"):
        options(criterion="mmie")


@pytest.mark.slow
def test_what_is_left_out_is_counted(make_examples, tmp_path):
    """Kaldi says of the same utterance: Example completely removed when excising."""
    assert len(make_examples("--criterion=smbr", "--split=false")) == 15
    said = (tmp_path / "log").read_text()
    assert "1 examples without a frame that moves anything are left out" in said


@pytest.mark.slow
def test_splitting_leaves_the_derivatives(make_examples, run_program, kaldis, tmp_path):
    """Kaldi's own test: sums of derivatives times features."""
    make_examples("--criterion=smbr")
    said = run_program(
        "nnet-compare-hash-discriminative", "--acoustic-scale=0.1", kaldis("0.mdl"),
        f"ark:{tmp_path}/new.degs", f"ark:{kaldis('whole.degs')}",
    ).stderr.decode()  # fmt: skip
    assert "tot_t1 = 509" in said and "tot_t2 = 650" in said
    failed = run_program(
        "nnet-compare-hash-discriminative", "--criterion=mmi", kaldis("0.mdl"),
        f"ark:{tmp_path}/new.degs", f"ark:{kaldis('whole.degs')}", check=False,
    )  # fmt: skip
    assert failed.returncode != 0 and b"differ" in failed.stderr


# Acceptors ----------------------------------------------------------------------------------------


def acceptor_of_strings(strings, rng):
    """A lattice of some strings, each on its own way from the start to the end, with costs."""
    length = len(strings[0])
    source, to, labels = [], [], []
    for i, string in enumerate(strings):
        states = [
            0,
            *(1 + i * (length - 1) + np.arange(length - 1)),
            1 + len(strings) * (length - 1),
        ]
        source += states[:-1]
        to += states[1:]
        labels += string
    arcs = np.zeros(len(source), LATTICE_ARC)
    arcs["ilabel"], arcs["nextstate"] = labels, to
    arcs["weight"] = rng.integers(0, 8, (len(source), 2))
    finals = np.full((states[-1] + 1, 2), np.inf)
    finals[-1] = rng.integers(0, 3, 2)
    return Lattice.from_arcs(0, finals, source, arcs)


def lightest(acceptor: Acceptor) -> dict[tuple, tuple]:
    """The lightest weight of each string, but for epsilons."""
    found: dict = {}

    def walk(state, string, weight):
        if state in acceptor.finals:
            total = tuple(np.add(weight, acceptor.finals[state]))
            key = lambda w: (sum(w), w[0])  # noqa: E731
            if string not in found or key(total) < key(found[string]):
                found[string] = total
        for label, to, more in acceptor.arcs[state]:
            walk(to, string + (label,) * (label != 0), tuple(np.add(weight, more)))

    walk(acceptor.start, (), (0.0, 0.0))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_operations_keep_the_weights_of_strings(seed):
    rng = np.random.default_rng(seed)
    strings = rng.integers(0, 3, (12, 5)).tolist()  # 0 is no label
    acceptor = Acceptor.of(acceptor_of_strings(strings, rng))
    expected = lightest(acceptor)
    plain = acceptor.without_epsilons()
    assert lightest(plain) == expected
    assert {s[::-1]: w for s, w in lightest(plain.reversed()).items()} == expected
    for made in plain.determinized(), plain.minimized():
        assert lightest(made) == expected
        for arcs in made.arcs:
            assert len({label for label, *_ in arcs}) == len(arcs)
    assert len(plain.minimized().arcs) < len(plain.arcs)


def test_the_scale_of_times_is_frames(examples):
    trellis = Trellis(examples[0].den_lat)
    lengths = np.concatenate(
        [
            examples[0].den_lat.arc_strings.lengths,
            examples[0].den_lat.final_strings.take(trellis.final_states).lengths,
        ]
    )
    assert trellis.times(lengths)[trellis.end] == examples[0].num_frames


def test_a_criterion_of_scores_alone(model, examples):
    supervision = Supervision(examples[0], model)
    value, derivative = Criterion(model, SequenceOptions("mmi"))(supervision, supervision.own_score)
    assert np.isfinite(value)
    assert abs(derivative.values.sum(dtype=np.float64)) < 1e-4  # numerator and denominator are 1
