"""Letting users into channels: the endpoint that pusher-js asks before it joins a private or presence channel.

The user proves their identity with the platform's own token (a JWT); the goal or session that the channel is about says whether
they may join. https://pusher.com/docs/channels/server_api/authorizing-users/
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs

from bson import ObjectId
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from goalsvc.api.dependencies import ContextOf, ResourcesOf
from goalsvc.api.errors import WebError, responses
from goalsvc.api.session_token import Admission
from goalsvc.api.user_token import require_user
from goalsvc.api.webhook import read_body
from goalsvc.context import Context
from goalsvc.domain.channels import CHANNEL_NAME, Channel, ChannelKind
from goalsvc.errors import ExternalServiceError, InvalidError, NotFoundError
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session
from goalsvc.models.user import User

log = logging.getLogger(__name__)

router = APIRouter(tags=["Pusher"])

#: pusher-js sends two short fields, and what the integrator has it send besides.
BODY_LIMIT_BYTES = 8 * 1024
MOST_FIELDS = 32


# -- what is asked? ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of pusher-js to let one connection join one channel."""

    socket_id: str
    channel_name: str


def parse(body: bytes, content_type: str) -> Asked:
    """The fields of a form (as pusher-js sends it) or of a JSON object; what else is in there is ignored.

    Raises WebError 400 when it is neither, InvalidError naming a field that is missing, empty or given twice.
    """
    is_json = content_type.partition(";")[0].strip().lower() == "application/json"
    fields = _fields_of_json(body) if is_json else _fields_of_form(body)
    asked = {}
    for name in ("socket_id", "channel_name"):
        value = fields.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidError(name, "must be given, once, as text")
        asked[name] = value
    return Asked(**asked)


