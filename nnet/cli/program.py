"""Kaldi's command line, over click, for every program of the project.

A program is one page: a docstring (what it does), its usage, its arguments and options, and one
call into the library.  Everything else that a user meets is here: how options are written,
``--config`` files, the echo of the command line, log lines, errors in one line, exit statuses.

    @program("Usage:  nnet-am-copy [options] <nnet-in> <nnet-out>")
    @argument("nnet_in", "nnet_out")
    @option("--binary", True, "Write output in binary mode")
    def main(nnet_in, nnet_out, binary): ...

Syntax and standard options follow Kaldi's util/parse-options.cc.  The function returns its exit
status, or None for 0.  This module imports neither numpy nor anything that does, so that ``--help``
answers at once and so that ``--num-threads`` is known before numpy starts its threads.
"""

import gc
import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from nnet import __version__
from nnet.cli import environment
from nnet.cli.config_files import find_config
from nnet.errors import NgtrainError
from nnet.io.descriptors import reserve_standard_descriptors
from nnet.io.ending import end_on_signals

try:
    import click
    from click import Choice
    from click.core import ParameterSource
except ImportError as error:
    environment.without_packages(error)

log = logging.getLogger("ngtrain")

# Importing makes many objects, none of which is garbage; by default Python looks every 700.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


def program(usage: str, cls: type | None = None, **attributes) -> Callable[[Callable], "Program"]:
    """Make a program of a function; `usage` is printed as it stands, `cls` is a kind of Program.

    `attributes` are for `cls`.  The docstring of the function's module is what ``--help`` says
    above the usage.
    """

    def decorate(function: Callable) -> Program:
        description = (function.__globals__["__doc__"] or "").strip()  # Python -OO has none
        given = {"help": description, **attributes}
        return click.command(cls=cls or Program, usage=usage, **given)(function)

    return decorate


_MOST = 2**31 - 1  # Kaldi's integers have 32 bits
_LARGEST = (2 - 2**-23) * 2.0**127  # and so have its real numbers


def integer(least: int | None = None, most: int | None = None) -> click.IntRange:
    """Make the type of an option that is an integer in a range; both ends belong to it."""
    return click.IntRange(-_MOST - 1 if least is None else least, _MOST if most is None else most)


def real(
    least: float | None = None, most: float | None = None, *, above: float | None = None
) -> click.FloatRange:
    """Make the type of an option that is a finite number, from `least` on, or `above` a value.

    NaN would pass every later comparison, and infinity few; a limit whose default is infinity may
    be that.
    """
    return _Real(least if above is None else above, most, min_open=above is not None)


class _Real(click.FloatRange):
    def convert(self, value, param, ctx) -> float:
        number = super().convert(value, param, ctx)
        if not abs(number) <= _LARGEST and number != param.default:
            self.fail(f"{value} is not a finite number of 32 bits.", param, ctx)
        return number


def argument(*names: str, type=str, nargs: int = 1, required: bool = True) -> Callable:
    """Declare positional arguments, passed to the function by name (as a tuple if nargs is -1)."""
    type = integer() if type is int else type

    def decorate(function: Callable) -> Callable:
        for name in reversed(names):
            shown = f"<{name.replace('_', '-')}>"
            declare = click.argument(name, type=type, nargs=nargs, required=required, metavar=shown)
            function = declare(function)
        return function

    return decorate


def option(
    name: str, default=None, help: str = "", *more_names: str, type=None, **bounds: float
) -> Callable:
    """Declare an option ``--some-name=VALUE``, passed to the function as `some_name`.

    Its type is that of the default, unless `type` says otherwise: ``Choice([...])``, or what it is
    where the default is None, "not given".  `bounds` of a number are `least`, `most` and `above`.
    `more_names` are a short name such as ``-f``, or the function's parameter, for options such as
    ``--lambda``.
    """
    type = type or (str if default is None else default.__class__)
    if type in (int, float):
        type = (integer if type is int else real)(**bounds)
    return click.option(name, *more_names, type=type, default=default, help=help, is_flag=False)


