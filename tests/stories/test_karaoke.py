"""Karaoke: songs, and the score that the session shows."""

from datetime import timedelta

import pytest

from goalsvc.models.goal import Goal as GoalDocument
from goalsvc.signals.events import GoalProgressed
from goalsvc.tasks import announcements
from tests.world import World

from .outline import answers_to
from .scenes import Goal, a_karaoke

pytestmark = pytest.mark.real


def score(world: World, karaoke: Goal) -> tuple[int, bool]:
    """What the session shows."""
    shown = world.session(karaoke.session_id)["karaoke_goal"]
    assert str(shown["id"]) == karaoke.id
    return shown["progress"], shown["active"]


async def test_the_session_shows_the_score(world: World) -> None:
    karaoke = await world.given(a_karaoke(seconds=120))
    assert score(world, karaoke) == (0, True)
    await world.performs(karaoke, seconds=50)
    await world.settle()
    assert score(world, karaoke) == (50, True)
    await world.after(seconds=5)
    await world.performs(karaoke, seconds=80)
    await world.settle()
    assert score(world, karaoke) == (130, False)
    assert [told["karaoke_goal"]["progress"] for told in world.told("session.karaoke_goal.updated")] == [50, 130]
    assert not world.goal(karaoke)["active"]


async def test_each_level_is_completed_once_and_the_last_one_ends_it(world: World) -> None:
    karaoke = await world.given(a_karaoke(seconds=120))
    await world.performs(karaoke, seconds=60)
    await world.settle()
    answers = answers_to(await world.trace(karaoke), "goal.completed")
    assert answers["deactivate_goal"] == ("returned", "not_the_last_level")
    assert answers["produce_livestream_clip_from_goal"] == ("returned", "not_the_last_level")
    assert answers["notify_livestream_mvps"][0] == "done"
    await world.after(seconds=5)
    await world.performs(karaoke, seconds=61)
    await world.settle()
    levels = [event["level"] for event in world.all("tracking_events", {"name": "goal.completed"})]
    assert sorted(levels) == [1, 2]
    (asset,) = world.all("assets")
    (post,) = world.all("posts")
    assert (asset["state"], post["caption"]) == ("quarantined", "First song")


async def test_the_score_never_goes_back(world: World) -> None:
    karaoke = await world.given(a_karaoke(seconds=120))
    await world.performs(karaoke, seconds=10)
    await world.settle()
    goal = await GoalDocument.by_id(world.goal(karaoke)["_id"])
    assert goal is not None
    old = announcements.progressed(goal, "an-old-one", world.clock.now(), 10, 10)
    assert isinstance(old, GoalProgressed)
    await world.after(seconds=5)
    await world.performs(karaoke, seconds=30)
    await world.settle()
    await world.context.bus.send(world.context, old)  # announced again, late, after a crash
    assert score(world, karaoke) == (40, True)
    assert [told["karaoke_goal"]["progress"] for told in world.told("session.karaoke_goal.updated")] == [10, 40]


async def test_that_expires_while_it_runs_keeps_its_seconds(world: World) -> None:
    karaoke = await world.given(a_karaoke(seconds=120))
    exp = world.clock.now() + timedelta(seconds=45)
    world.database.goals.update_one({}, {"$set": {"exp": exp}})
    await world.performer_joins(karaoke)
    await world.settle(patience=45)
    assert world.progress(karaoke) == 45
    assert (world.goal(karaoke)["active"], world.goal(karaoke)["exp"]) == (False, exp)
