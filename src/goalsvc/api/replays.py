"""Replays: a recording of webhooks is rehearsed on copies of the clocks, and then sent as Pusher would send it."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from pymongo.errors import PyMongoError
from starlette.types import Message

from goalsvc.actions.rehearsal import MOST_GOALS, Rehearsal, rehearse, rehearsed
from goalsvc.api.dependencies import ContextOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import changes_nothing, operations, requires
from goalsvc.api.views import View
from goalsvc.api.webhook import answer_webhook
from goalsvc.domain.call import Scope
from goalsvc.domain.recordings import MOST_CHARACTERS, MOST_WEBHOOKS, Recorded
from goalsvc.errors import GoalsvcError

router = operations("/v1/replays", "Webhook")

_MOST_REFUSALS = 100
_LINE = (
    '{"body": "{\\"time_ms\\":1795199190756,\\"events\\":[{\\"name\\":\\"member_removed\\",'
    '\\"channel\\":\\"presence-enc-goal@68143584d6945d32e732cc21\\",\\"user_id\\":\\"u-alice-1\\"}]}"}'
)
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class RehearsalBody(BaseModel):
    """What is to be rehearsed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"recording": _LINE, "keep_time": False}})

    recording: str = Field(
        max_length=MOST_CHARACTERS,
        description="JSON lines as `goalsvc record` writes them: each an object with the webhook's body in `body`; at most "
        f"{MOST_WEBHOOKS:,} webhooks about {MOST_GOALS} goals.",
    )
    keep_time: bool = Field(
        default=False,
        strict=True,
        description="Keep the times of the webhooks; otherwise all are moved by the same distance, so that the last one is "
        "now. Webhooks that are older than 15 minutes are refused.",
    )


