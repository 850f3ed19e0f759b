#!/usr/bin/env python3
"""Make a first alignment from nothing but transcripts: a flat start, without Gaussians.

Every utterance is divided equally among the HMM states of its transcript.  Silence is at both
ends, and between words as often as the lexicon says (--sil-prob of utils/prepare_lang.py); its
states last --silence-duration times as long as those of other phones.  For recordings that are cut
to the words say 0: a frame in each state, and at the ends, too, only as often as the lexicon says.
Train a small network on the result, realign with steps/align.py, and repeat: steps/train_flat.py
does.  How features are made is for these later steps.

With --find-silence true, for recordings with pauses, silence is where the first coefficient of the
features is low, be it the energy or the zeroth cepstral coefficient, and what is loud between is
divided equally.

<ali-dir> becomes an alignment directory like those of Kaldi: a monophone `tree`, `final.mdl` with
its transition model (and nothing behind it), `ali.*.gz`, `num_jobs`, `phones.txt`, `cmvn_opts`.
"""

from pathlib import Path

from nnet.drivers.ali_dir import make_ali_dir
from nnet.drivers.driver import argument, driver, job_options, log, option
from nnet.drivers.feature_pipeline import FeaturePipeline, feature_options
from nnet.drivers.programs import require_files, run
from nnet.drivers.transcripts import check_text, training_graphs
from nnet.launch.commands import JOB, options_of, read_numbers


@driver(
    "Usage:  steps/flat_start.py [options] <data> <lang> <ali-dir>\n"
    " e.g.:  steps/flat_start.py --nj 4 data/train data/lang exp/mono0_ali",
    writes="ali_dir",
)
@argument("data", "lang", "ali_dir", type=Path)
@job_options
@option(
    "--silence-duration", 0.0,
    "How long states of silence last, relative to others (0: a single frame)", least=0,
)  # fmt: skip
@option("--find-silence", False, "Put silence where it is quiet")
@feature_options("cmvn_opts", "delta_order")
def main(data, lang, ali_dir, nj, cmd, silence_duration, find_silence, cmvn_opts, delta_order):
    ali = ali_dir
    require_files(
        *(data / name for name in ("feats.scp", "text", "utt2spk")),
        *(lang / name for name in ("L.fst", "topo", "phones.txt", "words.txt", "oov.int")),
        *(lang / "phones" / name for name in ("sets.int", "disambig.int", "silence.csl")),
    )
    check_text(data, lang)
    silence = ":".join(map(str, read_numbers(lang / "phones/silence.csl")))
    cmvn_opts = options_of("apply-cmvn", cmvn_opts, "--cmvn-opts")

    def command(split: Path, nj: int, features: FeaturePipeline) -> list:
        init = ["init-mono", f"--shared-phones={lang}/phones/sets.int", f"{lang}/topo"]
        run(cmd, f"{ali}/log/init.log", *init, f"{ali}/tree", f"{ali}/final.mdl")
        return [
            *[*training_graphs(ali, lang, split / JOB), "|", "align-equal-compiled"],
            *[f"--model={ali}/final.mdl", f"--silence-phones={silence}"],
            *[f"--silence-duration={silence_duration:g}", f"--find-silence={find_silence}"],
            *["ark:-", f"scp:{split}/{JOB}/feats.scp"],
        ]

    make_ali_dir(
        ali, data, nj, cmd, copies={"phones.txt": lang / "phones.txt"},
        features=FeaturePipeline("raw", cmvn_opts, delta_order), log_name="align_equal",
        command=command,
    )  # fmt: skip
    log.info(f"equal alignments are in {ali}")


if __name__ == "__main__":
    main()
