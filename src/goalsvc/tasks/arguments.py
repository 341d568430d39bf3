"""The arguments of a task, read from a promise or a job by the task's own signature.

Promises stand in documents that other services can write and restore, so an argument may be of any type. What can be read is
read leniently (`5.0` as a whole number, an ObjectId as a text); anything else raises InvalidArgumentError, which names the
task and the argument, before the task has done anything.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from bson import ObjectId

from goalsvc.domain.escrow import SETTLEMENT, WHOLE_BPS
from goalsvc.domain.reading import Path, dotted, instant, mapping, text, whole
from goalsvc.errors import InvalidArgumentError, MissingArgumentError

#: Reads a value that lies at a path; raises _FaultError.
_Reader = Callable[[object, Path], object]


@dataclass(frozen=True, slots=True)
class OddValue:
    """A value of a type that no job can hold, such as a regular expression; its place in a job says which type it was."""

    type: str

    def __str__(self) -> str:
        return f"({self.type})"


class _FaultError(Exception):
    def __init__(self, path: Path, rule: str, value: object = None) -> None:
        told = f"{rule}, is of type {value.type}" if isinstance(value, OddValue) else rule
        super().__init__(f"{dotted(path)}: {told}")


# -- what signatures say beyond Python's types ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """In `Annotated`: converts the value, or returns None for one that breaks the rule."""

    convert: Callable[[object], object | None]
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """In `Annotated`: what a map must hold, by name, each with its type; what it may hold is a union with None."""

    types: Mapping[str, object]


def _document_id(value: object) -> str | None:
    given = _text(value)
    return str(ObjectId(given)) if given is not None and ObjectId.is_valid(given) else None


def _within(least: int, most: int) -> Callable[[object], int | None]:
    def convert(value: object) -> int | None:
        number = whole(value)
        return number if number is not None and least <= number <= most else None

    return convert


def _settling_event(value: object) -> str | None:
    given = _text(value)
    return given if given in SETTLEMENT else None


_MOST_SECONDS = 2**31 - 1

DocumentId = Annotated[str, Check(_document_id, "must be an ObjectId, or its 24 hexadecimal digits")]
Seconds = Annotated[int, Check(_within(0, _MOST_SECONDS), f"must be a whole number of seconds, 0 to {_MOST_SECONDS}")]
FeeBps = Annotated[int, Check(_within(0, WHOLE_BPS), f"must be a whole number from 0 to {WHOLE_BPS}")]
SettlingEvent = Annotated[str, Check(_settling_event, f"must be one of {', '.join(SETTLEMENT)}")]
#: Whose share of an escrow it is: `doc_id` is the earning, or the goal where `amount` says how much.
ShareMetadata = Annotated[Mapping[str, Any], Fields({"doc_id": DocumentId, "user_id": str, "amount": int | None})]


# -- reading ----------------------------------------------------------------------------------------------------------


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, ObjectId) else text(value)


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


_SCALARS: Mapping[object, Check] = {
    str: Check(_text, "must be a text"),
    int: Check(whole, "must be a whole number of up to 64 bits"),
    bool: Check(_flag, "must be true or false"),
    datetime: Check(instant, "must be a date of the years 1 to 9999"),
}


def _checked(check: Check) -> _Reader:
    def read(value: object, path: Path) -> object:
        converted = check.convert(value)
        if converted is None:
            raise _FaultError(path, check.rule, value)
        return converted

    return read


def _anything(value: object, path: Path) -> object:
    """A value of any type that a job can hold and that a notice or an event can tell."""
    if isinstance(value, Mapping):
        return {name: _anything(item, (*path, name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_anything(item, (*path, place)) for place, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | datetime):
        return value
    raise _FaultError(path, "must be a text, number, date, list or map", value)


def _list_of(item: _Reader, length: int | None) -> _Reader:
    rule = "must be a list" if length is None else f"must be a list of {length}"

    def read(value: object, path: Path) -> object:
        if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
            raise _FaultError(path, rule, value)
        return [item(each, (*path, place)) for place, each in enumerate(value)]

    return read


def _map_of(item: _Reader) -> _Reader:
    def read(value: object, path: Path) -> object:
        return {name: item(each, (*path, name)) for name, each in _map(value, path).items()}

    return read


def _map_with(fields: Mapping[str, object]) -> _Reader:
    """A map with these fields; those that it holds besides are kept. A field that is null is absent."""
    readers = {name: _reader_of(type_) for name, type_ in fields.items()}
    required = [name for name, type_ in fields.items() if not _may_be_none(type_)]

    def read(value: object, path: Path) -> object:
        found = {name: each for name, each in _map(value, path).items() if each is not None}
        for name in required:
            if name not in found:
                raise _FaultError((*path, name), "required")
        return {name: readers.get(name, _anything)(each, (*path, name)) for name, each in found.items()}

    return read


def _map(value: object, path: Path) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _FaultError(path, "must be a map", value)
    return mapping(value)


def _or_none(inner: _Reader) -> _Reader:
    return lambda value, path: None if value is None else inner(value, path)


def _may_be_none(type_: object) -> bool:
    return get_origin(type_) in (Union, UnionType) and NoneType in get_args(type_)


def _reader_of(type_: Any) -> _Reader:
    """Returns the reader of an argument of that type; raises TypeError for a type that no argument may have."""
    origin, parts = get_origin(type_), get_args(type_)
    if type_ in _SCALARS:
        return _checked(_SCALARS[type_])
    if type_ in (object, Any):
        return _anything
    if origin is Annotated:
        rule = parts[1]
        return _map_with(rule.types) if isinstance(rule, Fields) else _checked(rule)
    if _may_be_none(type_) and len(parts) == 2:
        (inner,) = (each for each in parts if each is not NoneType)
        return _or_none(_reader_of(inner))
    if origin in (list, Sequence):
        return _list_of(_reader_of(parts[0]), None)
    if origin is tuple and len(set(parts)) == 1:
        return _list_of(_reader_of(parts[0]), len(parts))
    if origin in (dict, Mapping):
        return _map_of(_reader_of(parts[1]))
    raise TypeError(f"an argument of a task may not be a {type_}")


@dataclass(frozen=True, slots=True)
class _Parameter:
    read: _Reader
    required: bool
    may_be_none: bool


@cache
def _parameters_of(function: Callable[..., object]) -> Mapping[str, _Parameter] | None:
    """The arguments that a task's function takes, by name; None: any."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    types = get_type_hints(function, include_extras=True)
    return {
        each.name: _Parameter(_reader_of(types[each.name]), each.default is each.empty, _may_be_none(types[each.name]))
        for each in parameters
    }


def check_signature(function: Callable[..., object]) -> None:
    """Raises TypeError unless each argument of a task's function is of a type that can be read."""
    _parameters_of(function)


def read_arguments(task: str, function: Callable[..., object], given: Mapping[str, object]) -> dict[str, object]:
    """Returns those of the given arguments that the function takes, each as its signature says; null is absent.

    Raises MissingArgumentError, InvalidArgumentError.
    """
    parameters = _parameters_of(function)
    if parameters is None:
        return dict(given)
    there = {
        name: value
        for name, value in given.items()
        if (known := parameters.get(name)) is not None and (value is not None or known.may_be_none)
    }
    if missing := sorted(name for name, each in parameters.items() if each.required and name not in there):
        raise MissingArgumentError(task, missing)
    try:
        return {name: parameters[name].read(value, ("arguments", name)) for name, value in there.items()}
    except _FaultError as fault:
        raise InvalidArgumentError(task, str(fault)) from None


def storable(value: Any) -> Any:
    """The arguments of a job as MongoDB can store them: an odd value as a text that names its type."""
    if isinstance(value, Mapping):
        return {name: storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return str(value) if isinstance(value, OddValue) else value
