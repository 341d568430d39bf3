"""The webhook's outside: who is let in, which bodies are taken, and what is answered (docs/specification.md#webhook)."""

import gzip
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pymongo.errors import AutoReconnect

from goalsvc.api import webhook
from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.goals import GoalKind
from goalsvc.errors import LedgerBusyError
from goalsvc.models.goal import Goal
from goalsvc.signals.events import ChannelOccupied, ChannelVacated
from tests.receivers.fakes import NOW
from tests.receivers.scenes import CHANNEL, GOAL, STREAMER, goal_document, set_up

from .app import KEY, OLD_KEY, OLD_SECRET, SECRET, Service, encoded, open_service, sign

NOW_MS = to_epoch_milliseconds(NOW)
EVENT = {"name": "member_added", "channel": CHANNEL, "user_id": STREAMER}


def body_of(*events: Any, **changes: Any) -> bytes:
    return encoded({"time_ms": NOW_MS, "events": list(events or [EVENT])} | changes)


async def tracked(service: Service) -> list[dict[str, Any]]:
    """What `track_channel_presence` wrote down: every event that reached the bus, in order."""
    return [dict(event) for event in service.stage.recorder.tracked.values()]


async def assert_untouched(service: Service) -> None:
    """Nothing is changed; a webhook that was refused leaves its root in the trace, without its body."""
    assert await service.stage.everything() == {}
    assert {segment["node"]["name"] for segment in service.stage.recorder.segments} <= {"refused"}
    assert "presence-enc-goal" not in repr(service.stage.recorder.segments)
    assert service.stage.queue.jobs == []


class TestSignature:
    async def test_a_webhook_signed_under_the_app_key_is_taken(self, service: Service) -> None:
        assert (await service.webhook(body_of())).status_code == 200

    async def test_the_answer_has_no_body(self, service: Service) -> None:
        answer = await service.webhook(body_of())
        assert answer.content == b""

    async def test_a_further_key_is_taken_with_its_own_secret(self, service: Service) -> None:
        assert (await service.webhook(body_of(), key=OLD_KEY, secret=OLD_SECRET)).status_code == 200

    async def test_one_key_with_the_secret_of_another_is_refused(self, service: Service) -> None:
        assert (await service.webhook(body_of(), key=OLD_KEY, secret=SECRET)).status_code == 401
        assert (await service.webhook(body_of(), key=KEY, secret=OLD_SECRET)).status_code == 401

    async def test_upper_case_hex_is_hex(self, service: Service) -> None:
        body = body_of()
        answer = await service.post_webhook(body, {"X-Pusher-Key": KEY, "X-Pusher-Signature": sign(body).upper()})
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({}, id="neither"),
            pytest.param({"X-Pusher-Key": KEY}, id="no signature"),
            pytest.param({"X-Pusher-Signature": sign(body_of())}, id="no key"),
            pytest.param({"X-Pusher-Key": "", "X-Pusher-Signature": sign(body_of())}, id="empty key"),
            pytest.param({"X-Pusher-Key": KEY, "X-Pusher-Signature": ""}, id="empty signature"),
            pytest.param({"X-Pusher-Key": "nobody", "X-Pusher-Signature": sign(body_of())}, id="unknown key"),
            pytest.param(
                {"X-Pusher-Key": "nobody", "X-Pusher-Signature": sign(body_of(), "unknown")}, id="the emulator secret"
            ),
            pytest.param({"X-Pusher-Key": "", "X-Pusher-Signature": sign(body_of(), "")}, id="the empty secret"),
            pytest.param({"X-Pusher-Key": KEY, "X-Pusher-Signature": "0" * 64}, id="wrong signature"),
            pytest.param({"X-Pusher-Key": KEY, "X-Pusher-Signature": sign(body_of())[:-1]}, id="cut signature"),
            pytest.param({"X-Pusher-Key": KEY, "X-Pusher-Signature": "0x" + sign(body_of())}, id="prefixed"),
            pytest.param({"X-Pusher-Key": KEY, "X-Pusher-Signature": "not hex at all"}, id="no hex"),
        ],
    )
    async def test_missing_or_wrong_is_401_and_touches_nothing(self, service: Service, headers: dict[str, str]) -> None:
        answer = await service.post_webhook(body_of(), headers)
        assert answer.status_code == 401
        assert answer.json()["code"] == "bad_signature"
        await assert_untouched(service)

    @pytest.mark.parametrize(
        ("key", "signature"), [(b"\xe9\xff", b"\xfcber"), (KEY.encode(), b"\xff" * 64), (b"\xe2\x98\x83", b"ab")]
    )
    async def test_headers_that_are_not_ascii_are_401(self, service: Service, key: bytes, signature: bytes) -> None:
        headers = [(b"X-Pusher-Key", key), (b"X-Pusher-Signature", signature)]
        assert (await service.post_webhook(body_of(), headers)).status_code == 401

    async def test_the_raw_body_is_what_is_signed(self, service: Service) -> None:
        body = body_of()
        headers = {"X-Pusher-Key": KEY, "X-Pusher-Signature": sign(body)}
        assert (await service.post_webhook(body + b" ", headers)).status_code == 401
        assert (await service.post_webhook(json.dumps(json.loads(body)).encode(), headers)).status_code == 401

    async def test_a_wrong_signature_is_told_before_a_malformed_body(self, service: Service) -> None:
        assert (await service.webhook(b"{", secret="wrong")).status_code == 401

    async def test_without_configured_keys_nobody_is_let_in(self) -> None:
        async with open_service(pusher_key="", pusher_secret="", pusher_keys={}) as service:
            body = body_of()
            for secret in ("", "unknown"):
                assert (await service.webhook(body, key="", secret=secret)).status_code == 401


