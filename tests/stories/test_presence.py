"""Who is online, and who watches."""

import pytest

from tests.world import Wire, World

pytestmark = pytest.mark.real


def entered(user: str | int, channel: str = "presence-stream@alice") -> dict[str, object]:
    return {"name": "member_added", "channel": channel, "user_id": user}


async def test_a_batch_of_viewers_of_a_streamer_who_is_new(world: World) -> None:
    await world.hears(*(entered(f"viewer-{number}") for number in range(20)))
    await world.settle()
    told = [one["user_id"] for one in world.told("user.entered")]
    assert sorted(told) == sorted(f"viewer-{number}" for number in range(20))
    channels = {notice.channels for notice in world.notifier.named("user.entered")}
    assert channels == {("private-stream@alice", "presence-stream@alice")}


async def test_a_viewer_comes_and_goes_once_however_often_it_is_told(world: World) -> None:
    at = world.clock.now()
    for _ in range(2):
        await world.hears(entered(4711), at=at)
    await world.settle()
    await world.hears({**entered(4711), "name": "member_removed"})
    await world.settle()
    assert {one["user_id"] for one in world.told("user.entered")} == {"4711"}
    assert len({one["event_id"] for one in world.told("user.entered")}) == 1
    assert [one["user_id"] for one in world.told("user.left")] == ["4711"]


async def test_a_notice_that_waited_is_not_told_after_a_later_one(world: World) -> None:
    """While Pusher is away each notice rests for another time: the viewer who has left must not seem to be there."""
    await world.hears(entered("bob"))
    await world.after(seconds=1)
    await world.hears({**entered("bob"), "name": "member_removed"})
    await world.settle()
    assert [one["user_id"] for one in world.told("user.left")] == ["bob"]
    assert world.told("user.entered") == []


@pytest.mark.parametrize("user", ["a$b", "a b", "é", "x" * 129, "x" * 148, "x" * 200, ".."])
async def test_a_name_that_pusher_would_not_accept_is_not_ours(world: World, user: str) -> None:
    """Nothing can be told on it, so nothing of it may wait for ever."""
    await world.hears(entered("bob", f"presence-stream@{user}"), entered(user))
    await world.settle()
    assert world.all("dead_letters") == []
    assert world.notifier.named("user.entered")[0].channels == ("private-stream@alice", "presence-stream@alice")


async def test_a_user_is_online_until_he_leaves(world: World) -> None:
    await world.call("PUT", "/v1/users/alice", {"username": "Alice"})
    begun = world.clock.now()
    await world.hears({"name": "channel_occupied", "channel": "private-user@alice"})
    (user,) = world.all("users")
    assert (user["online"], user["last_seen"]) == (True, begun)
    await world.after(seconds=30)
    left_at = world.clock.now()
    await world.hears({"name": "channel_vacated", "channel": "private-enc-user@alice"})
    await world.hears({"name": "channel_occupied", "channel": "private-user@alice"}, at=begun)  # repeated, late
    (user,) = world.all("users")
    assert (user["online"], user["last_seen"]) == (False, left_at)


async def test_what_is_none_of_our_business(world: World) -> None:
    events: list[Wire] = [
        {"name": "client_event", "channel": "presence-enc-goal@x", "event": "client-wave", "data": {"a": 1}},
        {"name": "cache_miss", "channel": "cache-x"},
        {"name": "member_added", "channel": "presence-enc-goal@no-goal", "user_id": "alice"},
        {"name": "member_added", "channel": "presence-enc-goal@68143584d6945d32e732cc21", "user_id": "alice"},
        {"name": "member_added", "channel": "presence-lobby", "user_id": "alice"},
        {"name": "subscription_count", "channel": "presence-stream@alice", "subscription_count": 3},
    ]
    await world.hears(*events)
    await world.settle()
    assert (world.all("goals"), world.notifier.notices) == ([], [])
