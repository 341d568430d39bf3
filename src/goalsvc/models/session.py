"""Sessions: one livestream of one streamer, and what of its goals is embedded in it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Self

from beanie import PydanticObjectId
from bson import ObjectId
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.goals import Level, Reference, UserId
from goalsvc.domain.ids import map_key, user_of_map_key
from goalsvc.domain.origin import Origin
from goalsvc.domain.reading import LAST_TIME, Flag, Instant, Text, WholePart
from goalsvc.models.filters import NO_REFERENCE, UNSET, at_most, date_or, earliest, objects_stage
from goalsvc.models.promise import HasPromises, add_promises_stage, array_of, promise_expression, promises_due


class _Part(BaseModel):
    """Part of a session; fields that we do not know are another service's."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)


class Statuses(_Part):
    """When the livestream began and ended."""

    started: Instant | None = None
    ended: Instant | None = None


class Status(_Part):
    """What holds at this moment: the viewer for whom alone the stream is, if any."""

    exclusive_to: UserId | None = None


class ShowPair(_Part):
    """A FundingGoal and the ShowGoal that it paid for."""

    funding_goal: Reference = None
    show_goal: Reference = None
    show_started: Instant | None = None
    show_ended: Instant | None = None


class ExclusivePair(_Part):
    """A viewer's request and the ExclusiveGoal that came of it."""

    trigger_goal: Reference = None
    exclusive_goal: Reference = None
    exclusive_goal_started: Instant | None = None
    exclusive_goal_ended: Instant | None = None


class ViewerWindow(_Part):
    """From when until when a viewer may watch, for how many seconds, and in which exclusive; open until its end is known."""

    nbf: Instant | None = None
    exp: Instant | None = None
    duration: WholePart | None = None
    goal_id: Reference = None


class SessionKaraoke(_Part):
    """The karaoke score, as clients of the session show it."""

    id: Reference = None
    progress: WholePart = 0
    levels: list[Level] = []
    active: Flag = True


class Rtc(_Part):
    """The room of the livestream, and the recording task if the platform has named one."""

    room_id: Text | None = None
    record_task_id: Text | None = None


def _window(goal_id: ObjectId, nbf: datetime, duration_seconds: int) -> dict[str, object]:
    """A viewer's window without an end; without a duration, for an exclusive without a target."""
    duration = {"duration": duration_seconds} if duration_seconds > 0 else {}
    return {"goal_id": goal_id, "nbf": nbf, **duration}


def _by_user(value: object) -> object:
    """A map of a document by user id, whose names may not hold a dot there."""
    return {user_of_map_key(key): item for key, item in value.items()} if isinstance(value, Mapping) else value


def either_form(reference: ObjectId) -> Mapping[str, object]:
    """A filter value for a reference that other services may have written as a hex string."""
    return {"$in": [reference, str(reference)]}


