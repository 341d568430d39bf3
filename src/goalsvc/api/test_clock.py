"""The test clock of `goalsvc dev`: time that an integrator moves by hand. No other process mounts these operations."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from goalsvc.api.dependencies import ContextOf, ResourcesOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations, requires
from goalsvc.clock import MovableClock
from goalsvc.context import Context
from goalsvc.domain.call import Scope
from goalsvc.errors import InvalidError, NotFoundError
from goalsvc.tasks.arq_queue import hasten

router = operations("/v1/test-clock", "Test clock")

#: Ten years: far enough for every deadline, and every date stays one that MongoDB and Python hold.
MOST_SECONDS = 10 * 365 * 86_400


class AdvanceBody(BaseModel):
    """By how much time moves."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"seconds": 3600}})

    seconds: float = Field(gt=0, le=MOST_SECONDS, description="How far the clock moves forward.")


class TestClockView(BaseModel):
    """The time of every process of this `goalsvc dev`."""

    __test__ = False

    now: datetime = Field(description="The present instant by the test clock.")
    offset_seconds: float = Field(description="How far the test clock is ahead of the machine's clock.")


@router.get("", summary="Read the test clock", responses=responses(401, 404))
async def read_test_clock(context: ContextOf) -> TestClockView:
    """Returns the present instant of the test clock."""
    return _view(_clock_of(context))


@router.post("/advance", summary="Advance the test clock", responses=responses(401, 404, 422))
@requires(Scope.OPERATE)
async def advance_test_clock(context: ContextOf, resources: ResourcesOf, body: AdvanceBody) -> TestClockView:
    """Moves the time of the API, the workers and the emulators forward; what becomes due by that happens at once."""
    clock = _clock_of(context)
    if clock.offset.total_seconds() + body.seconds > MOST_SECONDS:
        raise InvalidError("seconds", f"the clock moves forward by at most {MOST_SECONDS} seconds in all")
    clock.advance(body.seconds)
    await hasten(resources.redis, body.seconds)
    return _view(clock)


def _clock_of(context: Context) -> MovableClock:
    if not isinstance(context.clock, MovableClock):
        raise NotFoundError("this goalsvc has no test clock: only `goalsvc dev` has one")
    return context.clock


def _view(clock: MovableClock) -> TestClockView:
    return TestClockView(now=clock.now(), offset_seconds=clock.offset.total_seconds())
