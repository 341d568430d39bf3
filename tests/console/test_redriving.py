"""Groups of dead letters that are tried again: by a worker, each letter once, with how far it has come."""

import asyncio
import re
from datetime import timedelta
from html import unescape
from typing import Any

import httpx
import pytest

from goalsvc.console.queries.goals import MOST_LETTERS
from goalsvc.models.dead_letter_groups import MOST_GROUPS
from goalsvc.models.records import DeadLetter
from goalsvc.tasks import dead_letters
from goalsvc.tasks.redrives import redrive_letters
from tests.world import World

from .conftest import FROM_HERE

GROUP = {"task": "StopRecord", "code": "rtc_failed"}


def bury(world: World, number: int, *, impossible: int = 0) -> list[str]:
    """Writes so many dead letters of users that are there, past goalsvc; the ids of all, those without a place last."""
    world.has_dead_letters = True
    users = [f"viewer-{one:05d}" for one in range(number)]
    if users:
        world.database.users.insert_many([{"_id": one} for one in users])
    places = [f"users/{one}/StopRecord" for one in users] + [f"x/{one}/StopRecord" for one in range(impossible)]
    arguments = {"goal_id": "0" * 24, "session_id": "0" * 24}
    letter = {"task": "StopRecord", "reason": "rtc_failed: no answer", "at": world.clock.now(), "tries": 5}
    world.database.dead_letters.insert_many(
        [{**letter, "_id": place, "promise": place, "arguments": arguments, "state": "dead"} for place in places]
    )
    return places


async def finished(world: World, redrive_id: str) -> dict[str, Any]:
    await world.settle()
    found: dict[str, Any] = await world.get(f"/v1/redrives/{redrive_id}")
    assert found["state"] == "finished"
    return found


def promises(world: World) -> int:
    """How many promises the redriven letters' users have been given, run ones included."""
    return sum(job.task == "StopRecord" for job in world.jobs.done)


class TestGroups:
    async def test_count_letters_by_task_and_code(self, world: World, operator: httpx.AsyncClient) -> None:
        bury(world, 3)
        odd: list[dict[str, Any]] = [
            {"reason": 5},
            {"reason": "rtc_failure"},
            {"reason": "rtc_failed"},
            {"reason": "x", "state": "redriven"},
        ]
        letter = {"task": "StopRecord", "at": world.clock.now(), "state": "dead"}
        world.database.dead_letters.insert_many([{"_id": f"odd{n}", **letter, **one} for n, one in enumerate(odd)])
        found = await world.get("/v1/dead-letters/groups")
        told = [(one["task"], one["code"], one["count"]) for one in found["items"]]
        assert told == [("StopRecord", "rtc_failed", 4), ("StopRecord", "", 1), ("StopRecord", "rtc_failure", 1)]
        assert found["truncated"] is False
        text = (await operator.get("/console/dead-letters")).text
        for said in ("4 again", "all 6 again"):
            assert said in text
        assert 'name="code" value=""' not in text, "without a code the redrive would try all letters of the task again"

    async def test_say_when_there_are_more(self, world: World, operator: httpx.AsyncClient) -> None:
        letter = {"task": "StopRecord", "at": world.clock.now(), "state": "dead"}
        letters = [{"_id": f"odd{n}", **letter, "reason": f"code_{n:03d}: x"} for n in range(MOST_GROUPS + 1)]
        world.has_dead_letters = True
        world.database.dead_letters.insert_many(letters)
        found = await world.get("/v1/dead-letters/groups")
        assert (len(found["items"]), found["truncated"]) == (MOST_GROUPS, True)
        assert "the 100 largest groups are shown" in (await operator.get("/console/dead-letters")).text


