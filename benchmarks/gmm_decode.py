#!/usr/bin/env python3
"""Decode with a system of benchmarks/gmm_chain.py, as steps/decode.py does with a network.

Graph, search and scoring are those that networks are decoded with; only the log-likelihoods of the
states are of Gaussians."""

from pathlib import Path

from nnet.cli import argument, log, option, program
from nnet.cli.progress import progress
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.programs import output_of


@program("""\
Usage:  benchmarks/gmm_decode.py [options] <ali-dir> <graph-dir> <data> <decode-dir>
 e.g.: benchmarks/gmm_decode.py exp/gmm/tri2_ali exp/gmm/tri2_graph data/dev exp/gmm/tri2_dev""")
@argument("ali_dir", "graph_dir", "data", "decode_dir")
@option("--lmwt", "8:17", "Values of LMWT, such as 7:17 or 7:17,20:60:5")
@option("--word-ins-penalty", "0.0,0.5,1.0", "Values of PENALTY")
@option("--beam", 15.0, "Decoding beam", above=0)
@option("--max-active", 7000, "States active at most", least=1)
@option("--min-active", 200, "States active at least", least=0)
def main(ali_dir, graph_dir, data, decode_dir, lmwt, word_ins_penalty, **search):
    from contextlib import ExitStack

    from nnet.decoding.decoder import MultiDecoder, SearchOptions, decoding_settings
    from nnet.decoding.fst import ArrayFst
    from nnet.io.tables import FEATURES, INTEGERS, sequential_table, table_writer
    from nnet.ivectors.gmm_model import GmmModel

    settings = decoding_settings(0.1, lmwt, word_ins_penalty)
    model, graph = GmmModel.load(f"{ali_dir}/final.mdl"), ArrayFst.load(f"{graph_dir}/HCLG.fst")
    decoder = MultiDecoder(model, graph, settings, SearchOptions(**search), allow_partial=True)
    scoring = Path(decode_dir, "scoring")
    scoring.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        rspecifier = FeaturePipeline.of(ali_dir).rspecifier(data)
        features = files.enter_context(sequential_table(rspecifier, FEATURES))
        words = {
            setting: files.enter_context(
                table_writer(setting.fill_in(f"ark,t:{scoring}/LMWT_PENALTY.1.tra"), INTEGERS)
            )
            for setting in settings
        }
        for key, matrix in progress(features, "utterances"):
            for setting, path in decoder.decode(key, matrix).items():
                words[setting].write(key, path.words)
    decoder.report()
    output_of("score.py", data, graph_dir, decode_dir)
    log.info(Path(decode_dir, "best_wer").read_text().splitlines()[0])


if __name__ == "__main__":
    main()
