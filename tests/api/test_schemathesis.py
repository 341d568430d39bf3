"""Schemathesis on the whole OpenAPI document, against `goalsvc serve` on the real database and the real Valkey.

Each operation is called with what its document allows and with what it forbids: the examples, the edges of every schema, and
values drawn by a fixed seed. Whatever the answer, it must be one that the document tells of. Most callers have the right
credentials and ask for documents that there are, so that the handlers are reached: an answer that was never got fails too.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import jwt
import pytest
import schemathesis
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from goalsvc.app import create_app
from goalsvc.clock import to_epoch_milliseconds
from goalsvc.devstack.ports import HOST, free_port, http_status
from goalsvc.devstack.process import bound_to_this_process
from goalsvc.devstack.waiting import holds_within
from goalsvc.settings import Settings
from tests.world import empty

from .app import JWT_KEY, sign

pytestmark = pytest.mark.real

Document = dict[str, Any]

#: How many requests are drawn for each operation, beside the examples and the edges, whose number the document gives.
DRAWN = 25
SEED = 4

API_KEY, PUSHER_KEY, PUSHER_SECRET = "an-api-key-never-shown", "app-key", "a-secret-never-shown"
STREAMER, VIEWER, POOR = "u-alice-1", "u-bob-2", "u-carol-3"

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
    unsupported_method,
]

LONGEST_SECONDS = 20

#: Answers that a request of the documented form does not get here: nothing is that large, out of reach, or expired.
NOT_TRIED = {"410", "413", "503"}

#: Answers that no request gets here, and why.
NOT_REACHED: Mapping[str, frozenset[str]] = {
    # Without a body, an Idempotency-Key cannot be used for another one.
    "POST /v1/reports/seals": frozenset({"409"}),
    "POST /v1/webhook-endpoints/{endpoint_id}/rotate": frozenset({"409"}),
    "POST /v1/events/{event_id}/resend": frozenset({"409"}),
    "GET /metrics": frozenset({"401"}),  # GOALSVC_METRICS_KEY is not set here
}


def _schema() -> Any:
    app = create_app(Settings(mongodb_url="mongodb://127.0.0.1/unused", redis_url="redis://127.0.0.1"))
    generation = {
        "max-examples": DRAWN,
        "deterministic": True,
        "no-shrink": True,
        "database": "none",
        "with-security-parameters": False,  # `Credentials` gives them
    }
    # What was answered before must not bear on what is drawn: each run is to send the same.
    fuzzing = {"extra-data-sources": {"responses": False}, "error-feedback": {"enabled": False}}
    # A body of more than 1 MiB is refused as that, whatever else is wrong with it.
    rejected = {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 406, 409, 413, 415, 422]}}
    given = {
        "seed": SEED,
        "generation": generation,
        "phases": {"fuzzing": fuzzing},
        "suppress-health-check": ["all"],
        "checks": rejected,
    }
    config = SchemathesisConfig.from_dict(given)
    return schemathesis.openapi.from_dict(json.loads(json.dumps(app.openapi())), config=config)


#: A stream does not end by itself; `tests/events` reads each of them.
SCHEMA = _schema().exclude(path=["/v1/events/stream", "/v1/activity/stream"])


# -- who asks ---------------------------------------------------------------------------------------------------------


@dataclass
class Credentials(AuthBase):
    """Adds to a request what its operation asks for: the right one, a wrong one, or nothing."""

    operation: str
    kind: str = "right"
    poor: str = ""
    """A key without the scope."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if self.kind == "none":
            return request
        wrong = "x" if self.kind == "wrong" else ""
        if self.operation == "POST /notify/pusher":
            body: Any = request.body.encode() if isinstance(request.body, str) else request.body or b""
            request.headers["X-Pusher-Key"] = PUSHER_KEY
            request.headers["X-Pusher-Signature"] = sign(body, PUSHER_SECRET + wrong)
        elif self.operation == "POST /pusher/auth":
            token = jwt.encode({"sub": STREAMER}, JWT_KEY + wrong, "HS256")
            request.headers["Authorization"] = f"Bearer {token}"
        elif self.kind == "poor":
            request.headers["Authorization"] = f"Bearer {self.poor}"
        else:
            request.headers["Authorization"] = f"Bearer {API_KEY}{wrong}"
        return request


