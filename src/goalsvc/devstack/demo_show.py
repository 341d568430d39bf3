"""The show that the demo plays: who takes part, what they do, and what must come of it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CalledProcessError
from time import perf_counter
from typing import TypeVar

from goalsvc.commands.api import Api
from goalsvc.commands.send import webhook_body
from goalsvc.devstack.demo_clip import ClipContent, look_into
from goalsvc.devstack.demo_expected import differences
from goalsvc.devstack.demo_stage import StageError
from goalsvc.devstack.demo_story import Story
from goalsvc.devstack.demo_witness import Document, Witness
from goalsvc.domain.channels import goal_channel, presence_stream, private_stream, private_user

T = TypeVar("T")

#: How long the demo waits for something to come about. On a machine that is not on its knees it takes milliseconds.
PATIENCE_SECONDS = 20.0
_LOOK_EVERY_SECONDS = 0.02

_CONTRIBUTIONS = {
    "bob": 250, "carol": 180, "dave": 140, "erin": 110, "frank": 90,
    "grace": 75, "heidi": 60, "ivan": 45, "judy": 30, "mallory": 20,
}  # fmt: skip
#: Of the draft post; the fourth is the streamer's own.
_POST_TAGS = ("drafts", "beta", "no_exposure", "ukulele", "feed:shorts_livestream", "bypass:review")
_NOT_YET = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played, in figures; all that must come of it follows from here."""

    streamer: str = "alice"
    room: str = "demo-room"
    title: str = "Ukulele medley"
    target_seconds: int = 360
    performed_seconds: int = 400
    clip_seconds: int = 30
    deposit: int = 300
    contributions: Mapping[str, int] = field(default_factory=lambda: dict(_CONTRIBUTIONS))

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Plan":
        """The plan, with a clip as long as the environment says. Raises StageError for a length that cannot be had."""
        plan = cls()
        text = environment.get("GOALSVC_LIVESTREAM_CLIP_GOAL_DURATION") or str(plan.clip_seconds)
        # Of what has been streamed: the demo does not wait for what is to come.
        if not text.isdecimal() or not 1 <= int(text) <= plan.rewind_seconds:
            longest = plan.rewind_seconds
            raise StageError(f"GOALSVC_LIVESTREAM_CLIP_GOAL_DURATION: the demo cuts clips of 1 to {longest} s")
        return replace(plan, clip_seconds=int(text))

    @property
    def total(self) -> int:
        """The tokens that the viewers give, which is what the show costs."""
        return sum(self.contributions.values())

    @property
    def best(self) -> list[dict[str, object]]:
        """The three who give most."""
        ordered = sorted(self.contributions.items(), key=lambda item: -item[1])
        return [{"user_id": user, "amount": amount} for user, amount in ordered[:3]]

    @property
    def rewind_seconds(self) -> int:
        """How long before the end of the show its clip begins."""
        return self.target_seconds // 2


@dataclass(slots=True)
class Course:
    """What came up while the show was played."""

    session_id: str = ""
    funding_id: str = ""
    show_id: str = ""
    left_at: datetime = _NOT_YET
    """When the performer left, as the webhook says."""
    told_at: datetime = _NOT_YET
    """When that webhook was sent."""
    clip: ClipContent | None = None
    balances: Mapping[str, int] = field(default_factory=dict)
    trace: Sequence[Mapping[str, object]] = ()
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds from the leave's webhook to what followed from it."""

    @property
    def escrow_id(self) -> str:
        """The escrow that holds what the viewers gave."""
        return f"show_funding:{self.funding_id}"

    def timed(self, what: str, at: datetime | str) -> None:
        """Notes how long after the leave this was."""
        instant = datetime.fromisoformat(at) if isinstance(at, str) else at
        self.timings[what] = (instant - self.told_at).total_seconds() * 1000


