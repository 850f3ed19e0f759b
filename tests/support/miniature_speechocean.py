#!/usr/bin/env python3
"""Make a miniature of the corpus of egs/speechocean, in its layout, by a synthesiser.

Writes into <dir> what the repository speechocean762 has, as far as the recipe looks at it: WAVE/,
train and test with wav.scp, text and utt2spk, and resource/lexicon.txt.  Names of files and the
syntax of lists are those of the corpus.  Speech has one channel of 16 bits at 16 kHz; who speaks is
one of espeak-ng's voices.  The same options give the same files.
"""

import multiprocessing
from pathlib import Path

import numpy as np
import soundfile
from miniature_fisher import DICTIONARY, Person, make_people, sentence
from scipy.signal import resample_poly

from nnet.cli import argument, log, option, program
from nnet.drivers.espeak import Espeak
from nnet.errors import NgtrainError
from nnet.io.text import write_lines

SAMPLE_RATE = 16000


def sentences(person: Person, number: int, srand: int) -> list[str]:
    """Draw what one person reads; of what is not a word, nothing is left."""
    rng = np.random.default_rng((srand, person.number))
    drawn: list[str] = []
    while len(drawn) < number:
        words = sentence(rng).replace("[laughter]", "").replace("._", ". ").strip()
        if words:
            drawn.append(words)
    return drawn


def record(person: Person, texts: list[str], folder: Path) -> None:
    """Write the recordings of one person."""
    espeak = Espeak()
    divisor = np.gcd(SAMPLE_RATE, espeak.sample_rate)
    rng = np.random.default_rng(person.number)
    folder.mkdir(parents=True)
    for n, text in enumerate(texts):
        said = espeak.say(text, person.voice, person.pitch, person.rate)
        said = resample_poly(said, SAMPLE_RATE // divisor, espeak.sample_rate // divisor) / 65536
        samples = np.pad(said, 3200) + rng.normal(0, 0.002, len(said) + 6400)
        path = folder / f"{recording_name(person, n)}.WAV"
        soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")


def recording_name(person: Person, n: int) -> str:
    return f"{person.number:05d}{n:04d}"


def write_list(directory: Path, name: str, read: dict[Person, list[str]]) -> None:
    """Write one of the corpus's two lists, and the recordings it names."""
    tables: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    context = multiprocessing.get_context("fork")
    for person, texts in read.items():
        speaker = f"{person.number:04d}"
        folder = Path("WAVE", f"SPEAKER{speaker}")
        # The synthesiser remembers what it said before: each person has a process.
        process = context.Process(target=record, args=(person, texts, directory / folder))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise NgtrainError(f"{directory / folder}: it could not be recorded")
        for n, text in enumerate(texts):
            key = recording_name(person, n)
            tables["wav.scp"].append(f"{key}\t{folder}/{key}.WAV")
            tables["text"].append(f"{key}\t{text.upper()}")
            tables["utt2spk"].append(f"{key} {speaker}")
    (directory / name).mkdir()
    for table, lines in tables.items():
        write_lines(directory / name / table, lines)


@program(
    "Usage:  tests/support/miniature_speechocean.py [options] <dir>\n"
    " e.g.: tests/support/miniature_speechocean.py /tmp/speechocean762"
)
@argument("dir")
@option("--speakers", 40, "Speakers on each of the two lists", least=1)
@option("--sentences", 12, "Sentences of each speaker", "sentences_each", least=1)
@option("--srand", 0, "Seed of all that is drawn", least=0)
def main(dir, speakers, sentences_each, srand):
    directory = Path(dir)
    people = make_people(2 * speakers, np.random.default_rng(srand))
    for name, those in ("train", people[:speakers]), ("test", people[speakers:]):
        write_list(
            directory, name, {each: sentences(each, sentences_each, srand) for each in those}
        )
        log.info(f"{name}: {speakers} speakers, {speakers * sentences_each} recordings")
    entries = [entry for line in DICTIONARY.split("\n") for entry in line.split("|") if entry]
    lines = sorted(entry.replace("(1)", "").replace(" ", "\t", 1) for entry in entries)
    (directory / "resource").mkdir()
    write_lines(directory / "resource/lexicon.txt", lines)


if __name__ == "__main__":
    main()