class TestSize:
    async def test_at_the_limit_it_is_taken(self, service: Service) -> None:
        body = body_of()
        body += b" " * (256 * 1024 - len(body))
        assert (await service.webhook(body)).status_code == 200

    async def test_one_byte_more_is_413_whatever_its_signature(self, service: Service) -> None:
        body = body_of()
        body += b" " * (256 * 1024 - len(body) + 1)
        for secret in (SECRET, "wrong"):
            answer = await service.webhook(body, secret=secret)
            assert answer.status_code == 413
            assert answer.json()["code"] == "too_large"
        await assert_untouched(service)

    async def test_without_a_content_length_it_is_found_while_reading(self, service: Service) -> None:
        read = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 64 * 1024
                yield b" " * 64 * 1024

        headers = {"X-Pusher-Key": KEY, "X-Pusher-Signature": "0" * 64}
        answer = await service.stranger.post("/notify/pusher", content=endless(), headers=headers)
        assert "content-length" not in answer.request.headers
        assert answer.status_code == 413
        assert read <= 512 * 1024

    async def test_a_content_length_that_understates_is_not_believed(self, service: Service) -> None:
        body = body_of() + b" " * 256 * 1024
        headers = {"X-Pusher-Key": KEY, "X-Pusher-Signature": sign(body), "Content-Length": "10"}
        assert (await service.post_webhook(body, headers)).status_code == 413

    async def test_the_limit_is_a_setting(self) -> None:
        async with open_service(webhook_limit_bytes=20) as service:
            assert (await service.webhook(body_of())).status_code == 413


