#!/usr/bin/env python3
"""Train Kaldi's chain of systems with Gaussian mixtures, the peer of a chain without them.

Monophones, triphones on deltas, triphones on LDA and MLLT: the iterations, alignments and numbers
of Gaussians of Kaldi's steps/train_mono.sh, train_deltas.sh, train_lda_mllt.sh and align_si.sh, as
egs/mini_librispeech calls them.  Gaussians, graphs and alignments are Kaldi's code (gaussians.py
says what is not), questions, trees, LDA and conversion of alignments this project's programs,
which write what Kaldi's write.  <dir>/mono_ali, tri1_ali and tri2_ali are alignment directories
like Kaldi's; a stage whose directory is there is not done again.

Needs the package kaldi-hmm-gmm, with the kaldifst that it was built for (1.7.17)."""

import shutil
from dataclasses import dataclass, field, replace
from os import times
from pathlib import Path

import numpy as np

from nnet.cli import argument, log, option, program
from nnet.drivers.ali_dir import alignments_in
from nnet.drivers.data_dir import read_table
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.programs import run_step
from nnet.drivers.splitting import split_by_speaker
from nnet.features.lda import LdaStatistics, estimate_lda
from nnet.io.tables import INTEGERS, sequential_table, table_writer
from nnet.io.text import split_words, write_lines
from nnet.io.tokens import write_object
from nnet.launch.commands import read_numbers, unzipped, zipped

SPLICE = "--left-context=3 --right-context=3"
RAW, DELTAS = FeaturePipeline("raw"), FeaturePipeline("raw", delta_order="2")
NUM_JOBS = 2


@dataclass
class Schedule:
    """When a training aligns, splits Gaussians and estimates MLLT."""

    num_iters: int = 35
    max_iter_inc: int = 25
    realign: tuple = (10, 20, 30)
    mllt: tuple = ()
    first_beam: float = 10.0


MONO = Schedule(
    40, 30, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38),
    first_beam=6.0,
)  # fmt: skip
DELTA, LDA_MLLT = Schedule(), Schedule(mllt=(2, 4, 6, 12))


@dataclass
class Chain:
    """What all stages share: data, language, where they work."""

    data: Path
    lang: Path
    dir: Path
    boost: float
    transcripts: dict = field(default_factory=dict)

    def __post_init__(self):
        self.transcripts = {
            k: split_words(text) for k, text in read_table(self.data / "text").items()
        }
        self.silence = read_numbers(self.lang / "phones/silence.csl")
        self.optional_silence = read_numbers(self.lang / "phones/optional_silence.csl")

    def align(self, system, corpus, graphs, beam=10.0):
        """Align utterances: alignments by their keys."""
        return system.align(corpus, graphs, beam, self.optional_silence, self.boost)

    def write(self, name: str, system, tree: Path, alignments: dict, features) -> Path:
        """Write an alignment directory."""
        ali = self.dir / name
        made = self.dir / f"{name}.part"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        split, nj = split_by_speaker(self.data, NUM_JOBS)
        for n in range(nj):
            with table_writer(zipped(made / f"ali.{n + 1}.gz"), INTEGERS) as table:
                for key in read_table(split / str(n + 1) / "utt2spk"):
                    if key in alignments:
                        table.write(key, alignments[key])
        shutil.copyfile(tree, made / "tree")
        shutil.copyfile(self.lang / "phones.txt", made / "phones.txt")
        write_lines(made / "num_jobs", [str(nj)])
        features.save(made)
        system.save(made / "final.mdl")
        made.rename(ali)
        return ali

    def tree(self, name: str, ali: Path, num_leaves: int) -> Path:
        """Build a tree on an alignment directory, and convert its alignments."""
        tree = self.dir / name
        if not (tree / "num_jobs").exists():
            run_step("build_tree.py", f"--num-leaves={num_leaves}", self.data, self.lang, ali, tree)
        return tree


