"""Performed time as a platform sees it: who performs, deadlines, webhooks that arrive after an end, lost joins, windows."""

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from prometheus_client import REGISTRY

from goalsvc.domain.channels import goal_channel
from goalsvc.domain.presence import join_mark
from goalsvc.domain.promises import Job
from tests.world import Performed, World, joined, left, occupied, vacated

from .scenes import Exclusive, a_funded_show, a_funding, a_karaoke, an_exclusive, contributes, pusher_is_asked, settled

pytestmark = pytest.mark.real

MINUTES = 6 * 60


def is_there(world: World, goal: Performed, *users: str) -> None:
    """Pusher says so from now on."""
    world.notifier.users[goal_channel(goal.id)] = list(users)


def absent_at_the_end(world: World) -> list[list[str]]:
    return [told["absent"] for told in world.told("goal.ended") if told["kind"] == "ExclusiveGoal"]


async def was_started(world: World, goal: Performed) -> bool:
    """Whether a start was announced."""
    started = {"goal_id": goal.id, "name": "goal.started"}
    return bool(world.all("tracking_events", started))


async def ended_and_settled(world: World, goal: Performed) -> None:
    await world.ends(goal)
    await world.settle(patience=MINUTES)


# -- who performs -----------------------------------------------------------------------------------------------------------

TABLE = [
    ("P+0 P-360", 360),
    ("V+0 V-360", 0),
    ("P+0 V+60 P-160 V-160", 100),
    ("P+0 V+0 P-60 V-360", 60),
    ("P+0 V+0 V-100 V+130 P-360 V-360", 330),
    ("*+0 *-360", 360),
    ("*+0 V+0.01 *-360", 0),
    ("P+0 V+0 *-100 *+105 P-200 V-200", 200),
    ("P+0 V-50 P-100", 100),
]


@pytest.mark.parametrize(("text", "seconds"), TABLE)
async def test_the_performer_is_paid_for_performed_seconds(world: World, text: str, seconds: int) -> None:
    """One token a second: what the performer gets is what was performed."""
    exclusive = await world.given(an_exclusive(price=720, seconds=720))
    begun = world.clock.now()
    for word in text.split():
        world.clock.move_to(begun + timedelta(seconds=float(word[2:])))
        user = {"P": exclusive.streamer, "V": exclusive.viewer}.get(word[0], "")
        is_join = word[1] == "+"
        if user:
            await world.hears(joined(exclusive, user) if is_join else left(exclusive, user))
        else:
            await world.hears(occupied(exclusive) if is_join else vacated(exclusive))
    await world.work()
    await ended_and_settled(world, exclusive)
    assert world.progress(exclusive) == seconds
    assert settled(world, exclusive) == (seconds, 720 - seconds, 0)


async def test_both_gone_without_owned_leaves_and_nothing_more(world: World) -> None:
    exclusive = await world.given(an_exclusive(price=720, seconds=720))
    await world.hears(joined(exclusive), joined(exclusive, exclusive.viewer))
    await world.after(seconds=100)
    await world.hears(vacated(exclusive))
    await world.after(seconds=200)
    await ended_and_settled(world, exclusive)
    assert settled(world, exclusive) == (100, 620, 0)
    assert absent_at_the_end(world) == [["performer", "viewer"]]


async def test_the_performer_leaves_and_the_viewer_stays(world: World) -> None:
    exclusive = await world.given(an_exclusive(price=360, seconds=360))
    await world.hears(joined(exclusive), joined(exclusive, exclusive.viewer))
    await world.after(seconds=60)
    await world.performer_leaves(exclusive)
    await world.settle()
    await world.hears(left(exclusive, exclusive.viewer))
    await world.after(seconds=1)
    await world.hears(joined(exclusive, exclusive.viewer))  # the phone reconnects
    await world.settle(patience=60)  # the grace, not one webhook more
    assert not world.goal(exclusive)["active"]
    assert settled(world, exclusive) == (60, 300, 0)
    assert absent_at_the_end(world) == [["performer"]]


