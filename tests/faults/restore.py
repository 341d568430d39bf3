"""A history in which the database is restored from a backup, while Redis is newer, older, or empty.

What clients were told after the backup is lost with it, so what must hold is read from the documents and from the marks that
were in them: the books, the law of the clock, each earning settled once and in the right way, nothing stuck, nothing owed.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from goalsvc.domain.ids import derived_id

from .machine import Backup, Document
from .oracle import ClockOracle, performed_share
from .watched_books import WatchedBooks

if TYPE_CHECKING:
    from .simulation import Simulation

#: In which world a client lives; those of the one before a restore are heard of no more.
WORLD: ContextVar[int] = ContextVar("simulated_world", default=0)


@dataclass(frozen=True, slots=True)
class Saved:
    """A backup of the database, and what whoever looks on knew then."""

    documents: Mapping[str, Mapping[Any, Document]]
    clocks: Mapping[ObjectId, ClockOracle]
    books: WatchedBooks
    tracked: Mapping[str, Mapping[str, Any]]
    redis: Backup


def save(simulation: "Simulation") -> Saved:
    """Makes a backup. (No transaction is open while this runs, or it is not in it.)"""
    books = copy(simulation.books)
    for name in ("_seen", "balances", "held", "paid", "returned", "reversed"):
        setattr(books, name, copy(getattr(books, name)))
    return Saved(
        simulation.inside.saved(),
        deepcopy(simulation.clocks),
        books,
        dict(simulation.records.tracked),
        simulation.redis.backup(),
    )


def restore(simulation: "Simulation", saved: Saved, redis: Backup | None) -> None:
    """All processes stop, the database is as it was, Redis is as given or as it is; clients know nothing any more."""
    for process in simulation.running.values():
        process.kill()
    simulation.world += 1
    simulation.restored = True
    simulation.inside.restore(saved.documents)
    simulation.clocks = dict(saved.clocks)
    simulation.books.__dict__.update(saved.books.__dict__, wrong=simulation.books.wrong)
    simulation.records.tracked = dict(saved.tracked)
    simulation.pusher.present.clear()
    simulation.ended_at = None
    simulation.see_again()
    if redis is not None:
        simulation.redis.restore(redis)


async def restored_later(simulation: "Simulation", playing: "asyncio.Future[Any]") -> None:
    """Backs up the database and, at another time, Redis; later, or when all is played, restores the database.

    Redis is then newer (as it is), older, of the same moment, empty, or has all jobs of the time that is lost.
    """
    random = simulation.random
    older = simulation.redis.backup()
    await asyncio.sleep(random.uniform(5.0, 120.0))
    await simulation.connection.until_no_transaction()
    while simulation.selling:
        await asyncio.sleep(0.1)
        await simulation.connection.until_no_transaction()
    saved = save(simulation)
    simulation.redis.ever.clear()
    await asyncio.wait([playing], timeout=random.choice([random.uniform(0.0, 30.0), random.uniform(0.0, 400.0)]))
    undone = Backup({**saved.redis.jobs, **simulation.redis.ever}, simulation.redis.backup().swept)
    redis = random.choice([None, older, saved.redis, Backup({}, {}), undone, undone])
    restore(simulation, saved, redis)


def what_documents_say(
    contents: Mapping[str, list[Document]], goals: Mapping[ObjectId, Document], clocks: Mapping[ObjectId, ClockOracle]
) -> Iterator[str]:
    """Yields where an escrow was not settled as the performance says, as far as transfers and goals tell."""
    transfers = contents.get("transfers", [])
    names = [each["_id"] for each in transfers if not any(tag.startswith("reversal::") for tag in each["tags"])]
    for goal_id, goal in goals.items():
        match goal["_cls"]:
            case "Goal.FundingGoal":
                show = goals.get(derived_id(goal_id, "show"))
                paid = show is not None and show["progress"] >= show["levels"][-1]["target"]
                word = "refund" if paid else "escrow"
                if wrong := [name for name in names if name.startswith(f"{word}-show_funding:{goal_id}-")]:
                    yield f"the show of {goal_id} was {'' if paid else 'not '}performed, and yet {wrong} were made"
            case "Goal.ExclusiveGoal" if goal["levels"]:
                yield from _share(contents, goal, clocks.get(goal_id, ClockOracle()))


def _share(contents: Mapping[str, list[Document]], goal: Document, clock: ClockOracle) -> Iterator[str]:
    account, into, paid, freed = f"escrow:exclusive:{goal['_id']}", 0, 0, 0
    for transfer in contents.get("transfers", []):
        into += transfer["amount"] if transfer["credit"] == account else 0
        if transfer["debit"] == account:
            paid += transfer["amount"] if transfer["_id"].startswith(("escrow-", "fee-escrow-")) else 0
            freed += transfer["amount"] if any(tag.startswith("reversal::") for tag in transfer["tags"]) else 0
    expected = performed_share(into - freed, clock.seconds(goal["progress"]), goal["levels"][-1]["target"])
    if paid != expected:
        yield f"of the {into} tokens of exclusive {goal['_id']} {paid} were paid, and should be {expected}"
