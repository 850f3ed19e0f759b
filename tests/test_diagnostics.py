"""What has changed between two models, and repairs of models."""

import re

import numpy as np
import pytest

from nnet.components.affine import AffineComponent
from nnet.errors import NgtrainError
from nnet.model.acoustic_model import AcousticModel, load_network
from nnet.model.network import Network
from nnet.model.propagation import compute
from nnet.training.diagnostics import objective_change, parameter_change
from nnet.training.fix import fix_network
from nnet.training.learning_rates import equalize_relative_changes
from nnet.training.normalize_stddev import normalize_stddev, parameter_stddev
from nnet.training.preconditioning import switch_preconditioning
from nnet.training.reinitialize import resize_output_layer


@pytest.fixture(scope="module")
def experiment(reference):
    return reference("kaldi/exp/nnet_ms/16.mdl").parent


@pytest.fixture
def network(experiment):
    return load_network(str(experiment / "16.mdl"))


@pytest.fixture(scope="module")
def features(golden):
    from nnet.io.tables import MATRIX, sequential_table

    with sequential_table(f"ark:{golden / 'in40.ark'}", MATRIX) as table:
        return next(iter(table))[1]


def numbers(text, label):
    """The vector that stands after a label in a log."""
    return np.array(re.search(rf"{label} +\[ (.*) \]", text)[1].split(), dtype=float)


# nnet-show-progress -------------------------------------------------------------------------------


