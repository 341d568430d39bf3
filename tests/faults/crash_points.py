"""Every point at which a process can die on a chain of tasks, once each: what comes of it is always the same.

A point lies between any two steps of the process's tasks, that is, before and after every await that waits for anything.
After the crash another process takes over, the sweep finds what was lost, and the outcome is compared with that of an
undisturbed run. Half of the time Redis is emptied as well, so that nothing but the documents remembers.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId

from goalsvc.domain.presence import join_mark

from .loop import Process
from .machine import START, Document, Faults
from .simulation import STREAMER, Simulation, run

FUNDING, SHOW, SESSION = (ObjectId(f"69a49ac0{number:016x}") for number in (1, 2, 3))
SECONDS = 60
GIFTS = {"u-bob": 100, "u-carol": 250, "u-dora": 7}
ESCROW = f"show_funding:{FUNDING}"
#: When the show was begun, and when its performer stops.
BEGUN_AT, STOPPED_AT = START - timedelta(seconds=SECONDS + 5), START


@dataclass(frozen=True, slots=True)
class Chain:
    """Some work that is to be interrupted: what the show owes, or what Pusher tells; and whose steps are counted."""

    name: str
    owed: tuple[str, ...] = ()
    told: bool = False
    victim: str = "worker"


CHAINS = (
    Chain("the payout", owed=("escrow_out",)),
    Chain("the clip", owed=("create_post_from_livestream",)),
    Chain("the stop of the recording", owed=("StopRecord",)),
    Chain("the webhook", told=True, victim="api"),
    Chain("a whole completion", told=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: everything that matters, and nothing that may differ (times, how often something was tried)."""

    transfers: Mapping[str, tuple[str, str, int]]
    balances: Mapping[str, int]
    goals: Mapping[ObjectId, tuple[bool, int, Any]]
    assets: Mapping[ObjectId, str]
    posts: frozenset[ObjectId]
    stored: frozenset[str]
    recordings: tuple[frozenset[str], tuple[str, ...]]
    settled: frozenset[str]
    told: frozenset[tuple[str, Any]]
    show_ended: bool
    owed: tuple[str, ...]
    dead: tuple[str, ...]

    @classmethod
    def of(cls, simulation: Simulation) -> "Outcome":
        peek = simulation.inside.peek
        (session,) = peek("sessions").values()
        return cls(
            transfers={t["_id"]: (t["debit"], t["credit"], t["amount"]) for t in peek("transfers").values()},
            balances={name: account["balance"] for name, account in peek("accounts").items()},
            goals={
                name: (goal["active"], goal["progress"], goal.get("promises")) for name, goal in peek("goals").items()
            },
            assets={name: asset["state"] for name, asset in peek("assets").items()},
            posts=frozenset(peek("posts")),
            stored=frozenset(simulation.store.stored),
            recordings=(frozenset(simulation.rtc.recording), tuple(simulation.rtc.stopped)),
            settled=frozenset(name for name, share in peek("bi_escrows").items() if share["state"] == "settled"),
            told=frozenset((notice.event, notice.data.get("event_id")) for notice in simulation.pusher.told),
            show_ended="show_ended" in session["show_goal_pairs"][0],
            owed=tuple(promise["id"] for _, promise in simulation.promises()),
            dead=tuple(peek("dead_letters")),
        )


def interrupted(chain: Chain, dies_before: int | None, emptied: bool = False) -> tuple[Outcome, int]:
    """Plays the chain while its process dies before that step; the outcome, and how many steps its first process made."""
    simulation = Simulation(seed=1, faults=Faults())
    victims: list[Process] = []

    async def story(simulation: Simulation) -> None:
        set_the_scene(simulation, chain)
        begin = simulation.begin_process

        def begin_process(name: str, steps: int) -> Process:
            process = begin(name, steps)
            if name == chain.victim and not victims:
                process.dies_before = dies_before
                victims.append(process)
                if emptied:
                    process.on_death.append(simulation.redis.empty)
            return process

        simulation.begin_process = begin_process  # type: ignore[method-assign]
        simulation.rtc.recording.add(f"goal-{SHOW}")
        keepers = [asyncio.create_task(simulation.keep(name)) for name in ("api", "worker")]
        keepers.append(asyncio.create_task(simulation.cron()))
        await asyncio.sleep(0.01)  # of simulated time, in which nobody waits
        if chain.told:
            channel = f"presence-enc-goal@{SHOW}"
            events = [{"name": "member_removed", "channel": channel, "user_id": STREAMER}]
            await simulation.announce(STOPPED_AT, [*events, {"name": "channel_vacated", "channel": channel}])
        await simulation.settle()
        for keeper in keepers:
            keeper.cancel()

    run(simulation, story)
    assert not simulation.violations, simulation.violations
    return Outcome.of(simulation), victims[0].steps


