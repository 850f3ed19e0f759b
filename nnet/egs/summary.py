"""What a table of examples holds, in a few numbers: how many, of what dimensions, a checksum.

The programs that write examples can leave these numbers in a file, gathered while they write, and
nnet-egs-info prints the same of a table that it reads: if the two differ, the table is damaged.

The checksum is the CRC-32 (that of gzip) of the examples as they stand in a binary archive; for an
archive that is the one of the file. It is there to find accidents, all bursts of up to 32 bits and
all but one in 4e9 of the others, and is computed several times as fast as BLAKE2 or SHA-256, whose
strength would not be of use: who can change an archive on purpose can change the number beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from nnet.egs.blocks import ExampleBlock, distinct
from nnet.egs.layout import Layout


class ExampleSummary:
    """The numbers of the blocks that were added, one after the other."""

    def __init__(self):
        self._num_examples = 0
        self._num_frames = 0
        self._largest_pdf = -1
        self._crc32 = 0
        self._layouts: set[Layout] = set()

    def add(self, block: ExampleBlock) -> None:
        """Take the examples of a block into account.

        Raises:
            NgtrainError: NaN or infinity in the input, or labels that make no sense.
        """
        self._num_examples += len(block)
        self._num_frames += int(block.num_frames().sum())
        self._layouts |= {block.layouts[number] for number in distinct(block.records["layout"])}
        for _, contents in block.by_layout():
            contents.check_scale()
            pdfs = contents.labels().pdf
            if len(pdfs):
                self._largest_pdf = max(self._largest_pdf, int(pdfs.max()))
        self._crc32 = zlib.crc32(block.encoded(), self._crc32)

    def lines(self, file_size: int | None) -> list[str]:
        """The numbers with their names; where examples differ, all values that occur.

        Args:
            file_size: of the file that holds the examples, in bytes; None if it is not known.
        """
        return [
            f"num-examples {self._num_examples}",
            f"num-frames {self._num_frames}",
            f"frames-per-eg {self._all(layout.num_frames for layout in self._layouts)}",
            f"left-context {self._all(layout.left_context for layout in self._layouts)}",
            f"right-context {self._all(layout.right_context for layout in self._layouts)}",
            f"input-dim {self._all(layout.input_dim for layout in self._layouts)}",
            f"ivector-dim {self._all(layout.spk_dim for layout in self._layouts)}",
            f"largest-pdf {self._largest_pdf}",
            f"crc32 {self._crc32:08x}",
            *([] if file_size is None else [f"file-size {file_size}"]),
        ]

    @staticmethod
    def _all(values: Iterable[int]) -> str:
        return ",".join(map(str, sorted(set(values))))
