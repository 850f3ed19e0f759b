"""Networks as ONNX, which onnxruntime computes as we do."""

import numpy as np
import pytest

from nnet.io.tables import MATRIX, sequential_table
from nnet.io.tokens import write_object
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.model.propagation import compute

onnx = pytest.importorskip("onnx", reason="ONNX cannot be checked: utils/setup_env.sh onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

EVERY_COMPONENT = [
    "SpliceComponent input-dim=6 context=-2:0:1 const-component-dim=2",
    "AffineComponent input-dim=14 output-dim=24 learning-rate=0.1 param-stddev=0.3 bias-stddev=0.5",
    "PnormComponent input-dim=24 output-dim=8 p=2",
    "NormalizeComponent dim=8",
    "SpliceComponent input-dim=8 context=-1:0:3",
    "AffineComponentPreconditionedOnline input-dim=24 output-dim=12 learning-rate=0.1 "
    "param-stddev=0.3 bias-stddev=0.5",
    "SigmoidComponent dim=12",
    "TanhComponent dim=12",
    "DropoutComponent dim=12",
    "AffineComponent input-dim=12 output-dim=12 learning-rate=0.1 param-stddev=0.3 bias-stddev=0.5",
    "RectifiedLinearComponent dim=12",
    "PnormComponent input-dim=12 output-dim=6 p=3",
    "AffineComponent input-dim=6 output-dim=6 learning-rate=0.1 param-stddev=0.3 bias-stddev=0.5",
    "SoftmaxComponent dim=6",
    "SumGroupComponent sizes=1:3:2",
]


def outputs(model, features):
    """What onnxruntime makes of each matrix."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [session.run(["output"], {"features": matrix})[0] for matrix in features]


def test_every_component_is_computed_the_same():
    from nnet.model.onnx_export import export

    rng = np.random.default_rng(1)
    network = Network.from_config(EVERY_COMPONENT, rng)
    features = [rng.normal(size=(rows, 6)).astype(np.float32) for rows in (1, 3, 40)]
    for matrix in features:
        matrix[:, 4:] = matrix[0, 4:]  # an i-vector
    exported = export(network, None, "posteriors").SerializeToString()
    network.remove_noise()
    for output, matrix in zip(outputs(exported, features), features, strict=True):
        assert output.shape == (len(matrix), 3)
        np.testing.assert_allclose(output, compute(network, matrix), atol=1e-6)


@pytest.mark.parametrize("p", [0, 1, 1.5, "inf"])
def test_norms(p):
    from nnet.model.onnx_export import export

    network = Network.from_config(
        [f"PnormComponent input-dim=12 output-dim=3 p={p}"], np.random.default_rng(0)
    )
    x = np.random.default_rng(2).normal(size=(5, 12)).astype(np.float32)
    x[0, :3] = 0
    [output] = outputs(export(network, None, "posteriors").SerializeToString(), [x])
    np.testing.assert_allclose(output, compute(network, x), rtol=1e-5)


@pytest.fixture(scope="module")
def model_file(reference):
    return reference("kaldi/exp/nnet_ms/final.mdl")


@pytest.fixture(scope="module")
def features(shared):
    """Some features as the training had them, before any normalisation."""
    table = sequential_table(f"ark:{shared}/kaldi/golden/in40.ark", MATRIX)
    return [np.asarray(matrix, np.float32) for _, matrix in table]


def test_program_exports_log_likelihoods_of_kaldis_network(
    run_program, model_file, features, tmp_path
):
    run_program("nnet-to-onnx", model_file, tmp_path / "model.onnx")
    model = AcousticModel.load(str(model_file))
    contents = (tmp_path / "model.onnx").read_bytes()
    assert 0.9 < len(contents) / model_file.stat().st_size < 1.1
    for output, matrix in zip(outputs(contents, features), features, strict=True):
        np.testing.assert_allclose(output, model.log_likelihoods(matrix), atol=2e-4)


def test_feature_transform_is_folded_in(run_program, model_file, tmp_path):
    rng = np.random.default_rng(3)
    model = AcousticModel.load(str(model_file))
    dim = model.network.input_dim
    matrix = rng.normal(scale=0.2, size=(dim, 3 * 13 + 1)).astype(np.float32)
    write_object(str(tmp_path / "final.mat"), lambda writer: writer.matrix(matrix))
    raw = rng.normal(size=(30, 13)).astype(np.float32)
    options = f"--feature-transform={tmp_path}/final.mat", "--left-context=1", "--right-context=1"
    run_program("nnet-to-onnx", *options, "--output=log-posteriors", model_file, tmp_path / "onnx")
    padded = np.pad(raw, ((1, 1), (0, 0)), mode="edge")
    spliced = np.hstack([padded[:-2], padded[1:-1], padded[2:]])
    expected = np.log(compute(model.network, spliced @ matrix[:, :-1].T + matrix[:, -1]))
    [output] = outputs((tmp_path / "onnx").read_bytes(), [raw])
    np.testing.assert_allclose(output, expected, atol=1e-3)
    result = run_program("nnet-to-onnx", options[0], model_file, tmp_path / "other", check=False)
    assert b"which makes no" in result.stderr and not (tmp_path / "other").exists()
