"""goalsvc and a real Pusher-protocol server: its webhooks in, our notices out, its clients authorised."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from goalsvc.devstack.ports import HOST
from goalsvc.domain.channels import goal_channel, presence_stream, private_stream, private_user
from goalsvc.integrations.pusher import open_notifier
from goalsvc.settings import Settings
from tests.support.waiting import read_until

from . import soketi
from .client import PusherClient
from .conftest import Device, token_of
from .goalsvc_api import Platform, is_running, wait_until
from .soketi import Webhooks
from .webhook_witness import Witness

User = Callable[[str], str]

JOINS = ("channel_occupied", "member_added")
LEAVES = ("channel_vacated", "member_removed")


def begin_show(platform: Platform, streamer: str, target: int) -> str:
    """A show that nobody has paid for."""
    return make_goal(platform, begin_session(platform, streamer), "ShowGoal", target)


def begin_session(platform: Platform, streamer: str) -> str:
    # No clip is wanted of these livestreams, which have no pictures.
    platform.put(f"/v1/users/{streamer}", {"username": streamer, "tags": ["banned:livestream:create_clip"]})
    return str(platform.post("/v1/sessions", {"user_id": streamer, "rtc": {"room_id": "room-1"}})["id"])


def make_goal(platform: Platform, session_id: str, kind: str, target: int, **more: Any) -> str:
    levels = [{"title": "Ukulele medley", "target": target}]
    return str(platform.post("/v1/goals", {"kind": kind, "session_id": session_id, "levels": levels, **more})["id"])


def saying(**expected: Any) -> Callable[[Any], bool]:
    """Whether a notice says at least this."""
    return lambda data: all(data.get(name) == value for name, value in expected.items())


def perform(platform: Platform, performer: PusherClient, goal_id: str, seconds: float) -> None:
    """Joins the goal's channel, and leaves it when the clock has run for so long."""
    performer.subscribe(goal_channel(goal_id))
    wait_until(platform.started(goal_id) + timedelta(seconds=seconds))
    performer.unsubscribe(goal_channel(goal_id))


