"""The emulators refuse what Pusher and BytePlus would refuse, and record the rest."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pusher
import pytest

from goalsvc.devstack.standins import BytePlusStandIn, PusherStandIn, serving
from goalsvc.devstack.standins.byteplus import signature


class TestPusherStandIn:
    """Spoken to with Pusher's own client, which speaks HTTP over a socket only."""

    @pytest.fixture
    def standin(self) -> PusherStandIn:
        return PusherStandIn("1", {"goalsvc-key": "goalsvc-secret"})

    @pytest.fixture
    def url(self, standin: PusherStandIn) -> Iterator[str]:
        with serving(standin.app) as url:
            yield url

    def client(self, url: str, *, key: str = "goalsvc-key", secret: str = "goalsvc-secret") -> pusher.Pusher:
        host, _, port = url.removeprefix("http://").partition(":")
        return pusher.Pusher(app_id="1", key=key, secret=secret, host=host, port=int(port), ssl=False)

    def test_records_an_event(self, standin: PusherStandIn, url: str) -> None:
        answer = self.client(url).trigger(["private-user@u1", "presence-stream@u1"], "goal.ended", {"n": 1})
        assert answer == {}
        (entry,) = standin.recording.entries()
        assert datetime.fromisoformat(entry.pop("at")) <= datetime.now(UTC)
        assert entry == {
            "channels": ["private-user@u1", "presence-stream@u1"],
            "name": "goal.ended",
            "data": {"n": 1},
        }

    def test_records_every_event_of_a_batch(self, standin: PusherStandIn, url: str) -> None:
        batch = [{"channel": f"private-user@{n}", "name": "wallet.updated", "data": "text"} for n in range(2)]
        self.client(url).trigger_batch(batch)
        assert [entry["channels"] for entry in standin.recording.entries()] == [
            ["private-user@0"],
            ["private-user@1"],
        ]
        assert standin.recording.entries()[0]["data"] == "text"

    def test_lists_by_event_and_channel_and_forgets(self, url: str) -> None:
        for event, channel in [("a", "x"), ("b", "x"), ("b", "y")]:
            self.client(url).trigger(channel, event, {})
        with httpx.Client(base_url=url, trust_env=False) as http:
            found = http.get("/recorded", params={"event": "b", "channel": "x"}).json()
            assert [(entry["name"], entry["channels"]) for entry in found] == [("b", ["x"])]
            assert len(http.get("/recorded").json()) == 3
            assert http.get("/recorded", params={"limit": 1}).json()[0]["channels"] == ["y"]
            assert http.delete("/recorded").status_code == 204
            assert http.get("/recorded").json() == []

    @pytest.mark.parametrize("wrong", [{"key": "another"}, {"secret": "another"}])
    def test_refuses_a_wrong_key_or_secret(self, standin: PusherStandIn, url: str, wrong: dict[str, str]) -> None:
        with pytest.raises(pusher.errors.PusherBadAuth):
            self.client(url, **wrong).trigger("x", "a", {})
        assert standin.recording.entries() == []

    def test_refuses_data_over_10_kilobytes_of_bytes(self, standin: PusherStandIn, url: str) -> None:
        with pytest.raises(pusher.errors.PusherBadStatus, match="413"):
            self.client(url).trigger("x", "a", {"text": "é" * 6000})
        assert standin.recording.entries() == []

    def test_tells_who_is_present(self, url: str) -> None:
        channel = "presence-enc-goal@0123456789abcdef01234567"
        with httpx.Client(base_url=url, trust_env=False) as http:
            http.put(f"/channels/{channel}/users", json=["u1", "u2"])
        assert self.client(url).users_info(channel) == {"users": [{"id": "u1"}, {"id": "u2"}]}
        assert self.client(url).users_info("presence-stream@nobody") == {"users": []}

    def test_tells_which_channels_are_occupied_and_by_how_many(self, url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False) as http:
            http.put("/channels/presence-enc-goal@1/users", json=["u1", "u2", "u1"])
            http.put("/channels/presence-enc-goal@2/users", json=[])
            http.put("/channels/private-user@1/users", json=["u1"])
        told = self.client(url).channels_info("presence-", ["user_count"])
        assert told == {"channels": {"presence-enc-goal@1": {"user_count": 2}}}

    def test_refuses_as_often_as_it_is_told_to(self, standin: PusherStandIn, url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False) as http:
            assert http.post("/trouble", json={"status": 503, "count": 2}).status_code == 204
            assert http.post("/trouble", json={"stat": 503}).status_code == 400
        for _ in range(2):
            with pytest.raises(pusher.errors.PusherBadStatus, match="503"):
                self.client(url).trigger("x", "a", {})
        self.client(url).trigger("x", "a", {})
        assert len(standin.recording.entries()) == 1

    def test_hangs_when_it_is_told_to(self, url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=0.2) as http:
            http.post("/trouble", json={"hang_seconds": 5, "count": 1})
            with pytest.raises(httpx.ReadTimeout):
                http.post("/apps/1/events", content=b"{}")
        self.client(url).trigger("x", "a", {})


