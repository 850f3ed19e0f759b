"""Speech of the synthesiser espeak-ng, for corpora that are made."""

import ctypes

import numpy as np

from nnet.errors import NgtrainError


class Espeak:
    """espeak-ng's C library (speak_lib.h), taken from the wheel espeakng-loader.

    The synthesiser remembers what it said before (the phase of its oscillators, its source of
    noise), so speech that can be made again needs a process of its own for each speaker.
    """

    _SYNCHRONOUS, _POS_CHARACTER, _CHARS_UTF8, _RATE, _PITCH = 2, 1, 1, 1, 3
    _CALLBACK = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate = self._library.espeak_Initialize(self._SYNCHRONOUS, 0, data, 0)
        if self.sample_rate <= 0:
            raise NgtrainError(f"espeak-ng finds no data in {data.decode()}")
        self._chunks: list[bytes] = []
        # ctypes frees a callback that nobody holds.
        self._callback = self._CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples, num_samples, _events) -> int:
        if samples and num_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    def say(self, text: str, voice: str, pitch: float, rate: float) -> np.ndarray:
        """Return the speech as float64 samples (N,) at `self.sample_rate`, 16-bit scale."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise NgtrainError(f"espeak-ng has no voice {voice}")
        self._library.espeak_SetParameter(self._PITCH, round(pitch), 0)
        self._library.espeak_SetParameter(self._RATE, round(rate), 0)
        self._chunks.clear()
        encoded = text.encode()
        status = self._library.espeak_Synth(
            encoded, len(encoded) + 1, 0, self._POS_CHARACTER, 0, self._CHARS_UTF8, None, None
        )
        if status != 0:
            raise NgtrainError(f"espeak-ng could not say '{text}' (status {status})")
        return np.frombuffer(b"".join(self._chunks), np.int16).astype(np.float64)
