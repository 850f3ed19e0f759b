#!/usr/bin/env python3
"""Recognise recordings: print their words, with times, on standard output.

Recordings are in any format that libsndfile reads (WAV, FLAC, Ogg, MP3, ...), of any length that
fits into memory, and of any sampling rate: they are resampled to that of the features.  Each
channel of a recording is recognised by itself, or only --channel.  Features are made as for the
training: <model-dir> has their configuration in conf/, where the training put it, or --mfcc-config
or --fbank-config names it; means and variances are those of the recording itself.

Lines are those of a ctm file: recording, channel (from 1 on), begin and length in seconds, word.
With --times false there is a line for each channel: recording, channel, words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnet.cli.config_files import find_config
from nnet.drivers.decode_dir import chosen_setting
from nnet.drivers.driver import argument, driver, gpu_option, log, option
from nnet.drivers.extract_features import frame_shift
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.programs import output_of, read_integer, require_files
from nnet.errors import NgtrainError
from nnet.io.text import write_lines
from nnet.launch.commands import read_numbers


@driver(
    "Usage:  steps/recognize.py [options] <model-dir> <graph-dir> <recording> [<recording> ...]\n"
    " e.g.:  steps/recognize.py exp/nnet exp/graph a.wav b.flac"
)
@argument("model_dir", "graph_dir", type=Path)
@argument("recordings", nargs=-1, required=True)
@option("--channel", None, "Only this channel; 1 is the left one", type=int, least=1)
@option("--times", True, "A line for each word, with its times")
@option("--mfcc-config", "", "Options of compute-mfcc-feats")
@option("--fbank-config", "", "Options of compute-fbank-feats")
@option("--lmwt", 10.0, "Inverse of the acoustic scale", above=0)
@option("--word-ins-penalty", 0.0, "Cost of each word")
@option("--tuned-in", "", "Take both from the best result in this decoding directory")
@option("--beam", 15.0, "Decoding beam", above=0)
@option("--max-active", 7000, "States active at most", least=1)
@option("--iter", "final", "Recognise with <model-dir>/<iter>.mdl")
@gpu_option
def main(model_dir, graph_dir, recordings, channel, times, **o):
    import tempfile  # not for --help

    source, graph, model = model_dir, graph_dir, model_dir / f"{o['iter']}.mdl"
    require_files(model, *(graph / name for name in ("HCLG.fst", "words.txt")))
    if times:
        require_files(*(graph / "phones" / name for name in ("align_lexicon.int", "silence.csl")))
    kind, config = feature_config(source, o)
    penalty, lmwt = o["word_ins_penalty"], o["lmwt"]
    if o["tuned_in"]:
        penalty, lmwt = chosen_setting(Path(o["tuned_in"])).values
    with tempfile.TemporaryDirectory(prefix="recognize.") as folder:
        data = Path(folder)
        channels = write_channels(recordings, channel, data)
        feats, cmvn = (f"ark,scp:{data}/{name}.ark,{data}/{name}.scp" for name in ("feats", "cmvn"))
        output_of(
            f"compute-{kind}-feats", f"--config={config}", "--allow-downsample=true",
            "--allow-upsample=true", f"scp:{data}/wav.scp", feats,
        )  # fmt: skip
        output_of("compute-cmvn-stats", f"scp:{data}/feats.scp", cmvn)
        output_of(
            "nnet-decode-faster", f"--acoustic-scale={1 / lmwt}",
            f"--word-ins-penalties={penalty}", f"--beam={o['beam']:g}",
            f"--max-active={o['max_active']}", f"--use-gpu={o['use_gpu']}", model,
            graph / "HCLG.fst", FeaturePipeline.of(source).rspecifier(data),
            f"ark:{data}/words", f"ark:{data}/alignments",
        )  # fmt: skip
        lines = recognized_lines(data, graph, model, frame_shift(config), times)
    for key, (name, number) in channels.items():
        for line in lines.get(key, []):
            print(f"{name} {number} {line}".rstrip())
    if missing := [
        f"channel {n} of {name}" for key, (name, n) in channels.items() if key not in lines
    ]:
        raise NgtrainError(f"nothing is recognised in {', '.join(missing)}: too short, or no path")


def feature_config(source: Path, options: dict) -> tuple[str, str]:
    """The kind of features of a model, and their configuration.  Raises NgtrainError."""
    if (source / "ivector_dim").exists() and read_integer(source / "ivector_dim"):
        raise NgtrainError(f"{source} has i-vectors at its input, which are not made here")
    given = {kind: options[f"{kind}_config"] for kind in ("mfcc", "fbank")}
    found = {kind: source / "conf" / f"{kind}.conf" for kind in given}
    chosen = [(kind, find_config(file)) for kind, file in given.items() if file]
    chosen = chosen or [(kind, str(file)) for kind, file in found.items() if file.is_file()]
    if len(chosen) != 1:
        problem = "says more than one kind of features" if chosen else "does not say its features"
        remedy = "use --mfcc-config or --fbank-config, not both"
        raise NgtrainError(f"{source}/conf {problem}: {remedy}")
    [(kind, config)] = chosen
    require_files(config)
    return kind, config


def write_channels(
    recordings: Sequence[str], channel: int | None, data: Path
) -> dict[str, tuple[str, int]]:
    """Make a data directory of channels; recording and number of each, by utterance."""
    from nnet.features.wave import WAVE, Wave
    from nnet.io.streams import open_input, open_output

    channels = {}
    for file in recordings:
        with open_input(file) as stream:
            wave = WAVE.read(stream)
        count, length = wave.samples.shape
        if length == 0:
            raise NgtrainError(f"{file}: there are no samples in it")
        if channel and channel > count:
            raise NgtrainError(f"{file}: it has {count} channels, and no --channel {channel}")
        if count > 1 and not channel:
            log.info(f"{file}: {count} channels, each by itself")
        for number in [channel] if channel else range(1, count + 1):
            key = f"{len(channels):09}"
            with open_output(f"{data}/{key}.wav") as output:
                one = Wave(wave.samples[number - 1 : number], wave.sample_rate)
                WAVE.write(output, one, binary=False)
            channels[key] = re.sub(r"\s", "_", file), number
    write_lines(data / "wav.scp", [f"{key} {data}/{key}.wav" for key in channels])
    write_lines(data / "utt2spk", [f"{key} {key}" for key in channels])
    return channels


def recognized_lines(
    data: Path, graph: Path, model: Path, frame_shift: float, times: bool
) -> dict[str, list[str]]:
    """Write what nnet-decode-faster recognised, by utterance: a line, or with times one a word."""
    from nnet.decoding.alignment import phone_segments
    from nnet.decoding.symbols import SymbolTable
    from nnet.decoding.word_times import read_align_lexicon, word_segments
    from nnet.hmm.transition_model import TransitionModel
    from nnet.io.tables import INTEGERS, sequential_table

    symbols = SymbolTable.load(f"{graph}/words.txt")
    word_ids = dict(sequential_table(f"ark:{data}/words", INTEGERS))
    if not times:
        return {key: [" ".join(symbols[n] for n in ids)] for key, ids in word_ids.items()}
    lexicon, lines = graph / "phones/align_lexicon.int", {}
    ways = read_align_lexicon(str(lexicon))
    silence = set(read_numbers(graph / "phones/silence.csl"))
    transition_model = TransitionModel.load(str(model))
    for key, alignment in sequential_table(f"ark:{data}/alignments", INTEGERS):
        phones, lengths = phone_segments(transition_model, alignment)
        segments = word_segments(word_ids[key], phones, lengths, ways, silence)
        if segments is None:
            raise NgtrainError(f"{lexicon} has no words of the phones that were recognised")
        lines[key] = [
            f"{s.begin * frame_shift:.2f} {s.num_frames * frame_shift:.2f} {symbols[s.word]}"
            for s in segments
        ]
    return lines


if __name__ == "__main__":
    main()
