"""What is known of a training's options: what each may be, and which part of the work it affects.

A training that was begun can go on with another value of an option as long as nothing that the
option affects has been made.  Values are compared, not their text: 0.10 is 0.1, and white space
between words does not count.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import click

from nnet.drivers.data_dir import write_lines
from nnet.drivers.driver import Driver, option
from nnet.drivers.training_files import models, models_of_jobs, relabelled_egs
from nnet.errors import NgtrainError
from nnet.report.training_logs import read_options


class Part(Flag):
    """Parts of the work, in order."""

    TRANSFORM = auto()
    EXAMPLES = auto()
    NETWORK = auto()
    ITERATIONS = auto()
    REALIGNMENT = auto()
    COMBINATION = auto()
    PRIORS = auto()


TRANSFORM, EXAMPLES, NETWORK, ITERATIONS, REALIGNMENT, COMBINATION, PRIORS = Part
NOTHING, ANYTHING = Part(0), ~Part(0)


@dataclass(frozen=True)
class Setting:
    """What is known of an option beside its declaration.

    affects: the parts whose result depends on it.
    means: makes of its text what is compared with its value in another run.
    """

    affects: Part
    means: Callable[[str], Any] = str.split

    def same(self, text: str, other: str) -> bool:
        """Whether two texts are the same value."""
        try:
            return self.means(text) == self.means(other)
        except (ValueError, NgtrainError):  # such as None for a number that is not given
            return text.split() == other.split()


SETTINGS: dict[str, Setting] = {}
"""By the name of the parameter."""


def setting(
    flag: str,
    *,
    affects: Part = NOTHING,
    means: Callable[[str], Any] | None = None,
    type: click.ParamType | type = str,
    **declaration,
) -> Callable:
    """An option, as nnet.drivers.driver.option() makes it, and what is known of it."""
    number = isinstance(type, click.IntRange | click.FloatRange) or type in (int, float)
    name = flag.removeprefix("--").replace("-", "_")
    SETTINGS[name] = Setting(affects, means or (float if number else str.split))
    return option(flag, type=type, **declaration)


def shared(declare: Callable, *names: str, affects: Part = NOTHING) -> Callable:
    """Options that other drivers have, too."""
    SETTINGS.update({name: Setting(affects) for name in names})
    return declare


# What values mean ---------------------------------------------------------------------------------


def path(text: str) -> str:
    """A file or directory, by whatever way it is named."""
    return os.path.realpath(text) if text else ""


def reals(text: str) -> list[float]:
    """Numbers between white space."""
    return [float(word) for word in text.split()]


def words_of(text: str) -> list[str]:
    """The words of a text, in which quotes keep white space.  Raises NgtrainError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise NgtrainError(f"'{text}': {error}") from None


def options_of(step: Driver, words: Iterable[str]) -> dict[str, Any]:
    """The options of another driver that words say, and its defaults for the others.

    Raises NgtrainError where the driver would refuse them.
    """
    arguments = [p.name for p in step.params if isinstance(p, click.Argument)]
    try:
        return step.make_context(step.name, [*map(str, words), *arguments]).params
    except click.ClickException as error:
        raise NgtrainError(error.format_message()) from None
    except click.exceptions.Exit:
        raise NgtrainError("--help is no option of a training") from None


WITHOUT_EFFECT = {"cmd", "io_opts", "stage", "config", "help", "print_args", "verbose"}
"""Options of the steps that do not change what they make."""


def effective_options(step: Driver) -> Callable[[str], dict[str, Any]]:
    """A function from a text to options_of() a step, but for those that change no result."""

    def means(text: str) -> dict[str, Any]:
        given = options_of(step, words_of(text))
        return {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}

    return means


# A directory that was begun -----------------------------------------------------------------------


def parts_made(directory: Path, egs_are_there: bool) -> Part:
    """The parts of which something has been made; those before it have been then."""
    made = {
        TRANSFORM: (directory / "lda.mat").exists(),
        EXAMPLES: egs_are_there,
        NETWORK: bool(models(directory)),
        ITERATIONS: bool(models_of_jobs(directory)) or max(models(directory), default=0) > 0,
        REALIGNMENT: bool(relabelled_egs(directory)),  # the one that need not be
        COMBINATION: any((directory / f"{name}.mdl").exists() for name in ("combined", "final")),
        PRIORS: (directory / "final.mdl").exists(),
    }
    last = max((part.value for part, is_there in made.items() if is_there), default=0)
    parts = [part for part in Part if part.value <= last]
    return reduce(or_, (p for p in parts if p is not REALIGNMENT or made[p]), NOTHING)


def changed_options(directory: Path, options: Mapping[str, Any], made: Part) -> list[str]:
    """Which options are others than a directory was begun with, of those that affect parts made.

    A line for each: what it was and is.
    """
    before = read_options(directory / "train_options")
    return [
        f"{name.replace('_', '-')} was '{before[name]}' and is '{as_text(value)}'"
        for name, value in sorted(options.items())
        if SETTINGS[name].affects & made
        and name in before
        and not SETTINGS[name].same(before[name], as_text(value))
    ]


def write_options(directory: Path, options: Mapping[str, Any]) -> None:
    """Write down what a training is done with: lines "name value"."""
    lines = [f"{name} {as_text(value)}" for name, value in sorted(options.items())]
    write_lines(directory / "train_options", lines)


def as_text(value: Any) -> str:
    """A value in one line; nothing for an option that is not given."""
    return "" if value is None else " ".join(str(value).split())
