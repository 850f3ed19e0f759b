"""The base of all components: fields declared once, files, config lines, info lines, arithmetic.

A component declares its ``fields`` in the order in which Kaldi writes them::

    @component_type
    class PnormComponent(Component):
        fields = (
            option("input_dim", INTEGER),
            option("output_dim", INTEGER),
            option("p", REAL, 2.0, label="p"),
        )

From this come the constructor's keyword arguments, the text and binary forms, the options of a line
of an nnet-init config, and what nnet-am-info prints.  A class adds what it computes.

Formats are those of Kaldi's nnet2/nnet-component.cc, older ones that Kaldi still reads included.
"""

from __future__ import annotations

import copy
import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from nnet.components.layout import FrameLayout
from nnet.device.device import CPU, Array, Device, Workspace, array_module, to_host
from nnet.errors import NgtrainError
from nnet.io.numbers import integer
from nnet.io.tokens import Reader, Writer

REQUIRED: Any = object()
"""A default that means: there is none."""


@dataclass(frozen=True)
class FieldKind:
    """A type of values, which knows how to read, write and parse them (in a config line)."""

    read: Callable[[Reader], Any]
    write: Callable[[Writer, Any], None]
    parse: Callable[[str], Any] | None = None
    dtype: type | None = None
    """The precision of arrays; None for what is not an array."""


def single(x: float) -> float:
    """Round `x` to the precision of Kaldi's BaseFloat."""
    return float(np.float32(x))


def _array_kind(name: str, dtype: type) -> FieldKind:
    """Return the type of vectors or matrices of `dtype`, which files have in single precision."""
    return FieldKind(
        read=lambda reader: getattr(reader, name)(dtype),
        write=lambda writer, x: getattr(writer, name)(to_host(x).astype(np.float32)),
        dtype=dtype,
    )


INTEGER = FieldKind(lambda r: r.integer(), lambda w, x: w.integer(x), integer)
REAL = FieldKind(
    lambda r: single(r.real()), lambda w, x: w.real(x), lambda text: single(float(text))
)
DOUBLE = FieldKind(lambda r: r.real(), lambda w, x: w.double(x))
BOOLEAN = FieldKind(
    lambda r: r.boolean(),
    lambda w, x: w.boolean(x),
    lambda text: {"t": True, "f": False}[text[:1].lower()],
)
INTEGERS = FieldKind(
    lambda r: tuple(r.integers().tolist()),
    lambda w, x: w.integers(x),
    lambda text: tuple(map(integer, text.split(":"))),
)
VECTOR = _array_kind("vector", np.float32)
MATRIX = _array_kind("matrix", np.float32)
STATISTICS = _array_kind("vector", np.float64)


@dataclass(frozen=True)
class Field:
    """One value that a component keeps in files, after a token such as ``<LearningRate>``.

    Attributes:
        name: the attribute, such as learning_rate.
        kind: its type.
        is_option: whether it can be given in a config line, as learning-rate=VALUE.
        default: its value where the config line does not give it; REQUIRED if it must.
        absent: its value where an older file lacks the token; REQUIRED if it must be there.
        older: other tokens that older files have in its place, such as ``<Rank>``, each with a
            function that reads what follows and returns the values of all the fields that it stands
            for, by name.
        label: its name in the info line; None where it is not shown.
        is_kept: False for what older files have and nobody needs.
        token: stands before the value; made of the name unless given.
    """

    name: str
    kind: FieldKind
    is_option: bool = False
    default: Any = REQUIRED
    absent: Any = REQUIRED
    older: Mapping[str, Callable[[Reader], dict[str, Any]]] = dataclasses.field(
        default_factory=dict
    )
    label: str | None = None
    is_kept: bool = True
    token: str = ""

    def __post_init__(self) -> None:
        if not self.token:
            word = "".join(part.capitalize() for part in self.name.split("_"))
            object.__setattr__(self, "token", f"<{word}>")

    @property
    def option(self) -> str:
        """The key in a config line."""
        return self.name.replace("_", "-")


def option(name: str, kind: FieldKind, default: Any = REQUIRED, **more: Any) -> Field:
    """Return a field that can be given in a config line."""
    return Field(name, kind, is_option=True, default=default, **more)


