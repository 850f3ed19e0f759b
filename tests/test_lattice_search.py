"""The search for lattices, beside kaldi-decoder's search for one path and beside every path."""

from dataclasses import replace

import numpy as np
import pytest

from nnet.decoding.decoder import Decoder, SearchOptions
from nnet.decoding.fst import ARC, ArrayFst
from nnet.decoding.lattice_search import LatticeSearch, LatticeSearchOptions
from nnet.errors import NgtrainError
from nnet.lattices.order import connected
from nnet.lattices.paths import best_path, best_paths
from nnet.model.acoustic_model import AcousticModel


@pytest.fixture(scope="module")
def digits(kaldi, reference):
    """The digits' graph and model, and likelihoods of noise, which leave much to choose."""
    model = AcousticModel.load(str(reference("kaldi/exp/nnet_ms/final.mdl"))).transition_model
    rng = np.random.default_rng(0)
    likelihoods = rng.normal(scale=4.0, size=(60, model.num_pdfs)).astype(np.float32)
    return ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst")), model, likelihoods


@pytest.mark.parametrize("max_active", [10000, 100])
def test_the_path_of_another_search(digits, max_active):
    """With the beam alone it is the same; fewer states leave one that may be worse."""
    graph, model, likelihoods = digits
    widths = {"beam": 12.0, "max_active": max_active, "min_active": 20}
    search = LatticeSearch(graph, model.pdf_of, LatticeSearchOptions(**widths, lattice_beam=4.0))
    assert search.advance(likelihoods, 0.1)
    most = max(frame.num_tokens for frame in search._frames)
    lattice = search.lattice()
    path = best_path(lattice)
    found = -path.weight(lattice).sum()
    expected = Decoder(graph, model, SearchOptions(**widths)).decode(likelihoods, 0.1)
    assert found == pytest.approx(expected.log_likelihood, abs=1e-3 if max_active > 100 else 2.0)
    assert len(path.alignment(lattice)) == len(likelihoods)
    assert lattice.is_topsorted and connected(lattice) is lattice
    if max_active > 100:
        assert path.alignment(lattice) == expected.alignment
    else:
        assert most < 2 * max_active  # what goes on is limited, not what that leads to


def test_all_within_the_beam(digits):
    """The lattice has the paths that a wider one has within its beam, and no other arcs."""
    graph, model, likelihoods = digits
    paths = []
    for beam in 3.0, 6.0:
        options = LatticeSearchOptions(beam=14.0, lattice_beam=beam, prune_interval=7)
        search = LatticeSearch(graph, model.pdf_of, options)
        search.advance(likelihoods, 0.1)
        lattice = search.lattice()
        costs = [path.weight(lattice).sum() for path in best_paths(lattice, 300)]
        paths.append([cost for cost in costs if cost <= costs[0] + 3.0])
    assert len(paths[0]) == len(paths[1]) > 50
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-5)


@pytest.mark.parametrize("interval", [1, 7])
def test_pruning_on_the_way_changes_nothing(digits, monkeypatch, interval):
    """What is dropped early is on no path of the lattice, however often it is done."""
    graph, model, likelihoods = digits
    lattices, num_links = [], []
    for few_links in 0, 10**9:
        monkeypatch.setattr("nnet.decoding.lattice_search.FEW_LINKS", few_links)
        options = LatticeSearchOptions(beam=14.0, lattice_beam=4.0, prune_interval=interval)
        search = LatticeSearch(graph, model.pdf_of, options)
        search.advance(likelihoods, 0.1)
        num_links.append(sum(len(frame.links_in.arc) for frame in search._frames))
        lattices.append(search.lattice())
    assert num_links[0] < num_links[1]
    assert np.array_equal(lattices[0].arcs, lattices[1].arcs)


def test_nothing_was_said(digits):
    """Without a frame there is the start, and what epsilons lead to from it."""
    graph, model, _ = digits
    search = LatticeSearch(graph, model.pdf_of, LatticeSearchOptions())
    lattice = search.lattice()
    assert search.num_frames == 0
    assert lattice.num_states > 0 and not lattice.arcs["ilabel"].any()


def test_parts_are_the_whole(digits):
    graph, model, likelihoods = digits
    graph = replace(graph, finals=np.zeros_like(graph.finals))  # paths may end everywhere
    lattices = []
    for cuts in [], [1, 20, 20, 47]:
        search = LatticeSearch(graph, model.pdf_of, LatticeSearchOptions(beam=10.0))
        for part in np.split(likelihoods, cuts):
            search.advance(part, 0.1)
        assert search.num_frames == len(likelihoods)
        backward, cost = list(search.transition_ids_backward()), search.relative_cost()
        lattices.append(search.lattice())
    assert np.array_equal(lattices[0].arcs, lattices[1].arcs)
    assert cost == 0
    assert backward[::-1] == best_path(lattices[1]).alignment(lattices[1])


def _small(arcs, finals=(np.inf, np.inf, 0.0)):
    rows = np.array([row[1:] for row in arcs], ARC)
    return ArrayFst.from_arcs(0, finals, [row[0] for row in arcs], rows)


def test_epsilons_follow_each_other():
    """Ways of several epsilons, the cheaper of which is longer, before and after a frame."""
    graph = _small([
        (0, 0, 7, 5.0, 1), (0, 0, 8, 1.0, 2), (2, 0, 9, 1.0, 1), (1, 1, 0, 0.0, 0),
    ], (np.inf, 0.0, np.inf))  # fmt: skip
    search = LatticeSearch(graph, np.array([-1, 0]), LatticeSearchOptions(lattice_beam=2.5))
    search.advance(np.zeros((2, 1), np.float32), 1.0)
    lattice = search.lattice()
    path = best_path(lattice)
    assert path.words(lattice) == [8, 9] * 3 and path.weight(lattice).sum() == 6.0
    assert 7 not in lattice.words.tolist()  # 3 more than the others, each time
    wider = LatticeSearch(graph, np.array([-1, 0]), LatticeSearchOptions(lattice_beam=3.5))
    wider.advance(np.zeros((2, 1), np.float32), 1.0)
    assert (wider.lattice().words == 7).sum() == 3


def test_what_cannot_be_searched():
    dead_end = _small([(0, 1, 0, 0.0, 1)])
    search = LatticeSearch(dead_end, np.array([-1, 0]), LatticeSearchOptions())
    assert not search.advance(np.zeros((2, 1), np.float32), 1.0)
    assert search.num_frames == 1
    circle = _small([(0, 0, 0, 0.0, 1), (1, 0, 0, 0.0, 0), (1, 1, 0, 0.0, 2)])
    search = LatticeSearch(circle, np.array([-1, 0]), LatticeSearchOptions())
    search.advance(np.zeros((1, 1), np.float32), 1.0)
    with pytest.raises(NgtrainError, match="a cycle that reads no frame"):
        search.lattice()
    with pytest.raises(NgtrainError, match="beams do not make sense"):
        LatticeSearchOptions(max_active=199, min_active=200)
    assert LatticeSearchOptions(max_active=200, min_active=200).beam > 0  # as in Kaldi
