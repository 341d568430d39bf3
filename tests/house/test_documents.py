"""Documents that other services may write are read by the rules of `goalsvc.domain.reading`, in every field."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, get_args, get_origin

import pytest
from bson import Decimal128, Int64
from pydantic import BaseModel, BeforeValidator

from goalsvc.domain.goals import Metadata
from goalsvc.models.database import DOCUMENTS
from goalsvc.models.shared import Lenient

#: Each driver writes these in its own way, so Pydantic's own rules are not enough.
WRITTEN_DIFFERENTLY = {int, float, datetime}


def bare_types(annotation: object, metadata: tuple[object, ...] = ()) -> Iterator[type]:
    """The types in an annotation that nothing but Pydantic reads."""
    if any(isinstance(each, BeforeValidator) for each in metadata):
        return
    if get_origin(annotation) is Annotated:
        inner, *rules = get_args(annotation)
        yield from bare_types(inner, tuple(rules))
    elif get_origin(annotation) is not None:
        for each in get_args(annotation):
            yield from bare_types(each)
    elif isinstance(annotation, type):
        yield annotation


def bare_fields(model: type[BaseModel], within: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        for found in bare_types(field.annotation, tuple(field.metadata)):
            if issubclass(found, BaseModel):
                yield from bare_fields(found, f"{within}.{name}")
            elif found in WRITTEN_DIFFERENTLY:
                yield f"{within}.{name}"


@pytest.mark.parametrize(
    "model", [each for each in DOCUMENTS if issubclass(each, Lenient)], ids=lambda each: each.__name__
)
def test_numbers_and_dates_are_read_as_every_driver_writes_them(model: type[Lenient]) -> None:
    assert not list(bare_fields(model, model.__name__)), "use Whole, WholePart, Number or Instant"


@pytest.mark.parametrize("written", [1000, 1000.0, Int64(1000), Decimal128("1000"), Decimal128("1E+3")], ids=repr)
def test_a_fee_is_the_same_in_every_driver_s_hand(written: object) -> None:
    assert Metadata.model_validate({"fee_bps": written}).fee_bps == 1000
