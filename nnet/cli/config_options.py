"""Groups of options that a program declares, or a file of options has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from click import ClickException

from nnet.cli import program, read_config
from nnet.errors import NgtrainError

Decorator = Callable[[Callable], Callable]


def options(*declared: Decorator) -> Decorator:
    """Make one decorator of several, which stand in its order in what --help says."""

    def decorate(function: Callable) -> Callable:
        for declare in reversed(declared):
            function = declare(function)
        return function

    return decorate


def read_options(declared: Decorator, filename: str) -> dict[str, Any]:
    """Read a file of options that a decorator declares, with their defaults; "" has none.

    Raises:
        NgtrainError: the file cannot be read, or has another option or a bad value.
    """

    @program("")
    @declared
    def reader(**_):
        """Hold options."""

    given = read_config(filename) if filename else []
    try:
        context = reader.make_context(filename, given)
    except NgtrainError as error:
        raise NgtrainError(f"config file {filename}: {error}") from None
    except ClickException as error:
        raise NgtrainError(f"config file {filename}: {error.format_message()}") from None
    with context:
        standard = {parameter.name for parameter in reader.standard_options}
        return {name: value for name, value in context.params.items() if name not in standard}