# -- what there is ----------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """Calls the API, mostly about what there is; each answer is looked at, and counted."""

    url: str
    known: dict[str, list[Any]]
    """What may stand in place of a drawn value, by the value's name, or by operation and name."""
    operation: str = ""
    documented: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)

    taken: Counter[str] = field(default_factory=Counter)

    def call(self, case: Case[Any]) -> None:
        number = self.answers.total()
        self.operation, self.documented = case.operation.label, set(case.operation.responses.status_codes)
        self._shorten(case)
        if number % 4:
            self._fill_in(case)
        if "304" in self.documented and number % 5 == 1:
            case.headers["If-None-Match"] = "*"
        kind = {3: "none", 6: "wrong", 8: "poor"}.get(number % 9, "right")
        required = case.operation.definition.raw.get("x-required-scope")
        poor = self.known["poor keys"][required == "read"]
        kind = kind if required or kind != "poor" else "right"
        answer = case.call(base_url=self.url, auth=Credentials(self.operation, kind, poor), timeout=LONGEST_SECONDS)
        self.answers[str(answer.status_code)] += 1
        case.validate_response(answer, checks=CHECKS)
        if kind in ("none", "wrong") and "401" in self.documented and answer.status_code != 401:
            # Only a method that the path does not have is refused before anybody asks who is there.
            # OPTIONS names the methods of a path, to every caller.
            refused_or_named = answer.status_code == 405 or (answer.status_code == 204 and case.method == "OPTIONS")
            assert refused_or_named, f"{answer.status_code} with {kind} credentials"

    def _shorten(self, case: Case[Any]) -> None:
        """Waits for no event: nothing happens here. `tests/events/test_feed.py` does wait."""
        assert case.meta is not None
        for location, drawn in case.meta.components.items():
            container = case.get_container(location)
            if drawn.mode.is_positive and isinstance(container, dict) and "wait" in container:
                container["wait"] = 0

    def _fill_in(self, case: Case[Any]) -> None:
        """Puts what there is in place of what was drawn; what was drawn to be wrong stays wrong."""
        assert case.meta is not None
        for location, drawn in case.meta.components.items():
            container = case.get_container(location)
            if drawn.mode.is_positive and isinstance(container, dict):
                container.update({name: self._known(name, container[name]) for name in list(container)})
                if self.operation == "POST /notify/pusher":
                    container["time_ms"] = to_epoch_milliseconds(datetime.now(UTC))

    def _known(self, name: str, drawn: Any) -> Any:
        """The next of those that there are of that name, in turn."""
        values = self.known.get(f"{self.operation} {name}") or self.known.get(name) or [drawn]
        self.taken[name] += 1
        return values[self.taken[name] % len(values)]


def goal_of(client: httpx.Client, session: str, kind: str, **changes: Any) -> str:
    target = 10**6 if kind == "FundingGoal" else 86_400
    levels = [] if kind == "TriggerGoal" else [{"title": "Songs", "target": target}]
    body = {"kind": kind, "session_id": session, "levels": levels, **changes}
    made: str = client.post("/v1/goals", json=body).raise_for_status().json()["id"]
    return made


