"""What components compute, and their derivatives against finite differences."""

import math

import numpy as np
import pytest

from nnet.components import Component, UpdatableComponent, component_from_config
from nnet.components.layout import FrameLayout, needed_offsets, runs
from nnet.components.nonlinear import NORM_FLOOR, PROBABILITY_FLOOR
from nnet.device.device import SparseRows

CONVOLUTION = (
    "Convolutional1dComponent input-dim=14 output-dim=15 patch-dim=3 patch-step=1 patch-stride=7"
)


def make(line: str, seed: int = 0) -> Component:
    """The component of a config line, in double precision."""
    component = component_from_config(line, np.random.default_rng(seed))
    component.convert(np.float64)
    return component


# Derivatives -------------------------------------------------------------------------------------

EVERYTHING = [
    "AffineComponent input-dim=6 output-dim=4",
    "AffineComponentPreconditioned input-dim=6 output-dim=4 alpha=4",
    "AffineComponentPreconditionedOnline input-dim=6 output-dim=4 rank-in=2 rank-out=2",
    "PnormComponent input-dim=12 output-dim=4 p=1",
    "PnormComponent input-dim=12 output-dim=4 p=1.5",
    "PnormComponent input-dim=12 output-dim=4",
    "PnormComponent input-dim=12 output-dim=4 p=3",
    "PnormComponent input-dim=12 output-dim=4 p=inf",
    "NormalizeComponent dim=7",
    "RectifiedLinearComponent dim=7",
    "TanhComponent dim=7",
    "SigmoidComponent dim=7",
    "SoftmaxComponent dim=7",
    "SpliceComponent input-dim=3 left-context=2 right-context=1",
    "SpliceComponent input-dim=3 context=-3:0:2",
    "SpliceComponent input-dim=5 context=-1:1 const-component-dim=2",
    "SpliceMaxComponent dim=3 context=-3:0:2",
    "SumGroupComponent sizes=1:3:2",
    "MaxoutComponent input-dim=12 output-dim=4",
    "MaxpoolingComponent input-dim=24 output-dim=8 pool-size=3 pool-stride=2",
    "SoftHingeComponent dim=7",
    "LogSoftmaxComponent dim=7",
    "PowerComponent dim=7",
    "PowerComponent input-dim=7 power=0.5",
    "PowerComponent dim=7 power=3",
    "ScaleComponent dim=7 scale=0.3",
    "BlockAffineComponent input-dim=6 output-dim=4 num-blocks=2",
    "BlockAffineComponentPreconditioned input-dim=6 output-dim=9 num-blocks=3 alpha=2",
    "Convolutional1dComponent input-dim=14 output-dim=6 patch-dim=3 patch-step=2 patch-stride=7",
    "Convolutional1dComponent input-dim=14 output-dim=15 patch-dim=3 patch-step=1 patch-stride=7 "
    "appended-conv=true",
    "PermuteComponent dim=7",
    "DctComponent dim=12 dct-dim=4 reorder=false dct-keep-dim=3",
    "DctComponent dim=12 dct-dim=4 reorder=true",
    "DropoutComponent dim=7 dropout-proportion=0.3 dropout-scale=0.1",
    "AdditiveNoiseComponent dim=7 stddev=0.5",
]


class Setting:
    """A component with input in two chunks, whose output frames have gaps, and an objective."""

    def __init__(self, line: str):
        self.component = make(line)
        rng = np.random.default_rng(1)
        outputs = (3, 4, 8)
        inputs = FrameLayout(2, needed_offsets(outputs, self.component.context))
        self.component.set_layout(inputs, FrameLayout(2, outputs))
        self.x = rng.standard_normal((inputs.num_rows, self.component.input_dim))
        self.direction = rng.standard_normal((6, self.component.output_dim))

    def output(self) -> np.ndarray:
        if hasattr(self.component, "rng"):
            self.component.rng = np.random.default_rng(2)  # the same noise every time
        out = np.full(self.direction.shape, np.nan)
        self.component.propagate(self.x, out)
        return out

    def objective(self) -> float:
        return float((self.output() * self.direction).sum())

    def differences(self, parameter: np.ndarray, step: float = 1e-6) -> np.ndarray:
        """The derivative of the objective w.r.t. an array, by central differences."""
        result = np.empty_like(parameter)
        for index in np.ndindex(parameter.shape):
            old = parameter[index]
            parameter[index] = old + step
            above = self.objective()
            parameter[index] = old - step
            result[index] = (above - self.objective()) / (2 * step)
            parameter[index] = old
        return result


def assert_same(analytic, numeric):
    scale = max(1.0, np.abs(numeric).max())
    np.testing.assert_allclose(analytic / scale, numeric / scale, atol=2e-8)


