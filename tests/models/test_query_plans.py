"""Every query on a hot path is served by an index: read from the plans of the real server.

The queries are not written down here: stories are played, and the server's profiler tells what was asked and how it was
found. What no story asks often enough is asked by the documents' own methods.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from tests.stories.scenes import a_funded_show, an_exclusive
from tests.world import World

pytestmark = pytest.mark.real

AN_INSTANT = datetime(2026, 1, 1, tzinfo=UTC)

Plan = Mapping[str, Any]

#: Collections that a story asks as if they held millions.
LARGE = {
    "accounts", "assets", "events", "bi_escrows", "dead_letters", "earnings", "goals", "posts", "sessions", "traces",
    "tracking_events", "transfers", "users",
}  # fmt: skip
ACTIVE = {"$ne": False}
ASKING = ["query", "getmore", "command", "update", "remove"]


@pytest.fixture
def asked(world: World) -> Iterator[list[Plan]]:
    """Every question to the server from now on, once the story has been played (`read_profile`)."""
    database = world.database
    database.command({"profile": 0})
    database.drop_collection("system.profile")
    database.create_collection("system.profile", capped=True, size=32 * 1024 * 1024)
    database.command({"profile": 2})
    found: list[Plan] = []
    yield found
    database.command({"profile": 0})
    database.drop_collection("system.profile")


def read_profile(world: World, asked: list[Plan]) -> None:
    """Fills in what was asked by goalsvc; this test's own questions are left out."""
    world.database.command({"profile": 0})
    asked += world.database["system.profile"].find({"op": {"$in": ASKING}, "appName": "goalsvc"})


def collection_of(entry: Plan) -> str:
    return str(entry["ns"]).partition(".")[2]


async def play_everything(world: World) -> None:
    """A show that is paid, one that is refunded, an exclusive, and all that people look at."""
    paid = await world.given(a_funded_show(seconds=360, earnings=3))
    await world.performs(paid, seconds=400)
    await world.settle()
    refunded = await world.given(a_funded_show(seconds=360, earnings=3))
    await world.performs(refunded, seconds=100)
    world.rtc.refuse(100)
    await world.post(f"/v1/sessions/{refunded.session_id}/end")
    await world.settle()
    exclusive = await world.given(an_exclusive())
    await world.performs(exclusive, seconds=200)
    await world.settle(patience=60)
    await world.hears({"name": "member_added", "channel": "presence-stream@alice", "user_id": "bob"})
    await world.hears({"name": "channel_occupied", "channel": "private-user@alice"})
    await world.settle()
    await world.tick("sweep_promises")
    for path in (
        f"/v1/goals/{paid.id}",
        f"/v1/goals/{paid.id}/trace",
        f"/v1/goals/{paid.funding_id}/leaderboard",
        f"/v1/goals?session_id={paid.session_id}&active=true",
        f"/v1/goals?session_id={paid.session_id}",
        "/v1/goals?active=true",
        "/v1/goals",
        "/v1/goals?active=false&order=desc",
        "/v1/goals?user_id=alice",
        "/v1/goals?user_id=alice&active=true",
        "/v1/goals?kind=ShowGoal",
        "/v1/goals?from=2026-01-01T00:00:00Z",
        "/v1/goals?metadata.campaign=winter",
        "/v1/users",
        "/v1/users?online=true",
        "/v1/users?online=false",
        "/v1/contributions",
        "/v1/contributions?from=2026-01-01T00:00:00Z&order=desc",
        f"/v1/contributions?goal_id={paid.funding_id}",
        "/v1/contributions?from_user_id=viewer-1",
        f"/v1/goals/{paid.funding_id}/contributions",
        f"/v1/goals/{paid.funding_id}/leaderboard?order=asc",
        "/v1/sessions?user_id=alice&open=true",
        "/v1/events?order=desc",
        f"/v1/events?goal_id={paid.id}&order=desc",
        "/v1/events",
        "/v1/events?types=goal.ended",
        f"/v1/events?goal_id={paid.id}",
        f"/v1/events?session_id={paid.session_id}",
        "/v1/events?user_id=alice&types=goal.*",
        f"/v1/sessions/{paid.session_id}",
        "/v1/wallets/alice",
        f"/v1/escrows/{paid.escrow_id}",
        "/v1/transfers?user_id=alice",
        f"/v1/transfers?escrow_id={paid.escrow_id}",
        f"/v1/transfers?user_id=alice&escrow_id={paid.escrow_id}",
        f"/v1/goals/{paid.id}/performance",
        f"/v1/goals/{paid.id}/payments",
        f"/v1/escrows/{paid.escrow_id}/sums",
        "/v1/wallets/alice/statement?proof=true",
        "/v1/users/alice/channels",
        f"/v1/sessions/{paid.session_id}/takings",
        "/v1/webhooks/arrivals",
        "/v1/transfers?event_id=5f0c1d9c8e7b6a5948372615",
        "/v1/transfers",
        "/v1/dead-letters",
        "/v1/dead-letters?state=dead",
        "/v1/dead-letters?task=transfer",
        "/v1/dead-letters?task=transfer&state=dead&order=desc",
    ):
        await world.get(path)
    world.has_dead_letters = True


