"""Utterances in the order of their speakers, as what adapts to a speaker needs them."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from nnet.io.losses import Losses
from nnet.io.random_access import RandomAccessTable, random_access_table
from nnet.io.tables import TOKENS, sequential_table
from nnet.io.tokens import Holder

log = logging.getLogger("ngtrain")

Utterances = Iterator[tuple[str, Any]]


def by_speaker(
    spk2utt_rspecifier: str, rspecifier: str, holder: Holder, lost: Losses
) -> Iterator[tuple[str, Utterances]]:
    """Yield each speaker with an iterator over the utterances of his that a table has.

    Args:
        spk2utt_rspecifier: table of the speakers' utterances; "": each utterance is one's own.
        rspecifier: table of the utterances, with what `holder` reads.
        lost: counts utterances that are not there.
    """
    if not spk2utt_rspecifier:
        with sequential_table(rspecifier, holder) as table:
            for key, value in table:
                yield key, iter([(key, value)])
            if table.losses.count:
                lost.add(table.losses.example)
                lost.count += table.losses.count - 1
        return
    with (
        sequential_table(spk2utt_rspecifier, TOKENS) as speakers,
        random_access_table(rspecifier, holder) as table,
    ):
        for speaker, keys in speakers:
            yield speaker, _those_there(keys, table, lost)


def _those_there(keys: Iterable[str], table: RandomAccessTable, lost: Losses) -> Utterances:
    for key in keys:
        value = table.get(key)
        if value is None:
            log.warning("Did not find utterance %s: %s", key, table.why_not(key))
            lost.add(key, table.why_not(key))
        else:
            yield key, value