class ConfigLine:
    """One line of an nnet-init config: a component type and key=value pairs, each used once.

    A pair with white space in it, in the name of a file, stands between quotes as in a shell.

    Raises:
        NgtrainError: a value is missing, wrong or left over; it names the line.
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
        """Return the value of `key`, which counts as used."""
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
        """Return the component with these fields."""
        try:
            return cls(**values)
        except NgtrainError as error:
            raise self.fail(str(error)) from None

    def fail(self, reason: str) -> NgtrainError:
        """Return the error to raise."""
        return NgtrainError(f"config line {self.line!r}: {reason}")


_types: dict[str, type[Component]] = {}

C = TypeVar("C", bound=type["Component"])
Same = TypeVar("Same", bound="Component")


def component_type(cls: C) -> C:
    """Register a class as the component that files and config lines call by its name."""
    _types[cls.__name__] = cls
    return cls


def component_types() -> dict[str, type[Component]]:
    """Return every type of component that there is, by its name."""
    return dict(_types)


class Component:
    """A layer of a network: a function of rows (frames), and its derivative.

    Activations are (rows, dim), C-contiguous; `FrameLayout` says which frames the rows are.  Arrays
    to be computed are given as ``out``; scratch memory comes from ``self.workspace``.
    """

    type: ClassVar[str]
    """The name of the class."""
    fields: ClassVar[tuple[Field, ...]] = ()
    array_names: ClassVar[list[str]]
    """The names of the fields that are arrays."""
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

    learns: ClassVar[bool] = False
    """The component has an update()."""
    num_extra_rows: int = 0
    """How many rows of memory update() wants behind the derivative."""
    can_be_captured: bool = True
    """Whether what it does is on the device alone, so that a graph can repeat it."""

    input_dim: int
    output_dim: int

    if TYPE_CHECKING:  # fields are attributes, too

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **values: Any):
        """Set fields by name, and check() them."""
        for field in self.fields:
            if field.is_kept:
                value = values.pop(field.name, field.default)
                if value is REQUIRED:
                    raise TypeError(f"{self.type} needs {field.name}")
                setattr(self, field.name, value)
        if values:
            raise TypeError(f"{self.type} has no {', '.join(values)}")
        self.index = 0  # in its network, for log lines
        self.workspace = Workspace()
        self.check()
        self.move_to(CPU)

    def __init_subclass__(cls) -> None:
        cls.type = cls.__name__
        cls.array_names = [f.name for f in cls.fields if f.kind.dtype and f.is_kept]

    def check(self) -> None:
        """Raise NgtrainError (by `require`) unless the fields make sense."""
        self.require(self.input_dim > 0 and self.output_dim > 0, "dimensions must be positive")

    def require(self, condition: bool, what: str) -> None:
        if not condition:
            raise NgtrainError(f"{self.type}: {what}")

    def copy(self) -> Component:
        """Return an independent copy, the state of preconditioners included."""
        return copy.deepcopy(self)

    def with_fields(self: Same, **changed: Any) -> Same:
        """Return a component of the same kind, with other values of some fields, on the CPU."""
        kept = {field.name: getattr(self, field.name) for field in self.fields if field.is_kept}
        return type(self)(**(kept | changed))

    # Files and config lines -----------------------------------------------------------------------

    def write(self, writer: Writer) -> None:
        """Write the component, opening and closing tokens included."""
        writer.token(f"<{self.type}>")
        for field in self.fields:
            if field.is_kept:
                writer.token(field.token)
                field.kind.write(writer, getattr(self, field.name))
        writer.token(f"</{self.type}>")

    @classmethod
    def from_config(cls, line: ConfigLine, rng: np.random.Generator) -> Component:
        """Return the component of a config line; random parameters are drawn from `rng`."""
        return line.build(cls, cls.configured(line))

    @classmethod
    def configured(cls, line: ConfigLine) -> dict[str, Any]:
        """Take the values of the fields that have an option."""
        return {
            field.name: line.take(field.option, field.kind.parse, field.default)
            for field in cls.fields
            if field.is_option
        }

    def info(self) -> str:
        """Return the line that nnet-am-info prints."""
        items = (f"{label}{self.info_equals}{text}" for label, text in self.info_items())
        return ", ".join((self.type, *items))

    def info_items(self) -> Iterator[tuple[str, str]]:
        """Yield labels and values of the info line."""
        yield "input-dim", f"{self.input_dim}"
        yield "output-dim", f"{self.output_dim}"
        fields = {field.name: field for field in self.fields}
        for name in self.info_order or fields:
            if fields[name].label is not None:
                yield fields[name].label, format_number(getattr(self, name))

    # Computation ----------------------------------------------------------------------------------

    def set_layout(self, in_layout: FrameLayout, out_layout: FrameLayout) -> None:
        """Tell the component which frames the rows of its input and output are from now on."""

    def propagate(self, x: Array, out: Array) -> None:
        """Compute the output `out`, (rows, output_dim), from the input `x`, (rows, input_dim)."""
        raise NotImplementedError

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        """Compute `out`, the derivative of the objective w.r.t. the input `x`.

        `derivative` is that w.r.t. the output `y`.  `x` and `y` may be None or hold other things
        where `needs_input` and `needs_output` say that they are not looked at.
        """
        raise NotImplementedError

    def update(self, x: Array, y: Array, derivative: Array) -> None:
        """Learn from a minibatch: change parameters by a step, or add to statistics.

        `derivative` is that w.r.t. the output `y`, and `num_extra_rows` behind it, for any use; it
        is overwritten.
        """

    def add_gradient(self, x: Array, y: Array, derivative: Array, to: Component) -> None:
        """Add the derivative w.r.t. the parameters, or statistics, to those of a counterpart."""

    # Arithmetic: parameters and statistics --------------------------------------------------------

    def scale(self, a: float) -> None:
        """Multiply parameters, and statistics, by `a`."""

    def add(self, a: float, other: Component) -> None:
        """Add `a` times the parameters, and statistics, of a component of the same kind."""

    # Arrays ---------------------------------------------------------------------------------------

    def convert(self, dtype: np.dtype | type) -> None:
        """Compute in another precision from now on (float64 for checks of gradients)."""
        for field in self.fields:
            if field.kind.dtype is np.float32 and field.is_kept:
                setattr(self, field.name, getattr(self, field.name).astype(dtype))

    def move_to(self, device: Device) -> None:
        """Keep the arrays on a device, and compute there."""
        self.device = device
        for name in self.array_names:
            setattr(self, name, device.asarray(getattr(self, name)))

    def is_finite(self) -> bool:
        """Tell whether no array has NaN or infinity in it."""
        arrays = (getattr(self, name) for name in self.array_names)
        return all(bool(array_module(array).isfinite(array).all()) for array in arrays)


class SameDimComponent(Component):
    """A component of as many outputs as inputs, `dim`."""

    dim: int
    input_dim = output_dim = property(attrgetter("dim"))


class UpdatableComponent(Component):
    """A component with parameters that are trained.

    `parameter_names` are the arrays that arithmetic applies to.
    """

    learns = True
    parameter_names: ClassVar[tuple[str, ...]] = ()
    learning_rate: float
    is_gradient: bool = False
    """The parameters are a gradient, which add_gradient() sums up."""

    preconditioners: tuple[Any, ...] = ()
    """The preconditioners of nnet.natural_gradient by which updates are changed."""

    def report_updates(self, num_updates: int) -> int:
        """Log what is worth saying about the updates since the last call.

        Returns how many of these `num_updates` a limit on the change has shortened.
        """
        return 0

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
            self.learning_rate, self.is_gradient = 1.0, True

    def dot_product(self, other: UpdatableComponent) -> float:
        """Multiply the parameters, as one vector, by those of another component, in float64."""
        return sum(
            # NumPy's einsum converts pieces that stay in cache.
            float(array_module(p).einsum("i,i->", p.ravel(), q.ravel(), dtype=np.float64))
            for p, q in zip(self.parameters, other.parameters, strict=True)
        )

    def perturb(self, stddev: float, rng: np.random.Generator) -> None:
        """Add Gaussian noise to the parameters."""
        for parameter in self.parameters:
            noise = rng.standard_normal(parameter.shape, dtype=np.float32)
            parameter += stddev * self.device.asarray(noise)


def format_number(x: float) -> str:
    """Show a number as a C++ stream does."""
    return f"{x}" if isinstance(x, int) else f"{x:g}"


def read_component(reader: Reader) -> Component:
    """Read a component of any type.

    Raises:
        NgtrainError: the file is not as it should be; it names the file and the position.
    """
    token = reader.token()
    cls = _types.get(token.strip("<>"))
    if cls is None:
        raise reader.fail(f"unknown component type {token}")
    values: dict[str, Any] = {}
    for field in cls.fields:
        if field.name in values:  # an older token before it stood for it
            continue
        token = reader.peek_token()
        if token == field.token:
            reader.token()
            values[field.name] = field.kind.read(reader)
        elif token in field.older:
            reader.token()
            values.update(field.older[token](reader))
        elif field.absent is not REQUIRED:
            values[field.name] = field.absent
        else:
            raise reader.fail(f"expected {field.token}, found {token or 'the end'}")
        if not field.is_kept:
            values.pop(field.name)
    token = reader.token()
    if token not in (cls.closing_tokens or (f"</{cls.type}>",)):
        raise reader.fail(f"expected </{cls.type}>, found {token}")
    try:
        return cls(**values)
    except NgtrainError as error:
        raise reader.fail(str(error)) from None


def component_from_config(text: str, rng: np.random.Generator) -> Component:
    """Return the component that one line of an nnet-init config describes.

    Raises:
        NgtrainError: the line is not a good one; it is named.
    """
    line = ConfigLine(text)
    if line.type not in _types:
        raise line.fail(f"unknown component type {line.type}")
    component = _types[line.type].from_config(line, rng)
    if line.values:  # which have not been used
        raise line.fail(f"{line.type} has no option {', '.join(line.values)}")
    return component
