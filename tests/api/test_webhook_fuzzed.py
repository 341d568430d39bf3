"""No input to the webhook gives anything but 200, 400, 401 or 413."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from goalsvc.api.errors import WebError
from goalsvc.api.webhook import parse, verify
from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.channels import Channel, event_id
from goalsvc.domain.ids import user_id_in
from goalsvc.domain.performance import STALE_AFTER
from tests.receivers.fakes import NOW

from .app import KEY, SECRET, Service, encoded, sign

NOW_MS = to_epoch_milliseconds(NOW)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(["member_added", "member_removed", "channel_occupied", "channel_vacated", "client_event"])
prefixes = st.sampled_from(["presence-enc-goal@", "private-stream@", "presence-stream@", "private-user@", "x@", ""])
channels = st.builds(str.__add__, prefixes, texts | st.just("68143584d6945d32e732cc21"))
times = st.integers(NOW_MS - 10**6, NOW_MS + 10**6) | st.integers() | st.floats() | texts | st.datetimes().map(str)

#: Events and bodies that are nearly right: each field is mostly of its form, and sometimes anything.
events = st.fixed_dictionaries({}, optional={"name": names | values, "channel": channels | values, "user_id": values})
bodies = st.fixed_dictionaries(
    {}, optional={"time_ms": times | values, "timestamp": times | values, "events": st.lists(events) | values}
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good body in which some bytes were replaced, taken out or put in."""
    event = {"name": "member_added", "channel": "presence-enc-goal@68143584d6945d32e732cc21", "user_id": "u-1"}
    body = bytearray(encoded({"time_ms": NOW_MS, "events": [event]}))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(body)))
        end = min(len(body), begin + draw(st.integers(0, 3)))
        body[begin:end] = draw(st.binary(max_size=4))
    return bytes(body)


any_body = st.binary(max_size=200) | damaged() | bodies.map(lambda body: json.dumps(body).encode())


@given(any_body)
@example(b"")
@example(b"[" * 100_000)
@example(b'{"events":[],"timestamp":"' + b"9" * 5000 + b'"}')
@example(b'{"events":[{"name":"x","channel":"y","user_id":1e308}],"timestamp":""}')
def test_a_body_is_read_or_refused_with_400(body: bytes) -> None:
    refused: WebError | None = None
    at, read = NOW, list[Any]()
    try:
        at, read = parse(body, NOW)
    except WebError as error:
        refused = error
    if refused is not None:
        assert (refused.status, refused.message.isprintable()) == (400, True)
        assert refused.code in {"malformed_webhook", "stale_webhook"}
    assert NOW - STALE_AFTER <= at <= NOW
    for event in read:
        user_id = user_id_in(event.user_id)
        assert user_id is None or user_id
        Channel.parse(event.channel)
        event_id(event.name, event.channel, user_id, to_epoch_milliseconds(at)).encode("ascii")


@given(st.dictionaries(st.sampled_from(["x-pusher-key", "x-pusher-signature", "x"]), st.text()), st.binary())
def test_headers_that_do_not_sign_are_401(headers: dict[str, str], body: bytes) -> None:
    assume(headers.get("x-pusher-signature", "").lower() != sign(body))
    with pytest.raises(WebError) as caught:
        verify(headers, body, {KEY: SECRET})
    assert caught.value.status == 401


@given(any_body)
def test_what_signs_is_let_in_whatever_the_body(body: bytes) -> None:
    verify({"x-pusher-key": KEY, "x-pusher-signature": sign(body)}, body, {KEY: SECRET})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=any_body, secret=st.sampled_from([SECRET, SECRET, SECRET, "wrong"]))
async def test_the_endpoint_answers_nothing_else(service: Service, body: bytes, secret: str) -> None:
    answer = await service.webhook(body, secret=secret)
    assert answer.status_code in {200, 400, 401}
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
