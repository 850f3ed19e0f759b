"""Back-off n-gram language models: the ARPA format, and as grammars for decoding.

The format is that of SRILM's ngram-format(5); the grammar is worked from Kaldi's
lm/arpa-lm-compiler.cc and lmbin/arpa2fst.cc.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnet.errors import NgtrainError
from nnet.fst import ARC, EPSILON, ArrayFst
from nnet.io.numbers import natural
from nnet.io.streams import InputStream, open_input, open_output
from nnet.symbols import SymbolTable

logger = logging.getLogger("ngtrain")

BEGIN, END, BACKOFF = "<s>", "</s>", "#0"
NEVER = -99.0
"""The logarithm that stands in files for that of a probability of 0."""

NGram = tuple[int, ...]


@dataclass
class NGrams:
    """The n-grams of one order.

    Attributes:
        words: int64 (N, n): word-ids.
        probability: float64 (N,): of the last word after the others.
        backoff: float64 (N,): the factor on the probabilities of the lower order, for words that
            the model does not have after these n.
    """

    words: np.ndarray
    probability: np.ndarray
    backoff: np.ndarray


@dataclass
class LanguageModel:
    """A back-off model.

    Attributes:
        words: the symbol table of its word-ids.
        orders: from unigrams up.
    """

    words: SymbolTable
    orders: list[NGrams]

    @cached_property
    def entries(self) -> dict[NGram, tuple[float, float]]:
        """The probability and the back-off factor of each n-gram."""
        return {
            tuple(ngram): (probability, backoff)
            for order in self.orders
            for ngram, probability, backoff in zip(
                order.words.tolist(),
                order.probability.tolist(),
                order.backoff.tolist(),
                strict=True,
            )
        }

    def probability(self, history: NGram, word: int) -> float:
        """Of `word` after `history`; 0 for a word that the model does not have."""
        history = history[max(0, len(history) - len(self.orders) + 1) :]
        factor = 1.0
        while (ngram := (*history, word)) not in self.entries:
            if not history:
                return 0.0
            factor *= self.entries.get(history, (0.0, 1.0))[1]
            history = history[1:]
        return factor * self.entries[ngram][0]

    def perplexity(self, sentences: Iterable[Sequence[int]]) -> float:
        """Of sentences, given as word-ids, their ends being words; inf where one is impossible."""
        begin, end = self.words.number(BEGIN), self.words.number(END)
        log_probability, num_words = 0.0, 0
        for sentence in sentences:
            history: NGram = (begin,)
            for word in (*sentence, end):
                p = self.probability(history, word)
                log_probability += math.log(p) if p > 0 else -math.inf
                history = (*history, word)[-len(self.orders) :]
                num_words += 1
        return math.exp(-log_probability / max(num_words, 1))

    # --- Files ------------------------------------------------------------------------------------

    def save(self, wxfilename: str) -> None:
        """Write in the ARPA format."""
        highest = len(self.orders)
        with open_output(wxfilename) as stream:
            sizes = [f"ngram {n}={len(o.words)}" for n, o in enumerate(self.orders, start=1)]
            stream.write("\n".join(["\\data\\", *sizes, ""]).encode())
            for n, order in enumerate(self.orders, start=1):
                stream.write(f"\n\\{n}-grams:\n".encode())
                with np.errstate(divide="ignore"):
                    logs = np.maximum(np.log10(order.probability), NEVER)
                    backoffs = np.maximum(np.log10(order.backoff), NEVER)
                for ngram, log, backoff in zip(
                    order.words.tolist(), logs.tolist(), backoffs.tolist(), strict=True
                ):
                    text = " ".join([self.words[word] for word in ngram])
                    last = f"\t{backoff:.6g}" if n < highest and backoff else ""
                    stream.write(f"{log:.6g}\t{text}{last}\n".encode(errors="surrogateescape"))
            stream.write(b"\n\\end\\\n")

    @classmethod
    def load(cls, rxfilename: str, words: SymbolTable) -> LanguageModel:
        """Read an ARPA file; n-grams with words that are not in `words` are left out.

        Raises:
            NgtrainError: it is no such file, it is damaged, or has no word of `words`.
        """
        with open_input(rxfilename) as stream:
            return cls(words, _Reader(stream, words).read())

    # --- Grammars ---------------------------------------------------------------------------------

    def grammar(self) -> ArrayFst:
        """G: sentences of the model, with the back-off symbol #0 on the input of back-off arcs.

        There is a state for each history that the model has words after, and an arc for each
        n-gram, which leads to the state of the longest end of it that is such a history.

        Raises:
            NgtrainError: the symbol table lacks the back-off symbol, or the model's sentences
                have no beginning or no end.
        """
        begin, end = self.words.number(BEGIN), self.words.number(END)
        disambig, entries = self.words.number(BACKOFF), self.entries
        for word in BEGIN, END:
            if (self.words.number(word),) not in entries:
                raise NgtrainError(f"the language model has no {word}")
        histories = dict.fromkeys([(), (begin,), *(ngram[:-1] for ngram in entries)])
        state_of = {history: state for state, history in enumerate(histories)}
        missing = [history for history in histories if history and history not in entries]
        if missing:
            text = " ".join(self.words[word] for word in missing[0])
            raise NgtrainError(f"the language model has words after '{text}', but not that itself")

        def destination(ngram: NGram) -> tuple[int, float]:
            """The state for what may follow `ngram`, and the cost of backing off to it."""
            cost = 0.0
            while ngram not in state_of:
                cost += _cost(entries[ngram][1]) if ngram in entries else 0.0
                ngram = ngram[1:]
            return state_of[ngram], cost

        finals = np.full(len(state_of), np.inf, np.float32)
        source, arcs = array("q"), []
        for history, state in state_of.items():
            if history:
                backoff = _cost(entries[history][1])
                lower, more = destination(history[1:])
                source.append(state)
                arcs.append((disambig, EPSILON, backoff + more, lower))
        for (*history, word), (probability, _) in entries.items():
            state, cost = state_of[tuple(history)], _cost(probability)
            if word == end:
                finals[state] = cost
            elif word != begin and cost < math.inf:
                following, more = destination((*history, word))
                source.append(state)
                arcs.append((word, word, cost + more, following))
        fst = ArrayFst.from_arcs(
            state_of[begin,], finals, np.frombuffer(source, np.int64), np.array(arcs, ARC)
        )
        order = np.lexsort((fst.arcs["ilabel"], fst.source))
        return ArrayFst(fst.start, fst.finals, fst.first_arc, fst.arcs[order])


def _cost(probability: float) -> float:
    return -math.log(probability) if probability > 0 else math.inf


class _Reader:
    """Reads one ARPA file, a line at a time."""

    def __init__(self, stream: InputStream, words: SymbolTable):
        self.stream = stream
        self.words = words
        self.line_number = 0

    def read(self) -> list[NGrams]:
        while self._line() != "\\data\\":
            pass
        sizes: list[int] = []
        while line := self._line():
            name, _, size = line.partition("=")
            try:
                if name.split() != ["ngram", str(len(sizes) + 1)]:
                    raise ValueError
                sizes.append(natural(size.strip()))
            except ValueError:
                raise self._fail(f"expected 'ngram {len(sizes) + 1}=' and a number") from None
        if not sizes:
            raise self._fail("expected the numbers of n-grams")
        orders = [self._section(n, size, len(sizes)) for n, size in enumerate(sizes, start=1)]
        if self._text() != "\\end\\":
            raise self._fail("expected \\end\\")
        if not len(orders[0].words):
            raise self.stream.fail("none of its words is in the symbol table")
        return orders

    def _section(self, n: int, size: int, highest: int) -> NGrams:
        if self._text() != f"\\{n}-grams:":
            raise self._fail(f"expected \\{n}-grams:")
        ids, logs, backoffs = array("q"), array("d"), array("d")
        number_of = self.words.number_of
        for _ in range(size):
            fields = self._line().split()
            try:
                log = float(fields[0])
                backoff = float(fields[n + 1]) if len(fields) == n + 2 and n < highest else 0.0
                if not n + 1 <= len(fields) <= n + 2 or not log <= 0 or math.isnan(backoff):
                    raise ValueError
            except (ValueError, IndexError):
                raise self._fail(f"expected a logarithm, {n} words, and perhaps another") from None
            ngram = [number_of.get(word) for word in fields[1 : n + 1]]
            if None not in ngram:
                ids.extend(ngram)
                logs.append(log)
                backoffs.append(backoff)
        if len(logs) < size:
            logger.warning(
                "%s: left out %d of %d %d-grams, whose words are not all in %s",
                self.stream.name, size - len(logs), size, n, self.words.name,
            )  # fmt: skip
        return NGrams(np.array(ids, np.int64).reshape(-1, n), _exp10(logs), _exp10(backoffs))

    def _line(self) -> str:
        line = self.stream.readline()
        self.line_number += 1
        if not line:
            raise self.stream.fail("truncated: expected more of a language model in ARPA format")
        return line.decode(errors="surrogateescape").strip()

    def _text(self) -> str:
        """The next line that is not empty."""
        while not (line := self._line()):
            pass
        return line

    def _fail(self, reason: str) -> NgtrainError:
        return self.stream.fail(f"line {self.line_number}: {reason}")


def _exp10(logs: Sequence[float]) -> np.ndarray:
    """10 to the power of `logs`, and 0 for those that stand for it."""
    logs = np.asarray(logs)
    return np.where(logs <= NEVER, 0.0, 10.0**logs)
