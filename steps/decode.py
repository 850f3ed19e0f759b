#!/usr/bin/env python3
"""Decode a data directory with a network, and score the result (Kaldi's steps/nnet2/decode.sh).

The model is <iter>.mdl in the directory above <decode-dir>.  One search, with the acoustic scale
--acwt, makes the lattices <decode-dir>/lat.JOB.gz, from which the words for each scale 1/LMWT and
word insertion penalty come: exact for scales near --acwt, while far from it, as in tasks of a few
words, the best path may be in no lattice.  With --lattices false there are none, and every
utterance is searched with each scale and penalty.  Either way
<decode-dir>/scoring/LMWT_PENALTY.JOB.tra hold the words as numbers.
"""

from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import check_transcripts
from nnet.drivers.data_dir import read_rows
from nnet.drivers.decode_dir import make_room
from nnet.drivers.driver import argument, driver, gpu_option, job_options, log, option
from nnet.drivers.feature_pipeline import FeaturePipeline, feature_options, given_features
from nnet.drivers.losses import Tally
from nnet.drivers.programs import output_of, read_integer, require_files, run
from nnet.drivers.splitting import split_anywhere
from nnet.io.log_lines import DECODED
from nnet.io.text import text_lines
from nnet.launch.commands import JOB, unzipped, zipped


@driver(
    "Usage:  steps/decode.py [options] <graph-dir> <data> <decode-dir>\n"
    " e.g.:  steps/decode.py --nj 4 exp/tri2/graph data/test exp/nnet4/decode_test",
    writes="decode_dir",
)
@argument("graph_dir", "data", "decode_dir", type=Path)
@job_options
@option("--lmwt", "7:17", "Values of LMWT, such as 7:17 or 7:17,20:60:5")
@option("--word-ins-penalty", "0.0,0.5,1.0", "Values of PENALTY, such as 0:20:2")
@option("--lattices", True, "Write lattices, and take the words of all settings from them")
@option("--acwt", 0.1, "Acoustic scale of the search for lattices", above=0)
@option("--beam", 15.0, "Decoding beam", above=0)
@option("--lattice-beam", 8.0, "Beam of the lattices", above=0)
@option("--max-active", 7000, "States active at most", least=1)
@option("--min-active", 200, "States active at least", least=0)
@option("--iter", "final", "Decode with this model")
@gpu_option
@feature_options("feat_type", "transform_dir", "online_ivector_dir")
@option("--skip-scoring", False, "Do not score")
@option("--scoring-opts", "", "Options of steps/score.py")
@option("--stage", 1, "2: only find best paths in lattices, and score")
def main(graph_dir, data, decode_dir, nj, cmd, lmwt, word_ins_penalty, lattices, stage, **o):
    graph, directory, source = graph_dir, decode_dir, decode_dir.resolve().parent
    model = source / f"{o['iter']}.mdl"
    files = [data / name for name in ("feats.scp", "cmvn.scp", "utt2spk")]
    require_files(graph / "HCLG.fst", graph / "words.txt", model, *files)
    if not o["skip_scoring"]:
        require_files(data / "text")
        check_transcripts(data / "text", SymbolTable.load(f"{graph}/words.txt"))
    features = FeaturePipeline.of(source, **given_features(o))
    log.info(f"feature type is {features.feat_type}")
    settings = (f"--inv-acoustic-scales={lmwt}", f"--word-ins-penalties={word_ins_penalty}")
    words = f"ark,t:{directory}/scoring/LMWT_PENALTY.{JOB}.tra"
    if stage <= 1:
        split, nj = split_anywhere(data, nj)
        make_room(directory, nj)
        search = (
            *(f"--beam={o['beam']:g}", f"--max-active={o['max_active']}"),
            *(f"--min-active={o['min_active']}", "--allow-partial=true"),
            f"--use-gpu={o['use_gpu']}",
        )
        if lattices:
            widths = f"--lattice-beam={o['lattice_beam']:g}", f"--acoustic-scale={o['acwt']:g}"
            search = ("nnet-latgen-faster", *search, *widths)
        else:
            search = ("nnet-decode-faster", *search, *settings)
        log_file = f"{directory}/log/decode.{JOB}.log"
        run(
            *(cmd, log_file, *search, model, f"{graph}/HCLG.fst"),
            features.rspecifier(split / JOB, num_jobs=nj),
            zipped(directory / f"lat.{JOB}.gz") if lattices else words,
            jobs=nj,
            **({} if o["use_gpu"] == "no" else {"gpu": 1}),
        )
        tally = Tally.of_jobs(log_file, nj, DECODED.pattern)
        done, total = tally.counts["done"], len(read_rows(data / "utt2spk"))
        tally.report("decoded", done, total, "utterances")
    if lattices:
        run(
            *(cmd, f"{directory}/log/best_path.{JOB}.log", "lattice-best-path", *settings),
            *(unzipped(directory / f"lat.{JOB}.gz"), words),
            jobs=read_integer(directory / "num_jobs"),
        )
    if not o["skip_scoring"]:
        output_of("score.py", *o["scoring_opts"].split(), data, graph, directory)
        log.info(next(text_lines(directory / "best_wer")))


if __name__ == "__main__":
    main()
