"""The wiring: whether webhooks come, of each type and with each app key, and which settings are missing."""

from datetime import datetime
from typing import Self

from pydantic import Field

from goalsvc.actions.wiring_checks import Wiring, check_wiring
from goalsvc.api.dependencies import ContextOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations
from goalsvc.api.views import View

router = operations("/v1/wiring", "Health")

_NEVER = "When the last webhook of it was taken; null: none among the latest 5,000 webhook events."


class CheckView(View):
    """One thing that must be right."""

    name: str = Field(examples=["event types"])
    right: bool = Field(examples=[False])
    text: str = Field(
        description="What was found, or what to do; may be empty when it is right.",
        examples=["channel_vacated never came. Switch on: Channel existence."],
    )


class EventTypeView(View):
    """A type of events that Pusher has to send."""

    name: str = Field(examples=["member_added"])
    last_at: datetime | None = Field(default=None, description=_NEVER)


class AppKeyView(View):
    """A configured app key of Pusher; its secret is never shown."""

    key: str = Field(examples=["a1b2c3d4e5f6a7b8c9d0"])
    last_at: datetime | None = Field(default=None, description=_NEVER)


class WiringView(View):
    """Whether the wiring is right."""

    at: datetime
    right: bool = Field(description="Whether each check is right.", examples=[False])
    sentence: str = Field(
        description="The same in a sentence, or where to look.",
        examples=["The wiring is not complete. Look at: event types."],
    )
    checks: list[CheckView]
    event_types: list[EventTypeView] = Field(description="The types that Pusher has to send.")
    app_keys: list[AppKeyView] = Field(description="The configured app keys; empty: no webhook can be taken.")

    @classmethod
    def of(cls, wiring: Wiring) -> Self:
        """The view of what was found out."""
        return cls(
            at=wiring.at,
            right=wiring.right,
            sentence=wiring.sentence,
            checks=[CheckView.model_validate(check) for check in wiring.checks],
            event_types=[EventTypeView(name=one.name, last_at=one.at) for one in wiring.event_types],
            app_keys=[AppKeyView(key=one.name, last_at=one.at) for one in wiring.app_keys],
        )


@router.get("", summary="Check the wiring", responses=responses(401, 503))
async def read_wiring(context: ContextOf) -> WiringView:
    """Whether Pusher's webhooks come, signed and in time, of each type and with each app key, and whether settings are missing.

    Looks through the latest 5,000 webhook events whose traces are kept.
    """
    return WiringView.of(await check_wiring(context))
