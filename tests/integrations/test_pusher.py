"""Pusher: what is sent, what is refused before it is sent, and what every kind of failure becomes."""

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import pytest
from pydantic import SecretStr

from goalsvc.context import Notifier, Telling
from goalsvc.errors import ExternalServiceError, InvalidError, NoticeTooLargeError, ServiceDownError, SettingsError
from goalsvc.integrations.pusher import (
    CONCURRENT_CALLS,
    DATA_LIMIT_BYTES,
    EVENTS_PER_BATCH,
    PusherNotifier,
    open_notifier,
)
from tests.support.services import Notice, RecordedNotifier

from .conftest import settings_with
from .stub_server import StubAnswer, StubRequest, StubServer, free_port

SECRET = "a-secret-never-shown"


def app_settings(port: int, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "pusher_app_id": "7",
        "pusher_key": "app-key",
        "pusher_secret": SecretStr(SECRET),
        "pusher_host": "127.0.0.1",
        "pusher_port": port,
        "pusher_ssl": False,
    }
    return settings_with(**values | changes)


@pytest.fixture
async def notifier(stub: StubServer) -> AsyncIterator[PusherNotifier]:
    async with open_notifier(app_settings(stub.port)) as opened:
        yield opened


class World:
    """One of the two notifiers, with a way to see what it was told and to make it fail."""

    def __init__(self, notifier: Notifier, stub: StubServer | None) -> None:
        self.notifier = notifier
        self._stub = stub

    def told(self) -> list[Notice]:
        if isinstance(self.notifier, RecordedNotifier):
            return self.notifier.notices
        assert self._stub is not None
        bodies = [json.loads(request.body) for request in self._stub.requests]
        return [Notice(tuple(body["channels"]), body["name"], json.loads(body["data"])) for body in bodies]

    def fail_once(self) -> None:
        if isinstance(self.notifier, RecordedNotifier):
            self.notifier.refuse(1)
            return
        assert self._stub is not None
        answers = iter([StubAnswer(b"oops", status=503)])
        self._stub.answering = lambda _: next(answers, StubAnswer())

    def members(self, channel: str, *users: str) -> None:
        if isinstance(self.notifier, RecordedNotifier):
            self.notifier.users[channel] = list(users)
            return
        assert self._stub is not None
        self._stub.answer(json.dumps({"users": [{"id": user} for user in users]}).encode())


@pytest.fixture(params=["real", "emulator"])
async def world(request: pytest.FixtureRequest, stub: StubServer) -> AsyncIterator[World]:
    if request.param == "emulator":
        yield World(RecordedNotifier(), None)
        return
    async with open_notifier(app_settings(stub.port)) as opened:
        yield World(opened, stub)


