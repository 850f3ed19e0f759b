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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly
from utterances import Utterance, write_data_dir

from nnet.cli import argument, log, option, program
from nnet.drivers.data_dir import read_table, write_table
from nnet.drivers.espeak import Espeak
from nnet.errors import NgtrainError
from nnet.features.augmentation import add_noise, reverberate

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SAMPLE_RATE = 8000

ACCENTS = ["en-us", "en-us-nyc", "en", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"]
TEST_ACCENTS = [*ACCENTS, "en-gb-x-rp"]

# Variants of espeak-ng's voices that sound like people.  Those with breath are left out: their
# sound is not the same each time.
TRAINING_VOICES = """m1 m2 m3 m5 m6 m7 f1 f4 klatt klatt3 Alex Andy Denis Diogo Gene Henrique Hugo
    Jacky Mario Michael Reed adam anika antonio belinda benjamin caleb david edward ian iven john
    linda marcelo max michel miguel mike2 norbert pablo paul quincy shelby steph"""
TUNING_VOICES = "m4 grandma Lee boris zac edward2"
TEST_VOICES = "m8 aunty klatt2 Andrea Annie Marco pedro rob robert travis Nguyen steph3"


@dataclass(frozen=True)
class Speaker:
    """A voice that espeak-ng knows by name, with habits drawn once for each speaker."""

    name: str
    voice: str
    pitch: float  # espeak-ng's scale: 0 to 99
    rate: float  # words per minute
    seed: tuple[int, ...]


def speakers(
    subset: str, number: int, accents: list[str], variants: str, srand: int
) -> list[Speaker]:
    """Draw speakers; every variant is taken once before any is taken again."""
    seed = (srand, *subset.encode())
    rng = np.random.default_rng(seed)
    order: list[str] = []
    while len(order) < number:
        order.extend(rng.permutation(variants.split()))
    return [
        Speaker(
            name=f"{subset}{index:04d}",
            voice=f"{rng.choice(accents)}+{variant}",
            pitch=rng.uniform(25, 75),
            rate=rng.uniform(110, 210),
            seed=(*seed, index),
        )
        for index, variant in enumerate(order[:number])
    ]


def speak(speaker: Speaker, seconds: float) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (words, int16 samples at 8 kHz) until `seconds` of speech have been heard."""
    espeak = Espeak()
    divisor = np.gcd(SAMPLE_RATE, espeak.sample_rate)
    up, down = SAMPLE_RATE // divisor, espeak.sample_rate // divisor
    rng = np.random.default_rng(speaker.seed)
    heard = 0.0
    while heard < seconds:
        words = rng.choice(DIGITS, size=rng.integers(1, 8))
        # A comma makes a pause, and changes the intonation of the word before it.
        text = " ".join(word + ("," if rng.random() < 0.15 else "") for word in words)
        pitch = np.clip(speaker.pitch + rng.normal(0, 4), 0, 99)
        rate = np.clip(speaker.rate * np.exp(rng.normal(0, 0.08)), 80, 300)
        speech = resample_poly(espeak.say(text, speaker.voice, pitch, rate), up, down)
        silence = rng.integers(0, SAMPLE_RATE // 5, size=2)
        speech = np.pad(speech, silence)
        if rng.random() < 0.5:
            time, ratio = rng.uniform(0.1, 0.5), rng.uniform(3, 15)
            speech = reverberate(speech, SAMPLE_RATE, time, ratio, rng)
        if rng.random() < 0.9:
            speech = add_noise(speech, rng.uniform(8, 30), rng)
        peak = 32767 * rng.uniform(0.05, 0.9)
        speech *= peak / max(np.abs(speech).max(), 1.0)
        heard += len(speech) / SAMPLE_RATE
        yield " ".join(words), np.round(speech).astype(np.int16)


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
        cast = speakers(subset, number, accents, voices, srand)
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
