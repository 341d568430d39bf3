"""`goalsvc api`: any call, and one sentence for what is wrong."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from .command_line import Cli, assert_one_sentence, clean_environment, run_cli


@contextmanager
def serving(content: bytes) -> Iterator[str]:
    """A server that answers every GET with this JSON; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *values: object) -> None:
            """Writes nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_call_and_its_answer(cli: Cli) -> None:
    made = json.loads(cli("api", "POST", "/v1/sessions", '{"user_id": "api-alice"}').out)
    read = json.loads(cli("api", "get", f"/v1/sessions/{made['id']}").out)
    assert read["user_id"] == "api-alice"


def test_answers_that_are_not_json_are_printed_as_they_are(cli: Cli) -> None:
    assert cli("api", "POST", "/v1/wallets/api-bob/deposits", '{"amount": 7}').status == 0
    transfers = cli("api", "GET", "/v1/reports/transfers?from=2000-01-01T00:00:00Z")
    assert (transfers.status, transfers.err) == (0, "")
    assert transfers.out.startswith("transfer_id,")
    assert "user:api-bob" in transfers.out
    assert "closing balance,,,7" in cli("api", "GET", "/v1/wallets/api-bob/statement?format=csv").out
    assert "goalsvc_receiver_answers_total" in cli("api", "GET", "/metrics").out


def test_a_stream_of_events_is_printed_as_they_come(stack: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "goalsvc", "api", "GET", "/v1/events/stream"]
    environment = {**clean_environment(), "GOALSVC_API_URL": stack["api_url"]}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == ": ok\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=10) == 0


def test_what_is_not_goalsvc() -> None:
    """Also where it answers with JSON."""
    with serving(b'{"items": []}') as url:
        assert_one_sentence(run_cli("api", "GET", "/v1/goals", API_URL=url), "is not goalsvc (GOALSVC_API_URL)")
        assert_one_sentence(run_cli("trace", "0" * 24, API_URL=url), "is not goalsvc (GOALSVC_API_URL)")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("POST", "/v1/sessions", '{"user_id": NaN}'), "is not JSON"),
        (("POST", "/v1/sessions", "[" * 100_000), "is not JSON"),
        (("POST", "/v1/sessions", "{}", "--key", "é"), "--key: must be printable ASCII"),
        (("GET", "/v1/goals\n"), "is not a path"),
        (("FETCH", "/v1/goals"), "is not a method"),
        (("GET", "v1/goals"), "is not a path"),
        (("POST", "/v1/sessions", "{"), "is not JSON"),
        (("GET", "/v1/goals/" + "0" * 24), "there is no goal"),
    ],
)
def test_what_is_wrong(cli: Cli, words: tuple[str, ...], told: str) -> None:
    assert_one_sentence(cli("api", *words), told)