class Session(HasPromises):
    """One livestream of one streamer. Change it only by the methods that say what they do."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    user_id: UserId = ""
    statuses: Statuses = Statuses()
    status: Status = Status()
    show_goal_pairs: list[ShowPair] = []
    exclusive_goal_pairs: Annotated[dict[str, ExclusivePair], BeforeValidator(_by_user)] = {}
    viewers: Annotated[dict[str, ViewerWindow], BeforeValidator(_by_user)] = {}
    karaoke_goal: SessionKaraoke | None = None
    karaoke_scores: dict[str, WholePart] = {}
    """The last score that was shown of each karaoke goal: of two that are sung by turns, none may go back."""
    rtc: Rtc = Rtc()

    class Settings:
        """Where and how Beanie keeps sessions."""

        name = "sessions"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("user_id", ASCENDING), ("statuses.started", ASCENDING)], name="user"),
            IndexModel([("statuses.started", ASCENDING), ("_id", ASCENDING)], name="listed_time"),
            IndexModel(
                [("user_id", ASCENDING), ("statuses.started", ASCENDING), ("_id", ASCENDING)], name="listed_streamer"
            ),
            IndexModel(
                [("statuses.ended", ASCENDING), ("statuses.started", ASCENDING), ("_id", ASCENDING)], name="listed_open"
            ),
            IndexModel([("show_goal_pairs.funding_goal", ASCENDING)], name="funding_goal", sparse=True),
            promises_due(),
        ]

    @property
    def open(self) -> bool:
        """Whether the livestream goes on."""
        return self.statuses.ended is None

    def pair_of_show(self, show_goal: ObjectId) -> ShowPair | None:
        """Returns the pair of that show; None when the session has none."""
        return next((pair for pair in self.show_goal_pairs if pair.show_goal == show_goal), None)

    # -- the livestream -------------------------------------------------------------------------------------------

    @classmethod
    async def end(
        cls, session_id: ObjectId, now: datetime, origin: Origin, *, ended_by: str | None = None
    ) -> Self | None:
        """Ends an open session and owes the end of its goals; None when it was not open."""
        promise = promise_expression("end_session", "end_session", {"session_id": str(session_id)}, now, origin)
        where = {"_id": session_id, "statuses.ended": UNSET}
        noted = {} if ended_by is None else {"ended_by": ended_by}
        changes = {"$set": {"statuses.ended": now, **noted}}
        return await cls.change(where, [objects_stage("statuses"), changes, add_promises_stage(array_of(promise))])

    # -- shows ----------------------------------------------------------------------------------------------------

    @classmethod
    async def pair_show(
        cls, session_id: ObjectId, funding_goal: ObjectId, show_goal: ObjectId, session: DatabaseSession | None = None
    ) -> bool:
        """Pairs a funded show with what funded it; False when it is paired, or there is no such session."""
        where = {"_id": session_id, "show_goal_pairs.funding_goal": {"$nin": [funding_goal, str(funding_goal)]}}
        pair = {"funding_goal": funding_goal, "show_goal": show_goal}
        return await cls.change(where, {"$push": {"show_goal_pairs": pair}}, session=session) is not None

    @classmethod
    async def start_show(cls, session_id: ObjectId, show_goal: ObjectId, at: datetime) -> bool:
        """Notes when the show started first; False when that is noted, or the session has no such pair."""
        pair = {"show_goal": either_form(show_goal), "show_started": UNSET}
        where = {"_id": session_id, "show_goal_pairs": {"$elemMatch": pair}}
        return await cls.changes(where, {"$set": {"show_goal_pairs.$.show_started": at}})

    @classmethod
    async def end_show(cls, session_id: ObjectId, show_goal: ObjectId, at: datetime) -> bool:
        """Notes when the show ended; False when that is noted, or the session has no such pair."""
        pair = {"show_goal": either_form(show_goal), "show_ended": UNSET}
        where = {"_id": session_id, "show_goal_pairs": {"$elemMatch": pair}}
        return await cls.changes(where, {"$set": {"show_goal_pairs.$.show_ended": at}})

    # -- exclusives -----------------------------------------------------------------------------------------------

    @classmethod
    async def pair_exclusive(
        cls,
        session_id: ObjectId,
        viewer_id: str,
        trigger_goal: ObjectId | None,
        exclusive_goal: ObjectId,
        session: DatabaseSession | None = None,
    ) -> Self | None:
        """Pairs an exclusive with the request that it came of; None when it is paired, or there is no such session."""
        pair = f"exclusive_goal_pairs.{map_key(viewer_id)}"
        request = {} if trigger_goal is None else {"trigger_goal": trigger_goal}
        where = {"_id": session_id, f"{pair}.exclusive_goal": {"$ne": exclusive_goal}}
        update = {"$set": {pair: {**request, "exclusive_goal": exclusive_goal}}}
        paired = await cls.change(where, update, session=session)
        if paired is None and request:
            # Word of the start came first and made the pair, without its request.
            where = {"_id": session_id, f"{pair}.exclusive_goal": exclusive_goal, f"{pair}.trigger_goal": NO_REFERENCE}
            paired = await cls.change(where, {"$set": {f"{pair}.trigger_goal": trigger_goal}}, session=session)
        return paired

    @classmethod
    async def start_exclusive(
        cls, session_id: ObjectId, viewer_id: str, exclusive_goal: ObjectId, at: datetime
    ) -> Self | None:
        """Notes that the exclusive started, and for whom alone the stream is now; None when it is noted that it ended, or
        there is no such session.
        """
        pair = f"exclusive_goal_pairs.{map_key(viewer_id)}"
        not_ended = [
            {f"{pair}.exclusive_goal_ended": UNSET},
            {f"{pair}.exclusive_goal": {"$nin": [exclusive_goal, str(exclusive_goal)]}},
        ]
        changes = {
            "status.exclusive_to": viewer_id,
            f"{pair}.exclusive_goal": {"$ifNull": [f"${pair}.exclusive_goal", exclusive_goal]},
            f"{pair}.exclusive_goal_started": date_or(f"{pair}.exclusive_goal_started", at),
        }
        stages = [objects_stage("status", "exclusive_goal_pairs"), {"$set": changes}]
        return await cls.change({"_id": session_id, "$or": not_ended}, stages)

    @classmethod
    async def end_exclusive(
        cls, session_id: ObjectId, viewer_id: str, exclusive_goal: ObjectId, at: datetime
    ) -> Self | None:
        """Notes that the exclusive ended, and gives the stream back to all; None when that is noted, or there is no such."""
        pair = f"exclusive_goal_pairs.{map_key(viewer_id)}"
        noted = {f"{pair}.exclusive_goal": either_form(exclusive_goal), f"{pair}.exclusive_goal_ended": UNSET}
        unpaired = {pair: None, "status.exclusive_to": viewer_id}
        where = {"_id": session_id, "$or": [noted, unpaired]}
        update = {"$set": {f"{pair}.exclusive_goal_ended": at}, "$unset": {"status.exclusive_to": True}}
        return await cls.change(where, update)

    @classmethod
    async def forget_exclusive(cls, session_id: ObjectId, viewer_id: str, exclusive_goal: ObjectId) -> bool:
        """Removes the pair of an exclusive that never started; False when it did, or there is no such pair."""
        pair = f"exclusive_goal_pairs.{map_key(viewer_id)}"
        where = {
            "_id": session_id,
            f"{pair}.exclusive_goal": either_form(exclusive_goal),
            f"{pair}.exclusive_goal_started": UNSET,
        }
        return await cls.changes(where, {"$unset": {pair: True}})

    # -- windows of viewers ---------------------------------------------------------------------------------------

    @classmethod
    async def open_window(
        cls, session_id: ObjectId, viewer_id: str, goal_id: ObjectId, nbf: datetime, duration_seconds: int
    ) -> Self | None:
        """Opens the viewer's window for that exclusive, from `nbf` on and without an end.

        None when it is that exclusive's or a later one's already, or there is no session.
        """
        window = f"viewers.{map_key(viewer_id)}"
        where = {
            "_id": session_id,
            f"{window}.goal_id": {"$nin": [goal_id, str(goal_id)]},
            "$or": [{f"{window}.nbf": UNSET}, {f"{window}.nbf": {"$lte": nbf}}],
        }
        return await cls.change(where, {"$set": {window: _window(goal_id, nbf, duration_seconds)}})

    @classmethod
    async def move_window(
        cls,
        session_id: ObjectId,
        viewer_id: str,
        goal_id: ObjectId,
        exp: datetime,
        *,
        as_of: datetime,
        nbf: datetime,
        duration_seconds: int,
    ) -> bool:
        """Sets the end of that exclusive's window, as its clock was at `as_of`; makes the window if the viewer has none.

        False when the window was closed or set later, or belongs to another exclusive that goes on.
        """
        window = f"viewers.{map_key(viewer_id)}"
        mine, other = (
            {f"{window}.goal_id": either_form(goal_id)},
            {f"{window}.goal_id": {"$nin": [goal_id, str(goal_id)]}},
        )
        open_still = {f"{window}.closed": {"$ne": True}}
        no_later = {"$or": [{f"{window}.as_of": UNSET}, {f"{window}.as_of": {"$lte": as_of}}]}
        changes = {f"{window}.exp": exp, f"{window}.as_of": as_of}
        if await cls.changes({"_id": session_id, **mine, **open_still, **no_later}, {"$set": changes}):
            return True
        free = [{window: {"$not": {"$type": "object"}}}, {**other, f"{window}.closed": True}]
        made = _window(goal_id, nbf, duration_seconds) | {"exp": exp, "as_of": as_of}
        if await cls.changes({"_id": session_id, "$or": free}, {"$set": {window: made}}):
            return True
        # A window that an earlier version opened names no exclusive.
        return await cls.changes(
            {"_id": session_id, f"{window}.goal_id": NO_REFERENCE, f"{window}.nbf": at_most(LAST_TIME), **open_still},
            {"$set": changes | {f"{window}.goal_id": goal_id}},
        )

    @classmethod
    async def close_window(
        cls, session_id: ObjectId, viewer_id: str, goal_id: ObjectId, at: datetime, performed_seconds: int
    ) -> Self | None:
        """Ends that exclusive's window at the latest at `at`; `duration` becomes what was performed.

        None when the window belongs to another exclusive, or there is no session.
        """
        window = f"viewers.{map_key(viewer_id)}"
        changes = {
            f"{window}.nbf": earliest(f"{window}.nbf", at),
            f"{window}.exp": earliest(f"{window}.exp", at),
            f"{window}.duration": performed_seconds,
            f"{window}.goal_id": goal_id,
            f"{window}.closed": True,
        }
        mine = [{f"{window}.goal_id": either_form(goal_id)}, {f"{window}.goal_id": NO_REFERENCE}]
        where = {"_id": session_id, "$or": mine}
        return await cls.change(where, [objects_stage("viewers"), {"$set": changes}])

    # -- karaoke --------------------------------------------------------------------------------------------------

    @classmethod
    async def update_karaoke(
        cls, session_id: ObjectId, goal_id: ObjectId, progress: int, levels: list[Level], active: bool
    ) -> Self | None:
        """Shows the karaoke goal's score, which never goes back; None when a later one was shown, or there is no session."""
        value = {
            "id": goal_id,
            "progress": progress,
            "levels": [level.model_dump() for level in levels],
            "active": active,
        }
        score = f"karaoke_scores.{goal_id}"
        other = {"karaoke_goal.id": {"$nin": [goal_id, str(goal_id)]}}
        earlier = {"karaoke_goal.progress": {"$not": {"$gte": progress}}}
        ended = {"karaoke_goal.progress": progress, "karaoke_goal.active": {"$ne": active}}
        where = {"_id": session_id, score: {"$not": {"$gt": progress}}, "$or": [other, earlier, ended]}
        return await cls.change(where, {"$set": {"karaoke_goal": value, score: progress}})

    # -- finding --------------------------------------------------------------------------------------------------

    @classmethod
    async def by_id(cls, session_id: object, session: DatabaseSession | None = None) -> "Session | None":
        """Returns the session of that id; `session` is the transaction of MongoDB in which it is read."""
        return await cls.read(session_id, session)

    @classmethod
    async def rtc_of(cls, session_id: object) -> Rtc | None:
        """The session's room and recording task; None when there is no such session."""
        found = await cls.shared().read(session_id)
        if found is None:
            return None
        return cls.parse({name: found[name] for name in ("_id", "rtc") if name in found}).rtc

    @classmethod
    async def latest_of(cls, user_id: str) -> "Session | None":
        """The session that this streamer began last, whether it goes on or has ended; None when there was never one."""
        for where in ({"user_id": user_id, "statuses.started": at_most(LAST_TIME)}, {"user_id": user_id}):
            if found := await cls.listed(where, "statuses.started", 1, descending=True):
                return found[0]
        return None
