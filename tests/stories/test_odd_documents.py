"""Documents of other services of which any field is absent, null or of another type: each affects only itself.

All variants of a document stand in the database at once, next to a good show; every loop, list, view and webhook meets them.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import BulkWriteError

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.channels import goal_channel
from goalsvc.domain.escrow import ISSUER, escrow_account
from goalsvc.domain.orders import Order
from goalsvc.domain.promises import Job
from goalsvc.domain.reading import whole
from goalsvc.worker import periodic_tasks
from tests.stories.scenes import Show, a_funded_show
from tests.support import documents as odd
from tests.world import World, joined, left

pytestmark = pytest.mark.real

KINDS = ("FundingGoal", "TriggerGoal", "ShowGoal", "KaraokeGoal", "ExclusiveGoal")
ODD_IDS: list[Any] = [5, 5.5, "text", "68143584d6945d32e732cc29", {"a": 1}, Decimal128("1"), True, b"x"]


def variants(good: odd.Document, part: int = 0, of: int = 1) -> Iterator[odd.Document]:
    """The document with each of its values absent, and with each odd value in its place; or one part of these in `of`.

    What names a task is left as it is: a task that this version does not know is left to a newer one.
    """
    values = list(odd.ODD_VALUES.values())
    for number, path in enumerate(odd.paths_of(good)):
        if path != ("promises", 0, "task"):
            yield odd.without(good, path) | {"_id": ObjectId()}
            for value in values[(number + part) % of :: of]:
                yield odd.with_value(good, path, value) | {"_id": ObjectId()}


async def runs(world: World, task: str, **arguments: Any) -> None:
    """Runs a loop over all documents, which must not fail."""
    job = Job(f"test:{task}", task, arguments)
    again = await world._runner.run(world.context, job, 1)
    while again is not None and not again.failed:  # it ends so many at a time
        again = await world._runner.run(world.context, job, 1)
    if again is not None:
        await world.context.recorder.flush()
        raise AssertionError([each["node"]["reason"] for each in world.all("traces") if each["node"]["name"] == task])


async def answers(world: World, path: str) -> Any:
    response = await world.call("GET", path)
    assert response.status_code < 500, f"{path}: {response.text}"
    return response.json()


async def side_by_side(steps: Iterable[Awaitable[None]], most: int = 8) -> None:
    """Runs these, so many at a time: none is about another's document."""
    places = asyncio.Semaphore(most)

    async def run(step: Awaitable[None]) -> None:
        async with places:
            await step

    await asyncio.gather(*map(run, steps))


