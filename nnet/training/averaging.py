"""Averaging of models.

With the models of one iteration's jobs this is the parameter averaging of Povey, Zhang and
Khudanpur (arXiv 1410.7455), section 2: theta = 1/N sum_n theta_n.

Source: Kaldi's nnet2bin/nnet-am-average.cc.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter

import numpy as np

from nnet.device.device import CPU, Device
from nnet.errors import NgtrainError
from nnet.io.checksums import check_file
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network, structure

log = logging.getLogger("ngtrain")


def average_models(
    rxfilenames: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    sum_only: bool = False,
    skip_last_layer: bool = False,
    skip_layers: Sequence[int] = (),
) -> AcousticModel:
    """Average the parameters, weighted, and the statistics of nonlinearities.

    All else is that of the first model.  The sum is in double precision, and however many models
    there are, no more than the sum and one of them are in memory.

    Args:
        weights: one for each model, brought to a sum of one; equal if None.
        sum_only: take the sum instead, the weights being what they are, or 1 if None.
        skip_last_layer: the last updatable component and what follows it stay those of the first
            model, as where networks of several languages share all other layers; there models may
            be of other dimensions.
        skip_layers: indices of more components that do; negative ones count from the end.

    Raises:
        NgtrainError: a model has NaN or infinity in it or is unlike the first; weights or indices
            do not fit.
    """
    weights = _final_weights(weights, len(rxfilenames), sum_only)

    def chosen(network: Network) -> list[int]:
        return _averaged_components(network, skip_last_layer, skip_layers)

    models = load_alike(rxfilenames, compared=chosen if skip_last_layer or skip_layers else None)
    result = next(models)
    averaged = chosen(result.network)
    average_networks(chain([result.network], map(attrgetter("network"), models)), weights, averaged)
    return result


def average_networks(
    networks: Iterable[Network], weights: Sequence[float], components: Sequence[int] | None = None
) -> Network:
    """Average networks, weighted, into the first of them, which is returned.

    The sum is in double precision.  A network is asked for when the one before has been added, so
    that jobs can run one after the other in one process.

    Args:
        components: indices of those that are averaged; all if None.  The others stay.
    """
    networks = iter(networks)
    total = next(networks)
    averaged = range(len(total.components)) if components is None else components
    for c in averaged:
        total.components[c].convert(np.float64)
        total.components[c].scale(weights[0])
    for weight in weights[1:]:
        _add(total, weight, next(networks), averaged)
    for c in averaged:
        total.components[c].convert(np.float32)
    return total


def _add(total: Network, weight: float, addend: Network, components: Sequence[int]) -> None:
    """Add `weight` times some components of `addend`, in double precision."""
    for c in components:
        addend.components[c].convert(np.float64)
        total.components[c].add(weight, addend.components[c])


def load_alike(
    rxfilenames: Sequence[str],
    device: Device = CPU,
    compared: Callable[[Network], Sequence[int]] | None = None,
) -> Iterator[AcousticModel]:
    """Load models one after the other.

    Args:
        compared: finds in the first network the indices of components in which the others must be
            like it; all if None, and as many.

    Raises:
        NgtrainError: there is NaN or infinity among the parameters, the components of a network are
            not of the kinds and dimensions that the first one's are, or a file is not what its
            checksum says; it names the file.
    """
    expected: dict[int, tuple] = {}
    for rxfilename in rxfilenames:
        model = AcousticModel.load(rxfilename)
        model.network.move_to(device)
        for c, component in enumerate(model.network.components):
            if not component.is_finite():
                raise NgtrainError(f"{rxfilename}: component {c} has NaN or infinity in it")
        this = {c: (x.context, *structure(x)) for c, x in enumerate(model.network.components)}
        expected = expected or {c: this[c] for c in (compared(model.network) if compared else this)}
        if compared:
            this = {c: this[c] for c in expected if c in this}
        if this != expected:
            raise NgtrainError(
                f"{rxfilename}: the network is unlike that of {rxfilenames[0]}: "
                f"{_first_difference(this, expected)}"
            )
        check_file(rxfilename)
        yield model
        del model, component  # so that they can be freed before the next one is loaded


def _first_difference(this: dict[int, tuple], that: dict[int, tuple]) -> str:
    if len(this) != len(that):
        return f"{len(this)} components instead of {len(that)}"
    c = next(c for c in this if this[c] != that[c])
    a, b = (
        "{1} of dimensions {2} -> {3} and context {0}".format(*layers[c]) for layers in (this, that)
    )
    if a == b:
        a, b = (f"{a} with parameters of {layers[c][4:]}" for layers in (this, that))
    return f"component {c} is {a} instead of {b}"


def _final_weights(weights: Sequence[float] | None, count: int, sum_only: bool) -> np.ndarray:
    given = np.ones(count) if weights is None else np.array(weights, dtype=np.float64)
    if len(given) != count:
        raise NgtrainError(f"there are {len(given)} weights for {count} models")
    if sum_only:
        return given
    total = given.sum()
    if not np.isfinite(total) or total == 0:
        raise NgtrainError(f"the weights sum to {total:g}")
    if weights is not None and abs(total - 1) > 0.01:
        log.warning("Normalizing weights to sum to one, sum was %g", total)
    return given / total


def _averaged_components(
    network: Network, skip_last_layer: bool, skip_layers: Sequence[int]
) -> list[int]:
    count = len(network.components)
    for c in skip_layers:
        if not -count <= c < count:
            raise NgtrainError(f"cannot skip layer {c}: the network has {count} components")
    skipped = {c % count for c in skip_layers}
    if skip_last_layer:
        last = network.components.index(network.updatable_components[-1])
        skipped.update(range(last, count))
    return [c for c in range(count) if c not in skipped]