async def test_a_start_by_an_unowned_mark_is_announced_two_seconds_later(world: World) -> None:
    exclusive = await world.given(an_exclusive())
    await world.hears(occupied(exclusive))
    await world.work()
    assert not await was_started(world, exclusive)
    await world.settle(patience=2)
    assert await was_started(world, exclusive)


async def test_a_start_that_does_not_hold_is_not_announced(world: World) -> None:
    exclusive = await world.given(an_exclusive())
    await world.hears(occupied(exclusive))
    await world.after(seconds=1)
    await world.hears(joined(exclusive, exclusive.viewer))
    await world.settle(patience=2)
    assert not await was_started(world, exclusive)
    assert "exclusive_to" not in world.session(exclusive.session_id).get("status", {})


async def test_other_users_move_nothing(world: World) -> None:
    exclusive = await world.given(an_exclusive())
    before = world.goal(exclusive)
    await world.hears(joined(exclusive, "mallory"), left(exclusive, "mallory"))
    assert world.goal(exclusive) == before


async def test_the_stretches_stay_as_evidence(world: World) -> None:
    exclusive = await world.given(an_exclusive(seconds=720))
    begun = world.clock.now()
    await world.performs(exclusive, seconds=10)
    await world.after(seconds=5)
    await world.performs(exclusive, seconds=20)
    found = world.goal(exclusive)["clock"]["stretches"]
    seconds = [[(each[name] - begun).total_seconds() for name in ("from", "to")] for each in found]
    assert seconds == [[0, 10], [15, 35]]


# -- deadlines --------------------------------------------------------------------------------------------------------------


async def test_a_goal_ends_at_its_deadline_not_when_a_worker_comes_to_it(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360))
    deadline = world.clock.now() + timedelta(seconds=3)
    world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": {"exp": deadline}})
    await world.performs(show, seconds=9)
    await world.after(seconds=30)
    await world.settle()
    goal = world.goal(show)
    assert (goal["progress"], goal["exp"], goal["context"]["paused"]) == (3, deadline, deadline)


async def test_a_join_after_the_deadline_is_not_performance(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360))
    deadline = world.clock.now() + timedelta(seconds=3)
    world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": {"exp": deadline}})
    await world.after(seconds=4)
    await world.performs(show, seconds=9)
    await world.settle()
    assert world.progress(show) == 0


# -- late webhooks ----------------------------------------------------------------------------------------------------------


async def test_a_leave_from_before_the_end_that_arrives_after_it(world: World) -> None:
    exclusive = await world.given(an_exclusive(price=720, seconds=720))
    await world.performer_joins(exclusive)
    await world.after(seconds=100)
    left_at = world.clock.now()
    is_there(world, exclusive)
    await world.after(seconds=200)
    await world.ends(exclusive)
    await world.settle()
    assert (world.progress(exclusive), settled(world, exclusive)) == (0, (0, 0, 720))  # it waits
    await world.after(seconds=60)
    await world.hears(left(exclusive), at=left_at)
    await world.settle(patience=MINUTES)
    assert settled(world, exclusive) == (100, 620, 0)


async def test_a_join_and_leave_from_before_the_end_that_arrive_after_it(world: World) -> None:
    exclusive = await world.given(an_exclusive(price=720, seconds=720))
    joined_at = world.clock.now()
    await world.after(seconds=290)
    left_at = world.clock.now()
    world.notifier.refuse(1)  # Pusher is not to be asked: something may be outstanding
    await world.ends(exclusive)
    await world.work()
    await world.after(seconds=100)
    await world.hears(joined(exclusive), at=joined_at)
    await world.hears(left(exclusive), at=left_at)
    await world.settle(patience=MINUTES)
    assert settled(world, exclusive) == (290, 430, 0)


