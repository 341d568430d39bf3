"""Promises of which any field or argument is absent, null or of another type: each becomes one dead letter, or is kept.

Every task that a document can promise, each of its arguments, and each odd value, each in a goal of its own next to a good
promise: what can be read is done, what cannot is one dead letter that names task and argument, and the good one is kept.
"""

import inspect
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from bson import Code, DBRef, Decimal128, Int64, ObjectId

from goalsvc.errors import InvalidArgumentError, MissingArgumentError
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter
from goalsvc.tasks import ALL as TASKS
from goalsvc.tasks.arq_queue import deserialize, serialize
from goalsvc.tasks.task import Task
from tests.stories.scenes import a_funded_show, a_funding, contributes
from tests.support import documents as odd
from tests.world import World

pytestmark = pytest.mark.real

#: `make drivers` plays them all; else each argument has each ninth value.
EVERY = 1 if os.environ.get("GOALSVC_TEST_ODD") == "all" else 9
#: Those that a document can promise; the others are run by the clock.
PROMISED = [task for task in TASKS if len(inspect.signature(task.function).parameters) > 1]
BY_NAME = {task.name: task for task in PROMISED}


def arguments_of(task: Task[Any], goal_id: ObjectId) -> odd.Document:
    """Arguments as goalsvc writes them, of that goal; what else they name does not exist."""
    own, share = str(goal_id), {"doc_id": str(ObjectId()), "user_id": "alice"}
    by_name: odd.Document = {
        "goal_id": own,
        "session_id": str(ObjectId()),
        "asset_id": str(ObjectId()),
        "redrive_id": "rdr_x",
        "promise_id": "odd",
        "event_id": "odd",
        "refund_id": "r",
        "transfer_id": f"t-{own}",
        "escrow_id": f"show_funding:{own}",
        "from_escrow_id": f"trigger:{own}",
        "to_escrow_id": f"exclusive:{own}",
        "from_user_id": "bob",
        "to_user_id": "alice",
        "user_id": "alice",
        "amount": 5,
        "paid": 5,
        "contributions": 1,
        "since": 0,
        "above": 0,
        "fee_bps": 0,
        "duration": 30,
        "rewind_seconds": 30,
        "caption": "c",
        "reason": "r",
        "parent": "s#x/y",
        "tags": ["a"],
        "channels": ["private-user@alice"],
        "shares": [[str(ObjectId()), "alice"]],
        "data": {"event_id": "e", "deep": [{"a": 1}]},
        "metadata": share,
        "event": "escrow.completed",
        **dict.fromkeys(("at", "nbf", "exp", "completed_at", "paused_since", "unowned_since"), odd.START),
    }
    if task.name == "write_event":
        told = {"type": "theirs", "identity": own, "created_at": odd.START, "data": {"a": 1}, "user_ids": ["alice"]}
        by_name["event"] = told
    if task.name == "notify_progress":
        by_name["contributions"] = False
    if task.name == "deliver_notice":
        by_name["event"] = "goal.ended"
    if task.name == "clip_livestream_as_asset":
        by_name["metadata"] = {"a": "b"}
    return {name: by_name[name] for name in list(inspect.signature(task.function).parameters)[1:]}


@dataclass(frozen=True, slots=True)
class Case:
    """A promise with one odd argument, in a goal of its own."""

    task: str
    path: odd.Path
    value: object
    goal_id: ObjectId
    arguments: odd.Document

    @property
    def goal(self) -> odd.Document:
        kind = "FundingGoal" if self.task == "announce_contributions" else "ShowGoal"
        good = odd.promise(id="good", task="write_event", arguments=arguments_of(BY_NAME["write_event"], self.goal_id))
        promise = odd.promise(id="odd", task=self.task, arguments=self.arguments, progress=5)
        return odd.goal(kind, _id=self.goal_id, exp=None, clock=None, promises=[promise, good])

    @property
    def readable(self) -> bool:
        """Whether the task's signature takes these arguments, as they come out of a job."""
        try:
            BY_NAME[self.task].arguments_from(deserialize(serialize(self.arguments)))
        except (InvalidArgumentError, MissingArgumentError):
            return False
        return True


_ABSENT = object()


