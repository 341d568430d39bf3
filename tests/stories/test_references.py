"""A reference never precedes its document: a reader of a session finds every show and exclusive that it names."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bson import ObjectId

from tests.world import World


@contextmanager
def reading(database: Any) -> Iterator[list[ObjectId]]:
    """Reads sessions again and again, as another service would; yields the references whose goal was not there."""
    missing: list[ObjectId] = []
    stopped = threading.Event()

    def read() -> None:
        while not stopped.is_set():
            for session in database.sessions.find():
                named = [pair["show_goal"] for pair in session.get("show_goal_pairs", [])]
                exclusives = session.get("exclusive_goal_pairs") or {}  # an empty array in the hand of Doctrine
                named += [pair["exclusive_goal"] for pair in exclusives.values()]
                missing.extend(goal for goal in named if database.goals.find_one({"_id": goal}) is None)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield missing
    finally:
        stopped.set()
        reader.join()


async def test_shows_and_exclusives_are_there_when_their_session_names_them(world: World) -> None:
    for number in range(10):
        await world.deposits(f"bob{number}", 20)
    with reading(world.database) as missing:
        for number in range(10):
            session = (await world.post("/v1/sessions", {"user_id": f"alice{number}"}))["id"]
            body = {"kind": "FundingGoal", "session_id": session, "levels": [{"title": "All", "target": 10}]}
            funding = await world.post("/v1/goals", {**body, "metadata": {"show": {"title": "Song", "target": 60}}})
            await world.post(f"/v1/goals/{funding['id']}/contributions", {"user_id": f"bob{number}", "amount": 10})
            wish = {
                "viewer_id": f"bob{number}",
                "private": True,
                "price": 5,
                "exclusive": {"title": "Me", "target": 60},
            }
            request = await world.post("/v1/goals", {"kind": "TriggerGoal", "session_id": session, "metadata": wish})
            await world.post(f"/v1/goals/{request['id']}/agree", {"user_id": f"alice{number}"})
            await world.settle()
    assert missing == []
    sessions = list(world.database.sessions.find())
    assert all(len(session["show_goal_pairs"]) == 1 for session in sessions)
    assert all(len(session["exclusive_goal_pairs"]) == 1 for session in sessions)