def prepare(client: httpx.Client, documents: MongoClient[Document]) -> dict[str, list[Any]]:
    """Makes a livestream with goals, some of which have ended, and tokens; what all that is called."""
    for user in (STREAMER, VIEWER):
        client.post(
            f"/v1/wallets/{user}/deposits", json={"amount": 10**6}, headers={"Idempotency-Key": "first"}
        ).raise_for_status()
    session, ended = (client.post("/v1/sessions", json={"user_id": STREAMER}).json()["id"] for _ in range(2))
    client.post(f"/v1/sessions/{ended}/end").raise_for_status()
    plan = {"title": "A private minute", "target": 360}
    show = goal_of(client, session, "ShowGoal")
    over = goal_of(client, session, "ShowGoal")
    client.post(f"/v1/goals/{over}/end").raise_for_status()
    funding = goal_of(client, session, "FundingGoal", metadata={"show": plan})
    requests = [
        goal_of(client, session, "TriggerGoal", metadata={"viewer_id": VIEWER, "exclusive": plan}) for _ in "12"
    ]
    letter = f"goals/{show}/escrow_out"
    death = {"at": datetime.now(UTC), "reason": "external_service: byteplus: HTTP 500", "tries": 7}
    dead = {"task": "escrow_out", "arguments": {}, "state": "dead", "goal_id": show, "history": [death]}
    documents.get_default_database()["dead_letters"].insert_one({"_id": letter, **death, **dead})
    redrive = client.post("/v1/redrives", json={"task": "escrow_out"}).raise_for_status().json()["id"]
    poor = [
        client.post("/v1/keys", json={"name": scope, "scopes": [scope]}).raise_for_status().json()["key"]
        for scope in ("read", "admin")
    ]
    rolled = client.post("/v1/keys", json={"name": "rolled", "scopes": ["read"]}).raise_for_status().json()["id"]
    client.put(f"/v1/users/{VIEWER}", json={"username": "Vera"}).raise_for_status()
    withdrawal = (
        client.post(f"/v1/wallets/{VIEWER}/withdrawals", json={"amount": 1}, headers={"Idempotency-Key": "first"})
        .raise_for_status()
        .json()["id"]
    )
    database = documents.get_default_database()
    event = database["events"].find_one()
    assert event is not None
    ended_withdrawals = _ended_withdrawals(client)
    deposit, tip = _deposit_and_tip(client)
    _users_to_erase(client)
    clips = _clips(database, session, show)
    recording = json.dumps({"body": json.dumps({"time_ms": 1, "events": []})})
    rehearsal = client.post("/v1/replays/rehearsal", json={"recording": recording}).raise_for_status().json()
    endpoint = client.post("/v1/webhook-endpoints", json={"url": "https://backend.example.com/hook"}).json()["id"]
    return {
        "transfer_id": [deposit],
        "POST /v1/deposits/{transfer_id}/reverse transfer_id": [tip, deposit],
        "event_id": [event["_id"]],
        "endpoint_id": [endpoint],
        "clip_id": clips,
        "withdrawal_id": [withdrawal],
        "POST /v1/withdrawals/{withdrawal_id}/confirm withdrawal_id": [withdrawal, ended_withdrawals["return"]],
        "POST /v1/withdrawals/{withdrawal_id}/return withdrawal_id": [withdrawal, ended_withdrawals["confirm"]],
        "POST /v1/goals/{goal_id}/refund goal_id": [_paid_goal(database, session), show],
        "POST /v1/goals/{goal_id}/refund amount": [1],
        "recording": [recording],
        "keep_time": [False],
        "digest": [rehearsal["digest"], "0" * 64],
        "POST /v1/reconciliation goal_id": [show, "f" * 24],
        "PUT /v1/users/{user_id} user_id": [VIEWER, "erased"],
        "DELETE /v1/users/{user_id} user_id": [VIEWER, "to-erase"],
        "poor keys": poor,
        "key_id": [rolled],
        "Idempotency-Key": ["the-same", *(f"key-{number}" for number in range(3))],
        "If-None-Match": ["*", "other"],
        "session_id": [session],
        "POST /v1/goals kind": [
            f"{kind}Goal" for kind in ("Trigger", "Show", "Funding", "Trigger", "Karaoke", "Exclusive", "Trigger")
        ],
        "POST /v1/goals session_id": [session, session, session, ended],
        "POST /v1/goals levels": [[{"title": "Songs", "target": 360}]],
        "POST /v1/goals exp": ["2999-12-31T20:00:00Z"],
        "POST /v1/goals conditions": [{}],
        "POST /v1/goals metadata": [
            {"show": plan, "exclusive": plan, "viewer_id": viewer, "private": True, "price": 300}
            for viewer in (VIEWER, POOR)
        ]
        + [{"show": plan, "exclusive": plan, "viewer_id": VIEWER}],
        "events": [[{"name": "member_added", "channel": f"presence-enc-goal@{show}", "user_id": STREAMER}]],
        "goal_id": [show, funding, requests[0]],
        "PATCH /v1/goals/{goal_id} goal_id": [show, over],
        "POST /v1/goals/{goal_id}/agree goal_id": [*requests, show],
        "POST /v1/goals/{goal_id}/decline goal_id": [*requests, show],
        "POST /v1/goals/{goal_id}/contributions goal_id": [funding, funding, show],
        "user_id": [VIEWER],
        "viewer_id": [VIEWER],
        "POST /v1/goals/{goal_id}/contributions user_id": [VIEWER, POOR],
        "POST /v1/goals/{goal_id}/agree user_id": [STREAMER],
        "channel": [f"private-stream@{STREAMER}"],
        "channel_name": [
            f"presence-enc-goal@{show}",
            f"presence-enc-goal@{over}",
            f"presence-enc-goal@{ended}",
            f"private-stream@{STREAMER}",
            f"private-user@{VIEWER}",
        ],
        "socket_id": ["1234.1234"],
        "escrow_id": [f"show_funding:{funding}"],
        "letter_id": [letter],
        "redrive_id": [redrive],
    }


