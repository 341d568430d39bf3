"""The census: what waits, as gauges of the worker that counted it last."""

from datetime import timedelta

from prometheus_client import CollectorRegistry, generate_latest

from goalsvc.models.census import take_census
from goalsvc.tasks.census import CensusFigures, make_census
from tests.world import World


def shown(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def test_counts_promises_letters_and_clocks(world: World) -> None:
    now = world.clock.now()
    promise = {"task": "StopRecord", "arguments": {}, "parent": ""}
    world.database.goals.insert_one(
        {
            "_cls": "Goal.ShowGoal",
            "promises": [
                {**promise, "id": "late", "at": now - timedelta(seconds=90)},
                {**promise, "id": "deferred", "at": now + timedelta(hours=1)},
            ],
            "clock": {"running": True, "known_at": now - timedelta(hours=1)},
        }
    )
    world.database.sessions.insert_one({"promises": [{**promise, "id": "s", "task": "end_session", "at": now}]})
    world.database.dead_letters.insert_many(
        [{"_id": "a", "task": "transfer", "state": "dead"}, {"_id": "b", "task": "transfer", "state": "redriven"}]
    )
    census = await take_census(now, timedelta(minutes=3))
    assert census.promises == {"StopRecord": 2, "end_session": 1}
    assert census.oldest_promise == timedelta(seconds=90)
    assert census.dead_letters == {"transfer": 1}
    assert (census.running_clocks, census.unconfirmed_clocks) == (1, 1)
    for name in ("goals", "sessions", "dead_letters"):
        world.database[name].delete_many({})


async def test_is_shown_by_the_worker_that_took_it(world: World) -> None:
    figures, registry = CensusFigures(), CollectorRegistry()
    with figures.shown_by(registry):
        assert shown(registry) == {}
        await make_census(figures)(world.context)
        assert shown(registry) == {
            "goalsvc_promises_oldest_seconds": 0.0,
            "goalsvc_clocks_running": 0.0,
            "goalsvc_clocks_unconfirmed": 0.0,
        }
    assert shown(registry) == {}


async def test_shows_what_the_last_audit_found_whichever_worker_made_it(world: World) -> None:
    world.database.accounts.insert_one({"_id": "user:from-nowhere", "balance": 7})
    await world.tick("audit_books")
    figures, registry = CensusFigures(), CollectorRegistry()
    with figures.shown_by(registry):
        await make_census(figures)(world.context)  # as a worker that has just started
        found = shown(registry)
    assert found["goalsvc_ledger_imbalance"] == 7
    assert found["goalsvc_escrow_stuck"] == 0
    assert found["goalsvc_audit_findings"] >= 1
    assert found["goalsvc_audit_timestamp_seconds"] == world.clock.now().timestamp()
    world.database.accounts.delete_many({})


async def test_shows_what_an_operator_found_and_mended_before_the_next_night(world: World) -> None:
    figures, registry = CensusFigures(), CollectorRegistry()
    imbalance = []
    with figures.shown_by(registry):
        for balance in (7, 0):
            world.database.accounts.replace_one({"_id": "user:fay"}, {"balance": balance}, upsert=True)
            await world.get("/v1/reports/audit")
            await make_census(figures)(world.context)
            imbalance.append(shown(registry)["goalsvc_ledger_imbalance"])
    assert imbalance == [7, 0]
    world.database.accounts.delete_many({})
