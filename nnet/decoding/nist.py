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
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import add, attrgetter
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
        rules = [Rule(*(part.upper() for part in rule)) for rule in rules]
        self._new = [rule.new for rule in rules]
        # The empty group at the end of each rule tells which one it was.
        patterns = (
            f"(?<={re.escape(left)}){re.escape(old)}(?={re.escape(right)})()"
            for old, _, left, right in rules
        )
        self._any_rule = re.compile("|".join(patterns) or "(?!)")
        self.apply = lru_cache(maxsize=1 << 16)(self._apply)

    @classmethod
    def load(cls, rxfilename: str, kinds: Sequence[str]) -> MappingRules:
        """Read rules for texts of `kinds`, such as ("stm", "ref"); NgtrainError for a bad line."""
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
        return self._any_rule.sub(lambda match: self._new[match.lastindex - 1], text).strip()


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
    """Split at the first separator, but not in quotes at the start; ValueError without one."""
    quoted = re.match(rf"\s*(\[[^]]*\]|'[^']*'|\{{[^}}]*\}})(?=\s*{separator})", text)
    place = text.index(separator, quoted.end() if quoted else 0)
    return text[:place], text[place + len(separator) :]


def _unquoted(string: str) -> str:
    """Strip the brackets or quotation marks that show where the spaces of a string are."""
    return string[1:-1] if re.fullmatch(r"\[.*\]|'.*'", string) else string


# Word graphs --------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """A word from one node of a graph to another, or no word (`@`)."""

    source: int
    target: int
    word: str
    optional: bool = False


class WordGraph:
    """A graph of word sequences: every path from node 0 to the last node may have been said.

    edges: sorted by source; they lead to higher nodes.  The first stands for the beginning.
    before: for each edge, the numbers of those that end where it begins; of alternatives that are
    as good, sclite mostly takes the last, so that they come in reverse.
    last: the numbers of those that end the text.
    """

    def __init__(self, text: str):
        """Read `A { B / C D / @ } (E)`; NgtrainError when brackets do not match."""
        edges: list[Edge] = []
        optional, branch_start, branch_ends = False, None, set()
        last = num_nodes = 0
        for token in _tokens(text):
            if token in "()":
                optional = token == "("
            elif token == "{" and branch_start is None:
                branch_start, branch_ends = last, set()
            elif token == "/" and branch_start is not None:
                branch_ends.add(last)
                last = branch_start
            elif token == "}" and branch_start is not None:
                branch_ends.add(last)
                last = num_nodes = num_nodes + 1
                edges = [e._replace(target=last) if e.target in branch_ends else e for e in edges]
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
        ending_at = defaultdict(list)
        for number, edge in reversed(list(enumerate(self.edges))):
            ending_at[edge.target].append(number)
        self.before = [ending_at[edge.source] for edge in self.edges]
        self.last = ending_at[last]


def _tokens(text: str) -> list[str]:
    """Split into words and brackets; hyphens inside of words separate."""
    text = re.sub(r"([(){}])", r" \1 ", text)
    text = re.sub(r"\{[^{}]*\}", lambda match: match[0].replace("/", " / "), text)
    return re.sub(r"(?<=[^( ])-(?=[^) ])", " ", text).split()


# Alignment ----------------------------------------------------------------------------------------


class WordAlignment(NamedTuple):
    """An alignment of two paths, or a step of one: its cost, and what it counts in WordErrors."""

    cost: int = 0
    num_words: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0

    def then(self, step: WordAlignment) -> WordAlignment:
        return WordAlignment(*map(add, self, step))


# With the costs of sclite (wwd_WORD in word.c) in thousandths.
MATCH = WordAlignment(0, num_words=1)
SUBSTITUTION = WordAlignment(4000, num_words=1, substitutions=1)
INSERTION = WordAlignment(3000, insertions=1)
DELETION = WordAlignment(3000, num_words=1, deletions=1)
OPTIONAL_GAP = WordAlignment(2000, num_words=1)  # sclite counts the word as correct
NO_WORD = WordAlignment(1)


def align(reference: WordGraph, hypothesis: WordGraph) -> WordAlignment:
    """Find the best alignment of any path of one graph with any path of the other.

    Of alignments that cost the same, sclite takes (calculate_internal_cells in net_dp.c), from the
    beginning on and for every two edges, the one that ends with their substitution (or match), then
    the one that ends with an insertion, then that with a deletion: so does this.
    """
    best: dict[tuple[int, int], WordAlignment] = {}
    for r, said in enumerate(reference.edges):
        for h, heard in enumerate(hypothesis.edges):
            pair = MATCH if matches(said.word, heard.word) else SUBSTITUTION
            insertion, deletion = _gap(heard, INSERTION), _gap(said, DELETION)
            before_r, before_h = reference.before[r], hypothesis.before[h]
            best[r, h] = _cheapest(
                *(best[p, q].then(pair) for p in before_r for q in before_h),
                *(best[r, q].then(insertion) for q in before_h),
                *(best[p, h].then(deletion) for p in before_r),
            )
    return _cheapest(*(best[r, h] for r in reference.last for h in hypothesis.last))


def _gap(edge: Edge, error: WordAlignment) -> WordAlignment:
    """A step along an edge that has no counterpart, which is an `error` if a word must be there."""
    return NO_WORD if not edge.word else OPTIONAL_GAP if edge.optional else error


def _cheapest(*paths: WordAlignment) -> WordAlignment:
    """Choose the first of those that cost least; nothing costs nothing, at the beginning."""
    return min(paths, key=attrgetter("cost"), default=WordAlignment())


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
            text = re.sub(r"^<[^>]*>", "", "".join(rest)).strip()
            segments.append(Segment(recording, channel, float(start), float(end), text))
        except ValueError:
            where = f"{rxfilename}: line {number}"
            raise NgtrainError(f"{where} is no segment of an STM file") from None
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
    by_channel = defaultdict(list)
    for word in sorted(words, key=attrgetter("start")):
        by_channel[_side(word)].append(word)
    pairs = []  # of a reference and the words for it
    for segment in sorted(segments):
        inside, outside = [], []
        for word in by_channel[_side(segment)]:
            middle = word.start + word.duration / 2
            (inside if segment.start <= middle < segment.end else outside).append(word)
        by_channel[_side(segment)] = outside
        if not segment.ignored:
            pairs.append((reference_rules.apply(_spaced(segment.text)), inside))
    sides = {_side(segment) for segment in segments}
    pairs += [("", left) for side, left in by_channel.items() if left and side in sides]
    errors = WordErrors()
    for reference, heard in pairs:
        # Each word is mapped alone, as in a CTM file.
        hypothesis = " ".join(hypothesis_rules.apply(_spaced(word.word)) for word in heard)
        errors.count(*align(WordGraph(reference), WordGraph(hypothesis))[1:])
    return errors


def _side(line: Segment | TimedWord) -> tuple[str, str]:
    """Return recording and channel; capitals do not count, as in sclite."""
    return line.recording.upper(), line.channel.upper()


def _spaced(text: str) -> str:
    """Set parentheses apart from words, so that rules for words hold in them too."""
    return text.replace("(", "( ").replace(")", " )")
