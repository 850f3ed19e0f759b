"""Gaussian mixtures of Kaldi: likelihoods, alignments, and lattices of gmm-latgen-faster."""

from __future__ import annotations

import re

import numpy as np
import pytest
from archives import read_table as read_archive

from nnet.decoding.alignment import Aligner, AlignmentOptions
from nnet.decoding.fst import ArrayFst
from nnet.decoding.graph import TrainingGraphCompiler, add_transition_probs
from nnet.decoding.symbols import SymbolTable
from nnet.drivers.data_dir import read_table
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.errors import NgtrainError
from nnet.io.integer_lists import read_integers
from nnet.io.tables import MATRIX, sequential_table
from nnet.ivectors import gmm_model
from nnet.ivectors.gmm_model import GmmModel
from nnet.ivectors.mixture_tables import log_sum
from nnet.lattices.tables import COMPACT_LATTICE


def data_of(kaldi, part, folder, every, first=0) -> None:
    """Make a data directory of some utterances of the reference."""
    folder.mkdir(exist_ok=True)
    for name in "feats.scp", "cmvn.scp", "utt2spk", "text":
        lines = (kaldi / "data" / part / name).read_text().splitlines(keepends=True)
        if name != "cmvn.scp":
            lines = lines[first::every]
        (folder / name).write_text("".join(lines).replace("../shared/kaldi", str(kaldi)))


@pytest.fixture(scope="module")
def system(gaussians) -> GmmModel:
    return GmmModel.load(f"{gaussians}/final.mdl")


def test_likelihoods_are_those_of_each_mixture(system, monkeypatch):
    dim = system.mixtures[0].dim
    frames = np.random.default_rng(0).normal(scale=3, size=(7, dim)).astype(np.float32)
    expected = np.array([log_sum(mixture.log_likelihoods(frames)) for mixture in system.mixtures]).T
    found = system.log_likelihoods(frames)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(gmm_model, "DENSITIES_AT_ONCE", 3 * sum(map(len, system.mixtures)))
    np.testing.assert_allclose(system.log_likelihoods(frames), found, rtol=1e-5, atol=1e-4)
    assert system.log_likelihoods(frames[:0]).shape == (0, len(system.mixtures))


def test_features_that_do_not_fit(system):
    dim = system.mixtures[0].dim
    with pytest.raises(NgtrainError, match=f"utterance x: .*dimension 3, the Gaussians have {dim}"):
        system.log_likelihoods(np.zeros((2, 3), np.float32), "x")
    with pytest.raises(NgtrainError, match="NaN or infinite"):
        system.log_likelihoods(np.full((2, dim), np.nan, np.float32))


@pytest.mark.slow
def test_kaldis_gaussians_find_kaldis_alignment_again(
    kaldi, tree, system, environment, tmp_path, alignments
):
    lang = kaldi / "data/lang"
    data_of(kaldi, "train", tmp_path, every=100)
    model, words = system.transition_model, SymbolTable.load(f"{lang}/words.txt")
    compiler = TrainingGraphCompiler(
        tree, model, ArrayFst.load(f"{lang}/L.fst"),
        read_integers(f"{lang}/phones/disambig.int"), transition_scale=0.0, self_loop_scale=0.0,
    )  # fmt: skip
    texts, aligner = (
        read_table(tmp_path / "text"),
        Aligner(model, 0.1, AlignmentOptions(10.0, 40.0)),
    )
    with sequential_table(
        FeaturePipeline.of(kaldi / "exp/tri2_ali").rspecifier(tmp_path), MATRIX
    ) as features:
        for key, frames in features:
            graph = compiler.compile([words.number(word) for word in texts[key].split()])
            graph = add_transition_probs(graph, model, 1.0, 0.1)
            path = aligner.align(key, graph, system.log_likelihoods(frames))
            assert path.alignment == list(alignments[key])
    assert aligner.num_done == len(texts)


KALDI = """
lucas-0-04 -7.35004 6
lucas-1-34 -6.61253 6
lucas-3-14 -7.00026 2
lucas-4-44 -7.02131 6
lucas-6-24 -6.47471 8
lucas-8-04 -6.46319 2
lucas-9-34 -6.72742 5
yweweler-1-14 -5.44205 6
yweweler-2-44 -6.69303 10
yweweler-4-24 -5.75812 4
yweweler-6-04 -6.34565 9
yweweler-7-34 -6.52067 6
yweweler-9-14 -6.00113 6
"""
"""Log-likelihoods per frame and words, as Kaldi's gmm-latgen-faster has them."""


@pytest.mark.slow
def test_lattices(kaldi, gaussians, environment, run_program, tmp_path):
    """Words and likelihoods are Kaldi's; what one process writes, two write as well."""
    expected = {key: (float(ll), word) for key, ll, word in map(str.split, KALDI.split("\n")[1:-1])}
    data_of(kaldi, "test", tmp_path / "data", every=80, first=4)
    features = FeaturePipeline.of(gaussians).rspecifier(tmp_path / "data")
    inputs = gaussians / "final.mdl", gaussians / "graph/HCLG.fst", features
    options = "--acoustic-scale=0.083333", "--beam=13", "--lattice-beam=6"
    results = {}
    for program in ["gmm-latgen-faster"], ["gmm-latgen-faster-parallel", "--num-threads=2"]:
        outputs = [f"ark:{tmp_path}/lat", f"ark,t:{tmp_path}/words"]
        said = run_program(*program, *options, *inputs, *outputs).stderr.decode()
        assert "Done 13 utterances, failed for 0" in said
        found = dict(re.findall(r"for utterance (\S+) is (\S+) over", said))
        assert {k: float(v) for k, v in found.items()} == pytest.approx(
            {key: log_likelihood for key, (log_likelihood, _) in expected.items()}, rel=1e-5
        )
        results[program[0]] = [(tmp_path / name).read_bytes() for name in ("lat", "words")]
    first, second = results.values()
    assert first == second
    words = dict(map(str.split, first[1].decode().splitlines()))
    assert words == {key: word for key, (_, word) in expected.items()}
    lattices = read_archive(f"ark:{tmp_path}/lat", COMPACT_LATTICE)
    assert sum(lattice.num_arcs for lattice in lattices.values()) == 20