@program("""\
Usage:  benchmarks/gmm_chain.py [options] <data> <lang> <dir>
 e.g.: benchmarks/gmm_chain.py data/train data/lang exp/gmm""")
@argument("data", "lang", "dir")
@option("--num-mono", 1000, "Shortest utterances, for monophones")
@option("--num-gauss-mono", 1000, "Gaussians of the monophones")
@option("--num-leaves", 1000, "Leaves of the trees at most")
@option("--num-gauss", 10000, "Gaussians of the triphones")
@option("--boost-silence", 1.25, "Factor by which silence is likelier in alignment")
def main(data, lang, dir, num_mono, num_gauss_mono, num_leaves, num_gauss, boost_silence):
    chain = Chain(Path(data), Path(lang), Path(dir), boost_silence)
    chain.dir.mkdir(parents=True, exist_ok=True)
    corpora = {}
    mono, tri1, tri2 = (chain.dir / f"{name}_ali" for name in ("mono", "tri1", "tri2"))
    if not mono.exists():
        corpora["delta"] = load(chain, DELTAS)
        monophones(chain, corpora["delta"], num_mono, num_gauss_mono)
    if not tri1.exists():
        tree = chain.tree("tri1_tree", mono, num_leaves)
        corpora.setdefault("delta", None)
        corpora["delta"] = corpora["delta"] or load(chain, DELTAS)
        triphones(chain, "tri1_ali", tree, corpora["delta"], num_gauss)
    if not tri2.exists():
        corpora.clear()
        spliced = load(chain, RAW, SPLICE)
        lda = chain.dir / "lda_ali"
        matrix = discriminant(chain, spliced, tri1, lda)
        tree = chain.tree("tri2_tree", lda, num_leaves)
        triphones(chain, "tri2_ali", tree, spliced, num_gauss, matrix)
    log.info("all done in %.0f s of the processor", sum(times()[:4]))


def load(chain: Chain, features: FeaturePipeline, splice: str = ""):
    """Read the features of all utterances that have a transcript."""
    from gaussians import Corpus

    rspecifier = features.rspecifier(chain.data)
    if splice:
        rspecifier = f"{rspecifier.rstrip('|')}| splice-feats {splice} ark:- ark:- |"
    corpus = Corpus.load(rspecifier, set(chain.transcripts))
    log.info("read %d frames of %d utterances", len(corpus.frames), len(corpus.keys))
    return corpus


def monophones(chain: Chain, corpus, num_utterances: int, num_gauss: int) -> None:
    """Train monophones from a flat start (train_mono.sh), and align all (align_si.sh)."""
    import kaldifst
    from gaussians import GaussianSystem
    from mixture_sums import Sample

    from nnet.drivers.programs import output_of

    tree = chain.dir / "mono.tree"
    sets = f"--shared-phones={chain.lang}/phones/sets.int"
    output_of("init-mono", sets, chain.lang / "topo", tree, chain.dir / "mono0.mdl")
    system = GaussianSystem(tree, chain.lang / "topo")
    some = corpus.shortest(num_utterances)
    graphs = system.graphs(chain.lang, {key: chain.transcripts[key] for key in some.keys})
    system.start_flat(some.frames)
    alignments = {}
    for key, frames in some.utterances():
        found, path = kaldifst.equal_align(graphs[key], frames.stop - frames.start, 3, 10)
        if found:
            alignments[key] = kaldifst.get_linear_symbol_sequence(path)[1]
    sample = Sample(system.model, some.frames, some.joined(alignments))
    system.reestimate(sample, system.mixtures.num_gauss, min_occupancy=3.0)
    train(chain, system, some, graphs, alignments, MONO, num_gauss)
    graphs = system.graphs(chain.lang, chain.transcripts)
    chain.write("mono_ali", system, tree, chain.align(system, corpus, graphs), DELTAS)


