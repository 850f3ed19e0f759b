#!/usr/bin/env python3
"""Make the denominator lattices of sequence training: decode the training data with a weak grammar.

The grammar has each word of <data>/text as often as it is there, whatever was before (a unigram).
Writes lat.*.gz and num_jobs, and the graph into dengraph (Kaldi's steps/nnet2/make_denlats.sh).
"""

import shutil
from collections import Counter
from pathlib import Path

from nnet.drivers.ali_dir import check_same_phones
from nnet.drivers.data_dir import read_rows
from nnet.drivers.driver import argument, driver, gpu_option, job_options, log, option
from nnet.drivers.feature_pipeline import FeaturePipeline, feature_options, given_features
from nnet.drivers.losses import Tally
from nnet.drivers.programs import output_of, read_integer, require_files, run
from nnet.drivers.splitting import split_by_speaker
from nnet.drivers.transcripts import check_text
from nnet.io.log_lines import DECODED
from nnet.io.text import split_words, text_lines, write_lines
from nnet.launch.commands import JOB, zipped


@driver(
    "Usage:  steps/make_denlats.py [options] <data> <lang> <src-dir> <denlat-dir>\n"
    " e.g.:  steps/make_denlats.py --nj 4 data/train data/lang exp/nnet4 exp/nnet4_denlats",
    writes="denlat_dir",
)
@argument("data", "lang", "src_dir", "denlat_dir", type=Path)
@job_options
@option("--beam", 13.0, "Decoding beam", above=0)
@option(
    "--lattice-beam", 7.0, "Lattices have paths that are not worse than the best by more", above=0
)
@option("--acwt", 0.1, "Scale of acoustic likelihoods", above=0)
@option("--max-active", 5000, "States active at most", least=1)
@gpu_option
@feature_options("feat_type", "transform_dir", "online_ivector_dir")
def main(data, lang, src_dir, denlat_dir, nj, cmd, **o):
    model, graph = src_dir / "final.mdl", denlat_dir / "dengraph"
    require_files(
        *(data / name for name in ("feats.scp", "cmvn.scp", "text", "utt2spk")), model,
        *(lang / name for name in ("L_disambig.fst", "phones.txt", "words.txt", "oov.int")),
    )  # fmt: skip
    check_same_phones(lang / "phones.txt", src_dir / "phones.txt")
    check_text(data, lang)
    features = FeaturePipeline.of(src_dir, **given_features(o))
    log.info(f"feature type is {features.feat_type}")
    den_lang = denlat_dir / "lang"
    shutil.copytree(lang, den_lang, dirs_exist_ok=True)
    save_unigram_grammar(data, den_lang)
    (graph / "HCLG.fst").unlink(missing_ok=True)  # of another model or text, perhaps
    output_of("mkgraph.py", den_lang, src_dir, graph)

    split, nj = split_by_speaker(data, nj)
    (denlat_dir / "log").mkdir(exist_ok=True)
    (denlat_dir / "num_jobs").unlink(missing_ok=True)  # until all jobs have ended well
    for old in denlat_dir.glob("lat.*.gz"):
        old.unlink()
    log_file = denlat_dir / f"log/decode_den.{JOB}.log"
    run(
        cmd, log_file, "nnet-latgen-faster", f"--beam={o['beam']:g}",
        f"--lattice-beam={o['lattice_beam']:g}", f"--acoustic-scale={o['acwt']:g}",
        f"--max-active={o['max_active']}", f"--use-gpu={o['use_gpu']}", model,
        graph / "HCLG.fst", features.rspecifier(split / JOB, num_jobs=nj),
        zipped(denlat_dir / f"lat.{JOB}.gz"), jobs=nj,
        **({} if o["use_gpu"] == "no" else {"gpu": 1}),
    )  # fmt: skip
    write_lines(denlat_dir / "num_jobs", [str(nj)])
    tally = Tally.of_jobs(log_file, nj, DECODED.pattern)
    done, total = tally.counts["done"], len(read_rows(data / "utt2spk"))
    tally.report("made lattices of", done, total, "utterances")


def save_unigram_grammar(data: Path, lang: Path) -> None:
    """Write G.fst, of words as often as they are in the transcripts; unknown words are one."""
    from nnet.decoding.lexicon import unigram_grammar
    from nnet.decoding.symbols import SymbolTable

    words, unknown = SymbolTable.load(f"{lang}/words.txt"), read_integer(lang / "oov.int")
    transcripts = [split_words(line)[1:] for line in text_lines(data / "text")]
    counts = Counter(
        words.number_of.get(word, unknown) for transcript in transcripts for word in transcript
    )
    unigram_grammar(counts, len(transcripts)).save(f"{lang}/G.fst")


if __name__ == "__main__":
    main()