class TestWhatIsNotJson:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"{", id="cut"),
            pytest.param(body_of()[:-1], id="one byte short"),
            pytest.param(body_of() + b"x", id="something after it"),
            pytest.param(body_of() + body_of(), id="twice"),
            pytest.param(b"\xef\xbb\xbf" + body_of(), id="byte order mark"),
            pytest.param(body_of().decode().encode("utf-16"), id="UTF-16"),
            pytest.param(body_of().replace(b"member_added", b"\xff\xfe"), id="not UTF-8"),
            pytest.param(body_of().replace(b"member_added", b"\xed\xa0\x80"), id="half a surrogate, as bytes"),
            pytest.param(body_of().replace(b"member_added", b"a\nb"), id="a bare newline in a string"),
            pytest.param(body_of().replace(b"member_added", b"\\x41"), id="an escape that JSON lacks"),
            pytest.param(body_of().replace(str(NOW_MS).encode(), b"NaN"), id="NaN"),
            pytest.param(body_of().replace(str(NOW_MS).encode(), b"Infinity"), id="Infinity"),
            pytest.param(body_of().replace(str(NOW_MS).encode(), b"-"), id="a bare minus"),
            pytest.param(body_of().replace(b'"', b"'"), id="single quotes"),
            pytest.param(b"time_ms=1&events=", id="a form"),
            pytest.param(gzip.compress(body_of(), mtime=0), id="compressed"),
            pytest.param(b"[" * 100_000, id="deep nesting, never closed"),
            pytest.param(b"[" * 5_000 + b"]" * 5_000, id="deep nesting"),
            pytest.param(b'{"a":' * 5_000 + b"1" + b"}" * 5_000, id="deep objects"),
        ],
    )
    async def test_is_400_and_touches_nothing(self, service: Service, body: bytes) -> None:
        answer = await service.webhook(body)
        assert answer.status_code == 400
        problem = answer.json()
        assert (problem["code"], problem["detail"].partition(":")[0]) == ("malformed_webhook", "body")
        await assert_untouched(service)


class TestWhatIsNotOfThisForm:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            pytest.param(b"null", "body", id="null"),
            pytest.param(b"[]", "body", id="array"),
            pytest.param(b'"events"', "body", id="string"),
            pytest.param(b"17", "body", id="number"),
            pytest.param(b"true", "body", id="bool"),
            pytest.param(b"{}", "events", id="nothing in it"),
            pytest.param(encoded({"time_ms": NOW_MS}), "events", id="no events"),
            pytest.param(encoded({"events": []}), "time_ms", id="neither time_ms nor timestamp"),
            pytest.param(body_of(time_ms=None), "time_ms", id="time_ms null"),
            pytest.param(body_of(time_ms=None, timestamp=None), "time_ms", id="both null"),
            pytest.param(body_of(time_ms="1795199172012"), "time_ms", id="time_ms a string"),
            pytest.param(body_of(time_ms=""), "time_ms", id="time_ms empty"),
            pytest.param(body_of(time_ms=True), "time_ms", id="time_ms a bool"),
            pytest.param(body_of(time_ms=1.5), "time_ms", id="time_ms a fraction"),
            pytest.param(body_of(time_ms=[NOW_MS]), "time_ms", id="time_ms an array"),
            pytest.param(body_of(time_ms={}), "time_ms", id="time_ms an object"),
            pytest.param(body_of(time_ms=2**63 - 1), "time_ms", id="time_ms after the year 9999"),
            pytest.param(body_of(time_ms=-(2**63)), "time_ms", id="time_ms before the year 1"),
            pytest.param(body_of(time_ms=10**30), "time_ms", id="time_ms huge"),
            pytest.param(body_of(time_ms=-(10**30)), "time_ms", id="time_ms hugely negative"),
            pytest.param(body_of(time_ms=int("9" * 4000)), "time_ms", id="time_ms of 4000 digits"),
            pytest.param(body_of(events=None), "events", id="events null"),
            pytest.param(body_of(events={}), "events", id="events an object"),
            pytest.param(body_of(events="member_added"), "events", id="events a string"),
            pytest.param(body_of(events=1), "events", id="events a number"),
            pytest.param(body_of(None), "events.0", id="event null"),
            pytest.param(body_of("member_added"), "events.0", id="event a string"),
            pytest.param(body_of([]), "events.0", id="event an array"),
            pytest.param(body_of(EVENT, 7), "events.1", id="second event a number"),
            pytest.param(body_of({}), "events.0.name", id="event without name"),
            pytest.param(body_of({"name": "member_added"}), "events.0.channel", id="event without channel"),
            pytest.param(body_of({"channel": CHANNEL}), "events.0.name", id="channel without name"),
            pytest.param(body_of(EVENT | {"name": None}), "events.0.name", id="name null"),
            pytest.param(body_of(EVENT | {"name": 1}), "events.0.name", id="name a number"),
            pytest.param(body_of(EVENT | {"name": ["a"]}), "events.0.name", id="name an array"),
            pytest.param(body_of(EVENT, EVENT | {"channel": None}), "events.1.channel", id="channel null"),
            pytest.param(body_of(EVENT | {"channel": 7}), "events.0.channel", id="channel a number"),
            pytest.param(body_of(EVENT | {"channel": {}}), "events.0.channel", id="channel an object"),
            pytest.param(body_of(EVENT | {"user_id": True}), "events.0.user_id", id="user_id a bool"),
            pytest.param(body_of(EVENT | {"user_id": []}), "events.0.user_id", id="user_id an array"),
            pytest.param(body_of(EVENT | {"user_id": {}}), "events.0.user_id", id="user_id an object"),
            pytest.param(body_of(*[EVENT] * 19, EVENT | {"name": 0}), "events.19.name", id="the last of 20"),
        ],
    )
    async def test_is_400_naming_the_field_and_touches_nothing(self, service: Service, body: bytes, field: str) -> None:
        answer = await service.webhook(body)
        assert answer.status_code == 400
        problem = answer.json()
        assert (problem["code"], problem["detail"].partition(":")[0]) == ("malformed_webhook", field)
        await assert_untouched(service)

    @pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\ud83d x"])
    @pytest.mark.parametrize("place", [STREAMER, CHANNEL, "member_added"])
    async def test_half_a_surrogate_is_400(self, service: Service, escape: str, place: str) -> None:
        """It is no character; MongoDB could not store it, and Pusher would repeat what is answered 503."""
        answer = await service.webhook(body_of().replace(place.encode(), escape.encode()))
        assert answer.status_code == 400
        await assert_untouched(service)