def test_parameter_change(network):
    new = network.copy()
    for factor, component in zip((1.5, 1.0, 0.0, -1.0), new.updatable_components, strict=True):
        component.scale(factor)
    norms = [
        np.sqrt(sum(np.sum(np.float64(p) ** 2) for p in component.parameters))
        for component in network.updatable_components
    ]
    change, relative = parameter_change(network, new)
    np.testing.assert_allclose(relative, [0.5, 0, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(change, norms * relative, rtol=1e-6)


@pytest.mark.slow
def test_progress_between_golden_models(experiment, run_program):
    """The shares of components sum to the change of the objective, ever better with segments."""
    egs = f"ark:{experiment / 'train_diagnostic.egs'}"
    models = experiment / "10.mdl", experiment / "16.mdl"
    old, new = (float(run_program("nnet-compute-prob", m, egs).stdout) for m in models)
    errors = []
    for segments in 1, 4:
        result = run_program("nnet-show-progress", f"--num-segments={segments}", *models, egs)
        text = result.stderr.decode()
        assert text.count("objf per frame is") == segments
        assert ("At position 0.5, objf" in text) == (segments == 1)
        errors.append(abs(numbers(text, "Total objf change per component is").sum() - (new - old)))
    assert errors[1] < 0.1 * abs(new - old)
    assert errors[1] < errors[0]

    change, relative = parameter_change(*map(load_network, map(str, models)))
    np.testing.assert_allclose(
        numbers(text, "LOG .* Parameter differences per layer are"), change, rtol=1e-5
    )
    np.testing.assert_allclose(
        numbers(text, "Relative parameter differences per layer are"), relative, rtol=1e-5
    )


def test_progress_without_examples(experiment, run_program):
    result = run_program("nnet-show-progress", experiment / "5.mdl", experiment / "10.mdl")
    assert b"Parameter differences per layer are" in result.stderr
    assert b"objf" not in result.stderr


def test_no_progress_to_show(experiment, run_program, tmp_path):
    """A layer was added in between: a warning, and success, because drivers go on."""
    result = run_program("nnet-show-progress", experiment / "0.mdl", experiment / "5.mdl")
    assert b"WARNING" in result.stderr
    assert b"Parameter-dim mismatch, cannot show progress." in result.stderr
    (tmp_path / "empty.egs").touch()
    empty = run_program(
        "nnet-show-progress",
        *(experiment / "5.mdl", experiment / "10.mdl", f"ark:{tmp_path / 'empty.egs'}"),
        check=False,
    )
    assert empty.returncode != 0
    assert b"no examples" in empty.stderr


# nnet-normalize-stddev ----------------------------------------------------------------------------


def test_kaldi_had_normalized_the_final_model_already(experiment, run_program, tmp_path):
    result = run_program("nnet-normalize-stddev", experiment / "final.mdl", tmp_path / "final.mdl")
    assert re.findall(rb"Normalized component (\d+)", result.stderr) == [b"2", b"6", b"9"]
    before, after = (
        AcousticModel.load(str(f)).network.updatable_components
        for f in (experiment / "final.mdl", tmp_path / "final.mdl")
    )
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new.linear_params, old.linear_params, rtol=1e-5)
        np.testing.assert_allclose(new.bias_params, old.bias_params, rtol=1e-5)


@pytest.mark.parametrize("target", [1.0, 0.25])
def test_normalization_keeps_the_output(network, features, target):
    expected = compute(network, features).copy()
    unnormalized = [parameter_stddev(c) for c in network.updatable_components]
    normalize_stddev(network, target)
    stddevs = [parameter_stddev(c) for c in network.updatable_components]
    np.testing.assert_allclose(stddevs, [target] * 3 + unnormalized[3:], rtol=1e-6)
    np.testing.assert_allclose(compute(network, features), expected, rtol=1e-3, atol=1e-6)


def test_blocks_are_normalized_and_powers_do_not_matter():
    lines = [
        "BlockAffineComponent input-dim=6 output-dim=8 num-blocks=2",
        "PnormComponent input-dim=8 output-dim=4",
        "PowerComponent dim=4 power=0.5",
        "NormalizeComponent dim=4",
        "AffineComponent input-dim=4 output-dim=8",
        "PnormComponent input-dim=8 output-dim=4",
    ]
    network = Network.from_config(lines, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)
    expected, last = compute(network, x).copy(), parameter_stddev(network.components[4])
    normalize_stddev(network, 2.0)
    np.testing.assert_allclose(parameter_stddev(network.components[0]), 2, rtol=1e-6)
    assert parameter_stddev(network.components[4]) == last
    np.testing.assert_allclose(compute(network, x), expected, rtol=1e-4)


def test_networks_of_other_blocks_are_not_added():
    two, three = (
        Network.from_config(
            [f"BlockAffineComponent input-dim=6 output-dim=6 num-blocks={number}"],
            np.random.default_rng(0),
        )
        for number in (2, 3)
    )
    with pytest.raises(NgtrainError, match="differ in their components"):
        two.add(1.0, three)


def test_normalization_to_another_model(network, experiment):
    reference = load_network(str(experiment / "5.mdl"))
    normalize_stddev(network, reference)
    for got, wanted in list(
        zip(network.updatable_components, reference.updatable_components, strict=True)
    )[:3]:
        assert parameter_stddev(got) == pytest.approx(parameter_stddev(wanted), rel=1e-6)
    with pytest.raises(NgtrainError, match="component 6"):
        normalize_stddev(network, load_network(str(experiment / "0.mdl")))


# nnet-am-fix --------------------------------------------------------------------------------------


def one_layer(nonlinearity, mean_derivatives):
    """A network of one layer of units with the given average derivatives."""
    dim = len(mean_derivatives)
    network = Network.from_config(
        [
            f"AffineComponent input-dim=2 output-dim={dim}",
            f"{nonlinearity} dim={dim}",
        ],
        np.random.default_rng(0),
    )
    network.components[1].deriv_sum = 50 * np.array(mean_derivatives)
    network.components[1].value_sum = np.zeros(dim)
    network.components[1].count = 50.0
    return network


@pytest.mark.parametrize(
    ("nonlinearity", "maximum"), [("TanhComponent", 1), ("SigmoidComponent", 0.25)]
)
def test_fix_scales_units_that_do_not_learn(nonlinearity, maximum):
    network = one_layer(nonlinearity, maximum * np.array([0, 0.08, 0.1, 0.5, 0.75, 0.9, 1]))
    affine, before = network.components[0], network.components[0].copy()
    fix_network(network, parameter_factor=1.25)
    factors = np.array([0.8, 0.8, 1, 1, 1, 1.2, 1.25])
    np.testing.assert_allclose(affine.bias_params, before.bias_params * factors, rtol=1e-6)
    np.testing.assert_allclose(
        affine.linear_params, before.linear_params * factors[:, None], rtol=1e-6
    )


def test_fix_moves_the_bias_of_rectified_units(caplog):
    caplog.set_level("INFO", logger="ngtrain")
    network = one_layer("RectifiedLinearComponent", [0.0, 0.05, 0.3, 0.8])
    affine, before = network.components[0], network.components[0].copy()
    fix_network(network, relu_bias_change=0.5)
    np.testing.assert_allclose(affine.bias_params - before.bias_params, [0.5, 0.5, 0, -0.5])
    np.testing.assert_array_equal(affine.linear_params, before.linear_params)
    assert "increased bias for 2 indexes and decreased it for 1, out of a total of 4" in caplog.text


def test_fix_needs_statistics(caplog):
    network = one_layer("TanhComponent", [0.0, 1.0])
    network.zero_statistics()
    before = network.copy()
    fix_network(network)
    np.testing.assert_array_equal(*(n.components[0].linear_params for n in (network, before)))
    assert "no statistics are stored" in caplog.text


def test_fix_program_leaves_a_p_norm_network_alone(experiment, run_program, tmp_path):
    run_program("nnet-am-fix", experiment / "16.mdl", tmp_path / "fixed.mdl")
    assert (tmp_path / "fixed.mdl").read_bytes() == (experiment / "16.mdl").read_bytes()


# Learning rates, preconditioning, outputs ---------------------------------------------------------


def test_learning_rates_are_inverse_to_relative_changes(network):
    previous = network.copy()
    previous.learning_rates = [0.1, 0.2, 0.1, 0.1]
    for factor, component in zip((1.1, 1.2, 1.0, 1.4), network.updatable_components, strict=True):
        component.scale(factor)  # relative changes of 0.1, 0.2, none, 0.4
    moved = network.copy()
    equalize_relative_changes(
        previous, network, average_learning_rate=0.01, last_layer_factor=0.5, retroactive=True
    )
    rates = np.array(network.learning_rates)
    mean_change = (0.1 + 0.2 + 0.4) / 3
    expected = np.array([0.1 / 0.1, 0.2 / 0.2, 0.1 / mean_change, 0.5 * 0.1 / 0.4])
    np.testing.assert_allclose(rates / rates[0], expected / expected[0], rtol=1e-4)
    assert np.exp(np.log(rates).mean()) == pytest.approx(0.01)

    before, _ = parameter_change(previous, moved)
    after, _ = parameter_change(previous, network)
    np.testing.assert_allclose(after, before * rates / previous.learning_rates, rtol=1e-4)


def test_learning_rates_program(experiment, run_program, tmp_path):
    models = experiment / "10.mdl", experiment / "16.mdl"
    run_program("nnet-modify-learning-rates", *models, tmp_path / "16.mdl")
    old, new = load_network(str(models[1])), load_network(str(tmp_path / "16.mdl"))
    assert new.learning_rates != old.learning_rates
    for rates in new.learning_rates, old.learning_rates:
        assert np.prod(rates) == pytest.approx(np.prod(old.learning_rates), rel=1e-4)
    result = run_program("nnet-modify-learning-rates", models[0], models[0], "-", check=False)
    assert result.returncode != 0
    assert b"no parameter has changed" in result.stderr


def test_preconditioning_is_switched_and_back(experiment, network, features, run_program, tmp_path):
    expected = compute(network, features).copy()
    parameters = [component.linear_params for component in network.updatable_components]
    for method, options in ("simple", {"alpha": 4.0}), ("none", {}), ("online", {"rank_in": 7}):
        switch_preconditioning(network, method, **options)
        assert all(
            getattr(component, name) == value
            for component in network.updatable_components
            for name, value in options.items()
        )
        np.testing.assert_array_equal(compute(network, features), expected)
    for component, linear_params in zip(network.updatable_components, parameters, strict=True):
        assert component.linear_params is linear_params

    program = "nnet-am-switch-preconditioning"
    result = run_program(
        program, "--preconditioning=none", experiment / "16.mdl", tmp_path / "plain.mdl"
    )
    assert b"Switched 4 components to AffineComponent\n" in result.stderr
    run_program(program, "--rank-in=9", tmp_path / "plain.mdl", tmp_path / "online.mdl")
    components = load_network(str(tmp_path / "online.mdl")).updatable_components
    assert {(type(c).__name__, c.rank_in, c.rank_out) for c in components} == {
        ("AffineComponentPreconditionedOnline", 9, 80)
    }


def test_output_layer_for_other_pdfs(experiment, network, run_program, tmp_path):
    resize_output_layer(network, 7)
    types = [component.type for component in network.components]
    assert types[-2:] == ["AffineComponentPreconditionedOnline", "SoftmaxComponent"]
    assert network.output_dim == 7
    assert not network.updatable_components[-1].linear_params.any()
    assert isinstance(network.updatable_components[-1], AffineComponent)
    with pytest.raises(NgtrainError, match="does not end in a SoftmaxComponent"):
        network.set_components(network.components[:-1])
        resize_output_layer(network, 7)

    alignment_model = experiment.parent / "tri2_ali" / "final.mdl"
    run_program(
        "nnet-am-reinitialize", experiment / "16.mdl", alignment_model, tmp_path / "new.mdl"
    )
    model = AcousticModel.load(str(tmp_path / "new.mdl"))
    np.testing.assert_allclose(model.priors, 1 / 128)
    assert model.network.output_dim == model.num_pdfs == 128


def test_objective_change_of_nothing_is_nothing(network, experiment):
    from nnet.egs.minibatches import read_minibatches

    minibatches = list(
        read_minibatches(
            f"ark:{experiment / 'train_diagnostic.egs'}",
            1024,
            network.left_context,
            network.right_context,
        )
    )
    np.testing.assert_array_equal(objective_change(network, network, minibatches), np.zeros(4))
