"""Damage to files, of the kinds that happen and of the kinds that somebody may do on purpose.

A mutation takes good contents and returns bad ones, and draws what it does from a random.Random, so
that each input can be made again.
"""

import re
import struct
from collections.abc import Callable, Sequence
from random import Random

LONGEST = 1 << 16
"""Contents do not grow beyond this, or the longest of the seeds."""

_NUMBERS = (
    *(0, 1, 2, 3, -1, 4, 8, 127, 128, 255, 256, 32767, 65536),
    *(10**6, 1 << 24, 10**8, 1 << 30, 2**31 - 2, 2**31 - 1, -(2**31), -(2**31) + 1),
)
_WORDS = (
    *(b"nan", b"-nan", b"inf", b"-inf", b"1e400", b"-1e400", b"1e-400", b"0x10", b"1_0", b"-0"),
    *(b"99999999999999999999", b"9" * 5000, b"", b"-", b".", b"[", b"]", b"{", b"(", b"\xff\xfe"),
    *("\u0664".encode(), "\u00b2".encode(), b"\0", b"\0B", b"|", b"T", b"F", b"NULL"),
)
_REALS = (float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-45, -0.0)
_TOKEN = re.compile(rb"<[^<>\s]{1,40}>|[A-Za-z]+(?= )")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]*)?(?:e-?[0-9]+)?")
_WORD = re.compile(rb"[^\s]+")
_MARKED = re.compile(rb"[\x04\xfc]")

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]


def _slice(rng: Random, data: bytes, longest: int) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(begin + 1 + int(longest ** rng.random()), len(data))


def _replace_match(rng: Random, data: bytes, pattern: re.Pattern, new: bytes) -> bytes:
    """Put `new` for one of the matches of a pattern."""
    places = [match.span() for match in pattern.finditer(data)]
    if not places:
        return data
    begin, end = rng.choice(places)
    return data[:begin] + new + data[end:]


def truncate(rng, data, seeds):
    return data[: rng.randrange(len(data) + 1)]


def flip_bit(rng, data, seeds):
    if not data:
        return data
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(rng, data, seeds):
    begin, end = _slice(rng, data, 16)
    return data[:begin] + rng.randbytes(end - begin) + data[end:]


def delete(rng, data, seeds):
    begin, end = _slice(rng, data, 1000)
    return data[:begin] + data[end:]


def repeat(rng, data, seeds):
    """The same again and again: deep nesting, where there is some."""
    begin, end = _slice(rng, data, 200)
    count = int(2 ** (rng.random() * 12))
    return data[:begin] + data[begin:end] * count + data[end:]


def splice(rng, data, seeds):
    """A piece of other contents in the midst of these."""
    other = rng.choice(seeds)
    begin, end = _slice(rng, other, 1000)
    first, last = _slice(rng, data, 1000)
    return data[:first] + other[begin:end] + data[rng.choice((first, last)) :]


def swap_tokens(rng, data, seeds):
    tokens = _TOKEN.findall(rng.choice(seeds)) or [b"<Token>"]
    return _replace_match(rng, data, _TOKEN, rng.choice(tokens))


def swap_words(rng, data, seeds):
    words = _WORD.findall(rng.choice(seeds)) or [b"word"]
    return _replace_match(rng, data, _WORD, rng.choice((rng.choice(words), rng.choice(_WORDS))))


def set_number(rng, data, seeds):
    """A number of a text becomes huge, negative, or none."""
    new = rng.choice((str(rng.choice(_NUMBERS)).encode(), rng.choice(_WORDS)))
    return _replace_match(rng, data, _NUMBER, new)


def set_size(rng, data, seeds):
    """An integer after its size in bytes, as Kaldi writes them, becomes huge or negative."""
    places = [match.start() + 1 for match in _MARKED.finditer(data)] or [0]
    begin = rng.choice(places)
    return data[:begin] + struct.pack("<i", rng.choice(_NUMBERS)) + data[begin + 4 :]


def set_bytes(rng, data, seeds):
    """The same anywhere, and of other sizes."""
    begin = rng.randrange(len(data) + 1)
    new = struct.pack(rng.choice(("<i", "<q", ">i")), rng.choice(_NUMBERS))
    return data[:begin] + new + data[begin + len(new) :]


def set_real(rng, data, seeds):
    begin = rng.randrange(len(data) + 1)
    new = struct.pack(rng.choice(("<f", "<d")), rng.choice(_REALS))
    return data[:begin] + new + data[begin + len(new) :]


def random_bytes(rng, data, seeds):
    return data[: rng.randrange(8)] + rng.randbytes(rng.randrange(64))


MUTATIONS: tuple[Mutation, ...] = (
    *(truncate, flip_bit, flip_bit, overwrite, delete, repeat, splice, swap_tokens, swap_words),
    *(set_number, set_number, set_size, set_size, set_bytes, set_real, random_bytes),
)


def mutated(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """One of `seeds` after one to four mutations."""
    data, longest = rng.choice(seeds), max(LONGEST, *map(len, seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = rng.choice(MUTATIONS)(rng, data, seeds)[:longest]
    return data
