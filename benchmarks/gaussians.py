"""Gaussian mixtures on the states of HMMs, trained by Kaldi's code as kaldi-hmm-gmm binds it.

Of that package are the densities, their re-estimation and splitting (gmm/diag-gmm.cc,
gmm/mle-am-diag-gmm.cc), transition probabilities, training graphs and the search for alignments
(decoder/decoder-wrappers.cc).  Sums over frames are NumPy's, one product a state instead of a call
a frame, and MLLT, which is not bound, too (mixture_sums.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import _kaldi_hmm_gmm as kaldi_binding
import kaldi_hmm_gmm as kaldi
import kaldifst
import numpy as np
from mixture_sums import Sample, parts_of, posteriors_of

from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmTopology
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency
from nnet.io.integer_lists import read_integers
from nnet.io.tables import FEATURES, sequential_table
from nnet.io.tokens import Writer, write_object

log = logging.getLogger("ngtrain")

VARIANCE_FLOOR = 0.01  # of gmm-init-model
SPLIT = {"perturb_factor": 0.01, "power": 0.25, "min_count": 20.0}
SCALES = {"transition_scale": 1.0, "self_loop_scale": 0.1}
ACOUSTIC_SCALE = 0.1
ALL = int(kaldi.GmmUpdateFlags.kGmmAll)


@dataclass
class Corpus:
    """Features of utterances, one after the other, float32 (frames, dim), and where each begins."""

    keys: list[str]
    starts: np.ndarray
    frames: np.ndarray

    @classmethod
    def load(cls, rspecifier: str, keys: set[str] | None = None) -> Corpus:
        """Read a table of features; of those utterances, if any are named."""
        with sequential_table(rspecifier, FEATURES) as table:
            read = {key: matrix for key, matrix in table if keys is None or key in keys}
        starts = np.cumsum([0, *map(len, read.values())])
        return cls(list(read), starts, np.concatenate(list(read.values())))

    def transformed(self, matrix: np.ndarray) -> Corpus:
        """Multiply each frame by a matrix (rows, dim)."""
        return Corpus(self.keys, self.starts, self.frames @ matrix.T.astype(np.float32))

    def shortest(self, number: int) -> Corpus:
        """Select the shortest utterances."""
        keep = np.sort(np.argsort(np.diff(self.starts), kind="stable")[:number])
        parts = [self.frames[self.starts[n] : self.starts[n + 1]] for n in keep]
        starts = np.cumsum([0, *map(len, parts)])
        return Corpus([self.keys[n] for n in keep], starts, np.concatenate(parts))

    def utterances(self) -> Iterator[tuple[str, slice]]:
        """Give each utterance and its frames."""
        for key, first, end in zip(self.keys, self.starts, self.starts[1:], strict=False):
            yield key, slice(first, end)

    def joined(self, alignments: dict[str, Sequence[int]]) -> np.ndarray:
        """Lay alignments beside the frames, int32 (frames,); 0 where an utterance has none."""
        ids = np.zeros(len(self.frames), np.int32)
        for key, frames in self.utterances():
            if key in alignments:
                ids[frames] = alignments[key]
        return ids


class GaussianSystem:
    """A tree, its transition model, and a mixture of Gaussians for each of its states.

    model: the same transition model as arrays; its probabilities are not kept up to date.
    """

    def __init__(self, tree: Path, topology: Path):
        self.topology = kaldi.HmmTopology()
        self.topology.read(topology.read_text())
        context = ContextDependency.load(str(tree))
        self.tree = _kaldi_tree(tree)
        self.transitions = kaldi.TransitionModel(self.tree, self.topology)
        self.model = TransitionModel.from_tree(context, HmmTopology.load(str(topology)))
        if self.model.num_transition_ids != self.transitions.num_transition_ids:
            raise NgtrainError(f"{tree}: not the transition-ids of Kaldi's transition model")
        self.mixtures = kaldi.AmDiagGmm()

    # --- Densities --------------------------------------------------------------------------------

    def start_with(self, means: np.ndarray, variances: np.ndarray) -> None:
        """Give each state one Gaussian of these means and variances, float (states, dim)."""
        for mean, variance in zip(means, variances, strict=True):
            one = kaldi.DiagGmm(1, len(mean))
            one.set_invvars_and_means(
                (1 / variance)[None].astype(np.float32), mean[None].astype(np.float32)
            )
            one.set_weights(np.ones(1, np.float32))
            one.compute_gconsts()
            self.mixtures.add_pdf(one)

    def start_flat(self, frames: np.ndarray) -> None:
        """Give all states the mean and variance of some frames (gmm-init-mono)."""
        shape = self.model.num_pdfs, 1
        self.start_with(np.tile(frames.mean(0), shape), np.tile(frames.var(0), shape))

    def start_from(self, sample: Sample) -> np.ndarray:
        """Give each state the mean and variance of its frames (gmm-init-model); returns counts."""
        counts, dim = np.zeros(self.model.num_pdfs), sample.dim
        sums = np.zeros((self.model.num_pdfs, 2 * dim))
        for pdf, z in sample.states():
            counts[pdf], sums[pdf] = len(z), z.sum(0, dtype=np.float64)
        empty = counts == 0
        if empty.any():
            log.warning("%d states have no frames, and start with those of all", empty.sum())
        sums[empty] = sums.sum(0)
        mean, square = np.hsplit(sums / np.where(empty, counts.sum(), counts)[:, None], 2)
        self.start_with(mean, np.maximum(square - mean**2, VARIANCE_FLOOR))
        return counts.astype(np.float32)

    def split(self, counts: np.ndarray, num_gaussians: int) -> None:
        """Split Gaussians of the states that have the most frames (gmm-mixup)."""
        self.mixtures.split_by_count(counts, num_gaussians, **SPLIT)

    def transform_means(self, matrix: np.ndarray) -> None:
        """Multiply all means by a matrix (gmm-transform-means)."""
        for pdf in range(self.mixtures.num_pdfs):
            mixture = self.mixtures.get_pdf(pdf)
            mixture.set_means((mixture.means @ matrix.T).astype(np.float32))
            mixture.compute_gconsts()

    # --- Expectation and maximization -------------------------------------------------------------

    def reestimate(self, sample: Sample, num_gaussians: int, min_occupancy: float = 10.0) -> float:
        """Re-estimate all from an alignment, then split (gmm-acc-stats-ali, gmm-est).

        Returns the log-likelihood per frame before.
        """
        options = kaldi.MleDiagGmmOptions(min_gaussian_occupancy=min_occupancy)
        total, counts = 0.0, np.zeros(self.model.num_pdfs, np.float32)
        for pdf, z in sample.states():
            mixture = self.mixtures.get_pdf(pdf)
            first, second = np.zeros((2, mixture.num_gauss, sample.dim))
            occupancy = np.zeros(mixture.num_gauss)
            for part in parts_of(z):
                posteriors, likelihood = posteriors_of(mixture, part)
                x, square = np.hsplit(posteriors.T @ part, 2)
                first, second = first + x, second + square
                occupancy += posteriors.sum(0)
                total += likelihood
            sums = kaldi_binding.AccumDiagGmm(mixture, ALL)
            for g in range(mixture.num_gauss):
                sums.add_stats_for_component(g, occupancy[g], first[g], second[g])
            kaldi_binding.mle_diag_gmm_update(options, sums, ALL, mixture)
            counts[pdf] = len(z)
        taken = np.bincount(sample.ids, minlength=self.model.num_transition_ids + 1)
        self.transitions.mle_update(taken.astype(np.float64), kaldi.MleTransitionUpdateConfig())
        self.split(counts, num_gaussians)
        return total / counts.sum()

    # --- Alignment --------------------------------------------------------------------------------

    def graphs(self, lang: Path, transcripts: dict[str, list[str]]) -> dict[str, object]:
        """Make the graph of each transcript, without probabilities (compile-train-graphs)."""
        words, oov = SymbolTable.load(f"{lang}/words.txt"), read_integers(f"{lang}/oov.int")[0]
        options = kaldi.TrainingGraphCompilerOptions(transition_scale=0.0, self_loop_scale=0.0)
        compiler = kaldi.TrainingGraphCompiler(
            self.transitions, self.tree, kaldifst.StdVectorFst.read(f"{lang}/L.fst"),
            read_integers(f"{lang}/phones/disambig.int"), options,
        )  # fmt: skip
        return {
            key: compiler.compile_graph_from_text(
                [words.number(word) if word in words else oov for word in text]
            )
            for key, text in transcripts.items()
        }

    def align(
        self, corpus: Corpus, graphs: dict[str, object], beam: float, silence: Sequence[int],
        boost: float, retry_beam: float = 40.0,
    ) -> dict[str, list[int]]:  # fmt: skip
        """Find the best path of each utterance (gmm-boost-silence, gmm-align-compiled)."""
        mixtures = kaldi.AmDiagGmm()
        mixtures.copy_from_am_diag_gmm(self.mixtures)
        for pdf in kaldi.get_pdfs_for_phones(self.transitions, list(silence))[1]:
            mixture = mixtures.get_pdf(pdf)
            mixture.set_weights(mixture.weights * np.float32(boost))
            mixture.compute_gconsts()
        config = kaldi.AlignConfig(beam=beam, retry_beam=retry_beam, careful=False)
        alignments, tally = {}, (0, 0, 0, 0.0, 0)
        for key, frames in corpus.utterances():
            graph = graphs[key].copy()
            kaldi.add_transition_probs(
                trans_model=self.transitions, disambig_syms=[], fst=graph, **SCALES
            )
            scores = kaldi.DecodableAmDiagGmmScaled(
                mixtures, self.transitions, corpus.frames[frames], ACOUSTIC_SCALE
            )
            *tally, ids, _ = kaldi.align_utterance_wrapper(
                config, key, ACOUSTIC_SCALE, graph, scores, *tally
            )
            if ids:
                alignments[key] = ids
        done, failed, retried, likelihood, num_frames = tally
        log.info(
            "aligned %d, failed %d, retried %d; %.3f per frame",
            *(done, failed, retried, likelihood / max(num_frames, 1)),
        )
        return alignments

    # --- Files ------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a model as Kaldi's gmm-copy does."""
        self.model.log_probs[:] = self.transitions.log_probs
        write_object(str(path), self._write)

    def _write(self, writer: Writer) -> None:
        self.model.write(writer)
        writer.token("<DIMENSION>").integer(self.mixtures.dim)
        writer.token("<NUMPDFS>").integer(self.mixtures.num_pdfs)
        for pdf in range(self.mixtures.num_pdfs):
            mixture = self.mixtures.get_pdf(pdf)
            writer.token("<DiagGMM>")
            writer.token("<GCONSTS>").vector(mixture.gconsts)
            writer.token("<WEIGHTS>").vector(mixture.weights)
            writer.token("<MEANS_INVVARS>").matrix(mixture.means_invvars)
            writer.token("<INV_VARS>").matrix(mixture.inv_vars)
            writer.token("</DiagGMM>")


def _kaldi_tree(path: Path):
    """Hand a tree file to Kaldi: the package has no reader, but takes the bytes behind a header."""
    content = path.read_bytes()
    if content[:2] != b"\0B":
        raise NgtrainError(f"{path}: expected a binary tree")
    tree = kaldi.ContextDependency.__new__(kaldi.ContextDependency)
    tree.__setstate__((np.frombuffer(content[2:], np.int8).tolist(),))
    return tree
