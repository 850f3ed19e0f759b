"""Back-off n-gram language models: the ARPA format, and as grammars for decoding.

The format is that of SRILM's ngram-format(5); the grammar is worked from Kaldi's
lm/arpa-lm-compiler.cc and lmbin/arpa2fst.cc.  The package kaldilm has that code, and the tests
compare grammars with its; but it ends the whole process at most files that are damaged.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nnet.decoding.fst import EPSILON, ArrayFst
from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import UnknownWords
from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.streams import open_output
from nnet.io.text import encode, split_words, text_lines, visible

log = logging.getLogger("ngtrain")

BEGIN, END, BACKOFF = "<s>", "</s>", "#0"
NEVER = -99.0  # the logarithm that stands in files for that of a probability of 0

NGram = tuple[int, ...]


@dataclass
class NGrams:
    """The n-grams of one order.

    backoff: the factor on the probabilities of the lower order, for words that the model does not
    have after these n.
    """

    words: np.ndarray  # int64 (N, n): word-ids
    probability: np.ndarray  # float64 (N,): of the last word after the others
    backoff: np.ndarray  # float64 (N,)


@dataclass
class LanguageModel:
    """A back-off model of words."""

    words: SymbolTable
    orders: list[NGrams]  # from unigrams up

    @cached_property
    def entries(self) -> dict[NGram, tuple[float, float]]:
        """The probability and the back-off factor of each n-gram."""
        entries: dict[NGram, tuple[float, float]] = {}
        for order in self.orders:
            values = zip(order.probability.tolist(), order.backoff.tolist(), strict=True)
            entries.update(zip(map(tuple, order.words.tolist()), values, strict=True))
        return entries

    def probability(self, history: NGram, word: int) -> float:
        """Compute the probability of `word` after `history`; 0 if the model has no such word."""
        history = history[max(0, len(history) - len(self.orders) + 1) :]
        factor = 1.0
        while (ngram := (*history, word)) not in self.entries:
            if not history:
                return 0.0
            factor *= self.entries.get(history, (0.0, 1.0))[1]
            history = history[1:]
        return factor * self.entries[ngram][0]

    def perplexity(self, sentences: Iterable[Sequence[int]]) -> float:
        """Compute the perplexity of sentences of word-ids, with their ends; inf if impossible."""
        begin, end = self.words.number(BEGIN), self.words.number(END)
        cost, num_words = 0.0, 0
        for sentence in sentences:
            history: NGram = (begin,)
            for word in (*sentence, end):
                cost += _cost(self.probability(history, word))
                history = (*history, word)[-len(self.orders) :]
                num_words += 1
        return math.exp(cost / max(num_words, 1))

    # --- Files ------------------------------------------------------------------------------------

    def save(self, wxfilename: str) -> None:
        """Write in the ARPA format."""
        with open_output(wxfilename) as stream:
            for line in self._lines():
                stream.write(encode(f"{line}\n"))

    def _lines(self) -> Iterator[str]:
        yield "\\data\\"
        yield from (f"ngram {n}={len(order.words)}" for n, order in enumerate(self.orders, 1))
        for n, order in enumerate(self.orders, 1):
            yield f"\n\\{n}-grams:"
            logs, backoffs = _log10(order.probability), _log10(order.backoff)
            for ngram, logarithm, backoff in zip(order.words.tolist(), logs, backoffs, strict=True):
                text = " ".join(self.words[word] for word in ngram)
                last = f"\t{backoff:.6g}" if n < len(self.orders) and backoff else ""
                yield f"{logarithm:.6g}\t{text}{last}"
        yield "\n\\end\\"

    @classmethod
    def load(cls, rxfilename: str, words: SymbolTable) -> LanguageModel:
        """Read an ARPA file.

        As by Kaldi's arpa2fst (lm/arpa-lm-compiler.cc), n-grams with words that are not in `words`
        are left out, those whose history the model does not have, and those with the beginning or
        the end of a sentence in the wrong place; and those that are there a second time.  Warnings
        tell how many.

        Raises NgtrainError: it is no such file, it is damaged, has no word of `words`, or its
        sentences have no beginning or no end.
        """
        return cls(words, _ArpaReader(rxfilename, words).read())

    # --- Grammars ---------------------------------------------------------------------------------

    def grammar(self, backoff_symbol: str = BACKOFF) -> ArrayFst:
        """Make G, the sentences of the model, with a symbol on the input of back-off arcs.

        There is a state for each history that the model has words after, and an arc for each
        n-gram, which leads to the state of the longest end of it that is such a history.  Raises
        NgtrainError if the symbol table lacks the symbol.
        """
        begin, end = self.words.number(BEGIN), self.words.number(END)
        disambig, entries = self.words.number(backoff_symbol), self.entries
        histories = dict.fromkeys([(), (begin,), *(ngram[:-1] for ngram in entries)])
        state_of = {history: state for state, history in enumerate(histories)}

        def destination(ngram: NGram) -> tuple[int, float]:
            """Find the state for what may follow `ngram`, and the cost of backing off to it."""
            cost = 0.0
            while ngram not in state_of:
                cost += _cost(entries[ngram][1]) if ngram in entries else 0.0
                ngram = ngram[1:]
            return state_of[ngram], cost

        finals = np.full(len(state_of), np.inf, np.float32)
        source, arcs = [], []
        for history, state in state_of.items():
            if history:
                backoff = _cost(entries.get(history, (0.0, 1.0))[1])
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
        fst = ArrayFst.from_arcs(state_of[begin,], finals, source, arcs)
        order = np.lexsort((fst.arcs["ilabel"], fst.source))
        return replace(fst, arcs=fst.arcs[order])


def _cost(probability: float) -> float:
    return -math.log(probability) if probability > 0 else math.inf


def _log10(probability: np.ndarray) -> list[float]:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log10(probability), NEVER).tolist()


def _exp10(logs: Sequence[float]) -> np.ndarray:
    logs = np.asarray(logs)
    return np.where(logs <= NEVER, 0.0, 10.0**logs)


class _ArpaReader:
    """A reader of an ARPA file by lines, which leaves out what Kaldi's arpa2fst leaves out.

    histories: the words after which n-grams of the present order may come: the n-grams of the order
    below.  As in Kaldi, the ends of highest n-grams are histories, too, since they are states of
    the grammar.
    """

    def __init__(self, rxfilename: str, words: SymbolTable):
        self.name = rxfilename
        self.lines = text_lines(rxfilename)
        self.line_number = 0
        self.words = words
        self.forbidden = {words.number_of.get(BACKOFF), EPSILON}
        self.begin, self.end = words.number(BEGIN), words.number(END)
        self.histories: set[NGram] = {()}
        self.unknown = UnknownWords(words)

    def read(self) -> list[NGrams]:
        while self._line() != "\\data\\":
            pass
        sizes: list[int] = []
        while line := self._line():
            name, _, size = line.partition("=")
            try:
                if split_words(name) != ["ngram", str(len(sizes) + 1)]:
                    raise ValueError
                sizes.append(natural(size.strip()))
            except ValueError:
                raise self._fail(f"expected 'ngram {len(sizes) + 1}=' and a number") from None
        if not sizes:
            raise self._fail("expected the numbers of n-grams")
        orders = [self._section(n, size, len(sizes)) for n, size in enumerate(sizes, start=1)]
        self._expect("\\end\\")
        self._check_words(orders[0])
        return orders

    def _section(self, n: int, size: int, highest: int) -> NGrams:
        self._expect(f"\\{n}-grams:")
        ids, logs, backoffs = array("q"), array("d"), array("d")
        present: set[NGram] = set()
        left_out = defaultdict(list)  # by reason
        for _ in range(size):
            logarithm, words, backoff = self._ngram(n, size, highest)
            ngram = tuple(map(self.words.number_of.get, words))
            if n == 1:
                self.unknown.add(words)
            if reason := self._reason_to_leave_out(ngram, present):
                left_out[reason].append(f"'{visible(' '.join(words))}' on line {self.line_number}")
                continue
            if n == highest:
                self.histories.add(ngram[1:])
            present.add(ngram)
            ids.extend(ngram)
            logs.append(logarithm)
            backoffs.append(backoff)
        for reason, ngrams in left_out.items():
            log.warning(
                "%s: left out %d of %d %d-grams, %s, such as %s",
                self.name, len(ngrams), size, n, reason, ngrams[0],
            )  # fmt: skip
        self.histories = present
        return NGrams(np.array(ids, np.int64).reshape(-1, n), _exp10(logs), _exp10(backoffs))

    def _ngram(self, n: int, size: int, highest: int) -> tuple[float, list[str], float]:
        """Read logarithm, words, and logarithm of the back-off factor from the next line."""
        end = self.line_number + 1
        text = self._text()
        if text.startswith("\\"):
            self.line_number = end
            raise self._fail(f"the {n}-grams end, of which there are {size} as the header says")
        fields = split_words(text)
        try:
            logarithm = float(fields[0])
            backoff = float(fields[n + 1]) if len(fields) == n + 2 and n < highest else 0.0
            if not n + 1 <= len(fields) <= n + 2 or not logarithm <= 0 or math.isnan(backoff):
                raise ValueError
        except (ValueError, IndexError):
            raise self._fail(f"expected a logarithm, {n} words, and perhaps another") from None
        return logarithm, fields[1 : n + 1], backoff

    def _reason_to_leave_out(self, ngram: tuple[int | None, ...], present: set[NGram]) -> str:
        if ngram in present:
            return "which were there before"
        if None in ngram:
            return f"whose words are not all in {self.words.name}"
        if not self.forbidden.isdisjoint(ngram):
            raise self._fail(f"{BACKOFF} and <eps> cannot be words of a language model")
        if self.begin in ngram[1:] or self.end in ngram[:-1]:
            return f"with {BEGIN} or {END} in the wrong place"
        if ngram[:-1] not in self.histories:
            return "whose history, the words but the last, the model does not have"
        return ""

    def _check_words(self, unigrams: NGrams) -> None:
        """Check that the model has the ends of sentences, and a word besides."""
        found = set(unigrams.words[:, 0].tolist())
        for word, id in (BEGIN, self.begin), (END, self.end):
            if id not in found:
                raise NgtrainError(f"{self.name}: the language model has no {word}")
        if not found - {self.begin, self.end}:
            reason = self.unknown.reason()
            raise NgtrainError(
                f"{self.name}: none of its words is in {self.words.name}{reason and '; '}{reason}"
            )

    def _line(self) -> str:
        self.line_number += 1
        line = next(self.lines, None)
        if line is None:
            reason = "truncated: expected more of a language model in ARPA format"
            raise NgtrainError(f"{self.name}: {reason}")
        return line.strip()

    def _text(self) -> str:
        """Read the next line that is not empty."""
        while not (line := self._line()):
            pass
        return line

    def _expect(self, text: str) -> None:
        if self._text() != text:
            raise self._fail(f"expected {text}")

    def _fail(self, reason: str) -> NgtrainError:
        return NgtrainError(f"{self.name}: line {self.line_number}: {reason}")
