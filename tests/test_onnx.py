"""Networks as ONNX, which onnxruntime computes as we do."""

import re
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from nnet.components.base import component_types
from nnet.io.tables import MATRIX, sequential_table
from nnet.io.tokens import read_object, write_object
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
THE_OTHERS = [
    "SpliceMaxComponent dim=6 context=-2:0:1",
    "BlockAffineComponent input-dim=6 output-dim=8 num-blocks=2 param-stddev=0.3 bias-stddev=0.5",
    "DctComponent dim=8 dct-dim=4 reorder=true",
    "DctComponent dim=8 dct-dim=4 reorder=false dct-keep-dim=3",
    "PermuteComponent dim=6",
    "FixedLinearComponent matrix=MATRIX",
    "FixedBiasComponent bias=VECTOR",
    "FixedScaleComponent scales=VECTOR",
    "ScaleComponent dim=6 scale=0.5",
    "SoftHingeComponent dim=6",
    "SpliceComponent input-dim=6 context=-1:1",
    "Convolutional1dComponent input-dim=12 output-dim=12 patch-dim=3 patch-step=1 patch-stride=6 "
    "param-stddev=0.3",
    "MaxpoolingComponent input-dim=12 output-dim=6 pool-size=2 pool-stride=3",
    "Convolutional1dComponent input-dim=6 output-dim=8 patch-dim=1 patch-step=1 patch-stride=2 "
    "appended-conv=true param-stddev=0.3",
    "MaxoutComponent input-dim=8 output-dim=4",
    "PowerComponent dim=4 power=0.5",
    "LogSoftmaxComponent dim=4",
    "BlockAffineComponentPreconditioned input-dim=4 output-dim=4 num-blocks=2 param-stddev=0.3",
    "SoftmaxComponent dim=4",
]