def _ended_withdrawals(client: httpx.Client) -> dict[str, str]:
    """A withdrawal that was returned, and one that was confirmed."""
    ended = {}
    for verb in ("return", "confirm"):
        path, headers = f"/v1/wallets/{VIEWER}/withdrawals", {"Idempotency-Key": verb}
        made = client.post(path, json={"amount": 1}, headers=headers).raise_for_status().json()["id"]
        client.post(f"/v1/withdrawals/{made}/{verb}").raise_for_status()
        ended[verb] = made
    return ended


def _deposit_and_tip(client: httpx.Client) -> tuple[str, str]:
    """A deposit that can be reversed, and a transfer that is none."""
    bodies = {
        f"/v1/wallets/{VIEWER}/deposits": {"amount": 5},
        "/v1/transfers": {"from_user_id": VIEWER, "to_user_id": STREAMER, "amount": 5},
    }
    headers = {"Idempotency-Key": "second"}
    made = [client.post(path, json=body, headers=headers).raise_for_status() for path, body in bodies.items()]
    return made[0].json()["id"], made[1].json()["id"]


def _users_to_erase(client: httpx.Client) -> None:
    """A user who was erased, and one without tokens who can be."""
    for user in ("erased", "to-erase"):
        client.put(f"/v1/users/{user}", json={"username": user}).raise_for_status()
    client.delete("/v1/users/erased").raise_for_status()


def _clips(database: Database[Document], session: str, goal: str) -> list[str]:
    """A clip that failed, and one that is still to be cut; no worker runs here that would make one."""
    now = datetime.now(UTC)
    about = {
        "user_id": STREAMER,
        "goal_id": ObjectId(goal),
        "metadata": {"source": {"cls": "Session", "id": ObjectId(session)}},
        "wanted": {"begins_at": now, "duration": 30, "completed_at": now},
        "created_at": now,
    }
    failed = {"_id": ObjectId(), "state": "failed", "failed_at": now, "reason": "clip_impossible: gone", **about}
    made = database["assets"].insert_many([failed, {"_id": ObjectId(), "state": "pending", **about}])
    return [str(identity) for identity in made.inserted_ids]


