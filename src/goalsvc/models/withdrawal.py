"""Withdrawals: tokens that leave for a bank account, held until the platform says whether they arrived."""

from datetime import datetime
from typing import ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel, ReturnDocument

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import RawDocument
from goalsvc.domain.goals import UserId
from goalsvc.domain.reading import Instant, Text, Whole
from goalsvc.models.shared import Lenient

PENDING: Final = "pending"
CONFIRMED: Final = "confirmed"
RETURNED: Final = "returned"


class Withdrawal(Lenient):
    """Tokens that a user takes out. They are in the account `payout:{id}` while it is `pending`."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    user_id: UserId = ""
    amount: Whole = 0
    state: Literal["pending", "confirmed", "returned"] = PENDING
    created_at: Instant | None = None
    updated_at: Instant | None = None
    returns_at: Instant | None = None
    """When it returns to the wallet by itself, unless it was confirmed."""
    reference: Text | None = None
    metadata: RawDocument = {}
    reason: Text | None = None
    """Why it was returned."""
    cause: RawDocument | None = None

    class Settings:
        """Where and how Beanie keeps withdrawals."""

        name = "withdrawals"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("user_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="listed"),
            IndexModel([("state", ASCENDING), ("returns_at", ASCENDING)], name="state"),
        ]

    @classmethod
    async def conclude(
        cls, withdrawal_id: str, state: str, now: datetime, session: DatabaseSession, *, reason: str | None = None
    ) -> Self | None:
        """Within a transaction: ends a pending withdrawal in that state; None when it is not pending."""
        changes: dict[str, object] = {"state": state, "updated_at": now} | (
            {} if reason is None else {"reason": reason}
        )
        found = await cls.get_motor_collection().find_one_and_update(
            {"_id": withdrawal_id, "state": {"$nin": [CONFIRMED, RETURNED]}},
            {"$set": changes},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        return None if found is None else cls.model_validate(found)
