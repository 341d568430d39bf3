"""`goalsvc dev` on its real parts, with substitutes for the API and the worker."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from pymongo import MongoClient
from redis import Redis

from goalsvc.devstack.mongod import mongodb_url
from goalsvc.devstack.ports import HOST, free_port, http_status, is_listening
from goalsvc.devstack.private import private_mongod
from goalsvc.devstack.process import birth_of
from goalsvc.devstack.waiting import holds_within

from .conftest import StartStack
from .stack import Stack

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes by way of /proc"),
]


def insert(url: str, name: str) -> None:
    with MongoClient[dict[str, Any]](url) as client, client.start_session() as session, session.start_transaction():
        client.get_default_database()["things"].insert_one({"_id": name}, session=session)


def names_in(url: str) -> list[str]:
    with MongoClient[dict[str, Any]](url) as client:
        return [thing["_id"] for thing in client.get_default_database()["things"].find()]


def set_in_redis(url: str, name: str) -> None:
    with Redis.from_url(url) as client:
        client.set(name, "kept")


def is_in_redis(url: str, name: str) -> bool:
    with Redis.from_url(url) as client:
        return bool(client.exists(name))


@contextlib.contextmanager
def stranger_on(port: int) -> Iterator[None]:
    """Another program on that port, which hangs up on whoever calls."""
    with socketserver.TCPServer((HOST, port), socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


@pytest.fixture(scope="class")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of a class; the environment sets two things itself."""
    stack = Stack(
        tmp_path_factory.mktemp("shared") / "data",
        environment={"GOALSVC_API_KEY": "my-own", "GOALSVC_LOG_LEVEL": "DEBUG"},
    )
    yield stack
    assert stack.stop() == (0, ""), "standard output held more than its first line"
    assert stack.leaves_nothing()


@pytest.fixture(scope="class")
def ready(stack: Stack) -> dict[str, Any]:
    """What the first line of that stack says."""
    return stack.ready()


class TestReady:
    def test_the_first_line_says_where_everything_is(self, stack: Stack, ready: dict[str, Any]) -> None:
        assert list(ready) == [
            *("api_url", "mongodb_url", "redis_url"),
            *("s3_endpoint_url", "pusher_url", "byteplus_url", "pids"),
        ]
        assert list(ready["pids"]) == ["api", "worker", "mongod", "valkey", "s3"]
        assert set(ready["pids"].values()) <= stack.processes()
        assert ready["api_url"] == f"http://127.0.0.1:{stack.port}"
        assert http_status(stack.port, "/readyz") == 200
        insert(ready["mongodb_url"], "first")
        set_in_redis(ready["redis_url"], "first")
        assert http_status(port_of(ready["s3_endpoint_url"]), "/goalsvc-quarantine") == 200
        assert http_status(port_of(ready["pusher_url"]), "/recorded") == 200
        assert http_status(port_of(ready["byteplus_url"]), "/recorded") == 200

    def test_the_processes_named_are_the_ones_that_do_the_work(self, ready: dict[str, Any]) -> None:
        programs = {name: Path(f"/proc/{pid}/cmdline").read_text() for name, pid in ready["pids"].items()}
        assert "substitute_api.py" in programs["api"]
        assert "substitute_worker.py" in programs["worker"]
        assert programs["mongod"].split("\0")[0].endswith("mongod")
        assert "server" in programs["valkey"].split("\0")[0]
        assert not any("launch.py" in program for program in programs.values())

    def test_the_children_are_told_devs_defaults_unless_the_environment_sets_others(
        self, ready: dict[str, Any]
    ) -> None:
        with urlopen(f"{ready['api_url']}/environment") as answer:
            told = json.load(answer)
        assert told["GOALSVC_MONGODB_URL"] == ready["mongodb_url"]
        assert told["GOALSVC_API_KEY"] == "my-own"
        assert told["GOALSVC_LOG_LEVEL"] == "DEBUG"
        assert told["GOALSVC_PUSHER_KEY"] == "goalsvc-key"
        assert told["GOALSVC_PUSHER_PORT"] == str(port_of(ready["pusher_url"]))

    @pytest.mark.usefixtures("ready")
    def test_the_workers_warnings_are_told(self, stack: Stack) -> None:
        assert holds_within(5, lambda: "worker: WARNING the worker has something to say" in stack.errors())
        assert "the worker goes on" not in stack.errors()

    def test_a_mongod_that_the_environment_names_is_used(self, start_stack: StartStack, tmp_path: Path) -> None:
        with private_mongod(tmp_path / "own") as own:
            stack = start_stack(environment={"GOALSVC_MONGODB_URL": own.url})
            ready = stack.ready()
            assert ready["mongodb_url"] == own.url
            assert ready["pids"]["mongod"] == []
            assert not (stack.directory / "mongod").exists()


