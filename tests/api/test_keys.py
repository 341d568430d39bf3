"""The secrets by which callers are known: only the right one lets in, in its one place, and none is ever shown."""

import ast
import inspect
import logging
import traceback
from collections.abc import Callable, Mapping
from random import Random

import httpx
import pytest

from goalsvc.api.authentication import is_environment_key
from goalsvc.api.webhook import verify
from goalsvc.app import create_app
from goalsvc.errors import SettingsError
from goalsvc.settings import Settings
from tests.receivers.scenes import VIEWER

from .app import API_KEY, JWT_KEY, KEY, OLD_KEY, OLD_SECRET, SECRET, Service, open_service
from .test_errors import assert_problem
from .test_webhook import body_of

SEED = 20260101
#: With 8 kinds: two hundred.
OF_EACH_KIND = 25

LOOKALIKES = ["а", "ａ", "𝚊", "ﾐ", "і", "‐", "–", "\u00ad", "\u200b", "%61", "&#97;"]
Forge = Callable[[Random], bytes]


def _flipped(random: Random) -> bytes:
    changed = bytearray(API_KEY.encode())
    for place in random.sample(range(len(changed) * 8), random.randint(1, 3)):
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def _put_in(random: Random, piece: bytes) -> bytes:
    """Not at an end, where blanks do not count."""
    place = random.randint(1, len(API_KEY) - 1)
    return API_KEY[:place].encode() + piece + API_KEY[place:].encode()


def _another(random: Random) -> bytes:
    known = [KEY, SECRET, OLD_KEY, OLD_SECRET, JWT_KEY, "goalsvc-api-key", "", "null", "None", "*", "[]", "true"]
    return random.choice([*known, f"{random.getrandbits(64):x}"]).encode()


def _in_capitals(random: Random) -> bytes:
    place = random.choice([n for n, letter in enumerate(API_KEY) if letter.isalpha()])
    return (API_KEY[:place] + API_KEY[place:].upper()).encode()


def _looks_alike(random: Random) -> bytes:
    place = random.randrange(len(API_KEY))
    return (API_KEY[:place] + random.choice(LOOKALIKES) + API_KEY[place + 1 :]).encode()


FORGERIES: Mapping[str, Forge] = {
    "bits of it": _flipped,
    "a part of it": lambda random: API_KEY[random.randint(0, 3) : random.randint(4, len(API_KEY) - 1)].encode(),
    "more than it": lambda random: API_KEY.encode() + random.choice([b"\0", b"x", b",", b"=", b" x", API_KEY.encode()]),
    "capitals": _in_capitals,
    "blanks in it": lambda random: _put_in(random, random.choice([b" ", b"\t", b"\0", b"\n", b"\xa0", b"\x85"])),
    "lookalikes": _looks_alike,
    "another secret": _another,
    "digits": lambda random: str(random.getrandbits(random.randint(1, 256))).encode(),
}


async def deposit(
    client: httpx.AsyncClient, headers: Mapping[bytes, bytes] | list[tuple[bytes, bytes]]
) -> httpx.Response:
    """Asks for what is worth the most."""
    own = list(headers.items()) if isinstance(headers, Mapping) else headers
    return await client.post(
        f"/v1/wallets/{VIEWER}/deposits", json={"amount": 7}, headers=[*own, (b"Idempotency-Key", b"k")]
    )


class TestTheApiKey:
    @pytest.mark.parametrize("kind", FORGERIES)
    async def test_a_changed_one_lets_nobody_in(
        self, service: Service, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        random = Random(f"{SEED} {kind}")
        for _ in range(OF_EACH_KIND):
            key = FORGERIES[kind](random)
            assert_problem(await deposit(service.stranger, {b"Authorization": b"Bearer " + key}), 401, "unauthorized")
        assert await service.stage.everything() == {}
        control = await deposit(service.stranger, {b"Authorization": f"Bearer {API_KEY}".encode()})
        assert control.status_code == 201
        assert API_KEY not in caplog.text

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([(b"Authorization", f"Basic {API_KEY}".encode())], id="another scheme"),
            pytest.param([(b"Authorization", API_KEY.encode())], id="no scheme"),
            pytest.param([(b"X-Api-Key", API_KEY.encode())], id="another header"),
            pytest.param([(b"Proxy-Authorization", f"Bearer {API_KEY}".encode())], id="the proxy's"),
            pytest.param([(b"Cookie", f"Authorization=Bearer {API_KEY}".encode())], id="a cookie"),
            pytest.param(
                [(b"Authorization", b"Bearer x"), (b"Authorization", f"Bearer {API_KEY}".encode())], id="behind another"
            ),
        ],
    )
    async def test_nor_the_right_one_in_another_place(
        self, service: Service, headers: list[tuple[bytes, bytes]]
    ) -> None:
        assert_problem(await deposit(service.stranger, headers), 401, "unauthorized")
        assert await service.stage.everything() == {}

    async def test_it_is_taken_anew_from_what_is_configured(self) -> None:
        async with open_service(api_key="another") as service:
            assert_problem(await service.client.get("/v1/goals"), 401, "unauthorized")
            answer = await service.stranger.get("/v1/goals", headers={"Authorization": "Bearer another"})
            assert answer.status_code == 200