def _paid_goal(database: Database[Document], session: str) -> str:
    """A FundingGoal that has paid 1,000 tokens to its streamer."""
    goal, earning = ObjectId(), ObjectId()
    escrow = f"show_funding:{goal}"
    database["goals"].insert_one(
        {
            "_id": goal,
            "_cls": "Goal.FundingGoal",
            "active": False,
            "conditions": {"session_id": ObjectId(session)},
            "metadata": {"user_id": STREAMER},
        }
    )
    held = {"_id": earning, "user_id": STREAMER, "from_user_id": VIEWER, "amount": 1000, "state": "paid"}
    database["earnings"].insert_one(held | {f"_{escrow}": str(goal)})
    database["transfers"].insert_one(
        {
            "_id": f"escrow-{escrow}-{earning}-{STREAMER}",
            "debit": f"escrow:{escrow}",
            "credit": f"user:{STREAMER}",
            "to_user_id": STREAMER,
            "amount": 1000,
            "tags": [f"escrow::{escrow}"],
            "metadata": {"doc_id": str(earning), "user_id": STREAMER},
            "created_at": datetime.now(UTC),
        }
    )
    return str(goal)


# -- where it runs ----------------------------------------------------------------------------------------------------


class NobodyIsThere(BaseHTTPRequestHandler):
    """Pusher, for whoever asks it: no channel is occupied."""

    def do_GET(self) -> None:
        body = b'{"channels": {}, "users": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def pusher() -> Iterator[int]:
    """The port of a Pusher that can be asked."""
    with ThreadingHTTPServer((HOST, 0), NobodyIsThere) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def serve(mongodb_url: str, redis_url: str, pusher: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a `goalsvc serve`. When it has stopped, its log is looked at."""
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "serve.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
    own = {
        "MONGODB_URL": mongodb_url,
        "REDIS_URL": redis_url,
        "PUSHER_APP_ID": "1",
        "PUSHER_KEY": PUSHER_KEY,
        "PUSHER_SECRET": PUSHER_SECRET,
        "PUSHER_HOST": HOST,
        "PUSHER_PORT": str(pusher),
        "PUSHER_SSL": "false",
        "API_KEY": API_KEY,
        "JWT_KEY": JWT_KEY,
        "LOG_LEVEL": "DEBUG",
        "TEST_EVENTS": "on",
    }
    environment = inherited | {f"GOALSVC_{name}": value for name, value in own.items()}
    command = bound_to_this_process([sys.executable, "-m", "goalsvc", "serve", "--port", str(port)])
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
        try:
            assert holds_within(30, lambda: http_status(port, "/readyz") == 200), log.read_text()
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()
    told = log.read_text()
    assert "Traceback" not in told, told
    assert not any(secret in told for secret in (API_KEY, PUSHER_SECRET, JWT_KEY))


@pytest.fixture
def scene(serve: str, all_documents: MongoClient[Document]) -> Iterator[Scene]:
    """The API, and something to ask it about. In the end each answer that the operation's document tells of was got."""
    empty(all_documents)
    with httpx.Client(base_url=serve, headers={"Authorization": f"Bearer {API_KEY}"}, trust_env=False) as client:
        scene = Scene(serve, prepare(client, all_documents))
    yield scene
    never = scene.documented - NOT_TRIED - set(scene.answers) - NOT_REACHED.get(scene.operation, frozenset())
    assert not never, f"{scene.operation} never answered {never}, but {dict(scene.answers)}"
    reached = NOT_REACHED.get(scene.operation, frozenset()) & set(scene.answers)
    assert not reached, f"{scene.operation} did answer {reached}; NOT_REACHED is to say what is true"


@SCHEMA.parametrize()
def test_every_answer_is_one_that_the_document_tells_of(case: Case[Any], scene: Scene) -> None:
    scene.call(case)
