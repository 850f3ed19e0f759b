"""Word error rates by the rules of NIST's evaluations of conversational speech.

References (STM) may have alternatives `{ A / B C / @ }`, where @ is nothing, words in parentheses
that may be left out, and fragments (`WOR-`), which any word that begins so matches.  A file of
mapping rules (GLM) is applied to references and hypotheses, so that spellings between which nobody
can decide are as good as each other.

Follows the documentation of NIST's scoring toolkit (SCTK): doc/GLMRules.txt, doc/infmts.htm and
doc/sclite.htm, and the way in which its hubscr.pl puts rfilter1, csrfilt.sh and sclite together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from nnet.decoding.scoring import WordErrors
from nnet.errors import NgtrainError
from nnet.io.text import text_lines

HESITATION = "%HESITATION"
IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
COMMENT = ";;"

# Mapping rules ------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """A rewriting of `old` as `new` where `left` stands before it and `right` behind."""

    old: str
    new: str
    left: str
    right: str


_APPLIES = re.compile(rf'{COMMENT}\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"')


class MappingRules:
    """The rules of a GLM file that hold for one kind of text.

    At each character of a text, the first rule of the file that fits is applied, and what it has
    replaced is not looked at again.  Case does not count, and the result is in capitals.
    """

    def __init__(self, rules: Iterable[Rule]):
        self._rules = [Rule(*(part.upper() for part in rule)) for rule in rules]
        self._beginning_with: dict[str, list[Rule]] = {}
        for rule in self._rules:
            self._beginning_with.setdefault(rule.left[-1:] + rule.old[:1], []).append(rule)
        self._place = {rule: n for n, rule in reversed(list(enumerate(self._rules)))}
        self.apply = lru_cache(maxsize=1 << 16)(self._apply)

    @classmethod
    def load(cls, rxfilename: str, kinds: Sequence[str]) -> MappingRules:
        """Read the rules that apply to texts of `kinds`, such as ("stm", "ref").

        Raises:
            NgtrainError: a line is no rule.
        """
        rules, applies = [], True
        for number, line in enumerate(text_lines(rxfilename), 1):
            where = f"{rxfilename}: line {number}"
            if match := _APPLIES.match(line):
                try:
                    applies = any(re.search(match[1], kind, re.IGNORECASE) for kind in kinds)
                except re.error:
                    raise NgtrainError(f"{where}: no regular expression: '{match[1]}'") from None
            line = line.partition(COMMENT)[0].strip()
            if not line or line.startswith("*") or not applies:
                continue
            try:
                rules.append(_parse_rule(line))
            except ValueError:
                raise NgtrainError(f"{where} is no rule 'A => B / C __ D': '{line}'") from None
        return cls(rules)

    def _apply(self, text: str) -> str:
        """Rewrite `text`, as if spaces stood before and behind it."""
        text = f" {' '.join(text.upper().split())} "
        result, position = [], 0
        while position < len(text):
            before, here = text[position - 1 : position], text[position]
            fitting = [
                rule
                for key in (here, before + here)
                for rule in self._beginning_with.get(key, ())
                if text.startswith(rule.old, position)
                and text.endswith(rule.left, 0, position)
                and text.startswith(rule.right, position + len(rule.old))
            ]
            if fitting:
                rule = min(fitting, key=self._place.__getitem__)
                result.append(rule.new)
                position += len(rule.old)
            else:
                result.append(here)
                position += 1
        return "".join(result).strip()


_QUOTES = {"[": "]", "'": "'", "{": "}"}


def _parse_rule(line: str) -> Rule:
    """Parse `A => B` or `A => B / C __ D`; ValueError when it is neither, or A is empty."""
    old, rest = _split(line, "=>")
    try:
        new, context = _split(rest, "/")
        left, right = _split(context, "__")
    except ValueError:
        new, left, right = rest, "", ""
    rule = Rule(*(_unquoted(part.strip()) for part in (old, new, left, right)))
    if not rule.old:
        raise ValueError("a rule for nothing")
    return rule


def _split(text: str, separator: str) -> tuple[str, str]:
    """Split at the first separator that is not within quotes at the start.

    Raises:
        ValueError: there is no separator.
    """
    text = text.strip()
    end = text.find(_QUOTES[text[0]], 1) + 1 if text[:1] in _QUOTES else 0
    if not text[end:].lstrip().startswith(separator):
        end = 0
    place = text.index(separator, end)
    return text[:place], text[place + len(separator) :]


def _unquoted(string: str) -> str:
    """Strip the brackets or quotation marks that show where the spaces of a string are."""
    if len(string) >= 2 and string[0] + string[-1] in ("[]", "''"):
        return string[1:-1]
    return string


# Word graphs --------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """A word from one node of a graph to another, or no word (`@`)."""

    source: int
    target: int
    word: str
    optional: bool = False


class WordGraph:
    """A graph of word sequences: every path from node 0 to the last node may have been said.

    Attributes:
        edges: sorted by source; they lead to higher nodes.  The first stands for the beginning.
        before: for each edge, the numbers of those that end where it begins; of alternatives that
            are as good, sclite mostly takes the last, so that they come in reverse.
        last: the numbers of those that end the text.
    """

    def __init__(self, text: str):
        """Read `A { B / C D / @ } (E)`; NgtrainError when brackets do not match."""
        edges: list[Edge] = []
        optional, branch_start, branch_ends = False, None, []
        last = num_nodes = 0
        for token in _tokens(text):
            if token in "()":
                optional = token == "("
            elif token == "{" and branch_start is None:
                branch_start, branch_ends = last, []
            elif token in ("/", "}") and branch_start is not None:
                branch_ends.append(last)
                last = branch_start
                if token == "}":
                    last = num_nodes = num_nodes + 1
                    edges = [
                        e._replace(target=last) if e.target in branch_ends else e for e in edges
                    ]
                    branch_start = None
            elif token in "{}":
                raise NgtrainError(f"alternatives that do not end, or not begin: '{text}'")
            else:
                num_nodes += 1
                edges.append(Edge(last, num_nodes, "" if token == "@" else token, optional))
                last = num_nodes
        if branch_start is not None:
            raise NgtrainError(f"alternatives that do not end: '{text}'")
        self.edges = [Edge(-1, 0, ""), *sorted(edges)]
        ending_at: dict[int, list[int]] = {}
        for number, edge in enumerate(self.edges):
            ending_at.setdefault(edge.target, []).append(number)
        self.before = [ending_at.get(edge.source, [])[::-1] for edge in self.edges]
        self.last = ending_at[last][::-1]


def _tokens(text: str) -> list[str]:
    """Split into words and brackets; hyphens inside of words separate."""
    text = re.sub(r"([(){}])", r" \1 ", text)
    text = re.sub(r"\{[^{}]*\}", lambda match: match[0].replace("/", " / "), text)
    return re.sub(r"(?<=[^( ])-(?=[^) ])", " ", text).split()


# Alignment ----------------------------------------------------------------------------------------

SUBSTITUTION_COST, GAP_COST, OPTIONAL_GAP_COST, NO_WORD_COST = 4000, 3000, 2000, 1
"""Costs of sclite (wwd_WORD in word.c) in thousandths.  A gap stands against a word, an optional
word, which is no error there, or `@`."""


class WordAlignment(NamedTuple):
    """An alignment of two paths, with its cost."""

    cost: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    num_words: int = 0

    def then(self, cost: int, substitution=0, deletion=0, insertion=0, word=0) -> WordAlignment:
        return WordAlignment(
            self.cost + cost,
            self.substitutions + substitution,
            self.deletions + deletion,
            self.insertions + insertion,
            self.num_words + word,
        )

    def substituted(self, said: Edge, heard: Edge) -> WordAlignment:
        if matches(said.word, heard.word):
            return self.then(0, word=1)
        return self.then(SUBSTITUTION_COST, substitution=1, word=1)

    def inserted(self, heard: Edge) -> WordAlignment:
        if not heard.word:
            return self.then(NO_WORD_COST)
        if heard.optional:  # sclite counts it as a correct word
            return self.then(OPTIONAL_GAP_COST, word=1)
        return self.then(GAP_COST, insertion=1)

    def deleted(self, said: Edge) -> WordAlignment:
        if not said.word:
            return self.then(NO_WORD_COST)
        if said.optional:
            return self.then(OPTIONAL_GAP_COST, word=1)
        return self.then(GAP_COST, deletion=1, word=1)


def align(reference: WordGraph, hypothesis: WordGraph) -> WordAlignment:
    """Find the best alignment of any path of one graph with any path of the other.

    Of alignments that cost the same, sclite takes (calculate_internal_cells in net_dp.c), from the
    beginning on and for every two edges, the one that ends with their substitution (or match), then
    the one that ends with an insertion, then that with a deletion: so does this.
    """
    best: dict[tuple[int, int], WordAlignment] = {(0, 0): WordAlignment()}
    for r, said in enumerate(reference.edges):
        for h, heard in enumerate(hypothesis.edges):
            ways = []
            if r and h:
                before = [best[p, q] for p in reference.before[r] for q in hypothesis.before[h]]
                ways.append(_cheapest(before).substituted(said, heard))
            if h:
                ways.append(_cheapest([best[r, q] for q in hypothesis.before[h]]).inserted(heard))
            if r:
                ways.append(_cheapest([best[p, h] for p in reference.before[r]]).deleted(said))
            if ways:
                best[r, h] = _cheapest(ways)
    return _cheapest([best[r, h] for r in reference.last for h in hypothesis.last])


def _cheapest(paths: list[WordAlignment]) -> WordAlignment:
    """Choose the first of those that cost least."""
    return min(paths, key=_COST)


_COST = attrgetter("cost")


def matches(said: str, heard: str) -> bool:
    """True if two words are the same, as far as a fragment goes."""
    if said.endswith("-"):
        return heard.startswith(said[:-1])
    if said.startswith("-"):
        return heard.endswith(said[1:])
    return said == heard


# Transcripts with times ---------------------------------------------------------------------------


class Segment(NamedTuple):
    """A line of an STM file: the words of a speaker in one channel of a recording."""

    recording: str
    channel: str
    start: float
    end: float
    text: str

    @property
    def ignored(self) -> bool:
        return self.text.strip() == IGNORED


class TimedWord(NamedTuple):
    """A line of a CTM file: a word with its time."""

    recording: str
    channel: str
    start: float
    duration: float
    word: str


def read_stm(rxfilename: str) -> list[Segment]:
    """Read the segments; NgtrainError naming a line that is malformed."""
    segments = []
    for number, line in enumerate(text_lines(rxfilename), 1):
        if line.startswith(COMMENT) or not line.strip():
            continue
        try:
            recording, channel, _, start, end, *rest = line.split(maxsplit=5)
            segment = Segment(recording, channel, float(start), float(end), "".join(rest))
        except ValueError:
            reason = f"line {number} is no segment of an STM file"
            raise NgtrainError(f"{rxfilename}: {reason}") from None
        text = re.sub(r"^<[^>]*>", "", segment.text).strip()
        segments.append(segment._replace(text=text))
    return segments


def score(
    segments: Iterable[Segment],
    words: Iterable[TimedWord],
    reference_rules: MappingRules,
    hypothesis_rules: MappingRules,
) -> WordErrors:
    """Score words against the segments that they fall into, by the middle of their time.

    Words outside of all segments are insertions, and those in ignored segments do not count.
    """
    by_channel: dict[tuple[str, str], list[TimedWord]] = {}
    for word in words:
        by_channel.setdefault(_side(word), []).append(word)
    errors = WordErrors()
    for segment in sorted(segments):
        inside, outside = [], []
        for word in by_channel.get(_side(segment), []):
            middle = word.start + word.duration / 2
            (inside if segment.start <= middle < segment.end else outside).append(word)
        by_channel[_side(segment)] = outside
        if not segment.ignored:
            text = reference_rules.apply(_spaced(segment.text))
            _add(errors, text, _heard(inside, hypothesis_rules))
    for key, left in by_channel.items():
        if left and any(_side(s) == key for s in segments):
            _add(errors, "", _heard(left, hypothesis_rules))
    return errors


def _side(line: Segment | TimedWord) -> tuple[str, str]:
    """Return recording and channel; capitals do not count, as in sclite."""
    return line.recording.upper(), line.channel.upper()


def _add(errors: WordErrors, reference: str, hypothesis: str) -> None:
    path = align(WordGraph(reference), WordGraph(hypothesis))
    errors.num_words += path.num_words
    errors.substitutions += path.substitutions
    errors.deletions += path.deletions
    errors.insertions += path.insertions
    errors.num_sentences += 1
    errors.wrong_sentences += path.substitutions + path.deletions + path.insertions != 0


def _heard(words: Sequence[TimedWord], rules: MappingRules) -> str:
    """Join words in the order of their times; each is mapped alone, as in a CTM file."""
    ordered = sorted(words, key=lambda word: word.start)
    return " ".join(rules.apply(_spaced(word.word)) for word in ordered)


def _spaced(text: str) -> str:
    """Set parentheses apart from words, so that rules for words hold in them too."""
    return text.replace("(", "( ").replace(")", " )")
