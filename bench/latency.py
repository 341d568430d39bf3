"""Row 3: from the leave that completes a show to the last of its effects."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

from bson import ObjectId

from bench.lab import Lab
from bench.load import percentile
from bench.outside import Call
from bench.report import Result, Spread
from bench.sender import Sender
from bench.traffic import session, show_goal, streamer_of, webhook

_DATABASE = "latency"
_PATIENCE_SECONDS = 15.0
EARNINGS = 10
_TOKENS = 25
TARGET_SECONDS = 20

#: What must be seen of a completed show, and how often.
_WANTED = {
    "transfer": EARNINGS,
    "wallet.updated": 1,  # the streamer is told once of all shares
    "goal.progress.updated": 1,
    "StopRecord": 1,
    "show ended in the session": 1,
    "goal inactive": 1,
    "escrow.completed": 1,
}


@dataclass(slots=True)
class Settlement:
    """What a completed show sets off, and when each of it was seen; the clip is left out: there is no livestream."""

    effects: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def saw(self, effect: str, at: float) -> None:
        """Notes one effect."""
        if effect not in _WANTED:
            return
        self.counts[effect] = self.counts.get(effect, 0) + 1
        self.effects[effect] = at
        if all(self.counts.get(name, 0) >= times for name, times in _WANTED.items()):
            self.complete.set()

    @property
    def missing(self) -> str:
        """What has not been seen."""
        return ", ".join(name for name, times in _WANTED.items() if self.counts.get(name, 0) < times)


async def put_funded_show(lab: Lab, database: str, earnings: int, target: int = TARGET_SECONDS) -> ObjectId:
    """A show that viewers have paid for, in documents as other services write them."""
    goal_id, session_id, funding_id = ObjectId(), ObjectId(), ObjectId()
    streamer, now = streamer_of(goal_id), datetime.now(UTC)
    begun = now - timedelta(hours=1)
    store = lab.mongo[database]
    await store["sessions"].insert_one(session(session_id, goal_id, funding_id, begun))
    await store["users"].insert_one({"_id": streamer, "username": "bench", "tags": []})
    await store["goals"].insert_one(show_goal(goal_id, session_id, target))
    await store["accounts"].insert_one({"_id": f"escrow:show_funding:{funding_id}", "balance": earnings * _TOKENS})
    await store["earnings"].insert_many(
        [
            {
                "_id": ObjectId(),
                "user_id": streamer,
                "from_user_id": f"viewer-{number}",
                "goal_id": funding_id,
                "amount": _TOKENS,
                "created_at": begun + timedelta(milliseconds=number),
                f"_show_funding:{funding_id}": True,
            }
            for number in range(earnings)
        ]
    )
    return goal_id


async def settlements(lab: Lab, *, shows: int, say: Callable[[str], None]) -> list[Result]:
    """Row 3: one show after another is completed; until the last token is paid and all is told and written."""
    say(f"row 3: {shows} completed shows of {EARNINGS} earnings")
    waits, last_transfers = [], []
    slowest: dict[str, int] = {}
    async with lab.worker(_DATABASE), lab.api(_DATABASE) as api, Sender.to(api, 2) as sender:
        for number in range(shows + 2):
            took, effects = await complete_show(lab, sender)
            if number < 2:  # the first ones open connections
                continue
            waits.append(took * 1000)
            last_transfers.append(effects["transfer"] * 1000)
            last = max(effects, key=lambda name: effects[name])
            slowest[last] = slowest.get(last, 0) + 1
    spread = Spread(tuple(waits))
    told = ", ".join(f"{name} {times}" for name, times in sorted(slowest.items(), key=lambda item: -item[1]))
    paid = Spread(tuple(last_transfers)).median
    basis = (
        f"p90 {percentile(waits, 0.9):.0f} ms, {shows} shows; last transfer after {paid:.0f} ms; last of all: {told}"
    )
    what = f"leave → last effect of a completed show, {EARNINGS} earnings, p50"
    return [Result(3, what, spread.median, "ms", at_most=100, spread=spread, basis=basis)]


async def complete_show(lab: Lab, sender: Sender) -> tuple[float, dict[str, float]]:
    """Completes one show; the seconds from the leave to the last effect, and to each kind of effect."""
    goal_id = await put_funded_show(lab, _DATABASE, EARNINGS)
    seen = Settlement()

    def note(call: Call) -> None:
        seen.saw(call.name, call.at)

    watching = asyncio.Event()
    watcher = asyncio.create_task(_watch(lab, goal_id, seen, watching))
    with lab.outside.heard_by(note):
        await watching.wait()
        joined = datetime.now(UTC) - timedelta(seconds=TARGET_SECONDS + 1)
        await sender.send(webhook("member_added", goal_id, joined))
        await asyncio.sleep(0.1)  # what the join sets off is over
        sent = await sender.send(webhook("member_removed", goal_id, datetime.now(UTC)))
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await seen.complete.wait()
        except TimeoutError:
            raise RuntimeError(f"a completed show lacks: {seen.missing}") from None
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
    effects = {name: at - sent for name, at in seen.effects.items()}
    return max(effects.values()), effects


async def _watch(lab: Lab, goal_id: ObjectId, seen: Settlement, watching: asyncio.Event) -> None:
    """Follows the database and notes the effects that are documents."""
    wanted: list[dict[str, Any]] = [{"$match": {"ns.coll": {"$in": ["transfers", "events", "goals", "sessions"]}}}]
    async with await lab.mongo[_DATABASE].watch(wanted, max_await_time_ms=1000) as stream:
        await stream.try_next()  # opens it
        watching.set()
        async for change in stream:
            effect = _effect_of(change, goal_id)
            if effect is not None:
                seen.saw(effect, perf_counter())


def _effect_of(change: dict[str, Any], goal_id: ObjectId) -> str | None:
    collection, identity = change["ns"]["coll"], change["documentKey"]["_id"]
    updated: dict[str, Any] = change.get("updateDescription", {}).get("updatedFields", {})
    match collection, change["operationType"]:
        case "transfers", "insert":
            return "transfer"
        case "events", "insert" if change["fullDocument"].get("type") == "escrow.completed":
            return "escrow.completed"
        case "goals", "update" if identity == goal_id and updated.get("active") is False:
            return "goal inactive"
        case "sessions", "update" if any(name.endswith(".show_ended") for name in updated):
            return "show ended in the session"
    return None
