"""What all components share: fields declared once, files, config lines, info lines, arithmetic.

A component declares its ``fields`` in the order in which Kaldi writes them::

    @component_type
    class PnormComponent(Component):
        fields = (
            Field("input_dim", "InputDim", INTEGER, option="input-dim"),
            Field("output_dim", "OutputDim", INTEGER, option="output-dim"),
            Field("p", "P", REAL, option="p", default=2.0, label="p"),
        )

From this come the constructor's keyword arguments, the text and binary forms, the options of a line
of an nnet-init config, and what nnet-am-info prints.  A class adds what it computes.

Formats are those of Kaldi's nnet2/nnet-component.cc, older ones that Kaldi still reads included.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from nnet.components.layout import FrameLayout
from nnet.device.backend import Array, Workspace, array_module, to_device, to_host
from nnet.errors import NgtrainError
from nnet.io.numbers import integer
from nnet.io.tokens import Reader, Writer

REQUIRED: Any = object()
"""A default that means: there is none."""


@dataclass(frozen=True)
class Kind:
    """How values of one type are read from a file, written to it, and read from a config line."""

    read: Callable[[Reader], Any]
    write: Callable[[Writer, Any], None]
    parse: Callable[[str], Any] | None = None
    dtype: type | None = None
    """Of the arrays; None for what is not an array."""


def single(x: float) -> float:
    """`x` to the precision of Kaldi's BaseFloat."""
    return float(np.float32(x))


def _parse_boolean(text: str) -> bool:
    return {"t": True, "f": False}[text[:1].lower()]


def _parse_integers(text: str) -> tuple[int, ...]:
    return tuple(integer(part) for part in text.split(":"))


def _array_kind(name: str, dtype: type) -> Kind:
    """Vectors or matrices: of `dtype` on the selected device, of single precision in files."""
    return Kind(
        read=lambda reader: to_device(getattr(reader, name)(dtype)),
        write=lambda writer, x: getattr(writer, name)(to_host(x).astype(np.float32)),
        dtype=dtype,
    )


INTEGER = Kind(lambda r: r.integer(), lambda w, x: w.integer(x), integer)
REAL = Kind(lambda r: single(r.real()), lambda w, x: w.real(x), lambda text: single(float(text)))
DOUBLE = Kind(lambda r: r.real(), lambda w, x: w.double(x))
BOOLEAN = Kind(lambda r: r.boolean(), lambda w, x: w.boolean(x), _parse_boolean)
INTEGERS = Kind(
    lambda r: tuple(r.integers().tolist()),
    lambda w, x: w.integers(x),
    _parse_integers,
)
VECTOR = _array_kind("vector", np.float32)
MATRIX = _array_kind("matrix", np.float32)
STATISTICS = _array_kind("vector", np.float64)


@dataclass(frozen=True)
class Field:
    """One value that a component keeps in files.

    name: the attribute; None for what older files have and nobody needs.
    token: what stands before the value, without the angle brackets.
    option: its key in a config line; None where it cannot be given there.
    default: its value where the config line does not give it; REQUIRED if it must.
    absent: its value where an older file lacks the token; REQUIRED if it must be there.
    older: other tokens that older files have in its place, each with a function that reads what
        follows and returns the values of all the fields that it stands for, by name.
    label: its name in the info line; None where it is not shown.
    """

    name: str | None
    token: str
    kind: Kind
    option: str | None = None
    default: Any = REQUIRED
    absent: Any = REQUIRED
    older: Mapping[str, Callable[[Reader], dict[str, Any]]] | None = None
    label: str | None = None

    def read(self, reader: Reader, values: dict[str, Any]) -> None:
        """Read the field into `values`, unless an older token before it stood for it."""
        if self.name is not None and self.name in values:
            return
        older = self.older or {}
        token = reader.peek_token().strip("<>")
        if token == self.token:
            reader.token()
            value = self.kind.read(reader)
        elif token in older:
            reader.token()
            values.update(older[token](reader))
            return
        elif self.absent is not REQUIRED:
            value = self.absent
        else:
            found = f"<{token}>" if token else "the end"
            raise reader.fail(f"expected <{self.token}>, found {found}")
        if self.name is not None:
            values[self.name] = value