def cases(task: Task[Any]) -> Iterator[Case]:
    """Each argument absent, and with each odd value or a part of these."""
    values = list(odd.ODD_VALUES.values())
    for number, path in enumerate(odd.paths_of(arguments_of(task, ObjectId()))):
        part = (number + len(task.name)) % EVERY
        for value in (_ABSENT, *values[part::EVERY]):
            goal_id = ObjectId()
            good = arguments_of(task, goal_id)
            changed = odd.without(good, path) if value is _ABSENT else odd.with_value(good, path, value)
            yield Case(task.name, path, value, goal_id, changed)


async def sweeps(world: World, times: int) -> None:
    """Lets the sweep come round, and the workers work, until what is tried again is dead."""
    for _ in range(times):
        await world.tick("sweep_promises")
        await world.work()
        await world.after(seconds=40)


@pytest.mark.parametrize("task", PROMISED, ids=lambda task: task.name)
async def test_each_argument_of_each_task(odd_world: World, task: Task[Any]) -> None:
    world = odd_world
    tried = list(cases(task))
    world.database.goals.insert_many(case.goal for case in tried)
    await sweeps(world, 14)
    letters = Counter(letter["goal_id"] for letter in world.all("dead_letters"))
    by_goal = {letter["goal_id"]: letter for letter in world.all("dead_letters")}
    told = Counter(event["goal_id"] for event in world.all("events", {"type": "dead_letter.created"}))
    kept = {event["data"].get("a") and event["_id"] for event in world.all("events", {"type": "theirs"})}
    assert len(kept) >= len(tried), "each good promise is kept"
    for case in tried:
        own, goal = str(case.goal_id), world.goal(str(case.goal_id))
        assert "good" not in [promise.get("id") for promise in goal["promises"]], case
        if not case.readable:
            assert (letters[own], told[own]) == (1, 1), (case, by_goal.get(own))
            reason = by_goal[own]["reason"]
            assert case.task in reason, reason
            assert case.path[0] in reason, (case, reason)
            assert reason.split(":")[0] in {"invalid_argument", "missing_argument"}
            assert len(by_goal[own]["history"]) == 1, "it is buried once"
        elif own in by_goal:
            assert "_argument: " not in by_goal[own]["reason"] or case.path == ("event_id",), by_goal[own]["reason"]
            assert by_goal[own]["reason"].split(":")[0] not in PYTHON_ERRORS, (case, by_goal[own]["reason"])
        owed = {promise.get("id") for promise in goal["promises"]}
        assert "odd" not in owed, (case, "it is swept for ever")


#: What a dead letter may not say: an error that no rule of ours has found.
PYTHON_ERRORS = {"KeyError", "TypeError", "ValueError", "AttributeError", "InvalidId", "OverflowError", "IndexError"}


async def test_what_can_be_read_is_done(odd_world: World) -> None:
    world = odd_world
    values: list[tuple[str, object]] = [
        ("amount", Int64(5)),
        ("amount", 5.0),
        ("amount", Decimal128("5")),
        ("goal_id", ObjectId),
        ("_then", [{"task": 5}]),
        ("_settles", False),
        ("theirs", Code("x")),
    ]
    goals = []
    for name, value in values:
        goal_id = ObjectId()
        given = {"goal_id": str(goal_id), "amount": 5, "event_id": "odd"}
        arguments = given | {name: goal_id if value is ObjectId else value}
        promise = odd.promise(id="odd", arguments=arguments)
        goals.append(odd.goal("ShowGoal", _id=goal_id, exp=None, clock=None, progress=3, levels=[], promises=[promise]))
    world.database.goals.insert_many(goals)
    await sweeps(world, 2)
    assert world.all("dead_letters") == []
    after = [world.goal(str(goal["_id"])) for goal in goals]
    assert [(goal["progress"], goal["promises"]) for goal in after] == [(8, [])] * len(goals)
    assert all(isinstance(goal["progress"], int) for goal in after)


@pytest.mark.parametrize("value", [Code("return 1"), Decimal128("12.5"), "nonsense", None], ids=str)
async def test_a_letter_is_redriven_once_its_argument_is_corrected(odd_world: World, value: object) -> None:
    world, goal_id = odd_world, ObjectId()
    promise = odd.promise(id="odd", arguments={"goal_id": str(goal_id), "amount": value, "event_id": "odd"})
    goal = odd.goal("ShowGoal", _id=goal_id, exp=None, clock=None, levels=[], promises=[promise])
    world.database.goals.insert_one(goal)
    await sweeps(world, 3)
    (letter,) = world.all("dead_letters")
    assert "increment_goal_progress: " in letter["reason"]
    assert "amount: " in letter["reason"]
    await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
    await sweeps(world, 3)
    (again,) = world.all("dead_letters")
    assert (again["state"], len(again["history"])) == ("dead", 2), "nothing was corrected"
    world.database.dead_letters.update_one({}, {"$set": {"arguments.amount": 7}})
    await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
    await sweeps(world, 1)
    assert world.goal(str(goal_id))["progress"] == 7
    assert world.goal(str(goal_id))["promises"] == []
    assert [each["state"] for each in world.all("dead_letters")] == ["redriven"]