NO_TIMES: list[Any] = [
    *("yesterday", " ", "nan", "inf", "-inf", "1e400", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z"),
    *("٣", "0x10", "1_767_268_800", " 1767268800", "1e9", "+1767268800", "0001-01-01T00:00:00+23:59", "9" * 400),
    *(10**15, -(10**15), 1e300, True, [], {}, [NOW_MS]),
]


class TestTime:
    """`time_ms`, or `timestamp` in its place in any of its forms."""

    async def at_of(self, service: Service, **times: Any) -> datetime:
        answer = await service.webhook(encoded({"events": [EVENT], **times}))
        assert answer.status_code == 200, answer.text
        (event,) = await tracked(service)
        at: datetime = event["at"]
        return at

    @pytest.mark.parametrize(
        "timestamp",
        [
            pytest.param(1767268800, id="epoch seconds"),
            pytest.param(1767268800.25, id="epoch seconds with a fraction"),
            pytest.param(1767268800000, id="epoch milliseconds"),
            pytest.param(1767268800000.0, id="epoch milliseconds as a float"),
            pytest.param("1767268800", id="epoch seconds as text"),
            pytest.param("1767268800000", id="epoch milliseconds as text"),
            pytest.param("2026-01-01T12:00:00Z", id="ISO 8601, Z"),
            pytest.param("2026-01-01T12:00:00.000000+00:00", id="ISO 8601, +00:00"),
            pytest.param("2026-01-01T20:00:00+08:00", id="ISO 8601, Taipei"),
            pytest.param("2026-01-01T12:00:00", id="ISO 8601 without an offset is UTC"),
            pytest.param("2026-01-01 12:00:00Z", id="ISO 8601 with a blank"),
            pytest.param("20260101T120000Z", id="ISO 8601, basic form"),
        ],
    )
    async def test_every_form_of_timestamp(self, service: Service, timestamp: Any) -> None:
        expected = NOW - timedelta(minutes=10)
        if timestamp == 1767268800.25:
            expected += timedelta(milliseconds=250)
        assert await self.at_of(service, timestamp=timestamp) == expected

    async def test_an_empty_timestamp_means_the_time_of_receipt(self, service: Service) -> None:
        assert await self.at_of(service, timestamp="") == NOW

    async def test_time_ms_goes_before_timestamp(self, service: Service) -> None:
        assert await self.at_of(service, time_ms=NOW_MS - 7, timestamp="") == NOW - timedelta(milliseconds=7)

    async def test_a_null_time_ms_leaves_it_to_timestamp(self, service: Service) -> None:
        assert await self.at_of(service, time_ms=None, timestamp="") == NOW

    async def test_microseconds_are_cut_to_what_mongodb_stores(self, service: Service) -> None:
        at = await self.at_of(service, timestamp="2026-01-01T12:00:00.123999Z")
        assert at == NOW - timedelta(minutes=10) + timedelta(milliseconds=123)

    @pytest.mark.parametrize(
        "times",
        [
            pytest.param({"time_ms": NOW_MS + 1}, id="a millisecond ahead"),
            pytest.param({"time_ms": NOW_MS + 10**10}, id="months ahead"),
            pytest.param({"timestamp": "9999-12-31T23:59:59Z"}, id="the last second"),
        ],
    )
    async def test_the_future_counts_as_now(self, service: Service, times: Any) -> None:
        assert await self.at_of(service, **times) == NOW

    async def test_just_15_minutes_old_is_taken(self, service: Service) -> None:
        assert await self.at_of(service, time_ms=NOW_MS - 15 * 60_000) == NOW - timedelta(minutes=15)

    @pytest.mark.parametrize(
        "times",
        [
            pytest.param({"time_ms": NOW_MS - 15 * 60_000 - 1}, id="a millisecond older than 15 minutes"),
            pytest.param({"time_ms": 0}, id="1970"),
            pytest.param({"time_ms": -1}, id="1969"),
            pytest.param({"timestamp": 0}, id="epoch second 0"),
            pytest.param({"timestamp": "2025-12-31T23:59:59Z"}, id="yesterday"),
            pytest.param({"timestamp": "2026-01-01T12:10:00+08:00"}, id="an offset that makes it old"),
        ],
    )
    async def test_older_is_400_stale_webhook(self, service: Service, times: Any) -> None:
        answer = await service.webhook(encoded({"events": [EVENT], **times}))
        assert (answer.status_code, answer.json()["code"]) == (400, "stale_webhook")
        await assert_untouched(service)

    @pytest.mark.parametrize(
        "timestamp",
        NO_TIMES,
        ids=repr,
    )
    async def test_what_is_no_time_is_400_naming_timestamp(self, service: Service, timestamp: Any) -> None:
        answer = await service.webhook(encoded({"events": [EVENT], "timestamp": timestamp}))
        assert answer.status_code == 400
        problem = answer.json()
        assert (problem["code"], problem["detail"].partition(":")[0]) == ("malformed_webhook", "timestamp")
        await assert_untouched(service)


class TestUserId:
    async def user_of(self, service: Service, event: dict[str, Any]) -> Any:
        answer = await service.webhook(body_of(event))
        assert answer.status_code == 200, answer.text
        (tracked_event,) = await tracked(service)
        return tracked_event.get("user_id")

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("u-alice-1", "u-alice-1"),
            ("42", "42"),
            (42, "42"),
            (42.0, "42"),
            (4.5, "4.5"),
            (0, "0"),
            (-1, "-1"),
            (2**63, str(2**63)),
            ("héllo ☃", "héllo ☃"),
            ("a b.c$d", "a b.c$d"),
            ("", None),
            (None, None),
        ],
        ids=repr,
    )
    async def test_string_or_number_is_a_string_from_then_on(self, service: Service, sent: Any, kept: Any) -> None:
        assert await self.user_of(service, EVENT | {"user_id": sent}) == kept

    async def test_absent_is_nobody(self, service: Service) -> None:
        assert await self.user_of(service, {"name": "channel_occupied", "channel": CHANNEL}) is None

    async def test_a_number_moves_the_clock_of_a_performer_stored_as_text(self, service: Service) -> None:
        await set_up(GoalKind.SHOW)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"metadata.user_id": "42"}})
        await service.webhook(body_of(EVENT | {"user_id": 42}))
        assert (await goal_document())["context"]["started"] == NOW


