"""Durations of recordings.

Source: Kaldi's featbin/wav-to-duration.cc.
"""

import logging

from nnet.errors import NgtrainError
from nnet.features.wave import WAVE
from nnet.io.tables import REAL, sequential_table, table_writer

log = logging.getLogger("ngtrain")


def write_durations(wav_rspecifier: str, duration_wspecifier: str) -> None:
    """Write the duration of each recording, in seconds.

    Raises:
        NgtrainError: there is none, or all of them cannot be read.
    """
    durations = []
    with (
        sequential_table(wav_rspecifier, WAVE) as recordings,
        table_writer(duration_wspecifier, REAL) as output,
    ):
        for key, recording in recordings:
            output.write(key, recording.duration)
            durations.append(recording.duration)
        recordings.losses.report(f"no duration of %d recordings, beside {len(durations)} others")
    log.info("Printed duration for %d audio files.", len(durations))
    if not durations:
        raise NgtrainError(f"{wav_rspecifier}: there are no recordings")
    log.info(
        "Mean duration was %g, min and max durations were %g, %g",
        *(sum(durations) / len(durations), min(durations), max(durations)),
    )
