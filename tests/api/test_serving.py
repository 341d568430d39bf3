"""`goalsvc serve` as a process: figures of several processes are summed, and SIGTERM is announced before the port closes."""

import contextlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest

from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.waiting import holds_within

pytestmark = pytest.mark.real

KEY, SECRET, METRICS_KEY = "serve-key", "serve-secret", "serve-metrics-key"


@contextlib.contextmanager
def serving(
    mongodb_url: str, redis_url: str, *words: str, **settings: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs `goalsvc serve` until the block is left; yields its address and process."""
    port = free_port()
    own = {
        "GOALSVC_MONGODB_URL": mongodb_url,
        "GOALSVC_REDIS_URL": redis_url,
        "GOALSVC_API_KEY": "serve-api-key",
        "GOALSVC_PUSHER_APP_ID": "1",
        "GOALSVC_PUSHER_KEY": KEY,
        "GOALSVC_PUSHER_SECRET": SECRET,
        "GOALSVC_METRICS_KEY": METRICS_KEY,
        **settings,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
    command = [sys.executable, "-m", "goalsvc", "serve", "--port", str(port), *words]
    process = subprocess.Popen(command, env={**clean, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://{HOST}:{port}"
    try:
        assert holds_within(30, lambda: status(url, "/readyz") == 200)
        yield url, process
    finally:
        process.terminate()
        process.wait(30)


def status(url: str, path: str) -> int | None:
    try:
        return httpx.get(url + path, trust_env=False, timeout=5).status_code
    except httpx.HTTPError:
        return None


def webhook(url: str) -> int:
    """Sends a signed webhook on a connection of its own, so that any of the processes may take it."""
    body = json.dumps({"time_ms": int(time.time() * 1000), "events": []}).encode()
    signature = hmac.new(SECRET.encode(), body, sha256).hexdigest()
    headers = {"X-Pusher-Key": KEY, "X-Pusher-Signature": signature}
    return httpx.post(f"{url}/notify/pusher", content=body, headers=headers, trust_env=False, timeout=10).status_code


def figures(url: str) -> str:
    answer = httpx.get(
        f"{url}/metrics", headers={"Authorization": f"Bearer {METRICS_KEY}"}, trust_env=False, timeout=10
    )
    assert answer.status_code == 200
    return answer.text


class TestSeveralProcesses:
    def test_each_scrape_shows_the_sum(self, mongodb_url: str, redis_url: str) -> None:
        with serving(mongodb_url, redis_url, "--workers", "2") as (url, _):
            assert [webhook(url) for _ in range(40)] == [200] * 40
            for _ in range(6):
                text = figures(url)
                (counted,) = re.findall(r'^goalsvc_webhooks_total\{answer="ok"\} (\S+)$', text, re.MULTILINE)
                assert float(counted) == 40
                assert re.search(r"^goalsvc_webhook_duration_seconds_count 40\.0$", text, re.MULTILINE)

    def test_the_process_is_named_and_nothing_says_when_a_counter_began(self, mongodb_url: str, redis_url: str) -> None:
        with serving(mongodb_url, redis_url) as (url, _):
            webhook(url)
            text = figures(url)
            assert "_created" not in text
            assert 'goalsvc_build_info{process="api"' in text
            assert 'goalsvc_event_loop_lag_seconds{process="api"}' in text


class TestTheKeyOfMetrics:
    def test_is_asked_for(self, mongodb_url: str, redis_url: str) -> None:
        with serving(mongodb_url, redis_url) as (url, _):
            refused = httpx.get(f"{url}/metrics", trust_env=False)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            assert METRICS_KEY not in refused.text


class TestSigterm:
    def test_is_announced_before_the_port_closes(self, mongodb_url: str, redis_url: str) -> None:
        with serving(mongodb_url, redis_url, GOALSVC_DRAIN_SECONDS="2") as (url, process):
            process.send_signal(signal.SIGTERM)
            assert holds_within(2, lambda: status(url, "/readyz") == 503)
            assert webhook(url) == 200
            assert process.wait(30) in (0, -signal.SIGTERM)

    def test_a_second_one_stops_at_once(self, mongodb_url: str, redis_url: str) -> None:
        with serving(mongodb_url, redis_url, GOALSVC_DRAIN_SECONDS="300") as (url, process):
            process.send_signal(signal.SIGTERM)
            assert holds_within(5, lambda: status(url, "/readyz") == 503)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
