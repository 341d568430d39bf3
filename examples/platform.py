"""A platform's backend in one file: it reacts to goalsvc's webhooks only, never polls, and keeps books of its own.

It plays one evening: a funded show with a platform fee, an exclusive, a song, a chargeback, a withdrawal. Whatever follows
from an event is written down in the transaction that stores the event, and done afterwards under an Idempotency-Key that
is made of it. So the process may be killed at any instant: what was not done is done after the next start, and what was
done is not done twice. Its balances come from events alone: each `data.transfer` is applied once, by its id.

    goalsvc dev                                                      # in one terminal
    python examples/platform.py --database books.sqlite --port 9000  # in another; GET /books shows the balances

`GOALSVC_API_URL`, `GOALSVC_API_KEY`, `GOALSVC_PUSHER_KEY` and `GOALSVC_PUSHER_SECRET` say where goalsvc is; without
them it is that of `goalsvc dev`.
"""

import sys
from pathlib import Path

# This file has the name of a module of the standard library, which other modules import.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]

import argparse
import asyncio
import hmac
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import uvicorn
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Json = dict[str, Any]

ALICE, BOB, CAROL = "alice", "bob", "carol"
#: What the platform keeps of each payout, in hundredths of a percent.
FEE_BPS = 1000

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, type TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS transfers (id TEXT PRIMARY KEY, debit TEXT NOT NULL, credit TEXT NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS actions (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, given TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0
);
"""


class Store:
    """The backend's own database: what it was told, what it has to do, and its books."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.executescript(TABLES)

    def fact(self, name: str) -> str | None:
        """What was noted under that name."""
        found = self.database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def note(self, name: str, value: str) -> None:
        """Notes it; what was noted first stays."""
        self.database.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))

    def plan(self, key: str, name: str, **given: Any) -> None:
        """Writes down that this is to be done; under the same key once."""
        self.database.execute(
            "INSERT OR IGNORE INTO actions (key, name, given) VALUES (?, ?, ?)", (key, name, json.dumps(given))
        )

    def take_in(self, event: Json, react: Callable[["Store", Json], None]) -> None:
        """Stores an event, its transfer and what follows from it: all in one transaction, and once."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            new = self.database.execute(
                "INSERT OR IGNORE INTO events VALUES (?, ?)", (event["id"], event["type"])
            ).rowcount
            if new:
                transfer = event["data"].get("transfer")
                if transfer is not None:
                    row = (transfer["id"], transfer["debit"], transfer["credit"], transfer["amount"])
                    self.database.execute("INSERT OR IGNORE INTO transfers VALUES (?, ?, ?, ?)", row)
                react(self, event)
            self.database.execute("COMMIT")
        except BaseException:
            self.database.execute("ROLLBACK")
            raise

    def next_action(self) -> tuple[str, str, Json] | None:
        """What is to be done next: its key, its name and what is given."""
        rows = self.database.execute("SELECT key, name, given FROM actions WHERE NOT done ORDER BY rowid LIMIT 1")
        found = rows.fetchone()
        return None if found is None else (found[0], found[1], json.loads(found[2]))

    def is_done(self, key: str) -> None:
        """Notes that an action is done."""
        self.database.execute("UPDATE actions SET done = 1 WHERE key = ?", (key,))

    def books(self) -> Json:
        """How many accounts of each kind there are, and what they hold together: as `GET /v1/reports/balances` says it."""
        balances: dict[str, int] = {}
        for debit, credit, amount in self.database.execute("SELECT debit, credit, amount FROM transfers"):
            balances[debit] = balances.get(debit, 0) - amount
            balances[credit] = balances.get(credit, 0) + amount
        kinds: dict[str, Json] = {}
        for account, balance in balances.items():
            kind = kinds.setdefault(account.partition(":")[0], {"accounts": 0, "balance": 0})
            kind["accounts"] += 1
            kind["balance"] += balance
        return kinds


# -- what follows from an event -----------------------------------------------------------------------------------------


def react(store: Store, event: Json) -> None:
    """Writes down what is to be done because of this event."""
    type_, data = event["type"], event["data"]
    goal: Json = data.get("goal", {})
    happened = (type_, goal.get("kind"))
    match happened:
        case ("goal.created", "ShowGoal"):
            store.plan("show", "perform", goal_id=goal["id"], seconds=60, until=event["created_at"])
        case ("escrow.completed", _) if data["escrow_id"].startswith("show_funding:"):
            store.plan("request", "request_exclusive")
        case ("goal.created", "ExclusiveGoal"):
            store.plan("exclusive", "perform", goal_id=goal["id"], seconds=30, until=event["created_at"])
            store.plan("exclusive-end", "end", goal_id=goal["id"])
        case ("escrow.refunded", _) if data["escrow_id"].startswith("exclusive:"):
            store.plan("karaoke", "offer_song")
        case ("goal.created", "KaraokeGoal"):
            store.plan("song", "perform", goal_id=goal["id"], seconds=40, until=event["created_at"])
        case ("goal.completed", "KaraokeGoal"):
            store.plan("chargeback", "reverse")
        case ("deposit.created", _) if data["transfer"].get("metadata", {}).get("order") == "bob-1":
            store.note("deposit", data["transfer"]["id"])
        case ("deposit.reversed", _):
            store.plan("bob-2", "deposit", user_id=BOB, amount=40)
        case ("debt.repaid", _):
            store.plan("payout", "withdraw", user_id=ALICE, amount=90)
        case ("withdrawal.created", _):
            withdrawal = next(tag for tag in data["transfer"]["tags"] if tag.startswith("withdrawal::"))
            store.plan("arrived", "confirm", withdrawal_id=withdrawal.removeprefix("withdrawal::"))
        case ("withdrawal.confirmed", _):
            store.plan("end", "end_session")
        case ("session.ended", _):
            store.note("over", event["created_at"])


class Goalsvc:
    """Calls goalsvc. Each call of an action has an Idempotency-Key made of the action's key, so it may be repeated."""

    def __init__(self, client: httpx.AsyncClient, environment: Mapping[str, str]) -> None:
        self._client = client
        self._pusher_key = environment.get("GOALSVC_PUSHER_KEY", "goalsvc-key")
        self._pusher_secret = environment.get("GOALSVC_PUSHER_SECRET", "goalsvc-secret")

    async def post(self, path: str, body: Json | None, key: str) -> Json:
        """Posts the body; what is answered. Raises httpx.HTTPError."""
        answer = await self._client.post(path, json=body, headers={"Idempotency-Key": key})
        answer.raise_for_status()
        told: Json = answer.json()
        return told

    async def perform(self, goal_id: str, seconds: int, until: datetime) -> None:
        """Plays the performer and Pusher, who tells of the performer's join and leave. A real platform does none of this."""
        channel, end = f"presence-enc-goal@{goal_id}", int(until.timestamp() * 1000)
        for name, at in (("member_added", end - seconds * 1000), ("member_removed", end)):
            body = json.dumps(
                {"time_ms": at, "events": [{"name": name, "channel": channel, "user_id": ALICE}]}
            ).encode()
            signature = hmac.new(self._pusher_secret.encode(), body, "sha256").hexdigest()
            headers = {
                "X-Pusher-Key": self._pusher_key,
                "X-Pusher-Signature": signature,
                "Content-Type": "application/json",
            }
            (await self._client.post("/notify/pusher", content=body, headers=headers)).raise_for_status()


