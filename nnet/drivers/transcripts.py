"""Transcripts as the word-ids of a lang directory."""

from pathlib import Path

from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import MANY, TOO_MANY, check_transcripts
from nnet.drivers.data_dir import read_table
from nnet.drivers.driver import log, read_integer
from nnet.errors import NgtrainError
from nnet.launch.commands import read_from


def check_text(data: Path, lang: Path) -> None:
    """Say how many words of data/text are not in lang/words.txt, and who has no transcript.

    Raises:
        NgtrainError: it is most of the words, or most of the utterances.
    """
    check_transcripts(data / "text", SymbolTable.load(f"{lang}/words.txt"))
    utterances, text = read_table(data / "utt2spk"), read_table(data / "text")
    missing = [utterance for utterance in utterances if utterance not in text]
    if not missing:
        return
    sentence = (
        f"{len(missing)} of {len(utterances)} utterances of {data} have no transcript, "
        f"such as {missing[0]}"
    )
    if len(missing) > TOO_MANY * len(utterances):
        raise NgtrainError(sentence)
    serious = len(missing) >= MANY * len(utterances)
    (log.warning if serious else log.info)(sentence)


def transcript_rspecifier(lang: Path, data: Path) -> str:
    """Name the table of a data directory's transcripts; unknown words become the oov word."""
    oov = read_integer(lang / "oov.int")
    symbols = ["sym2int.py", "--map-oov", oov, "-f", "2-", lang / "words.txt", data / "text"]
    return read_from(symbols)


def training_graphs(ali: Path, lang: Path, data: Path) -> list:
    """Give the command that prints graphs of the transcripts of a data directory, as ark.

    Tree and model are those of the alignment directory `ali`.
    """
    return [
        *["compile-train-graphs", f"--read-disambig-syms={lang}/phones/disambig.int"],
        *[f"{ali}/tree", f"{ali}/final.mdl", f"{lang}/L.fst"],
        *[transcript_rspecifier(lang, data), "ark:-"],
    ]