class ConfigLine:
    """One line of an nnet-init config: a component type and key=value pairs, each used once.

    A pair with white space in it, in the name of a file, stands between quotes as in a shell.

    Raises NgtrainError, naming the line, when a value is missing, wrong or left over.
    """

    def __init__(self, line: str):
        self.line = line.strip()
        try:
            has_quotes = "'" in line or '"' in line
            self.type, *pairs = shlex.split(line) if has_quotes else line.split()
        except ValueError as error:
            raise self.fail(str(error).lower()) from None
        self.values: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not (equals and value) or key in self.values:
                raise self.fail(f"cannot make sense of {pair!r}")
            self.values[key] = value

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def take(self, key: str, parse: Callable[[str], Any], default: Any = REQUIRED) -> Any:
        """The value of `key`, which counts as used."""
        if key not in self.values:
            if default is REQUIRED:
                raise self.fail(f"{key} is missing")
            return default
        text = self.values.pop(key)
        try:
            return parse(text)
        except (ValueError, KeyError):
            raise self.fail(f"bad value {key}={text}") from None

    def build(self, cls: type[Component], values: dict[str, Any]) -> Component:
        """The component with these fields."""
        try:
            return cls(**values)
        except NgtrainError as error:
            raise self.fail(str(error)) from None

    def finish(self) -> None:
        """Insist that every pair has been used."""
        if self.values:
            raise self.fail(f"{self.type} has no option {', '.join(self.values)}")

    def fail(self, reason: str) -> NgtrainError:
        """The error to raise."""
        return NgtrainError(f"config line {self.line!r}: {reason}")


_types: dict[str, type[Component]] = {}

C = TypeVar("C", bound=type["Component"])


def component_type(cls: C) -> C:
    """Class decorator: this is the component that files and config lines call by its name."""
    _types[cls.__name__] = cls
    return cls


