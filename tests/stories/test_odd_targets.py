"""Each task that a document can promise, run against documents of which any field is absent, null or of another type.

For each field of the goal, session, user, earning and account that a task may read there is an evening of its own, in which
this one field is odd, and the promise of the task. What the field does not decide is done as ever; what cannot be done ends as
one dead letter, which is done once the field is right and the letter redriven; and what no promise is about is not touched.
"""

import inspect
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import pytest
from bson import ObjectId

from goalsvc.domain.escrow import escrow_account, show_escrow
from goalsvc.tasks.task import Task
from tests.stories.test_odd_promises import PROMISED, PYTHON_ERRORS, arguments_of, sweeps
from tests.support import documents as odd
from tests.world import World

pytestmark = pytest.mark.real

#: `make drivers` plays all fields with all values; else each field is absent, or has one value, in turn from task to task.
ALL = os.environ.get("GOALSVC_TEST_ODD") == "all"
#: Tasks of an asset, of which nothing but its id is promised, and a redrive: they have no goal, session or escrow to read.
TASKS = [task for task in PROMISED if task.name not in {"redrive_letters", "write_event", "deliver_notice"}]
TARGETS = ("goals", "sessions", "users", "earnings", "accounts")
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Evening:
    """The documents that a promise of a task is about."""

    documents: dict[str, odd.Document]

    @classmethod
    def of(cls, number: int) -> Self:
        """A goal of a streamer in a session, its escrow with one contribution."""
        goal_id, session_id, streamer = ObjectId(), ObjectId(), f"streamer-{number}"
        escrow = show_escrow(goal_id)
        pair = {"funding_goal": ObjectId(), "show_goal": goal_id, "show_started": odd.START, "show_ended": None}
        conditions = {"session_id": session_id, "exclusive_to": f"viewer-{number}", "trigger_goal_id": ObjectId()}
        goal = odd.goal("ShowGoal", _id=goal_id, conditions=conditions, clock=odd.clock(), exp=None)
        goal["metadata"] |= {"user_id": streamer, "viewer_id": f"viewer-{number}", "funding_goal_id": goal_id}
        earning = odd.earning(escrow, user_id=streamer, from_user_id=f"viewer-{number}", goal_id=goal_id)
        return cls(
            {
                "goals": goal,
                "sessions": odd.session(_id=session_id, user_id=streamer, show_goal_pairs=[pair]),
                "users": odd.user(_id=streamer),
                "earnings": earning | {"_id": ObjectId()},
                "accounts": odd.account(escrow_account(escrow), settling=False, settlement=None, owes=False),
            }
        )

    def promise(self, task: Task[Any]) -> odd.Document:
        """The promise of the task, about these documents."""
        goal, earning = self.documents["goals"], self.documents["earnings"]
        streamer, escrow = self.documents["users"]["_id"], show_escrow(goal["_id"])
        named = arguments_of(task, goal["_id"])
        about = {
            "session_id": str(self.documents["sessions"]["_id"]),
            "escrow_id": escrow,
            "user_id": streamer,
            "to_user_id": streamer,
            "metadata": {"doc_id": str(earning["_id"]), "user_id": streamer},
            "shares": [[str(earning["_id"]), streamer]],
            "nbf": odd.START - timedelta(days=1),
            "exp": odd.START + timedelta(days=1),
        }
        about = {name: value for name, value in about.items() if name in named}
        if task.name in {"transfer", "return_payout", "clip_livestream_as_asset"}:
            about.pop("metadata", None)
        if task.name == "transfer":
            about |= {"from_user_id": None, "tags": [f"escrow::{escrow}"]}
        if task.name == "hold_exclusive":
            about |= {"from_escrow_id": escrow}
        return odd.promise(id="odd", task=task.name, arguments=named | about, progress=5)