def test_constant_columns_that_vary():
    """Those of a row of the output are of the row of that number, as in Kaldi's SpliceComponent."""
    setting = Setting("SpliceComponent input-dim=5 context=-1:1 const-component-dim=2")
    columns = setting.x[:, 3:].reshape(2, -1, 2)
    assert columns.shape[1] > 3
    assert np.array_equal(setting.output()[:, -2:].reshape(2, 3, 2), columns[:, :3])


@pytest.mark.parametrize("line", EVERYTHING)
def test_derivative_by_the_input(line):
    setting = Setting(line)
    component = setting.component
    numeric = setting.differences(setting.x)
    y = setting.output()
    x = setting.x if component.needs_input else None
    y = y if component.needs_output else None
    analytic = np.full(setting.x.shape, np.nan)
    component.backpropagate(x, y, setting.direction.copy(), analytic)
    assert_same(analytic, numeric)


@pytest.mark.parametrize("line", [line for line in EVERYTHING if make(line).in_place])
def test_in_place_gives_the_same(line):
    setting = Setting(line)
    component, x = setting.component, setting.x.copy()
    y = setting.output()
    derivative = np.empty_like(x)
    component.backpropagate(x, y, setting.direction, derivative)
    overwritten = setting.direction.copy()
    component.backpropagate(x, y, overwritten, overwritten)
    np.testing.assert_array_equal(overwritten, derivative)
    if hasattr(component, "rng"):
        component.rng = np.random.default_rng(2)
    component.propagate(x, x)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "line", [line for line in EVERYTHING if isinstance(make(line), UpdatableComponent)]
)
def test_derivative_by_the_parameters(line):
    setting = Setting(line)
    component = setting.component
    assert isinstance(component, UpdatableComponent)
    gradient = component.copy()
    gradient.set_zero(as_gradient=True)
    for _ in range(2):  # it is added up
        component.add_gradient(setting.x, None, setting.direction.copy(), gradient)
    for parameter, analytic in zip(component.parameters, gradient.parameters, strict=True):
        assert_same(analytic, 2 * setting.differences(parameter))


@pytest.mark.parametrize("line", EVERYTHING)
def test_averages_with_others(line):
    """Half of itself and half of itself is itself, parameters and statistics."""
    component = make(line)
    other = component.copy()
    component.scale(0.5)
    component.add(0.5, other)
    assert component.array_names == other.array_names
    for name in component.array_names:
        np.testing.assert_allclose(getattr(component, name), getattr(other, name))


def test_each_block_is_trained_by_its_own_natural_gradient():
    blocks = Setting("BlockAffineComponentPreconditioned input-dim=6 output-dim=9 num-blocks=3")
    rows, component = 40, blocks.component
    rng = np.random.default_rng(3)
    x, derivative = rng.standard_normal((rows, 6)), rng.standard_normal((rows, 9))
    parts = []
    for k in range(3):
        part = make("AffineComponentPreconditioned input-dim=2 output-dim=3 alpha=4")
        part.linear_params[...] = component.linear_params[3 * k : 3 * k + 3]
        part.bias_params[...] = component.bias_params[3 * k : 3 * k + 3]
        columns = slice(3 * k, 3 * k + 3)
        part.update(x[:, 2 * k : 2 * k + 2].copy(), None, derivative[:, columns].copy())
        parts.append(part)
    component.update(x, None, derivative.copy())
    for ours, names in zip(component.parameters, component.parameter_names, strict=True):
        expected = np.concatenate([getattr(part, names) for part in parts])
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize(
    "line",
    [line for line in EVERYTHING if line.startswith(("Rectified", "Tanh", "Sigmoid", "SoftHinge"))],
)
def test_statistics_are_sums_over_frames(line):
    setting = Setting(line)
    component = setting.component
    y = setting.output()
    setting.direction[:] = 1
    slopes = setting.differences(setting.x)
    for _ in range(2):
        component.update(None, y, None)
    np.testing.assert_allclose(component.value_sum, 2 * y.sum(axis=0))
    np.testing.assert_allclose(component.deriv_sum, 2 * slopes.sum(axis=0), atol=1e-7)
    assert component.count == 2 * len(y)
    assert component.value_sum.dtype == np.float64


