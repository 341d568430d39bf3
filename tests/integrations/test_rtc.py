"""BytePlus RTC: the signature, what is sent, and which errors are successes."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from yarl import URL

from goalsvc.context import RtcControl
from goalsvc.errors import ExternalServiceError, InvalidError
from goalsvc.integrations.rtc import (
    BytePlusRtc,
    RtcApp,
    SnapshotStorage,
    open_rtc,
    signed_headers,
)
from tests.support.services import RecordedRtc, RtcCall

from .conftest import StoppedClock, settings_with
from .stub_server import StubAnswer, StubServer, free_port

APP = RtcApp(app_id="app1", access_key="AKTEST", secret_key=SecretStr("SKTEST"))
OK = b'{"ResponseMetadata": {"RequestId": "r"}, "Result": "ok"}'


def refusal(code: str) -> bytes:
    return json.dumps({"ResponseMetadata": {"Error": {"Code": code, "Message": "it held SKTEST"}}}).encode()


def rtc_settings(endpoint: str, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "byteplus_access_key": "AKTEST",
        "byteplus_secret_key": SecretStr("SKTEST"),
        "byteplus_app_id": "app1",
        "byteplus_endpoint": endpoint,
        "s3_quarantine_bucket": "quarantine",
    }
    return settings_with(**values | changes)


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
async def rtc(stub: StubServer, clock: StoppedClock) -> AsyncIterator[BytePlusRtc]:
    stub.answer(OK)
    async with open_rtc(rtc_settings(stub.url), clock) as opened:
        yield opened


class World:
    """One of the two controls, with a way to see what it was told and to make it fail."""

    def __init__(self, rtc: RtcControl, stub: StubServer) -> None:
        self.rtc = rtc
        self._stub = stub

    def told(self) -> list[RtcCall]:
        if isinstance(self.rtc, RecordedRtc):
            return self.rtc.calls
        bodies = [(request.query["Action"], json.loads(request.body)) for request in self._stub.requests]
        return [RtcCall(action, body["RoomId"], body["TaskId"]) for action, body in bodies]

    def fail_once(self) -> None:
        if isinstance(self.rtc, RecordedRtc):
            self.rtc.refuse(1)
            return
        answers = iter([StubAnswer(refusal("QPSOverLimit"), status=429)])
        self._stub.answering = lambda _: next(answers, StubAnswer(OK))


@pytest.fixture(params=["real", "emulator"])
async def world(request: pytest.FixtureRequest, rtc: BytePlusRtc, stub: StubServer) -> World:
    return World(rtc if request.param == "real" else RecordedRtc(), stub)


class TestContract:
    """What holds for the real control and for its emulator."""

    async def test_calls_in_order(self, world: World) -> None:
        await world.rtc.start_record("room-1", "goal-1")
        await world.rtc.start_snapshot("room-1", "goal-2")
        await world.rtc.stop_record("room-1", "goal-1")
        assert world.told() == [
            RtcCall("StartRecord", "room-1", "goal-1"),
            RtcCall("StartSnapshot", "room-1", "goal-2"),
            RtcCall("StopRecord", "room-1", "goal-1"),
        ]

    @pytest.mark.parametrize("wrong", ["", "a" * 129, "a b", "a/b", "é", "a\n"])
    @pytest.mark.parametrize("call", ["start_record", "stop_record", "start_snapshot"])
    async def test_ids_that_byteplus_cannot_take(self, world: World, call: str, wrong: str) -> None:
        with pytest.raises(InvalidError) as caught:
            await getattr(world.rtc, call)("room-1", wrong)
        assert caught.value.field == "task_id"
        with pytest.raises(InvalidError) as caught:
            await getattr(world.rtc, call)(wrong, "goal-1")
        assert caught.value.field == "room_id"
        assert world.told() == []

    async def test_a_failure_can_be_tried_again(self, world: World) -> None:
        world.fail_once()
        with pytest.raises(ExternalServiceError) as caught:
            await world.rtc.start_record("room-1", "goal-1")
        assert caught.value.service == "byteplus"
        await world.rtc.start_record("room-1", "goal-1")

    async def test_stopping_what_does_not_run_is_no_error(self, world: World) -> None:
        await world.rtc.stop_record("room-1", "goal-1")


class TestSignature:
    async def test_check_value(self) -> None:
        url = URL("https://open.byteplusapi.com/?Action=StopRecord&Version=2022-06-01")
        body = b'{"AppId":"app1","RoomId":"room-1","TaskId":"goal-1"}'
        headers = signed_headers(APP, url, body, datetime(2026, 1, 1, tzinfo=UTC))
        assert headers["x-date"] == "20260101T000000Z"
        assert headers["authorization"] == (
            "HMAC-SHA256 Credential=AKTEST/20260101/ap-singapore-1/rtc/request, "
            "SignedHeaders=content-type;host;x-content-sha256;x-date, "
            "Signature=a5b0a281c42331c1bcc134defe77394efe0bbba6be22f7447f49026c40809676"
        )

    async def test_what_is_sent_is_what_was_signed(self, rtc: BytePlusRtc, stub: StubServer) -> None:
        await rtc.stop_record("room-1", "goal-1")
        (request,) = stub.requests
        assert (request.method, request.target) == ("POST", "/?Action=StopRecord&Version=2022-06-01")
        assert request.body == b'{"AppId":"app1","RoomId":"room-1","TaskId":"goal-1"}'
        url = URL(stub.url + request.target)
        for name, value in signed_headers(APP, url, request.body, datetime(2026, 1, 1, tzinfo=UTC)).items():
            assert request.headers[name] == value

    async def test_every_try_is_signed_anew(self, rtc: BytePlusRtc, stub: StubServer, clock: StoppedClock) -> None:
        await rtc.stop_record("room-1", "goal-1")
        clock.at += timedelta(minutes=20)
        await rtc.stop_record("room-1", "goal-1")
        first, second = stub.requests
        assert (first.headers["x-date"], second.headers["x-date"]) == ("20260101T000000Z", "20260101T002000Z")
        assert first.headers["authorization"] != second.headers["authorization"]

    async def test_secrets_are_not_shown(self, rtc: BytePlusRtc) -> None:
        assert "SKTEST" not in repr(APP) + repr(replace(APP)) + repr(rtc)
        assert "hush" not in repr(SnapshotStorage("b", "ak", SecretStr("hush")))


class TestAnswers:
    async def test_a_recording_that_runs_is_started(self, rtc: BytePlusRtc, stub: StubServer) -> None:
        for code in ("TaskAlreadyExists", "InvalidParameter.TaskAlreadyExists"):
            stub.answer(refusal(code), status=400)
            await rtc.start_record("room-1", "goal-1")
            await rtc.start_snapshot("room-1", "goal-1")
            with pytest.raises(ExternalServiceError, match="TaskAlreadyExists"):
                await rtc.stop_record("room-1", "goal-1")

    async def test_a_recording_that_does_not_run_is_stopped(self, rtc: BytePlusRtc, stub: StubServer) -> None:
        stub.answer(refusal("InvalidParameter.ErrorActiveTaskNotFound"), status=400)
        await rtc.stop_record("room-1", "goal-1")
        with pytest.raises(ExternalServiceError, match="ErrorActiveTaskNotFound"):
            await rtc.start_record("room-1", "goal-1")

    @pytest.mark.parametrize("status", [200, 400, 429, 500])
    @pytest.mark.parametrize("code", ["QPSOverLimit", "InternalError", "SignatureDoesNotMatch"])
    async def test_other_errors(self, rtc: BytePlusRtc, stub: StubServer, code: str, status: int) -> None:
        stub.answer(refusal(code), status=status)
        with pytest.raises(ExternalServiceError) as caught:
            await rtc.start_record("room-1", "goal-1")
        assert str(caught.value) == f"byteplus: StartRecord: {code} (HTTP {status})"

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 200),
            (b"<html>", 502),
            (b"[]", 200),
            (b'{"ResponseMetadata": []}', 200),
            (b'{"ResponseMetadata": {}}', 500),
            (b'{"ResponseMetadata": {"Error": "x"}}', 200),
            (refusal("odd code\n"), 400),
        ],
    )
    async def test_answers_that_say_nothing(self, rtc: BytePlusRtc, stub: StubServer, body: bytes, status: int) -> None:
        stub.answer(body, status=status)
        with pytest.raises(ExternalServiceError, match=r"UnreadableAnswer|NoErrorCode"):
            await rtc.stop_record("room-1", "goal-1")

    async def test_no_answer(self, stub: StubServer, clock: StoppedClock) -> None:
        stub.answer(never=True)
        async with open_rtc(rtc_settings(stub.url), clock, timeout_seconds=0.1) as rtc:
            with pytest.raises(ExternalServiceError, match=r"no answer within 0\.1 s"):
                await rtc.stop_record("room-1", "goal-1")

    async def test_nobody_listens(self, clock: StoppedClock) -> None:
        async with open_rtc(rtc_settings(f"http://127.0.0.1:{await free_port()}"), clock) as rtc:
            with pytest.raises(ExternalServiceError, match="cannot be reached"):
                await rtc.stop_record("room-1", "goal-1")

    async def test_not_configured(self, stub: StubServer, clock: StoppedClock) -> None:
        async with open_rtc(rtc_settings(stub.url, byteplus_access_key=""), clock) as rtc:
            with pytest.raises(ExternalServiceError, match="not configured: GOALSVC_BYTEPLUS_ACCESS_KEY"):
                await rtc.stop_record("room-1", "goal-1")
        assert stub.requests == []


class TestSnapshots:
    async def test_they_go_to_the_quarantine_bucket(self, rtc: BytePlusRtc, stub: StubServer) -> None:
        await rtc.start_snapshot("room-1", "goal-1")
        body = json.loads(stub.requests[0].body)
        assert body["StorageConfig"] == {"Type": 2, "CustomConfig": {"Vendor": 0, "Region": 0, "Bucket": "quarantine"}}
        assert body["ImageConfig"] == {"Interval": 10, "Format": 0}

    async def test_with_keys_made_for_it(self, stub: StubServer, clock: StoppedClock) -> None:
        stub.answer(OK)
        storage = SnapshotStorage("elsewhere", access_key="ak", secret_key=SecretStr("sk"), region=3)
        async with open_rtc(rtc_settings(stub.url), clock, snapshots=storage) as rtc:
            await rtc.start_snapshot("room-1", "goal-1")
        assert json.loads(stub.requests[0].body)["StorageConfig"]["CustomConfig"] == {
            "Vendor": 0,
            "Region": 3,
            "Bucket": "elsewhere",
            "AccessKey": "ak",
            "SecretKey": "sk",
        }


async def test_the_stand_in_knows_what_is_recorded() -> None:
    rtc = RecordedRtc()
    await rtc.start_record("room-1", "goal-1")
    await rtc.start_record("room-1", "goal-1")
    assert rtc.recording == {("room-1", "goal-1")}
    await rtc.stop_record("room-1", "goal-1")
    assert rtc.recording == set()