async def until(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """What `look` sees as soon as it `holds`; after a while whatever it sees then, so that it can be told."""
    deadline = perf_counter() + PATIENCE_SECONDS
    while not holds(seen := await look()) and perf_counter() < deadline:  # noqa: ASYNC110 - others' processes
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return seen


class Show:
    """Plays the plan, act by act; each holds what it sees against what it should be."""

    ACTS = 8

    def __init__(self, plan: Plan, story: Story, api: Api, witness: Witness) -> None:
        self._plan, self._story, self._api, self._witness = plan, story, api, witness
        self.course = Course()

    async def play(self, hls_url: str, clip: Path) -> None:
        """Plays it all, on the livestream at that address, and puts the clip at `clip`."""
        await self._go_live(hls_url)
        await self._fund()
        await self._begin()
        await self._perform()
        await self._pay_out()
        await self._tell()
        await self._cut(clip)
        await self._look_back()

    async def _go_live(self, hls_url: str) -> None:
        plan, course = self._plan, self.course
        with self._story.step(f"{plan.streamer} goes live") as step:
            profile = {"username": "Alice", "tags": ["ukulele"], "byteplus": {"hls_url": hls_url}}
            await self._api.put(f"/v1/users/{plan.streamer}", profile)
            session = await self._api.post("/v1/sessions", {"user_id": plan.streamer, "rtc": {"room_id": plan.room}})
            course.session_id = session["id"]
            goal = {
                "kind": "FundingGoal",
                "session_id": course.session_id,
                "levels": [{"title": f"Fund the {plan.title}", "target": plan.total}],
                "metadata": {"show": {"title": plan.title, "target": plan.target_seconds}},
            }
            course.funding_id = (await self._api.post("/v1/goals", goal))["id"]
            step.result = f"for {plan.total} tokens she plays {plan.target_seconds} s of {plan.title}"

    async def _fund(self) -> None:
        plan, course, expect = self._plan, self.course, self._story.expect
        with self._story.step(f"{len(plan.contributions)} viewers pay for the show") as step:
            path, raised = f"/v1/goals/{course.funding_id}/contributions", 0
            for viewer, amount in plan.contributions.items():
                await self._api.post(f"/v1/wallets/{viewer}/deposits", {"amount": plan.deposit}, key="demo")
                body = {"user_id": viewer, "amount": amount}
                given = await self._api.post(path, body, key=f"demo-{viewer}")
                raised += amount
                expect(f"funding after {viewer}'s contribution", given["progress"], raised)
                again = await self._api.post(path, body, key=f"demo-{viewer}")  # as a client does whose line broke
                expect(f"{viewer}'s contribution, sent twice", again, given)
            held = await self._balance(f"/v1/escrows/{course.escrow_id}")
            expect("the escrow, when the show is paid for", held, plan.total)
            leaderboard = f"/v1/goals/{course.funding_id}/leaderboard"
            best = await self._api.get(leaderboard, limit=f"{len(plan.best)}")
            expect("the first page of the leaderboard", best["items"], plan.best)
            rest = await self._api.get(leaderboard, limit="200", cursor=best["next"])
            expect("viewers on its last page", len(rest["items"]), len(plan.contributions) - len(plan.best))
            expect("the cursor of its last page", rest["next"], None)
            step.result = f"{held} tokens are in escrow; each contribution was sent twice and counts once"

    async def _begin(self) -> None:
        plan, course, expect = self._plan, self.course, self._story.expect
        with self._story.step("the show begins") as step:
            pairs = await until(self._pairs, bool)
            if not pairs:
                raise StageError("the funding was completed, and no show began")
            course.show_id = pairs[0]["show_goal"]
            expect("what funded the show", pairs[0]["funding_goal"], course.funding_id)
            show = await self._goal(course.show_id)
            expect("kind of the goal that began", show["kind"], "ShowGoal")
            expect("its level", show["levels"], [{"title": plan.title, "target": plan.target_seconds}])
            expect("its progress, before it is played", show["progress"], 0)
            changed = await until(lambda: self._witness.notices("stream.changed"), bool)
            stream = {private_stream(plan.streamer), presence_stream(plan.streamer)}
            expect("channels of stream.changed", _channels(changed), stream)
            thanked = await until(lambda: self._witness.notices("livestream.mvps"), bool)
            expect("livestream.mvps", [notice["data"]["mvps"] for notice in thanked], [plan.best])
            step.result = f"ShowGoal {course.show_id}; its stream is told, and who gave most"

    async def _perform(self) -> None:
        plan, course, expect = self._plan, self.course, self._story.expect
        with self._story.step(f"{plan.streamer} plays") as step:
            # A whole second, so that it is clear to the frame which seconds the clip must hold.
            course.left_at = datetime.now(UTC).replace(microsecond=0)
            joined_at = course.left_at - timedelta(seconds=plan.performed_seconds)
            channel = {"channel": goal_channel(course.show_id)}
            of_hers = {**channel, "user_id": plan.streamer}
            join = [{"name": "member_added", **of_hers}, {"name": "channel_occupied", **channel}]
            await self._api.notify(webhook_body(joined_at, join))
            starts = await until(lambda: self._witness.rtc_calls("StartRecord"), bool)
            expect("rooms of which a recording starts", [call["body"]["RoomId"] for call in starts], [plan.room])
            pairs = await until(self._pairs, lambda pairs: "show_started" in pairs[0])
            expect("the session's show_started", _instant(pairs[0].get("show_started")), joined_at)

            course.told_at, begun = datetime.now(UTC), perf_counter()
            await self._api.notify(webhook_body(course.left_at, [{"name": "member_removed", **of_hers}]))
            course.timings["the webhook is answered"] = (perf_counter() - begun) * 1000
            await self._api.notify(webhook_body(course.left_at, [{"name": "channel_vacated", **channel}]))

            show = await until(lambda: self._goal(course.show_id), lambda goal: not goal["active"])
            expect("seconds performed", show["progress"], plan.performed_seconds)
            expect("the show is over", (show["active"], show["level"]), (False, 1))
            pairs = await until(self._pairs, lambda pairs: "show_ended" in pairs[0])
            expect("show_ended is noted in the session", "show_ended" in pairs[0], True)
            stops = await until(lambda: self._witness.rtc_calls("StopRecord"), bool)
            expect("what StopRecord stops is what StartRecord started", _recordings(stops), _recordings(starts))
            if stops:
                course.timed("StopRecord is at BytePlus", stops[0]["at"])
            step.result = f"join and leave, each by a webhook and its twin: {show['progress']} s performed"

    async def _pay_out(self) -> None:
        plan, course, expect = self._plan, self.course, self._story.expect
        with self._story.step("the escrow is paid out") as step:
            wallet = f"/v1/wallets/{plan.streamer}"
            paid = await until(lambda: self._balance(wallet), lambda balance: balance >= plan.total)
            expect(f"{plan.streamer}'s wallet", paid, plan.total)
            expect("the escrow, when the show is over", await self._balance(f"/v1/escrows/{course.escrow_id}"), 0)
            for viewer, amount in plan.contributions.items():
                left = await self._balance(f"/v1/wallets/{viewer}")
                expect(f"{viewer}'s wallet", left, plan.deposit - amount)
            moved = await self._api.get("/v1/transfers", escrow_id=course.escrow_id, limit="200")
            payouts = [transfer for transfer in moved["items"] if transfer.get("to_user_id") == plan.streamer]
            amounts = sorted(transfer["amount"] for transfer in payouts)
            expect("amounts of the payouts", amounts, sorted(plan.contributions.values()))
            step.result = f"{len(payouts)} transfers, {paid} tokens for {plan.streamer}"

    async def _tell(self) -> None:
        plan, course, expect = self._plan, self.course, self._story.expect
        with self._story.step("clients are told") as step:
            progress = await until(lambda: self._witness.notices("goal.progress.updated", course.show_id), bool)
            expect("goal.progress.updated", [each["data"]["progress"] for each in progress], [plan.performed_seconds])
            public = {private_stream(plan.streamer), presence_stream(plan.streamer), private_user(plan.streamer)}
            expect("channels of goal.progress.updated", _channels(progress), public)
            payers = {private_user(viewer): amount for viewer, amount in plan.contributions.items()}
            wallet = await until(
                lambda: self._witness.notices("wallet.updated"), lambda found: len(found) > len(plan.contributions)
            )
            debits = [notice for notice in wallet if notice["data"]["direction"] == "debit"]
            told = {channel: notice["data"]["amount"] for notice in debits for channel in notice["channels"]}
            expect("what wallet.updated tells each payer", told, payers)
            payouts = [notice for notice in wallet if notice["data"]["direction"] == "credit"]
            expect("channels of the payout's wallet.updated", _channels(payouts), {private_user(plan.streamer)})
            sums = [(notice["data"]["amount"], notice["data"]["shares"]) for notice in payouts]
            expect("amount and shares of the payout's wallet.updated", sums, [(plan.total, len(plan.contributions))])
            if progress:
                course.timed("goal.progress.updated is at Pusher", progress[0]["at"])
            if payouts:
                course.timed("all of the shares are paid, and told", payouts[-1]["at"])
            step.result = f"goal.progress.updated; wallet.updated to {len(debits)} payers, and once for the payout"

    async def _cut(self, path: Path) -> None:
        plan, course, expect = self._plan, self.course, self._story.expect
        with self._story.step("the clip is cut") as step:
            asset = await until(lambda: self._witness.only("assets"), lambda found: "stored_at" in found)
            expect("state of the asset", asset.get("state"), "quarantined")
            post = await self._witness.only("posts")
            told = (post.get("sender"), post.get("caption"), post.get("asset_id"))
            expect("sender, caption and asset of the draft post", told, (plan.streamer, plan.title, asset.get("_id")))
            expect("tags of the draft post", post.get("tags"), list(_POST_TAGS))
            content = await self._witness.stored(str(asset.get("_id")))
            if content is None:
                raise StageError("the quarantine bucket does not hold the clip")
            course.timed("the clip is stored", asset["stored_at"])
            await asyncio.to_thread(path.write_bytes, content)
            try:
                clip = course.clip = await asyncio.to_thread(look_into, path)
            except (CalledProcessError, ValueError) as error:
                raise StageError(f"the clip {path} is none of the livestream's: {error}") from None
            first = course.left_at - timedelta(seconds=plan.rewind_seconds)
            seconds = [first + timedelta(seconds=number) for number in range(plan.clip_seconds)]
            expect("the seconds that the clip shows", list(clip.seconds), seconds)
            lasts_as_asked = abs(clip.duration_seconds - plan.clip_seconds) <= 0.5
            expect(f"the clip lasts {plan.clip_seconds} s (± 0.5)", lasts_as_asked, True)
            expect("its codecs", clip.codecs, ("h264", "aac"))
            expect("it plays while it is being fetched (fast start)", clip.fast_start, True)
            step.result = f"{len(content) // 1024} KiB in the quarantine bucket"

    async def _look_back(self) -> None:
        expect = self._story.expect
        with self._story.step("looking back") as step:
            expect("documents that still owe something", await until(self._witness.promises, lambda n: n == 0), 0)
            expect("dead letters", (await self._api.get("/v1/dead-letters"))["items"], [])
            balances = self.course.balances = await self._witness.balances()
            expect("sum of all accounts", sum(balances.values()), 0)
            overdrawn = [account for account, balance in balances.items() if balance < 0 and account != "issuer"]
            expect("accounts that are overdrawn", overdrawn, [])
            different = await until(self._differences, lambda found: not found)
            expect("where the trace differs from the specification's", different, [])
            step.result = "nothing is owed, no letter is dead, the books balance, the trace is as specified"
            if self._story.wrong:
                step.result = "not all of it is as it should be"

    async def _differences(self) -> list[str]:
        self.course.trace = (await self._api.get(f"/v1/goals/{self.course.show_id}/trace"))["events"]
        return differences(self.course.trace, len(self._plan.contributions))

    async def _goal(self, goal_id: str) -> Document:
        goal: Document = await self._api.get(f"/v1/goals/{goal_id}")
        return goal

    async def _pairs(self) -> list[Document]:
        session = await self._api.get(f"/v1/sessions/{self.course.session_id}")
        pairs: list[Document] = session["show_goal_pairs"]
        return pairs

    async def _balance(self, path: str) -> int:
        balance: int = (await self._api.get(path))["balance"]
        return balance


def _channels(notices: Sequence[Document]) -> set[str]:
    return {channel for notice in notices for channel in notice["channels"]}


def _recordings(calls: Sequence[Document]) -> list[tuple[str, str]]:
    return [(call["body"]["RoomId"], call["body"]["TaskId"]) for call in calls]


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