class TestADeadPart:
    @pytest.mark.parametrize("part", ["api", "worker", "mongod", "valkey", "s3"])
    def test_is_started_again_on_the_same_port(self, stack: Stack, ready: dict[str, Any], part: str) -> None:
        insert(ready["mongodb_url"], f"before {part} died")
        works: dict[str, Callable[[], bool]] = {
            "api": lambda: http_status(stack.port, "/readyz") == 200,
            "worker": lambda: stack.errors().count("worker is ready") == 2,
            "mongod": lambda: "before mongod died" in names_in(ready["mongodb_url"]),
            "valkey": lambda: is_listening(port_of(ready["redis_url"])),
            "s3": lambda: http_status(port_of(ready["s3_endpoint_url"]), "/goalsvc-quarantine") == 200,
        }
        pid = ready["pids"][part]
        birth = birth_of(pid)

        os.kill(pid, signal.SIGKILL)

        assert holds_within(5, lambda: birth_of(pid) != birth)
        assert holds_within(10, lambda: f"{part} is ready again" in stack.errors()), stack.errors()
        assert works[part]()

    def test_that_cannot_work_at_all_ends_the_stack_with_one_sentence(self, start_stack: StartStack) -> None:
        stack = start_stack("broken")
        status, output = stack.end()
        assert (status, output) == (1, "")
        assert "goalsvc dev: worker ended with exit status 1" in stack.errors()
        assert "the worker was not made to work" in stack.errors()
        assert "Traceback" not in stack.errors()


class TestTheDataDirectory:
    def test_is_found_again_after_a_restart(self, start_stack: StartStack) -> None:
        first = start_stack()
        before = first.ready()
        insert(before["mongodb_url"], "kept")
        set_in_redis(before["redis_url"], "kept")
        assert first.stop() == (0, "")

        after = start_stack(port=first.port).ready()

        assert {k: v for k, v in after.items() if k != "pids"} == {k: v for k, v in before.items() if k != "pids"}
        assert names_in(after["mongodb_url"]) == ["kept"]
        assert is_in_redis(after["redis_url"], "kept")

    def test_is_found_again_when_mongods_port_is_taken_meanwhile(self, start_stack: StartStack) -> None:
        first = start_stack()
        before = first.ready()["mongodb_url"]
        insert(before, "kept")
        first.stop()
        with stranger_on(port_of(before)):
            after = start_stack().ready()["mongodb_url"]
            assert after != before
            assert names_in(after) == ["kept"]
            insert(after, "new")

    def test_serves_one_stack_at_a_time(self, start_stack: StartStack) -> None:
        first = start_stack()
        first.ready()
        second = start_stack()
        status, output = second.end()
        assert (status, output) == (1, "")
        assert second.errors().startswith("goalsvc dev: another `goalsvc dev` (process ")
        assert len(second.errors().splitlines()) == 1
        assert http_status(first.port, "/readyz") == 200

    def test_can_be_used_again_after_everything_was_killed(self, start_stack: StartStack) -> None:
        first = start_stack()
        ready = first.ready()
        insert(ready["mongodb_url"], "kept")
        first.signal(signal.SIGKILL)
        for pid in ready["pids"].values():
            if birth_of(pid):
                os.kill(pid, signal.SIGKILL)
        first.end()
        assert names_in(start_stack(port=first.port).ready()["mongodb_url"]) == ["kept"]


