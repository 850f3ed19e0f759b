"""One training example of nnet2 (Kaldi nnet2/nnet-example.{h,cc}).

An example holds one or more consecutive labelled frames and the input around them. This is the
readable form, an object per example; :mod:`nnet.egs.blocks` reads the same archives many
examples at a time.
"""

import logging
from dataclasses import dataclass, field

import numpy as np

from nnet.io.holders import Holder
from nnet.io.matrices import CompressedMatrix
from nnet.io.tokens import Reader, Writer

log = logging.getLogger("ngtrain")


@dataclass
class NnetExample:
    """Labelled frames with their input.

    Attributes:
        labels: for each labelled frame the pairs (pdf-id, weight), usually a single [(pdf, 1.0)].
        input_frames: (left_context + frames + right_context, dim), kept compressed.
        left_context: rows of input before the one of the first labelled frame.
        spk_info: what is constant over the example, such as an iVector; float32 (spk_dim,), often
            empty. It is appended to every row of the input.
    """

    labels: list[list[tuple[int, float]]]
    input_frames: CompressedMatrix
    left_context: int
    spk_info: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def num_frames(self) -> int:
        """Number of labelled frames."""
        return len(self.labels)

    @property
    def right_context(self) -> int:
        """Rows of input after the one of the last labelled frame."""
        return self.input_frames.shape[0] - self.left_context - self.num_frames

    @property
    def has_simple_labels(self) -> bool:
        """Whether every frame has one label of weight one, so that <Lab1> can hold them."""
        return all(len(frame) == 1 and frame[0][1] == 1.0 for frame in self.labels)

    @classmethod
    def read(cls, reader: Reader) -> "NnetExample":
        """Read an example, in the present form or the old one of a single frame (<Labels>).

        Input that is not compressed, as it is in text, gets compressed as Kaldi does on reading.

        Raises:
            NgtrainError: this is not an example, or one that contradicts itself.
        """
        reader.expect("<NnetExample>")
        kind = reader.token()
        if kind == "<Lab1>":
            labels = [[(pdf, 1.0)] for pdf in reader.integers().tolist()]
        elif kind == "<Lab2>":
            labels = [_read_frame(reader) for _ in range(reader.integer())]
        elif kind == "<Labels>":
            labels = [_read_frame(reader)]
        else:
            raise reader.fail(f"expected <Lab1>, <Lab2> or <Labels>, found {kind}")
        reader.expect("<InputFrames>")
        input_frames = reader.compressed_matrix()
        if not isinstance(input_frames, CompressedMatrix):
            if not np.isfinite(input_frames).all():
                raise reader.fail("NaN or infinity in the input of an example")
            input_frames = CompressedMatrix.compress(input_frames)
        reader.expect("<LeftContext>")
        left_context = reader.integer()
        reader.expect("<SpkInfo>")
        spk_info = reader.vector(np.float32)
        reader.expect("</NnetExample>")
        example = cls(labels, input_frames, left_context, spk_info)
        if not labels or left_context < 0 or example.right_context < 0:
            raise reader.fail(
                f"example of {len(labels)} labelled frames and left context {left_context} "
                f"with {input_frames.shape[0]} rows of input"
            )
        return example

    def write(self, writer: Writer) -> None:
        """Write the example in the present form; what Kaldi wrote comes out byte for byte."""
        writer.token("<NnetExample>")
        if self.has_simple_labels:
            writer.token("<Lab1>")
            writer.integers([frame[0][0] for frame in self.labels])
        else:
            writer.token("<Lab2>")
            writer.integer(self.num_frames)
            for frame in self.labels:
                writer.integer(len(frame))
                for pdf, weight in frame:
                    writer.integer(pdf)
                    writer.real(weight)
        writer.token("<InputFrames>")
        writer.compressed_matrix(self.input_frames)
        writer.token("<LeftContext>")
        writer.integer(self.left_context)
        writer.token("<SpkInfo>")
        writer.vector(self.spk_info)
        writer.token("</NnetExample>")

    def sub_example(
        self,
        start: int = 0,
        num_frames: int | None = None,
        left_context: int | None = None,
        right_context: int | None = None,
    ) -> "NnetExample":
        """Some of the labelled frames, with all of the context or less of it.

        Args:
            start: the first labelled frame to keep, 0 <= start < self.num_frames.
            num_frames: how many to keep; None, or more than there are, for all from `start`.
            left_context, right_context: None to keep what there is. As much as there is is kept
                when more is asked for, with a warning.
        """
        if not 0 <= start < self.num_frames:
            raise IndexError(f"frame {start} of an example of {self.num_frames} frames")
        left = available_context("left", left_context, self.left_context)
        right = available_context("right", right_context, self.right_context)
        labels = self.labels[start:][:num_frames]
        rows = self.input_frames.rows(self.left_context + start - left, left + len(labels) + right)
        return NnetExample(labels, rows, left, self.spk_info)


_warned = set()


def available_context(side: str, requested: int | None, available: int) -> int:
    """The context that can be kept of what an example has; warns once if it is less than asked."""
    if requested is None:
        return available
    if requested > available and side not in _warned:
        _warned.add(side)
        log.warning(
            "Requested %s-context %d exceeds input %s-context %d, will not warn again.",
            side,
            requested,
            side,
            available,
        )
    return min(requested, available)


def _read_frame(reader: Reader) -> list[tuple[int, float]]:
    return [(reader.integer(), reader.real()) for _ in range(reader.integer())]


EXAMPLE = Holder("example", NnetExample.read, lambda writer, example: example.write(writer))