class Program(click.Command):
    """A click command that reads options as Kaldi does and ends as a program should."""

    STANDARD = frozenset({"config", "help", "print_args", "verbose", "num_threads", "no_pipes"})

    def __init__(self, *args, usage: str, **kwargs):
        super().__init__(
            *args, add_help_option=False, context_settings={"max_content_width": 100}, **kwargs
        )
        self.usage = usage.strip()
        own = {parameter.name for parameter in self.params}
        self.standard_options = [
            o for o in _standard.params if o.name in self.STANDARD and o.name not in own
        ]
        self.params.extend(self.standard_options)

    @property
    def options(self) -> dict[str, click.Option]:
        """Options by the name they have on the command line."""
        return {o: p for p in self.params if isinstance(p, click.Option) for o in p.opts}

    # The command line -----------------------------------------------------------------------------

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `args` by Kaldi's rules: config files first, then the command line over them."""
        ctx.meta["command line"] = shlex.join([ctx.info_name, *args])
        if not args and any(p.required for p in self.params):
            click.echo(self.get_help(ctx), err=True)
            ctx.exit(1)
        options, arguments, late = _split_command_line(args)
        given = [self._parse_option(text) for text in options]
        for text in late:
            self.option_named(text.partition("=")[0])
            raise NgtrainError(f"option {text} stands after an argument: options come first")
        if any(name == "--help" and value != "false" for name, value in given):
            click.echo(self.get_help(ctx))
            ctx.exit()
        configured = [
            self._parse_option(text, f" in config file {value}")
            for name, value in given
            if name == "--config"
            for text in read_config(value)
        ]
        canonical = [f"{name}={value}" for name, value in configured + given]
        return super().parse_args(ctx, [*canonical, "--", *arguments])

    def _parse_option(self, text: str, where: str = "") -> tuple[str, str]:
        """Split ``--Some_name=value`` into ("--some-name", "value"), if there is such an option."""
        key, equals, value = text.partition("=")
        name, option = self.option_named(key, where)
        value = value.strip()
        if not equals and option.type is click.BOOL:
            return name, "true"
        if not equals or (not value and not isinstance(option.type, click.types.StringParamType)):
            raise NgtrainError(f"option {key}{where} needs a value: {name}={_values(option)}")
        return name, value

    def option_named(self, key: str, where: str = "") -> tuple[str, click.Option]:
        """Find the option that ``--Some_name`` stands for, and its name as it is declared.

        Raises:
            NgtrainError: there is no such option.
        """
        name = key.lower().replace("_", "-")
        if name not in self.options:
            raise NgtrainError(f"there is no option {key}{where}{_hint(name, self.options)}")
        return name, self.options[name]

    # What --help says -----------------------------------------------------------------------------

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what it does, the usage, then the options with their defaults."""
        formatter.write(f"{self.help}\n\n{self.usage}\n")
        own = [o for o in self.options.values() if o not in self.standard_options]
        for title, options in ("Options", own), ("Standard options", self.standard_options):
            if options:
                with formatter.section(title):
                    formatter.write_dl([help_row(o) for o in options], col_max=32)

    # The run --------------------------------------------------------------------------------------

    def called(self, path: str) -> str:
        """Return the name in messages of the program at `path`."""
        return os.path.basename(path)

    def log_formatter(self, name: str) -> logging.Formatter:
        """Make the formatter of log lines, such as ``LOG (nnet-am-copy[0.1.0]) Wrote ...``."""
        return logging.Formatter(f"%(levelname)s ({name}[{__version__}]) %(message)s")

    def main(self, args: list[str] | None = None, **_) -> NoReturn:
        """Run as a process: errors become one line on standard error and an exit status."""
        reserve_standard_descriptors()
        name = self.called(sys.argv[0])
        environment.set_up()
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
        _start_logging(self.log_formatter(name))
        # Keys may hold any bytes, and come out as they came in, whatever the locale.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        end_on_signals()
        try:
            try:
                given = sys.argv[1:] if args is None else list(args)
                if given[:1] == ["--version"]:
                    click.echo(f"{name} {__version__}")
                    raise click.exceptions.Exit(0)
                given = ["--help"] if given[:1] == ["-h"] else given
                with self.make_context(name, given) as ctx:
                    status = self.invoke(ctx) or 0
            finally:
                _flush_results()
        except click.exceptions.Exit as request:
            status = request.exit_code
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        except BrokenPipeError:
            status = 128 + signal.SIGPIPE
        except Exception as error:
            log.debug("the error was raised here:", exc_info=error)
            log.error(self._explain(error))
            status = 1
        gc.freeze()  # spares a last collection of what ends with the process
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> int | None:
        """Do what the standard options say, then call the program's function."""
        self.set_num_threads(ctx)
        standard = {option.name: ctx.params.pop(option.name) for option in self.standard_options}
        if standard.get("print_args"):
            print(ctx.meta["command line"], file=sys.stderr)
        _set_verbosity(standard["verbose"])
        if standard.get("no_pipes"):
            from nnet.io.pipes import refuse_pipes

            refuse_pipes()
        self.select_device(ctx)
        return super().invoke(ctx)

    def select_device(self, ctx: click.Context) -> None:
        """Do what --use-gpu says, if the program has it."""
        if "use_gpu" in ctx.params:
            from nnet.device import select_device

            use_gpu, tf32 = ctx.params.pop("use_gpu"), ctx.params.pop("tf32", False)
            ctx.params["device"] = select_device(use_gpu, tf32)

    def set_num_threads(self, ctx: click.Context) -> None:
        """Tell nnet.device.threads, unless the user has done so in the environment.

        One thread is the default because the drivers run one job per core.  A program that has a
        --num-threads of its own divides its work itself.  OpenBLAS is told to have one whatever
        is asked for, because its results depend on how many it has.
        """
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        given = [os.environ[variable] for variable in variables if variable in os.environ]
        is_ours = any(option.name == "num_threads" for option in self.standard_options)
        asked_for = ctx.get_parameter_source("num_threads") is ParameterSource.COMMANDLINE
        if (asked_for and is_ours) or not given:
            count = ctx.params["num_threads"] if is_ours else 1
            os.environ.update(dict.fromkeys(variables, str(count)))
        elif "OMP_NUM_THREADS" not in os.environ:
            os.environ["OMP_NUM_THREADS"] = given[0]
        os.environ["OPENBLAS_NUM_THREADS"] = "1"

    def _explain(self, error: Exception) -> str:
        """Explain an error in one line."""
        match error:
            case NgtrainError():
                text = str(error)
            case click.BadParameter(param=click.Option()):
                text = error.format_message()
            case click.ClickException():
                text = f"{error.format_message()} {self.usage.splitlines()[0]}"
            case OSError(filename=str() | bytes() as filename):
                text = f"{os.fsdecode(filename)}: {error.strerror}"
            case OSError(strerror=str() as reason):
                text = f"standard output or an open file: {reason}"
            case MemoryError():
                text = f"out of memory: {error}"
            case _:
                text = f"{type(error).__name__}: {error} (--verbose=1 shows where)"
        return " ".join(text.splitlines())


