"""Tables of what a network sees of recordings in online decoding.

After Kaldi's online2bin/online2-wav-dump-features.cc.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nnet.features.utterances import Skip
from nnet.features.wave import Wave
from nnet.io.losses import Losses
from nnet.io.tables import FEATURES, table_writer
from nnet.ivectors.front_end import FrontEndState, FrontEndSystem, OnlineFrontEnd, adapting


@dataclass
class FeatureDump:
    """A front end whose frames are written, with counts of what was done.

    Attributes:
        chunk_length: seconds that come in at once; the whole utterance if it is not positive.
    """

    system: FrontEndSystem
    chunk_length: float = 0.05
    num_done: int = 0
    num_frames: int = 0
    lost: Losses = field(default_factory=Losses)

    def run(self, spk2utt_rspecifier: str, wav_rspecifier: str, feature_wspecifier: str) -> None:
        """Write the frames of each utterance; each adapts to those of its speaker before it."""
        with table_writer(feature_wspecifier, FEATURES) as output:
            for key, frames in adapting(self.frames, spk2utt_rspecifier, wav_rspecifier, self.lost):
                output.write(key, frames)
                self.num_done += 1
                self.num_frames += len(frames)

    def frames(
        self, key: str, recording: Wave, state: FrontEndState
    ) -> tuple[np.ndarray, FrontEndState]:
        """Compute the frames (T, D) of an utterance, each as soon as it is there.

        Returns:
            These, and what is known of the speaker then.
        Raises:
            Skip: it is too short for a frame, or of another sample rate.
            NgtrainError: features do not have the dimension that statistics have.
        """
        source = OnlineFrontEnd(self.system, key, state)
        parts: list[np.ndarray] = []
        for chunk, is_last in self.system.chunks(key, recording, self.chunk_length):
            begin = source.num_frames_ready
            source.accept(chunk, is_last)
            if source.num_frames_ready > begin:
                parts.append(source.frames(np.arange(begin, source.num_frames_ready)))
        if not parts:
            raise Skip("no frame")
        return np.vstack(parts), source.state()