def test_derivative_of_the_logarithm_of_a_softmax():
    setting = Setting("SoftmaxComponent dim=7")
    y = setting.output()
    rows, columns = np.array([0, 2, 2, 2, 5]), np.array([1, 3, 4, 3, 6])
    weights = np.array([1.0, 0.5, 0.25, 0.125, 2.0])
    derivative = np.zeros_like(y)
    np.add.at(derivative, (rows, columns), weights / y[rows, columns])
    expected, result = np.empty_like(y), np.empty_like(y)
    setting.component.backpropagate(None, y, derivative, expected)
    starts = np.array([0, 1, 1, 4, 4, 4, 5])
    setting.component.backpropagate_log(y, SparseRows(rows, columns, weights, starts), result)
    np.testing.assert_allclose(result, expected, atol=1e-14)


# Values at the edges -----------------------------------------------------------------------------


def output_and_derivative(line: str, x, dtype=np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Output and derivative of the sum of outputs."""
    component = component_from_config(line, np.random.default_rng(0))
    x = np.array(x, dtype)
    layout = FrameLayout(1, range(len(x)))
    component.set_layout(layout, layout)
    y = np.empty((len(x), component.output_dim), dtype)
    component.propagate(x, y)
    derivative = np.empty_like(x)
    component.backpropagate(x, y, np.ones_like(y), derivative)
    return y, derivative


@pytest.mark.parametrize("p", ["0.5", "1", "2", "3", "inf"])
def test_pnorm_of_zero_has_no_derivative(p):
    y, derivative = output_and_derivative(
        f"PnormComponent input-dim=4 output-dim=2 p={p}", [[0, 0, 0, 0], [0, 0, 1, -1]]
    )
    assert y[0].tolist() == [0, 0] and y[1, 0] == 0 and y[1, 1] > 0
    assert np.isfinite(derivative).all() and not derivative[0].any()


def test_pnorm_of_order_zero_counts():
    y, _ = output_and_derivative(
        "PnormComponent input-dim=4 output-dim=2 p=0", [[0, 0, 0, -3], [1, 2, 3, 0]]
    )
    assert y.tolist() == [[0, 1], [2, 1]]


def test_general_pnorm_does_not_overflow():
    y, derivative = output_and_derivative(
        "PnormComponent input-dim=4 output-dim=2 p=3", [[3e20, 4e20, 0, 1e-20]]
    )
    np.testing.assert_allclose(y, [[91 ** (1 / 3) * 1e20, 1e-20]], rtol=1e-6)
    assert np.isfinite(derivative).all()


def test_all_that_equal_the_maximum_of_a_pool_get_its_derivative():
    y, derivative = output_and_derivative(
        "MaxpoolingComponent input-dim=8 output-dim=4 pool-size=2 pool-stride=2",
        [[1, 2, 3, 2, -1, -2, -3, -4]],
    )
    assert y.tolist() == [[3, 2, -1, -2]]
    assert derivative.tolist() == [[0, 1, 1, 1, 1, 1, 0, 0]]


def test_the_first_frame_that_has_the_maximum_gets_its_derivative():
    component = component_from_config("SpliceMaxComponent dim=2 context=0:1", None)
    component.set_layout(FrameLayout(1, range(3)), FrameLayout(1, range(2)))
    x = np.array([[1, 5], [1, 3], [0, 7]], np.float32)
    y, derivative = np.empty((2, 2), np.float32), np.empty_like(x)
    component.propagate(x, y)
    assert y.tolist() == [[1, 5], [1, 7]]
    component.backpropagate(x, y, np.array([[1, 2], [4, 8]], np.float32), derivative)
    assert derivative.tolist() == [[1, 2], [4, 0], [0, 8]]


def test_input_i_goes_where_the_permutation_says():
    component = component_from_config("PermuteComponent dim=5", np.random.default_rng(0))
    x, y = np.arange(5.0)[None], np.empty((1, 5))
    component.propagate(x, y)
    assert y[0, list(component.reorder)].tolist() == [0, 1, 2, 3, 4]


def test_cosine_transform_is_orthonormal_and_of_every_so_many_th():
    line = "DctComponent dim=6 dct-dim=3 reorder=true"
    y, _ = output_and_derivative(line, [[1, 2, 1, 3, 1, 7]])
    np.testing.assert_allclose(y[0, ::2], [3**0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(y[0, 1::2]), 62**0.5, rtol=1e-6)


def test_a_convolution_of_channels_side_by_side_and_in_turn():
    """Appended to another, it sees the transpose of the array of frequencies and channels."""
    component = make(CONVOLUTION)
    appended = make(f"{CONVOLUTION} appended-conv=true")
    appended.linear_params[...] = component.linear_params
    appended.bias_params[...] = component.bias_params
    x = np.random.default_rng(0).standard_normal((4, 14))
    y, same = np.empty((4, 15)), np.empty((4, 15))
    component.propagate(x, y)
    transposed = np.ascontiguousarray(x.reshape(4, 2, 7).swapaxes(1, 2)).reshape(4, 14)
    appended.propagate(transposed, same)
    np.testing.assert_allclose(same, y, rtol=1e-12)
    W = component.linear_params.reshape(3, 2, 3)
    expected = np.einsum("fsd,nsd->nf", W, x.reshape(4, 2, 7)[:, :, 2:5]) + component.bias_params
    np.testing.assert_allclose(y.reshape(4, 5, 3)[:, 2], expected, rtol=1e-12)


def test_powers_at_zero_and_large_inputs():
    y, derivative = output_and_derivative("PowerComponent dim=3 power=0.5", [[0, 4, -4]])
    assert y.tolist() == [[0, 2, 2]] and derivative.tolist() == [[0, 0.25, -0.25]]
    y, derivative = output_and_derivative("SoftHingeComponent dim=3", [[1e4, -1e4, 0]])
    np.testing.assert_allclose(y, [[1e4, 0, math.log(2)]], rtol=1e-6)
    np.testing.assert_allclose(derivative, [[1, 0, 0.5]], rtol=1e-6)
    y, _ = output_and_derivative("LogSoftmaxComponent dim=3", [[1e4, -1e4, 1e4]])
    np.testing.assert_allclose(y, [[-math.log(2), math.log(PROBABILITY_FLOOR), -math.log(2)]])


def test_normalization_is_floored():
    x = np.zeros((2, 4), np.float32)
    x[1] = 1e-12
    y, derivative = output_and_derivative("NormalizeComponent dim=4", x)
    np.testing.assert_allclose(y, x * NORM_FLOOR**-0.5, rtol=1e-6)
    np.testing.assert_allclose(derivative, NORM_FLOOR**-0.5, rtol=1e-6)


def test_softmax_and_sigmoid_take_large_inputs():
    y, _ = output_and_derivative("SoftmaxComponent dim=3", [[1e4, -1e4, 1e4]])
    np.testing.assert_allclose(y, [[0.5, PROBABILITY_FLOOR, 0.5]])
    y, derivative = output_and_derivative("SigmoidComponent dim=3", [[1e4, -1e4, -20]])
    np.testing.assert_allclose(y, [[1, 0, 2.0611537e-09]], rtol=1e-6)
    assert np.isfinite(derivative).all()


def test_blocks_of_rows_give_the_same_as_rows():
    """What is computed block by block, for the sake of the cache, has no seams."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 600)).astype(np.float32)  # several blocks
    for line in (
        "PnormComponent input-dim=600 output-dim=60",
        "NormalizeComponent dim=600",
        "SoftmaxComponent dim=600",
        "SigmoidComponent dim=600",
        "RectifiedLinearComponent dim=600",
    ):
        y, derivative = output_and_derivative(line, x)
        for i in (0, 108, 109, 110, 299):
            y_i, derivative_i = output_and_derivative(line, x[i : i + 1])
            np.testing.assert_allclose(y[i], y_i[0], rtol=1e-6)
            np.testing.assert_allclose(derivative[i], derivative_i[0], rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean():
    line = "DropoutComponent dim=1000 dropout-proportion=0.4 dropout-scale=0.2"
    y, derivative = output_and_derivative(line, np.ones((100, 1000)))
    np.testing.assert_allclose(np.unique(y), [0.2, (1 - 0.4 * 0.2) / 0.6], rtol=1e-6)
    assert abs(y.mean() - 1) < 0.01
    np.testing.assert_array_equal(derivative, y)


def test_additive_noise_is_gaussian_and_new_each_time():
    line = "AdditiveNoiseComponent dim=1000 stddev=0.5"
    setting = make(line)
    noise = np.empty((2, 100, 1000))
    for out in noise:
        setting.propagate(np.zeros((100, 1000)), out)
    assert np.isfinite(noise).all() and not np.array_equal(*noise)
    for power, moment in (1, 0), (2, 0.25), (3, 0), (4, 3 * 0.5**4):
        assert abs((noise**power).mean() - moment) < 0.01


# Layouts -----------------------------------------------------------------------------------------


def test_runs_are_as_long_as_can_be():
    assert runs(range(0, 9), range(2, 7), -2) == ((slice(0, 5), slice(0, 5)),)
    gaps = (2, 4, 5, 6, 7, 12)
    assert runs(gaps, (4, 5, 7), 0) == (
        (slice(0, 2), slice(1, 3)),
        (slice(2, 3), slice(4, 5)),
    )
    assert runs(gaps, (4, 5, 10), 2) == ((slice(0, 3), slice(3, 6)),)
    for offsets, shift in ((4, 5), 3), ((4,), -1), (range(4, 6), 20):
        with pytest.raises(ValueError):
            runs(gaps, offsets, shift)
