"""Transcripts as the word-ids of a lang directory."""

from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import check_transcripts
from nnet.drivers.data_dir import read_table
from nnet.drivers.losses import judge
from nnet.drivers.programs import read_integer
from nnet.launch.commands import read_from


def check_text(data: Path, lang: Path) -> None:
    """Say what words lang lacks, and who has no transcript; NgtrainError if it is most of them."""
    check_transcripts(data / "text", SymbolTable.load(f"{lang}/words.txt"))
    utterances, text = read_table(data / "utt2spk"), read_table(data / "text")
    if missing := [utterance for utterance in utterances if utterance not in text]:
        sentence = f"{len(missing)} of {len(utterances)} utterances of {data} have no transcript"
        judge(len(missing), len(utterances), f"{sentence}, such as {missing[0]}")


def transcript_rspecifier(lang: Path, data: Path) -> str:
    """Name the table of a data directory's transcripts; unknown words become the oov word."""
    map_oov = ["--map-oov", read_integer(lang / "oov.int"), "-f", "2-"]
    return read_from(["sym2int.py", *map_oov, lang / "words.txt", data / "text"])


def training_graphs(ali: Path, lang: Path, data: Path) -> list:
    """Give the command that prints graphs of transcripts, of the tree and the model of `ali`."""
    return [
        *["compile-train-graphs", f"--read-disambig-syms={lang}/phones/disambig.int"],
        *[f"{ali}/tree", f"{ali}/final.mdl", f"{lang}/L.fst"],
        *[transcript_rspecifier(lang, data), "ark:-"],
    ]