# -- the promise itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["id", "task", "at", "arguments", "whole"])
async def test_a_promise_of_which_a_field_is_odd(odd_world: World, field: str) -> None:
    """One goal for each value: the odd promise, which is one dead letter however often it is swept, and a good one."""
    world = odd_world
    texts = {"empty text", "text", "a date as text"} if field in ("id", "task") else set[str]()
    objects = {name for name, value in odd.ODD_VALUES.items() if isinstance(value, Mapping | DBRef)}
    usable = texts | (objects if field == "arguments" else set())
    values = {name: value for name, value in odd.ODD_VALUES.items() if name not in usable}
    goals = {}
    for name, value in values.items():
        goal_id = ObjectId()
        given = {"goal_id": str(goal_id), "amount": 5, "event_id": "good"}
        bad = value if field == "whole" else odd.promise(arguments=given) | {field: value}
        good = odd.promise(id="good", arguments=given)
        goals[name] = odd.goal("ShowGoal", _id=goal_id, exp=None, clock=None, levels=[], promises=[bad, good])
    world.database.goals.insert_many(goals.values())
    await sweeps(world, 4)
    told = Counter(event["goal_id"] for event in world.all("events", {"type": "dead_letter.created"}))
    letters = {letter["goal_id"]: letter for letter in world.all("dead_letters")}
    for name, goal in goals.items():
        after, own = world.goal(str(goal["_id"])), str(goal["_id"])
        assert (after["progress"], len(after["promises"])) == (5, 1), (name, "the good one is done, the odd one kept")
        if field == "whole" and name in objects:
            continue  # it names no task and is never due: no index leads to it once the good one is done
        assert told[own] == 1, name
        where = "promises.0: must be an object" if field == "whole" else f"promises.0.{field}: must be"
        reason = letters[own]["reason"]
        assert f"unusable_document: goals/{own}: {where}" in reason or f"{field}: Input" in reason, (name, reason)


@pytest.mark.parametrize("at", ["yesterday", "absent"])
async def test_a_promise_without_a_usable_time_is_corrected_and_redriven(odd_world: World, at: str) -> None:
    world, goal_id = odd_world, ObjectId()
    given = {"goal_id": str(goal_id), "amount": 5, "event_id": "increment"}
    promise = odd.promise(arguments=given, at=at)
    if at == "absent":
        del promise["at"]
    world.database.goals.insert_one(
        odd.goal("ShowGoal", _id=goal_id, exp=None, clock=None, levels=[], promises=[promise])
    )
    await sweeps(world, 3)
    (letter,) = world.all("dead_letters")
    rule = "required" if at == "absent" else "must be a date of the years 1 to 9999"
    assert f"promises.0.at: {rule}" in letter["reason"]
    assert world.goal(str(goal_id))["promises"] == [promise], "it is left as it is"
    world.database.goals.update_one({}, {"$set": {"promises.0.at": odd.START}})
    await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
    await world.work()
    assert (world.goal(str(goal_id))["progress"], world.goal(str(goal_id))["promises"]) == (5, [])
    assert [each["state"] for each in world.all("dead_letters")] == ["redriven"]


async def test_the_search_for_promises_without_a_time_reads_no_others(odd_world: World) -> None:
    """It has its ranges in the index: it costs nothing where a million promises wait."""
    world = odd_world
    goals = [odd.goal("ShowGoal", promises=[odd.promise()]) for _ in range(200)]
    undated = odd.promise()
    del undated["at"]
    goals += [odd.goal("ShowGoal", promises=[promise]) for promise in (odd.promise(at=None), undated)]
    world.database.goals.insert_many(goals)
    before = world.database.command("serverStatus")["metrics"]["queryExecutor"]["scannedObjects"]
    found = [each async for each in Goal.undated(1000)]
    after = world.database.command("serverStatus")["metrics"]["queryExecutor"]["scannedObjects"]
    faults = {"promises.0.at: must be a date of the years 1 to 9999", "promises.0.at: required"}
    assert {each.fault for each in found} == faults
    assert after - before < 50