@dataclass(frozen=True, slots=True)
class Case:
    """An evening of which one field of one document is odd."""

    good: Evening
    target: str
    path: odd.Path
    value: object

    @property
    def document(self) -> odd.Document:
        good = self.good.documents[self.target]
        if self.value is _ABSENT:
            return odd.without(good, self.path)
        return odd.with_value(good, self.path, self.value)

    @property
    def goal_id(self) -> ObjectId:
        identity = self.good.documents["goals"]["_id"]
        assert isinstance(identity, ObjectId)
        return identity


def cases(task: Task[Any]) -> Iterator[Case]:
    """Each field of each document absent, and with each odd value; or one of these for each field, another for each task."""
    values = [_ABSENT, *odd.ODD_VALUES.values()]
    turn, number = TASKS.index(task), 0
    for target in TARGETS:
        for index, path in enumerate(odd.paths_of(Evening.of(0).documents[target])):
            if path[0] == "promises":
                continue  # tests/stories/test_odd_promises.py
            number += 1
            chosen = values if ALL else [values[(turn * 7 + number) % len(values)]]
            for place, value in enumerate(chosen):
                evening = Evening.of(number * 100 + place)
                own = list(odd.paths_of(evening.documents[target]))[index]  # one names the escrow
                yield Case(evening, target, own, value)


def store(world: World, task: Task[Any], evening: Evening, case: Case | None = None) -> None:
    """Stores an evening, odd as the case says, in which the goal owes the task."""
    for name in TARGETS:
        document = case.document if case is not None and case.target == name else evening.documents[name]
        owed = {"promises": [evening.promise(task)]} if name == "goals" else {}
        world.database[name].insert_one(document | owed)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
async def test_each_field_of_what_a_task_reads(odd_world: World, task: Task[Any]) -> None:
    world = odd_world
    tried, normal = list(cases(task)), Evening.of(0)
    bystander = Evening.of(1)
    for name in TARGETS:
        world.database[name].insert_one(bystander.documents[name])
    store(world, task, normal)
    for case in tried:
        store(world, task, case.good, case)

    await sweeps(world, 14)

    letters: dict[str, list[odd.Document]] = {}
    for letter in world.all("dead_letters"):
        letters.setdefault(str(letter["_id"]).split("/")[1], []).append(letter)
    told = Counter(str(event["goal_id"]) for event in world.all("events", {"type": "dead_letter.created"}))
    for case in tried:
        owed = [promise["id"] for promise in world.goal(str(case.goal_id))["promises"]]
        assert "odd" not in owed, (case, "it is swept for ever")
        for letter in letters.get(str(case.goal_id), []):
            code, _, reason = letter["reason"].partition(": ")
            assert code not in PYTHON_ERRORS, (case, letter["reason"])
            assert reason, (case, letter["reason"])
            assert len(letter["history"]) == 1, (case, letter)
    assert told == {goal_id: len(buried) for goal_id, buried in letters.items()}, "each letter is told once"
    for name, document in bystander.documents.items():
        assert world.database[name].find_one({"_id": document["_id"]}) == document, "it is nobody's promise"

    if str(normal.documents["goals"]["_id"]) in letters:
        return  # these arguments make no sense even of good documents
    for case in tried:
        good, field = case.good.documents[case.target], str(case.path[0])
        world.database[case.target].update_one({"_id": good["_id"]}, {"$set": {field: good[field]}})
    # A notice that followed from it names its channel in its arguments, so that it stays as it is.
    own = [letter["_id"] for buried in letters.values() for letter in buried if letter["_id"].endswith("/odd")]
    for letter_id in own:
        await world.post(f"/v1/dead-letters/{letter_id}/redrive")
    await sweeps(world, 14)
    left = world.all("dead_letters", {"_id": {"$in": own}, "state": {"$ne": "redriven"}})
    assert [letter["reason"] for letter in left] == []


def test_every_task_with_a_target_is_here() -> None:
    named = {"goal_id", "session_id", "escrow_id", "from_escrow_id"}
    with_target = {task.name for task in PROMISED if named & set(inspect.signature(task.function).parameters)}
    assert with_target == {task.name for task in TASKS}
