"""Speech of the synthesiser espeak-ng, for corpora that are made."""

import ctypes

import numpy as np

from nnet.errors import NgtrainError


class Event(ctypes.Structure):
    """An event at a place in the sound, such as a phone (espeak_EVENT; `name` is in a union)."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


LAST_EVENT, PHONEME = 0, 7
STRESS = "',%="
"""What stands before a vowel's name if it has stress, or has none."""
SILENCE = "_"

Phones = list[tuple[str, int]]
"""Names of phones, and the samples at which they begin."""


class Espeak:
    """espeak-ng's C library (speak_lib.h), taken from the wheel espeakng-loader.

    It tells with its sound where each phone begins.  Phones have espeak-ng's names, "_" is silence.
    The synthesiser remembers what it said before (the phase of its oscillators, its source of
    noise), so speech that can be made again needs a process of its own for each speaker.
    """

    _SYNCHRONOUS, _POS_CHARACTER, _CHARS_UTF8, _RATE, _PITCH = 2, 1, 1, 1, 3
    _PHONEME_EVENTS = 1
    _CALLBACK = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
    )

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate = self._library.espeak_Initialize(
            self._SYNCHRONOUS, 0, data, self._PHONEME_EVENTS
        )
        if self.sample_rate <= 0:
            raise NgtrainError(f"espeak-ng finds no data in {data.decode()}")
        self._chunks: list[bytes] = []
        self._phones: Phones = []
        # ctypes frees a callback that nobody holds.
        self._callback = self._CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples, num_samples, events) -> int:
        if samples and num_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * num_samples))
        for event in events:
            if event.type == LAST_EVENT:
                break
            if event.type == PHONEME:
                name = event.name.decode().lstrip(STRESS)
                self._phones.append((SILENCE if name.startswith("_") else name, event.sample))
        return 0

    def say(self, text: str, voice: str, pitch: float, rate: float) -> np.ndarray:
        """Return the speech as float64 samples (N,) at `self.sample_rate`, 16-bit scale.

        Raises:
            NgtrainError: there is no such voice, or espeak-ng fails.
        """
        return self.say_phones(text, voice, pitch, rate)[0]

    def say_phones(
        self, text: str, voice: str, pitch: float, rate: float
    ) -> tuple[np.ndarray, Phones]:
        """Return the speech as say() does, and its phones."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise NgtrainError(f"espeak-ng has no voice {voice}")
        self._library.espeak_SetParameter(self._PITCH, round(pitch), 0)
        self._library.espeak_SetParameter(self._RATE, round(rate), 0)
        self._chunks.clear()
        self._phones = []
        encoded = text.encode()
        status = self._library.espeak_Synth(
            encoded, len(encoded) + 1, 0, self._POS_CHARACTER, 0, self._CHARS_UTF8, None, None
        )
        if status != 0:
            raise NgtrainError(f"espeak-ng could not say '{text}' (status {status})")
        speech = np.frombuffer(b"".join(self._chunks), np.int16).astype(np.float64)
        return speech, with_closures(speech, self._phones)


def with_closures(speech: np.ndarray, phones: Phones) -> Phones:
    """Let stops begin with their closures, which espeak-ng counts to the phones before them."""
    begins = [begin for _, begin in phones]
    for n, (before, _) in enumerate(phones[:-1], start=1):
        loud = np.flatnonzero(speech[begins[n - 1] : begins[n]])
        if before != SILENCE and len(loud):
            begins[n] = begins[n - 1] + int(loud[-1]) + 1
    return [(name, begin) for (name, _), begin in zip(phones, begins, strict=True)]
