"""The real thing, seen from outside: `goalsvc dev` as processes, clients over HTTP, documents through PyMongo."""

import asyncio
import hmac
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import httpx
from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from goalsvc.devstack.process import birth_of
from goalsvc.domain.ids import derived_id

from .oracle import performed_share, sums_of

Document = dict[str, Any]

PUSHER_KEY, PUSHER_SECRET, API_KEY = "goalsvc-key", "goalsvc-secret", "goalsvc-api-key"
#: How long all may take to come to rest after the last kill.
SETTLE_SECONDS = 240.0
#: What is owed for longer than this, while nobody is killed, is worth a look.
LONG_SECONDS = 20.0
#: No request is held up for longer once nothing is killed any more.
HELD_UP_SECONDS = 45.0
#: How many viewers pay at once, where a crowd does.
CROWD = 60
#: Pusher waits so long for an answer.
PUSHER_ANSWER_SECONDS = 4.0


class DevStack:
    """A `goalsvc dev` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self._errors = directory / "stderr"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
        words = [sys.executable, "-m", "goalsvc", "dev", "--json", "--port", "0", "--data-dir", str(self.data)]
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.told()
        self.addresses: dict[str, Any] = json.loads(line)

    def told(self) -> str:
        """What it said on standard error."""
        return self._errors.read_text()

    def pid(self, part: str) -> int | None:
        """The process that is that part at this moment; the same id may be another's after a restart, so its birth counts."""
        try:
            entry = json.loads((self.data / "running.json").read_text())[part]
        except (OSError, ValueError, KeyError):
            return None
        return int(entry["pid"]) if birth_of(entry["pid"]) == entry["birth"] else None

    def signal(self, part: str, how: signal.Signals) -> bool:
        """Sends the signal; whether there was anybody to get it."""
        pid = self.pid(part)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, how)
            return True
        return False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=60)


@asynccontextmanager
async def dev_stack() -> AsyncIterator[DevStack]:
    """A `goalsvc dev` that is stopped, and forgotten, on leaving."""
    with tempfile.TemporaryDirectory(prefix="goalsvc-faults-", ignore_cleanup_errors=True) as name:
        stack = await asyncio.to_thread(DevStack, Path(name))
        try:
            yield stack
        finally:
            await asyncio.to_thread(stack.stop)


@dataclass(slots=True)
class Tally:
    """What clients did and met."""

    shows: int = 0
    requests: int = 0
    repeated: int = 0
    webhooks: int = 0
    webhooks_repeated: int = 0
    unavailable: int = 0
    """Answered with 503."""
    cut_off: int = 0
    """Sent, and never answered: the connection broke."""


@dataclass(slots=True)
class PlayedShow:
    """One livestream as its clients know it: what they were told, and what must come of it."""

    streamer: str
    session_id: str = ""
    deposits: Counter[str] = field(default_factory=Counter)
    gifts: dict[str, int] = field(default_factory=dict)
    funding_id: str = ""
    target: int = 0
    show_seconds: int = 0
    performed: int = 0
    request_id: str = ""
    price: int = 0
    viewer: str = ""
    private_seconds: int = 0
    performed_privately: int = 0

    @property
    def show_id(self) -> str:
        return str(derived_id(ObjectId(self.funding_id), "show"))

    @property
    def exclusive_id(self) -> str:
        return str(derived_id(ObjectId(self.request_id), "exclusive"))


