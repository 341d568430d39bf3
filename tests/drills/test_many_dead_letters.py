"""10,000 dead letters: listed page by page without a gap, tried again by one redrive, once; an impossible one stays dead."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import ObjectId

from goalsvc.devstack import private_mongod, private_valkey
from goalsvc.devstack.waiting import holds_within

from .many import Document, Documents, comes_to_show, copy_of, documents_of, notice, owed, resident_megabytes
from .meanwhile import PERFORMER, SAVER, asked_meanwhile
from .only import in_drills
from .processes import API_KEY, Stack, running_stack
from .shows import PRICE, FundedShow

pytestmark = [pytest.mark.real, in_drills, pytest.mark.timeout(3600)]

SHOWS, GOALS = 20, 100
#: So many notices are refused, and this many letters there are of notices: the others are copies.
REFUSED, NOTICES = 979, 9_979
LETTERS = SHOWS + NOTICES + 1
#: Written by another service; no collection of that name holds promises.
IMPOSSIBLE = "nowhere/68143584d6945d32e732cc21/deliver_notice"
OF_NOTICES = {"task": "deliver_notice"}
DONE_SECONDS = 1_200.0
TOO_LARGE = 413


def letters_of(client: httpx.Client, **query: str) -> list[Document]:
    """All letters of that list, page by page."""
    found: list[Document] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        cursor = {"cursor": page["next"]} if page["next"] else {}
        answer = client.get("/v1/dead-letters", params={"limit": "200", **query, **cursor})
        page = answer.raise_for_status().json()
        found += page["items"]
    return found


def dead(documents: Documents) -> int:
    return documents["dead_letters"].count_documents({"state": "dead"})


def operator(stack: Stack, *words: str) -> str:
    """Runs a command of a runbook; what it printed."""
    environment = {**os.environ, "GOALSVC_API_URL": stack.apis[0].url, "GOALSVC_API_KEY": API_KEY}
    words = (sys.executable, "-m", "goalsvc", *words)
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


def begin(stack: Stack, documents: Documents, client: httpx.Client) -> tuple[list[FundedShow], str]:
    """Brings the letters about: shows whose earnings are wrong, and notices that Pusher finds too large.

    Returns the shows and a goal that is sung.
    """
    shows = [FundedShow(client, f"streamer-{number}", f"viewer-{number}") for number in range(SHOWS)]
    for show in shows:
        show.fund()
    assert all(show.begins() for show in shows), stack.logs()
    session = client.post("/v1/sessions", json={"user_id": PERFORMER}).raise_for_status().json()["id"]
    body = {"kind": "KaraokeGoal", "session_id": session, "levels": [{"title": "Songs", "target": 86_400}]}
    *goals, live = (client.post("/v1/goals", json=body).raise_for_status().json()["id"] for _ in range(GOALS + 1))
    assert holds_within(60, lambda: not owed(documents), every=0.1), owed(documents)
    now = datetime.now(UTC)
    for show in shows:  # another service wrote an earning of -5 tokens
        earning = {"_id": ObjectId(), "user_id": show.streamer, "from_user_id": show.viewer, "amount": -5}
        documents["earnings"].insert_one({**earning, "created_at": now, f"_show_funding:{show.funding_id}": True})
        assert show.perform() == [200, 200]
    # The payouts are dead before Pusher refuses anything, so that no other notice is among the letters.
    assert holds_within(DONE_SECONDS, lambda: dead(documents) == SHOWS and not owed(documents), every=0.1), stack.logs()
    stack.pusher.status = TOO_LARGE
    for each, goal in enumerate(goals):
        promised = [notice(number, PERFORMER, now) for number in range(each, REFUSED, GOALS)]
        documents["goals"].update_one({"_id": ObjectId(goal)}, {"$push": {"promises": {"$each": promised}}})
    assert holds_within(DONE_SECONDS, lambda: dead(documents) == SHOWS + REFUSED and not owed(documents), every=0.1)
    found = {each["arguments"]["data"]["event_id"]: each for each in documents["dead_letters"].find(OF_NOTICES)}
    names = [(f"notice-{number % REFUSED}", f"notice-{number}") for number in range(REFUSED, NOTICES)]
    documents["dead_letters"].insert_many([copy_of(found[old], {old: new}) for old, new in names])
    letter = {"task": "deliver_notice", "arguments": {}, "reason": "unknown", "tries": 7, "state": "dead", "at": now}
    documents["dead_letters"].insert_one({**letter, "_id": IMPOSSIBLE, "promise": IMPOSSIBLE})
    return shows, live


def test_10_000_dead_letters(tmp_path: Path) -> None:
    with ExitStack() as left:
        mongod = left.enter_context(private_mongod(tmp_path / "mongod"))
        redis_url = left.enter_context(private_valkey())
        stack = left.enter_context(running_stack(tmp_path, mongod.url, redis_url, RECORDING="off"))
        client, documents = left.enter_context(stack.client()), left.enter_context(documents_of(mongod.url))
        (worker,) = stack.workers
        shows, live = begin(stack, documents, client)
        payouts = {"escrow_out": SHOWS}
        assert comes_to_show(worker, "goalsvc_dead_letters", {**payouts, "deliver_notice": NOTICES + 1})

        # The list shows each letter once, in order, from either end.
        begun = time.monotonic()
        listed = letters_of(client, state="dead")
        read = time.monotonic() - begun
        ids = [letter["id"] for letter in listed]
        assert len(ids) == LETTERS
        assert set(ids) == {each["_id"] for each in documents["dead_letters"].find({}, {"_id": 1})}
        times = [datetime.fromisoformat(letter["at"]) for letter in listed]
        assert times == sorted(times)
        assert [letter["id"] for letter in letters_of(client, state="dead", order="desc")] == ids[::-1]
        assert all(len(letter["history"]) == 1 for letter in listed if letter["id"] != IMPOSSIBLE)
        assert documents["events"].count_documents({"type": "dead_letter.created"}) == SHOWS + REFUSED

        # The causes are removed, and all are tried again.
        stack.pusher.status = 200
        documents["earnings"].delete_many({"amount": -5})
        begun = time.monotonic()
        with asked_meanwhile(stack, live) as asked:
            redrive = client.post("/v1/redrives", json={"reason": "repaired"}).raise_for_status().json()
            assert (redrive["state"], redrive["found"]) == ("running", LETTERS)

            def is_finished() -> bool:
                redrive.update(client.get(f"/v1/redrives/{redrive['id']}").raise_for_status().json())
                return bool(redrive["state"] == "finished")

            assert holds_within(DONE_SECONDS, is_finished, every=0.5), redrive
            redriven = time.monotonic() - begun
            assert holds_within(DONE_SECONDS, lambda: not owed(documents, live), every=0.5), owed(documents)
            took = time.monotonic() - begun
        assert (redrive["redriven"], redrive["failed"], redrive["by_others"]) == (LETTERS - 1, 1, [])
        (failure,) = redrive["failures"]
        assert failure["letter_id"] == IMPOSSIBLE
        assert "promise: must begin with one of goals" in failure["reason"]
        assert [letter["id"] for letter in letters_of(client, state="dead")] == [IMPOSSIBLE]
        again = letters_of(client, state="redriven")
        assert sorted(letter["id"] for letter in again) == sorted(set(ids) - {IMPOSSIBLE})
        assert all(len(letter["history"]) == 1 for letter in again), "one died again"
        assert comes_to_show(worker, "goalsvc_dead_letters", {"deliver_notice": 1})
        # The runbook's command finds the one that is left, and says why it stays.
        last = json.loads(operator(stack, "dead-letters", "redrive", "--all", "--json"))
        assert (last["found"], last["redriven"], last["failed"]) == (1, 0, 1)
        assert IMPOSSIBLE in operator(stack, "dead-letters")

        # What was dead is done, once; nothing was lost or failed meanwhile, and the books are right.
        told = Counter(each.data["event_id"] for each in stack.pusher.told if each.event == "wallet.updated")
        delivered = {name: told[name] for name in (f"notice-{number}" for number in range(NOTICES))}
        assert all(delivered.values()), "notices are missing"
        assert holds_within(60, lambda: all(show.balance() == PRICE for show in shows), every=0.5)
        assert not asked.failed, asked.failed[:10]
        assert client.get(f"/v1/wallets/{SAVER}").json()["balance"] == asked.deposits
        report = client.get("/v1/reports/audit").json()
        assert report["ok"], report["findings"]
        assert worker.process is not None
        assert worker.process.poll() is None
        print(
            f"{LETTERS} dead letters; read in {read:.1f} s; {redrive['redriven']} tried again in "
            f"{redriven:.0f} s, done after {took:.0f} s; {sum(delivered.values()) - NOTICES} notices repeated; worker at most "
            f"{resident_megabytes(worker):.0f} MB; {asked}; load {os.getloadavg()[0]:.1f}"
        )