def _fields_of_json(body: bytes) -> Mapping[str, object]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise WebError(400, "malformed", "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise WebError(400, "malformed", "the body is not a JSON object")
    return fields


def _fields_of_form(body: bytes) -> Mapping[str, object]:
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:  # not UTF-8, or too many fields
        raise WebError(400, "malformed", "the body is not a form of a few fields") from None
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


# -- may they? ----------------------------------------------------------------------------------------------------------


async def admit(context: Context, channel_name: str, user_id: str) -> Channel:
    """The channel of that name, which this user may join.

    Raises WebError 403 when they may not, or it is not one of ours, NotFoundError when it is about a goal that does not exist.
    """
    channel = Channel.parse(channel_name)
    if channel is None:
        raise _forbidden("there is no such private or presence channel here")
    match channel.kind:
        case ChannelKind.USER:
            if channel.about != user_id:
                raise _forbidden("a user's channel is for that user alone")
        case ChannelKind.GOAL:
            await _admit_to_goal(channel, user_id)
        case ChannelKind.STREAM:
            await _admit_to_stream(context, channel, user_id)
    return channel


async def _admit_to_goal(channel: Channel, user_id: str) -> None:
    """A goal's channel is for those whose presence there is its performance: the performer and, exclusive, the viewer."""
    goal = await Goal.by_id(ObjectId(channel.about)) if ObjectId.is_valid(channel.about) else None
    if goal is None:
        raise NotFoundError(f"there is no goal {channel.about}")
    if user_id not in goal.participants:
        raise _forbidden("a goal's channel is for its performer and, of an exclusive, its viewer")
    if not goal.active:
        raise WebError(403, "goal_inactive", "the goal is not active")


async def _admit_to_stream(context: Context, channel: Channel, user_id: str) -> None:
    """A stream's channels are for those whom its session admits; before and between livestreams any user may wait there."""
    if channel.about == user_id:
        return
    session = await Session.latest_of(channel.about)
    if session is None or not session.open:
        return
    if not Admission.of(session).grounds(user_id, context.clock.now()).admit:
        raise _forbidden("the stream is for another viewer alone at this moment")


def _forbidden(detail: str) -> WebError:
    return WebError(403, "forbidden", detail)


# -- the answer -------------------------------------------------------------------------------------------------------


class Authorisation(BaseModel):
    """What pusher-js hands to Pusher as the proof that it may join."""

    auth: str = Field(
        description="The app key, a colon, and the hex HMAC-SHA256 signature of socket, channel and channel data.",
        examples=["goalsvc-key:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"],
    )
    channel_data: str | None = Field(
        default=None,
        description="On presence channels: JSON text `{user_id, user_info: {username}}`, which other members see.",
        examples=['{"user_id": "u-alice-1", "user_info": {"username": "Alice"}}'],
    )


_CAUSES = {
    400: "The body is neither a form nor a JSON object (`malformed`).",
    401: "The user's token is missing, expired, not yet valid, unsigned, signed by another key or algorithm, or names "
    "no user (`unauthorized`).",
    403: "The channel is none of ours, or not this user's to join (`forbidden`); or the goal is not active "
    "(`goal_inactive`).",
    404: "The channel is about a goal that does not exist (`not_found`).",
    413: "The body is over 8 KiB (`too_large`).",
    422: "`socket_id` or `channel_name` is missing or malformed (`invalid`).",
}
_FIELDS: dict[str, object] = {
    "socket_id": {"type": "string", "description": "Pusher's id of the connection.", "examples": ["1234.1234"]},
    "channel_name": {
        "type": "string",
        "description": "The channel that is to be joined.",
        "examples": ["presence-enc-goal@68143584d6945d32e732cc21"],
    },
}
_SCHEMA: dict[str, object] = {"type": "object", "required": ["socket_id", "channel_name"], "properties": _FIELDS}
_EXAMPLES: dict[str, object] = {
    "goal": {
        "summary": "The performer joins the goal's channel: the performance begins",
        "value": {"socket_id": "1234.1234", "channel_name": "presence-enc-goal@68143584d6945d32e732cc21"},
    },
    "stream": {
        "summary": "A viewer follows the stream",
        "value": {"socket_id": "1234.1234", "channel_name": "private-stream@u-alice-1"},
    },
}


@router.post(
    "/pusher/auth",
    summary="Authorise a channel for pusher-js",
    response_model_exclude_none=True,
    responses={
        200: {
            "content": {
                "application/json": {
                    "examples": {
                        "presence": {
                            "summary": "A presence channel",
                            "value": {
                                "auth": "goalsvc-key:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
                                "channel_data": '{"user_id": "u-alice-1", "user_info": {"username": "Alice"}}',
                            },
                        },
                        "private": {
                            "summary": "A private channel",
                            "value": {
                                "auth": "goalsvc-key:4f9a8e1a8f0d9b3e8d62e9c1b7a8f21a2f6a1c0e6b7f4f0a1d2c3b4a59687f6e"
                            },
                        },
                    }
                }
            }
        },
        **responses(400, 401, 403, 404, 413, 422, 503, causes=_CAUSES),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/x-www-form-urlencoded": {"schema": _SCHEMA, "examples": _EXAMPLES},
                "application/json": {"schema": _SCHEMA, "examples": _EXAMPLES},
            },
        }
    },
)
async def authorise_channel(
    request: Request, context: ContextOf, resources: ResourcesOf, user_id: Annotated[str, Depends(require_user)]
) -> Authorisation:
    """Signs that this user's connection may join a private or presence channel.

    | channel | who may join |
    | --- | --- |
    | `presence-enc-goal@{goal_id}` | the goal's performer and, of an ExclusiveGoal, its viewer; while the goal is active |
    | `private-user@{user_id}`, `private-enc-user@…`, `presence-user@…` | that user |
    | `private-stream@{user_id}`, `presence-stream@…` and their `-enc-` forms | the streamer; while `status.exclusive_to` \
is set, that viewer alone, and only within the window; otherwise every user with a token. Before and between livestreams \
viewers may wait there |

    Joining a channel is asked once: users in a stream's channel when an exclusive begins stay in it, and are told
    nothing there of the exclusive. A presence channel holds 100 members at most, which Pusher itself sees to.
    """
    body = await read_body(request, BODY_LIMIT_BYTES)
    asked = parse(body, request.headers.get("content-type", ""))
    if not CHANNEL_NAME.fullmatch(asked.channel_name):
        raise InvalidError("channel_name", "is not a name that Pusher accepts")
    channel = await admit(context, asked.channel_name, user_id)
    user_info = await _shown_to_others(user_id) if channel.presence else None
    try:
        signed = resources.pusher.authenticate(asked.channel_name, asked.socket_id, user_id, user_info)
    except InvalidError as error:
        if error.field == "channel":
            raise InvalidError("channel_name", "is not a name that Pusher accepts") from None
        raise
    except ExternalServiceError as error:
        log.error("no channel is authorised: %s", error.message)
        raise WebError(503, "unavailable", "channels cannot be authorised here at this moment") from None
    return Authorisation(**signed)


async def _shown_to_others(user_id: str) -> Mapping[str, str]:
    """What the other members of a presence channel see of a user; without a name, where none is known."""
    user = await User.by_id(user_id)
    return {"username": user.username if user else ""}