@click.command
@option(
    "--config",
    "",
    "Read options from this file first (may be repeated); conf/... is looked for in the current "
    "folder, then in the project's root",
)
@option("--help", False, "Print this message")
@option("--print-args", True, "Print the command line to stderr")
@option("--verbose", 0, "The higher, the more is logged")
@option("--num-threads", 1, "Threads, on which no result depends", least=1)
@option(
    "--no-pipes",
    False,
    "Refuse commands in the names of files and in script files, to be read or written (as with "
    "NGTRAIN_NO_PIPES=1 in the environment): for data from others",
)
def _standard(**_):
    """Have the options of all programs; the first two act while the command line is read."""


def _split_command_line(args: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split into options, arguments, and options among these; a lone ``--`` ends options."""
    count = next((i for i, arg in enumerate(args) if not arg.startswith("--") or arg == "--"), None)
    options, arguments = args[:count], args[count:] if count is not None else []
    if "--" in arguments:
        end = arguments.index("--")
        return options, arguments[:end] + arguments[end + 1 :], []
    return options, arguments, [arg for arg in arguments if arg.startswith("--")]


def read_config(filename: str) -> list[str]:
    """Read the lines ``--name=value`` of a config file, without comments.

    Raises:
        NgtrainError: it cannot be read, or a line is not of this form.
    """
    from nnet.io.text import text_lines

    filename = find_config(filename)
    lines = [line.partition("#")[0].strip() for line in text_lines(filename)]
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("--"):
            raise NgtrainError(f"{filename}: line {number} is not of the form --name=value: {line}")
    return [line for line in lines if line]


def _hint(name: str, known: dict[str, click.Option]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=2)
    return f" (is it {' or '.join(close)}?)" if close else ""


def _values(option: click.Option) -> str:
    """Describe the values that an option takes."""
    if isinstance(option.type, Choice):
        return "|".join(option.type.choices)
    return _VALUES[option.type.name]


_VALUES = {
    "boolean": "true|false",
    "text": "<string>",
    "integer range": "<int>",
    "float range": "<float>",
}


def help_row(option: click.Option) -> tuple[str, str]:
    """Describe an option: how it is written, and what it does, with its default."""
    match option.default:
        case bool():
            default = str(option.default).lower()
        case float():
            default = f"{option.default:g}"
        case None | "":
            default = "none"
        case _:
            default = str(option.default)
    return f"{option.opts[0]}={_values(option)}", f"{option.help} (default = {default})"


def _start_logging(formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    log.handlers[:] = [handler]
    logging.addLevelName(logging.INFO, "LOG")  # as Kaldi's base/kaldi-error.cc has it
    for level in range(1, logging.DEBUG + 1):
        logging.addLevelName(level, f"VLOG[{logging.DEBUG + 1 - level}]")
    _set_verbosity(0)

    def show_warning(message, category, *_):
        log.warning("%s: %s", category.__name__, message)

    warnings.showwarning = show_warning  # such as NumPy's, of an overflow


def _set_verbosity(level: int) -> None:
    """Show log.debug at verbose level 1, and at level n what is logged at logging.DEBUG + 1 - n."""
    log.setLevel(logging.INFO if level <= 0 else max(1, logging.DEBUG + 1 - level))


def _flush_results() -> None:
    """Write what was printed.  When that fails, Python must not try once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
