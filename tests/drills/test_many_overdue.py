"""20,000 promises are overdue: no worker ran for an hour, and Redis came back empty. Each is fulfilled once, money first."""

import os
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from bson import ObjectId
from redis import Redis

from goalsvc.devstack import private_mongod, private_valkey
from goalsvc.devstack.waiting import holds_within
from goalsvc.domain.lanes import Lane
from goalsvc.tasks.registry import ALL

from .many import comes_to_show, documents_of, livestreams_like, make_overdue, notice, owed, resident_megabytes
from .meanwhile import PERFORMER, SAVER, asked_meanwhile
from .only import in_drills
from .processes import running_stack
from .shows import PRICE, FundedShow
from .webhooks import send

pytestmark = [pytest.mark.real, in_drills, pytest.mark.timeout(3600)]

MONEY = {task.name for task in ALL if task.lane is Lane.MONEY}
SHOWS, LIVESTREAMS, NOTICES = 20, 3_000, 14_000
SECONDS = 5
WORKED_OFF_SECONDS = 1_200.0
#: How long Pusher takes for each answer: the lane of notices waits for it most of the time.
PUSHER_SECONDS = 0.1


def test_20_000_promises_are_overdue(tmp_path: Path) -> None:
    with ExitStack() as left:
        mongod = left.enter_context(private_mongod(tmp_path / "mongod"))
        redis_url = left.enter_context(private_valkey())
        stack = left.enter_context(running_stack(tmp_path, mongod.url, redis_url, RECORDING="off"))
        client, documents = left.enter_context(stack.client()), left.enter_context(documents_of(mongod.url))
        (worker,) = stack.workers
        shows = [FundedShow(client, f"streamer-{number}", f"viewer-{number}") for number in range(SHOWS)]
        for show in shows:
            show.fund()
        assert all(show.begins() for show in shows), stack.logs()
        session = client.post("/v1/sessions", json={"user_id": PERFORMER}).raise_for_status().json()["id"]
        body = {"kind": "KaraokeGoal", "session_id": session, "levels": [{"title": "Songs", "target": 86_400}]}
        goal, live = (client.post("/v1/goals", json=body).raise_for_status().json()["id"] for _ in range(2))
        assert holds_within(60, lambda: not owed(documents)), owed(documents)

        worker.stop()
        for show in shows:
            assert show.perform() == [200, 200]
        now = int(time.time() * 1000)
        for name, at in (("member_added", now - 1000 * SECONDS), ("member_removed", now)):
            assert send(client, name, goal, PERFORMER, at) == 200
        played = documents["goals"].find_one({"_id": ObjectId(goal)})
        of = documents["sessions"].find_one({"_id": ObjectId(session)})
        assert played is not None
        assert of is not None
        sessions, goals = livestreams_like(of, played, LIVESTREAMS)
        for number in range(NOTICES):
            livestream = number % LIVESTREAMS
            promised = goals[livestream]["promises"]
            promised.append(notice(number, f"singer-{livestream}", promised[0]["at"]))
        documents["sessions"].insert_many(sessions)
        documents["goals"].insert_many(goals)
        make_overdue(documents)
        with closing(Redis.from_url(redis_url)) as redis:
            redis.flushall()
        before = owed(documents)
        assert sum(before.values()) >= 20_000

        stack.pusher.told.clear()
        stack.pusher.rest_seconds = PUSHER_SECONDS
        begun = time.monotonic()
        with asked_meanwhile(stack, live) as asked:
            worker.start()

            def money_is_done() -> bool:
                return not owed(documents, live).keys() & MONEY and all(show.balance() == PRICE for show in shows)

            assert holds_within(WORKED_OFF_SECONDS, money_is_done, every=0.5), owed(documents)
            paid, waiting = time.monotonic() - begun, owed(documents).get("deliver_notice", 0)
            assert holds_within(WORKED_OFF_SECONDS, lambda: not owed(documents, live), every=0.5), owed(documents)
            took = time.monotonic() - begun
        assert waiting, "notices did not wait for money"
        assert holds_within(60, lambda: not owed(documents), every=0.1), owed(documents)
        assert comes_to_show(worker, "goalsvc_promises_owed", {})

        # Each promise was fulfilled once.
        of_copies = {"$in": [each["_id"] for each in goals]}
        assert documents["goals"].count_documents({"_id": of_copies, "progress": SECONDS}) == LIVESTREAMS
        told_of = {"$in": [str(each["_id"]) for each in goals]}
        for name in ("goal.started", "goal.progressed"):
            assert documents["events"].count_documents({"type": name, "goal_id": told_of}) == LIVESTREAMS
        assert [show.balance() for show in shows] == [PRICE] * SHOWS
        assert documents["dead_letters"].count_documents({}) == 0, stack.logs()[-4000:]
        told = Counter(each.data["event_id"] for each in stack.pusher.told if each.event == "wallet.updated")
        delivered = {name: told[name] for name in (f"notice-{number}" for number in range(NOTICES))}
        assert all(delivered.values()), "notices are missing"
        progress = {each.data["goal_id"] for each in stack.pusher.told if each.event == "goal.progress.updated"}
        assert progress >= {str(each["_id"]) for each in goals}
        # Nothing was lost or failed meanwhile, and the books are right.
        assert not asked.failed, asked.failed[:10]
        assert client.get(f"/v1/wallets/{SAVER}").json()["balance"] == asked.deposits
        report = client.get("/v1/reports/audit").json()
        assert report["ok"], report["findings"]
        assert worker.process is not None
        assert worker.process.poll() is None
        print(
            f"{sum(before.values())} promises: money done after {paid:.0f} s with {waiting} of {NOTICES} notices waiting, "
            f"all after {took:.0f} s; {sum(delivered.values()) - NOTICES} notices repeated; worker at most "
            f"{resident_megabytes(worker):.0f} MB; {asked}; load {os.getloadavg()[0]:.1f}"
        )