def seconds_by(witness: Witness, goal_id: str) -> set[int]:
    """The whole seconds of one performance by the server's own account, whichever twin of each pair came first."""
    channel = goal_channel(goal_id)
    read_until(lambda: witness.times_of(channel, *LEAVES), lambda times: len(times) == len(LEAVES))
    joins, leaves = witness.times_of(channel, *JOINS), witness.times_of(channel, *LEAVES)
    return {(leave - join) // 1000 for join in joins for leave in leaves}


def test_webhooks_arrive_as_the_server_sends_them(
    platform: Platform, pusher: Webhooks, witness: Witness, device: Device, user: User
) -> None:
    goal_id = begin_show(platform, user("alice"), target=60)
    channel = goal_channel(goal_id)

    device(user("alice")).subscribe(channel)
    read_until(lambda: platform.goal(goal_id), is_running)
    read_until(lambda: witness.times_of(channel, *JOINS), lambda times: len(times) == len(JOINS))

    together = [sorted(webhook.about(channel)) for webhook in witness.about(channel)]
    assert sorted(together) == ([sorted(JOINS)] if pusher.batched else [[name] for name in sorted(JOINS)])


def test_a_performance_counts_what_the_server_says(
    platform: Platform, witness: Witness, device: Device, user: User
) -> None:
    alice = user("alice")
    goal_id = begin_show(platform, alice, target=60)
    phone = device(alice)
    phone.subscribe(private_user(alice))

    perform(platform, device(alice), goal_id, seconds=1.1)

    told = phone.wait_for("goal.progress.updated", channel=private_user(alice), where=saying(goal_id=goal_id)).data
    goal = platform.goal(goal_id)
    assert not is_running(goal)
    assert goal["progress"] == told["progress"] == told["amount"]
    assert goal["progress"] in seconds_by(witness, goal_id)


def test_a_device_that_dies_leaves(platform: Platform, witness: Witness, device: Device, user: User) -> None:
    goal_id = begin_show(platform, user("alice"), target=60)
    stage = device(user("alice"))
    stage.subscribe(goal_channel(goal_id))
    wait_until(platform.started(goal_id) + timedelta(seconds=1.1))

    stage.kill()

    read_until(lambda: platform.goal(goal_id), lambda goal: not is_running(goal) and goal["progress"] > 0)
    assert platform.goal(goal_id)["progress"] in seconds_by(witness, goal_id)


def test_two_devices_of_the_performer_are_one(platform: Platform, witness: Witness, device: Device, user: User) -> None:
    alice = user("alice")
    goal_id = begin_show(platform, alice, target=60)
    channel = goal_channel(goal_id)
    camera, phone = device(alice), device(alice)
    camera.subscribe(channel)
    started = platform.started(goal_id)
    phone.subscribe(channel)

    camera.kill()
    wait_until(started + timedelta(seconds=1.1))
    assert is_running(platform.goal(goal_id))
    assert witness.times_of(channel, *LEAVES) == []

    phone.unsubscribe(channel)
    read_until(lambda: platform.goal(goal_id), lambda goal: not is_running(goal) and goal["progress"] > 0)
    assert platform.goal(goal_id)["progress"] in seconds_by(witness, goal_id)


def test_a_funded_show_from_the_first_token_to_the_payout(
    platform: Platform, witness: Witness, device: Device, user: User
) -> None:
    alice, bob, carol = user("alice"), user("bob"), user("carol")
    # given a streamer and a viewer who follow the stream
    session_id = begin_session(platform, alice)
    streamer, viewer = device(alice), device(bob)
    streamer.subscribe(private_user(alice))
    streamer.subscribe(presence_stream(alice))
    viewer.subscribe(private_stream(alice))
    viewer.subscribe(presence_stream(alice))
    streamer.wait_for("user.entered", channel=presence_stream(alice), where=saying(user_id=bob))

    # when two viewers fund a show
    plan = {"show": {"title": "Ukulele medley", "target": 2}}
    funding_id = make_goal(platform, session_id, "FundingGoal", 1000, metadata=plan)
    for giver, amount in ((bob, 600), (carol, 400)):
        platform.post(f"/v1/wallets/{giver}/deposits", {"amount": amount})
        platform.post(f"/v1/goals/{funding_id}/contributions", {"user_id": giver, "amount": amount})

    # then the streamer is told what came in (at once or one by one), the viewers that there is a show, and who paid
    told_of_funding = saying(goal_id=funding_id, progress=1000)
    streamer.wait_for("goal.progress.updated", channel=private_user(alice), where=told_of_funding)
    assert viewer.wait_for("stream.changed", channel=private_stream(alice)).data["show"] == plan["show"]
    best = viewer.wait_for("livestream.mvps", channel=private_stream(alice)).data["mvps"]
    assert best == [{"user_id": bob, "amount": 600}, {"user_id": carol, "amount": 400}]
    session = read_until(lambda: platform.read(f"/v1/sessions/{session_id}"), lambda read: read["show_goal_pairs"])
    show_id = session["show_goal_pairs"][0]["show_goal"]

    # when it is performed
    perform(platform, device(alice), show_id, seconds=2.1)

    # then streamer and viewers see it on their screens
    for screen, channel in (
        (streamer, private_user(alice)),
        (streamer, presence_stream(alice)),
        (viewer, private_stream(alice)),
        (viewer, presence_stream(alice)),
    ):
        told = screen.wait_for("goal.progress.updated", channel=channel, where=saying(goal_id=show_id)).data
        assert (told["kind"], told["level"]) == ("ShowGoal", 1)

    # and it is over, and paid to the token
    show = read_until(lambda: platform.goal(show_id), lambda goal: not goal["active"])
    assert show["progress"] in seconds_by(witness, show_id)
    assert read_until(lambda: platform.balance(alice), lambda balance: balance >= 1000) == 1000
    assert platform.balance(bob) == platform.balance(carol) == 0
    assert platform.read(f"/v1/escrows/show_funding:{funding_id}")["balance"] == 0
    streamer.wait_for("wallet.updated", channel=private_user(alice), where=saying(amount=1000, shares=2))
    pair = platform.read(f"/v1/sessions/{session_id}")["show_goal_pairs"][0]
    assert pair["show_started"] < pair["show_ended"]


def test_an_exclusive_pauses_when_its_viewer_goes(platform: Platform, device: Device, user: User) -> None:
    alice, bob = user("alice"), user("bob")
    session_id = begin_session(platform, alice)
    goal_id = make_goal(platform, session_id, "ExclusiveGoal", 60, conditions={"exclusive_to": bob})
    channel = goal_channel(goal_id)
    performer, viewer = device(alice), device(bob)

    viewer.subscribe(channel)
    performer.subscribe(channel)
    read_until(lambda: platform.goal(goal_id), is_running)
    viewer.unsubscribe(channel)

    read_until(lambda: platform.goal(goal_id), lambda goal: not is_running(goal))


def test_who_is_in_a_channel(
    platform: Platform, pusher_port: int, pusher: Webhooks, device: Device, user: User
) -> None:
    stream = presence_stream(user("alice"))
    settings = Settings.model_validate(
        {
            "mongodb_url": "mongodb://unused",
            "redis_url": "redis://unused",
            "pusher_host": HOST,
            "pusher_port": pusher_port,
            "pusher_ssl": False,
            "pusher_app_id": soketi.APP_ID,
            "pusher_key": soketi.KEY,
            "pusher_secret": soketi.SECRET,
        }
    )

    async def users() -> list[str]:
        async with open_notifier(settings) as notifier:
            return await notifier.users_in(stream)

    for name in ("bob", "carol"):
        device(user(name)).subscribe(stream)

    assert sorted(asyncio.run(users())) == sorted([user("bob"), user("carol")])


class TestChannelAuthorisation:
    def test_the_performer_alone_joins_a_show(self, platform: Platform, device: Device, user: User) -> None:
        goal_id = begin_show(platform, user("alice"), target=60)

        assert device(user("bob")).refusal(goal_channel(goal_id))["status"] == 403
        assert not is_running(platform.goal(goal_id))

    def test_a_users_channel_is_his_alone(self, device: Device, user: User) -> None:
        assert device(user("bob")).refusal(private_user(user("alice")))["status"] == 403

    @pytest.mark.parametrize("token", ["none", token_of("u-mallory", key="a key that nobody here knows, of 32 bytes")])
    def test_a_token_that_is_not_the_platforms_is_refused(self, device: Device, user: User, token: str) -> None:
        assert device(user("alice"), token=token).refusal(private_user(user("alice")))["status"] == 401
