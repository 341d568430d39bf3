"""Bodies: documents as the API shows them, with the documents' own field names, `id` for `_id` and `kind` for `_cls`."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.shown import shown
from goalsvc.models.goal import Goal
from goalsvc.models.paging import Rows
from goalsvc.models.session import Session
from goalsvc.models.user import User
from goalsvc.models.wallet import Transfer

T = TypeVar("T")


Shown = Annotated[dict[str, Any], BeforeValidator(shown)]


class View(BaseModel):
    """A document as it is shown."""

    model_config = ConfigDict(from_attributes=True, arbitrary_types_allowed=True)


class Page(BaseModel, Generic[T]):
    """A page of a list; `next` is the cursor of the page that follows, or null."""

    items: list[T]
    next: str | None = Field(default=None, description="`cursor` of the page that follows; null on the last page.")

    @classmethod
    def of(cls, rows: Rows[Any], view: Callable[[Any], T]) -> Self:
        """The page of these rows; one that cannot be shown is left out and affects no other."""
        items = []
        for row in rows.items:
            with suppress(ValidationError):
                items.append(view(row))
        return cls(items=items, next=rows.next)


class LevelView(View):
    """A threshold of a goal."""

    title: str = Field(default="", examples=["Ukulele medley"])
    target: int = Field(description="Seconds, or tokens for a FundingGoal.", examples=[360])


class GoalView(View):
    """A goal."""

    id: str = Field(examples=["68143584d6945d32e732cc21"])
    kind: GoalKind
    active: bool
    progress: int = Field(description="Whole performed seconds, or tokens for a FundingGoal.")
    level: int = Field(description="How many levels are reached.")
    levels: list[LevelView]
    conditions: dict[str, Any] = Field(
        description="`session_id`, and `exclusive_to`, `trigger_goal_id` where they apply."
    )
    context: dict[str, Any] = Field(description="The clock: it runs while `started` is later than `paused`.")
    metadata: dict[str, Any] = Field(description="`user_id` is the streamer; the rest depends on the kind.")
    breakdown_id: Any = None
    exp: datetime | None = None
    triggerer: str | None = None

    @classmethod
    def of(cls, goal: Goal) -> "GoalView":
        """The view of that goal."""
        return cls(
            id=str(goal.id),
            kind=goal.kind,
            active=goal.active,
            progress=goal.progress,
            level=goal.level,
            levels=[LevelView(title=level.title, target=level.target) for level in goal.levels],
            conditions=shown(goal.conditions),
            context=shown(goal.context),
            metadata=shown(goal.metadata),
            breakdown_id=shown(goal.breakdown_id),
            exp=goal.exp,
            triggerer=goal.triggerer,
        )


class SessionView(View):
    """A session."""

    id: str
    user_id: str
    statuses: dict[str, Any]
    status: dict[str, Any]
    show_goal_pairs: list[dict[str, Any]]
    exclusive_goal_pairs: dict[str, dict[str, Any]]
    viewers: dict[str, dict[str, Any]]
    karaoke_goal: dict[str, Any] | None = None
    rtc: dict[str, Any]

    @classmethod
    def of(cls, session: Session) -> "SessionView":
        """The view of that session."""
        return cls(
            id=str(session.id),
            user_id=session.user_id,
            statuses=shown(session.statuses),
            status=shown(session.status),
            show_goal_pairs=[shown(pair) for pair in session.show_goal_pairs],
            exclusive_goal_pairs={viewer: shown(pair) for viewer, pair in session.exclusive_goal_pairs.items()},
            viewers={viewer: shown(window) for viewer, window in session.viewers.items()},
            karaoke_goal=shown(session.karaoke_goal) if session.karaoke_goal else None,
            rtc=shown(session.rtc),
        )


class UserView(View):
    """A user."""

    id: str
    username: str
    tags: list[str]
    online: bool
    last_seen: datetime | None = None
    byteplus: dict[str, Any]

    @classmethod
    def of(cls, user: User) -> "UserView":
        """The view of that user."""
        return cls(
            id=user.id,
            username=user.username,
            tags=user.tags,
            online=user.online,
            last_seen=user.last_seen,
            byteplus=shown(user.byteplus),
        )


class BalanceView(View):
    """A wallet or an escrow; one that nothing was ever moved to has balance 0."""

    id: str = Field(examples=["u-alice-1"])
    balance: int = Field(examples=[1500])


class TransferView(View):
    """A transfer. `from_user_id` and `to_user_id` are there when that side is a user; tags name the escrow."""

    id: str = Field(examples=["escrow-show_funding:68143584d6945d32e732cc21-68143584d6945d32e732cc2a-u-alice-1"])
    from_user_id: str | None = None
    to_user_id: str | None = None
    amount: int
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime | None = None

    @classmethod
    def of(cls, transfer: Transfer) -> "TransferView":
        """The view of that transfer."""
        return cls(
            id=transfer.id,
            from_user_id=transfer.from_user_id,
            to_user_id=transfer.to_user_id,
            amount=transfer.amount,
            tags=transfer.tags,
            metadata=shown(transfer.metadata),
            created_at=transfer.created_at,
        )