def outputs(model, features):
    """What onnxruntime makes of each matrix."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [session.run(["output"], {"features": matrix})[0] for matrix in features]


@pytest.fixture
def the_others(tmp_path) -> list[str]:
    """Lines of components, with the files of those that are given."""
    rng, lines = np.random.default_rng(0), "\n".join(THE_OTHERS)
    for name, shape in ("matrix", (6, 6)), ("vector", (6,)):
        value = rng.standard_normal(shape).astype(np.float32)
        write_object(str(tmp_path / name), lambda w, n=name, v=value: getattr(w, n)(v))
        lines = lines.replace(f"={name.upper()}", f"={tmp_path / name}")
    return lines.splitlines()


def test_the_other_components_are_computed_the_same(the_others):
    from nnet.model.onnx_export import export

    rng = np.random.default_rng(1)
    network = Network.from_config(the_others, rng)
    features = [rng.normal(size=(rows, 6)).astype(np.float32) for rows in (1, 3, 40)]
    exported = export(network, None, "posteriors").SerializeToString()
    for output, matrix in zip(outputs(exported, features), features, strict=True):
        np.testing.assert_allclose(output, compute(network, matrix), atol=1e-6)


def test_no_type_of_component_is_left_out(the_others):
    lines = [*EVERY_COMPONENT, *the_others, "FixedAffineComponent", "AffineComponentPreconditioned",
             "AdditiveNoiseComponent"]  # fmt: skip
    assert {line.split()[0] for line in lines} == set(component_types())


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


@pytest.mark.slow
def test_recogniser_of_the_guide(run_program, reference, tmp_path, model_file):
    """The Python on the page decodes as we do."""
    from nnet.decoding.decoder import Decoder, SearchOptions
    from nnet.decoding.fst import ArrayFst
    from nnet.drivers.feature_pipeline import FeaturePipeline

    names: dict = {}
    page = (Path(__file__).parents[1] / "docs/after-training.md").read_text()
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    kaldi = reference("kaldi/exp/tri2/graph/HCLG.fst").parents[3]
    run_program("nnet-to-onnx", model_file, tmp_path / "model.onnx")
    recogniser = names["Recogniser"](tmp_path / "model.onnx", kaldi / "exp/tri2/graph")
    data = tmp_path / "data"
    shutil.copytree(kaldi / "data/test", data, copy_function=shutil.copyfile)
    data.chmod(0o755)
    for scp in data.glob("*.scp"):
        scp.write_text(scp.read_text().replace("../shared/kaldi", str(kaldi)))
    table = FeaturePipeline.of(kaldi / "exp/tri2_ali").rspecifier(data)
    model = AcousticModel.load(str(model_file))
    graph = ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst"))
    ours = Decoder(graph, model.transition_model, SearchOptions(max_active=7000))
    words = []
    for _, features in islice(sequential_table(table, MATRIX), 0, 100, 20):
        path = ours.decode(model.log_likelihoods(features), 0.1)
        words.append([recogniser.words[n] for n in path.words])
        assert recogniser.recognise(np.asarray(features, np.float32)) == words[-1]
    assert len(words) == 5 and any(words)


# Import -------------------------------------------------------------------------------------------

RNG = np.random.default_rng(4)
W1, B1, W2, B2 = (
    RNG.normal(scale=0.5, size=size).astype(np.float32) for size in [(8, 15), 8, (5, 8), 5]
)


def node(operator, inputs, output, **options):
    return onnx.helper.make_node(
        operator, inputs.split(), [output], f"{operator.lower()}_{output}", **options
    )


def onnx_file(path, nodes, **constants):
    """Write a graph from x (N, 15) to y."""
    real, helper = onnx.TensorProto.FLOAT, onnx.helper
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", real, ["N", 15])],
        [helper.make_tensor_value_info("y", real, ["N", "C"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def as_pytorch_exports(path, *last):
    """torch.nn.Linear as Gemm with transB, then what is given."""
    nodes = [
        node("Gemm", "x w1 b1", "a", alpha=1.0, beta=1.0, transB=1),
        node("Relu", "a", "b"),
        node("Gemm", "b w2 b2", "c" if last else "y", alpha=1.0, beta=1.0, transB=1),
        *last,
    ]
    return onnx_file(path, nodes, w1=W1, b1=B1, w2=W2, b2=B2)


def as_products_and_sums(path):
    """As torch.nn.Linear becomes in other versions, with more that has no effect."""
    nodes = [
        node("Flatten", "x", "x1", axis=1),
        node("Transpose", "w1", "w1t", perm=[1, 0]),
        node("MatMul", "x1 w1t", "a"),
        node("Add", "b1 a", "a1"),
        node("Tanh", "a1", "b"),
        node("Dropout", "b", "b1x"),
        node("MatMul", "b1x w2t", "c"),
        node("Add", "c b2", "d"),
        node("Softmax", "d", "y", axis=-1),
    ]
    return onnx_file(path, nodes, w1=W1, b1=B1[None], w2t=np.ascontiguousarray(W2.T), b2=B2)


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "posteriors"),
    [
        (as_pytorch_exports, lambda y: np.exp(log_softmax(y))),
        (lambda path: as_pytorch_exports(path, node("LogSoftmax", "c", "y", axis=1)), np.exp),
        (as_products_and_sums, lambda y: y),
    ],
    ids=["logits", "log-posteriors", "posteriors"],
)
def test_feed_forward_networks_come_from_onnx(run_program, tmp_path, make, posteriors):
    path = make(tmp_path / "model.onnx")
    x = RNG.normal(size=(20, 15)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = posteriors(session.run(None, {"x": x})[0])
    run_program("nnet-from-onnx", path, tmp_path / "raw")
    network = read_object(str(tmp_path / "raw"), Network.read)
    np.testing.assert_allclose(compute(network, x), expected, atol=1e-6)
    assert network.updatable_components[0].type == "AffineComponentPreconditionedOnline"


def test_frames_that_an_imported_network_has_in_its_input(run_program, tmp_path):
    path = as_pytorch_exports(tmp_path / "model.onnx", node("Softmax", "c", "y", axis=-1))
    options = "--left-context=2", "--right-context=2"
    run_program("nnet-from-onnx", *options, path, tmp_path / "raw")
    network = read_object(str(tmp_path / "raw"), Network.read)
    assert (network.input_dim, network.left_context, network.right_context) == (3, 2, 2)
    x = RNG.normal(size=(9, 3)).astype(np.float32)
    padded = np.pad(x, ((2, 2), (0, 0)), mode="edge")
    spliced = np.hstack([padded[n : n + 9] for n in range(5)])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(compute(network, x), session.run(None, {"x": spliced})[0], atol=1e-6)
    result = run_program("nnet-from-onnx", "--left-context=1", path, tmp_path / "b", check=False)
    assert b"an input of 2 frames has not 15 dimensions" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("Gemm", "x w1 b1", "a", transB=1), node("Elu", "a", "y")],
            b"node 1 (Elu elu_y): not",
        ),
        ([node("Gemm", "x w1 b1", "a", transB=1), node("Add", "a a", "y")], b"it takes a and a"),
        (
            [node("Softmax", "x", "y", axis=0)],
            b"node 0 (Softmax softmax_y): it is not over the last",
        ),
        ([node("Relu", "x", "y")], b"has not 0 dimensions"),
    ],
)
def test_what_is_no_chain_of_layers_is_said(run_program, tmp_path, nodes, message):
    path = onnx_file(tmp_path / "model.onnx", nodes, w1=W1, b1=B1)
    result = run_program("nnet-from-onnx", path, tmp_path / "raw", check=False)
    assert result.returncode == 1 and message in result.stderr
    assert len(result.stderr.splitlines()) == 2 and not (tmp_path / "raw").exists()


def test_what_is_no_onnx_file(run_program, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing of this kind")
    arguments = tmp_path / "model.onnx", tmp_path / "raw"
    result = run_program("nnet-from-onnx", *arguments, check=False)
    assert b"model.onnx: it is no ONNX file" in result.stderr
