"""goalsvc with the least rights, on a Valkey with an ACL and a MongoDB with users; and servers that it does not work with."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis import Redis

from goalsvc.commands.preflight import mongodb_complaint, redis_complaint
from goalsvc.devstack import private_valkey
from goalsvc.devstack.binaries import find_valkey
from goalsvc.devstack.mongod import REPLICA_SET, member_command
from goalsvc.devstack.parts import Part
from goalsvc.devstack.ports import HOST, free_port, is_listening
from goalsvc.devstack.private import _running
from goalsvc.devstack.waiting import holds_within

from .processes import Stack, running_stack
from .rights import granted_to_redis
from .webhooks import send

pytestmark = pytest.mark.real

PASSWORD = "drill-password"


def command(server: Redis, *words: str) -> Any:
    """Runs a command for which redis-py has no method with types."""
    return server.execute_command(*words)  # type: ignore[no-untyped-call]


@contextmanager
def mongod_with_users(directory: Path, *words: str, options: str = "") -> Iterator[str]:
    """A replica set with access control; the URL of a user whose one role is readWrite on the database `goalsvc`.

    `words` are further arguments of mongod, and `options` what its clients' URLs then need, as in `&tls=true`.
    """
    key = directory / "key"
    key.write_text("a" * 64)
    key.chmod(0o400)
    port = free_port()
    command = (*member_command(directory / "data", port), "--keyFile", str(key), *words)
    with _running([Part("mongod", command, lambda _: is_listening(port))], directory):
        with MongoClient[dict[str, Any]](f"mongodb://{HOST}:{port}/?directConnection=true{options}") as admin:
            member = {"_id": 0, "host": f"{HOST}:{port}"}
            admin.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": [member]}})
            assert holds_within(20, lambda: bool(admin.admin.command("hello")["isWritablePrimary"]))
            admin.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        root = f"mongodb://root:{PASSWORD}@{HOST}:{port}/?replicaSet={REPLICA_SET}{options}"  # repository: allowed, made up
        with MongoClient[dict[str, Any]](root) as admin:
            roles = [{"role": "readWrite", "db": "goalsvc"}]
            admin["goalsvc"].command("createUser", "goalsvc", pwd=PASSWORD, roles=roles)
        user = f"mongodb://goalsvc:{PASSWORD}@{HOST}:{port}"  # repository: allowed
        yield f"{user}/goalsvc?replicaSet={REPLICA_SET}{options}"


@pytest.fixture
def valkey_with_acl() -> Iterator[tuple[str, str]]:
    """The URL of a user with the listed rights, and the administrator's."""
    with private_valkey() as url:
        with closing(Redis.from_url(url)) as admin:
            command(admin, "ACL", "SETUSER", "goalsvc", "on", f">{PASSWORD}", *granted_to_redis())
        yield url.replace("//", f"//goalsvc:{PASSWORD}@"), url


def play_a_funded_show(stack: Stack) -> dict[str, Any]:
    """Plays a show to its payout; the streamer's wallet."""
    with stack.client() as client:

        def post(path: str, body: dict[str, Any], key: str = "") -> dict[str, Any]:
            headers = {"Idempotency-Key": key} if key else {}
            answer: dict[str, Any] = client.post(path, json=body, headers=headers).raise_for_status().json()
            return answer

        session = post("/v1/sessions", {"user_id": "alice"})["id"]
        show = {"title": "Ukulele", "target": 2}
        levels = [{"title": "Ukulele", "target": 100}]
        funding = {"kind": "FundingGoal", "session_id": session, "levels": levels, "metadata": {"show": show}}
        funding_id = post("/v1/goals", funding)["id"]
        post("/v1/wallets/bob/deposits", {"amount": 100}, "deposit")
        post(f"/v1/goals/{funding_id}/contributions", {"user_id": "bob", "amount": 100}, "contribution")

        def pairs() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = client.get(f"/v1/sessions/{session}").json().get("show_goal_pairs", [])
            return [pair for pair in found if pair.get("show_goal")]

        assert holds_within(20, lambda: bool(pairs()))
        goal = pairs()[0]["show_goal"]
        now = int(time.time() * 1000)
        assert send(client, "member_added", goal, "alice", now - 5000) == 200
        assert send(client, "member_removed", goal, "alice", now) == 200

        def wallet() -> dict[str, Any]:
            found: dict[str, Any] = client.get("/v1/wallets/alice").json()
            return found

        holds_within(30, lambda: wallet()["balance"] == 100)
        assert client.get("/v1/events").json()["items"]
        post("/v1/keys", {"name": "reader", "scopes": ["read"]})
        return wallet()


