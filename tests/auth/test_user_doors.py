"""What else a user's own token opens, and by which keys it is verified: channels' data, published keys, issuer, audience."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from prometheus_client import REGISTRY

from goalsvc.api.errors import WebError
from goalsvc.integrations.jwks import Jwks
from tests.world import START

from .conftest import JWT_KEY, SOCKET, Gate, settings_with, token_of, user_of


def at(seconds: float) -> int:
    return int((START + timedelta(seconds=seconds)).timestamp())


class TestClaims:
    def test_clocks_may_be_a_minute_apart(self) -> None:
        assert user_of(token_of("alice", exp=at(-30)), settings_with()) == "alice"
        assert user_of(token_of("alice", nbf=at(30)), settings_with()) == "alice"

    @pytest.mark.parametrize(("claim", "seconds"), [("exp", -120), ("nbf", 600)], ids=["expired", "not yet"])
    def test_but_not_more(self, claim: str, seconds: int) -> None:
        claims: dict[str, Any] = {claim: at(seconds)}
        with pytest.raises(WebError):
            user_of(token_of("alice", **claims), settings_with())

    async def test_the_time_is_that_of_the_apps_clock(self, gate: Gate) -> None:
        """Which is a test clock in `goalsvc dev`, and may be far from the machine's."""
        request = {"data": {"socket_id": SOCKET, "channel_name": "private-user@alice"}}

        async def status_of(**claims: Any) -> int:
            own = {"Authorization": f"Bearer {token_of('alice', **claims)}"}
            return (await gate.post(**request, headers=own)).status_code

        hour, now = 3600, gate.clock.now().timestamp()
        assert await status_of(nbf=int(now), exp=int(now) + hour) == 200
        assert await status_of(nbf=int(now) + hour) == 401
        gate.clock.move_on(2 * hour)
        assert await status_of(nbf=int(now) + hour) == 200
        assert await status_of(exp=int(now) + hour) == 401

    @pytest.mark.parametrize(
        "claims",
        [{}, {"iss": "other", "aud": "goalsvc"}, {"iss": "platform"}, {"iss": "platform", "aud": "other"}],
        ids=str,
    )
    def test_issuer_and_audience_must_be_the_configured_ones(self, claims: dict[str, str]) -> None:
        settings = settings_with(jwt_issuer="platform", jwt_audience="goalsvc")
        right = token_of("alice", iss="platform", aud=["goalsvc", "other"])
        assert user_of(right, settings) == "alice"
        with pytest.raises(WebError):
            user_of(token_of("alice", **claims), settings)