async def test_nothing_that_is_asked_scans_a_collection(world: World, asked: list[Plan]) -> None:
    await play_everything(world)
    read_profile(world, asked)
    large = [entry for entry in asked if collection_of(entry) in LARGE]
    assert {collection_of(entry) for entry in large} >= {
        "accounts", "bi_escrows", "dead_letters", "earnings", "goals", "sessions", "traces", "transfers", "users"
    }  # fmt: skip
    # Whether the server has snapshots is asked by a look at one document, whichever it is.
    large = [
        entry for entry in large if not (entry["command"].get("filter") == {} and entry["command"].get("limit") == 1)
    ]
    scans = [entry for entry in large if "COLLSCAN" in entry.get("planSummary", "")]
    assert [(entry["ns"], entry["planSummary"], entry["command"]) for entry in scans] == []
    planned = {entry["planSummary"].split()[0].rstrip(",") for entry in large if entry.get("planSummary")}
    assert planned <= {"IDHACK", "IXSCAN", "COUNT_SCAN"}


@pytest.mark.parametrize(
    ("collection", "where", "sort", "index"),
    [
        ("goals", {"active": ACTIVE, "_cls": {"$in": ["x", "y"]}, "exp": {"$lte": "now"}}, "exp", "active_exp"),
        ("goals", {"clock.running": True}, None, "running_asked"),
        ("goals", {"clock.running": True, "clock.known_at": {"$lte": "now"}}, "clock.asked_at", "running_asked"),
        (
            "goals",
            {"promises": {"$elemMatch": {"task": {"$in": ["x", "y"]}, "at": {"$lte": AN_INSTANT}}}},
            None,
            "promises_due",
        ),
        (
            "goals",
            {"promises": {"$elemMatch": {"task": {"$nin": ["x", "y"]}, "at": {"$lte": AN_INSTANT}}}},
            None,
            "promises_due",
        ),
        (
            "sessions",
            {"promises": {"$elemMatch": {"task": {"$in": ["x"]}, "at": {"$lte": AN_INSTANT}}}},
            None,
            "promises_due",
        ),
        (
            "users",
            {"promises": {"$elemMatch": {"task": {"$in": ["x"]}, "at": {"$lte": AN_INSTANT}}}},
            None,
            "promises_due",
        ),
        ("goals", {"conditions.session_id": {"$in": ["x", "y"]}, "active": ACTIVE}, None, "session_id"),
        ("earnings", {"user_id": "x", "_show_funding:x": {"$exists": True}}, "created_at", "user"),
        ("transfers", {"tags": "escrow::x"}, "_id", "tags"),
        ("transfers", {"from_user_id": "x"}, "_id", "from"),
        ("transfers", {"to_user_id": "x"}, "_id", "to"),
        ("traces", {"goal_id": "x"}, "at", "goal"),
        ("dead_letters", {"state": "dead"}, "_id", "state"),
        ("dead_letters", {"state": "dead"}, "at", "listed_state"),
        ("assets", {"metadata.source.id": "x"}, "created_at", "session_id"),
        ("assets", {"user_id": "x"}, "created_at", "user_id"),
        ("assets", {"state": "failed"}, "created_at", "state"),
        ("dead_letters", {"goal_id": {"$in": ["x", "y"]}}, None, "goal"),
        ("earnings", {"_show_funding:x": {"$exists": True}, "reversal": {"$exists": False}}, None, "escrow"),
        ("transfers", {"credit": "x"}, None, "credit"),
        ("transfers", {"cause.event_id": "x"}, "created_at", "caused"),
        ("transfers", {"debit": "x", "created_at": {"$gte": "now"}}, None, "debit"),
        ("transfers", {"created_at": {"$lte": "now"}}, "created_at", "created"),
        ("transfers", {"_id": {"$gte": "escrow-x-", "$lt": "escrow-x."}}, "_id", "_id_"),
        ("sessions", {"show_goal_pairs.funding_goal": {"$in": ["x", "y"]}}, None, "funding_goal"),
        (
            "goals",
            {"active": True, "begin_by": {"$lte": "now"}, "context.started": None},
            "begin_by",
            "begin_by_active",
        ),
        ("withdrawals", {"state": "pending", "returns_at": {"$lte": "now"}}, "returns_at", "state"),
        ("withdrawals", {"user_id": "x"}, "created_at", "listed"),
        ("withdrawals", {"user_id": "x", "state": "pending"}, "created_at", "listed"),
        ("deliveries", {"endpoint_id": "x"}, "created_at", "listed"),
        ("dead_letters", {}, "at", "listed"),
        ("tracking_events", {"about": {"$in": ["x", "y"]}, "at": {"$lte": "now"}}, None, "about"),
    ],
)
async def test_the_index_that_is_meant(
    world: World, collection: str, where: dict[str, Any], sort: str | None, index: str
) -> None:
    """So that it is not some other index that happens to serve while there are few documents."""
    for condition in where.values():
        if isinstance(condition, dict) and condition.get("$lte") == "now":
            condition["$lte"] = world.clock.now()
    cursor = world.database[collection].find(where)
    plan = (cursor.sort(sort, 1) if sort else cursor).explain()["queryPlanner"]["winningPlan"]
    assert set(indexes_in(plan)) == {index}