async def test_late_webhooks_that_reach_the_target_of_a_show_pay_it_at_once(world: World) -> None:
    show = await world.given(a_funded_show(seconds=100))
    joined_at = world.clock.now()
    await world.after(seconds=150)
    left_at = world.clock.now()
    is_there(world, show, show.streamer)
    await world.ends(show)
    await world.settle()
    assert world.escrow(show.escrow_id) == show.escrow  # neither paid nor refunded
    await world.hears(joined(show), at=joined_at)
    await world.hears(left(show), at=left_at)
    await world.settle()
    assert world.balance(show.streamer) == show.escrow
    await world.settle(patience=MINUTES)
    assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (show.escrow, 0)


async def test_late_webhooks_that_reach_the_target_of_an_exclusive_pay_it_at_once(world: World) -> None:
    exclusive = await world.given(an_exclusive(price=720, seconds=100))
    joined_at = world.clock.now()
    await world.after(seconds=150)
    left_at = world.clock.now()
    is_there(world, exclusive, exclusive.streamer)
    await world.ends(exclusive)
    await world.settle()
    await world.hears(joined(exclusive), at=joined_at)
    await world.hears(left(exclusive), at=left_at)
    await world.settle()
    assert settled(world, exclusive) == (720, 0, 0)
    await world.settle(patience=MINUTES)
    assert settled(world, exclusive) == (720, 0, 0)


async def test_a_show_that_waits_in_vain_is_refunded_six_minutes_after_its_end(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360))
    await world.performer_joins(show)
    await world.after(seconds=100)
    is_there(world, show)  # a leave is outstanding, and will never come
    await world.ends(show)
    await world.settle(patience=MINUTES - 1)
    assert (world.progress(show), world.escrow(show.escrow_id)) == (0, show.escrow)
    await world.settle(patience=1)
    assert (world.progress(show), world.escrow(show.escrow_id)) == (100, 0)
    assert {viewer: world.balance(viewer) for viewer in show.contributions} == dict(show.contributions)


@pytest.mark.parametrize("task", ["seal_clock", "refund_escrow"])
async def test_a_job_of_another_state_of_the_database_does_not_end_the_wait(world: World, task: str) -> None:
    show = await world.given(a_funded_show(seconds=360))
    await world.performer_joins(show)
    await world.after(seconds=100)
    is_there(world, show)  # a leave is outstanding
    await world.ends(show)
    await world.settle()
    escrow = {"escrow_id": show.escrow_id, "user_id": show.streamer}
    arguments = {"goal_id": show.id} | (escrow if task == "refund_escrow" else {})
    job = Job("early", task, arguments, promise=f"goals/{show.id}/{task}")
    again = await world._runner.run(world.context, job, 1)
    assert again is not None
    assert (again.failed, 0 < again.after_seconds <= MINUTES) == (False, True)
    assert (world.escrow(show.escrow_id), world.goal(show.id)["clock"].get("sealed")) == (show.escrow, None)
    await world.settle(patience=MINUTES)
    assert (world.progress(show), world.escrow(show.escrow_id)) == (100, 0)


async def test_nothing_waits_when_pusher_agrees_and_the_trace_says_so(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360))
    await world.performer_joins(show)
    await world.after(seconds=100)
    await world.ends(show)
    await world.settle()
    assert (world.progress(show), world.escrow(show.escrow_id)) == (100, 0)
    (reason,) = [node["reason"] for node in await tasks_of(world, show) if node["name"] == "deactivate_goal"]
    assert reason == "progress 100; settled at once: Pusher agrees with the marks"


async def test_the_trace_says_what_is_waited_for(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360))
    await world.performer_joins(show)
    await world.after(seconds=100)
    is_there(world, show)
    await world.ends(show)
    await world.settle()
    (reason,) = [node["reason"] for node in await tasks_of(world, show) if node["name"] == "deactivate_goal"]
    assert "waits for late webhooks until" in reason
    assert "Pusher names [], the marks say ['performer']" in reason
    await world.settle(patience=MINUTES)


