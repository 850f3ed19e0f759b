"""The programs that make, change, train and apply networks."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from nnet.egs.minibatches import read_minibatches
from nnet.io.tables import MATRIX, sequential_table, table_writer
from nnet.model.acoustic_model import AcousticModel, load_network
from nnet.model.network import Network
from nnet.model.propagation import compute

NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]\d+)?")


def parameters(network: Network) -> list[np.ndarray]:
    return [p for component in network.updatable_components for p in component.parameters]


def assert_same_info(ours: bytes, kaldis: bytes):
    """The same words, and the same numbers but for the rounding of single precision."""
    ours, kaldis = ours.decode(), kaldis.decode()
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", kaldis)
    numbers, expected = ([float(n) for n in NUMBER.findall(text)] for text in (ours, kaldis))
    np.testing.assert_allclose(numbers, expected, rtol=5e-6)


@pytest.fixture(scope="module")
def model(golden) -> str:
    return str(golden / "training/online_multisplice/1.mdl")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["sgd_relu", "sgd_sigmoid", "simple_pnorm", "online_lowrank", "online_multisplice"]
)
def test_models_come_out_as_they_went_in(reference, run_program, tmp_path, name):
    directory = reference(f"kaldi/golden/training/{name}/0.mdl").parent
    for model in (directory / f for f in ("0.mdl", "1.mdl")):
        assert run_program("nnet-am-copy", model, "-").stdout == model.read_bytes()
    info = (directory / "info.txt").read_bytes()
    assert_same_info(run_program("nnet-am-info", model).stdout, info)


@pytest.mark.slow
def test_text_form_is_kaldis(reference, run_program):
    for name in "simple_pnorm", "online_pnorm":
        directory = reference(f"kaldi/golden/training/{name}/1.mdl.txt.gz").parent
        text = gzip.decompress((directory / "1.mdl.txt.gz").read_bytes())
        assert (
            run_program("nnet-am-copy", "--binary=false", directory / "1.mdl", "-").stdout == text
        )
        assert run_program("nnet-am-copy", "--binary=false", "-", "-", stdin=text).stdout == text


@pytest.mark.slow
def test_raw_networks(model, run_program, tmp_path):
    raw, copy = tmp_path / "1.raw", tmp_path / "copy.raw"
    run_program("nnet-to-raw-nnet", model, raw)
    run_program("raw-nnet-copy", "--binary=false", raw, copy)
    run_program("raw-nnet-copy", copy, copy)
    info = run_program("raw-nnet-info", copy).stdout
    assert run_program("nnet-am-info", model).stdout == info + b"prior dimension: 0"
    factors = "--learning-rate-scales=AffineComponentPreconditionedOnline=0.5:AffineComponent=3"
    run_program("raw-nnet-copy", "--truncate=8", factors, raw, copy)
    network = load_network(str(copy))
    assert len(network.components) == 8
    np.testing.assert_allclose(network.learning_rates, [0.01, 0.01])


@pytest.mark.slow
def test_nnet_am_copy_changes_what_it_is_asked_to(model, run_program, tmp_path):
    original, out = AcousticModel.load(model).network, tmp_path / "out.mdl"

    def copied(*options) -> Network:
        run_program("nnet-am-copy", *options, model, out)
        return load_network(str(out))

    assert copied("--learning-rate=0.003").learning_rates == pytest.approx([0.003] * 3)
    assert copied("--learning-rate-factor=0.5").learning_rates == pytest.approx([0.01] * 3)
    rates = copied("--learning-rates=1:2:3", "--learning-rate=7").learning_rates
    assert rates == pytest.approx([1, 2, 3])
    printed = run_program("nnet-am-info", "--print-learning-rates", out).stdout
    assert printed == b"1:2:3\n"
    scaled = copied("--scales=1:2:0")
    for a, b, factor in zip(
        parameters(scaled), parameters(original), [1, 1, 2, 2, 0, 0], strict=True
    ):
        np.testing.assert_allclose(a, factor * b, rtol=1e-6)
    plain = copied("--remove-preconditioning=true")
    assert {c.type for c in plain.updatable_components} == {"AffineComponent"}
    for a, b in zip(parameters(plain), parameters(original), strict=True):
        np.testing.assert_array_equal(a, b)
    for option in "--learning-rates=1:2", "--scales=1:2:x", "--learning-rate-scales=Affine":
        result = run_program("nnet-am-copy", option, model, out, check=False)
        assert result.returncode != 0
        assert f"expected {option.split('=')[0]} to be" in result.stderr.decode()


@pytest.mark.slow
def test_dropout_comes_and_goes(model, golden, run_program, tmp_path):
    config = tmp_path / "dropout.config"
    config.write_text(
        "DropoutComponent dim=40 dropout-proportion=0.25\n"
        "AdditiveNoiseComponent dim=40 stddev=0.1\n"
    )
    with_noise, out = tmp_path / "noise.mdl", tmp_path / "out.mdl"
    insert = ("--insert-at=8", "--randomize-next-component=false")
    run_program("nnet-insert", *insert, model, f"nnet-init {config} - |", with_noise)
    trained = []
    for srand in 1, 1, 2:
        run_program(
            *("nnet-train-simple", "--minibatch-size=128", f"--srand={srand}", with_noise),
            *(f"ark:{golden}/egs_1frame.ark", out),
        )
        trained.append(out.read_bytes())
    assert trained[0] == trained[1] != trained[2]
    run_program("nnet-am-copy", "--dropout-scale=0.5", with_noise, out)
    info = run_program("nnet-am-info", out).stdout.decode()
    assert (
        "component 8 : DropoutComponent, input-dim=40, output-dim=40, "
        "dropout_proportion = 0.25, dropout_scale = 0.5\n"
    ) in info
    run_program("nnet-am-copy", "--remove-dropout=true", with_noise, out)
    assert out.read_bytes() == Path(model).read_bytes()


@pytest.mark.slow
def test_init_and_insert(golden, run_program, tmp_path):
    config = golden / "training/online_multisplice/nnet.config"
    raw, same, other = (tmp_path / f"{i}.raw" for i in range(3))
    for srand, file in (5, raw), (5, same), (6, other):
        run_program("nnet-init", f"--srand={srand}", config, file)
    assert raw.read_bytes() == same.read_bytes() != other.read_bytes()
    start = golden / "training/online_multisplice/0.mdl"
    initial, larger = tmp_path / "0.mdl", tmp_path / "1.mdl"
    run_program("nnet-am-init", f"copy-transition-model {start} - |", raw, initial)
    kaldis = run_program("nnet-am-info", start).stdout.decode()
    ours = run_program("nnet-am-info", initial).stdout.decode()
    stddev = re.compile("params-stddev=[0-9.e-]+")
    assert stddev.sub("", ours) == stddev.sub("", kaldis)

    hidden = tmp_path / "hidden.config"
    hidden.write_text(
        "AffineComponent input-dim=40 output-dim=200 learning-rate=0.01\n"
        "PnormComponent input-dim=200 output-dim=40\n"
        "NormalizeComponent dim=40\n"
    )
    run_program("nnet-insert", "--srand=1", initial, f"nnet-init {hidden} - |", larger)
    before, after = (load_network(str(f)) for f in (initial, larger))
    types = [component.type for component in before.components]
    inserted = ["AffineComponent", "PnormComponent", "NormalizeComponent"]
    assert [c.type for c in after.components] == types[:8] + inserted + types[8:]
    for a, b in zip(parameters(before)[:4], parameters(after)[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert 0.09 < after.components[11].linear_params.std() * 40**0.5 < 0.11
    assert after.components[11].bias_params.any()
    result = run_program(
        *("nnet-insert", "--insert-at=7", initial, f"nnet-init {hidden} - |", tmp_path / "no.mdl"),
        check=False,
    )
    assert b"component 10 is not updatable" in result.stderr
    assert result.returncode != 0 and not (tmp_path / "no.mdl").exists()

    replaced = tmp_path / "2.mdl"
    last = tmp_path / "last.config"
    last.write_text("AffineComponent input-dim=40 output-dim=128\nSoftmaxComponent dim=128\n")
    run_program("nnet-replace-last-layers", initial, f"nnet-init {last} - |", replaced)
    types = [component.type for component in load_network(str(replaced)).components]
    assert types[-3:] == ["NormalizeComponent", "AffineComponent", "SoftmaxComponent"]
    assert len(types) == 10


def test_model_of_the_wrong_size_is_refused(golden, run_program, tmp_path):
    result = run_program(
        "nnet-am-init",
        golden / "training/sgd_relu/0.mdl",
        golden / "components/softmax.raw",
        tmp_path / "0.mdl",
        check=False,
    )
    assert result.returncode != 0 and not (tmp_path / "0.mdl").exists()
    assert b"neural net has 40, transition model has 128" in result.stderr


@pytest.mark.slow
def test_compute_programs(model, golden, run_program, tmp_path):
    features = dict(sequential_table(f"ark:{golden}/feats.ark", MATRIX))
    network = load_network(model)

    def outputs(program, *options, source=model) -> dict[str, np.ndarray]:
        out = tmp_path / "out.ark"
        run_program(program, *options, source, f"ark:{golden}/feats.ark", f"ark:{out}")
        return dict(sequential_table(f"ark:{out}", MATRIX))

    plain = outputs("nnet-am-compute")
    assert plain.keys() == features.keys()
    for key, output in plain.items():
        np.testing.assert_allclose(output, compute(network, features[key]), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-5)
    variants = [
        (outputs("nnet-compute", source=f"nnet-to-raw-nnet {model} - |"), lambda y: y),
        (outputs("nnet-am-compute", "--chunk-size=10"), lambda y: y),
        (outputs("nnet-am-compute", "--apply-log"), np.log),
        (outputs("nnet-compute", "--apply-log=true"), np.log),
        (outputs("nnet-am-compute", "--pad-input=false"), lambda y: y[4:-4]),
    ]
    for result, function in variants:
        for key, output in plain.items():
            np.testing.assert_allclose(result[key], function(output), rtol=1e-4, atol=1e-6)
    result = run_program(
        *("nnet-am-compute", "--divide-by-priors", model, f"ark:{golden}/feats.ark", "ark:-"),
        check=False,
    )
    assert result.returncode != 0 and b"there are no priors" in result.stderr


def test_compute_from_egs_and_compute_prob_agree(model, golden, run_program, tmp_path):
    egs = f"ark:{golden}/egs_1frame.ark"
    out = tmp_path / "out.ark"
    run_program("nnet-compute-from-egs", model, egs, f"ark:{out}")
    rows = [matrix for key, matrix in sequential_table(f"ark:{out}", MATRIX) if key == "global"]
    y = np.concatenate(rows)
    assert len(rows) == 1280 and y.shape == (1280, 128)
    printed = float(run_program("nnet-compute-prob", model, egs).stdout)
    network = load_network(model)
    (minibatch,) = read_minibatches(egs, 2000, network.left_context, network.right_context)
    log_prob = np.log(y[minibatch.rows, minibatch.pdfs].astype(np.float64)).mean()
    np.testing.assert_allclose(log_prob, printed, rtol=1e-5)


@pytest.mark.slow
def test_training_on_archives_as_they_are(model, golden, run_program, tmp_path):
    """--frame and --shuffle-buffer-size do what nnet-copy-egs and nnet-shuffle-egs would."""
    egs = f"ark:{golden}/egs_8frames.ark"

    def trained(*options) -> list[np.ndarray]:
        out = tmp_path / "out.mdl"
        run_program("nnet-train-simple", "--minibatch-size=64", *options, model, egs, out)
        return parameters(load_network(str(out)))

    def distance(a, b) -> float:
        return max(float(np.abs(p - q).max()) for p, q in zip(a, b, strict=True))

    frame_3 = trained("--frame=3")
    copied = tmp_path / "copied.mdl"
    run_program(
        *("nnet-train-simple", "--minibatch-size=64", model, f"ark:{golden}/egs_frame3.ark", copied)
    )
    assert distance(frame_3, parameters(load_network(str(copied)))) == 0
    shuffled = trained("--frame=3", "--shuffle-buffer-size=100", "--srand=1")
    assert distance(shuffled, frame_3) > 0
    assert distance(shuffled, trained("--frame=3", "--shuffle-buffer-size=100", "--srand=1")) == 0
    assert distance(shuffled, trained("--frame=3", "--shuffle-buffer-size=100", "--srand=2")) > 0
    assert distance(trained("--frame=random"), frame_3) > 0
    rate_0 = trained("--frame=3", "--learning-rate=0")
    assert distance(rate_0, parameters(load_network(model))) == 0


@pytest.mark.slow
def test_training_that_fails_writes_nothing(golden, run_program, tmp_path):
    egs, out = f"ark:{golden}/egs_1frame.ark", tmp_path / "out.mdl"
    model = golden / "training/sgd_relu/0.mdl"
    empty = tmp_path / "empty.ark"
    empty.write_bytes(b"")
    for options, source, reason in (
        (["--learning-rate=1e37"], egs, "is the learning rate too high?"),
        ([], f"ark:{empty}", "there are no examples"),
        ([], f"ark:{golden}/egs_8frames.ark", "labelled frames"),
        (["--frame=x"], egs, "expected an index or random"),
        (["--minibatch-size=0"], egs, "is not in the range 1<=x"),
    ):
        result = run_program("nnet-train-simple", *options, model, source, out, check=False)
        lines = result.stderr.decode().splitlines()
        assert result.returncode != 0
        assert re.search(reason, lines[-1]), lines
        assert lines[-1].startswith("ERROR (nnet-train-simple")
        assert list(tmp_path.glob("out.mdl*")) == []


def test_table_writer_is_not_left_half_written(model, run_program, tmp_path):
    """NaN in the middle of a table of features: no output."""
    with table_writer(f"ark:{tmp_path}/feats.ark", MATRIX) as writer:
        writer.write("a", np.ones((20, 40), np.float32))
        writer.write("b", np.full((20, 40), np.nan, np.float32))
    result = run_program(
        *("nnet-am-compute", model, f"ark:{tmp_path}/feats.ark", f"ark:{tmp_path}/out.ark"),
        check=False,
    )
    assert result.returncode != 0
    assert b"b: there is NaN or infinity in the features" in result.stderr
    assert not (tmp_path / "out.ark").exists()
