"""What the receivers of a webhook answered, in words for a person at a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

#: A receiver's answer: `outcome`, `reason`?, and the receiver's name.
Answer = Mapping[str, Any]

#: What the reasons mean.
_MEANINGS: Mapping[str, str] = {
    "already_running": "the clock runs already",
    "goal_inactive": "the goal has ended",
    "not_a_participant": "only the performer, and the viewer of an exclusive, move this clock",
    "not_running": "the clock does not run",
    "other_goal_kind": "a goal of this kind has no clock",
    "overtaken": "a later event of this user is known",
    "unknown_goal": "there is no such goal",
    "unknown_user": "there is no such user",
    "unknown_event": "goalsvc does nothing with it",
    "unknown_channel": "the channel is not one of goalsvc's",
}
#: The channel, or an event without a user, is not the business of these receivers.
_NOT_WORTH_KNOWING = {"not_a_goal_channel", "not_a_stream_channel", "not_a_user_channel", "no_user"}


def worth_knowing(answers: Sequence[Answer]) -> list[Answer]:
    """Those of the receivers that did something, failed, or returned for another reason than that the channel is not theirs."""
    return [answer for answer in answers if answer.get("reason") not in _NOT_WORTH_KNOWING]


def reason_of(answer: Answer) -> str:
    """The reason, with what it means; empty where there is none."""
    reason = str(answer.get("reason") or "")
    return f"{reason} ({_MEANINGS[reason]})" if reason in _MEANINGS else reason
