"""What the last audit of the books found, in figures: every worker may show them, whichever made the audit."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import ClassVar

from beanie import Document
from pydantic import Field
from pymongo.errors import DuplicateKeyError

_LAST = "last"
#: The largest whole number that MongoDB stores; balances that others wrote may come to more.
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AuditFigures:
    """The figures of one audit."""

    at: datetime
    imbalance: int = 0
    """By how many tokens all accounts together differ from 0."""
    stuck: int = 0
    """How many escrows hold tokens that nothing will free."""
    wrong: int = 0
    """How many findings there were."""


class LastAudit(Document):
    """The figures of the last audit; there is one document at most."""

    id: str = Field(default=_LAST, alias="_id")  # type: ignore[assignment]
    at: datetime
    imbalance: int
    stuck: int
    wrong: int

    class Settings:
        """Where and how Beanie keeps them."""

        name = "audits"
        keep_nulls = False
        indexes: ClassVar[list[object]] = []


async def last_audit() -> AuditFigures | None:
    """Returns the figures of the last audit; None where none was made."""
    last = await LastAudit.find_one({"_id": _LAST})
    return None if last is None else AuditFigures(last.at, last.imbalance, last.stuck, last.wrong)


async def keep_audit(figures: AuditFigures) -> None:
    """Stores the figures of an audit, unless those of a later one are stored."""
    where = {"_id": _LAST, "at": {"$lte": figures.at}}
    stored = asdict(figures) | {"imbalance": max(-_LARGEST, min(figures.imbalance, _LARGEST))}
    try:
        await LastAudit.get_motor_collection().update_one(where, {"$set": stored}, upsert=True)
    except DuplicateKeyError:
        return
