"""Scenes that stories begin with. What they need is made through the API, as a platform would make it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.world import Scene, World

STREAMER = "alice"
HLS_URL = "https://pull.example.com/live/alice.m3u8"


@dataclass(frozen=True, slots=True)
class Stage:
    """A livestream that goes on."""

    session_id: str
    streamer: str = STREAMER


@dataclass(frozen=True, slots=True)
class Show:
    """A show that was paid for by viewers."""

    id: str
    session_id: str
    funding_id: str
    contributions: Mapping[str, int]
    """What each viewer gave."""
    seconds: int
    streamer: str = STREAMER

    @property
    def escrow(self) -> int:
        """What all viewers gave."""
        return sum(self.contributions.values())

    @property
    def escrow_id(self) -> str:
        return f"show_funding:{self.funding_id}"


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal of any other kind."""

    id: str
    session_id: str
    streamer: str = STREAMER


@dataclass(frozen=True, slots=True)
class Request(Goal):
    """A viewer's request, with its price on hold."""

    viewer: str = "bob"
    price: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def escrow_id(self) -> str:
        return f"trigger:{self.id}"


@dataclass(frozen=True, slots=True)
class Exclusive(Goal):
    """A private minute for one viewer."""

    viewer: str = "bob"
    price: int = 0
    trigger_id: str = ""

    @property
    def escrow_id(self) -> str:
        return f"exclusive:{self.id}"


def a_stage(*, tags: tuple[str, ...] = ("verified",), hls_url: str = HLS_URL, room: bool = True) -> Scene[Stage]:
    """A streamer whose livestream has begun."""

    async def scene(world: World) -> Stage:
        user = {"username": "Alice", "tags": list(tags), "byteplus": {"hls_url": hls_url}}
        response = await world.call("PUT", f"/v1/users/{STREAMER}", user)
        assert response.is_success
        body: dict[str, Any] = {"user_id": STREAMER}
        if room:
            body["rtc"] = {"room_id": "room-1"}
        session = await world.post("/v1/sessions", body)
        await world.after(seconds=60)
        return Stage(session["id"])

    return scene


def a_funding(
    *, target: int = 300, seconds: int = 360, lasts: float | None = None, fee_bps: int | None = None
) -> Scene[Goal]:
    """A FundingGoal of so many tokens for a show of so many seconds; it ends after `lasts` seconds, if given."""

    async def scene(world: World) -> Goal:
        stage = await world.given(a_stage())
        return await _make_funding(world, stage.session_id, target, seconds, lasts, fee_bps)

    return scene


async def _make_funding(
    world: World, session_id: str, target: int, seconds: int, lasts: float | None, fee_bps: int | None = None
) -> Goal:
    body: dict[str, Any] = {
        "kind": "FundingGoal",
        "session_id": session_id,
        "levels": [{"title": "Fund the show", "target": target}],
        "metadata": {"show": {"title": "Ukulele medley", "target": seconds}},
    }
    if lasts is not None:
        body["exp"] = (world.clock.now() + timedelta(seconds=lasts)).isoformat()
    if fee_bps is not None:
        body["fee_bps"] = fee_bps
    made = await world.post("/v1/goals", body)
    return Goal(made["id"], session_id)


def a_funded_show(
    *, seconds: int = 360, earnings: int = 3, tags: tuple[str, ...] = ("verified",), hls_url: str = HLS_URL
) -> Scene[Show]:
    """A show of so many seconds, paid for by so many viewers, each of whom gave something else; it has not begun."""

    async def scene(world: World) -> Show:
        stage = await world.given(a_stage(tags=tags, hls_url=hls_url))
        contributions = {f"viewer-{number}": 100 + number for number in range(1, earnings + 1)}
        funding = await _make_funding(world, stage.session_id, sum(contributions.values()), seconds, None)
        for viewer, amount in contributions.items():
            await world.deposits(viewer, amount)
            await contributes(world, funding, viewer, amount)
        await world.settle()
        (pair,) = world.session(stage.session_id)["show_goal_pairs"]
        return Show(str(pair["show_goal"]), stage.session_id, funding.id, contributions, seconds)

    return scene


async def contributes(world: World, funding: Goal, viewer: str, amount: int, *, key: str | None = None) -> Any:
    """That viewer contributes."""
    return await world.post(f"/v1/goals/{funding.id}/contributions", {"user_id": viewer, "amount": amount}, key=key)


def a_karaoke(*, seconds: int = 120) -> Scene[Goal]:
    """A KaraokeGoal of so many seconds."""

    async def scene(world: World) -> Goal:
        stage = await world.given(a_stage())
        levels = [{"title": "First song", "target": seconds // 2}, {"title": "Encore", "target": seconds}]
        body = {"kind": "KaraokeGoal", "session_id": stage.session_id, "levels": levels}
        return Goal((await world.post("/v1/goals", body))["id"], stage.session_id)

    return scene


def a_request(
    *, price: int = 1000, seconds: int = 360, private: bool = True, lasts: float | None = None
) -> Scene[Request]:
    """A viewer's request for a private performance, who can just afford it."""

    async def scene(world: World) -> Request:
        stage = await world.given(a_stage())
        if price:
            await world.deposits("bob", price)
        body: dict[str, Any] = {
            "kind": "TriggerGoal",
            "session_id": stage.session_id,
            "metadata": {
                "viewer_id": "bob",
                "private": private,
                "price": price,
                "exclusive": {"title": "A private minute", "target": seconds},
            },
        }
        if lasts is not None:
            body["exp"] = (world.clock.now() + timedelta(seconds=lasts)).isoformat()
        made = await world.post("/v1/goals", body)
        return Request(made["id"], stage.session_id, price=price, body=body)

    return scene


def an_exclusive(*, price: int = 1000, seconds: int = 360) -> Scene[Exclusive]:
    """An exclusive of so many seconds that the streamer has agreed to; it has not begun."""

    async def scene(world: World) -> Exclusive:
        request = await world.given(a_request(price=price, seconds=seconds))
        await world.post(f"/v1/goals/{request.id}/agree")
        await world.settle()
        pair = world.session(request.session_id)["exclusive_goal_pairs"]["bob"]
        return Exclusive(str(pair["exclusive_goal"]), request.session_id, price=price, trigger_id=request.id)

    return scene


def settled(world: World, exclusive: Exclusive) -> tuple[int, int, int]:
    """What performer and viewer have of it, and what the escrow still holds."""
    return world.balance(exclusive.streamer), world.balance(exclusive.viewer), world.escrow(exclusive.escrow_id)


async def pusher_is_asked(world: World) -> None:
    """Pusher is asked who is where, as from time to time."""
    await world.tick("reconcile_clocks")
    await world.work()