def trace(url: str, name: str) -> None:
    """Writes the trace of a webhook that was refused."""
    at = datetime(2026, 3, 1, 20, tzinfo=UTC)
    node = {"kind": "webhook", "name": name, "outcome": "failed", "reason": "bad_signature", "children": []}
    with MongoClient[dict[str, Any]](url) as client:
        client.get_default_database()["traces"].insert_one({"_id": name, "at": at, "node": node})


class TestTalking:
    def test_each_thing_that_happens_is_one_line(self, start_stack: StartStack) -> None:
        stack = start_stack("talking")
        told = stack.addresses()
        assert told["console"] == f"http://127.0.0.1:{stack.port}/console"
        assert holds_within(10, lambda: is_shown(stack, told["MongoDB"]))

    def test_unless_it_is_told_to_be_quiet(self, start_stack: StartStack) -> None:
        stack = start_stack("talking", "quiet")
        trace(stack.addresses()["MongoDB"], "refused")
        assert stack.stop() == (0, "")


def is_shown(stack: Stack, url: str) -> bool:
    """Whether a trace that is written now is shown; the first may be written before dev looks."""
    trace(url, f"refused-{uuid.uuid4().hex[:8]}")
    ready, _, _ = select.select([stack.output], [], [], 0.3)
    if not ready:
        return False
    line = stack.line()
    assert re.fullmatch(r"20:00:00  webhook   refused-\w{8} {13}- {25}failed bad_signature\n", line), line
    return True


class TestReload:
    def test_a_change_of_the_source_restarts_api_and_worker_alone(
        self, start_stack: StartStack, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.mkdir()
        stack = start_stack("reload")
        before = stack.ready()["pids"]
        (source / "module.py").write_text("changed = True")
        again = ("api is ready again", "worker is ready again")
        assert holds_within(10, lambda: all(words in stack.errors() for words in again)), stack.errors()
        assert "module.py changed: the API and the worker start again" in stack.errors()
        assert birth_of(before["mongod"]) is not None
        assert birth_of(before["valkey"]) is not None
        assert birth_of(before["api"]) is None
        assert http_status(stack.port, "/readyz") == 200


class TestTheEnd:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_by_a_signal_leaves_no_process(self, start_stack: StartStack, how: signal.Signals) -> None:
        stack = start_stack()
        stack.ready()
        assert len(stack.processes()) == 7  # five in the JSON, the emulators, and itself
        stack.signal(how)
        assert stack.end() == (0, "")
        assert not stack.processes()
        assert "Traceback" not in stack.errors()

    def test_by_a_closed_terminal_leaves_no_process(self, start_stack: StartStack) -> None:
        stack = start_stack(terminal=True)
        stack.ready()
        stack.close_terminal()
        stack.signal(signal.SIGHUP)
        assert stack.end() == (0, "")
        assert not stack.processes()

    def test_before_it_is_ready_leaves_no_process(self, start_stack: StartStack) -> None:
        stack = start_stack()
        assert holds_within(10, lambda: "starting mongod" in stack.errors())
        stack.signal(signal.SIGINT)
        assert stack.end() == (0, "")
        assert not stack.processes()

    def test_by_kill_9_leaves_no_process(self, start_stack: StartStack) -> None:
        stack = start_stack()
        stack.ready()
        stack.signal(signal.SIGKILL)
        stack.end()
        assert stack.leaves_nothing()

    def test_a_taken_port_is_one_sentence_and_nothing_is_started(self, start_stack: StartStack) -> None:
        with socket.create_server((HOST, 0)) as other:
            port = other.getsockname()[1]
            stack = start_stack(port=port)
            status, output = stack.end()
        assert (status, output) == (1, "")
        assert stack.errors() == (
            f"goalsvc dev: port {port} on 127.0.0.1 is taken by another program: "
            "stop it, or choose another with --port\n"
        )
        assert not (stack.directory / "mongod").exists()


def test_an_address_names_every_member_and_the_database() -> None:
    port = free_port()
    assert mongodb_url([port, 2]) == f"mongodb://127.0.0.1:{port},127.0.0.1:2/goalsvc?replicaSet=rs0"