class TestContract:
    """What holds for the real notifier and for its emulator."""

    async def test_one_event_to_several_channels_is_one_call(self, world: World) -> None:
        await world.notifier.trigger(["presence-stream@1", "private-user@1"], "goal.ended", {"goal_id": "g", "n": 1})
        assert world.told() == [Notice(("presence-stream@1", "private-user@1"), "goal.ended", {"goal_id": "g", "n": 1})]

    async def test_order_is_kept(self, world: World) -> None:
        for number in range(5):
            await world.notifier.trigger(["private-user@1"], f"event.{number}", {})
        assert [notice.event for notice in world.told()] == [f"event.{number}" for number in range(5)]

    async def test_no_channel_is_no_call(self, world: World) -> None:
        await world.notifier.trigger([], "goal.ended", {})
        assert world.told() == []

    async def test_over_a_hundred_channels_are_split_and_each_is_told_once(self, world: World) -> None:
        channels = [f"private-user@{number}" for number in range(250)]
        await world.notifier.trigger([*channels, channels[0]], "goal.ended", {})
        assert [len(notice.channels) for notice in world.told()] == [100, 100, 50]
        assert [channel for notice in world.told() for channel in notice.channels] == channels

    @pytest.mark.parametrize(
        "channel", ["", "a" * 165, "private user", "private-user@é", "a/b", "ok\n", "private-encrypted-x"]
    )
    async def test_a_channel_that_pusher_would_refuse_is_refused(self, world: World, channel: str) -> None:
        with pytest.raises(InvalidError) as caught:
            await world.notifier.trigger(["private-user@1", channel], "goal.ended", {})
        assert caught.value.field == "channel"
        with pytest.raises(InvalidError):
            await world.notifier.users_in(channel)
        assert world.told() == []

    @pytest.mark.parametrize("event", ["", "e" * 201])
    async def test_an_event_name_that_pusher_would_refuse_is_refused(self, world: World, event: str) -> None:
        with pytest.raises(InvalidError) as caught:
            await world.notifier.trigger(["private-user@1"], event, {})
        assert caught.value.field == "event"

    async def test_data_is_measured_in_bytes_of_utf8(self, world: World) -> None:
        frame = len(json.dumps({"text": ""}, separators=(",", ":")))
        fits = "€" * ((DATA_LIMIT_BYTES - frame) // 3)
        await world.notifier.trigger(["private-user@1"], "e", {"text": fits})
        # 4 bytes a character in memory once there is one emoji: the package would measure 40 KB and refuse this
        await world.notifier.trigger(["private-user@1"], "e", {"text": "😀" + "a" * 10_000})
        with pytest.raises(NoticeTooLargeError, match="10240"):
            await world.notifier.trigger(["private-user@1"], "e", {"text": fits + "€"})
        assert [notice.data["text"][:1] for notice in world.told()] == ["€", "😀"]

    async def test_half_an_emoji_gets_through(self, world: World) -> None:
        await world.notifier.trigger(["private-user@1"], "e", {"text": "\ud83d"})
        assert world.told()[0].data == {"text": "\ud83d"}

    async def test_a_failure_can_be_tried_again(self, world: World) -> None:
        world.fail_once()
        with pytest.raises(ExternalServiceError) as caught:
            await world.notifier.trigger(["private-user@1"], "goal.ended", {})
        assert caught.value.service == "pusher"
        await world.notifier.trigger(["private-user@1"], "goal.ended", {})

    async def test_users_are_told_apart(self, world: World) -> None:
        world.members("presence-enc-goal@g", "u-1", "u-2")
        assert await world.notifier.users_in("presence-enc-goal@g") == ["u-1", "u-2"]

    async def test_nobody_there(self, world: World) -> None:
        world.members("presence-enc-goal@g")
        assert await world.notifier.users_in("presence-enc-goal@g") == []


class TestRequest:
    """What goes over the wire."""

    async def test_it_is_signed_as_pusher_asks(self, notifier: PusherNotifier, stub: StubServer) -> None:
        await notifier.trigger(["presence-stream@1"], "goal.ended", {"name": "Łódź"})
        (request,) = stub.requests
        assert (request.method, request.path) == ("POST", "/apps/7/events")
        query = request.query
        signature = query.pop("auth_signature")
        to_sign = "\n".join(["POST", request.path, "&".join(f"{k}={query[k]}" for k in sorted(query))])
        assert signature == hmac.new(SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
        assert query["auth_key"] == "app-key"
        assert query["body_md5"] == hashlib.md5(request.body).hexdigest()
        assert json.loads(json.loads(request.body)["data"]) == {"name": "Łódź"}

    async def test_who_is_there_is_asked_by_a_signed_get(self, notifier: PusherNotifier, stub: StubServer) -> None:
        stub.answer(b'{"users": [{"id": 5}]}')
        assert await notifier.users_in("presence-enc-goal@64a,b;c=d") == ["5"]
        (request,) = stub.requests
        assert (request.method, request.path) == ("GET", "/apps/7/channels/presence-enc-goal@64a,b;c=d/users")
        assert "auth_signature" in request.query

    async def test_who_is_anywhere_is_asked_by_one_signed_get(self, notifier: PusherNotifier, stub: StubServer) -> None:
        stub.answer(b'{"channels": {"presence-enc-goal@1": {"user_count": 2}}}')
        assert await notifier.occupied("presence-") == {"presence-enc-goal@1": 2}
        (request,) = stub.requests
        assert (request.method, request.path) == ("GET", "/apps/7/channels")
        asked = {name: request.query[name] for name in ("filter_by_prefix", "info")}
        assert asked == {"filter_by_prefix": "presence-", "info": "user_count"}

    @pytest.mark.parametrize(
        "channels",
        [
            b'{"presence-enc-goal@1": {"subscription_count": 2, "occupied": true}}',
            b'{"presence-enc-goal@1": {"user_count": 2}, "private-user@1": {"user_count": 1}}',
        ],
    )
    async def test_a_server_that_does_not_count_or_filter_is_recognised(
        self, notifier: PusherNotifier, stub: StubServer, channels: bytes
    ) -> None:
        stub.answer(b'{"channels": ' + channels + b"}")
        assert await notifier.occupied("presence-") is None

    async def test_connections_are_kept(self, notifier: PusherNotifier, stub: StubServer) -> None:
        for _ in range(3):
            await notifier.trigger(["private-user@1"], "e", {})
        assert stub.connections == 1

    async def test_no_more_than_the_limit_are_under_way(self, stub: StubServer) -> None:
        stub.answer(never=True)
        async with open_notifier(app_settings(stub.port), timeout_seconds=0.4) as notifier:
            calls = [notifier.trigger(["private-user@1"], "e", {}) for _ in range(2 * CONCURRENT_CALLS)]
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {ServiceDownError}
        assert 1 < stub.most_under_way <= CONCURRENT_CALLS


def tellings(number: int) -> list[Telling]:
    """`wallet.updated` for so many users, `{"n": 0}` and so on."""
    return [Telling(f"private-user@{one}", "wallet.updated", {"n": one}) for one in range(number)]


def events_of(stub: StubServer, path: str) -> list[list[int]]:
    """What each call of that path told: the `n` of its events."""
    bodies = [json.loads(request.body) for request in stub.requests if request.path == f"/apps/7/{path}"]
    return [[json.loads(event["data"])["n"] for event in body.get("batch", [body])] for body in bodies]


class TestMany:
    """`trigger_each`: many events to a channel each."""

    async def test_are_handed_over_ten_in_a_signed_call(self, notifier: PusherNotifier, stub: StubServer) -> None:
        all_under_way = asyncio.Event()

        def answer(_: StubRequest) -> StubAnswer:
            if stub.under_way == 8 or len(stub.requests) == 1:  # the first batch is sent alone
                all_under_way.set()
            elif len(stub.requests) == 2:
                all_under_way.clear()
            return StubAnswer(after=all_under_way)

        stub.answering = answer
        assert await notifier.trigger_each(tellings(95)) == {}
        batches = events_of(stub, "batch_events")
        assert sorted(map(len, batches)) == [5, *[EVENTS_PER_BATCH] * 9]
        assert sorted(chain(*batches)) == list(range(95))
        assert not events_of(stub, "events")
        first = json.loads(stub.requests[0].body)["batch"][0]
        assert first == {"name": "wallet.updated", "channel": "private-user@0", "data": '{"n":0}'}
        assert stub.requests[0].query["auth_key"] == "app-key"
        assert stub.most_under_way == 8

    async def test_fewer_than_ten_are_handed_over_singly(self, notifier: PusherNotifier, stub: StubServer) -> None:
        assert await notifier.trigger_each(tellings(9)) == {}
        assert sorted(events_of(stub, "events")) == [[one] for one in range(9)]
        assert await notifier.trigger_each([]) == {}
        assert len(stub.requests) == 9

    @pytest.mark.parametrize("status", [400, 404, 405, 500, 501])
    async def test_are_handed_over_singly_to_a_server_that_knows_no_batches(
        self, notifier: PusherNotifier, stub: StubServer, status: int
    ) -> None:
        stub.answering = lambda request: StubAnswer(status=status if request.path.endswith("batch_events") else 200)
        for _ in range(2):
            assert await notifier.trigger_each(tellings(20)) == {}
        assert sorted(events_of(stub, "events")) == sorted([[one] for one in range(20)] * 2)
        assert len(events_of(stub, "batch_events")) == 1, "it is not asked again"

    async def test_that_can_never_be_sent_are_named_and_hold_up_no_other(
        self, notifier: PusherNotifier, stub: StubServer
    ) -> None:
        asked = tellings(30)
        asked[3] = Telling("no such channel", "wallet.updated", {"n": 3})
        asked[7] = Telling("private-user@7", "wallet.updated", {"n": 7, "text": "x" * DATA_LIMIT_BYTES})

        def answer(request: StubRequest) -> StubAnswer:
            return StubAnswer(status=413 if b"private-user@12" in request.body else 200)

        stub.answering = answer
        refused = await notifier.trigger_each(asked)
        assert {place: type(error) for place, error in refused.items()} == {
            3: InvalidError,
            7: NoticeTooLargeError,
            12: NoticeTooLargeError,
        }
        told = chain(*events_of(stub, "batch_events"), *events_of(stub, "events"))
        assert set(told) == set(range(30)) - {3, 7}

    async def test_are_tried_again_as_a_whole_when_pusher_fails(
        self, notifier: PusherNotifier, stub: StubServer
    ) -> None:
        stub.answer(status=503)
        with pytest.raises(ServiceDownError, match="HTTP 503"):
            await notifier.trigger_each(tellings(200))
        assert len(stub.requests) == 2, "whether it takes batches is still not known"
        stub.answer()
        assert await notifier.trigger_each(tellings(20)) == {}
        assert [len(batch) for batch in events_of(stub, "batch_events")[1:]] == [10, 10]
        stub.answer(status=503)
        with pytest.raises(ServiceDownError, match="HTTP 503"):
            await notifier.trigger_each(tellings(200))
        assert not events_of(stub, "events")[1:], "a server that takes batches is not told singly when it fails"


class TestFailure:
    """Every failure is an ExternalServiceError that shows no secret."""

    @pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 429, 500, 503])
    async def test_a_refusal_is_not_taken_for_a_result(
        self, notifier: PusherNotifier, stub: StubServer, status: int
    ) -> None:
        stub.answer(
            json.dumps({"error": f"should have signed with {SECRET}"}).encode(), status=status, Location="/elsewhere"
        )
        with pytest.raises(ExternalServiceError, match=f"pusher: HTTP {status}") as caught:
            await notifier.trigger(["private-user@1"], "e", {})
        assert SECRET not in str(caught.value)
        assert len(stub.requests) == 1

    async def test_too_large_by_pushers_own_measure(self, notifier: PusherNotifier, stub: StubServer) -> None:
        stub.answer(status=413)
        with pytest.raises(NoticeTooLargeError):
            await notifier.trigger(["private-user@1"], "e", {})

    async def test_no_answer(self, stub: StubServer) -> None:
        stub.answer(never=True)
        async with open_notifier(app_settings(stub.port), timeout_seconds=0.1) as notifier:
            with pytest.raises(ExternalServiceError, match=r"no answer within 0\.1 s"):
                await notifier.trigger(["private-user@1"], "e", {})

    async def test_nobody_listens(self) -> None:
        async with open_notifier(app_settings(await free_port())) as notifier:
            with pytest.raises(ExternalServiceError, match="cannot be reached"):
                await notifier.trigger(["private-user@1"], "e", {})

    @pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"users": 1}', b'{"users": [{}]}', b'{"users": ["x"]}'])
    async def test_an_answer_that_is_not_users(self, notifier: PusherNotifier, stub: StubServer, body: bytes) -> None:
        stub.answer(body)
        with pytest.raises(ExternalServiceError, match="not a list of users"):
            await notifier.users_in("presence-enc-goal@g")

    async def test_not_configured(self) -> None:
        async with open_notifier(settings_with()) as notifier:
            with pytest.raises(ExternalServiceError, match="not configured: GOALSVC_PUSHER_APP_ID, GOALSVC_PUSHER_KEY"):
                await notifier.trigger(["private-user@1"], "e", {})

    @pytest.mark.parametrize("app_id", ["abc", "1x", "１"])
    async def test_an_app_id_that_is_no_number(self, app_id: str) -> None:
        with pytest.raises(SettingsError, match="GOALSVC_PUSHER_APP_ID"):
            async with open_notifier(app_settings(1, pusher_app_id=app_id)):
                pass

    async def test_signatures_are_not_logged(
        self, notifier: PusherNotifier, stub: StubServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        await notifier.trigger(["private-user@1"], "e", {})
        assert "auth_signature" not in caplog.text


class TestAuthenticate:
    """Letting pusher-js into a channel."""

    async def test_private_channel(self, notifier: PusherNotifier) -> None:
        signature = hmac.new(SECRET.encode(), b"123.456:private-user@1", hashlib.sha256).hexdigest()
        assert notifier.authenticate("private-user@1", "123.456") == {"auth": f"app-key:{signature}"}

    async def test_presence_channel(self, notifier: PusherNotifier) -> None:
        answer = notifier.authenticate("presence-stream@1", "123.456", "u-1", {"name": "Ada"})
        assert json.loads(answer["channel_data"]) == {"user_id": "u-1", "user_info": {"name": "Ada"}}
        to_sign = f"123.456:presence-stream@1:{answer['channel_data']}"
        signature = hmac.new(SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
        assert answer["auth"] == f"app-key:{signature}"

    async def test_documented_example(self) -> None:
        """https://pusher.com/docs/channels/library_auth_reference/auth-signatures/#worked-example"""
        settings = settings_with(
            pusher_app_id="1", pusher_key="278d425bdf160c739803", pusher_secret=SecretStr("7ad3773142a6692b25b8")
        )
        async with open_notifier(settings) as notifier:
            answer = notifier.authenticate("private-foobar", "1234.1234")
        assert answer == {
            "auth": "278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
        }

    async def test_a_presence_channel_needs_a_user(self, notifier: PusherNotifier) -> None:
        with pytest.raises(InvalidError) as caught:
            notifier.authenticate("presence-stream@1", "123.456")
        assert caught.value.field == "user_id"

    @pytest.mark.parametrize("socket_id", ["", "123", "1.2.3", "1.2\n", "1.2:private-user@2", "１.２", "9" * 40 + ".1"])
    async def test_socket_id(self, notifier: PusherNotifier, socket_id: str) -> None:
        with pytest.raises(InvalidError) as caught:
            notifier.authenticate("private-user@1", socket_id)
        assert caught.value.field == "socket_id"

    @pytest.mark.parametrize("channel", ["public", "private user", "private-encrypted-x"])
    async def test_channel(self, notifier: PusherNotifier, channel: str) -> None:
        with pytest.raises(InvalidError) as caught:
            notifier.authenticate(channel, "1.2")
        assert caught.value.field == "channel"

    async def test_not_configured(self) -> None:
        async with open_notifier(settings_with()) as notifier:
            with pytest.raises(ExternalServiceError, match="not configured"):
                notifier.authenticate("private-user@1", "1.2")
