"""A thousand forgeries of a webhook that is validly signed: none is let in, and none leaves a trace or shows a secret."""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from goalsvc.domain.goals import GoalKind
from tests.receivers.scenes import CHANNEL, STREAMER, Run, set_up

from .app import API_KEY, JWT_KEY, KEY, OLD_KEY, OLD_SECRET, SECRET, Service, sign
from .test_errors import assert_problem
from .test_webhook import NOW_MS

SEED = 20260101
#: With 25 kinds: a thousand.
OF_EACH_KIND = 40

BODY = json.dumps(
    {
        "time_ms": NOW_MS,
        "events": [
            {"name": "member_removed", "channel": CHANNEL, "user_id": STREAMER},
            {"name": "channel_vacated", "channel": CHANNEL},
        ],
    }
).encode()


@dataclass(frozen=True)
class Webhook:
    """A request as it is on the wire; headers may come twice."""

    body: bytes = BODY
    key: bytes = KEY.encode()
    signature: bytes = sign(BODY).encode()
    more: tuple[tuple[bytes, bytes], ...] = ()
    """Headers before those two."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        own = [(b"X-Pusher-Key", self.key), (b"X-Pusher-Signature", self.signature)]
        return [*self.more, *own, (b"Content-Type", b"application/json")]


GOOD = Webhook()
Forge = Callable[[Random], Webhook]


# -- how a forger might change it -------------------------------------------------------------------------------------


def flipped(text: bytes, random: Random) -> bytes:
    """One to three bits changed."""
    changed = bytearray(text)
    for place in random.sample(range(len(text) * 8), random.randint(1, 3)):
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def with_inserted(text: bytes, piece: bytes, random: Random) -> bytes:
    place = random.randint(0, len(text))
    return text[:place] + piece + text[place:]


def with_blank(text: bytes, blank: bytes, random: Random) -> bytes:
    """A blank before it, in it, or after it."""
    return random.choice([blank + text, with_inserted(text, blank, random), text + blank])


def with_other(text: bytes, digits: bytes, random: Random) -> bytes:
    """One digit replaced by another one."""
    place = random.randrange(len(text))
    return text[:place] + bytes([random.choice([d for d in digits if d != text[place]])]) + text[place + 1 :]


def same_json(random: Random) -> bytes:
    """The same JSON in other bytes."""
    indent, blank = random.choice([None, 0, 1, 2, 4]), random.choice(["", " ", "  ", "\n", "\t"])
    value: Any = json.loads(BODY)
    if random.random() < 0.5:
        value = dict(reversed(value.items()))
    text = json.dumps(value, indent=indent, separators=("," + blank, ":" + random.choice(["", " ", "\r\n"])))
    if random.random() < 0.3:
        text = text.replace("member_removed", "member\\u005fremoved")
    text += random.choice(["", " ", "\n"])
    return text.encode() if text.encode() != BODY else BODY + b"\n"


def another_body(random: Random) -> bytes:
    """What a forger would like to have said."""
    value = json.loads(BODY)
    value["time_ms"] += random.randint(1, 10**6)
    value["events"][0] |= {"name": "member_added", "user_id": f"u-{random.getrandbits(32)}"}
    return json.dumps(value).encode()


def other_secret(random: Random) -> str:
    own = [
        OLD_SECRET,
        KEY,
        OLD_KEY,
        API_KEY,
        JWT_KEY,
        "",
        "unknown",
        "None",
        SECRET[:-1],
        SECRET.upper(),
        SECRET + "\n",
    ]
    return random.choice([*own, SECRET[::-1], f" {SECRET}", f"{KEY}:{SECRET}", f"{random.getrandbits(64):x}"])


def other_key(random: Random) -> bytes:
    own = [
        OLD_KEY,
        "",
        "*",
        "null",
        "unknown",
        KEY.upper(),
        KEY.title(),
        KEY[:-1],
        f"{KEY}x",
        f"{KEY},{OLD_KEY}",
        SECRET,
    ]
    return random.choice([*own, f"{KEY}\0", f"{KEY} ", f" {KEY}", f"{random.getrandbits(64):x}"]).encode()


#: Characters that look like a digit, or that some reader makes one of: in UTF-8, and in Latin-1.
LOOKALIKES = ["０", "𝟎", "٠", "ａ", "е", "с", "ⅾ", "ƒ", "K", "°", "ª", "\u200b", "\ufeff", "%61", "&#97;", "\\u0061"]


def looks_alike(text: bytes, random: Random) -> bytes:
    place = random.randrange(len(text))
    return text[:place] + random.choice(LOOKALIKES).encode() + text[place + 1 :]


def other_digest(random: Random) -> bytes:
    """What is not the hex HMAC-SHA256 of the body."""
    digest, secret = bytes.fromhex(sign(BODY)), SECRET.encode()
    algorithms = ["md5", "sha1", "sha224", "sha384", "sha512", "sha3_256", "blake2s"]
    plain = [hashlib.sha256(text).hexdigest().encode() for text in (BODY, secret + BODY, BODY + secret, b"")]
    known = [hmac.new(secret, BODY, algorithm).hexdigest().encode() for algorithm in algorithms]
    coded = [base64.b64encode(digest), base64.urlsafe_b64encode(digest), base64.b32encode(digest), digest]
    turned = [digest[::-1].hex().encode(), sign(BODY)[::-1].encode(), digest.hex(":").encode()]
    twisted = hmac.new(BODY, secret, "sha256").hexdigest().encode()
    return random.choice([*plain, *known, *coded, *turned, twisted])


def twice(random: Random, name: bytes, wrong: bytes) -> Webhook:
    """A header that comes twice, right and wrong, in either order."""
    if random.random() < 0.5:
        return replace(GOOD, more=((name, wrong),))
    right = GOOD.key if name == b"X-Pusher-Key" else GOOD.signature
    changed = {"key": wrong} if name == b"X-Pusher-Key" else {"signature": wrong}
    return replace(GOOD, more=((name, right),), **changed)


def _forgeries() -> Mapping[str, Forge]:
    signature, body = GOOD.signature, GOOD.body
    blanks = [b" ", b"\t", b"\n", b"\r", b"\x0b", b"\x0c", b"\0", b"\x85", b"\xa0"]
    hexadecimal = b"0123456789abcdef"

    def body_changed(change: Callable[[Random], bytes]) -> Forge:
        return lambda random: replace(GOOD, body=change(random))

    def signature_changed(change: Callable[[Random], bytes]) -> Forge:
        return lambda random: replace(GOOD, signature=change(random))

    def resigned(random: Random) -> Webhook:
        changed = another_body(random)
        return replace(GOOD, body=changed, signature=sign(changed, other_secret(random)).encode())

    return {
        "bits of the body": body_changed(lambda random: flipped(body, random)),
        "a cut body": body_changed(lambda random: body[: random.randrange(len(body))]),
        "a body cut in front": body_changed(lambda random: body[random.randint(1, len(body)) :]),
        "a longer body": body_changed(lambda random: body + random.randbytes(random.randint(1, 9))),
        "something put into the body": body_changed(lambda random: with_inserted(body, random.randbytes(1), random)),
        "blanks in or around the body": body_changed(
            lambda random: with_blank(body, random.choice(blanks), random),
        ),
        "the same JSON in other bytes": body_changed(same_json),
        "a body in another encoding": body_changed(
            lambda random: body.decode().encode(random.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp500"]))
        ),
        "an empty body": body_changed(lambda random: b" " * random.choice([0, 0, 1, 2])),
        "another body": body_changed(another_body),
        "bits of the signature": signature_changed(lambda random: flipped(signature, random)),
        "another digit in the signature": signature_changed(lambda random: with_other(signature, hexadecimal, random)),
        "a cut signature": signature_changed(lambda random: signature[: random.randrange(len(signature))]),
        "a longer signature": signature_changed(
            lambda random: signature + bytes(random.choices(hexadecimal, k=random.randint(1, 64)))
        ),
        "a signature with something before it": signature_changed(
            lambda random: (
                random.choice([b"sha256=", b"0x", b"v1=", b"Bearer ", b"\\x", b"'", b'"', b"0", b"="]) + signature
            )
        ),
        "blanks in or around the signature": signature_changed(
            lambda random: with_blank(signature, random.choice(blanks), random)
        ),
        "lookalikes in the signature": signature_changed(lambda random: looks_alike(signature, random)),
        "a random signature": signature_changed(lambda random: bytes(random.choices(hexadecimal, k=64))),
        "another digest": signature_changed(other_digest),
        "the signature of another secret": signature_changed(lambda random: sign(body, other_secret(random)).encode()),
        "another body, signed with another secret": resigned,
        "another key": lambda random: replace(
            GOOD, key=other_key(random), signature=sign(body, random.choice([SECRET, "unknown", "", "None"])).encode()
        ),
        "key and signature swapped": lambda random: Webhook(another_body(random), GOOD.signature, GOOD.key),
        "two keys": lambda random: twice(random, b"X-Pusher-Key", other_key(random)),
        "two signatures": lambda random: twice(random, b"X-Pusher-Signature", flipped(signature, random)),
    }


FORGERIES = _forgeries()


# -- what comes of it -------------------------------------------------------------------------------------------------


def is_good(webhook: Webhook) -> bool:
    """Whether it is the same webhook after all: hexadecimal digits may be capital."""
    return replace(webhook, signature=webhook.signature.lower()) == GOOD


def taken_of(service: Service) -> list[Mapping[str, Any]]:
    """What the trace has, but for the roots of refused webhooks: the first few in a second leave one, without their body."""
    return [segment for segment in service.stage.recorder.segments if segment["node"]["name"] != "refused"]


async def assert_taken(service: Service) -> None:
    """The control: the unchanged webhook is let in, and stops the clock."""
    before = await service.stage.everything()
    answer = await service.post_webhook(GOOD.body, GOOD.headers)
    assert answer.status_code == 200, answer.text
    assert await service.stage.everything() != before
    assert len(taken_of(service)) == 2


def test_there_are_a_thousand() -> None:
    assert len(FORGERIES) * OF_EACH_KIND == 1000


@pytest.mark.parametrize("kind", FORGERIES)
async def test_no_forgery_is_let_in(service: Service, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    random = Random(f"{SEED} {kind}")
    await set_up(GoalKind.SHOW, Run.SHORT, running=True)
    before = await service.stage.everything()
    tried = 0
    while tried < OF_EACH_KIND:
        forged = FORGERIES[kind](random)
        if is_good(forged):
            continue
        tried += 1
        answer = await service.post_webhook(forged.body, forged.headers)
        problem = assert_problem(answer, 401, "bad_signature")
        # Nobody learns what was wrong, and nothing is repeated that could be secret.
        assert problem["detail"] == "X-Pusher-Signature does not sign this body with X-Pusher-Key's secret", forged
        assert taken_of(service) == [], forged
        assert await service.stage.everything() == before, forged
    assert service.stage.recorder.tracked == {}
    assert service.stage.queue.jobs == []
    assert service.stage.notifier.notices == []
    await assert_taken(service)
    for secret in (SECRET, OLD_SECRET, API_KEY, JWT_KEY, GOOD.signature.decode()):
        assert secret not in caplog.text