def triphones(chain: Chain, name: str, tree: Path, corpus, num_gauss: int, matrix=None) -> None:
    """Train triphones (train_deltas.sh, or with a matrix train_lda_mllt.sh), and align all."""
    from gaussians import GaussianSystem
    from mixture_sums import Sample

    system = GaussianSystem(tree / "tree", chain.lang / "topo")
    alignments = read_alignments(tree)
    features, schedule = DELTAS, DELTA
    spliced = corpus
    if matrix is not None:
        corpus, schedule = spliced.transformed(matrix), LDA_MLLT
    counts = system.start_from(Sample(system.model, corpus.frames, corpus.joined(alignments)))
    if matrix is None:
        system.split(counts, system.mixtures.num_pdfs)
    graphs = system.graphs(chain.lang, chain.transcripts)
    matrix = train(chain, system, corpus, graphs, alignments, schedule, num_gauss, spliced, matrix)
    if matrix is not None:
        corpus = spliced.transformed(matrix)
        file = chain.dir / "tri2.mat"
        write_object(str(file), lambda writer: writer.matrix(matrix.astype(np.float32)))
        features = FeaturePipeline("lda", splice_opts=SPLICE, lda_matrix=file)
    chain.write(name, system, tree / "tree", chain.align(system, corpus, graphs), features)


def train(
    chain: Chain, system, corpus, graphs, alignments, schedule: Schedule, num_gauss: int,
    spliced=None, matrix=None,
):  # fmt: skip
    """Iterate: align, estimate MLLT, re-estimate and split; returns the matrix at the end."""
    from mixture_sums import Sample, estimate_mllt

    now = system.mixtures.num_gauss
    increment = (num_gauss - now) // schedule.max_iter_inc
    sample = None
    for x in range(1, schedule.num_iters):
        if x in schedule.realign:
            beam = schedule.first_beam if x == 1 else 10.0
            alignments, sample = chain.align(system, corpus, graphs, beam), None
        if x in schedule.mllt:
            ids = corpus.joined(alignments)
            ids[np.isin(system.model.phone_of[ids], chain.silence)] = 0
            mllt = estimate_mllt(system.mixtures.get_pdf, Sample(system.model, corpus.frames, ids))
            system.transform_means(mllt)
            matrix, sample = mllt @ matrix, None
            corpus = spliced.transformed(matrix)
        if sample is None:
            sample = Sample(system.model, corpus.frames, corpus.joined(alignments))
        likelihood = system.reestimate(sample, now)
        log.info(
            "pass %d: %.4f per frame, %d states, %d Gaussians, %.0f s of the processor",
            *(x, likelihood, system.mixtures.num_pdfs, system.mixtures.num_gauss, sum(times()[:4])),
        )
        if x <= schedule.max_iter_inc:
            now += increment
    return matrix


def discriminant(chain: Chain, spliced, ali: Path, lda: Path) -> np.ndarray:
    """Estimate LDA of the states that are not silence; `lda` is `ali` with the matrix beside."""
    from nnet.hmm.transition_model import TransitionModel

    model = TransitionModel.load(str(ali / "final.mdl"))
    ids = spliced.joined(read_alignments(ali))
    ids[np.isin(model.phone_of[ids], chain.silence)] = 0
    stats = LdaStatistics(model.num_pdfs, spliced.frames.shape[1])
    for rows in np.array_split(np.flatnonzero(ids), 20):
        stats.accumulate(spliced.frames[rows], model.pdf_of[ids[rows]], np.ones(len(rows)))
    matrix = estimate_lda(stats, 40).matrix
    shutil.rmtree(lda, ignore_errors=True)
    shutil.copytree(ali, lda)
    (lda / "delta_order").unlink()
    file = chain.dir / "0.mat"
    write_object(str(file), lambda writer: writer.matrix(matrix))
    replace(RAW, feat_type="lda", splice_opts=SPLICE, lda_matrix=file).save(lda)
    return matrix


def read_alignments(ali: Path) -> dict:
    """Read the alignments of a directory, by utterance."""
    with sequential_table(unzipped(*alignments_in(ali)), INTEGERS) as table:
        return dict(table)


if __name__ == "__main__":
    main()
