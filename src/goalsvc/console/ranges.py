"""The range of a time line that is shown, as the address of the page says it: `from` and `to`, in UTC."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import Depends, Query
from pydantic import AfterValidator, BeforeValidator

from goalsvc.console.pictures.timeline import Timeline, extent


def _aware(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


#: A field of a form that is empty says nothing.
_Moment = Annotated[datetime | None, BeforeValidator(lambda text: text or None), AfterValidator(_aware)]


@dataclass(frozen=True, slots=True)
class Range:
    """What was asked for; either end may be open."""

    begin: datetime | None
    end: datetime | None

    @classmethod
    async def asked(
        cls,
        begin: Annotated[_Moment, Query(alias="from")] = None,
        end: Annotated[_Moment, Query(alias="to")] = None,
    ) -> Self:
        """Returns the range that an address asks for."""
        return cls(begin, end)

    def of(self, timeline: Timeline) -> Timeline:
        """Returns the time line with that range of it to be drawn; all of it where the range holds nothing of it."""
        if self.begin is None and self.end is None:
            return timeline
        first, last = extent(timeline)
        begin, end = max(self.begin or first, first), min(self.end or last, last)
        return replace(timeline, window=(begin, end)) if begin < end else timeline


RangeOf = Annotated[Range, Depends(Range.asked)]