class TestRedrive:
    async def test_of_a_group_tries_each_letter_once_and_names_those_that_cannot_be(self, world: World) -> None:
        *_, hopeless = bury(world, 230, impossible=1)
        world.database.dead_letters.insert_one(
            {"_id": "other", "task": "StopRecord", "reason": "rtc_failure: x", "at": world.clock.now(), "state": "dead"}
        )
        made = await world.post("/v1/redrives", {**GROUP, "reason": "BytePlus is back"})
        assert (made["state"], made["found"], made["redriven"], made["key"]) == ("running", 231, 0, "env")
        done = await finished(world, made["id"])
        assert (done["redriven"], done["failed"], done["by_others"]) == (230, 1, [])
        assert done["failures"][0]["letter_id"] == hopeless
        assert "must begin with one of goals" in done["failures"][0]["reason"]
        left = sorted(one["_id"] for one in world.database.dead_letters.find({"state": "dead"}))
        assert left == sorted([hopeless, "other"])
        assert promises(world) == 230
        (act,) = (await world.get("/v1/audit?operation=redrive_dead_letters"))["items"]
        assert (act["reason"], act["targets"]) == ("BytePlus is back", [made["id"]])

    async def test_of_two_operators_at_once_tries_each_letter_once_and_tells_each_of_the_other(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("goalsvc.tasks.redrives._BATCH", 10)
        letters = bury(world, 40)
        first, second = await asyncio.gather(
            world.post("/v1/redrives", GROUP), world.post("/v1/redrives", {"task": "StopRecord"})
        )
        single = await world.call("POST", f"/v1/dead-letters/{letters[0]}/redrive")
        assert single.status_code == 200
        await asyncio.gather(*(redrive_letters(world.context, redrive_id=one["id"]) for one in (first, second)))
        one, other = await finished(world, first["id"]), await finished(world, second["id"])
        assert promises(world) == 40
        assert one["redriven"] + other["redriven"] == 39
        told = {(who["redrive_id"], who["key"]): who["letters"] for who in other["by_others"]}
        assert told.get((first["id"], "env"), 0) == one["redriven"]
        assert told[(None, "env")] == 1
        again = await world.call("POST", f"/v1/dead-letters/{letters[1]}/redrive")
        assert again.status_code == 409
        assert "tried again before by key env at 2026-" in again.json()["detail"]

    @pytest.mark.parametrize("number", [1, 30])
    async def test_of_letters_that_die_again_before_they_are_marked_leaves_them_dead(
        self, world: World, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        letters, mark = bury(world, number), DeadLetter.redrive
        world.database.dead_letters.update_many({}, {"$set": {"arguments": {}}})  # without them the task dies at once

        async def workers_are_faster(*given: Any) -> None:
            await world.jobs.work(world.context)
            await mark(*given)

        monkeypatch.setattr(DeadLetter, "redrive", workers_are_faster)
        if number == 1:
            answer = await world.post(f"/v1/dead-letters/{letters[0]}/redrive")
            assert (answer["state"], answer["redriven_key"]) == ("dead", "env")
        else:
            made = await world.post("/v1/redrives", GROUP)
            assert (await finished(world, made["id"]))["redriven"] == number, "they were tried again"
        stored = world.all("dead_letters")
        assert {(one["state"], len(one["history"])) for one in stored} == {("dead", 1)}
        assert not any("taken_by" in one or "taken_until" in one for one in stored)
        monkeypatch.undo()
        world.clock.move_on(1)
        made = await world.post("/v1/redrives", {"task": "StopRecord"})
        assert (await finished(world, made["id"]))["redriven"] == number, "they can be tried again"

    async def test_of_letters_whose_document_is_gone_says_so_and_leaves_them_dead(self, world: World) -> None:
        letters = bury(world, 2)
        nameless = "users/viewer-00009/promises.0"
        letter = world.database.dead_letters.find_one() or {}
        world.database.dead_letters.insert_one({**letter, "_id": nameless, "promise": nameless})
        world.database.users.delete_one({"_id": "viewer-00000"})
        for one in (letters[0], nameless):
            refused = await world.call("POST", f"/v1/dead-letters/{one}/redrive")
            assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
            assert "promise: the document users/viewer-0000" in refused.json()["detail"]
        done = await finished(world, (await world.post("/v1/redrives", GROUP))["id"])
        assert (done["redriven"], done["failed"]) == (1, 2)
        assert [one["letter_id"] for one in done["failures"]] == sorted([letters[0], nameless])
        assert [one["_id"] for one in world.all("dead_letters", {"state": "dead"})] == sorted([letters[0], nameless])

    async def test_of_a_letter_that_another_call_holds_is_refused_until_that_call_is_over(self, world: World) -> None:
        (letter,) = bury(world, 1)
        now = world.clock.now()
        assert await DeadLetter.take([letter], now, now + timedelta(seconds=3), "another")
        refused = await world.call("POST", f"/v1/dead-letters/{letter}/redrive")
        assert (refused.status_code, refused.json()["code"]) == (409, "already_redriven")
        assert "at this moment" in refused.json()["detail"]
        assert await DeadLetter.take([letter], now, now + timedelta(seconds=3), "another"), "a repeat goes on"
        world.clock.move_on(4)
        await world.post(f"/v1/dead-letters/{letter}/redrive")
        await world.settle()

    async def test_that_a_worker_breaks_off_goes_on_where_it_was(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("goalsvc.tasks.redrives._TURN_SECONDS", -1.0)
        bury(world, 205)
        made = await world.post("/v1/redrives", GROUP)
        await world.work_off(1)
        assert (await world.get(f"/v1/redrives/{made['id']}"))["redriven"] == 200
        world.jobs.forget_all()
        world.clock.move_on(timedelta(minutes=1).total_seconds())
        await world.tick("sweep_promises")
        assert (await finished(world, made["id"]))["redriven"] == 205
        assert promises(world) == 205

    async def test_with_a_limit_or_of_nothing_is_finished_all_the_same(self, world: World) -> None:
        bury(world, 12)
        limited = await world.post("/v1/redrives", {**GROUP, "limit": 5})
        assert (await finished(world, limited["id"]))["redriven"] == 5
        nothing = await world.post("/v1/redrives", {"task": "escrow_out"})
        assert (nothing["state"], nothing["found"]) == ("finished", 0)
        listed = (await world.get("/v1/redrives?order=desc"))["items"]
        assert [one["id"] for one in listed] == [nothing["id"], limited["id"]]

    async def test_asked_for_twice_with_one_key_is_one(self, world: World) -> None:
        bury(world, 3)
        first, again = [await world.post("/v1/redrives", GROUP, key="once") for _ in "12"]
        assert first["id"] == again["id"]
        assert (await finished(world, first["id"]))["redriven"] == 3


class TestPages:
    async def test_of_a_group_lead_to_its_progress_and_name_what_could_not_be(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        *_, hopeless = bury(world, 12, impossible=1)
        assert "Try 13 again" in (await operator.get("/console/dead-letters")).text
        fields = {**GROUP, "reason": "BytePlus is back"}
        answer = await operator.post("/console/act/redrive-group", data=fields, headers=FROM_HERE)
        where = answer.headers["location"]
        assert "0 of 13 letters are promised again." in (await operator.get(where)).text
        assert "running" in (await operator.get("/console/dead-letters")).text
        await world.settle()
        done = (await operator.get(where)).text
        assert "12 of 13 letters are promised again, 1 could not be." in done
        assert hopeless in done
        found = await operator.get(f"/console/search?q={where.partition('?')[0].rpartition('/')[2]}")
        assert found.headers["location"] == where.partition("?")[0]

    async def test_of_a_group_ask_for_a_whole_number_and_go_back_to_the_letters(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        fields = {**GROUP, "reason": "x", "limit": "many"}
        answer = await operator.post("/console/act/redrive-group", data=fields, headers=FROM_HERE)
        assert (answer.status_code, "limit" in answer.text, "/console/dead-letters" in answer.text) == (422, True, True)
        assert (await operator.get("/console/redrives/rdr_nothing")).status_code == 404

    async def test_of_a_goal_lead_to_all_its_letters(self, world: World, operator: httpx.AsyncClient) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        levels = [{"title": "Sing", "target": 60}]
        goal = await world.post("/v1/goals", {"kind": "KaraokeGoal", "session_id": session["id"], "levels": levels})
        letters = bury(world, MOST_LETTERS + 5)
        world.database.dead_letters.update_many({}, {"$set": {"goal_id": goal["id"]}})
        bury_another = {"_id": "other", "task": "StopRecord", "reason": "x", "at": world.clock.now(), "state": "dead"}
        world.database.dead_letters.insert_one(bury_another)
        text = (await operator.get(f"/console/goals/{goal['id']}")).text
        assert f"The latest {MOST_LETTERS} are shown" in text
        path, found = f"/console/dead-letters?goal_id={goal['id']}", list[str]()
        assert path.removeprefix("/console") in text
        while path:
            page = (await operator.get(path)).text
            found += re.findall(r'class="mono" href="\?id=[^"]+">([^<]+)</a>', page)
            older = re.search(r'href="(\?[^"]*cursor=[^"]*)">Older ones', page)
            path = f"/console/dead-letters{unescape(older[1])}" if older else ""
        assert sorted(found) == sorted(letters)

    async def test_of_a_letter_show_the_old_arguments_beside_the_present_ones(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        (letter,) = bury(world, 1)
        stands = {"goal_id": "0" * 24, "session_id": "0" * 24, "note": "<b>corrected</b>"}
        promise = {"id": "StopRecord", "task": "StopRecord", "arguments": stands, "at": world.clock.now()}
        world.database.users.update_one({"_id": "viewer-00000"}, {"$set": {"promises": [promise]}})
        died = {"task": "StopRecord", "promise": letter, "at": world.clock.now(), "tries": 1}
        other = {"goal_id": "0" * 24, "session_id": "1" * 24, "more": 5}
        again = DeadLetter(_id=letter, arguments=other, reason="rtc_failed: again", **died)
        await dead_letters.bury(world.context, again)
        (view,) = (await world.get(f"/v1/dead-letters?id={letter}"))["items"]
        assert view["arguments"] == {"goal_id": "0" * 24, "session_id": "0" * 24}
        assert view["present_arguments"] == stands
        assert [death.get("arguments") for death in view["history"]] == [other]
        page = (await operator.get(f"/console/dead-letters?id={letter}")).text
        row = '<td>note</td><td class="mono">–</td><td class="mono">&lt;b&gt;corrected&lt;/b&gt;</td>'
        assert row in page
        assert "<td>goal_id</td>" not in page
        await world.settle()


class TestAskingPusher:
    async def test_now_finds_a_join_that_was_lost_and_says_who_is_there(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        levels = [{"title": "Ukulele", "target": 60}]
        goal = await world.post("/v1/goals", {"kind": "ShowGoal", "session_id": session["id"], "levels": levels})
        world.notifier.users[f"presence-enc-goal@{goal['id']}"] = ["alice"]
        assert "Ask Pusher who is in the channel" in (await operator.get(f"/console/goals/{goal['id']}")).text
        fields = {"id": goal["id"], "reason": "she says that she plays"}
        asked = await operator.post("/console/act/ask-about-goal", data=fields, headers=FROM_HERE)
        assert re.search(r"alice</bdi></a> is in the channel of the goal; 1 clock disagreed and was moved", asked.text)
        assert (await world.get(f"/v1/goals/{goal['id']}"))["context"]["started"]
        every = await operator.post("/console/act/ask-pusher", data={"reason": "to be sure"}, headers=FROM_HERE)
        assert "1 presence channels are occupied; no clock was moved" in every.text
        (act, _) = (await world.get("/v1/audit?operation=reconcile_now&order=desc"))["items"]
        assert (act["reason"], act["via"]) == ("to be sure", "console")

    async def test_who_does_not_answer_is_said_and_moves_nothing(self, world: World) -> None:
        world.notifier.refuse(1)
        answer = await world.call("POST", "/v1/reconciliation")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "Pusher could not be asked" in answer.json()["detail"]
        unknown = await world.call("POST", "/v1/reconciliation", {"goal_id": "0" * 24})
        assert unknown.status_code == 404
