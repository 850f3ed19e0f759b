"""Typed sets of options, each of which says which parts of a training it affects.

A set is a dataclass; its fields are options of the same names, in order:

    @dataclass(frozen=True, kw_only=True)
    class TrainingOptions:
        num_epochs: float = setting(15.0, ITERATIONS, "Passes over the data", above=0)

A training that was begun can go on with another value of an option as long as nothing that the
option affects has been made.  Values are compared, not their text: 0.10 is 0.1, and white space
between words does not count.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Flag
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import click

from nnet.drivers.driver import Choice, argument, decorated_by, driver, flag, option
from nnet.errors import NgtrainError

Part = Flag("Part", "TRANSFORM EXAMPLES NETWORK ITERATIONS REALIGNMENT COMBINATION PRIORS")
"""Parts of the work of a training, in order."""

TRANSFORM, EXAMPLES, NETWORK, ITERATIONS, REALIGNMENT, COMBINATION, PRIORS = Part
NOTHING, ANYTHING = Part(0), ~Part(0)

Declaration = Callable[[Callable], Callable]
"""A decorator that gives a driver's function an option or an argument."""


@dataclass(frozen=True)
class TrainingSetting:
    """An option, and what a training must know of it.

    affects: the parts whose result depends on it.
    means: makes of its text what is compared with its value in another run.
    """

    affects: Part
    means: Callable[[str], Any]
    declaration: Declaration

    def same(self, text: str, other: str) -> bool:
        """Tell whether two texts are the same value."""
        try:
            return self.means(text) == self.means(other)
        except (ValueError, NgtrainError):  # such as None for a number that is not given
            return text.split() == other.split()


def setting(
    default: Any, affects: Part, help: str, *, choices: Sequence[str] = (),
    means: Callable[[str], Any] | None = None, **bounds: float,
) -> Any:  # fmt: skip
    """Make a field of a set that is an option; its type is the field's.

    default: None for "not given".
    means: of its text, what is compared; of numbers the number, of words these, if not given.
    bounds: of a number, as those of option().
    """

    def make(name: str, kind: type) -> TrainingSetting:
        type_ = Choice(choices) if choices else kind
        declaration = option(flag(name), default, help, type=type_, **bounds)
        compared = means or (float if kind in (int, float) else str.split)
        return TrainingSetting(affects, compared, declaration)

    return field(default=default, metadata={"make": make})


def shared(declaration: Declaration, affects: Part) -> Any:
    """Make a field of a set that is an option which other drivers have, too."""
    (declared,) = click.command()(declaration(lambda: None)).params
    made = TrainingSetting(affects, str.split, declaration)
    return field(default=declared.default, metadata={"make": lambda *_: made})


def positional(affects: Part, *, means: Callable[[str], Any] = str.split) -> Any:
    """Make a field of a set that is an argument."""
    return field(metadata={"make": lambda name, _: TrainingSetting(affects, means, argument(name))})


@cache
def settings_of(options: type) -> Mapping[str, TrainingSetting]:
    """List the settings of a set of options, by name, in order."""
    hints = get_type_hints(options).items()
    kinds = {name: (*get_args(hint), hint)[0] for name, hint in hints}  # int of int | None
    return {
        each.name: each.metadata["make"](each.name, kinds[each.name]) for each in fields(options)
    }


def options_from(options: type) -> Declaration:
    """Make a decorator that gives a driver all options of a set."""
    return decorated_by(*(each.declaration for each in settings_of(options).values()))


Options = TypeVar("Options")


def read_words(options: type[Options], words: Iterable[Any]) -> Options:
    """Read a command line as the driver does that has these options.  Raises NgtrainError."""
    reader = driver("")(options_from(options)(lambda **_: None))
    try:
        given = reader.make_context("", list(map(str, words))).params
    except click.ClickException as error:
        raise NgtrainError(error.format_message()) from None
    except click.exceptions.Exit:
        raise NgtrainError("--help is no option of a training") from None
    return options(**{name: given[name] for name in settings_of(options)})


def path(text: str) -> str:
    """Follow a path to a file or directory, by whatever way it is named."""
    return os.path.realpath(text) if text else ""


def reals(text: str) -> list[float]:
    """Read numbers between white space."""
    return [float(word) for word in text.split()]


def words_of(text: str) -> list[str]:
    """Split a text into words, in which quotes keep white space.  Raises NgtrainError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise NgtrainError(f"'{text}': {error}") from None


def effects_of(options: type) -> Callable[[str], dict[str, Any]]:
    """Make a function that reads a text as options of a set, and keeps those that affect a part."""
    kept = [name for name, each in settings_of(options).items() if each.affects]

    def means(text: str) -> dict[str, Any]:
        given = read_words(options, words_of(text))
        return {name: getattr(given, name) for name in kept}

    return means