class TestBytePlusStandIn:
    BODY = b'{"AppId":"app1","RoomId":"room-1","TaskId":"goal-1"}'

    @pytest.fixture
    def standin(self) -> BytePlusStandIn:
        return BytePlusStandIn("AKTEST", "SKTEST")

    @pytest.fixture
    async def http(self, standin: BytePlusStandIn) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=standin.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client

    def signed(self, secret: str = "SKTEST", at: datetime | None = None, host: str = "127.0.0.1") -> dict[str, str]:
        stamp = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "content-type": "application/json; charset=utf-8",
            "host": host,
            "x-content-sha256": hashlib.sha256(self.BODY).hexdigest(),
            "x-date": stamp,
        }
        proof = signature(
            secret,
            method="POST",
            path="/",
            query=[("Action", "StopRecord"), ("Version", "2022-06-01")],
            headers=headers,
            body=self.BODY,
            at=stamp,
            region="ap-singapore-1",
            service="rtc",
        )
        scope = f"AKTEST/{stamp[:8]}/ap-singapore-1/rtc/request"
        return {
            **headers,
            "authorization": f"HMAC-SHA256 Credential={scope}, "
            f"SignedHeaders={';'.join(sorted(headers))}, Signature={proof}",
        }

    async def call(self, http: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
        return await http.post("/?Action=StopRecord&Version=2022-06-01", content=self.BODY, headers=headers)

    def test_computes_the_signature_of_the_check_value(self) -> None:
        headers = self.signed(at=datetime(2026, 1, 1, tzinfo=UTC), host="open.byteplusapi.com")
        assert headers["authorization"].endswith("a5b0a281c42331c1bcc134defe77394efe0bbba6be22f7447f49026c40809676")

    async def test_records_a_call(self, standin: BytePlusStandIn, http: httpx.AsyncClient) -> None:
        answer = await self.call(http, self.signed())
        assert answer.status_code == 200
        assert answer.json()["ResponseMetadata"]["Action"] == "StopRecord"
        assert "Error" not in answer.json()["ResponseMetadata"]
        (entry,) = standin.recording.entries()
        assert (entry["action"], entry["body"]) == ("StopRecord", json.loads(self.BODY))
        assert (await http.get("/recorded", params={"action": "StopRecord"})).json() == [entry]
        assert (await http.get("/recorded", params={"action": "StartRecord"})).json() == []

    @pytest.mark.parametrize(
        ("secret", "age", "code"),
        [
            ("another", timedelta(0), "SignatureDoesNotMatch"),
            ("SKTEST", timedelta(minutes=16), "InvalidTimestamp"),
        ],
    )
    async def test_refuses_a_wrong_or_old_signature(
        self, standin: BytePlusStandIn, http: httpx.AsyncClient, secret: str, age: timedelta, code: str
    ) -> None:
        answer = await self.call(http, self.signed(secret, datetime.now(UTC) - age))
        assert answer.status_code == 401
        assert answer.json()["ResponseMetadata"]["Error"]["Code"] == code
        assert standin.recording.entries() == []

    async def test_refuses_an_unsigned_call(self, http: httpx.AsyncClient) -> None:
        assert (await self.call(http, {})).status_code == 401

    async def test_answers_with_the_error_that_it_is_told_to(self, http: httpx.AsyncClient) -> None:
        await http.post("/trouble", json={"status": 429, "error": "QPSOverLimit"})
        answer = await self.call(http, self.signed())
        assert answer.status_code == 429
        assert answer.json()["ResponseMetadata"]["Error"]["Code"] == "QPSOverLimit"
        assert (await self.call(http, self.signed())).status_code == 200


def test_pushers_signature_is_an_hmac_of_method_path_and_parameters() -> None:
    proof = hmac.new(b"secret", b"POST\n/apps/1/events\na=1", hashlib.sha256).hexdigest()
    assert PusherStandIn._sign("secret", "POST\n/apps/1/events\na=1") == proof