class Component:
    """A layer of a network: a function of rows (frames), and its derivative.

    Activations are (rows, dim), C-contiguous; `FrameLayout` says which frames the rows are.  Arrays
    to be computed are given as ``out``; scratch memory comes from ``self.workspace``.
    """

    fields: ClassVar[tuple[Field, ...]] = ()
    info_order: ClassVar[tuple[str, ...]] = ()
    """Fields in the order of the info line, where it is not that of the file."""
    info_equals: ClassVar[str] = "="
    closing_tokens: ClassVar[tuple[str, ...]] = ()
    """What may close the component in files; () for its name alone."""

    context: tuple[int, ...] = (0,)
    """Offsets of the input frames from which one output frame is computed, in ascending order."""
    rearranges_frames: ClassVar[bool] = False
    """The component picks the frames that it needs, so that its input may have any layout."""
    needs_input: ClassVar[bool] = True
    """Backpropagation through the component looks at its input."""
    needs_output: ClassVar[bool] = True
    """Backpropagation through the component looks at its output."""
    in_place: ClassVar[bool] = False
    """`out` may be the input in propagate() and the derivative w.r.t. the output in
    backpropagate(); only for elementwise and rowwise functions."""

    cycle_length: int = 1
    """A training step does the same as that so many steps ago; 0 if the next step begins no cycle
    of alike steps, or if what it does is not on the device alone (see nnet.device.backend.Step)."""

    input_dim: int
    output_dim: int

    def __init__(self, **values: Any):
        """Fields by name.  Raises NgtrainError when the values do not make sense together."""
        for field in self.fields:
            if field.name is not None:
                value = values.pop(field.name, field.default)
                if value is REQUIRED:
                    raise TypeError(f"{self.type} needs {field.name}")
                setattr(self, field.name, value)
        if values:
            raise TypeError(f"{self.type} has no {', '.join(values)}")
        self.index = 0  # in its network, for log lines
        self.workspace = Workspace()
        self.check()

    @property
    def type(self) -> str:
        return type(self).__name__

    def check(self) -> None:
        """Raise NgtrainError (by `require`) unless the fields make sense."""
        self.require(self.input_dim > 0 and self.output_dim > 0, "dimensions must be positive")

    def require(self, condition: bool, what: str) -> None:
        if not condition:
            raise NgtrainError(f"{self.type}: {what}")

    def copy(self) -> Component:
        """An independent copy, the state of preconditioners included."""
        return copy.deepcopy(self)

    # Files and config lines -----------------------------------------------------------------------

    @classmethod
    def read(cls, reader: Reader) -> Component:
        """Read what follows the opening token.  Raises NgtrainError, naming file and position."""
        values: dict[str, Any] = {}
        for field in cls.fields:
            field.read(reader, values)
        token = reader.token()
        if token not in (cls.closing_tokens or (f"</{cls.__name__}>",)):
            raise reader.fail(f"expected </{cls.__name__}>, found {token}")
        try:
            return cls(**values)
        except NgtrainError as error:
            raise reader.fail(str(error)) from None

    def write(self, writer: Writer) -> None:
        """Write the component, opening and closing tokens included."""
        writer.token(f"<{self.type}>")
        for field in self.fields:
            if field.name is not None:
                writer.token(f"<{field.token}>")
                field.kind.write(writer, getattr(self, field.name))
        writer.token(f"</{self.type}>")

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        """The component that a config line describes; random parameters are drawn from `rng`."""
        return line.build(cls, cls.configured(line))

    @classmethod
    def configured(cls, line: ConfigLine) -> dict[str, Any]:
        """The values of the fields that have an option."""
        return {
            field.name: line.take(field.option, field.kind.parse, field.default)
            for field in cls.fields
            if field.option is not None
        }

    def info(self) -> str:
        """One line of what nnet-am-info prints."""
        items = (f"{label}{self.info_equals}{text}" for label, text in self.info_items())
        return ", ".join((self.type, *items))

    def info_items(self) -> Iterator[tuple[str, str]]:
        """Labels and values of the info line."""
        yield "input-dim", f"{self.input_dim}"
        yield "output-dim", f"{self.output_dim}"
        fields = {field.name: field for field in self.fields}
        for name in self.info_order or fields:
            if fields[name].label is not None:
                yield fields[name].label, format_number(getattr(self, name))

    # Computation ----------------------------------------------------------------------------------

    def propagate(
        self, x: Array, in_layout: FrameLayout, out_layout: FrameLayout, out: Array
    ) -> None:
        """Compute the output `out`, (rows, output_dim), from the input `x`, (rows, input_dim)."""
        raise NotImplementedError

    def backpropagate(
        self,
        x: Array | None,
        y: Array | None,
        derivative: Array,
        in_layout: FrameLayout,
        out_layout: FrameLayout,
        out: Array,
    ) -> None:
        """Compute `out`, the derivative of the objective w.r.t. the input `x`.

        `derivative` is that w.r.t. the output `y`.  `x` and `y` may be None or hold other things
        where `needs_input` and `needs_output` say that they are not looked at.
        """
        raise NotImplementedError

    # Arithmetic: parameters and statistics --------------------------------------------------------

    def scale(self, a: float) -> None:
        """Multiply parameters, and statistics, by `a`."""

    def add(self, a: float, other: Component) -> None:
        """Add `a` times the parameters, and statistics, of a component of the same kind."""

    # Arrays ---------------------------------------------------------------------------------------

    @property
    def array_names(self) -> list[str]:
        """Names of the fields that are arrays."""
        return [field.name for field in self.fields if field.kind.dtype and field.name]

    def convert(self, dtype: np.dtype | type) -> None:
        """Compute in another precision from now on (float64 for checks of gradients)."""
        for field in self.fields:
            if field.kind.dtype is np.float32 and field.name is not None:
                setattr(self, field.name, getattr(self, field.name).astype(dtype))

    def move_to_device(self) -> None:
        """Keep the arrays on the device that nnet.device.backend.select_device() chose."""
        for name in self.array_names:
            setattr(self, name, to_device(getattr(self, name)))

    def is_finite(self) -> bool:
        """Whether no array has NaN or infinity in it."""
        arrays = (getattr(self, name) for name in self.array_names)
        return all(bool(array_module(array).isfinite(array).all()) for array in arrays)