class Published:
    """A platform that publishes its keys at an address."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, b'{"keys": []}')
        self.asked = 0

    def publish(self, *keys: dict[str, Any]) -> None:
        self.answer = 200, json.dumps({"keys": keys}).encode()

    @contextmanager
    def serving(self) -> Iterator[str]:
        published = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                published.asked += 1
                status, body = published.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            serving.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/jwks.json"
            finally:
                server.shutdown()
                serving.join()


RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def rsa_jwk(kid: str = "r1", **more: Any) -> dict[str, Any]:
    return {**json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())), "kid": kid, **more}


def ec_jwk(kid: str = "e1") -> dict[str, Any]:
    return {**json.loads(ECAlgorithm.to_jwk(EC_KEY.public_key())), "kid": kid}


def signed(key: Any, algorithm: str, kid: str | None, **claims: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({"sub": "alice", **claims}, key, algorithm, headers=headers)


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def jwks(published: Published) -> Iterator[Jwks]:
    with published.serving() as url:
        yield Jwks(url)


async def user_by(jwks: Jwks, token: str, **values: Any) -> str:
    return user_of(token, settings_with(**values), await jwks.keys_for(token))


class TestPublishedKeys:
    async def test_verify_what_they_have_signed(self, jwks: Jwks, published: Published) -> None:
        published.publish(rsa_jwk(), ec_jwk())
        assert await user_by(jwks, signed(RSA_KEY, "RS256", "r1"), jwt_key="") == "alice"
        assert await user_by(jwks, signed(EC_KEY, "ES256", "e1")) == "alice"
        assert await user_by(jwks, signed(EC_KEY, "ES256", None)) == "alice"
        assert await user_by(jwks, token_of("alice")) == "alice"  # the configured key still counts
        assert published.asked == 1

    async def test_calls_are_measured(self, published: Published) -> None:
        name = "goalsvc_outbound_duration_seconds_count"
        for answer, outcome in (((200, b"no keys"), "refused"), ((500, b""), "down")):
            before = REGISTRY.get_sample_value(name, {"service": "jwks", "outcome": outcome}) or 0.0
            published.answer = answer
            with published.serving() as url:
                await Jwks(url).keys_for(signed(EC_KEY, "ES256", None))
            assert REGISTRY.get_sample_value(name, {"service": "jwks", "outcome": outcome}) == before + 1

    async def test_and_nothing_else(self, jwks: Jwks, published: Published) -> None:
        published.publish(rsa_jwk(), ec_jwk())
        other = ec.generate_private_key(ec.SECP256R1())
        for token in (signed(other, "ES256", "e1"), signed(EC_KEY, "ES256", "r1"), signed(EC_KEY, "ES256", "unknown")):
            with pytest.raises(WebError):
                await user_by(jwks, token)

    async def test_a_symmetric_key_that_is_published_verifies_nothing(self, jwks: Jwks, published: Published) -> None:
        published.publish(
            {"kty": "oct", "k": "c2VjcmV0LXRoYXQtaXMtcHVibGlzaGVkLWZvci1hbGw", "kid": "o", "alg": "HS256"}
        )
        token = signed(b"secret-that-is-published-for-all", "HS256", "o")
        with pytest.raises(WebError):
            await user_by(jwks, token, jwt_key="")

    async def test_a_key_for_encryption_verifies_nothing(self, jwks: Jwks, published: Published) -> None:
        published.publish(rsa_jwk(use="enc"))
        with pytest.raises(WebError):
            await user_by(jwks, signed(RSA_KEY, "RS256", "r1"))

    @pytest.mark.parametrize(
        "answer", [(500, b""), (200, b"not JSON"), (200, b"[]"), (302, b""), (200, b"x" * 300_000)]
    )
    async def test_an_address_that_fails_leaves_the_configured_key(
        self, jwks: Jwks, published: Published, answer: tuple[int, bytes]
    ) -> None:
        published.answer = answer
        assert await user_by(jwks, token_of("alice")) == "alice"
        with pytest.raises(WebError):
            await user_by(jwks, signed(RSA_KEY, "RS256", "r1"))

    async def test_a_flood_of_unknown_keys_asks_once(self, jwks: Jwks, published: Published) -> None:
        published.publish(rsa_jwk())
        for number in range(20):
            with pytest.raises(WebError):
                await user_by(jwks, signed(RSA_KEY, "RS256", f"unknown-{number}"))
        assert published.asked == 1


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
class TestChannels:
    async def read(self, gate: Gate, token: str, channel: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await gate.client.get(f"/v1/channels/{channel}", headers=headers)
        return answer.status_code, answer.json().get("code", "")

    async def test_a_user_reads_what_they_may_join(self, gate: Gate) -> None:
        gate.session()
        assert await self.read(gate, token_of("bob"), "private-stream@alice") == (200, "")
        assert await self.read(gate, token_of("alice"), "private-user@alice") == (200, "")

    async def test_and_nothing_else(self, gate: Gate) -> None:
        gate.session(status={"exclusive_to": "carol"})
        assert await self.read(gate, token_of("bob"), "private-user@alice") == (403, "forbidden")
        assert await self.read(gate, token_of("bob"), "private-stream@alice") == (403, "forbidden")
        wrong = token_of("bob", key=JWT_KEY + "x")
        assert await self.read(gate, wrong, "private-stream@alice") == (401, "unauthorized")

    async def test_a_token_opens_no_other_operation(self, gate: Gate) -> None:
        headers = {"Authorization": f"Bearer {token_of('alice')}"}
        for path in ("/v1/goals", "/v1/wallets/alice", "/v1/channelsx", "/v1/keys"):
            assert (await gate.client.get(path, headers=headers)).status_code == 401

    async def test_pages_of_the_platform_may_read_them(self, gate: Gate) -> None:
        headers = {"Authorization": f"Bearer {token_of('bob')}", "Origin": "https://live.example.com"}
        answer = await gate.client.get("/v1/channels/private-stream@alice", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://live.example.com"


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
class TestHeadAndOptions:
    KEY: ClassVar = {"Authorization": "Bearer api-key"}

    @pytest.mark.parametrize("path", ["/v1/goals", "/healthz", "/v1/wallets/alice", "/openapi.json"])
    async def test_head_is_get_without_a_body(self, gate: Gate, path: str) -> None:
        read = await gate.client.get(path, headers=self.KEY)
        head = await gate.client.head(path, headers=self.KEY)
        assert (head.status_code, head.content) == (read.status_code, b"")
        assert head.headers["content-length"] == read.headers["content-length"]

    async def test_head_requires_the_key_as_get_does(self, gate: Gate) -> None:
        assert (await gate.client.head("/v1/goals")).status_code == 401

    async def test_options_names_the_methods(self, gate: Gate) -> None:
        answer = await gate.client.options("/v1/goals")
        assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")

    async def test_neither_is_answered_where_nothing_is_read(self, gate: Gate) -> None:
        goal = gate.goal()
        for method in ("HEAD", "OPTIONS"):
            answer = await gate.client.request(method, f"/v1/goals/{goal}/end", headers=self.KEY)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
