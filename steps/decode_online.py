#!/usr/bin/env python3
"""Decode the recordings of a data directory as if they came in chunk by chunk, and score the result
(Kaldi's steps/online/nnet2/decode.sh).

What decodes is in the directory above <decode-dir>, made by steps/prepare_online_decoding.py.
<decode-dir> gets lattices, lat.JOB.gz, and the words of all scales and penalties from them,
scoring/LMWT_PENALTY.JOB.tra.
"""

from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import check_transcripts
from nnet.drivers.data_dir import read_rows
from nnet.drivers.decode_dir import make_room
from nnet.drivers.driver import argument, driver, job_options, log, option
from nnet.drivers.programs import output_of, require_files, run
from nnet.drivers.splitting import split_anywhere, split_by_speaker
from nnet.io.text import text_lines, write_lines
from nnet.launch.commands import JOB, unzipped, zipped


@driver(
    "Usage:  steps/decode_online.py [options] <graph-dir> <data> <decode-dir>\n"
    " e.g.:  steps/decode_online.py --nj 4 exp/tri2/graph data/test exp/nnet_online/decode_test",
    writes="decode_dir",
)
@argument("graph_dir", "data", "decode_dir", type=Path)
@job_options
@option("--lmwt", "7:17", "Values of LMWT, such as 7:17 or 7:17,20:60:5")
@option("--word-ins-penalty", "0.0,0.5,1.0", "Values of PENALTY, such as 0:20:2")
@option("--acwt", 0.1, "Acoustic scale of the search", above=0)
@option("--beam", 15.0, "Decoding beam", above=0)
@option("--lattice-beam", 6.0, "Beam of the lattices", above=0)
@option("--max-active", 7000, "States active at most", least=2)
@option("--per-utt", False, "Let no utterance adapt to those of its speaker before it")
@option("--online", True, "false: estimate i-vectors of all frames of an utterance")
@option("--silence-weight", 1.0, "Weight of silence in i-vectors, such as 0.001", least=0)
@option("--max-state-duration", 40, "Frames in one state from which on they count as silence")
@option("--do-endpointing", False, "Stop where an utterance seems to have ended")
@option("--skip-scoring", False, "Do not score")
def main(graph_dir, data, decode_dir, nj, cmd, lmwt, word_ins_penalty, per_utt, **o):
    directory, source = decode_dir, decode_dir.resolve().parent
    config = source / "conf/online_nnet2_decoding.conf"
    words, model = graph_dir / "words.txt", source / "final.mdl"
    require_files(config, model, graph_dir / "HCLG.fst", words)
    require_files(*(data / name for name in ("wav.scp", "spk2utt", "utt2spk")))
    weighting = silence_weighting(graph_dir, o["silence_weight"], o["max_state_duration"])
    if not o["skip_scoring"]:
        require_files(data / "text")
        check_transcripts(data / "text", SymbolTable.load(str(words)))
    split, nj = split_anywhere(data, nj) if per_utt else split_by_speaker(data, nj)
    make_room(directory, nj)
    part = split / JOB
    recordings = f"scp:{part}/wav.scp"
    if (data / "segments").exists():
        recordings = f"ark:extract-segments {recordings} {part}/segments ark:- |"
    speakers = f"ark:{part}/spk2utt"
    if per_utt:
        for n in range(1, nj + 1):
            keys = [key for key, _ in read_rows(split / str(n) / "utt2spk")]
            write_lines(directory / f"utt2utt.{n}", [f"{key} {key}" for key in keys])
        speakers = f"ark:{directory}/utt2utt.{JOB}"
    run(
        cmd, directory / f"log/decode.{JOB}.log", "online2-wav-nnet2-latgen-faster",
        f"--config={config}", f"--online={str(o['online']).lower()}",
        f"--do-endpointing={str(o['do_endpointing']).lower()}", f"--max-active={o['max_active']}",
        f"--beam={o['beam']:g}", f"--lattice-beam={o['lattice_beam']:g}",
        f"--acoustic-scale={o['acwt']:g}", f"--word-symbol-table={words}", *weighting, model,
        graph_dir / "HCLG.fst", speakers, recordings, zipped(directory / f"lat.{JOB}.gz"), jobs=nj,
    )  # fmt: skip
    run(
        cmd, directory / f"log/best_path.{JOB}.log", "lattice-best-path",
        f"--inv-acoustic-scales={lmwt}", f"--word-ins-penalties={word_ins_penalty}",
        unzipped(directory / f"lat.{JOB}.gz"),
        f"ark,t:{directory}/scoring/LMWT_PENALTY.{JOB}.tra", jobs=nj,
    )  # fmt: skip
    if not o["skip_scoring"]:
        output_of("score.py", data, graph_dir, directory)
        log.info(next(text_lines(directory / "best_wer")))


def silence_weighting(graph_dir: Path, weight: float, max_state_duration: int) -> list[str]:
    """Make the options by which silence weighs less in i-vectors; none for a weight of 1."""
    if weight == 1.0:
        return []
    phones = graph_dir / "phones/silence.csl"
    require_files(phones)
    prefix = "--ivector-silence-weighting"
    return [
        f"{prefix}.silence-phones={phones.read_text().strip()}",
        f"{prefix}.silence-weight={weight:g}",
        f"{prefix}.max-state-duration={max_state_duration}",
    ]


if __name__ == "__main__":
    main()