async def test_the_sweep_for_idle_sessions_does_not_read_those_that_have_ended(world: World) -> None:
    """Two indexes are in the order of the start: with ended sessions there, the server takes the one that skips them."""
    now = world.clock.now()
    ended = [{"user_id": "x", "statuses": {"started": now, "ended": now}} for _ in range(200)]
    world.database.sessions.insert_many([*ended, {"user_id": "x", "statuses": {"started": now}}])
    where = {"statuses.ended": None, "statuses.started": {"$lte": now}}
    plan = world.database.sessions.find(where).sort("statuses.started").explain()
    assert set(indexes_in(plan["queryPlanner"]["winningPlan"])) == {"listed_open"}
    assert plan["executionStats"]["totalKeysExamined"] < 10


async def test_the_goals_of_a_session_in_order_of_their_making_are_found_by_the_session(world: World) -> None:
    """With goals of other sessions there, the server does not walk through all of them in the order of `_id`."""
    others = [{"_cls": "Goal.ShowGoal", "conditions": {"session_id": f"other-{number}"}} for number in range(200)]
    world.database.goals.insert_many([*others, {"_cls": "Goal.ShowGoal", "conditions": {"session_id": "x"}}])
    where = {"conditions.session_id": {"$in": ["x", "y"]}, "active": ACTIVE}
    plan = world.database.goals.find(where).sort("_id").explain()
    world.database.goals.delete_many({})
    assert set(indexes_in(plan["queryPlanner"]["winningPlan"])) == {"session_id"}
    assert plan["executionStats"]["totalKeysExamined"] < 10