class TestEvents:
    async def test_no_events_is_200(self, service: Service) -> None:
        assert (await service.webhook(body_of(events=[]))).status_code == 200
        await assert_untouched(service)

    @pytest.mark.parametrize(
        ("name", "sender"),
        [
            ("member_added", ChannelOccupied.sender),
            ("channel_occupied", ChannelOccupied.sender),
            ("member_removed", ChannelVacated.sender),
            ("channel_vacated", ChannelVacated.sender),
        ],
    )
    async def test_joins_and_leaves_have_one_sender_each(self, service: Service, name: str, sender: str) -> None:
        await service.webhook(body_of(EVENT | {"name": name}))
        assert [event["name"] for event in await tracked(service)] == [sender]

    @pytest.mark.parametrize("name", ["client_event", "cache_miss", "subscription_count", "whatever", "", "a" * 5000])
    async def test_other_events_are_200_and_say_so_in_the_trace(self, service: Service, name: str) -> None:
        assert (await service.webhook(body_of(EVENT | {"name": name}))).status_code == 200
        (segment,) = service.stage.recorder.segments
        assert (segment["node"]["outcome"], segment["node"]["reason"]) == ("returned", "unknown_event")
        assert segment["node"]["name"] == name[:200]

    @pytest.mark.parametrize(
        "channel",
        ["", "@", "public", "presence-enc-goal", "presence-enc-goal@", "presence-room@1", "private-encrypted-x@1"]
        + [f"presence-stream@{user}" for user in ("a$b", "a b", "é", "x" * 129, "x" * 200, "..", "a\0")],
    )
    async def test_other_channels_are_200_and_say_so_in_the_trace(self, service: Service, channel: str) -> None:
        assert (await service.webhook(body_of(EVENT | {"channel": channel}))).status_code == 200
        (segment,) = service.stage.recorder.segments
        assert (segment["node"]["outcome"], segment["node"]["reason"]) == ("returned", "unknown_channel")

    @pytest.mark.parametrize("goal", ["nonsense", str(GOAL), "x" * 150, "..", "$ne", "a\u0000b"])
    async def test_a_goal_that_does_not_exist_is_200(self, service: Service, goal: str) -> None:
        assert (await service.webhook(body_of(EVENT | {"channel": f"presence-enc-goal@{goal}"}))).status_code == 200

    @pytest.mark.parametrize("data", ['{"n":1}', {"n": 1}, None, 7, [1], "héllo ☃", {"user_id": []}])
    async def test_a_client_events_data_is_string_or_object_or_whatever(self, service: Service, data: Any) -> None:
        event = {"name": "client_event", "channel": CHANNEL, "event": "client-x", "socket_id": "1.2", "data": data}
        assert (await service.webhook(body_of(event))).status_code == 200

    async def test_what_pusher_sends_besides_is_ignored(self, service: Service) -> None:
        body = body_of(EVENT | {"data": "x", "later": {"deep": [1]}}, version=2, extra=None)
        assert (await service.webhook(body)).status_code == 200

    async def test_of_keys_given_twice_the_last_counts(self, service: Service) -> None:
        body = b'{"time_ms":1,"time_ms":%d,"events":[{"name":"x","name":"member_added","channel":"%s"}]}'
        assert (await service.webhook(body % (NOW_MS, CHANNEL.encode()))).status_code == 200
        assert [event["name"] for event in await tracked(service)] == ["channel_occupied"]

    async def test_a_batch_of_20(self, service: Service) -> None:
        users = [f"u-{number}" for number in range(20)]
        events = [EVENT | {"channel": f"presence-stream@{user}", "user_id": user} for user in users]
        assert (await service.webhook(body_of(*events))).status_code == 200
        assert {event["user_id"] for event in await tracked(service)} == set(users)
        assert len(service.stage.recorder.segments) == 20
        # The notices are asserted in tests/stories/test_presence.py: mongomock does not upsert in bulk.

    async def test_a_batch_with_strangers_among_ours(self, service: Service) -> None:
        events = [EVENT, EVENT | {"name": "cache_miss"}, EVENT | {"channel": "elsewhere"}]
        assert (await service.webhook(body_of(*events))).status_code == 200
        assert len(await tracked(service)) == 1

    async def test_twins_in_one_batch_start_the_clock_once(self, service: Service) -> None:
        await set_up(GoalKind.SHOW)
        twin = {"name": "channel_occupied", "channel": CHANNEL}
        assert (await service.webhook(body_of(EVENT, twin))).status_code == 200
        promises = (await goal_document())["promises"]
        assert [promise["task"] for promise in promises] == ["announce_goal_started"]

    async def test_the_same_webhook_again_changes_nothing(self, service: Service) -> None:
        await set_up(GoalKind.SHOW, running=True)
        leave = body_of(EVENT | {"name": "member_removed"})
        assert (await service.webhook(leave)).status_code == 200
        before, jobs = await goal_document(), list(service.stage.queue.jobs)
        service.stage.clock.advance(seconds=60)
        assert (await service.webhook(leave)).status_code == 200
        assert await goal_document() == before
        assert service.stage.queue.jobs == jobs


