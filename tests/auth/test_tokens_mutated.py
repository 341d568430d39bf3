"""Changed tokens of users: none is let in at `/pusher/auth`, none gets a signature, and no secret is logged."""

import base64
import hmac
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import pytest

from .conftest import JWT_KEY, PUSHER_KEY, PUSHER_SECRET, SOCKET, Gate, token_of

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SEED = 20260101
#: With 10 kinds: two hundred.
OF_EACH_KIND = 20

TOKEN = token_of("alice", exp=32_503_680_000)
HEAD, CLAIMS, SIGNATURE = TOKEN.split(".")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
FORM = {"socket_id": SOCKET, "channel_name": "private-user@alice"}

Forge = Callable[[Random], str]


def part(value: Any) -> str:
    """A part of a token: JSON, in Base64 without padding."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def with_other_letter(text: str, random: Random) -> str:
    place = random.randrange(len(text))
    return text[:place] + random.choice([letter for letter in LETTERS if letter != text[place]]) + text[place + 1 :]


def other_key(random: Random) -> str:
    keys = [
        "",
        "None",
        PUSHER_SECRET,
        PUSHER_KEY,
        "api-key",
        JWT_KEY[:-1],
        JWT_KEY.upper(),
        f"{JWT_KEY}\n",
        JWT_KEY[::-1],
    ]
    return random.choice([*keys, f"{random.getrandbits(256):x}"])


def signed_with(key: str) -> str:
    """A token of alice's, signed with any key, even one that no library takes."""
    signature = hmac.new(key.encode(), f"{HEAD}.{CLAIMS}".encode(), "sha256").digest()
    return f"{HEAD}.{CLAIMS}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def other_claims(random: Random) -> str:
    claims = {"sub": random.choice(["bob", "alice ", "Alice", "*", "", "alice\0", "аlice", 7]), "exp": 32_503_680_000}
    return part(claims | {"admin": random.choice([True, False])})


def other_head(random: Random) -> str:
    """Another algorithm, or a key that comes with the token."""
    algorithm = random.choice(
        ["none", "None", "nOnE", "HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", "hs256"]
    )
    own_key = {"kty": "oct", "k": base64.urlsafe_b64encode(JWT_KEY.encode()).decode()}
    more: dict[str, object] = random.choice(
        [{}, {"jwk": own_key}, {"kid": "../../dev/null"}, {"jku": "http://127.0.0.1/"}, {"crit": ["x"]}]
    )
    return part({"alg": algorithm, "typ": "JWT", "n": random.getrandbits(16), **more})


def not_valid_now(random: Random) -> str:
    times: dict[str, Any] = random.choice(
        [{"exp": random.randint(0, 10**9)}, {"nbf": 32_503_680_000 + random.randint(0, 9)}]
    )
    return token_of("alice", **times)


FORGERIES: Mapping[str, Forge] = {
    "another letter": lambda random: with_other_letter(TOKEN, random),
    "a cut token": lambda random: TOKEN[: random.randrange(len(TOKEN) - 1)],
    "a cut signature": lambda random: f"{HEAD}.{CLAIMS}.{SIGNATURE[: random.randrange(len(SIGNATURE) - 1)]}",
    "other claims": lambda random: f"{HEAD}.{other_claims(random)}.{SIGNATURE}",
    "another head": lambda random: f"{other_head(random)}.{CLAIMS}.{random.choice([SIGNATURE, ''])}",
    "another key": lambda random: signed_with(other_key(random)),
    "another algorithm": lambda random: token_of("alice", JWT_KEY * 2, random.choice(["HS384", "HS512"])),
    "parts in another order": lambda random: ".".join(random.sample([HEAD, CLAIMS, SIGNATURE, HEAD], 3)),
    "not of this time": not_valid_now,
    "a random signature": lambda random: f"{HEAD}.{CLAIMS}.{''.join(random.choices(LETTERS, k=43))}",
}


def forged(kind: str) -> Iterator[str]:
    """Forgeries of a kind, without those that are the same token: its last letter holds two bits that mean nothing."""
    random, made = Random(f"{SEED} {kind}"), 0
    while made < OF_EACH_KIND:
        token = FORGERIES[kind](random)
        if token.rpartition(".")[0] != f"{HEAD}.{CLAIMS}" or meaning(token) != meaning(TOKEN):
            made += 1
            yield token


def meaning(token: str) -> bytes:
    signature = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)) if len(signature) % 4 != 1 else b""


@pytest.mark.parametrize("kind", FORGERIES)
async def test_no_forgery_is_let_in(gate: Gate, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for token in forged(kind):
        answer = await gate.post(data=FORM, headers={b"Authorization": f"Bearer {token}".encode()})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), token
        assert not {"auth", "channel_data"} & answer.json().keys()
        assert JWT_KEY not in answer.text
    control = await gate.post(data=FORM, headers={"Authorization": f"Bearer {TOKEN}"})
    assert control.status_code == 200
    for secret in (JWT_KEY, PUSHER_SECRET, SIGNATURE):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([(b"Authorization", f"Basic {TOKEN}".encode())], id="another scheme"),
        pytest.param([(b"Authorization", TOKEN.encode())], id="no scheme"),
        pytest.param([(b"Authorization", b"Bearer"), (b"X-Authorization", f"Bearer {TOKEN}".encode())], id="elsewhere"),
        pytest.param([(b"Cookie", f"token={TOKEN}; Authorization=Bearer {TOKEN}".encode())], id="a cookie"),
        pytest.param(
            [(b"Authorization", b"Bearer x"), (b"Authorization", f"Bearer {TOKEN}".encode())], id="behind another"
        ),
    ],
)
async def test_a_good_token_in_another_place_is_none(gate: Gate, headers: list[tuple[bytes, bytes]]) -> None:
    answer = await gate.post(data=FORM, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("field", ["auth", "token", "user_id", "sub"])
async def test_nor_in_a_field_of_the_form(gate: Gate, field: str) -> None:
    assert (await gate.post(data={**FORM, field: TOKEN})).status_code == 401
