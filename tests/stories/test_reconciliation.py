"""After an outage that Pusher's repeats did not outlast: a leave that is never told must not run the clock for ever."""

from datetime import datetime, timedelta

import pytest

from goalsvc.domain.channels import goal_channel
from tests.models.oracle import Happening
from tests.world import World

from .outline import answers_to
from .scenes import Show, a_funded_show, pusher_is_asked

pytestmark = pytest.mark.real


def is_running(world: World, show: Show) -> bool:
    context = world.goal(show)["context"]
    return "paused" not in context or context["started"] > context["paused"]


def concluded(world: World, show: Show, instant: datetime) -> None:
    """Tells the independent oracle of the leave that was concluded, since no webhook told of it."""
    world.arrivals[show.id].append(Happening.at("leave", instant))


def is_there(world: World, show: Show, present: bool) -> None:
    world.notifier.users[goal_channel(show.id)] = [show.streamer] if present else []


class TestLostLeave:
    async def test_the_clock_is_paused_at_the_last_moment_that_is_known(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=600))
        await world.performer_joins(show)
        is_there(world, show, True)
        await world.after(seconds=100)
        await pusher_is_asked(world)
        known_at = world.clock.now()
        is_there(world, show, False)
        await world.after(seconds=100)
        await pusher_is_asked(world)
        assert (world.progress(show), is_running(world, show)) == (0, True)  # a leave may still be on its way
        await world.after(seconds=world.context.settings.reconcile_patience)
        await pusher_is_asked(world)
        assert (world.progress(show), is_running(world, show)) == (100, False)
        assert world.goal(show)["context"]["paused"] == known_at
        concluded(world, show, known_at)

    async def test_the_trace_says_so(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=600))
        await world.performer_joins(show)
        joined_at = world.clock.now()
        is_there(world, show, False)
        for _ in range(2):
            await world.after(seconds=world.context.settings.reconcile_patience)
            await pusher_is_asked(world)
        tasks = [node for node in await world.trace(show) if node["name"] == "reconcile_clocks"]
        assert [joined_at.isoformat() in node["reason"] for node in tasks] == [True]
        assert answers_to(tasks, "goal.progressed")["track_goals"][0] == "done"
        concluded(world, show, joined_at)

    async def test_a_leave_that_comes_after_all_tells_the_exact_time(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=600))
        await world.performer_joins(show)
        is_there(world, show, False)
        await world.after(seconds=120)
        await pusher_is_asked(world)
        await world.performer_leaves(show)
        await world.settle()
        await world.after(seconds=world.context.settings.reconcile_patience)
        await pusher_is_asked(world)
        assert (world.progress(show), is_running(world, show)) == (120, False)

    async def test_a_performer_who_is_there_goes_on(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=3600))
        await world.performer_joins(show)
        is_there(world, show, True)
        for _ in range(5):
            await world.after(seconds=world.context.settings.reconcile_patience)
            await pusher_is_asked(world)
        assert is_running(world, show)
        await world.performer_leaves(show)
        await world.settle()
        assert world.progress(show) == 5 * world.context.settings.reconcile_patience

    async def test_one_who_came_back_is_not_missed(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=3600))
        await world.performer_joins(show)
        patience = world.context.settings.reconcile_patience
        for present in (False, True, False):
            is_there(world, show, present)
            await world.after(seconds=patience - 60)
            await pusher_is_asked(world)
        assert is_running(world, show)

    async def test_a_silent_pusher_pauses_nobody(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=3600))
        await world.performer_joins(show)
        for _ in range(3):
            world.notifier.refuse(1)
            await world.after(seconds=timedelta(hours=1).total_seconds())
            await pusher_is_asked(world)
        assert is_running(world, show)
