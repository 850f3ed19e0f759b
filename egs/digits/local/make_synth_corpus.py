#!/usr/bin/env python3
"""Make a corpus of connected digits with the speech synthesiser espeak-ng.

Writes Kaldi data directories <corpus-dir>/data/{train,tune,test} (wav.scp, text, utt2spk, spk2utt)
and the recordings they name, <corpus-dir>/wav/SPEAKER/UTTERANCE.wav: 8 kHz, 16 bit, one channel.

A speaker is an accent and a voice of espeak-ng with a pitch and a rate of its own, and is heard for
about a minute, in a room and with a noise that change from one utterance to the next. The voices of
the tuning set and of the test set are not heard in training, and the test set has one more accent.

The same options give the same recordings, whatever the number of jobs.
"""

import multiprocessing
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from utterances import Utterance, write_data_dir

from nnet.cli import argument, log, option, program
from nnet.drivers.data_dir import read_table, write_table
from nnet.drivers.espeak import Espeak
from nnet.drivers.synthetic_speakers import (
    ACCENTS,
    TEST_VOICES,
    TRAINING_VOICES,
    TUNING_VOICES,
    Speaker,
    draw_speakers,
)
from nnet.errors import NgtrainError

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SAMPLE_RATE = 8000

TEST_ACCENTS = [*ACCENTS, "en-gb-x-rp"]


def speak(speaker: Speaker, seconds: float) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (words, int16 samples at 8 kHz) until `seconds` of speech have been heard."""
    espeak = Espeak()
    rng = np.random.default_rng(speaker.seed)
    heard = 0.0
    while heard < seconds:
        words = rng.choice(DIGITS, size=rng.integers(1, 8))
        # A comma makes a pause, and changes the intonation of the word before it.
        text = " ".join(word + ("," if rng.random() < 0.15 else "") for word in words)
        speech, _ = speaker.say(espeak, text, SAMPLE_RATE, rng)
        heard += len(speech) / SAMPLE_RATE
        yield " ".join(words), speech


def record(speaker: Speaker, directory: Path, seconds: float) -> None:
    """Write one speaker's recordings and `directory`/text, which says what is spoken in them."""
    directory.mkdir(parents=True, exist_ok=True)
    text = {}
    for index, (words, samples) in enumerate(speak(speaker, seconds)):
        utterance = f"{speaker.name}-{index:03d}"
        with wave.open(str(directory / f"{utterance}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(samples.astype("<i2").tobytes())
        text[utterance] = words
    write_table(directory / "text", text)


def record_all(cast: list[Speaker], wav_dir: Path, seconds: float, num_jobs: int) -> None:
    """Record speakers, each in a process of its own: see Espeak."""
    # Forked from this process, which has one thread, they need not import scipy again.
    context = multiprocessing.get_context("fork")
    for start in range(0, len(cast), num_jobs):
        processes = [
            context.Process(target=record, args=(speaker, wav_dir / speaker.name, seconds))
            for speaker in cast[start : start + num_jobs]
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode != 0 for process in processes):
            raise NgtrainError(f"{wav_dir}: not all speakers could be recorded")


@program(
    "Usage:  local/make_synth_corpus.py [options] <corpus-dir>\n"
    " e.g.: local/make_synth_corpus.py --hours=0.5 --num-jobs=2 exp/synth"
)
@argument("corpus_dir")
@option("--hours", type=float, default=0.5, help="Hours of training speech")
@option("--tune-minutes", type=float, default=5.0, help="Minutes of speech to choose scales on")
@option("--test-minutes", type=float, default=12.0, help="Minutes of test speech")
@option("--seconds-per-speaker", type=float, default=60.0, help="How long a speaker is heard")
@option("--srand", type=int, default=0, help="Seed of all that is drawn")
@option("--num-jobs", type=int, default=1, help="Number of processes")
def main(corpus_dir, hours, tune_minutes, test_minutes, seconds_per_speaker, srand, num_jobs):
    subsets = {
        "train": (60 * hours, ACCENTS, TRAINING_VOICES),
        "tune": (tune_minutes, ACCENTS, TUNING_VOICES),
        "test": (test_minutes, TEST_ACCENTS, TEST_VOICES),
    }
    wav_dir = Path(corpus_dir, "wav")
    for subset, (minutes, accents, voices) in subsets.items():
        number = max(1, round(60 * minutes / seconds_per_speaker))
        cast = draw_speakers(subset, number, accents, voices, srand)
        record_all(cast, wav_dir, seconds_per_speaker, num_jobs)
        utterances = [
            Utterance(name, speaker.name, words, wav_dir / speaker.name / f"{name}.wav")
            for speaker in cast
            for name, words in read_table(wav_dir / speaker.name / "text").items()
        ]
        write_data_dir(Path(corpus_dir, "data", subset), utterances)
        log.info(f"{subset}: {len(cast)} speakers, {len(utterances)} recordings")


if __name__ == "__main__":
    main()