class Platform:
    """The backend: takes webhooks in, and does what follows from them, one after another."""

    def __init__(self, store: Store, goalsvc: Goalsvc, address: str) -> None:
        self.store, self.goalsvc, self.address = store, goalsvc, address
        self.more = asyncio.Event()

    async def begin(self) -> None:
        """Registers the endpoint, and begins the evening; both once, however often the process is started."""
        if self.store.fact("secret") is None:
            made = await self.goalsvc.post(
                "/v1/webhook-endpoints", {"url": self.address, "types": ["*"]}, f"endpoint {self.address}"
            )
            self.store.note("secret", made["secret"])
        self.store.plan("evening", "open_evening")

    async def work(self) -> None:
        """Does what is written down, for ever. What goalsvc does not answer now is asked again, under the same key."""
        rest = 0.1
        while True:
            self.more.clear()
            action = self.store.next_action()
            if action is None:
                await self.more.wait()
                continue
            key, name, given = action
            try:
                await getattr(self, name)(key, **given)
            except httpx.HTTPError as error:
                print(f"{key}: {error}; again in {rest} s", file=sys.stderr, flush=True)
                await asyncio.sleep(rest)
                rest = min(rest * 2, 5.0)
                continue
            rest = 0.1
            self.store.is_done(key)
            print(f"did {key}", flush=True)

    # -- what there is to do --

    async def open_evening(self, key: str) -> None:
        """A livestream, a show that viewers fund, and the viewers' tokens."""
        session = await self.goalsvc.post("/v1/sessions", {"user_id": ALICE}, f"{key} session")
        self.store.note("session", session["id"])
        show = {"title": "Ukulele", "target": 60}
        plan = {"kind": "FundingGoal", "session_id": session["id"], "levels": [{"title": "Fund it", "target": 160}]}
        goal = await self.goalsvc.post(
            "/v1/goals", plan | {"metadata": {"show": show}, "fee_bps": FEE_BPS}, f"{key} goal"
        )
        await self.deposit("bob-1", BOB, 300)
        await self.deposit("carol-1", CAROL, 200)
        for viewer, amount in ((BOB, 100), (CAROL, 60)):
            path, body = f"/v1/goals/{goal['id']}/contributions", {"user_id": viewer, "amount": amount}
            await self.goalsvc.post(path, body, f"{key} {viewer}")

    async def deposit(self, key: str, user_id: str, amount: int) -> None:
        """A payment arrived."""
        body = {"amount": amount, "reference": f"payment {key}", "metadata": {"order": key}}
        await self.goalsvc.post(f"/v1/wallets/{user_id}/deposits", body, key)

    async def perform(self, key: str, goal_id: str, seconds: int, until: str) -> None:
        """Alice performs."""
        await self.goalsvc.perform(goal_id, seconds, datetime.fromisoformat(until))

    async def request_exclusive(self, key: str) -> None:
        """Carol asks for a private minute, and alice agrees."""
        metadata = {"viewer_id": CAROL, "private": True, "price": 100, "exclusive": {"title": "A minute", "target": 60}}
        body = {
            "kind": "TriggerGoal",
            "session_id": self.store.fact("session"),
            "metadata": metadata,
            "fee_bps": FEE_BPS,
        }
        request = await self.goalsvc.post("/v1/goals", body, f"{key} goal")
        await self.goalsvc.post(f"/v1/goals/{request['id']}/agree", None, f"{key} agree")

    async def offer_song(self, key: str) -> None:
        """A song without a payer."""
        body = {
            "kind": "KaraokeGoal",
            "session_id": self.store.fact("session"),
            "levels": [{"title": "A song", "target": 30}],
        }
        await self.goalsvc.post("/v1/goals", body, key)

    async def end(self, key: str, goal_id: str) -> None:
        """Alice ends a goal."""
        await self.goalsvc.post(f"/v1/goals/{goal_id}/end", None, key)

    async def reverse(self, key: str) -> None:
        """Bob's bank took the payment back."""
        await self.goalsvc.post(f"/v1/deposits/{self.store.fact('deposit')}/reverse", {"reason": "chargeback"}, key)

    async def withdraw(self, key: str, user_id: str, amount: int) -> None:
        """Alice wants money."""
        await self.goalsvc.post(f"/v1/wallets/{user_id}/withdrawals", {"amount": amount, "reference": key}, key)

    async def confirm(self, key: str, withdrawal_id: str) -> None:
        """The bank says that it arrived."""
        await self.goalsvc.post(f"/v1/withdrawals/{withdrawal_id}/confirm", None, key)

    async def end_session(self, key: str) -> None:
        """The evening is over."""
        await self.goalsvc.post(f"/v1/sessions/{self.store.fact('session')}/end", None, key)

    # -- its own HTTP interface --

    async def hear(self, request: Request) -> Response:
        """Takes a webhook in: verified, stored, answered. The work is done later."""
        body = await request.body()
        try:
            Webhook(self.store.fact("secret") or "").verify(body, dict(request.headers))
        except WebhookVerificationError:
            return Response(status_code=401)
        self.store.take_in(json.loads(body), react)
        self.more.set()
        return Response(status_code=204)

    async def show_books(self, request: Request) -> JSONResponse:
        """The balances, and whether the evening is over."""
        (heard,) = self.store.database.execute("SELECT count(*) FROM events").fetchone()
        return JSONResponse({"over": self.store.fact("over") is not None, "events": heard, "kinds": self.store.books()})