def test_a_show_is_paid_with_the_least_rights(tmp_path: Path, valkey_with_acl: tuple[str, str]) -> None:
    redis_url, admin_url = valkey_with_acl
    with mongod_with_users(tmp_path) as mongodb_url:
        with running_stack(tmp_path, mongodb_url, redis_url, RECORDING="off", LOG_FORMAT="json") as stack:
            wallet = play_a_funded_show(stack)
            logs = stack.logs
        assert wallet["balance"] == 100, logs()
        assert "wallet.updated" in {told.event for told in stack.pusher.told}
        # A changed setting changes an index, for which `collMod` is not in the role.
        environment = {**os.environ, "GOALSVC_MONGODB_URL": mongodb_url, "GOALSVC_REDIS_URL": redis_url}
        migrate = subprocess.run(
            [sys.executable, "-m", "goalsvc", "migrate"],
            env={**environment, "GOALSVC_TRACE_DAYS": "7", "GOALSVC_API_KEY": "k"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "made traces.end" in migrate.stdout, migrate.stdout + migrate.stderr
        with MongoClient[dict[str, Any]](mongodb_url) as client, pytest.raises(PyMongoError):
            client["another"]["collection"].insert_one({})
    with closing(Redis.from_url(admin_url)) as admin:
        assert command(admin, "ACL", "LOG") == [], "nothing was refused"
    lines = [json.loads(line) for line in logs().splitlines()]
    assert {"uvicorn.error", "goalsvc.audit", "goalsvc.worker"} <= {line["logger"] for line in lines}
    assert "not authorized" not in logs()
    assert "NOPERM" not in logs()


def test_a_right_that_is_missing_is_said(valkey_with_acl: tuple[str, str]) -> None:
    redis_url, admin_url = valkey_with_acl
    with closing(Redis.from_url(admin_url)) as admin:
        command(admin, "ACL", "SETUSER", "goalsvc", "-evalsha", "-zadd")
    complaint = redis_complaint(redis_url)
    assert complaint is not None
    assert complaint.lasting
    assert complaint.text == (
        "GOALSVC_REDIS_URL: the user may not run all commands that are needed (evalsha, zadd): see docs/operations.md"
    )


@contextmanager
def valkey_as(*words: str, directory: Path) -> Iterator[str]:
    port = free_port()
    started = (str(find_valkey()), *words, "--port", str(port), "--bind", HOST, "--dir", str(directory))
    with _running([Part("valkey", started, lambda _: is_listening(port))], directory):
        yield f"redis://{HOST}:{port}/0"


def test_a_cluster_is_refused_in_one_sentence(tmp_path: Path) -> None:
    words = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with valkey_as(*words, directory=tmp_path) as url:
        with closing(Redis.from_url(url)) as node:
            while_down = redis_complaint(url)
            command(node, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            assert holds_within(10, lambda: b"cluster_state:ok" in command(node, "CLUSTER", "INFO"))
        for complaint in (while_down, redis_complaint(url)):
            assert complaint is not None
            assert complaint.lasting
            assert complaint.text == (
                "GOALSVC_REDIS_URL: is a Redis Cluster; goalsvc needs one primary, whose keys are all in one place"
            )


def test_a_sentinel_is_refused_in_one_sentence(tmp_path: Path) -> None:
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text("")
    with valkey_as(str(configuration), "--sentinel", directory=tmp_path) as url:
        complaint = redis_complaint(url)
    assert complaint is not None
    assert complaint.lasting
    assert complaint.text == "GOALSVC_REDIS_URL: is a Sentinel; name the address of the primary that it watches"


def test_a_user_of_mongodb_without_the_role_is_refused(tmp_path: Path) -> None:
    with mongod_with_users(tmp_path) as url:
        complaint = mongodb_complaint(url.replace("/goalsvc?", "/other?authSource=goalsvc&"))
    assert complaint is not None
    assert complaint.text == "GOALSVC_MONGODB_URL: the user may not use the database (role readWrite)"