async def test_the_sweep_works_while_its_index_is_missing(odd_world: World) -> None:
    world, goal_id = odd_world, ObjectId()
    world.database.goals.drop_index("promises_due")
    promise = odd.promise(arguments={"goal_id": str(goal_id), "amount": 5, "event_id": "increment"})
    world.database.goals.insert_one(
        odd.goal("ShowGoal", _id=goal_id, exp=None, clock=None, levels=[], promises=[promise])
    )
    await sweeps(world, 1)
    assert world.goal(str(goal_id))["progress"] == 5
    assert [each async for each in Goal.undated(1000)] == []


async def test_a_promise_that_its_document_contradicts_is_one_dead_letter(odd_world: World) -> None:
    """It says that another escrow pays than its tags name: no transfer may be made of it, however often it is tried."""
    world, goal_id = odd_world, ObjectId()
    given = arguments_of(BY_NAME["transfer"], goal_id) | {"from_user_id": None, "tags": ["escrow::trigger:x"]}
    promise = odd.promise(id="odd", task="transfer", arguments=given)
    world.database.goals.insert_one(odd.goal("ShowGoal", _id=goal_id, exp=None, clock=None, promises=[promise]))
    await sweeps(world, 14)
    (letter,) = world.all("dead_letters")
    assert letter["reason"].startswith("not_promised: transfer: arguments: ")
    assert world.goal(str(goal_id))["promises"] == []
    assert world.all("transfers") == []


async def test_contributions_beside_an_odd_announcement_are_told(odd_world: World) -> None:
    world = odd_world
    funding = await world.given(a_funding(target=300))
    await world.deposits("bob", 100)
    await contributes(world, funding, "bob", 40)
    world.jobs.forget_all()
    at = {"promises.task": "announce_contributions"}
    world.database.goals.update_one(at, {"$set": {"promises.$.arguments.amount": "forty"}})
    await contributes(world, funding, "bob", 60)
    await sweeps(world, 3)
    (letter,) = world.all("dead_letters")
    assert "announce_contributions: arguments.amount: must be a whole number" in letter["reason"]
    (told,) = [each["data"] for each in world.all("events", {"type": "goal.progressed"})]
    assert (told["amount"], told["goal"]["progress"]) == (60, 100)
    world.database.dead_letters.update_one({"_id": letter["_id"]}, {"$set": {"arguments.amount": 40}})
    await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
    await sweeps(world, 2)
    assert [each["state"] for each in world.all("dead_letters")] == ["redriven"]
    assert len(world.all("events", {"type": "goal.progressed"})) == 2


async def test_a_payout_whose_promise_another_driver_wrote(odd_world: World) -> None:
    """Decimals and doubles in the promise of a payout: the same tokens, and no other claim."""
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    await world.performs(show, seconds=70)
    for _ in range(12):
        for goal in world.all("goals"):
            written = [odd.WRITERS["the shell"](promise) for promise in goal["promises"]]
            world.database.goals.update_one({"_id": goal["_id"]}, {"$set": {"promises": written}})
        await world.jobs.work_one(world.context)
    await world.settle()
    assert world.balance(show.streamer) == show.escrow
    assert world.all("dead_letters") == []


async def test_a_job_that_names_no_document_is_one_dead_letter(odd_world: World) -> None:
    """Another service's letter without a promise: what is redriven runs once, and is dead."""
    world = odd_world
    letter = {"_id": "theirs", "task": "deactivate_goal", "reason": "r", "at": odd.START, "tries": 1, "state": "dead"}
    world.database.dead_letters.insert_one(letter | {"arguments": {"goal_id": Code("x"), "theirs": [Code("y")]}})
    await world.post("/v1/dead-letters/theirs/redrive")
    await world.work()
    (dead,) = world.all("dead_letters")
    assert dead["state"] == "dead"
    assert "deactivate_goal: arguments.goal_id: must be an ObjectId" in dead["reason"]
    assert await DeadLetter.is_dead("theirs")
    assert world.jobs.next_due_at() is None or world.jobs.next_due_at() > world.clock.now() + timedelta(days=1)  # type: ignore[operator]
