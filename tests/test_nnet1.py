"""Networks of nnet1, and raw networks that are put together."""

import numpy as np
import pytest

from nnet.components.affine import AffineComponentPreconditionedOnline
from nnet.errors import NgtrainError
from nnet.io.tokens import read_object
from nnet.model.network import Network
from nnet.model.nnet1 import read_nnet1
from nnet.model.propagation import compute

TEXT = """<Nnet>
<Splice> 6 2
[ -1 0 1 ]
<!EndOfComponent>
<AddShift> 6 6
<LearnRateCoef> 0  [ 1 2 3 4 5 6 ]
<!EndOfComponent>
<Rescale> 6 6
 [ 0.1 0.2 0.3 0.4 0.5 0.6 ]
<AffineTransform> 2 6
<LearnRateCoef> 1 <BiasLearnRateCoef> 1 <MaxNorm> 0
 [
  0.5 0 0 0 0 1
  1 2 3 4 5 6 ]
 [ 0.1 0.2 ]
<!EndOfComponent>
<sigmoid> 2 2
<!EndOfComponent>
<Softmax> 2 2
<!EndOfComponent>
</Nnet>
"""
TYPES = ["Splice", "FixedBias", "FixedScale", "Affine", "Sigmoid", "Softmax"]


@pytest.fixture
def nnet1(tmp_path):
    """nnet1(old, new): a file with a network in which something is replaced."""

    def path(old="", new=""):
        assert old in TEXT
        (tmp_path / "nnet1").write_text(TEXT.replace(old, new) if old else TEXT)
        return str(tmp_path / "nnet1")

    return path


def test_all_that_has_a_counterpart_is_converted(nnet1):
    network = read_object(nnet1(), read_nnet1)
    assert [c.type for c in network.components] == [f"{name}Component" for name in TYPES]
    assert network.learning_rates == [np.float32(1e-5)]
    x = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    padded = np.pad(x, ((1, 1), (0, 0)), mode="edge")
    spliced = np.hstack([padded[:-2], padded[1:-1], padded[2:]])
    scaled = (spliced + np.arange(1, 7)) * np.arange(0.1, 0.65, 0.1)
    hidden = scaled @ np.array([[0.5, 1], [0, 2], [0, 3], [0, 4], [0, 5], [1, 6]]) + [0.1, 0.2]
    powers = np.exp(1 / (1 + np.exp(-hidden)))
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(compute(network, x), expected, rtol=1e-5)


def test_affine_layers_for_the_online_natural_gradient(nnet1):
    network = read_object(nnet1(), lambda reader: read_nnet1(reader, online=True))
    component = network.components[3]
    assert type(component) is AffineComponentPreconditionedOnline
    given = component.rank_in, component.rank_out, component.update_period, component.alpha
    assert given == (20, 80, 4, 4.0) and component.num_samples_history == 2000


def test_binary_and_without_an_end(tmp_path):
    """As older versions of Kaldi wrote it: no closing tokens."""

    def number(value):
        return b"\4" + np.int32(value).tobytes()

    def values(kind, array):
        array = np.float32(array)
        return kind + b" " + b"".join(map(number, array.shape)) + array.tobytes()

    (tmp_path / "nnet1").write_bytes(
        b"\0B<AffineTransform> " + number(1) + number(2) + b"<LearnRateCoef> \4"
        + np.float32(1).tobytes() + values(b"FM", [[3, 4]]) + values(b"FV", [5])
        + b"<Sigmoid> " + number(1) + number(1)
    )  # fmt: skip
    network = read_object(str(tmp_path / "nnet1"), read_nnet1)
    assert [c.type for c in network.components] == ["AffineComponent", "SigmoidComponent"]
    weights, bias = network.components[0].parameters
    assert (weights.tolist(), bias.tolist()) == ([[3, 4]], [5])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<sigmoid>", "<Lstm>", "<Lstm> is not converted; what is: <affinetransform>"),
        ("<AddShift> 6", "<AddShift> 7", "6 inputs and 7 outputs has data for 6 and 6"),
        ("<Softmax> 2 2", "<Softmax> 3 3", "output dimension 2"),
        ("[ -1 0 1 ]", "[ 1 2 3 ]", "does not span frame 0"),
        ("[ 0.1 0.2 ]", "[ 0.1 ]", "dimension of b"),
        (TEXT, "<Nnet> </Nnet>", "at least one component"),
    ],
)
def test_what_is_refused(nnet1, old, new, reason):
    with pytest.raises(NgtrainError, match=reason) as caught:
        read_object(nnet1(old, new), read_nnet1)
    assert "nnet1" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_programs_of_raw_networks(nnet1, run_program, tmp_path):
    (tmp_path / "config").write_text("ScaleComponent dim=2 scale=2\n")
    run_program("raw-nnet-init", tmp_path / "config", tmp_path / "scale")
    run_program("nnet1-to-raw-nnet", nnet1(), tmp_path / "raw")
    run_program("raw-nnet-concat", tmp_path / "raw", tmp_path / "scale", tmp_path / "both")
    network = read_object(str(tmp_path / "both"), Network.read)
    assert [c.type for c in network.components] == [f"{n}Component" for n in [*TYPES, "Scale"]]
    command = "nnet1-to-raw-nnet", "--use_preconditioned_affine_component=true", nnet1(), "-"
    assert b"<AffineComponentPreconditionedOnline>" in run_program(*command).stdout
    (tmp_path / "config").write_text("ScaleComponent dim=3 scale=2\n")
    run_program("raw-nnet-init", tmp_path / "config", tmp_path / "scale")
    command = "raw-nnet-concat", tmp_path / "raw", tmp_path / "scale", tmp_path / "x"
    failed = run_program(*command, check=False)
    assert failed.returncode != 0 and b"output dimension 2" in failed.stderr
    assert not (tmp_path / "x").exists()
