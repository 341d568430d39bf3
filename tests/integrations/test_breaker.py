"""A breaker: fails fast while a service does not work, probes it, and tells each change once."""

import asyncio
import logging

import pytest

from goalsvc.errors import ExternalServiceError, ServiceDownError
from goalsvc.integrations.breaker import FAILURES, FIRST_REST_SECONDS, LONGEST_REST_SECONDS, Breaker, Breakers


class Time:
    """Shows the time that a test has come to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    return Breaker("test", time)


def fail(breaker: Breaker) -> None:
    with pytest.raises(ServiceDownError, match="no answer"), breaker.call():
        raise ServiceDownError("test", "no answer")


def go_down(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        fail(breaker)


def test_calls_are_made_while_the_service_works(breaker: Breaker) -> None:
    for _ in range(10):
        with breaker.call():
            pass
    assert (breaker.is_down, breaker.calls_now(64)) == (False, 64)


def test_it_is_down_after_some_failures_in_a_row(breaker: Breaker) -> None:
    go_down(breaker)
    assert (breaker.is_down, breaker.calls_now(64)) == (True, 0)
    with pytest.raises(ServiceDownError, match="does not work at the moment"), breaker.call():
        raise AssertionError("the call was made")


def test_failures_with_a_success_in_between_do_not_count(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        fail(breaker)
        with breaker.call():
            pass
    assert not breaker.is_down


def test_a_refused_call_shows_that_the_service_works(breaker: Breaker) -> None:
    for _ in range(3 * FAILURES):
        with pytest.raises(ExternalServiceError), breaker.call():
            raise ExternalServiceError("test", "HTTP 400")
    assert not breaker.is_down


def test_while_it_rests_no_call_probes_it(breaker: Breaker) -> None:
    go_down(breaker)
    with pytest.raises(ServiceDownError) as refused, breaker.call():
        raise AssertionError("a probe")
    assert not refused.value.probed


def test_one_call_at_a_time_probes_it(breaker: Breaker, time: Time) -> None:
    go_down(breaker)
    time.at += 60
    assert breaker.calls_now(64) == 1
    with breaker.call():
        assert breaker.calls_now(64) == 0
        with pytest.raises(ServiceDownError) as refused, breaker.call():
            raise AssertionError("a second probe")
        assert (refused.value.probed, refused.value.after_seconds) == (True, FIRST_REST_SECONDS)
    assert (breaker.is_down, breaker.calls_now(64)) == (False, 64)


def test_a_probe_that_fails_is_repeated_after_a_rest(breaker: Breaker, time: Time) -> None:
    go_down(breaker)
    for _ in range(20):
        time.at += LONGEST_REST_SECONDS
        assert breaker.calls_now(64) == 1
        fail(breaker)
        assert breaker.calls_now(64) == 0


async def test_a_call_that_its_caller_gave_up_counts_if_it_took_long(
    breaker: Breaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goalsvc.integrations.breaker._GIVEN_UP_SECONDS", 0.005)

    async def hang() -> None:
        with breaker.call():
            await asyncio.Event().wait()

    for _ in range(FAILURES):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hang(), 0.01)
    assert breaker.is_down


async def test_not_if_the_worker_was_told_to_stop(breaker: Breaker) -> None:
    for _ in range(2 * FAILURES):
        with pytest.raises(asyncio.CancelledError), breaker.call():
            raise asyncio.CancelledError
    assert not breaker.is_down


def test_one_line_for_each_change(breaker: Breaker, time: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "goalsvc")
    go_down(breaker)
    for _ in range(50):
        time.at += LONGEST_REST_SECONDS
        fail(breaker)
    time.at += LONGEST_REST_SECONDS
    with breaker.call():
        pass
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("test does not work: ")
    assert told[1].startswith("test works again, after 25")


def test_each_service_has_its_own() -> None:
    breakers = Breakers()
    go_down(breakers.of("one"))
    assert (breakers.of("one").is_down, breakers.of("other").is_down) == (True, False)


def test_hosts_of_streams_do_not_fill_the_memory() -> None:
    breakers = Breakers()
    for number in range(3000):
        breakers.of(f"hls host-{number}")
    assert len(breakers._breakers) <= 1000
