"""Averages of models against plain arithmetic on what is in their files."""

from pathlib import Path

import numpy as np
import pytest

from nnet.decoding.lexicon import usual_topology
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import monophone_tree
from nnet.io.tokens import write_object
from nnet.model.acoustic_model import AcousticModel
from nnet.training.averaging import average_models, load_alike
from nnet.training.reinitialize import resize_output_layer

HALF_ULP = 2.0**-24 * (1 + 1e-6)
"""What rounding a result to single precision may change of it, relatively."""


@pytest.fixture(scope="module")
def models(reference):
    """Models of one structure, from three iterations of a training by Kaldi."""
    return [str(reference(f"kaldi/exp/nnet_ms/{iteration}.mdl")) for iteration in (5, 10, 16)]


def parameters(model: AcousticModel) -> list[np.ndarray]:
    """All trained parameters, one vector for each updatable component, in double precision."""
    return [
        np.concatenate([p.ravel() for p in component.parameters]).astype(np.float64)
        for component in model.network.updatable_components
    ]


def statistics(model: AcousticModel) -> list[tuple]:
    return [
        (c.value_sum, c.deriv_sum, c.count) for c in model.network.components if hasattr(c, "count")
    ]


@pytest.mark.slow
def test_average_of_one_is_itself(models, run_program, tmp_path):
    for program in "nnet-average", "nnet-am-average":
        run_program(program, models[0], tmp_path / "average.mdl")
        assert (tmp_path / "average.mdl").read_bytes() == Path(models[0]).read_bytes()


def test_average_is_the_mean_in_double_precision(models):
    average = average_models(models)
    loaded = [AcousticModel.load(model) for model in models]
    sources = [parameters(model) for model in loaded]
    for result, *source in zip(parameters(average), *sources, strict=True):
        np.testing.assert_allclose(result, np.mean(source, axis=0), rtol=HALF_ULP)
    for result, *source in zip(
        statistics(average), *(statistics(model) for model in loaded), strict=True
    ):
        for mean, *values in zip(result, *source, strict=True):
            np.testing.assert_allclose(mean, np.mean(values, axis=0), rtol=1e-12)
    assert average.network.dtype == np.float32
    assert average.network.learning_rates == loaded[0].network.learning_rates


def test_weights_are_normalized_but_for_sums(models):
    sources = [parameters(AcousticModel.load(model)) for model in models]
    for sum_only, factor in (False, 1 / 6), (True, 1):
        result = average_models(models, weights=[1, 2, 3], sum_only=sum_only)
        for got, a, b, c in zip(parameters(result), *sources, strict=True):
            np.testing.assert_allclose(got, factor * (a + 2 * b + 3 * c), rtol=1e-6, atol=1e-7)
    plain_sum = average_models(models, sum_only=True)
    for got, a, b, c in zip(parameters(plain_sum), *sources, strict=True):
        np.testing.assert_allclose(got, a + b + c, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"skip_last_layer": True}, [3]),
        ({"skip_layers": [2]}, [0]),
        ({"skip_layers": [2, -3]}, [0, 3]),
        ({"skip_layers": [6], "skip_last_layer": True}, [1, 3]),
    ],
)
def test_skipped_layers_are_those_of_the_first_model(models, options, kept):
    first, *others = (parameters(AcousticModel.load(model)) for model in models)
    for i, result in enumerate(parameters(average_models(models, **options))):
        if i in kept:
            np.testing.assert_array_equal(result, first[i])
        else:
            mean = np.mean([first[i], *(other[i] for other in others)], axis=0)
            assert not np.allclose(first[i], mean)
            np.testing.assert_allclose(result, mean, rtol=HALF_ULP)


def test_last_layers_of_languages_may_differ(models, tmp_path):
    """As in Kaldi's train_multilang2.sh, where all layers but the last are shared."""
    topology = usual_topology([2, 3], [1])
    tree = monophone_tree([[1], [2], [3]], {p: topology.num_pdf_classes(p) for p in (1, 2, 3)})
    transitions = TransitionModel.from_tree(tree, topology)
    network = AcousticModel.load(models[1]).network
    resize_output_layer(network, transitions.num_pdfs)
    other = AcousticModel(transitions, network, np.ones(transitions.num_pdfs))
    first = AcousticModel.load(models[0])
    write_object(f"{tmp_path}/other.mdl", other.write)
    average = average_models([models[0], f"{tmp_path}/other.mdl"], skip_last_layer=True)
    *shared, last = zip(*map(parameters, (average, first, other)), strict=True)
    for got, a, b in shared:
        np.testing.assert_allclose(got, (a + b) / 2, rtol=HALF_ULP)
    np.testing.assert_array_equal(last[0], last[1])
    with pytest.raises(NgtrainError, match="unlike"):
        average_models([models[0], f"{tmp_path}/other.mdl"])


def test_memory_holds_two_models(models, monkeypatch):
    """While a model is loaded there is only the sum beside it."""
    import weakref

    load, alive = AcousticModel.load, []

    def counting_load(rxfilename):
        assert sum(reference() is not None for reference in alive) <= 1
        model = load(rxfilename)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(AcousticModel, "load", counting_load)
    average_models(models * 2)
    assert len(alive) == 6


@pytest.mark.slow
def test_models_come_from_pipes(models, run_program, tmp_path):
    run_program("nnet-average", *models, tmp_path / "1.mdl")
    piped = run_program("nnet-average", f"cat {models[0]} |", *models[1:], "-")
    assert piped.stdout == (tmp_path / "1.mdl").read_bytes()
    assert b"Averaged parameters of 3 neural nets, and wrote to -" in piped.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weights": [1, 2]}, "2 weights for 3 models"),
        ({"weights": [1, -2, 1]}, "sum to 0"),
        ({"skip_layers": [15]}, "cannot skip layer 15"),
        ({"skip_layers": [-16]}, "cannot skip layer -16"),
    ],
)
def test_bad_options(models, options, reason):
    with pytest.raises(NgtrainError, match=reason):
        average_models(models, **options)


@pytest.mark.slow
def test_models_that_do_not_fit(models, shared, tmp_path, run_program):
    smaller = str(shared / "kaldi/exp/nnet_ms/0.mdl")
    with pytest.raises(NgtrainError, match=r"0\.mdl: .* unlike .*5\.mdl: 8 components"):
        average_models([models[0], smaller])

    broken = AcousticModel.load(models[1])
    broken.network.updatable_components[1].bias_params[7] = np.nan
    broken_name = str(tmp_path / "broken.mdl")
    write_object(broken_name, broken.write)
    with pytest.raises(NgtrainError, match=r"broken\.mdl: component 6 has NaN"):
        list(load_alike([models[0], broken_name]))

    for bad in smaller, broken_name, str(tmp_path / "missing.mdl"):
        result = run_program("nnet-average", models[0], bad, tmp_path / "out.mdl", check=False)
        assert result.returncode != 0
        assert result.stderr.count(b"\n") == 2  # the command line and the error
        assert bad.encode() in result.stderr.splitlines()[1]
        assert not (tmp_path / "out.mdl").exists()
