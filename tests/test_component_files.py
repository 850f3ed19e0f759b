"""Components in files, config lines and info lines, against Kaldi's; and what is refused."""

import math

import numpy as np
import pytest
from reference_data import COMPONENTS

from nnet.components import component_from_config
from nnet.errors import NgtrainError
from nnet.io.tables import MATRIX, sequential_table
from nnet.io.tokens import read_object, write_object
from nnet.model.network import Network
from nnet.model.propagation import compute

CONVOLUTION = (
    "Convolutional1dComponent input-dim=14 output-dim=15 patch-dim=3 patch-step=1 patch-stride=7"
)

RANDOM = {  # Kaldi drew their parameters, with these standard deviations
    **dict.fromkeys(("affine", "affine_simple", "affine_online", "block_affine"), (0.2, 0.1)),
    "conv1d": (0.1, 0.1),
}


def written(write, path, binary=True) -> bytes:
    write_object(str(path), write, binary)
    return path.read_bytes()


def from_text(text: str, tmp_path) -> Network:
    """A network of the components that `text` holds."""
    path = tmp_path / "components"
    path.write_text(f"<Nnet> <NumComponents> 1 <Components> {text} </Components> </Nnet> ")
    return read_object(str(path), Network.read)


# Kaldi's files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPONENTS)
def test_output_is_kaldis(golden, reference, name):
    reference(f"kaldi/golden/components/{name}.out.ark")
    network = read_object(str(golden / f"components/{name}.raw"), Network.read)
    features = dict(sequential_table(f"ark:{golden}/in40.ark", MATRIX))
    outputs = dict(sequential_table(f"ark:{golden}/components/{name}.out.ark", MATRIX))
    assert outputs.keys() == features.keys()
    for key, output in outputs.items():
        np.testing.assert_allclose(compute(network, features[key]), output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", COMPONENTS)
def test_files_come_out_as_they_went_in(golden, tmp_path, name):
    binary, text = (golden / f"components/{name}.{suffix}" for suffix in ("raw", "raw.txt"))
    from_binary, from_text_form = (read_object(str(f), Network.read) for f in (binary, text))
    assert written(from_binary.write, tmp_path / "out") == binary.read_bytes()
    assert written(from_binary.write, tmp_path / "out", binary=False) == text.read_bytes()
    assert written(from_text_form.write, tmp_path / "out", binary=False) == text.read_bytes()
    if name not in RANDOM:  # seven digits do not tell all of a random number
        assert written(from_text_form.write, tmp_path / "out") == binary.read_bytes()


@pytest.mark.parametrize("name", COMPONENTS)
def test_config_line_makes_kaldis_component(golden, tmp_path, monkeypatch, name):
    monkeypatch.chdir(golden)  # where the matrices are that some lines name
    rng = np.random.default_rng(0)
    network = Network.load_config(f"components/{name}.config", rng)
    reference = read_object(f"components/{name}.raw", Network.read)
    if name == "permute":
        assert sorted(network.components[0].reorder) == list(range(40))
        network = reference
    if name in RANDOM:
        (component,), (source,) = network.updatable_components, reference.updatable_components
        for stddev, ours, kaldis in zip(
            RANDOM[name], component.parameters, source.parameters, strict=True
        ):
            assert abs(ours.std() / stddev - 1) < 4 / math.sqrt(2 * ours.size)
            ours[...] = kaldis
    assert written(network.write, tmp_path / "out") == written(reference.write, tmp_path / "ref")


def test_blocks_are_written_as_kaldi_does(reference, tmp_path):
    file = reference("kaldi/golden/programs/block.raw.txt")
    network = read_object(str(file), Network.read)
    assert written(network.write, tmp_path / "out", binary=False) == file.read_bytes()
    config = str(file.with_name("block.config"))
    ours = Network.load_config(config, np.random.default_rng(0))
    for mine, theirs in zip(ours.updatable_components, network.updatable_components, strict=True):
        for parameter, source in zip(mine.parameters, theirs.parameters, strict=True):
            assert abs(parameter.std() / 0.1 - 1) < 4 / math.sqrt(2 * parameter.size)
            parameter[...] = source
    assert written(ours.write, tmp_path / "out", binary=False) == file.read_bytes()


@pytest.mark.parametrize(
    ("line", "info"),
    [
        ("MaxoutComponent output-dim=4 input-dim=8", "input-dim = 8, output-dim = 4"),
        (
            "MaxpoolingComponent input-dim=24 output-dim=8 pool-size=3 pool-stride=2",
            "input-dim = 24, output-dim = 8, pool-size = 3, pool-stride = 2",
        ),
        ("PowerComponent input-dim=4 power=0.5", "dim = 4, power = 0.5"),
        ("ScaleComponent dim=4 scale=0.5", "dim=4, scale=0.5"),
        ("SoftHingeComponent dim=4", "input-dim=4, output-dim=4"),
        ("LogSoftmaxComponent dim=4", "input-dim=4, output-dim=4"),
        ("PermuteComponent dim=4", "input-dim=4, output-dim=4"),
        (
            "BlockAffineComponentPreconditioned input-dim=4 output-dim=2 num-blocks=2",
            "input-dim=4, output-dim=2, learning-rate=0.001",
        ),
        (
            "DctComponent dim=6 dct-dim=3 reorder=false dct-keep-dim=2",
            "input-dim=6, output-dim=4, dct_dim=3, dct_keep_dim=2",
        ),
        (
            "SpliceMaxComponent dim=4 left-context=1 right-context=1",
            "input-dim=4, output-dim=4, context=-1 0 1 ",
        ),
        (
            f"{CONVOLUTION} param-stddev=0 bias-stddev=0 learning-rate=0.1",
            "input-dim=14, output-dim=15, num-splice=2, num-patches=5, num-filters=3, "
            "filter-dim=6, filter-params-stddev=0, bias-params-stddev=0, appended-conv=0, "
            "learning-rate=0.1",
        ),
    ],
)
def test_info_line_is_kaldis(line, info):
    component = component_from_config(line, np.random.default_rng(0))
    assert component.info() == f"{component.type}, {info}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "<SpliceComponent> <InputDim> 3 <LeftContext> 2 <RightContext> 1 "
            "<ConstComponentDim> 0 </SpliceComponent>",
            "<SpliceComponent> <InputDim> 3 <Context> [ -2 -1 0 1 ]\n"
            "<ConstComponentDim> 0 </SpliceComponent> ",
        ),
        (
            "<SumGroupComponent> <Sizes> [ 1 2 ] <SumGroupComponent>",
            "<SumGroupComponent> <Sizes> [ 1 2 ]\n</SumGroupComponent> ",
        ),
        (
            "<AffineComponent> <LearningRate> 0.5 <LinearParams> [ 1 2 ] <BiasParams> [ 3 ] "
            "<AvgInput> [ 0 0 ] <AvgInputCount> 0 </AffineComponent>",
            "<AffineComponent> <LearningRate> 0.5 <LinearParams>  [\n  1 2 ]\n"
            "<BiasParams>  [ 3 ]\n<IsGradient> F </AffineComponent> ",
        ),
        (
            "<AffineComponentPreconditioned> <LearningRate> 0.5 <LinearParams> [ 1 2 ] "
            "<BiasParams> [ 3 ] <Alpha> 4 </AffineComponentPreconditioned>",
            "<AffineComponentPreconditioned> <LearningRate> 0.5 <LinearParams>  [\n  1 2 ]\n"
            "<BiasParams>  [ 3 ]\n<Alpha> 4 <MaxChange> 0 </AffineComponentPreconditioned> ",
        ),
        (
            "<AffineComponentPreconditionedOnline> <LearningRate> 0.5 <LinearParams> [ 1 2 ] "
            "<BiasParams> [ 3 ] <Rank> 7 <NumSamplesHistory> 2000 <Alpha> 4 "
            "<MaxChangePerSample> 0.1 </AffineComponentPreconditionedOnline>",
            "<AffineComponentPreconditionedOnline> <LearningRate> 0.5 <LinearParams>  [\n  1 2 ]\n"
            "<BiasParams>  [ 3 ]\n<RankIn> 7 <RankOut> 7 <UpdatePeriod> 1 "
            "<NumSamplesHistory> 2000 <Alpha> 4 <MaxChangePerSample> 0.1 "
            "</AffineComponentPreconditionedOnline> ",
        ),
        (
            "<SpliceMaxComponent> <Dim> 3 <LeftContext> 1 <RightContext> 0 </SpliceMaxComponent>",
            "<SpliceMaxComponent> <Dim> 3 <Context> [ -1 0 ]\n</SpliceMaxComponent> ",
        ),
        (
            "<DctComponent> <Dim> 6 <DctDim> 3 <Reorder> T </DctComponent>",
            "<DctComponent> <Dim> 6 <DctDim> 3 <Reorder> T <DctKeepDim> 3 </DctComponent> ",
        ),
        (
            "<Convolutional1dComponent> <LearningRate> 0.5 <PatchDim> 1 <PatchStep> 1 "
            "<PatchStride> 4 <FilterParams> [ 1 2 ] <BiasParams> [ 3 ] </Convolutional1dComponent>",
            "<Convolutional1dComponent> <LearningRate> 0.5 <PatchDim> 1 <PatchStep> 1 "
            "<PatchStride> 4 <AppendedConv> F <FilterParams>  [\n  1 2 ]\n<BiasParams>  [ 3 ]\n"
            "<IsGradient> F </Convolutional1dComponent> ",
        ),
    ],
)
def test_older_formats_are_read(tmp_path, old, new):
    network = from_text(old, tmp_path)
    text = written(network.components[0].write, tmp_path / "out", binary=False).decode()
    assert text == new


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("NoSuchComponent dim=3", "unknown component type NoSuchComponent"),
        ("TanhComponent", "dim is missing"),
        ("TanhComponent dim=x", "bad value dim=x"),
        ("TanhComponent dim=0", "must be positive"),
        ("TanhComponent dim=3 dim=4", "dim=4"),
        ("TanhComponent dim=3 size=4", "no option size"),
        ("TanhComponent dim", "cannot make sense"),
        ("PnormComponent input-dim=10 output-dim=4", "does not divide"),
        ("PnormComponent input-dim=10 output-dim=5 p=-1", "negative"),
        ("SpliceComponent input-dim=3 context=1:2", "frame 0"),
        ("SpliceComponent input-dim=3 context=0:-1", "frame 0"),
        ("SpliceComponent input-dim=3 context=-1:1:0:2", "ascending"),
        ("SpliceComponent input-dim=3 left-context=1", "right-context is missing"),
        ("AffineComponent input-dim=0 output-dim=4", "must be positive"),
        ("AffineComponent input-dim=4 output-dim=4 param-stddev=-1", "negative"),
        ("AffineComponentPreconditioned input-dim=4 output-dim=4 alpha=0", "alpha"),
        ("AffineComponentPreconditionedOnline input-dim=4 output-dim=4 rank-in=0", "rank"),
        ("SumGroupComponent sizes=1:0", "positive"),
        ("FixedAffineComponent matrix=/no/such/file", "/no/such/file"),
        ("DropoutComponent dim=3 dropout-proportion=1", "dropout-proportion"),
        ("MaxoutComponent input-dim=10 output-dim=4", "does not divide"),
        (
            "MaxpoolingComponent input-dim=24 output-dim=8 pool-size=4 pool-stride=2",
            "8 outputs of 24 inputs",
        ),
        ("PowerComponent dim=4 power=-1", "negative"),
        ("ScaleComponent dim=4 scale=0", "zero"),
        ("BlockAffineComponent input-dim=6 output-dim=4 num-blocks=4", "4 blocks do not divide"),
        ("BlockAffineComponent input-dim=6 output-dim=4", "num-blocks is missing"),
        ("PermuteComponent dim=0", "not positive"),
        ("DctComponent dim=6 dct-dim=4", "does not divide"),
        ("DctComponent dim=6 dct-dim=3 dct-keep-dim=4", "dct-keep-dim=4"),
        ("DctComponent dim=6 dct-dim=3 dct-keep-dim=2 reorder=true", "all coefficients"),
        ("FixedLinearComponent matrix=/no/such/file", "/no/such/file"),
        ("SpliceMaxComponent dim=0 left-context=1 right-context=1", "must be positive"),
        (CONVOLUTION.replace("stride=7", "stride=6"), "not a multiple of patch-stride=6"),
        (CONVOLUTION.replace("output-dim=15", "output-dim=14"), "the number of patches, 5"),
        (CONVOLUTION.replace("step=1", "step=3"), "do not cover 7 columns"),
    ],
)
def test_bad_config_lines(line, reason):
    with pytest.raises(NgtrainError, match=reason) as caught:
        component_from_config(line, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<NoSuchComponent> <Dim> 3", "unknown component type <NoSuchComponent>"),
        ("<TanhComponent> <Dimension> 3", "expected <Dim>"),
        ("<PnormComponent> <InputDim> 4 <OutputDim> 3 <P> 2 </PnormComponent>", "divide"),
        (
            "<PnormComponent> <InputDim> 4 <OutputDim> 2 <P> 2 </TanhComponent>",
            "expected </PnormComponent>",
        ),
        (
            "<AffineComponent> <LearningRate> 0.5 <LinearParams> [ 1 2 ] <BiasParams> [ 3 4 ] "
            "<IsGradient> F </AffineComponent>",
            "dimension of b",
        ),
        ("<FixedScaleComponent> <Scales> [ ] </FixedScaleComponent>", "must be positive"),
        ("<PermuteComponent> <Reorder> [ 0 2 ] </PermuteComponent>", "not a permutation"),
        (
            "<BlockAffineComponent> <LearningRate> 0.5 <NumBlocks> 2 <LinearParams> [ 1 2 ] "
            "<BiasParams> [ 3 ] </BlockAffineComponent>",
            "do not make 2 blocks",
        ),
        (
            "<PowerComponent> <InputDim> 4 <OutputDim> 3 <Power> 2 </PowerComponent>",
            "the dimensions differ",
        ),
        (
            "<TanhComponent> <Dim> 2 <ValueSum> [ 1 ] <DerivSum> [ ] <Count> 0 </TanhComponent>",
            "statistics",
        ),
    ],
)
def test_bad_files(tmp_path, text, reason):
    with pytest.raises(NgtrainError, match=reason) as caught:
        from_text(text, tmp_path)
    assert str(tmp_path) in str(caught.value)