async def lists(world: World, path: str) -> list[Any]:
    """All pages of a list."""
    found: list[Any] = []
    cursor = ""
    for _ in range(100):
        page = await answers(world, f"{path}&limit=200{cursor}")
        found += page["items"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"
    raise AssertionError("the list does not end")


@pytest.mark.parametrize("kind", KINDS)
async def test_goals_of_which_any_field_is_odd(odd_world: World, kind: str) -> None:
    world = odd_world
    good = await world.given(a_funded_show(seconds=360, earnings=2))
    session_id = ObjectId(good.session_id)
    model = odd.goal(kind, exp=odd.START - timedelta(hours=1), promises=[odd.promise()])
    model["conditions"]["session_id"] = session_id
    goals = [*variants(model, 3 * KINDS.index(kind), 15), *(model | {"_id": identity} for identity in ODD_IDS)]
    world.database.goals.insert_many(goals)
    await world.performs(good, seconds=400)

    await runs(world, "sweep_promises")
    await runs(world, "expire_goals")
    await runs(world, "sweep_promises")
    shown = await lists(world, f"/v1/goals?session_id={session_id}")
    assert good.id in {goal["id"] for goal in shown}
    await answers(world, "/v1/channels/private-stream@alice")
    await answers(world, "/v1/channels/private-user@alice")
    some = goals[:: max(1, len(goals) // 60)]
    await side_by_side(answers(world, f"/v1/goals/{goal['_id']}{part}") for goal in some for part in ("", "/trace"))
    for _ in range(10):
        await world.work()
        await world.after(seconds=1)
    assert world.balance(good.streamer) == good.escrow
    await runs(world, "end_session", session_id=str(session_id))
    stay = {goal["_id"] for goal in world.database.goals.find({"active": {"$ne": False}, "exp": {"$lt": odd.START}})}
    assert {type(identity) for identity in stay} <= {type(identity) for identity in ODD_IDS}


async def tells(world: World, *events: Mapping[str, Any]) -> None:
    """A webhook, which must be answered as done."""
    response = await world.webhook({"time_ms": to_epoch_milliseconds(world.clock.now()), "events": list(events)})
    if response.status_code != 200:
        for event in events:
            alone = await world.webhook({"time_ms": to_epoch_milliseconds(world.clock.now()), "events": [event]})
            goal = world.database.goals.find_one({"_id": ObjectId(event["channel"].partition("@")[2])})
            assert goal is not None
            assert alone.status_code == 200, {name: goal.get(name) for name in ("clock", "context", "promises")}


async def test_a_webhook_moves_every_clock_that_can_be_moved(odd_world: World) -> None:
    world = odd_world
    model = odd.goal("ShowGoal", exp=None, context={"last_updated": None, "started": None}, levels=[])
    del model["clock"]
    goals = list(variants(model)) + [
        model | {"_id": ObjectId(), field: value}
        for field in ("context", "clock", "promises", "progress", "active", "levels")
        for value in odd.ODD_VALUES.values()
    ]
    world.database.goals.insert_many(goals)
    batches = [goals[begin : begin + 20] for begin in range(0, len(goals), 20)]
    await side_by_side(tells(world, *(_event("member_added", goal) for goal in batch)) for batch in batches)
    await world.after(seconds=30)
    await side_by_side(tells(world, *(_event("member_removed", goal) for goal in batch)) for batch in batches)
    for _ in range(3):
        await world.work()
    counted = {goal["_id"]: goal.get("progress") for goal in world.database.goals.find()}
    for goal in goals:
        performer = goal.get("metadata")
        is_performer = isinstance(performer, dict) and performer.get("user_id") == "alice"
        if is_performer and goal.get("active") is not False and not _started(goal):
            before = goal.get("progress")
            number = before if isinstance(before, int | float) and not isinstance(before, bool) else 0
            if isinstance(before, Decimal128) or number != number or abs(number) > 2**40:
                continue
            assert counted[goal["_id"]] == number + 30, goal


async def test_events_and_audit_events_of_which_any_field_is_odd(odd_world: World) -> None:
    world = odd_world
    for _ in range(3):
        await world.deposits("bob", 5)
    await answers(world, "/v1/events")
    good = world.all("events", {"type": "deposit.created"})[0]
    place = world.database.events.count_documents({})
    odds = [
        odd.with_value(good | {"sequence": place + number}, path, value) | {"_id": f"evt_{ObjectId()}{number:08x}"}
        for number, (path, value) in enumerate(
            ((path, value) for path in odd.paths_of(good) for value in odd.ODD_VALUES.values()), 1
        )
    ]
    world.database.counters.update_one({"_id": "events"}, {"$inc": {"position": len(odds)}})
    audited = world.all("audit_events")[0]
    audits = [odd.with_value(audited, path, v) for path in odd.paths_of(audited) for v in odd.ODD_VALUES.values()]
    for collection, documents in (("events", odds), ("audit_events", [each | {"_id": ObjectId()} for each in audits])):
        with suppress(BulkWriteError):  # no index holds two arrays of one document
            world.database[collection].insert_many(documents, ordered=False)
    await world.deposits("bob", 5)

    for order in ("asc", "desc"):
        seen, cursor = set[str](), ""
        for _ in range(100):
            page = await answers(world, f"/v1/events?limit=200&order={order}{cursor}")
            seen |= {event["id"] for event in page["items"]}
            if not page["items"] or page["next"] is None:
                break
            cursor = f"&after={page['next']}"
        assert {good["_id"], world.all("events", {"type": "deposit.created"})[-1]["_id"]} <= seen
    await side_by_side(answers(world, f"/v1/events/{each['_id']}") for each in odds[::10])
    for form in ("json", "csv"):
        response = await world.call("GET", f"/v1/audit?format={form}")
        assert response.status_code == 200
        assert audited["request_id"] in response.text


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_place_that_another_service_took_twice_is_on_one_page(odd_world: World, order: str) -> None:
    world = odd_world
    for _ in range(4):
        await world.deposits("bob", 5)
    stored = (await answers(world, "/v1/events"))["items"]
    world.database.events.insert_one(world.all("events", {"_id": stored[1]["id"]})[0] | {"_id": "evt_theirs"})
    for limit in range(1, 6):
        seen: list[str] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None and (not seen or page["items"]):
            after = f"&after={page['next']}" if page["next"] else ""
            page = await answers(world, f"/v1/events?limit={limit}&order={order}{after}")
            seen += [event["id"] for event in page["items"]]
        assert sorted(seen) == sorted([*(event["id"] for event in stored), "evt_theirs"]), limit


@pytest.mark.parametrize("kind", ["ShowGoal", "ExclusiveGoal"])
async def test_clocks_of_which_any_field_is_odd(odd_world: World, kind: str) -> None:
    world = odd_world
    good = await world.given(a_funded_show(seconds=360, earnings=2))
    session_id = ObjectId(good.session_id)
    model = odd.goal(kind, exp=None, promises=[])
    model["conditions"]["session_id"] = session_id
    clocks = list(variants({"clock": odd.clock(), "context": model["context"]}, len(kind), 3))
    goals = [model | clock for clock in clocks] + [
        model | {"_id": identity, "clock": odd.clock()} for identity in ODD_IDS
    ]
    lost = model | {"_id": ObjectId(), "clock": odd.clock()}
    goals += [lost, model | {"_id": ObjectId(), "clock": [odd.clock()]}]
    world.database.goals.insert_many(goals)
    await world.performer_joins(good)

    usable = [goal for goal in goals if isinstance(goal["_id"], ObjectId)]
    some = usable[:: max(1, len(usable) // 40)]
    reads = ("", "/why-not", "/leaderboard", "/contributions", "/trace")
    await side_by_side(answers(world, f"/v1/goals/{goal['_id']}{part}") for goal in some for part in reads)
    for _ in range(2):  # Pusher says that all have left, save the performer of the good show
        world.notifier.users[goal_channel(good.id)] = [good.streamer]
        await world.after(seconds=world.context.settings.reconcile_patience + 1)
        await runs(world, "reconcile_clocks")
        await world.work()
    paused = world.database.goals.find_one({"_id": lost["_id"]})
    assert paused is not None
    assert paused["clock"]["running"] is False
    batches = [usable[begin : begin + 20] for begin in range(0, len(usable), 20)]
    await side_by_side(tells(world, *(_event("member_removed", goal) for goal in batch)) for batch in batches)
    await world.performer_leaves(good)
    for _ in range(10):
        await world.work()
        await world.after(seconds=1)
    assert world.balance(good.streamer) == good.escrow
    await runs(world, "end_session", session_id=str(session_id))
    await world.after(seconds=400)
    await world.work()
    stay = world.database.goals.find({"active": {"$ne": False}})
    assert {type(goal["_id"]) for goal in stay} <= {type(identity) for identity in ODD_IDS}


def _started(goal: odd.Document) -> bool:
    context = goal.get("context")
    return isinstance(context, dict) and any(
        isinstance(context.get(name), type(odd.START)) for name in ("started", "paused")
    )


def _event(name: str, goal: odd.Document) -> dict[str, Any]:
    return {"name": name, "channel": f"presence-enc-goal@{goal['_id']}", "user_id": "alice"}


async def test_sessions_of_which_any_field_is_odd(odd_world: World) -> None:
    world = odd_world
    model = odd.session(promises=[odd.promise(task="end_session", arguments={"session_id": str(ObjectId())})])
    sessions = list(variants(model, 0, 10)) + [model | {"_id": identity} for identity in ODD_IDS]
    world.database.sessions.insert_many(sessions)
    world.database.users.insert_one(odd.user())
    await runs(world, "sweep_promises")

    async def meet(identity: object) -> None:
        await answers(world, f"/v1/sessions/{identity}")
        await answers(world, f"/v1/sessions/{identity}/token?viewer_id=bob")
        response = await world.call(
            "POST", "/v1/goals", {"kind": "KaraokeGoal", "session_id": str(identity), "levels": [{"target": 60}]}
        )
        assert response.status_code < 500, response.text
        response = await world.call("POST", f"/v1/sessions/{identity}/end")
        assert response.status_code < 500, response.text
        await answers(world, "/v1/channels/private-stream@alice")

    await side_by_side(meet(session["_id"]) for session in sessions[::5])
    await world.work()


def show_of_theirs(world: World, odd_fields: odd.Document) -> Show:
    """A funded show that another service wrote, in a session of its own with these fields."""
    session_id, funding_id, show_id = ObjectId(), ObjectId(), ObjectId()
    show = Show(str(show_id), str(session_id), str(funding_id), {"bob": 100}, 60)
    pairs = [{"funding_goal": funding_id, "show_goal": show_id}]
    world.database.sessions.insert_one(odd.session(_id=session_id, show_goal_pairs=pairs) | odd_fields)
    goal = odd.goal("ShowGoal", _id=show_id, levels=[{"title": "Show", "target": 60}], exp=None, context=None)
    goal |= {"conditions": {"session_id": session_id}}
    goal["metadata"] = {"user_id": show.streamer, "funding_goal_id": funding_id}
    world.database.goals.insert_one(goal)
    world.database.earnings.insert_one(odd.earning(show.escrow_id, amount=100))
    return show


async def fill_escrows(world: World, shows: Sequence[Show]) -> None:
    orders = [
        Order(transfer_id=f"theirs-{show.id}", debit=ISSUER, credit=escrow_account(show.escrow_id), amount=show.escrow)
        for show in shows
    ]
    await asyncio.gather(*(world.context.ledger.post(order, world.clock.now()) for order in orders))


ODD_FIELDS = ("user_id", "statuses", "status", "show_goal_pairs", "rtc", "viewers", "exclusive_goal_pairs")
ODD_HERE = ("null", "a fraction", "text", "an array", "an empty array", "an object", "a reference")


async def test_a_session_with_an_odd_field_still_pays_its_show(odd_world: World) -> None:
    """A show in a session of its own for each field and each value, all performed at once."""
    world = odd_world
    cases = [(field, value) for field in ODD_FIELDS for value in ODD_HERE]
    # The contract's fallback for a show whose pair is gone is the goal's own metadata.
    shows = {(field, value): show_of_theirs(world, {field: odd.ODD_VALUES[value]}) for field, value in cases}
    await fill_escrows(world, list(shows.values()))
    joins, leaves = ([told(show) for show in shows.values()] for told in (joined, left))
    await side_by_side(tells(world, *joins[begin : begin + 20]) for begin in range(0, len(joins), 20))
    await world.after(seconds=70)
    await side_by_side(tells(world, *leaves[begin : begin + 20]) for begin in range(0, len(leaves), 20))
    await world.settle()
    paid = {
        (transfer["tags"][0], transfer["to_user_id"]): transfer["amount"]
        for transfer in world.all("transfers", {"_id": {"$regex": "^escrow-"}})
    }
    for case, show in shows.items():
        # A text is a user's id: the payout goes to the user that the session names.
        payee = "nonsense" if case == ("user_id", "text") else show.streamer
        assert paid.get((f"escrow::{show.escrow_id}", payee)) == show.escrow, case
    letters = world.all("dead_letters")
    assert not letters, letters


async def test_users_of_which_any_field_is_odd(odd_world: World) -> None:
    world = odd_world
    await world.after(seconds=1)
    for index, user in enumerate(variants(odd.user(promises=[odd.promise()]), 0, 4)):
        identity = f"user-{index}"
        world.database.users.insert_one(user | {"_id": identity})
        await tells(world, {"name": "channel_occupied", "channel": f"private-user@{identity}"})
        assert world.database.users.find_one({"_id": identity})["online"] is True  # type: ignore[index]
        response = await world.call("PUT", f"/v1/users/{identity}", {"username": "Alice"})
        assert response.status_code < 500, response.text
    await runs(world, "sweep_promises")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_documents_as_any_driver_writes_them(odd_world: World, data: st.DataObject) -> None:
    """Four goals and four sessions each time, so that the loops over all documents run once for all of them."""
    world = odd_world
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=4, max_size=4))
    goals = [data.draw(odd.documents(odd.goal(kind, promises=[odd.promise()]))) | {"_id": ObjectId()} for kind in kinds]
    sessions = [data.draw(odd.documents(odd.session())) | {"_id": ObjectId()} for _ in kinds]
    world.database.goals.insert_many(goals)
    world.database.sessions.insert_many(sessions)
    await tells(world, *(_event(name, goal) for goal in goals for name in ("member_added", "member_removed")))
    await runs(world, "sweep_promises")
    await runs(world, "expire_goals")
    await world.work()
    await answers(world, "/v1/goals?active=true")
    for path in (
        f"/v1/{name}/{each['_id']}" for name, those in (("goals", goals), ("sessions", sessions)) for each in those
    ):
        await answers(world, path)
        response = await world.call("POST", f"{path}/end")
        assert response.status_code < 500, response.text
    await world.work()


UNSET = [None, odd.ODD_VALUES["Go's zero time"], "", {}]


@pytest.mark.parametrize("unset", UNSET, ids=str)
async def test_what_runs_by_the_clock_reads_what_is_not_set(odd_world: World, unset: object) -> None:
    """A session that goes on, a show without `begin_by`, one that has not begun, a user who is not erased; next to odd ones."""
    world = odd_world
    now, long_ago = world.clock.now(), world.clock.now() - timedelta(days=3)
    past = {"begin_by": now - timedelta(hours=1), "exp": unset, "active": True, "promises": [], "clock": None}
    begun = {"started": unset, "paused": unset, "last_updated": unset}
    # Their ids are as old as what they say, so that the session is idle.
    idle, unbegun, free = (ObjectId.from_datetime(long_ago + timedelta(seconds=n)) for n in range(3))
    conditions = {"session_id": ObjectId()}
    world.database.sessions.insert_one(
        odd.session(_id=idle, user_id="carol", statuses={"started": long_ago, "ended": unset})
    )
    world.database.goals.insert_many(
        [
            odd.goal("ShowGoal", _id=unbegun, context=begun, conditions=conditions) | past,
            odd.goal("ShowGoal", _id=free, context=begun, conditions=conditions) | past | {"begin_by": unset},
            *variants(odd.goal("ShowGoal", context=begun) | past, 1, 30),
        ]
    )
    world.database.sessions.insert_many(variants(odd.session(statuses={"started": long_ago, "ended": unset}), 2, 30))
    world.database.users.insert_one(odd.user(erased_at=unset, last_seen=unset, online=False))
    (listed,) = [each for each in await lists(world, "/v1/sessions?open=true&user_id=carol") if each["id"] == str(idle)]
    assert "ended" not in listed["statuses"]
    assert (await world.call("PUT", "/v1/users/alice", {"username": "Alice"})).status_code == 200
    assert [each["id"] for each in await lists(world, "/v1/users?order=asc")] == ["alice"]
    await tells(world, {"name": "channel_occupied", "channel": "private-user@alice"})
    assert world.all("users")[0]["online"] is True

    for each in periodic_tasks(world.context.settings):
        await runs(world, each.task.name)
    ended = world.database.sessions.find_one({"_id": idle})
    assert ended is not None
    assert ended["statuses"]["ended"] == now
    assert [world.goal(str(one))["active"] for one in (unbegun, free)] == [False, True]


@pytest.mark.parametrize("writer", sorted(odd.WRITERS))
async def test_the_same_show_in_every_driver_s_hand(odd_world: World, writer: str) -> None:
    world = odd_world
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    for name in ("goals", "sessions", "earnings"):
        for document in world.database[name].find():
            world.database[name].replace_one({"_id": document["_id"]}, odd.WRITERS[writer](document))
    await world.performs(show, seconds=70)
    await world.settle()
    assert world.balance(show.streamer) == show.escrow
    assert whole(world.goal(show)["progress"]) == 70
    assert not world.all("dead_letters")


# -- promises -----------------------------------------------------------------------------------------------------------

UNREADABLE = [
    ({"id": None}, "promises.0.id"),
    ({"task": 5}, "promises.0.task"),
    ({"arguments": None}, "promises.0.arguments"),
]


@pytest.mark.parametrize(("fields", "named"), UNREADABLE, ids=lambda value: str(value))
async def test_a_promise_that_cannot_be_read_is_one_dead_letter(
    odd_world: World, fields: dict[str, Any], named: str
) -> None:
    world = odd_world
    goal = odd.goal("ShowGoal", promises=[odd.promise(**fields), odd.promise(id="good")])
    world.database.goals.insert_one(goal)
    for _ in range(3):
        await runs(world, "sweep_promises")
        await world.after(seconds=10)
    (letter,) = [each for each in world.all("dead_letters") if "promises" in each["reason"]]
    assert named in letter["reason"]
    told = [each["data"]["dead_letter"] for each in world.all("events", {"type": "dead_letter.created"})]
    assert [(each["id"], each["reason"]) for each in told] == [(letter["_id"], letter["reason"])]
    await world.work()
    stored = world.database.goals.find_one({"_id": goal["_id"]})
    assert stored is not None
    assert [entry.get("id") for entry in stored["promises"]] == [fields.get("id", "increment")], (
        "the good one is fulfilled"
    )

    amended = odd.promise(arguments={"goal_id": str(goal["_id"]), "amount": 5, "event_id": "increment"})
    world.database.goals.update_one({"_id": goal["_id"]}, {"$set": {"promises": [amended]}})
    await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
    await world.work()
    stored = world.database.goals.find_one({"_id": goal["_id"]})
    assert stored is not None
    assert stored["promises"] == []
    assert stored["progress"] == 5


async def test_the_promise_of_a_document_with_an_odd_id_is_one_dead_letter(odd_world: World) -> None:
    world = odd_world
    world.database.goals.insert_one(odd.goal("ShowGoal", _id=5, promises=[odd.promise()]))
    for _ in range(3):
        await runs(world, "sweep_promises")
        await world.after(seconds=10)
    (letter,) = world.all("dead_letters")
    assert "goals/5: _id: must be of type ObjectId" in letter["reason"]


# -- what is not ours ---------------------------------------------------------------------------------------------------


OTHER_CLASSES = ["Goal.ShowGoal.Special", "Goal.Other", "Goal", "Thing", None, 5, [], ["Goal.ShowGoal"], {"a": 1}]


@pytest.mark.parametrize("cls", OTHER_CLASSES)
async def test_goals_of_other_classes_are_left_alone(odd_world: World, cls: object) -> None:
    world = odd_world
    session = (await world.post("/v1/sessions", {"user_id": "alice"}))["id"]
    goal = odd.goal("X", _cls=cls, exp=odd.START - timedelta(hours=1), promises=[odd.promise()])
    goal["conditions"]["session_id"] = ObjectId(session)
    world.database.goals.insert_one(goal)
    before = world.database.goals.find_one({"_id": goal["_id"]})
    await runs(world, "sweep_promises")
    await runs(world, "expire_goals")
    await tells(world, _event("member_added", goal), _event("member_removed", goal))
    assert (await world.call("POST", f"/v1/goals/{goal['_id']}/end")).status_code == 404
    assert (await world.call("GET", f"/v1/goals/{goal['_id']}")).status_code == 404
    for part in ("why-not", "trace", "leaderboard", "contributions"):
        await answers(world, f"/v1/goals/{goal['_id']}/{part}")
    asked = {"user_id": "bob", "amount": 5}
    contributed = await world.call("POST", f"/v1/goals/{goal['_id']}/contributions", asked, key="a")
    assert contributed.status_code == 404
    for path in ("private-stream@alice", "private-user@alice"):
        await answers(world, f"/v1/channels/{path}")
    await runs(world, "reconcile_clocks")
    assert await lists(world, f"/v1/goals?session_id={session}") == []
    await world.post(f"/v1/sessions/{session}/end")
    await world.work()
    assert world.database.goals.find_one({"_id": goal["_id"]}) == before
    assert world.all("dead_letters") == []


async def test_no_user_is_made_for_a_stranger(odd_world: World) -> None:
    world = odd_world
    for number in range(30):
        await world.hears(
            {"name": "member_added", "channel": "presence-stream@stranger", "user_id": f"viewer-{number}"}
        )
        await world.hears({"name": "channel_occupied", "channel": f"private-user@viewer-{number}"})
    await world.settle()
    assert world.all("users") == []
    assert len(world.told("user.entered")) == 30


async def test_notices_of_a_stream_are_bounded_while_no_worker_runs(odd_world: World) -> None:
    world = odd_world
    for _ in range(20):
        await world.after(seconds=1)
        await world.hears({"name": "member_added", "channel": "presence-stream@alice", "user_id": "bob"})
        await world.after(seconds=1)
        await world.hears({"name": "member_removed", "channel": "presence-stream@alice", "user_id": "bob"})
    (kept,) = world.all("presence_notices")
    (promise,) = kept["promises"]
    assert promise["arguments"]["event"] == "user.left"
    assert kept["expires_at"] - kept["at"] < timedelta(minutes=11)
    late = {"name": "member_added", "channel": "presence-stream@alice", "user_id": "bob"}
    await world.hears(late, at=world.clock.now() - timedelta(seconds=30))
    assert world.all("presence_notices") == [kept]


async def test_every_read_shows_what_json_does_not_know(odd_world: World) -> None:
    world = odd_world
    goal = odd.goal("ShowGoal", breakdown_id=Decimal128("1.5"))
    goal["metadata"]["theirs"] = dict(odd.ODD_VALUES)
    world.database.goals.insert_one(goal)
    session = odd.session()
    session["rtc"]["theirs"] = session["statuses"]["theirs"] = dict(odd.ODD_VALUES)
    world.database.sessions.insert_one(session)
    shown = await answers(world, f"/v1/goals/{goal['_id']}")
    assert shown["metadata"]["theirs"]["a decimal"] == {"$numberDecimal": "12.5"}
    assert shown["metadata"]["theirs"]["bytes"] == {"$binary": {"base64": "AP8=", "subType": "00"}}
    assert shown["breakdown_id"] == {"$numberDecimal": "1.5"}
    shown = await answers(world, f"/v1/sessions/{session['_id']}")
    assert shown["rtc"]["theirs"]["the least key"] == {"$minKey": 1}


async def test_a_dead_letter_of_any_arguments_is_shown(odd_world: World) -> None:
    world = odd_world
    letter = {"_id": "x", "task": "t", "arguments": dict(odd.ODD_VALUES), "reason": "r", "at": odd.START, "tries": 1}
    world.database.dead_letters.insert_one(letter | {"state": "dead"})
    (shown,) = await lists(world, "/v1/dead-letters?state=dead")
    assert shown["arguments"]["a decimal"] == {"$numberDecimal": "12.5"}