async def listed(world: World, path: str) -> Plan:
    """How the server finds the rows of that list, with what it read for them (`executionStats`)."""
    database = world.database
    database.command({"profile": 2})
    await world.get(path)
    database.command({"profile": 0})
    of_goalsvc = {"op": "query", "appName": "goalsvc", "command.find": {"$in": sorted(LARGE)}}
    (asked,) = database["system.profile"].find(of_goalsvc)
    database.drop_collection("system.profile")
    command = {name: asked["command"][name] for name in ("find", "filter", "sort", "limit")}
    plan: Plan = database.command({"explain": command, "verbosity": "executionStats"})
    return plan


def many(documents: int = 300, **fields: Any) -> list[dict[str, Any]]:
    """Documents that have nothing to do with what a list asks for, and that come before it."""
    return [{"_id": ObjectId(), **fields} for _ in range(documents)]


class TestAListOfFewAmongMany:
    """With others there, the server does not walk through them in the order of the list."""

    @pytest.mark.parametrize(
        ("path", "collection", "others", "wanted", "index"),
        [
            (
                "/v1/users?online=true",
                "users",
                [{"_id": f"a-{number}", "online": False} for number in range(300)],
                {"_id": "bob", "online": True},
                "listed_online",
            ),
            (
                "/v1/goals?user_id=alice&active=true",
                "goals",
                many(_cls="Goal.ShowGoal", active=False, metadata={"user_id": "alice"}),
                {"_cls": "Goal.ShowGoal", "active": True, "metadata": {"user_id": "alice"}},
                "listed_streamer_active",
            ),
            (
                "/v1/goals?active=true",
                "goals",
                many(_cls="Goal.ShowGoal", active=False),
                {"_cls": "Goal.ShowGoal"},
                "listed_active",
            ),
            (
                "/v1/goals?active=false",
                "goals",
                many(_cls="Goal.ShowGoal", active=True),
                {"_cls": "Goal.ShowGoal", "active": False},
                "listed_active",
            ),
            (
                "/v1/contributions?from=2026-01-01T00:00:00Z",
                "earnings",
                many(created_at=datetime(2025, 12, 31, tzinfo=UTC)),
                {"created_at": datetime(2026, 1, 1, tzinfo=UTC)},
                "listed_time",
            ),
            (
                "/v1/dead-letters?task=transfer",
                "dead_letters",
                many(task="StopRecord", at=AN_INSTANT, state="redriven"),
                {"_id": "letter", "task": "transfer", "at": AN_INSTANT, "state": "redriven"},
                "listed_task",
            ),
        ],
    )
    async def test_reads_those_few(
        self, world: World, path: str, collection: str, others: list[Any], wanted: dict[str, Any], index: str
    ) -> None:
        world.database[collection].insert_many([*others, wanted])
        try:
            plan = await listed(world, path)
        finally:
            world.database[collection].delete_many({})
        assert set(indexes_in(plan["queryPlanner"]["winningPlan"])) == {index}
        assert plan["executionStats"]["totalKeysExamined"] < 10
        assert plan["executionStats"]["nReturned"] == 1


def indexes_in(stage: Mapping[str, Any]) -> Iterator[str]:
    """The index of each stage that reads one; anything that reads all documents is not meant to be there."""
    assert stage["stage"] != "COLLSCAN"
    if stage["stage"] == "IXSCAN":
        yield stage["indexName"]
    for below in [stage.get("inputStage"), *stage.get("inputStages", [])]:
        if below is not None:
            yield from indexes_in(below)
