"""Deliveries on real parts: signed, tried again by the schedule, one endpoint at a time."""

import asyncio
import json
import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from prometheus_client import REGISTRY
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from goalsvc.actions import webhooks
from goalsvc.domain.events import Event
from goalsvc.domain.webhooks import ANSWER_SECONDS, RETRY_SECONDS
from goalsvc.integrations.webhook_sender import open_sender
from goalsvc.models.event_log import EventLog
from goalsvc.tasks.courier import Courier
from tests.support import documents as odd
from tests.world import World

from .receiver import Receiver, a_receiver, response

#: `make deliveries` sends 1,000.
DELIVERIES = int(os.environ.get("GOALSVC_TEST_DELIVERIES", "60"))
#: What another service may have written as an event's place in the log. An array matches any bounds.
ODD_SEQUENCES: list[Any] = [10**9, Int64(2**62), -5, 0, 2, 7.5, "9", [1, 10**9], [7], None, True, Decimal128("7")]


class MovingClock:
    """The machine's clock, moved on by what a test lets pass: receivers check how old a signature is."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def now(self) -> datetime:
        now = datetime.now(UTC) + self.moved
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass
class Post:
    """A world, and the courier that delivers its events."""

    world: World
    courier: Courier
    clock: MovingClock

    async def deliver(self) -> None:
        """Lets the courier make every attempt that is due now."""
        for _ in range(200):
            await self.courier.turn()
            await self.courier.quiet()
            now = self.clock.now()
            due = {"state": "pending", "next_at": {"$lte": now}, "endpoint_id": {"$in": self._enabled()}}
            if not self.world.all("deliveries", due):
                return
        raise AssertionError("still due after 200 turns")

    def _enabled(self) -> list[str]:
        return [endpoint["_id"] for endpoint in self.world.all("webhook_endpoints", {"enabled": True})]

    async def after(self, seconds: float) -> None:
        """Lets time pass, and the courier do what is due then."""
        self.clock.moved += timedelta(seconds=seconds)
        await self.deliver()

    async def endpoint(self, receiver: Receiver, **more: Any) -> dict[str, Any]:
        """An endpoint at that receiver."""
        made: dict[str, Any] = await self.world.post("/v1/webhook-endpoints", {"url": receiver.url, **more})
        return made

    async def happens(self, count: int = 1) -> None:
        """So many deposits."""
        for _ in range(count):
            await self.world.deposits("bob", 1)

    def deliveries(self, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
        return self.world.all("deliveries", {"endpoint_id": endpoint["id"]})


@asynccontextmanager
async def a_post(world: World, answer_seconds: float = ANSWER_SECONDS) -> AsyncIterator[Post]:
    """The courier of that world, which waits so long for an answer."""
    clock = MovingClock()
    settings = world.context.settings.model_copy(update={"webhook_allow_private": True})
    world.app.state.context = replace(world.app.state.context, settings=settings)
    context = replace(world.context, clock=clock, settings=settings)
    async with open_sender(settings, answer_seconds) as sender:
        assert isinstance(context.events, EventLog)
        yield Post(world, Courier(context, context.events, sender), clock)


@pytest.fixture
async def post(world: World) -> AsyncIterator[Post]:
    async with a_post(world) as opened:
        yield opened


class TestADelivery:
    async def test_is_the_event_of_the_feed_signed_by_standard_webhooks(self, post: Post) -> None:
        async with a_receiver() as receiver:
            endpoint = await post.endpoint(receiver, types=["deposit.*"])
            await post.happens()
            await post.deliver()
            ((headers, body),) = receiver.received
            told = Webhook(endpoint["secret"]).verify(body, headers)
            (event,) = (await post.world.get("/v1/events?types=deposit.created"))["items"]
            assert told == event
            assert headers["webhook-id"] == event["id"]
            with pytest.raises(WebhookVerificationError):
                Webhook(endpoint["secret"]).verify(body.replace(b"bob", b"eve"), headers)

    async def test_is_measured_by_how_it_ended(self, post: Post) -> None:
        def count(outcome: str) -> float:
            labels = {"service": "deliveries", "outcome": outcome}
            return REGISTRY.get_sample_value("goalsvc_outbound_duration_seconds_count", labels) or 0.0

        before = [count("ok"), count("refused")]
        async with a_receiver() as receiver:
            await post.endpoint(receiver)
            await post.happens()
            await post.deliver()
            assert [count("ok"), count("refused")] == [before[0] + len(receiver.received), before[1]]

            async def refuse(number: int) -> bytes:
                return response(500)

            receiver.answer = refuse
            await post.happens()
            await post.deliver()
        assert count("refused") == before[1] + 1

    async def test_only_of_the_types_and_from_the_creation_on(self, post: Post) -> None:
        await post.happens()
        async with a_receiver() as receiver:
            await post.endpoint(receiver, types=["session.started", "deposit.created"])
            await post.happens()
            await post.deliver()
            assert [json.loads(body)["type"] for _, body in receiver.received] == ["deposit.created"]

    async def test_is_tried_again_by_the_schedule_with_the_same_id(self, post: Post) -> None:
        async def refuse(_: int) -> bytes:
            return response(500, b"x" * 5000)

        async with a_receiver(refuse) as receiver:
            endpoint = await post.endpoint(receiver)
            await post.happens()
            await post.deliver()
            for number, seconds in enumerate(RETRY_SECONDS, 1):
                await post.after(seconds - 1)
                assert len(receiver.received) == number, "not before its time"
                await post.after(2)
                assert len(receiver.received) == number + 1
            assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
            await post.after(20 * 3600)
            assert len(receiver.received) == 8, "it was given up"
            (delivery,) = (await post.world.get(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries"))["items"]
            assert (delivery["state"], len(delivery["attempts"])) == ("failed", 8)
            assert delivery["attempts"][0]["status"] == 500
            assert len(delivery["attempts"][0]["answer"]) == 1024

    async def test_each_arrives_at_an_endpoint_that_fails_half_of_the_time(self, post: Post) -> None:
        luck, answers = random.Random(7), dict[int, int]()

        async def unreliable(number: int) -> bytes:
            answers[number] = luck.choice([200, 503])
            return response(answers[number])

        async with a_receiver(unreliable) as receiver:
            endpoint = await post.endpoint(receiver)
            events = [
                Event(type="goal.progressed", identity=str(n), created_at=post.clock.now(), data={"n": n})
                for n in range(DELIVERIES)
            ]
            await post.world.context.events.write(events)
            await post.deliver()
            for seconds in RETRY_SECONDS:
                await post.after(seconds + 1)
            given_up = {each["event_id"] for each in post.deliveries(endpoint) if each["state"] == "failed"}
            assert len(given_up) < 1 + DELIVERIES / 40, "of 256 one fails eight times in a row"
            for event_id in given_up:
                await post.world.post(f"/v1/events/{event_id}/resend")
            await post.deliver()
            for seconds in RETRY_SECONDS:
                await post.after(seconds + 1)
            accepted = set()
            for number, (headers, body) in enumerate(receiver.received, 1):
                # By hand: `verify` takes no signature of another hour.
                signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
                signed = Webhook(endpoint["secret"]).sign(headers["webhook-id"], signed_at, body.decode())
                assert headers["webhook-signature"] == signed
                assert headers["webhook-id"] == json.loads(body)["id"], "the same in every attempt"
                if answers[number] == 200:
                    assert headers["webhook-id"] not in accepted, "what was accepted is not sent again"
                    accepted.add(headers["webhook-id"])
            assert accepted == {event.id for event in events}

    @pytest.mark.parametrize("status", [301, 302, 307])
    async def test_a_redirect_is_not_followed(self, post: Post, status: int) -> None:
        async with a_receiver() as other:

            async def redirect(_: int) -> bytes:
                return response(status, Location=other.url)

            async with a_receiver(redirect) as receiver:
                endpoint = await post.endpoint(receiver)
                await post.happens()
                await post.deliver()
                assert other.received == []
                assert post.deliveries(endpoint)[0]["attempts"][0]["status"] == status

    async def test_an_answer_of_ten_megabytes_is_not_read(self, post: Post) -> None:
        async def flood(_: int) -> bytes:
            return response(200, b"y" * 10_000_000)

        async with a_receiver(flood) as receiver:
            endpoint = await post.endpoint(receiver)
            await post.happens()
            await post.deliver()
            (attempt,) = post.deliveries(endpoint)[0]["attempts"]
            assert attempt["answer"] == "y" * 1024


class TestAnEndpointThatIsTooSlow:
    """The limit is 15 s; here the first attempt has a tenth of a second."""

    LIMIT = 0.1

    def test_the_limit_is_that_of_the_specification(self) -> None:
        assert ANSWER_SECONDS == 15.0

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 X\r\n", response(200, b"x" * 100)[:-50]])
    async def test_has_not_accepted_a_delivery_and_gets_it_again(self, world: World, sent: bytes) -> None:
        """Nothing, the first line of an answer, or half of its body: it is not whole within the limit."""
        asked_again = asyncio.Event()

        async def slow(number: int) -> bytes:
            if number > 1:
                asked_again.set()
                return response(200)
            receiver.writers[0].write(sent)
            await asked_again.wait()
            return b""

        async with a_receiver(slow) as receiver:
            async with a_post(world, self.LIMIT) as post:
                endpoint = await post.endpoint(receiver)
                await post.happens()
                await post.deliver()
                ((attempt,),) = (each["attempts"] for each in post.deliveries(endpoint))
                assert attempt["error"] == "no answer within 0.1 s"
                assert "status" not in attempt
            async with a_post(world) as post:
                await post.after(RETRY_SECONDS[0] + 1)
                (delivery,) = post.deliveries(endpoint)
            assert [each.get("status") for each in delivery["attempts"]] == [None, 200]
            assert (delivery["state"], len(receiver.received)) == ("delivered", 2)
            assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_a_receiver_in_another_language_verifies_a_delivery(post: Post) -> None:
    secret = webhooks.new_secret()
    program = Path(__file__).with_name("receiver.mjs")
    node = await asyncio.create_subprocess_exec("node", str(program), secret, stdout=asyncio.subprocess.PIPE)
    assert node.stdout is not None
    try:
        async with asyncio.timeout(30):
            port = json.loads(await node.stdout.readline())["port"]
            endpoint = await post.endpoint(Receiver(port=port))
            post.world.database.webhook_endpoints.update_one({}, {"$set": {"secrets": [{"secret": secret}]}})
            await post.happens()
            await post.deliver()
            assert json.loads(await node.stdout.readline()) == {"ok": True, "type": "deposit.created"}
        assert post.deliveries(endpoint)[0]["state"] == "delivered"
    finally:
        node.kill()
        await node.wait()


class TestFiftyEndpoints:
    async def test_one_that_never_answers_delays_no_other(self, post: Post) -> None:
        hanging = asyncio.Event()

        async def never(_: int) -> bytes:
            await hanging.wait()
            return response(200)

        async with AsyncExitStack() as stack:
            dead = await stack.enter_async_context(a_receiver(never))
            alive = [await stack.enter_async_context(a_receiver()) for _ in range(49)]
            for receiver in [dead, *alive]:
                await post.endpoint(receiver)
            assert (await post.world.call("POST", "/v1/webhook-endpoints", {"url": dead.url})).status_code == 409
            await post.happens(6)
            running = asyncio.create_task(post.courier.run())
            async with asyncio.timeout(60):
                await asyncio.gather(*(receiver.until(6) for receiver in alive))
            assert len(dead.received) <= 4, "a limit of its own"
            hanging.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class TestEndpoints:
    async def test_after_a_rotation_both_secrets_are_valid_for_a_day(self, post: Post) -> None:
        async with a_receiver() as receiver:
            endpoint = await post.endpoint(receiver)
            rotated = await post.world.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate")
            assert rotated["secret"] != endpoint["secret"]
            # The API's clock is the story's; the secret that was replaced ends a day after that.
            post.clock.moved = post.world.clock.now() - datetime.now(UTC)
            await post.happens()
            await post.deliver()
            ((headers, _),) = receiver.received
            assert len(headers["webhook-signature"].split()) == 2
            await post.happens()
            await post.after(25 * 3600)
            assert len(receiver.received[-1][0]["webhook-signature"].split()) == 1

    async def test_a_rotation_between_two_attempts(self, post: Post) -> None:
        """The attempt that is under way has the old secret's signature; those that follow have both, and then the new one's."""
        post.clock.moved = post.world.clock.now() - datetime.now(UTC)
        rotated: list[str] = []

        async def refuse(number: int) -> bytes:
            if number == 1:
                path = f"/v1/webhook-endpoints/{endpoint['id']}/rotate"
                rotated.append((await post.world.post(path))["secret"])
            return response(500)

        async with a_receiver(refuse) as receiver:
            endpoint = await post.endpoint(receiver)
            await post.happens()
            await post.deliver()
            for seconds in RETRY_SECONDS:  # 27 h and more, in which the old secret ends
                await post.after(seconds + 1)
            valid = []
            for headers, body in receiver.received:
                signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
                signatures = {
                    name: Webhook(secret).sign(headers["webhook-id"], signed_at, body.decode())
                    for name, secret in (("old", endpoint["secret"]), ("new", rotated[0]))
                }
                sent = headers["webhook-signature"].split()
                assert set(sent) <= set(signatures.values())
                valid.append({name for name, signature in signatures.items() if signature in sent})
            assert (valid[0], valid[1], valid[-1]) == ({"old"}, {"old", "new"}, {"new"})
            assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1

    async def test_one_that_fails_for_three_days_is_disabled_and_told_of(self, post: Post) -> None:
        async def refuse(_: int) -> bytes:
            return response(500)

        async with a_receiver(refuse) as receiver, a_receiver() as healthy:
            endpoint = await post.endpoint(receiver)
            await post.endpoint(healthy, types=["endpoint.disabled"])
            for _ in range(4):
                await post.happens()
                await post.after(24 * 3600)
                await post.after(1)
            shown = await post.world.get(f"/v1/webhook-endpoints/{endpoint['id']}")
            assert shown["enabled"] is False
            assert shown["disabled_at"]
            (told,) = [json.loads(body) for _, body in healthy.received]
            assert told["data"]["endpoint"]["id"] == endpoint["id"]
            count = len(receiver.received)
            await post.after(40 * 3600)
            assert len(receiver.received) == count
            await post.world.call("PATCH", f"/v1/webhook-endpoints/{endpoint['id']}", {"enabled": True})
            receiver.answer = None
            await post.deliver()
            assert len(receiver.received) > count, "what waits goes on"

    async def test_replay_and_resend(self, post: Post) -> None:
        async with a_receiver() as receiver:
            endpoint = await post.endpoint(receiver)
            await post.happens(3)
            await post.deliver()
            path = f"/v1/webhook-endpoints/{endpoint['id']}"
            assert (await post.world.post(f"{path}/replay", {"since": "2026-01-01T00:00:00Z"}))["events"] == 3
            await post.deliver()
            assert len(receiver.received) == 6
            event = json.loads(receiver.received[0][1])
            assert await post.world.post(f"/v1/events/{event['id']}/resend") == {"endpoints": 1}
            await post.deliver()
            assert [headers["webhook-id"] for headers, _ in receiver.received].count(event["id"]) == 3
            assert (await post.world.call("DELETE", path)).status_code == 200
            assert post.deliveries(endpoint) == []
            assert (await post.world.call("GET", path)).status_code == 404

    async def test_what_the_endpoint_does_not_select_uses_up_no_replay(self, post: Post) -> None:
        others = [
            {"_id": f"evt_other{number}", "type": "goal.progressed", "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
            for number in range(webhooks.MOST_REPLAYED + 1)
        ]
        post.world.database.events.insert_many(others)
        await post.happens(2)
        async with a_receiver() as receiver:
            endpoint = await post.endpoint(receiver, types=["deposit.*"])
            path = f"/v1/webhook-endpoints/{endpoint['id']}/replay"
            assert await post.world.post(path, {"since": "2026-01-01T00:00:00Z"}) == {"events": 2, "next": None}
            body = {"since": "2026-01-01T00:00:00Z", "types": ["goal.*"]}
            assert await post.world.post(path, body) == {"events": 0, "next": None}

    async def test_a_secret_is_shown_once(self, post: Post) -> None:
        async with a_receiver() as receiver:
            endpoint = await post.endpoint(receiver)
            assert endpoint["secret"].startswith("whsec_")
            for path in ("", f"/{endpoint['id']}"):
                assert endpoint["secret"] not in json.dumps(await post.world.get(f"/v1/webhook-endpoints{path}"))


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://169.254.169.254/latest",
            "http://10.0.0.1:8080/",
            "http://localhost/",
            "http://[::ffff:10.0.0.1]/",
            "ftp://example.com/",
            "https://user:password@example.com/",
            "https:///path",
            "https://exa mple.com/",
            "not an address",
        ],
    )
    async def test_that_are_not_public_are_refused(self, world: World, url: str) -> None:
        answer = await world.call("POST", "/v1/webhook-endpoints", {"url": url})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "url"
        assert world.all("webhook_endpoints") == []
        made = await world.post("/v1/webhook-endpoints", {"url": "https://backend.example.com/hook"})
        path = f"/v1/webhook-endpoints/{made['id']}"
        answer = await world.call("PATCH", path, {"url": url, "description": "moved"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "url")
        shown = await world.get(path)
        assert (shown["url"], shown["description"]) == ("https://backend.example.com/hook", "")

    async def test_a_name_that_leads_to_a_private_address_is_refused_at_the_delivery(self, world: World) -> None:
        async with a_receiver() as receiver, open_sender(world.context.settings) as sender:
            url = receiver.url.replace("127.0.0.1", "localhost")
            answer = await sender.send(
                url, ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"], "evt_1", datetime.now(UTC), b"{}"
            )
            assert answer.status is None
            assert answer.error == (
                "the address is refused: host localhost is not a public one (GOALSVC_WEBHOOK_ALLOW_PRIVATE)"
            )
            assert receiver.received == []

    async def test_a_name_without_an_address_cannot_be_reached(self, world: World) -> None:
        secrets = ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
        async with open_sender(world.context.settings) as sender:
            answer = await sender.send("https://nowhere.invalid/hook", secrets, "evt_1", datetime.now(UTC), b"{}")
        assert answer.error == "could not be reached (host nowhere.invalid cannot be resolved)"


class TestOddDocuments:
    """An endpoint or a delivery of which any field is of another type affects only itself."""

    async def test_an_odd_endpoint_keeps_no_other_from_its_events(self, post: Post) -> None:
        world = post.world
        documents = [
            odd.with_value(odd.webhook_endpoint(), path, value) | {"_id": f"whe_{ObjectId()}"}
            for path in odd.paths_of(odd.webhook_endpoint())
            if path not in {("types",), ("types", 0)}
            for value in odd.ODD_VALUES.values()
        ]
        documents += [odd.webhook_endpoint(_id=identity) for identity in (5, ObjectId(), {"a": 1}, b"x")]
        async with a_receiver() as receiver:
            await post.endpoint(receiver, types=["deposit.*"])
            world.database.webhook_endpoints.insert_many(documents)
            await post.happens()
            await post.deliver()
            assert len(receiver.received) == 1
        assert (await world.call("GET", "/v1/webhook-endpoints?limit=200")).status_code == 200
        for document in documents[::15]:
            path = f"/v1/webhook-endpoints/{document['_id']}"
            for method, part, body in (
                ("GET", "", None),
                ("GET", "/deliveries", None),
                ("PATCH", "", {"description": "ours"}),
                ("POST", "/rotate", None),
                ("POST", "/replay", {"since": odd.START.isoformat()}),
                ("DELETE", "", None),
            ):
                answer = await world.call(method, f"{path}{part}", body)
                assert answer.status_code < 500, (document, answer.text)

    async def test_an_odd_delivery_is_made_or_given_up(self, post: Post) -> None:
        world = post.world
        async with a_receiver() as receiver:
            endpoint = await post.endpoint(receiver, types=["deposit.*"])
            await post.happens()
            await post.deliver()
            (event,) = world.all("events", {"type": "deposit.created"})
            good = odd.delivery(endpoint["id"], event["_id"])
            documents = [
                odd.with_value(good, path, value) | {"_id": f"{endpoint['id']}:{ObjectId()}"}
                for path in odd.paths_of(good)
                if path not in {("endpoint_id",), ("event_id",), ("state",), ("next_at",), ("claimed_until",)}
                for value in odd.ODD_VALUES.values()
            ]
            world.database.deliveries.insert_many(documents)
            await post.happens()
            await post.deliver()
        states = {each["state"] for each in post.deliveries(endpoint)}
        assert states <= {"delivered", "failed"}
        assert (await world.call("GET", f"/v1/webhook-endpoints/{endpoint['id']}/deliveries?limit=200")).is_success

    @pytest.mark.parametrize("sequence", ODD_SEQUENCES, ids=str)
    async def test_an_invented_place_in_the_log_stops_no_delivery(self, post: Post, sequence: object) -> None:
        """Next to events that have expired, so that the courier asks which is the oldest."""
        world = post.world
        theirs = {"created_at": odd.START, "data": {}, "cause": {}, "sequence": sequence}
        async with a_receiver() as receiver, asyncio.timeout(30):
            await post.happens(3)
            await world.get("/v1/events")
            await post.endpoint(receiver, types=["deposit.*"])
            await post.happens(3)
            await world.get("/v1/events")
            world.database.events.delete_many({"sequence": {"$type": "number"}})
            world.database.events.insert_many(
                {"_id": f"evt_{number:032x}", "type": kind, **theirs}
                for number, kind in enumerate(("deposit.created", "theirs", 5, None))
            )
            await post.deliver()
            await post.happens(2)
            await post.deliver()
            told = {headers["webhook-id"] for headers, _ in receiver.received}
            assert {each["_id"] for each in world.all("events", {"data.transfer": {"$exists": True}})} <= told
            page = await world.get("/v1/events?after=6")
            assert len([each for each in page["items"] if "transfer" in each["data"]]) == 2
            position = world.all("counters", {"_id": "events"})[0]["position"]
            after = await world.call("GET", f"/v1/events?after={page['next']}&wait=0.01")
            assert (after.json()["items"], after.json()["next"]) == ([], str(position))

    async def test_an_array_as_a_place_makes_no_loop_without_end(self, post: Post) -> None:
        """One item is below the courier's upper bound, another above its lower one, wherever it has come to."""
        theirs = {"_id": "evt_theirs", "type": 5, "created_at": odd.START, "sequence": [1, 10**9]}
        async with a_receiver() as receiver, asyncio.timeout(30):
            await post.endpoint(receiver, types=["deposit.*"])
            await post.happens()
            await post.deliver()
            post.world.database.events.insert_one(theirs)
            await post.deliver()
            await post.happens()
            await post.deliver()
            assert len(receiver.received) == 2

    @pytest.mark.parametrize("tried", [-20, -(2**62), 2**62])
    async def test_an_odd_number_of_tries_ends(self, post: Post, tried: int) -> None:
        async def refuse(number: int) -> bytes:
            return response(500)

        async with a_receiver(refuse) as receiver:
            endpoint = await post.endpoint(receiver, types=["deposit.*"])
            await post.happens()
            await post.deliver()
            (delivery,) = post.deliveries(endpoint)
            now = {"$set": {"tried": tried, "next_at": post.clock.now()}}
            post.world.database.deliveries.update_one({"_id": delivery["_id"]}, now)
            await post.deliver()
        (delivery,) = post.deliveries(endpoint)
        assert len(delivery["attempts"]) == 2
        assert (delivery["state"], "next_at" in delivery) == (("failed", False) if tried > 0 else ("pending", True))
