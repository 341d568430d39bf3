"""The live tail: one change stream for all tails of a process, resumed after any place without a gap."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest

from goalsvc.actions.following import follow
from goalsvc.api.stopping import Stopping
from goalsvc.console.live import event_of
from goalsvc.domain.call import Scope
from goalsvc.models.activity import Activity, Kind, View
from goalsvc.models.changes import Change, parse_place, place_now
from goalsvc.models.tails import MOST_TAILS, Gap, Tail, Tails, TooManyTailsError
from tests.support.waiting import comes_to_hold
from tests.world import World

from .conftest import a_key, hear, log_in

ALL = View(Kind.ALL, frozenset(Scope))


def line(one: Activity) -> str:
    return event_of(one, "/console")


@pytest.fixture
async def tails(world: World) -> AsyncIterator[Tails]:
    opened = Tails()
    yield opened
    await opened.close()


async def told(world: World, *users: str) -> None:
    """Lets Pusher tell of these users, in this order."""
    for user in users:
        await hear(world, "member_added", "0" * 24, user)
        await world.context.recorder.flush()


async def read(tail: Tail, number: int) -> list[str]:
    """Reads so many changes; the users that they are about, `gap` where some are missing."""
    users: list[str] = []
    while len(users) < number:
        change = await tail.next(10)
        assert change is not None, f"after {users}"
        node = change.document["node"] if isinstance(change, Change) and change.document else {}
        users.append("gap" if isinstance(change, Gap) else str(node.get("user_id", node.get("name"))))
    return users


class TestTails:
    async def test_share_one_change_stream_and_each_has_everything_once(self, world: World, tails: Tails) -> None:
        before = await place_now()
        await told(world, "early")
        now = await place_now()
        with tails.opened_at(now, now) as first:
            await told(world, "alice", "bob")
            assert await read(first, 2) == ["alice", "bob"]
            with tails.opened_at(now, now) as second:
                await told(world, "carol")
                assert await read(second, 3) == ["alice", "bob", "carol"], "it has what was before it, from memory"
                assert tails.opened == 1
                with tails.opened_at(before, await place_now()) as third:
                    assert await read(third, 4) == ["early", "alice", "bob", "carol"]
                    await told(world, "dave")
                    assert await read(third, 1) == ["dave"]
                    assert await read(second, 1) == ["dave"], "nothing twice, although the stream began again"
                    assert await read(first, 2) == ["carol", "dave"]
                    assert (tails.opened, len(tails)) == (2, 3)

        async def is_closed() -> bool:
            return tails._reading is not None and tails._reading.done()

        assert await comes_to_hold(is_closed), "no stream is open without a tail"

    async def test_go_on_after_the_last_place_that_was_read(self, world: World, tails: Tails) -> None:
        now = await place_now()
        with tails.opened_at(now, now) as tail:
            await told(world, "alice", "bob", "carol")
            change = await tail.next(10)
            assert isinstance(change, Change)
        await told(world, "dave")
        again = Tails()
        with again.opened_at(change.place, await place_now()) as tail:
            assert await read(tail, 3) == ["bob", "carol", "dave"]
        await again.close()

    async def test_that_cannot_go_on_say_so_and_hold_up_no_other(self, world: World, tails: Tails) -> None:
        now = await place_now()
        with tails.opened_at(now, now) as sound:
            forged = now[:18] + "FFFFFFFF"
            assert parse_place(forged) == forged
            with tails.opened_at("82" + "00000001" * 2, now) as ancient, tails.opened_at(forged, now) as odd:
                await told(world, "alice")
                assert await read(ancient, 2) == ["gap", "alice"]
                assert await read(sound, 1) == ["alice"]
                assert (await read(odd, 1))[0] in ("gap", "alice")
        for text in ("", "82", "82" + "0" * 15, "82" + "g" * 16, "81" + "0" * 16, "x" * 5000):
            assert parse_place(text) is None

    async def test_that_begin_at_a_forged_place_begin_now(self, world: World, tails: Tails) -> None:
        now = await place_now()
        forged = f"82{int(now[2:10], 16) - 5:08X}00000001" + "FFFFFFFF"
        with tails.opened_at(forged, now) as odd, tails.opened_at(now, now) as sound:
            assert await read(odd, 1) == ["gap"]
            await told(world, "alice")
            assert await read(odd, 1) == ["alice"]
            assert await read(sound, 1) == ["alice"]

    async def test_whose_reader_is_too_slow_are_ended(self, world: World, tails: Tails) -> None:
        tail = Tail("82" + "0" * 16)
        for number in range(3000):
            tail.take(Change(f"82{number + 1:016X}", "traces", {}))
        assert tail.behind
        assert [text async for text in follow(tail, ALL, line, Stopping(), _yes)] == [": following\n\n"]

    async def test_are_limited(self, world: World, tails: Tails, operator: httpx.AsyncClient) -> None:
        now = await place_now()
        world.app.state.tails = tails
        async with _many(tails, now):
            with pytest.raises(TooManyTailsError), tails.opened_at(now, now):
                pass
            answer = await operator.get("/console/live/stream")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        del world.app.state.tails


@asynccontextmanager
async def _many(tails: Tails, now: str) -> AsyncIterator[None]:
    opened = [tails.opened_at(now, now) for _ in range(MOST_TAILS)]
    for one in opened:
        one.__enter__()
    yield
    for one in opened:
        one.__exit__(None, None, None)


async def _yes() -> bool:
    return True


async def _no() -> bool:
    return False


class TestFollowing:
    async def test_says_lines_with_their_place_and_leaves_out_what_was_not_asked_for(
        self, world: World, tails: Tails
    ) -> None:
        now = await place_now()
        view = View(Kind.WEBHOOK, frozenset({Scope.READ}))
        with tails.opened_at(now, now) as tail:
            await world.post("/v1/wallets/bob/deposits", {"amount": 7})
            await told(world, "alice")
            async with aclosing(follow(tail, view, line, Stopping(), _yes)) as events:
                said = [text async for text in _first(events, 2)]
        assert said[0] == ": following\n\n"
        place, kind, data = said[1].splitlines()[:3]
        assert parse_place(place.removeprefix("id: ")) is not None
        assert kind == "event: line"
        shown = json.loads(data.removeprefix("data: "))
        assert "member_added" in shown["text"]
        assert shown["href"] == f"/console/goals/{'0' * 24}/trace?root={shown['id']}"

    async def test_ends_when_the_process_is_told_to_stop(self, world: World, tails: Tails) -> None:
        now, stopping = await place_now(), Stopping()
        with tails.opened_at(now, now) as tail:
            following = asyncio.create_task(_all(follow(tail, ALL, line, stopping, _yes)))
            await asyncio.sleep(0)
            stopping.stop()
            said = await asyncio.wait_for(following, 5)
        assert said[0] == ": following\n\n"

    async def test_ends_when_its_reader_may_not_read_any_more(self, world: World, tails: Tails) -> None:
        now = await place_now()
        with tails.opened_at(now, now) as tail:
            said = await _all(follow(tail, ALL, line, Stopping(), _no, beat_seconds=0.01))
        assert said[-1].startswith("id: 82"), "the place is told without a line"
        assert said[-1].endswith("\n: still here\n\n")

    async def test_is_refused_to_a_key_without_the_scope(self, world: World, browser: httpx.AsyncClient) -> None:
        assert (await browser.get("/console/live/stream")).status_code == 303
        await log_in(browser, (await a_key(world, "write"))["key"])
        assert (await browser.get("/console/live/stream")).status_code == 403


async def _first(events: AsyncIterator[str], number: int) -> AsyncIterator[str]:
    async for text in events:
        yield text
        number -= 1
        if not number:
            return


async def _all(events: AsyncIterator[str]) -> list[str]:
    return [text async for text in events]