class RecordingReplayBody(RehearsalBody):
    """What is to be sent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"recording": _LINE, "keep_time": False, "digest": _DIGEST, "reason": "Pusher was away"}
        },
    )

    digest: str = Field(pattern="^[0-9a-f]{64}$", description="What the rehearsal of the same recording answered.")
    reason: str | None = Field(default=None, max_length=1000, description="Why, for the audit.")


class ChangeView(View):
    """What the recording would change of one goal."""

    goal_id: str = Field(examples=["68143584d6945d32e732cc21"])
    name: str = Field(description="The goal, as people call it.", examples=["The ShowGoal “Ukulele medley”"])
    sentence: str = Field(
        description="What would change.", examples=["The ShowGoal “Ukulele medley” would go from 120 to 210 s."]
    )
    changes: bool = Field(description="Whether anything would change.", examples=[True])
    seconds_before: int = Field(examples=[120])
    seconds_after: int = Field(examples=[210])
    level_before: int = Field(examples=[0])
    level_after: int = Field(examples=[0])
    levels: int = Field(description="How many levels the goal has.")
    tokens_paid: int = Field(
        description="Tokens that would be paid, because the last level would be reached.", examples=[0]
    )
    runs_before: bool = Field(description="Whether its clock runs.", examples=[True])
    runs_after: bool = Field(description="Whether its clock would run.", examples=[False])
    events: int = Field(description="Events of the recording about it.", examples=[3])
    repeats: int = Field(description="How many of them would change nothing.", examples=[0])
    refused: dict[str, int] = Field(
        description="How many of them would not count, by reason.", examples=[{"not_a_participant": 1}]
    )


class RehearsalView(View):
    """What a recording would change."""

    digest: str = Field(
        description="The hash of the recording and of all that it would change, for `POST /v1/replays`.",
        examples=[_DIGEST],
    )
    sentence: str = Field(
        examples=["A replay would change 1 goal: 90 more seconds would count, and 0 tokens would be paid."]
    )
    webhooks: int = Field(description="How many webhooks the recording holds.", examples=[3])
    stale: int = Field(description="How many would be refused because they are older than 15 minutes.", examples=[0])
    malformed: int = Field(
        description="How many would be refused because an event is not of the documented form.", examples=[0]
    )
    elsewhere: int = Field(
        description="How many events are not about a goal that is there and can be read.", examples=[0]
    )
    changes: list[ChangeView] = Field(description="Each goal that it names, in the order in which it names them.")

    @classmethod
    def of(cls, rehearsal: Rehearsal) -> Self:
        """The view of that rehearsal."""
        return cls(
            digest=rehearsal.digest,
            sentence=rehearsal.sentence,
            webhooks=len(rehearsal.recording),
            stale=rehearsal.stale,
            malformed=rehearsal.malformed,
            elsewhere=rehearsal.elsewhere,
            changes=[ChangeView.model_validate(change) for change in rehearsal.changes],
        )


class RefusalView(View):
    """A line of the recording whose webhook was refused."""

    line: int = Field(description="From 1.", examples=[2])
    code: str = Field(examples=["stale_webhook"])
    message: str


class RecordingReplayView(View):
    """What became of a recording that was sent."""

    sent: int = Field(description="How many webhooks were taken.", examples=[2])
    refused: int = Field(description="How many were refused.", examples=[1])
    not_sent: int = Field(
        description="How many were not sent, because the database did not answer before; rehearse and send again.",
        examples=[0],
    )
    refusals: list[RefusalView] = Field(
        description=f"Which were refused, and why, in the order of their lines; at most {_MOST_REFUSALS}."
    )
    rehearsal: RehearsalView = Field(description="What it was to change. What follows is in the goals.")


@router.post("/rehearsal", summary="Rehearse a replay", responses=responses(422, 503))
@changes_nothing
@requires(Scope.READ)
async def rehearse_replay(context: ContextOf, body: RehearsalBody) -> RehearsalView:
    """Plays a recording to copies of the goals' clocks, and says what it would change. Nothing is written.

    A clock that runs goes on meanwhile: with `keep_time` its figures, and so the digest, hold until others change the goal.
    """
    return RehearsalView.of(await rehearse(context, body.recording, keep_time=body.keep_time))


@router.post("", summary="Replay a recording", responses=responses(409, 422, 503))
@requires(Scope.OPERATE)
async def replay_webhooks(request: Request, context: ContextOf, body: RecordingReplayBody) -> RecordingReplayView:
    """Sends the webhooks of a recording in their order, as Pusher would send them, signed with the first configured app key.

    409 `rehearsal_outdated` when the recording would now change something other than the rehearsal with that digest said.
    Real clocks change, real tokens move and real notices are sent. A webhook that is refused does not stop the others.
    """
    rehearsal = await rehearsed(context, body.recording, body.digest, keep_time=body.keep_time)
    request.state.targets = [change.goal_id for change in rehearsal.changes]
    sent = await _send_all(request, rehearsal.recording)
    return RecordingReplayView(
        sent=sent.taken,
        refused=sent.refused,
        not_sent=len(rehearsal.recording) - sent.taken - sent.refused,
        refusals=sent.refusals,
        rehearsal=RehearsalView.of(rehearsal),
    )


@dataclass(slots=True)
class _Sent:
    """What became of the webhooks so far."""

    taken: int = 0
    refused: int = 0
    refusals: list[RefusalView] = field(default_factory=list)

    def refuse(self, line: int, code: str, message: str) -> None:
        """Counts one that was refused, and keeps the first of them."""
        self.refused += 1
        if len(self.refusals) < _MOST_REFUSALS:
            self.refusals.append(RefusalView(line=line, code=code, message=message))


async def _send_all(request: Request, recording: Sequence[Recorded]) -> _Sent:
    """Sends each webhook; ends with the first for which the database does not answer, as the next ones would only wait too."""
    sent = _Sent()
    for webhook in recording:
        try:
            await answer_webhook(_signed(request, webhook.body))
            sent.taken += 1
        except GoalsvcError as error:
            sent.refuse(webhook.line, error.code, error.message)
        except (PyMongoError, TimeoutError):
            sent.refuse(webhook.line, "unavailable", "the database did not answer in time")
            break
    return sent


def _signed(request: Request, body: bytes) -> Request:
    """Returns the request that Pusher would make with that body."""
    secrets: dict[str, str] = request.app.state.webhook_secrets
    key, secret = next(iter(secrets.items()), ("", ""))
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-pusher-key": key,
        "x-pusher-signature": hmac.new(secret.encode(), body, sha256).hexdigest(),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "app": request.app,
        "method": "POST",
        "path": "/notify/pusher",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    return Request(scope, receive)