class TestRotation:
    """The steps of README's "Keys", each a restart: at no step is a webhook refused that either key has signed."""

    async def test_no_webhook_is_refused_on_the_way_from_one_key_to_the_next(self) -> None:
        new, secret = "new-key", "new-secret"
        steps: list[tuple[dict[str, object], set[str]]] = [
            ({"pusher_keys": {}}, {KEY}),
            ({"pusher_keys": {new: secret}}, {KEY, new}),
            ({"pusher_key": new, "pusher_secret": secret, "pusher_keys": {KEY: SECRET}}, {KEY, new}),
            ({"pusher_key": new, "pusher_secret": secret, "pusher_keys": {}}, {new}),
        ]
        for configured, accepted in steps:
            async with open_service(**configured) as service:
                statuses = {
                    key: (await service.webhook(body_of(), key=key, secret=own)).status_code
                    for key, own in ((KEY, SECRET), (new, secret))
                }
            assert statuses == {key: 200 if key in accepted else 401 for key in (KEY, new)}

    async def test_no_caller_is_refused_on_the_way_from_one_api_key_to_the_next(self) -> None:
        steps: list[tuple[dict[str, str], set[str]]] = [
            ({}, {API_KEY}),
            ({"api_key_next": "new"}, {API_KEY, "new"}),
            ({"api_key": "new"}, {"new"}),
        ]
        for configured, accepted in steps:
            async with open_service(**configured) as service:
                for key in (API_KEY, "new", ""):
                    answer = await service.stranger.get("/v1/goals", headers={"Authorization": f"Bearer {key}"})
                    assert answer.status_code == (200 if key in accepted else 401), (configured, key)


class TestNothingIsShown:
    OWN: Mapping[str, str] = {
        "pusher_secret": "secret-one",
        "api_key": "secret-two",
        "jwt_key": "secret-three",
        "byteplus_secret_key": "secret-four",
    }

    def settings(self) -> Settings:
        servers = {"mongodb_url": "mongodb://127.0.0.1/unused", "redis_url": "redis://127.0.0.1"}
        return Settings(**servers, **self.OWN, pusher_keys={"old": "secret-five"})  # type: ignore[arg-type]

    def test_settings_show_no_secret(self) -> None:
        settings = self.settings()
        for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
            assert "secret-" not in text

    def test_every_setting_that_is_one_is_a_secret(self) -> None:
        named = {
            name for name in Settings.model_fields if name.endswith(("secret", "secret_key", "api_key", "jwt_key"))
        }
        assert named == set(self.OWN)

    def test_nor_do_complaints_about_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.OWN.items():
            monkeypatch.setenv(f"GOALSVC_{name.upper()}", value)
        address = "mongodb://user:secret-six@127.0.0.1/x"  # repository: allowed, a made-up one
        monkeypatch.setenv("GOALSVC_MONGODB_URL", address)
        for keys in ('{"old": ["secret-five"]}', '["secret-five"]', '{"old": "secret-five"'):
            monkeypatch.setenv("GOALSVC_PUSHER_KEYS", keys)
            with pytest.raises(SettingsError) as caught:
                Settings.from_environment()
            assert "secret-" not in "".join(traceback.format_exception(caught.value))

    async def test_nor_does_a_bug_show_what_it_was_asked_with(self, caplog: pytest.LogCaptureFixture) -> None:
        """What is logged of an unforeseen error is where it happened, not the request's headers."""
        caplog.set_level(logging.DEBUG)
        async with open_service(**self.OWN) as service:
            service.app.state.resources = None
            headers = {"Authorization": "Bearer secret-two"}
            answer = await service.stranger.get("/v1/channels/private-stream@alice", headers=headers)
            webhook = await service.webhook(body_of(), secret="secret-one")
        assert (answer.status_code, webhook.status_code) == (500, 200)
        traces = str(service.stage.recorder.segments) + str(service.stage.recorder.tracked)
        assert traces
        for text in (answer.text, caplog.text, traces):
            assert "secret-" not in text

    async def test_nor_does_the_openapi_document(self) -> None:
        assert "secret-" not in str(create_app(self.settings()).openapi())


class TestComparisons:
    """A comparison that ends at the first wrong letter tells, by how long it takes, how many were right."""

    @pytest.mark.parametrize("function", [verify, is_environment_key])
    def test_secrets_are_compared_in_constant_time(self, function: Callable[..., None]) -> None:
        body = ast.parse(inspect.getsource(function))
        calls = [ast.unparse(node.func) for node in ast.walk(body) if isinstance(node, ast.Call)]
        assert calls.count("hmac.compare_digest") == 1
        compared = [node for node in ast.walk(body) if isinstance(node, ast.Compare)]
        names = {name.id for node in compared for name in ast.walk(node) if isinstance(name, ast.Name)}
        assert not names & {"given", "expected"}

    async def test_an_unknown_key_is_answered_as_a_wrong_signature_is(self, service: Service) -> None:
        same = {"X-Request-ID": "the-same"}
        unknown = await service.webhook(body_of(), key="nobody", **same)
        wrong = await service.webhook(body_of(), secret="wrong", **same)
        assert (unknown.status_code, unknown.content) == (wrong.status_code, wrong.content)
        assert unknown.headers == wrong.headers
