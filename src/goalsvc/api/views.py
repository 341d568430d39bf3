"""Bodies: documents as the API shows them, with the documents' own field names, `id` for `_id` and `kind` for `_cls`.

At the top level of a document an absent value is null; inside its parts it is absent, as it is in the document.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from goalsvc.domain.books import legs_of
from goalsvc.domain.orders import Posted
from goalsvc.domain.shown import shown
from goalsvc.models.paging import Rows
from goalsvc.models.user import User

T = TypeVar("T")
PartT = TypeVar("PartT", bound="Part")

Text = str | SkipJsonSchema[None]
Time = datetime | SkipJsonSchema[None]
Whole = int | SkipJsonSchema[None]


class View(BaseModel):
    """A document as it is shown."""

    model_config = ConfigDict(from_attributes=True, arbitrary_types_allowed=True)


class Part(BaseModel):
    """Part of a document as it is shown. Fields that goalsvc does not know are another service's: shown as they are."""

    model_config = ConfigDict(extra="allow")


def _is_absent(value: object) -> bool:
    return value is None


def absent(description: str, **more: Any) -> Any:
    """A field of a part that may be absent; it is never null."""
    return Field(default=None, exclude_if=_is_absent, description=description, **more)


def part_of(part: type[PartT], value: object) -> PartT:
    """That part of a document, as it is shown."""
    return part.model_validate(shown(value) or {})


def latest(*times: datetime | None) -> datetime | None:
    """The latest of these times that are set."""
    return max((time for time in times if time is not None), default=None)


def born(identity: object) -> datetime | None:
    """When an ObjectId was made, to the second."""
    return identity.generation_time if isinstance(identity, ObjectId) else None


class Page(BaseModel, Generic[T]):
    """A page of a list; `next` is the cursor of the page that follows, or null."""

    items: list[T] = Field(description="The rows of this page.")
    next: str | None = Field(default=None, description="`cursor` of the page that follows; null on the last page.")

    @classmethod
    def of(cls, rows: Rows[Any], view: Callable[[Any], T]) -> Self:
        """The page of these rows; one that cannot be shown is left out and affects no other."""
        items = []
        for row in rows.items:
            with suppress(ValidationError):
                items.append(view(row))
        return cls(items=items, next=rows.next)


class LevelView(Part):
    """A threshold of a goal."""

    title: str = Field(default="", description="What is reached with it.", examples=["Ukulele medley"])
    target: int = Field(description="Seconds, or tokens for a FundingGoal.", examples=[360])


class ByteplusView(Part):
    """Where a user's livestream can be fetched."""

    hls_url: Text = absent(
        "The live stream's HLS playlist.", examples=["https://pull.example.com/live/alice/playlist.m3u8"]
    )


class UserView(View):
    """A user."""

    id: str = Field(description="The platform's id of the user.", examples=["u-alice-1"])
    username: str = Field(description="The name that others see.", examples=["Alice"])
    tags: list[str] = Field(description="The platform's tags of the user.", examples=[["verified"]])
    online: bool = Field(description="Whether the user is in a channel of their own at this moment.")
    last_seen: datetime | None = Field(default=None, description="When the user came or went last.")
    byteplus: ByteplusView = Field(description="Where the user's livestream can be fetched.")
    created_at: datetime | None = Field(default=None, description="When goalsvc got to know the user.")
    updated_at: datetime | None = Field(default=None, description="When the user was changed last.")

    @classmethod
    def of(cls, user: User) -> "UserView":
        """The view of that user."""
        return cls(
            id=user.id,
            username=user.username,
            tags=user.tags,
            online=user.online,
            last_seen=user.last_seen,
            byteplus=part_of(ByteplusView, user.byteplus),
            created_at=user.created_at,
            updated_at=latest(user.updated_at, user.last_seen, user.created_at),
        )


class BalanceView(View):
    """A wallet or an escrow; one that nothing was ever moved to has balance 0."""

    id: str = Field(description="The user's id, or the escrow's.", examples=["u-alice-1"])
    balance: int = Field(description="Tokens.", examples=[1500])
    created_at: Time = absent("When something was moved to or from it first; absent: never.")
    updated_at: Time = absent("When something was moved to or from it last; absent: never.")


class TransferView(View):
    """A transfer. `from_user_id` and `to_user_id` are there when that side is a user; tags name the escrow."""

    id: str = Field(
        description="Derived from what caused it.",
        examples=["escrow-show_funding:68143584d6945d32e732cc21-68143584d6945d32e732cc2a-u-alice-1"],
    )
    from_user_id: str | None = Field(
        default=None, description="The user who paid; null where an escrow or the issuer did."
    )
    to_user_id: str | None = Field(
        default=None, description="The user who received; null where an escrow or the issuer did."
    )
    debit: str | None = Field(
        default=None,
        description="The account that paid: `user:{user_id}`, `escrow:{escrow_id}`, `issuer`, `fees`, …",
        examples=["escrow:show_funding:68143584d6945d32e732cc21"],
    )
    credit: str | None = Field(default=None, description="The account that received.", examples=["user:u-alice-1"])
    amount: int = Field(description="Tokens.", examples=[250])
    tags: list[str] = Field(description="What it belongs to: `escrow::{escrow_id}`, `deposit`, …")
    metadata: dict[str, object] = Field(description="What the caller or the settlement noted.")
    reference: str | None = Field(default=None, description="The caller's own id of it.")
    cause: dict[str, object] | None = Field(
        default=None, description="What it goes back to: the webhook's event or the call, its key, the goal, the time."
    )
    created_at: datetime | None = Field(default=None, description="When it was made.")
    updated_at: datetime | None = Field(default=None, description="The same: a transfer never changes.")
    reversed_at: datetime | None = Field(default=None, description="When a deposit was reversed.")

    @classmethod
    def of(cls, transfer: Posted) -> "TransferView":
        """The view of that transfer."""
        sides = {name: getattr(transfer, name) for name in ("debit", "credit", "from_user_id", "to_user_id", "tags")}
        debit, credit = legs_of(sides)
        return cls(
            id=transfer.id,
            from_user_id=transfer.from_user_id,
            to_user_id=transfer.to_user_id,
            debit=debit,
            credit=credit,
            amount=transfer.amount,
            tags=transfer.tags,
            metadata=shown(transfer.metadata) or {},
            reference=transfer.reference,
            cause=shown(transfer.cause) or None,
            created_at=transfer.created_at,
            updated_at=transfer.created_at,
            reversed_at=transfer.reversed_at,
        )