class Clients:
    """Pusher and integrators: they repeat what was not answered, as the real ones do."""

    def __init__(self, addresses: Mapping[str, Any], random: Random, *, keep_alive: bool = True) -> None:
        self._http = httpx.AsyncClient(
            base_url=addresses["api_url"],
            headers={"authorization": f"Bearer {API_KEY}"},
            timeout=10.0,
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=None if keep_alive else 0),
            trust_env=False,
        )
        self._random = random
        self.tally = Tally()
        self.wrong: list[str] = []
        self.calm_since = 0.0
        """Since when nothing is killed, by the monotonic clock; infinite for as long as something is."""

    async def close(self) -> None:
        await self._http.aclose()

    async def insist(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response:
        """Repeats a request until there is a final answer."""
        headers = {"idempotency-key": key} if key is not None else {}
        rest = 0.1
        began, told = time.monotonic(), False
        while True:
            if not told and time.monotonic() > max(began, self.calm_since) + HELD_UP_SECONDS:
                told = True
                self.wrong.append(f"{method} {path} was held up for more than {HELD_UP_SECONDS:g} s")
            self.tally.requests += 1
            with self._broken():
                answer = await self._http.request(method, path, json=body, headers=headers)
                self.tally.unavailable += answer.status_code == 503
                if answer.status_code == 500:
                    self.wrong.append(f"{method} {path} was answered with 500: {answer.text}")
                if answer.status_code < 500:
                    return answer
            self.tally.repeated += 1
            await asyncio.sleep(rest * self._random.uniform(0.5, 1.5))
            rest = min(rest * 2, 2.0)

    @contextmanager
    def _broken(self) -> Iterator[None]:
        """Counts a connection that breaks; one that could not be made in the first place did no harm."""
        try:
            yield
        except httpx.ConnectError:
            return
        except httpx.TransportError:
            self.tally.cut_off += 1

    async def make(self, path: str, body: Mapping[str, Any]) -> str:
        """Makes something that has no Idempotency-Key: the last one that was made counts, others stay unused."""
        answer = await self.insist("POST", path, body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def webhook(self, at_ms: int, *events: Mapping[str, Any]) -> None:
        """Tells of events at that time until it is answered with 200."""
        body = json.dumps({"time_ms": at_ms, "events": events}).encode()
        signature = hmac.new(PUSHER_SECRET.encode(), body, sha256).hexdigest()
        headers = {"x-pusher-key": PUSHER_KEY, "x-pusher-signature": signature, "content-type": "application/json"}
        rest = 0.1
        self.tally.webhooks += 1
        while True:
            with self._broken():
                answer = await self._http.post(
                    "/notify/pusher", content=body, headers=headers, timeout=PUSHER_ANSWER_SECONDS
                )
                if answer.status_code == 200:
                    return
                self.tally.unavailable += answer.status_code == 503
                if answer.status_code != 503:
                    self.wrong.append(f"a webhook was answered with {answer.status_code}: {answer.text}")
            self.tally.webhooks_repeated += 1
            await asyncio.sleep(rest * self._random.uniform(0.5, 1.5))
            rest = min(rest * 2, 5.0)

    async def perform(self, goal_id: str, user: str, begun_ms: int, seconds: int) -> None:
        """Tells of a join and the leave that followed: each by two events, one or two webhooks, some of them twice."""
        channel = f"presence-enc-goal@{goal_id}"
        told = []
        for name, twin, at in (
            ("member_added", "channel_occupied", begun_ms),
            ("member_removed", "channel_vacated", begun_ms + seconds * 1000),
        ):
            events = [{"name": name, "channel": channel, "user_id": user}, {"name": twin, "channel": channel}]
            self._random.shuffle(events)
            if self._random.random() < 0.5:
                told.append(self.webhook(at, *events))
            else:
                told += [self.webhook(at, event) for event in events]
            if self._random.random() < 0.3:
                told.append(self.webhook(at, events[0]))
        self._random.shuffle(told)
        await asyncio.gather(*told)

    async def goal(self, goal_id: str) -> Document | None:
        """The goal as the API tells it; None while there is none."""
        answer = await self.insist("GET", f"/v1/goals/{goal_id}")
        return dict(answer.json()) if answer.status_code == 200 else None

    async def until(self, goal_id: str, seconds: float = 120.0, **wanted: Any) -> bool:
        """Waits until the goal is there and is like that; whether it came to be, within so long while nothing is killed."""
        began = time.monotonic()
        while time.monotonic() < max(began, self.calm_since) + seconds:
            goal = await self.goal(goal_id)
            if goal is not None and all(goal.get(name) == value for name, value in wanted.items()):
                return True
            await asyncio.sleep(0.05)
        return False


async def play_livestream(clients: Clients, random: Random) -> PlayedShow:
    """A livestream: a show is paid for and performed, more or less of it; a private minute is asked for, too."""
    played = PlayedShow(f"u-{uuid.UUID(int=random.getrandbits(128)).hex[:12]}")
    streamer = played.streamer
    await clients.insist("PUT", f"/v1/users/{streamer}", {"tags": ["banned:livestream:create_clip"]})
    room = {"room_id": f"room-{streamer}"}
    played.session_id = await clients.make("/v1/sessions", {"user_id": streamer, "rtc": room})
    played.target, played.show_seconds = random.randrange(50, 500), random.randrange(20, 60)
    plan = {
        "kind": "FundingGoal",
        "session_id": played.session_id,
        "levels": [{"title": "Fund it", "target": played.target}],
        "metadata": {"show": {"title": "Ukulele", "target": played.show_seconds}},
    }
    played.funding_id = await clients.make("/v1/goals", plan)
    viewers = CROWD if random.random() < 0.1 else random.randrange(1, 6)
    await asyncio.gather(*(_give(clients, random, played, number) for number in range(viewers)))
    if sum(played.gifts.values()) >= played.target:
        assert await clients.until(played.show_id), f"the show of {played} does not begin"
        await _perform_show(clients, random, played)
    await _private_minute(clients, random, played)
    await clients.insist("POST", f"/v1/sessions/{played.session_id}/end")
    clients.tally.shows += 1
    return played


async def _give(clients: Clients, random: Random, played: PlayedShow, number: int) -> None:
    """One viewer's wallet is filled, and they give; their client sends it twice at once, now and then.

    Of a crowd every tenth has no tokens.
    """
    viewer, amount, poor = f"{played.streamer}-v{number}", random.randrange(10, 300), number % 10 == 9
    if not poor:
        await clients.insist("POST", f"/v1/wallets/{viewer}/deposits", {"amount": 1000}, f"deposit-{viewer}")
        played.deposits[viewer] += 1000
    body, path = {"user_id": viewer, "amount": amount}, f"/v1/goals/{played.funding_id}/contributions"
    times = random.choice([1, 1, 2])
    answers = await asyncio.gather(*(clients.insist("POST", path, body, f"gift-{viewer}") for _ in range(times)))
    statuses = {answer.status_code for answer in answers}
    if (201 in statuses and len(statuses) > 1) or not statuses <= ({402, 409} if poor else {201, 409}):
        clients.wrong.append(f"a contribution of {viewer} was answered with {statuses}")
    if 201 in statuses:
        played.gifts[viewer] = amount


async def _perform_show(clients: Clients, random: Random, played: PlayedShow) -> None:
    """Turn by turn, in the last minutes; the target is reached by the last turn, or never."""
    turns = random.randrange(1, 5)
    completes = random.random() < 0.7
    at = int(time.time() - 600.0) * 1000
    seconds = played.show_seconds + random.randrange(0, 5) if completes else played.show_seconds - 1
    cuts = sorted(random.sample(range(1, min(seconds, played.show_seconds)), turns - 1))
    for length in (after - before for before, after in zip([0, *cuts], [*cuts, seconds], strict=True)):
        await clients.perform(played.show_id, played.streamer, at, length)
        played.performed += length
        at += length * 1000 + random.randrange(500, 30_000)
    if completes:
        assert await clients.until(played.show_id, active=False), f"{played} was performed and does not end"


async def _private_minute(clients: Clients, random: Random, played: PlayedShow) -> None:
    if random.random() < 0.5:
        return
    viewer, seconds, price = f"{played.streamer}-x", random.randrange(10, 60), random.randrange(10, 500)
    await clients.insist("POST", f"/v1/wallets/{viewer}/deposits", {"amount": price}, f"deposit-{viewer}")
    played.deposits[viewer] += price
    metadata = {"viewer_id": viewer, "private": True, "price": price}
    plan = {
        "kind": "TriggerGoal",
        "session_id": played.session_id,
        "metadata": {**metadata, "exclusive": {"title": "A private minute", "target": seconds}},
    }
    answer = await clients.insist("POST", "/v1/goals", plan)
    if answer.status_code != 201:
        return  # an earlier try came through, its answer was lost, and the wallet is empty now: that request is never agreed to
    played.viewer, played.price, played.private_seconds = viewer, price, seconds
    played.request_id = answer.json()["id"]
    agreed = await clients.insist("POST", f"/v1/goals/{played.request_id}/agree")
    if agreed.status_code != 200 and not await _was_agreed(clients, played):
        return
    assert await clients.until(played.exclusive_id), f"the exclusive of {played} does not begin"
    if random.random() < 0.8:
        played.performed_privately = seconds + 2 if random.random() < 0.5 else random.randrange(1, seconds)
        begun_ms = int(time.time() - 300.0) * 1000
        await clients.perform(played.exclusive_id, played.streamer, begun_ms, played.performed_privately)


async def _was_agreed(clients: Clients, played: PlayedShow) -> bool:
    goal = await clients.goal(played.request_id)
    if goal is None or goal.get("triggerer") is None:
        played.request_id = ""
        return False
    return True


# -- afterwards -----------------------------------------------------------------------------------------------------------


def promises_of(documents: Any) -> list[tuple[str, Document]]:
    """All that is owed, each with whose it is; also a settlement that is under way, which is due again later.

    Not the look, a minute later, at an exclusive that was paused: nothing else waits for it.
    """
    owed, now = [], datetime.now(UTC)
    for name in ("goals", "sessions", "users"):
        for document in documents[name].find({"promises.0": {"$exists": True}}, {"promises": 1}):
            whose = f"{name}/{document['_id']}"
            looks = (each for each in document["promises"] if each["task"] == "deactivate_goal" and each["at"] > now)
            later = [each["id"] for each in looks]
            owed += [(whose, each) for each in document["promises"] if each["id"] not in later]
    return owed


async def settle(clients: Clients, addresses: Mapping[str, Any], wrong: list[str]) -> tuple[float, int]:
    """Waits until nothing is owed and nothing is active; how long that took, and how many dead letters were redriven."""
    began, redriven, told, quiet = time.monotonic(), 0, False, False
    with MongoClient[Document](addresses["mongodb_url"], tz_aware=True, serverSelectionTimeoutMS=30_000) as client:
        documents = client.get_default_database()
        while True:
            with suppress(PyMongoError):
                letters = [letter["_id"] for letter in documents["dead_letters"].find({"state": "dead"})]
                for letter in letters:
                    redriven += 1
                    await clients.insist("POST", f"/v1/dead-letters/{letter}/redrive")
                owed, active = promises_of(documents), documents["goals"].count_documents({"active": True})
                # Twice in a row: a follow_up that moves from a session to its goals meanwhile is not seen by one look at both.
                quiet, before = not letters and not owed and not active, quiet
                if quiet and before:
                    return time.monotonic() - began, redriven
                if not told and time.monotonic() - began > LONG_SECONDS:
                    told = True
                    for whose, promise in owed[:5]:
                        print(
                            f"still owed after {LONG_SECONDS:g} s: {whose} {promise['task']} since {promise['at']:%X}"
                        )
                if time.monotonic() - began > SETTLE_SECONDS:
                    wrong.append(f"{active} goals are active and {len(owed)} promises owed after {SETTLE_SECONDS} s")
                    wrong += [
                        f"{whose} owes {p['task']} since {p['at']} ({datetime.now(UTC)})" for whose, p in owed[:10]
                    ]
                    return time.monotonic() - began, redriven
            await asyncio.sleep(0.5)


async def audited(clients: Clients) -> list[str]:
    """What the audit of the books finds."""
    report = (await clients.insist("GET", "/v1/reports/audit")).json()
    return [f"{finding['code']}: {finding['message']}" for finding in report["findings"]]


def violations_of(addresses: Mapping[str, Any], shows: list[PlayedShow], recorded: list[Document]) -> list[str]:
    """What is wrong with the documents, by what clients know."""
    with MongoClient[Document](addresses["mongodb_url"], tz_aware=True) as client:
        database = client.get_default_database()
        contents = {name: list(database[name].find()) for name in ("goals", "accounts", "transfers", "earnings")}
        ends = Counter(event["goal_id"] for event in database["tracking_events"].find({"name": "goal.ended"}))
    goals = {str(goal["_id"]): goal for goal in contents["goals"]}
    accounts = {account["_id"]: account["balance"] for account in contents["accounts"]}
    found = _books(contents, accounts)
    settled = Counter(
        transfer["metadata"].get("doc_id")
        for transfer in contents["transfers"]
        if transfer["_id"].startswith(("escrow-show_funding", "refund-show_funding"))
    )
    found += [
        f"earning {earning['_id']} was settled {settled[str(earning['_id'])]} times"
        for earning in contents["earnings"]
        if settled[str(earning["_id"])] != 1
    ]
    found += [f"goal {goal} ended {times} times" for goal, times in ends.items() if times != 1]
    for played in shows:
        found += _played(played, goals, accounts, recorded)
    return found


def _books(contents: Mapping[str, list[Document]], accounts: Mapping[str, int]) -> list[str]:
    found = [] if sum(accounts.values()) == 0 else [f"all accounts sum to {sum(accounts.values())}"]
    for account, expected in sums_of(contents["transfers"]).items():
        if accounts.get(account, 0) != expected:
            found.append(f"{account} holds {accounts.get(account, 0)}, its transfers come to {expected}")
    for account, balance in accounts.items():
        if balance < 0 and account != "issuer":
            found.append(f"{account} holds {balance}")
        if account.startswith("escrow:") and balance:
            found.append(f"{account} still holds {balance}")
    return found


def _played(
    played: PlayedShow, goals: Mapping[str, Document], accounts: Mapping[str, int], recorded: list[Document]
) -> list[str]:
    """One livestream: seconds, tokens, the recording."""
    found = []
    expected = Counter(played.deposits)
    funded = sum(played.gifts.values()) >= played.target
    paid = funded and played.performed >= played.show_seconds
    for viewer, amount in played.gifts.items():
        if paid:
            expected[viewer] -= amount
            expected[played.streamer] += amount
    if played.request_id:
        share = performed_share(played.price, played.performed_privately, played.private_seconds)
        expected[played.viewer] -= share
        expected[played.streamer] += share
    for user, amount in expected.items():
        if accounts.get(f"user:{user}", 0) != amount:
            found.append(f"{user} has {accounts.get(f'user:{user}', 0)} tokens, and should have {amount}: {played}")
    seconds = {played.show_id: played.performed} if funded else {}
    if played.performed_privately:
        seconds[played.exclusive_id] = played.performed_privately
    for goal_id, performed in seconds.items():
        if goals[goal_id]["progress"] != performed:
            found.append(f"goal {goal_id} has progress {goals[goal_id]['progress']}, and should have {performed}")
    if paid:
        task = f"goal-{played.show_id}"
        calls = [call["action"] for call in recorded if call["body"].get("TaskId") == task]
        if "StopRecord" not in calls or calls[-1] != "StopRecord":
            found.append(f"the recording {task} was not stopped: {calls}")
    return found


async def recorded_calls(addresses: Mapping[str, Any]) -> list[Document]:
    """What BytePlus's emulator was asked to do, oldest first."""
    async with httpx.AsyncClient(trust_env=False) as http:
        calls: list[Document] = (await http.get(f"{addresses['byteplus_url']}/recorded")).json()
    return calls