def app_of(store: Store, address: str, environment: Mapping[str, str]) -> Starlette:
    """The backend as an ASGI app, heard by goalsvc at `address`."""
    api_url = environment.get("GOALSVC_API_URL", "http://127.0.0.1:8000")
    headers = {"Authorization": f"Bearer {environment.get('GOALSVC_API_KEY', 'goalsvc-api-key')}"}
    client = httpx.AsyncClient(base_url=api_url, headers=headers, timeout=15, trust_env=False)
    platform = Platform(store, Goalsvc(client, environment), address)

    @asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        async with client:
            await platform.begin()
            working = asyncio.create_task(platform.work())
            yield
            working.cancel()

    routes = [Route("/goalsvc", platform.hear, methods=["POST"]), Route("/books", platform.show_books)]
    return Starlette(routes=routes, lifespan=running)


def main() -> None:
    """Runs the backend until it is stopped, or killed."""
    parser = argparse.ArgumentParser(description="A platform's backend that reacts to goalsvc's webhooks only.")
    parser.add_argument("--database", default="books.sqlite")
    parser.add_argument("--port", type=int, default=9000)
    given = parser.parse_args()
    address = f"http://127.0.0.1:{given.port}/goalsvc"
    app = app_of(Store(given.database), address, os.environ)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
