#!/usr/bin/env python3
"""Make the decoding graph HCLG.fst from a lang directory with G.fst, a tree and a model.

Does nothing when the graph is newer than its sources.  The graph directory has the files that
Kaldi's utils/mkgraph.sh puts there.
"""

import shutil
from pathlib import Path

from nnet.drivers.driver import argument, driver, log, option, require_files
from nnet.errors import NgtrainError
from nnet.io.text import write_lines

COPIED = ["words.txt", "phones.txt", "phones/silence.csl", "phones/disambig.*"]
COPIED += ["phones/word_boundary.*", "phones/align_lexicon.*", "phones/optional_silence.*"]


@driver(
    "Usage:  utils/mkgraph.py [options] <lang-dir> <model-dir> <graph-dir>\n"
    " e.g.: utils/mkgraph.py data/lang_test exp/tri1 exp/tri1/graph",
    writes="graph_dir",
)
@argument("lang_dir", "model_dir", "graph_dir")
@option("--transition-scale", 1.0, "Scale of transition probabilities", least=0)
@option("--self-loop-scale", 0.1, "Scale of self-loop probabilities", least=0)
@option("--remove-oov", False, "Remove the word for unknown words (oov.int) from the grammar")
def main(lang_dir, model_dir, graph_dir, transition_scale, self_loop_scale, remove_oov):
    from nnet.decoding.fst import ArrayFst
    from nnet.decoding.fst_operations import remove_arcs
    from nnet.decoding.graph import decoding_graph
    from nnet.decoding.symbols import SymbolTable
    from nnet.hmm.transition_model import TransitionModel
    from nnet.hmm.tree import ContextDependency
    from nnet.io.integer_lists import read_integers

    lang, graph_dir = Path(lang_dir), Path(graph_dir)
    tree, model = Path(model_dir, "tree"), Path(model_dir, "final.mdl")
    sources = [lang / "L_disambig.fst", lang / "G.fst", lang / "phones.txt", lang / "words.txt"]
    sources += [lang / "phones/silence.csl", lang / "phones/disambig.int", model, tree]
    require_files(*sources)
    output = graph_dir / "HCLG.fst"
    if output.exists() and all(output.stat().st_mtime >= s.stat().st_mtime for s in sources):
        log.info(f"{output} is up to date.")
        return
    grammar = ArrayFst.load(str(lang / "G.fst"))
    words = SymbolTable.load(str(lang / "words.txt"))
    if unknown := set(grammar.arcs["olabel"].tolist()) - words.symbol_of.keys():
        raise NgtrainError(
            f"{lang}/G.fst has {len(unknown)} words that words.txt has not, such as number "
            f"{min(unknown)}: it was made for other words"
        )
    if remove_oov:
        grammar = remove_arcs(grammar, read_integers(str(lang / "oov.int")), "olabel")
    transition_model = TransitionModel.load(str(model))
    graph = decoding_graph(
        ArrayFst.load(str(lang / "L_disambig.fst")),
        grammar,
        ContextDependency.load(str(tree)),
        transition_model,
        read_integers(str(lang / "phones/disambig.int")),
        transition_scale,
        self_loop_scale,
    )
    (graph_dir / "phones").mkdir(parents=True, exist_ok=True)
    for pattern in COPIED:
        for file in lang.glob(pattern):
            shutil.copyfile(file, graph_dir / file.relative_to(lang))
    write_lines(graph_dir / "num_pdfs", [str(transition_model.num_pdfs)])
    graph.save(str(output), const=True)
    log.info(f"{output} has {graph.num_states} states and {len(graph.arcs)} arcs")


if __name__ == "__main__":
    main()
