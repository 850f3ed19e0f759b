"""Speakers who sound like voices of espeak-ng, each in rooms and noises that change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

from nnet.drivers.espeak import SILENCE, Espeak, Phones
from nnet.features.augmentation import add_noise, reverberate

ACCENTS = ["en-us", "en-us-nyc", "en", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"]

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

    def say(
        self, espeak: Espeak, text: str, sample_rate: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Phones]:
        """Say a text in a room and with a noise that are drawn, as are silences around it.

        Returns:
            int16 samples (n,) at `sample_rate`, and the phones with the samples of these at which
            they begin; the first one begins at 0.
        """
        pitch = np.clip(self.pitch + rng.normal(0, 4), 0, 99)
        rate = np.clip(self.rate * np.exp(rng.normal(0, 0.08)), 80, 300)
        speech, phones = espeak.say_phones(text, self.voice, pitch, rate)
        divisor = math.gcd(sample_rate, espeak.sample_rate)
        end = len(speech)
        speech = resample_poly(speech, sample_rate // divisor, espeak.sample_rate // divisor)
        silence = rng.integers(0, sample_rate // 5, size=2)
        speech = np.pad(speech, silence)
        phones = [
            (name, int(silence[0]) + round(begin * sample_rate / espeak.sample_rate))
            for name, begin in [*phones, (SILENCE, end)]
        ]
        if rng.random() < 0.5:
            time, ratio = rng.uniform(0.1, 0.5), rng.uniform(3, 15)
            speech = reverberate(speech, sample_rate, time, ratio, rng)
        if rng.random() < 0.9:
            speech = add_noise(speech, rng.uniform(8, 30), rng)
        peak = 32767 * rng.uniform(0.05, 0.9)
        speech *= peak / max(np.abs(speech).max(), 1.0)
        return np.round(speech).astype(np.int16), [(SILENCE, 0), *phones]


def draw_speakers(
    subset: str, number: int, accents: Sequence[str], variants: str, srand: int
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
