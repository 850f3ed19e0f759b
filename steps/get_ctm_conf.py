#!/usr/bin/env python3
"""Write the words of a decoding directory with their times and confidences, as a ctm file.

The words are those of the least expected number of errors in each lattice (minimum Bayes risk), and
the confidence of a word is its posterior probability there.  Lattices are those of steps/decode.py.
The words are in <decode-dir>/score_LMWT_PENALTY/NAME.ctm with NAME that of <data>: recording,
channel, begin and length in seconds, word, confidence.  Where <data> has segments, times are those
of recordings, named by reco2file_and_channel if it is there; else, and with --use-segments false,
of utterances.

This is Kaldi's steps/get_ctm_conf.sh for one setting, with the penalty of get_ctm_conf_fast.sh.
"""

from pathlib import Path

from nnet.drivers.data_dir import read_frame_shift, read_rows
from nnet.drivers.decode_dir import ScoredSetting, chosen_setting
from nnet.drivers.driver import argument, cmd_option, driver, log, option
from nnet.drivers.losses import Tally
from nnet.drivers.programs import of_jobs, read_integer, require_files, run
from nnet.errors import NgtrainError
from nnet.io.text import text_lines, write_lines
from nnet.launch.commands import JOB, unzipped

DONE = r"\(lattice-to-ctm-conf\S*\) Done (?P<done>\d+) lattices"
"""Other programs of the pipeline count lattices in the same log."""


@driver(
    "Usage:  steps/get_ctm_conf.py [options] <data> <lang-dir|graph-dir> <decode-dir>\n"
    " e.g.:  steps/get_ctm_conf.py --tuned-in exp/nnet4/decode_dev data/test exp/tri2/graph "
    "exp/nnet4/decode_test",
    writes="decode_dir",
)
@argument("data", "lang", "decode_dir", type=Path)
@cmd_option
@option("--lmwt", 10.0, "Inverse of the acoustic scale", above=0)
@option("--word-ins-penalty", 0.0, "Cost of each word")
@option("--tuned-in", "", "Take both from the best result in this decoding directory")
@option("--beam", 5.0, "Prune lattices with this beam before", above=0)
@option("--use-segments", True, "Times are those of recordings where <data> has segments")
@option("--print-silence", False, "Write <eps> where no word is the most probable")
@option("--iter", "final", "Lattices were made by <decode-dir>/../<iter>.mdl")
def main(data, lang, decode_dir, cmd, use_segments, **o):
    directory, model = decode_dir, decode_dir.resolve().parent / f"{o['iter']}.mdl"
    require_files(data / "utt2spk", lang / "words.txt", model)
    setting = ScoredSetting(f"{o['lmwt']:g}", str(o["word_ins_penalty"]))
    if o["tuned_in"]:
        setting = chosen_setting(Path(o["tuned_in"]))
    nj = read_integer(directory / "num_jobs")
    require_files(*of_jobs(directory / f"lat.{JOB}.gz", nj))
    results = directory / f"score_{setting.lmwt}_{setting.penalty}"
    results.mkdir(exist_ok=True)
    ctm, part = results / f"{data.resolve().name}.ctm", results / f"ctm.{JOB}"
    log_file = results / f"log/get_ctm.{JOB}.log"
    scale = f"--inv-acoustic-scale={setting.lmwt}"
    silence = f"--print-silence={str(o['print_silence']).lower()}"
    run(
        cmd, log_file, "lattice-add-penalty", f"--word-ins-penalty={setting.penalty}",
        unzipped(directory / f"lat.{JOB}.gz"), "ark:-",
        "|", "lattice-prune", scale, f"--beam={o['beam']:g}", "ark:-", "ark:-",
        "|", *words_of(lang), model, "ark:-", "ark:-",
        "|", "lattice-to-ctm-conf", scale, f"--frame-shift={read_frame_shift(data):g}", silence,
        "ark:-", "-",
        "|", "int2sym.py", "-f", "5", lang / "words.txt",
        *(places_in_recordings(data) if use_segments else []), ">", part, jobs=nj,
    )  # fmt: skip
    parts = of_jobs(part, nj)
    write_lines(ctm, [line for file in parts for line in text_lines(file)])
    for file in parts:
        file.unlink()
    tally = Tally.of_jobs(log_file, nj, DONE)
    done, total = tally.counts["done"], len(read_rows(data / "utt2spk"))
    tally.report(f"{ctm} has", done, total, "utterances")


def words_of(lang: Path) -> list:
    """The program that finds where in a lattice words are, as far as its model.

    Raises:
        NgtrainError: nothing says what the phones of words are.
    """
    boundaries, lexicon = (
        lang / "phones" / name for name in ("word_boundary.int", "align_lexicon.int")
    )
    if boundaries.is_file():
        return ["lattice-align-words", boundaries]
    if lexicon.is_file():
        return ["lattice-align-words-lexicon", lexicon]
    raise NgtrainError(f"no such file: neither {boundaries} nor {lexicon}, to find words by")


def places_in_recordings(data: Path) -> list:
    """The pipe behind which times are those of recordings; nothing without segments."""
    segments, files = data / "segments", data / "reco2file_and_channel"
    if not segments.is_file():
        return []
    if not files.is_file():
        log.info(f"there is no {files}: recordings have their own names, and channel 1")
    return ["|", "convert_ctm.py", segments, *([files] if files.is_file() else [])]


if __name__ == "__main__":
    main()
