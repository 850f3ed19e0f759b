#!/usr/bin/env python3
"""Build a decision tree of context-dependent states from features and an alignment.

Statistics of the aligned features, questions made of them and those of the language directory, a
tree with so many leaves at most, its transition model, and the alignments converted to it: <dir>
becomes an alignment directory for the same features as <ali-dir>, on which networks are trained.

The tree's Gaussians see other features than the network: those of <ali-dir> with their deltas, or,
with --tree-feats lda, spliced and transformed to separate the states of the alignment best (what
Kaldi's triphone systems use); an <ali-dir> of Kaldi's that has a transform is taken as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nnet.drivers.ali_dir import check_same_phones, make_ali_dir
from nnet.drivers.driver import Choice, argument, cmd_option, driver, log, option
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.losses import Tally
from nnet.drivers.programs import of_jobs, output_of, read_integer, require_files, run
from nnet.errors import NgtrainError
from nnet.io.log_lines import CONVERTED, TREE_STATISTICS
from nnet.launch.commands import JOB, read_from, read_numbers, unzipped


@driver(
    "Usage:  steps/build_tree.py [options] <data> <lang> <ali-dir> <dir>\n"
    " e.g.:  steps/build_tree.py --num-leaves 2000 data/train data/lang exp/flat exp/tree",
    writes="tree_dir",
)
@argument("data", "lang", "ali_dir", "tree_dir", type=Path)
@cmd_option
@option("--num-leaves", 1000, "Leaves of the tree at most", least=1)
@option("--context-width", 3, "Phones in a window", least=1)
@option("--central-position", 1, "The phone that is modelled", least=0)
@option("--thresh", 300.0, "Least gain of a split", least=0)
@option("--cluster-thresh", -1.0, "See build-tree")
@option(
    "--tree-feats", "delta", type=Choice(["delta", "lda"]),
    help="What the Gaussians of the tree see of raw features: deltas, or spliced and transformed",
)  # fmt: skip
@option("--splice", 3, "Frames on each side, for lda", least=0)
@option("--lda-dim", 40, "Dimension, for lda", least=1)
def main(data, lang, ali_dir, tree_dir, cmd, num_leaves, context_width, central_position, **o):
    ali, tree = ali_dir, tree_dir
    require_files(
        *(data / name for name in ("feats.scp", "cmvn.scp", "utt2spk")),
        *(ali / name for name in ("tree", "final.mdl", "num_jobs")),
        *(lang / name for name in ("topo", "phones.txt", "phones/sets.int", "phones/roots.int")),
    )
    check_same_phones(lang / "phones.txt", ali / "phones.txt")
    if ali.resolve() == tree.resolve():
        raise NgtrainError(f"{tree}: the tree must not be in the directory of the alignments")
    window = [f"--context-width={context_width}", f"--central-position={central_position}"]
    features, num_jobs = FeaturePipeline.of(ali), read_integer(ali / "num_jobs")
    (tree / "log").mkdir(parents=True, exist_ok=True)
    output_of("split_data.py", data, num_jobs)
    part = data / f"split{num_jobs}/{JOB}"
    seen = seen_by_tree(features, part, ali, tree, num_jobs, cmd, o)
    accumulate(seen.rspecifier(part, num_jobs=num_jobs), lang, ali, tree, window, num_jobs, cmd)
    questions(lang, tree, window, cmd)
    run(
        cmd, tree / "log/build_tree.log",
        *["build-tree", *window, f"--max-leaves={num_leaves}", f"--thresh={o['thresh']:g}"],
        *[f"--cluster-thresh={o['cluster_thresh']:g}", tree / "treeacc"],
        *[lang / "phones/roots.int", tree / "questions.qst", lang / "topo", tree / "tree"],
    )  # fmt: skip
    num_pdfs = write_transition_model(lang, tree)
    convert(data, lang, ali, tree, features, num_jobs, cmd)
    log.info(f"a tree of {num_pdfs} pdf-ids and alignments to it are in {tree}")


def seen_by_tree(
    features: FeaturePipeline, part: Path, ali: Path, tree: Path, num_jobs: int, cmd: str, o: dict
) -> FeaturePipeline:
    """Choose what the Gaussians see; with --tree-feats lda, the transform is estimated for it."""
    if features.feat_type == "lda":
        return features
    if o["tree_feats"] == "delta":
        return replace(features, delta_order=features.delta_order or "2")
    splice_opts = f"--left-context={o['splice']} --right-context={o['splice']}"
    matrix = tree / "tree_lda.mat"
    splice = ["splice-feats", *splice_opts.split(), "ark:-", "ark:-"]
    spliced = read_from(*features.commands(part, num_jobs=num_jobs), splice, options="s,cs")
    run(
        cmd, tree / f"log/lda_acc.{JOB}.log",
        *["ali-to-post", unzipped(ali / f"ali.{JOB}.gz"), "ark:-", "|", "acc-lda"],
        *["--rand-prune=4", ali / "final.mdl", spliced, "ark,s,cs:-", tree / f"lda.{JOB}.acc"],
        jobs=num_jobs,
    )  # fmt: skip
    parts = of_jobs(tree / f"lda.{JOB}.acc", num_jobs)
    run(
        cmd, tree / "log/lda_est.log",
        *["sum-lda-accs", "-", *parts, "|", "est-lda", f"--dim={o['lda_dim']}", matrix, "-"],
    )  # fmt: skip
    for acc in parts:
        acc.unlink()
    return replace(
        features, feat_type="lda", delta_order="", splice_opts=splice_opts, lda_matrix=matrix
    )


def accumulate(
    features: str, lang: Path, ali: Path, tree: Path, window: list, num_jobs: int, cmd: str
) -> None:
    """Write the statistics of all jobs, treeacc."""
    silence = ":".join(map(str, read_numbers(lang / "phones/context_indep.csl")))
    log_file, part = tree / f"log/acc_tree.{JOB}.log", tree / f"{JOB}.treeacc"
    run(
        cmd, log_file,
        *["acc-tree-stats", *window, f"--ci-phones={silence}", ali / "final.mdl"],
        *[features, unzipped(ali / f"ali.{JOB}.gz"), part],
        jobs=num_jobs,
    )  # fmt: skip
    tally = Tally.of_jobs(log_file, num_jobs, TREE_STATISTICS.pattern)
    lost = tally.counts["no_alignment"] + tally.counts["failed"]
    done = tally.counts["done"]
    tally.report("took statistics of", done, done + lost, "utterances")
    parts = of_jobs(part, num_jobs)
    run(cmd, tree / "log/sum_tree_acc.log", "sum-tree-stats", tree / "treeacc", *parts)
    for file in parts:
        file.unlink()


def questions(lang: Path, tree: Path, window: list, cmd: str) -> None:
    """Write the questions: sets of phones that sound alike, and those of the language directory."""
    questions, extra = tree / "questions.int", lang / "phones/extra_questions.int"
    classes = middle_classes(lang)
    run(
        cmd, tree / "log/questions.log", "cluster-phones", *window, f"--pdf-class-list={classes}",
        *[tree / "treeacc", lang / "phones/sets.int", questions],
    )  # fmt: skip
    if extra.exists():
        with open(questions, "ab") as file:
            file.write(extra.read_bytes())
    run(
        cmd, tree / "log/compile_questions.log",
        *["compile-questions", *window, lang / "topo", questions, tree / "questions.qst"],
    )  # fmt: skip


def middle_classes(lang: Path) -> str:
    """Choose the pdf-class by which phones are compared: the middle one of most phones."""
    from collections import Counter

    from nnet.hmm.topology import HmmTopology

    topology = HmmTopology.load(str(lang / "topo"))
    [(num_classes, _)] = Counter(map(topology.num_pdf_classes, topology.phones)).most_common(1)
    return str(num_classes // 2)


def write_transition_model(lang: Path, tree: Path) -> int:
    """Write the transition model of the tree, with the topology's probabilities; count pdf-ids."""
    from nnet.hmm.topology import HmmTopology
    from nnet.hmm.transition_model import TransitionModel
    from nnet.hmm.tree import ContextDependency

    context_dependency = ContextDependency.load(str(tree / "tree"))
    topology = HmmTopology.load(str(lang / "topo"))
    model = TransitionModel.from_tree(context_dependency, topology)
    model.save(str(tree / "final.mdl"))
    return model.num_pdfs


def convert(
    data: Path, lang: Path, ali: Path, tree: Path, features: FeaturePipeline, nj: int, cmd: str
) -> None:
    """Write the alignments, converted to the tree, and what else such a directory has."""
    words = ["convert-ali", ali / "final.mdl", tree / "final.mdl", tree / "tree"]
    make_ali_dir(
        tree, data, nj, cmd, copies={"phones.txt": lang / "phones.txt"}, features=features,
        log_name="convert_ali", command=lambda *_: [*words, unzipped(ali / f"ali.{JOB}.gz")],
    )  # fmt: skip
    tally = Tally.of_jobs(tree / f"log/convert_ali.{JOB}.log", nj, CONVERTED.pattern)
    done, lost = tally.counts["done"], tally.counts["failed"]
    tally.report("converted", done, done + lost, "alignments")


if __name__ == "__main__":
    main()