def set_the_scene(simulation: Simulation, chain: Chain) -> None:
    """A funded show whose performer has done his part, at the instant at which goalsvc is to hear of it."""
    database = simulation.inside
    over = bool(chain.owed)
    database["users"].insert_one(
        {"_id": STREAMER, "tags": ["verified"], "byteplus": {"hls_url": "https://live.invalid/playlist.m3u8"}}
    )
    pair = {"funding_goal": FUNDING, "show_goal": SHOW, "show_started": BEGUN_AT}
    session = {"user_id": STREAMER, "statuses": {"started": BEGUN_AT}, "show_goal_pairs": [pair]}
    database["sessions"].insert_one({"_id": SESSION, "rtc": {"room_id": "room-1"}, **session})
    common = {"conditions": {"session_id": SESSION}, "metadata": {"user_id": STREAMER}}
    total = sum(GIFTS.values())
    funding = {"levels": [{"title": "Fund it", "target": total}], "progress": total, "active": False, "exp": BEGUN_AT}
    database["goals"].insert_one({"_id": FUNDING, "_cls": "Goal.FundingGoal", **common, **funding})
    show = {
        "levels": [{"title": "Ukulele", "target": SECONDS}],
        "context": {"started": BEGUN_AT, "last_updated": BEGUN_AT},
        "clock": {"marks": [join_mark(BEGUN_AT)], "floor": 0, "folded": 0, "counted": 0, "revision": ObjectId()},
        "active": not over,
        "progress": SECONDS + 5 if over else 0,
        "promises": [_promise(name) for name in chain.owed],
    }
    database["goals"].insert_one({"_id": SHOW, "_cls": "Goal.ShowGoal", **common, **show})
    for number, (user, amount) in enumerate(GIFTS.items()):
        earning = {"user_id": STREAMER, "from_user_id": user, "amount": amount, "created_at": BEGUN_AT}
        identity = ObjectId(f"69a49ac0{number + 16:016x}")
        database["earnings"].insert_one({"_id": identity, **earning, f"_{ESCROW}": True})
    database["accounts"].insert_one({"_id": f"escrow:{ESCROW}", "balance": total})
    database["accounts"].insert_one({"_id": "issuer", "balance": -total})


def _promise(task: str) -> Document:
    """A promise of the completed show, as its receivers make it."""
    arguments: dict[str, dict[str, Any]] = {
        "escrow_out": {"escrow_id": ESCROW, "user_id": STREAMER, "nbf": BEGUN_AT, "exp": STOPPED_AT},
        "create_post_from_livestream": {
            "session_id": str(SESSION),
            "caption": "Ukulele",
            "duration": 30,
            "rewind_seconds": 30,
            "tags": ["feed:shorts_livestream"],
            "completed_at": STOPPED_AT,
        },
        "StopRecord": {"session_id": str(SESSION)},
    }
    return {"id": task, "task": task, "arguments": arguments[task] | {"goal_id": str(SHOW)}, "at": START, "parent": ""}


def differences(
    chain: Chain, stride: int = 1, tell: Callable[[str], None] = lambda _line: None
) -> tuple[int, list[str]]:
    """Interrupts the chain at every point (every so many-th); how many there were, and where the outcome was another."""
    expected, steps = interrupted(chain, None)
    assert not expected.owed, expected
    found, tried = [], 0
    for point in range(0, steps + 1, stride):
        for emptied in (False, True):
            outcome, _ = interrupted(chain, point, emptied)
            tried += 1
            if outcome != expected:
                what = [
                    f"{name}: {getattr(outcome, name)} instead of {getattr(expected, name)}"
                    for name in Outcome.__slots__
                    if getattr(outcome, name) != getattr(expected, name)
                ]
                found.append(f"{chain.name}, before step {point}{', Redis emptied' * emptied}: {'; '.join(what)}")
                tell(found[-1])
    return tried, found


def main() -> int:
    """Interrupts every chain at every point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="only every so many-th point")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    wrong = 0
    for chain in CHAINS:
        tried, found = differences(chain, given.stride, tell=print)
        wrong += len(found)
        print(f"{chain.name}: {tried} crashes, {len(found)} with another outcome")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