async def test_a_mark_that_arrives_after_the_settlement_does_not_count(world: World) -> None:
    show = await world.given(a_funded_show(seconds=360))
    joined_at = world.clock.now()
    await world.after(seconds=400)
    left_at = world.clock.now()
    await world.ends(show)
    await world.settle()
    assert world.escrow(show.escrow_id) == 0
    await world.hears(joined(show), at=joined_at)
    await world.hears(left(show), at=left_at)
    await world.settle(patience=MINUTES)
    assert (world.progress(show), world.balance(show.streamer)) == (0, 0)


async def test_a_funding_that_expires_does_not_wait(world: World) -> None:
    funding = await world.given(a_funding(target=100))
    await world.deposits("bob", 60)
    await contributes(world, funding, "bob", 60)
    await world.ends(funding)
    await world.settle()
    assert world.balance("bob") == 60


async def tasks_of(world: World, goal: Performed) -> list[dict[str, Any]]:
    def walk(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [found for node in nodes for found in [node, *walk(node.get("children", []))]]

    return [node for node in walk(list(await world.trace(goal))) if node["kind"] == "task"]


# -- what others have written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("active", ["absent", None])
async def test_a_goal_without_active_is_active(world: World, active: str | None) -> None:
    show = await world.given(a_funded_show(seconds=360))
    change = {"$unset": {"active": True}} if active else {"$set": {"active": None}}
    world.database.goals.update_one({"_id": ObjectId(show.id)}, change)
    listed = await world.get(f"/v1/goals?session_id={show.session_id}&active=true")
    assert show.id in [goal["id"] for goal in listed["items"]]
    world.database.goals.update_one(
        {"_id": ObjectId(show.id)}, {"$set": {"exp": world.clock.now() + timedelta(seconds=100)}}
    )
    response = await world.webhook({"timestamp": "", "events": [joined(show)]})
    assert response.status_code == 200
    is_there(world, show, show.streamer)
    await world.after(seconds=100)
    await world.settle()
    assert (world.goal(show)["active"], world.goal(show)["progress"]) == (False, 100)


@pytest.mark.parametrize("seconds", [100, 360])
async def test_an_exclusive_that_ran_before_the_rule_keeps_the_old_one(world: World, seconds: int) -> None:
    """The viewer's join counts as the performer's, nothing waits, and its end counts what ran: as the version before did."""
    exclusive = await world.given(an_exclusive(price=360, seconds=360))
    begun = world.clock.now()
    clock = {
        "marks": [join_mark(begun)],
        "floor": 0,
        "folded": 0,
        "counted": 0,
        "revision": ObjectId(),
        "running": True,
        "known_at": begun,
    }
    context = {"started": begun, "last_updated": begun}
    world.database.goals.update_one({"_id": ObjectId(exclusive.id)}, {"$set": {"clock": clock, "context": context}})
    await world.after(seconds=seconds - 20)
    await world.webhook({"timestamp": "", "events": [joined(exclusive, exclusive.viewer)]})
    await world.after(seconds=20)
    await world.ends(exclusive)
    await world.settle()
    assert settled(world, exclusive) == (seconds, 360 - seconds, 0)
    assert "rule" not in world.goal(exclusive)["clock"]


# -- the viewer's window ------------------------------------------------------------------------------------------------------


async def admission(world: World, exclusive: Exclusive) -> dict[str, Any]:
    path = f"/v1/sessions/{exclusive.session_id}/token?viewer_id={exclusive.viewer}"
    return dict(await world.get(path))


async def test_the_window_opens_without_an_end_and_follows_the_clock(world: World) -> None:
    exclusive = await world.given(an_exclusive(price=360, seconds=100))

    def window() -> dict[str, Any]:
        return dict(world.session(exclusive.session_id)["viewers"][exclusive.viewer])

    assert "exp" not in window()
    await world.after(seconds=300)  # the performer is late, longer than the target
    await world.performer_joins(exclusive)
    started = world.clock.now()
    await world.settle()
    assert window()["exp"] == started + timedelta(seconds=100)
    assert (await admission(world, exclusive))["allowed"] is True
    assert [told.get("exp") for told in world.told("stream.authorized")][-1] is not None
    await world.after(seconds=40)
    await world.performer_leaves(exclusive)
    paused = world.clock.now()
    await world.settle()
    assert window()["exp"] == paused + timedelta(seconds=60 + 60)  # the grace, and what is left
    await world.after(seconds=30)
    await world.performer_joins(exclusive)
    await world.settle()
    assert window()["exp"] == world.clock.now() + timedelta(seconds=60)
    await world.after(seconds=60)
    await world.performer_leaves(exclusive)
    await world.settle()
    assert (window()["exp"], window()["duration"]) == (world.goal(exclusive)["exp"], 100)


# -- reconciliation -----------------------------------------------------------------------------------------------------------


def lost_joins() -> float:
    return REGISTRY.get_sample_value("goalsvc_lost_joins_total") or 0.0


async def test_an_occupied_channel_whose_clock_stands_is_a_lost_join(world: World) -> None:
    karaoke = await world.given(a_karaoke(seconds=600))
    before = lost_joins()
    is_there(world, karaoke, karaoke.streamer)
    await pusher_is_asked(world)
    found_at = world.clock.now()
    assert world.goal(karaoke)["context"]["started"] == found_at
    assert lost_joins() - before == 1
    await pusher_is_asked(world)
    assert lost_joins() - before == 1
    world.arrivals.pop(karaoke.id, None)
    await world.after(seconds=50)
    await world.webhook({"timestamp": "", "events": [left(karaoke)]})
    await world.settle()
    assert world.progress(karaoke) == 50


async def test_a_stranger_in_the_channel_is_no_lost_join(world: World) -> None:
    karaoke = await world.given(a_karaoke(seconds=600))
    is_there(world, karaoke, "mallory")
    await pusher_is_asked(world)
    assert "started" not in world.goal(karaoke)["context"]


async def test_the_viewers_presence_is_not_the_performers(world: World) -> None:
    exclusive = await world.given(an_exclusive(price=720, seconds=720))
    await world.hears(joined(exclusive), joined(exclusive, exclusive.viewer))
    is_there(world, exclusive, exclusive.viewer)
    known_at = world.clock.now()
    for _ in range(2):
        await world.after(seconds=world.context.settings.reconcile_patience)
        await pusher_is_asked(world)
    assert world.goal(exclusive)["context"]["paused"] == known_at
    world.arrivals.clear()


async def test_a_late_twin_does_not_set_known_at_back(world: World) -> None:
    karaoke = await world.given(a_karaoke(seconds=600))
    await world.performer_joins(karaoke)
    joined_at = world.clock.now()
    await world.after(seconds=100)
    await pusher_is_asked(world)
    known_at = world.goal(karaoke)["clock"]["known_at"]
    await world.hears(occupied(karaoke), at=joined_at + timedelta(milliseconds=4))
    assert world.goal(karaoke)["clock"]["known_at"] == known_at == world.clock.now()


@pytest.mark.parametrize("counts", [True, False])
async def test_many_missed_performers_do_not_keep_others_from_being_asked_about(world: World, counts: bool) -> None:
    karaoke = await world.given(a_karaoke(seconds=600))
    await world.performer_joins(karaoke)
    goal = world.goal(karaoke)
    missed = [goal | {"_id": ObjectId(), "promises": []} for _ in range(520)]
    world.database.goals.insert_many(missed)
    is_there(world, karaoke, karaoke.streamer)
    world.notifier.counts = counts
    for _ in range(2):
        await world.after(seconds=60)
        await pusher_is_asked(world)
    asked_at = world.clock.now()
    world.database.goals.delete_many({"_id": {"$in": [each["_id"] for each in missed]}})
    assert asked_at - world.goal(karaoke)["clock"]["known_at"] <= timedelta(seconds=60)