class TestTrouble:
    async def test_503_when_a_receiver_failed_so_that_pusher_repeats(self, service: Service) -> None:
        collection = Goal.get_motor_collection()
        await set_up(GoalKind.SHOW)
        await collection.update_one({"_id": GOAL}, {"$set": {"context": "what another service broke"}})
        answer = await service.webhook(body_of())
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unavailable"

    async def test_its_siblings_in_the_batch_have_done_their_part(self, service: Service) -> None:
        await set_up(GoalKind.SHOW)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"context": "broken"}})
        online = EVENT | {"channel": f"private-user@{STREAMER}"}
        assert (await service.webhook(body_of(EVENT, online))).status_code == 503
        user = await service.stage.database["users"].find_one({"_id": STREAMER})
        assert user["online"] is True

    async def test_the_failure_stands_in_the_trace(self, service: Service) -> None:
        await set_up(GoalKind.SHOW)
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"context": "broken"}})
        await service.webhook(body_of())
        (segment,) = service.stage.recorder.segments
        assert segment["node"]["outcome"] == "failed"
        assert "karaoke_control" in segment["node"]["reason"]

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
    async def test_other_methods_are_405(self, service: Service, method: str) -> None:
        answer = await service.stranger.request(method, "/notify/pusher")
        assert answer.status_code == 405
        assert answer.headers["content-type"] == "application/problem+json"


class TestWithoutADatabase:
    @pytest.mark.parametrize(
        "error",
        [AutoReconnect("down"), TimeoutError(), LedgerBusyError("busy")],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("direct", [True, False], ids=["directly", "by the operation"])
    async def test_an_outage_is_counted(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception, direct: bool
    ) -> None:
        async def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr(webhook, "take", fails)
        if not direct:
            monkeypatch.setattr(webhook, "get_route_path", lambda _: "")
        before = unavailable()
        assert (await service.webhook(body_of())).status_code == 503
        assert unavailable() == before + 1


def unavailable() -> float:
    """How many webhooks of this process were answered that something does not work."""
    return REGISTRY.get_sample_value("goalsvc_webhooks_total", {"answer": "unavailable"}) or 0.0
