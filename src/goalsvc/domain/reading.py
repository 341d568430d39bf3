"""Lenient reading of documents that other services write: what cannot be read is treated as absent.

A document is validated as a whole first; only one that does not validate pays for the second look. Each error names a path,
and the value at that path is left out: a field falls back to its default, an item of a list or map is dropped. So the rule
is stated once, for every field of every collection, at every depth.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from bson import Code, DBRef, Decimal128, ObjectId
from pydantic import BeforeValidator, Strict, ValidationError

from goalsvc.domain.documents import Stored

T = TypeVar("T")
Path = tuple[int | str, ...]

#: Dates at or before this are unset: Go's driver writes the zero time of a field that has no value.
ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
#: Python's last instant; MongoDB holds dates of up to 292 million years, which are treated as absent.
LAST_TIME = datetime.max.replace(microsecond=999_000, tzinfo=UTC)

#: Errors are removed level by level, so this bounds the depth at which they may lie.
_MOST_ROUNDS = 12
#: MongoDB's whole numbers have 64 bits.
LEAST_WHOLE, GREATEST_WHOLE = -(2**63), 2**63 - 1


# -- values ---------------------------------------------------------------------------------------------------------


def whole(value: object) -> int | None:
    """A whole number of up to 64 bits, also where it is written as a double or a Decimal128; else None."""
    part = whole_part(value)
    return part if part is not None and _is_whole(value) else None


def whole_part(value: object) -> int | None:
    """A number without its fraction; None for what is not a number of up to 64 bits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        number = int(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            return None
        number = int(value)
    elif isinstance(value, Decimal128):
        decimal = value.to_decimal()
        # Compared before it is converted: 1E+6000 would become an integer of six thousand digits.
        if not decimal.is_finite() or not LEAST_WHOLE <= decimal <= GREATEST_WHOLE:
            return None
        number = int(decimal)
    else:
        return None
    return number if LEAST_WHOLE <= number <= GREATEST_WHOLE else None


def number(value: object) -> float | None:
    """A finite number, however it is written; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Decimal128):
        value = float(value.to_decimal()) if value.to_decimal().is_finite() else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _is_whole(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, Decimal128):
        decimal = value.to_decimal()
        return decimal == int(decimal)
    return True


def instant(value: object) -> datetime | None:
    """A date that is set and that Python can represent; else None."""
    return value if isinstance(value, datetime) and value.replace(tzinfo=UTC) > ZERO_TIME else None


def text(value: object) -> str | None:
    """A text; None for anything else."""
    return str(value) if isinstance(value, str) and not isinstance(value, Code) else None


def mapping(value: object) -> Mapping[str, Any]:
    """A subdocument, also one that is decoded as a reference; empty for anything else."""
    if isinstance(value, DBRef):
        return dict(value.as_doc())
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """An array; empty for anything else."""
    return value if isinstance(value, list | tuple) else ()


def plain(value: object) -> object:
    """A value of a document as a job carries it, at every depth: ids as texts, numbers as Python's own."""
    if isinstance(value, Mapping | DBRef):
        return {name: plain(item) for name, item in mapping(value).items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal128) and (decimal := value.to_decimal()).is_finite():
        number = whole(value)
        return float(decimal) if number is None else number
    return value


def _required(convert: Callable[[object], T | None], rule: str) -> Callable[[object], T]:
    def check(value: object) -> T:
        converted = convert(value)
        if converted is None:
            raise ValueError(rule)
        return converted

    return check


#: A number of which a fraction makes no sense: a fraction is treated as absent.
Whole = Annotated[int, BeforeValidator(_required(whole, "must be a whole number of up to 64 bits"))]
#: A number that counts units already reached: a fraction counts as its whole part.
WholePart = Annotated[int, BeforeValidator(_required(whole_part, "must be a number of up to 64 bits"))]
#: A number that may have a fraction.
Number = Annotated[float, BeforeValidator(_required(number, "must be a finite number"))]
Instant = Annotated[datetime, BeforeValidator(_required(instant, "must be a date of the years 1 to 9999"))]
#: A text by which MongoDB finds something: `Code` is a text for Python, and another value for MongoDB.
Name = Annotated[str, BeforeValidator(_required(text, "must be a text"))]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict()]


# -- documents ------------------------------------------------------------------------------------------------------


def read_leniently(validate: Callable[[object], T], document: Mapping[str, object]) -> tuple[T, tuple[str, ...]]:
    """Returns what `validate` makes of the document without the values that it refuses, and the faults found in them.

    A fault is `path: rule`; what Go's driver writes into a field that has no value is none. Raises ValidationError when the
    document lacks what every document of its class must have.
    """
    faults: dict[str, None] = {}
    for _ in range(_MOST_ROUNDS):
        try:
            return validate(document), tuple(faults)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            bad = _paths_of(document, errors)
            if not bad:
                raise
            for path in sorted(bad, key=lambda each: [(isinstance(part, int), part) for part in each], reverse=True):
                if not _is_unset(_value_at(document, path)):
                    faults[f"{dotted(path)}: {bad[path].removeprefix('Value error, ')}"] = None
                document = _without(document, path)
    return validate(document), tuple(faults)


def dotted(path: Sequence[int | str]) -> str:
    """A path as MongoDB writes it, as in `levels.0.target`."""
    return ".".join(map(str, path))


def _paths_of(document: Stored, errors: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
    """What must be left out of the document because of these errors, with the rule that each breaks.

    Fields of a wrong type go first. Only when there are none, items of lists go, and what lacks a required field goes as a
    whole: so the numbers in all paths are those of the document. Nothing in the result lies within anything else in it.
    """
    found = {_existing(document, error["loc"]): error["msg"] for error in errors if error["type"] != "missing"}
    found.pop((), None)
    wrong = {path: rule for path, rule in found.items() if isinstance(path[-1], str)}
    if not wrong:
        missing = {
            tuple(error["loc"][:-1]): f"{error['loc'][-1]}: required" for error in errors if error["type"] == "missing"
        }
        wrong = {**found, **missing}
        if () in wrong:
            return {}
    return {path: rule for path, rule in wrong.items() if not any(path[:end] in wrong for end in range(len(path)))}


def _existing(document: Any, location: Sequence[int | str]) -> Path:
    """The part of an error's location that is in the document: it may end in the name of a type, or in `[key]`."""
    value = document
    for depth, step in enumerate(location):
        known = range(len(value)) if isinstance(value, list | tuple) else value if isinstance(value, Mapping) else ()
        if step not in known:
            return tuple(location[:depth])
        value = value[step]
    return tuple(location)


def _value_at(document: Any, path: Path) -> object:
    value = document
    for step in path:
        value = value[step]
    return value


def _is_unset(value: object) -> bool:
    """Whether Go's driver writes this for a field that has no value: an empty text, or the zero time."""
    return value == "" or (isinstance(value, datetime) and value.replace(tzinfo=UTC) <= ZERO_TIME)


def _without(value: Any, path: Path) -> Any:
    """A copy of the value without what is at that path."""
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        if rest:
            return {**value, step: _without(value[step], rest)}
        return {key: item for key, item in value.items() if key != step}
    assert isinstance(step, int)  # noqa: S101 - `_existing` has walked this path
    kept = [_without(value[step], rest)] if rest else []
    return [*value[:step], *kept, *value[step + 1 :]]
