"""`GET /v1/reconciliation`: the four proofs, with lists that say when they are cut; the console's page shows the same."""

from datetime import timedelta
from typing import Any

from bson import ObjectId

from goalsvc.actions.proofs import MOST_LISTED, Silence, Span
from tests.console.conftest import a_key, hear
from tests.world import World


async def proofs_of(world: World) -> dict[str, Any]:
    await world.context.recorder.flush()
    world.clock.move_on(2)
    found: dict[str, Any] = await world.get("/v1/reconciliation")
    return found


def running(world: World, number: int) -> list[ObjectId]:
    """Goals whose clocks run, the first of which was confirmed longest ago."""
    ids = [ObjectId() for _ in range(number)]
    now = world.clock.now()
    goals = [
        {
            "_id": identity,
            "_cls": "Goal.ShowGoal",
            "active": True,
            "clock": {"running": True, "known_at": now - timedelta(seconds=number - place)},
            "context": {"started": now - timedelta(hours=1)},
            "metadata": {"user_id": "alice"},
        }
        for place, identity in enumerate(ids)
    ]
    world.database.goals.insert_many(goals)
    return ids


def late_promises(world: World, collection: str, number: int, seconds: int) -> None:
    due = world.clock.now() - timedelta(seconds=seconds)
    promises = [{"id": f"p{one}", "task": "StopRecord", "arguments": {}, "at": due} for one in range(number)]
    world.database[collection].insert_one(
        {"_id": "rdr_late" if collection == "redrives" else ObjectId(), "promises": promises}
    )


class TestClocks:
    async def test_are_listed_from_the_one_confirmed_longest_ago(self, world: World) -> None:
        ids = running(world, 3)
        clocks = (await proofs_of(world))["clocks"]
        assert [one["goal_id"] for one in clocks["items"]] == [str(identity) for identity in ids]
        assert {one["user_id"] for one in clocks["items"]} == {"alice"}
        assert (clocks["running"], clocks["unconfirmed"], clocks["more"]) == (3, 0, False)
        world.database.goals.delete_many({})

    async def test_say_when_the_list_is_cut_and_what_is_not_confirmed(self, world: World) -> None:
        running(world, MOST_LISTED + 1)
        world.clock.move_on(600)
        found = await proofs_of(world)
        clocks = found["clocks"]
        assert (clocks["running"], len(clocks["items"]), clocks["more"]) == (MOST_LISTED + 1, MOST_LISTED, True)
        assert found["agrees"] is False
        assert f"{MOST_LISTED + 1} running clocks are not confirmed by Pusher" in found["sentence"]
        world.database.goals.delete_many({})


class TestLedger:
    async def test_is_what_the_report_of_balances_says(self, world: World) -> None:
        await world.deposits("bob", 50)
        found = await proofs_of(world)
        report = await world.get("/v1/reports/balances")
        assert found["ledger"] == {"sum": 0, "kinds": report["kinds"]}
        assert found["sentence"].startswith("All agrees:")

    async def test_says_when_the_books_are_wrong(self, world: World) -> None:
        world.database.accounts.insert_one({"_id": "user:mallory", "balance": 7})
        found = await proofs_of(world)
        assert (found["agrees"], found["ledger"]["sum"]) == (False, 7)
        assert found["sentence"] == "Not all agrees: all accounts sum to 7 instead of 0."
        world.database.accounts.delete_many({})


class TestPromises:
    async def test_are_listed_whatever_document_holds_them(self, world: World) -> None:
        late_promises(world, "redrives", 1, 90)
        late_promises(world, "goals", 1, 120)
        late_promises(world, "sessions", 1, 30)
        found = await proofs_of(world)
        told = [(one["collection"], one["task"]) for one in found["promises"]["items"]]
        assert told == [("goals", "StopRecord"), ("redrives", "StopRecord")], "the oldest first"
        assert found["sentence"] == "Not all agrees: 2 promises are older than 60 s."
        for collection in ("redrives", "goals", "sessions"):
            world.database[collection].delete_many({})

    async def test_say_when_the_list_is_cut(self, world: World) -> None:
        late_promises(world, "goals", MOST_LISTED + 1, 90)
        found = await proofs_of(world)
        assert (len(found["promises"]["items"]), found["promises"]["more"]) == (MOST_LISTED, True)
        assert f"{MOST_LISTED} or more promises are older than 60 s" in found["sentence"]
        world.database.goals.delete_many({})


class TestSilence:
    async def test_counts_webhooks_by_five_minutes(self, world: World) -> None:
        for _ in range(2):
            await hear(world, "channel_occupied", str(ObjectId()), "")
        silence = (await proofs_of(world))["silence"]
        assert [one["events"] for one in silence["spans"]] == [*(0 for _ in range(11)), 2]
        assert (silence["silent"], silence["truncated"]) == (False, False)

    async def test_lists_joins_of_which_no_clock_runs(self, world: World) -> None:
        # As many clocks as are listed run beside that of the last goal, which is confirmed last.
        ids = running(world, MOST_LISTED + 1)
        await hear(world, "member_added", str(ids[-1]), "alice")
        await hear(world, "member_added", "0" * 24, "bob")
        await hear(world, "member_added", "1" * 24, "carol")
        await hear(world, "member_removed", "1" * 24, "carol")
        silence = (await proofs_of(world))["silence"]
        assert [(one["user_id"], one["goal_id"]) for one in silence["unanswered"]] == [("bob", "0" * 24)]
        assert silence["more_unanswered"] is False
        world.database.goals.delete_many({})

    def test_is_one_only_where_webhooks_are_usual(self, world: World) -> None:
        def silent(*counts: int) -> bool:
            spans = [
                Span(world.clock.now() + timedelta(minutes=5 * place), count) for place, count in enumerate(counts)
            ]
            return Silence(spans, (), False, {}, truncated=False).silent

        assert silent(10, 12, 10, 0)
        assert not silent(9, 9, 9, 0)
        assert not silent(10, 12, 10, 1)
        assert not silent(0)


async def test_need_the_scope_read(world: World) -> None:
    for scope, status in (("read", 200), ("operate", 403)):
        headers = {"Authorization": f"Bearer {(await a_key(world, scope))['key']}"}
        assert (await world.client.get("/v1/reconciliation", headers=headers)).status_code == status
