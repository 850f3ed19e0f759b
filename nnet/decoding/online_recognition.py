"""Decoding of recordings as if they came in chunk by chunk, speaker after speaker.

After Kaldi's online2bin/online2-wav-nnet2-latgen-faster.cc, with its log lines.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import cast

from nnet.decoding.lattice_decoder import DecodedUtterance, LatticeDecoder
from nnet.decoding.online import ENDPOINT_RULES, EndpointRule, OnlineDecoding
from nnet.decoding.silence_weighting import SilenceOptions, SilenceWeighting
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.features.wave import Wave
from nnet.io.losses import Losses
from nnet.io.tables import Holder, table_writer
from nnet.ivectors.front_end import FrontEndState, FrontEndSystem, OnlineFrontEnd, adapting
from nnet.lattices.tables import COMPACT_LATTICE, naming
from nnet.model.acoustic_model import AcousticModel

log = logging.getLogger("ngtrain")


@dataclass(frozen=True)
class OnlineOptions:
    """Options of the decoding of recordings.

    Attributes:
        acoustic_scale: of likelihoods in the search; lattices are written without it.
        chunk_length: seconds that come in at once; the whole utterance if it is not positive.
        max_nnet_batch_size: frames for which the network computes outputs at once.
        do_endpointing: stop where the utterance seems to have ended.
        silence_phones: for that.
        rules: likewise.
        silence: how silence is weighted in i-vectors.
    """

    acoustic_scale: float = 0.1
    chunk_length: float = 0.05
    max_nnet_batch_size: int = 256
    do_endpointing: bool = False
    silence_phones: Collection[int] = ()
    rules: Collection[EndpointRule] = ENDPOINT_RULES
    silence: SilenceOptions = field(default_factory=SilenceOptions)

    def __post_init__(self) -> None:
        if self.do_endpointing and not self.silence_phones:
            raise NgtrainError("Endpointing requires nonempty --endpoint.silence-phones option")


@dataclass
class OnlineRecognition:
    """A recogniser of recordings that come in chunk by chunk, with counts of what was done.

    Attributes:
        symbols: to write the words of each utterance on standard error.
    """

    model: AcousticModel
    decoder: LatticeDecoder
    front_end: FrontEndSystem
    options: OnlineOptions
    symbols: SymbolTable | None = None
    num_done: int = 0
    lost: Losses = field(default_factory=Losses)
    _num_frames: int = 0
    _log_likelihood: float = 0.0

    def run(self, spk2utt_rspecifier: str, wav_rspecifier: str, lattice_wspecifier: str) -> None:
        """Write a lattice of each utterance; each adapts to those of its speaker before it."""
        with table_writer(lattice_wspecifier, cast(Holder, COMPACT_LATTICE)) as output:
            for key, found in adapting(self.decode, spk2utt_rspecifier, wav_rspecifier, self.lost):
                output.write(key, found.lattice)
                log.info("Decoded utterance %s", key)
                self.num_done += 1

    def decode(
        self, key: str, recording: Wave, state: FrontEndState
    ) -> tuple[DecodedUtterance, FrontEndState]:
        """Decode an utterance, of which the first channel counts.

        Returns:
            What was found, and what is known of the speaker then.
        Raises:
            Skip: it is too short, of another sample rate, or no path survived.
            NgtrainError: its features do not fit the model.
        """
        options = self.options
        source = OnlineFrontEnd(self.front_end, key, state)
        decoding = OnlineDecoding(
            key, self.model, self.decoder, source, options.acoustic_scale,
            options.max_nnet_batch_size,
        )  # fmt: skip
        weighting = SilenceWeighting(options.silence, self.model.transition_model)
        for chunk, is_last in self.front_end.chunks(key, recording, options.chunk_length):
            source.accept(chunk, is_last)
            if options.silence.is_active:
                decoding.weigh_silence(weighting)
            decoding.advance()
            if options.do_endpointing and decoding.is_at_end(
                options.silence_phones, self.front_end.frame_shift, options.rules
            ):
                break
        with naming(key):
            found = decoding.decoded()
        if not found.is_complete:
            log.warning("Determinization finished earlier than the beam for utterance %s", key)
        self._num_frames += decoding.num_frames
        self._log_likelihood += found.path.log_likelihood
        if self.symbols:
            print(key, *(self.symbols[word] for word in found.path.words), file=sys.stderr)
        return found, source.state()

    def report(self) -> None:
        """Log the lines of Kaldi's program."""
        log.info("Decoded %d utterances, %d with errors.", self.num_done, self.lost.count)
        log.info(
            "Overall likelihood per frame was %g per frame over %d frames.",
            *(self._log_likelihood / max(self._num_frames, 1), self._num_frames),
        )
        self.lost.report(f"%d of {self.num_done + self.lost.count} utterances were not decoded")
