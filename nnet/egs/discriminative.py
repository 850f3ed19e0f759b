"""Examples for sequence training: part of an utterance, what was said, and what else it may be.

Source: Kaldi's DiscriminativeNnetExample (nnet2/nnet-example.{h,cc}), and
AppendDiscriminativeExamples and SolvePackingProblem in nnet2/nnet-example-functions.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.matrices import CompressedMatrix
from nnet.io.tokens import Holder, Reader, Writer
from nnet.lattices.binary import write_binary
from nnet.lattices.concatenation import concatenated, lattice_of_string
from nnet.lattices.lattice import CompactLattice
from nnet.lattices.tables import read_compact_lattice
from nnet.lattices.text import write_text

CRITERIA = ("mmi", "mpfe", "smbr")

PADDING = 1
"""The transition-id that fills the frames between examples that are joined; any would do."""


def check_criterion(name: str) -> None:
    """Raise NgtrainError unless there is such a criterion of sequence training."""
    if name not in CRITERIA:
        raise NgtrainError(f"--criterion={name}: expected one of {CRITERIA}")


@dataclass
class DiscriminativeExample:
    """Consecutive frames with an alignment, the numerator, and a lattice, the denominator.

    Attributes:
        weight: that of the frames in the objective, usually 1.
        num_ali: int32 (frames,), the transition-ids of what was said.
        den_lat: what a search found possible, of as many frames.  Its acoustic costs are not used:
            training computes them anew.
        input_frames: (left_context + frames + right_context, dim), kept compressed.
        left_context: rows of input before the one of the first frame.
        spk_info: float32 (spk_dim,), often empty: features that are constant over the example.
    """

    weight: float
    num_ali: np.ndarray
    den_lat: CompactLattice
    input_frames: CompressedMatrix
    left_context: int
    spk_info: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def num_frames(self) -> int:
        return len(self.num_ali)

    @property
    def right_context(self) -> int:
        """Rows of input after the one of the last frame."""
        return self.input_frames.shape[0] - self.left_context - self.num_frames

    def features(self) -> np.ndarray:
        """Return the rows of input with spk_info behind each, float32 (rows, dim + spk_dim)."""
        rows = self.input_frames.decompress()
        constant = np.broadcast_to(self.spk_info, (len(rows), len(self.spk_info)))
        return np.hstack([rows, constant])

    @classmethod
    def read(cls, reader: Reader) -> DiscriminativeExample:
        """Read an example.

        Raises:
            NgtrainError: no example, or one that contradicts itself.
        """
        weight = reader.expect("<DiscriminativeNnetExample>", "<Weight>").real()
        num_ali = reader.expect("<NumAli>").integers()
        den_lat = read_compact_lattice(reader.stream)
        input_frames = reader.expect("<InputFrames>").compressed_matrix()
        if not isinstance(input_frames, CompressedMatrix):
            input_frames = CompressedMatrix.compress(input_frames)
        left_context = reader.expect("<LeftContext>").integer()
        spk_info = reader.expect("<SpkInfo>").vector(np.float32)
        reader.expect("</DiscriminativeNnetExample>")
        example = cls(weight, num_ali, den_lat, input_frames, left_context, spk_info)
        if not len(num_ali) or left_context < 0 or example.right_context < 0:
            raise reader.fail(
                f"example of {len(num_ali)} frames and left context {left_context} "
                f"with {input_frames.shape[0]} rows of input"
            )
        if not weight > 0 or not np.isfinite(weight):
            raise reader.fail(f"example with a weight of {weight:g}")
        return example

    def write(self, writer: Writer) -> None:
        """Write the example; what Kaldi wrote comes out byte for byte."""
        writer.token("<DiscriminativeNnetExample>")
        writer.token("<Weight>").real(self.weight)
        writer.token("<NumAli>").integers(self.num_ali.tolist())
        if writer.binary:
            write_binary(writer.stream, self.den_lat)
        else:
            write_text(writer.stream, self.den_lat, num_digits=7)
        writer.token("<InputFrames>").compressed_matrix(self.input_frames)
        writer.token("<LeftContext>").integer(self.left_context)
        writer.token("<SpkInfo>").vector(self.spk_info)
        writer.token("</DiscriminativeNnetExample>")


DISCRIMINATIVE = Holder(DiscriminativeExample.read, lambda writer, example: example.write(writer))


def joined(examples: Sequence[DiscriminativeExample]) -> DiscriminativeExample:
    """Join examples to one, whose frames between them are those of their contexts.

    There numerator and denominator are the same, which moves nothing.

    Raises:
        NgtrainError: the examples differ in weight, contexts or dimension.
    """
    first = examples[0]
    if len(examples) == 1 and not len(first.spk_info):
        return first
    rows = [example.features() for example in examples]
    kinds = {
        (example.weight, example.left_context, example.right_context, of_example.shape[1])
        for example, of_example in zip(examples, rows, strict=True)
    }
    if len(kinds) > 1:
        (weight, left, right, dim), (other, *others) = sorted(kinds)[:2]
        raise NgtrainError(
            f"examples of weight {weight:g}, contexts {left} and {right} and dimension {dim} "
            f"cannot be joined with some of {other:g}, {others[0]}, {others[1]} and {others[2]}"
        )
    between = np.full(first.left_context + first.right_context, PADDING, np.int32)
    alignments, lattices = [first.num_ali], [first.den_lat]
    for example in examples[1:]:
        alignments += [between, example.num_ali]
        lattices += [lattice_of_string(between), example.den_lat]
    return DiscriminativeExample(
        first.weight,
        np.concatenate(alignments),
        concatenated(lattices),
        CompressedMatrix.compress(np.concatenate(rows)),
        first.left_context,
    )


def packed(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Group items so that no group is larger than `most`, by the first one that each fits in.

    An item that is larger has a group of its own.

    Returns:
        The indexes of the items of each group.
    """
    groups: list[list[int]] = []
    filled: list[int] = []
    for index, size in enumerate(sizes):
        for group, members in enumerate(groups):
            if filled[group] + size <= most:
                members.append(index)
                filled[group] += size
                break
        else:
            groups.append([index])
            filled.append(size)
    return groups