class UpdatableComponent(Component):
    """A component with parameters that are trained.

    `parameter_names` are the arrays that arithmetic applies to.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()
    learning_rate: float

    def update(self, x: Array, derivative: Array) -> None:
        """Make a step of gradient ascent (the objective is a log-probability).

        `x` is the input, (rows, input_dim).  The first rows of `derivative`,
        (rows + spare_rows(rows), output_dim), are that of the objective w.r.t. the output; all of
        it may be overwritten.
        """
        raise NotImplementedError

    def spare_rows(self, rows: int) -> int:
        """How many rows update() needs behind those of the derivative."""
        return 0

    def report_steps(self) -> None:
        """Log what is worth saying about the steps since the last call."""

    def accumulate_gradient(self, x: Array, derivative: Array, gradient: Component) -> None:
        """Add the derivative of the objective w.r.t. the parameters to those of `gradient`."""
        raise NotImplementedError

    @property
    def parameters(self) -> list[Array]:
        return [getattr(self, name) for name in self.parameter_names]

    @property
    def num_parameters(self) -> int:
        return sum(parameter.size for parameter in self.parameters)

    def scale(self, a: float) -> None:
        for parameter in self.parameters:
            parameter *= a

    def add(self, a: float, other: Component) -> None:
        for parameter, addend in zip(self.parameters, other.parameters, strict=True):
            parameter += a * addend

    def set_zero(self, as_gradient: bool = False) -> None:
        """Set the parameters to zero; `as_gradient`: to accumulate a gradient in them."""
        for parameter in self.parameters:
            parameter[...] = 0
        if as_gradient:
            self.learning_rate = 1.0

    def dot_product(self, other: UpdatableComponent) -> float:
        """Of the parameters, as one vector, with those of another component; in float64."""
        return sum(_dot(p, q) for p, q in zip(self.parameters, other.parameters, strict=True))

    def perturb(self, stddev: float, rng: np.random.Generator) -> None:
        """Add Gaussian noise to the parameters."""
        for parameter in self.parameters:
            noise = rng.standard_normal(parameter.shape, dtype=np.float32)
            parameter += stddev * to_device(noise)


def _dot(a: Array, b: Array) -> float:
    """Sum of products in float64, which NumPy's einsum converts to in pieces that stay in cache."""
    return float(array_module(a).einsum("i,i->", a.ravel(), b.ravel(), dtype=np.float64))


def format_number(x: float) -> str:
    """As a C++ stream shows it."""
    return f"{x}" if isinstance(x, int) else f"{x:g}"


def read_component(reader: Reader) -> Component:
    """Read any component.  Raises NgtrainError when its type is unknown."""
    token = reader.token()
    cls = _types.get(token.strip("<>"))
    if cls is None:
        raise reader.fail(f"unknown component type {token}")
    return cls.read(reader)


def component_from_config(text: str, rng: np.random.Generator) -> Component:
    """The component that one line of an nnet-init config describes.

    Raises NgtrainError, naming the line, when it is not a good one.
    """
    line = ConfigLine(text)
    if line.type not in _types:
        raise line.fail(f"unknown component type {line.type}")
    component = _types[line.type].from_config(line, rng)
    line.finish()
    return component
