"""Seals: a signed hash chain over the transfers of each closed day, so that a later change of the books shows."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.database_session import DatabaseSession
from goalsvc.domain import books
from goalsvc.domain.books import Finding
from goalsvc.domain.documents import Stored
from goalsvc.domain.reading import LAST_TIME
from goalsvc.models.filters import at_most
from goalsvc.models.wallet import Transfer

#: A day is closed this long after its end: a transfer carries the time at which its transaction began.
CLOSED_AFTER = timedelta(hours=1)

_DAY = timedelta(days=1)
_FIRST = "0" * 64


class Seal(Document):
    """The seal of one day (UTC): the hash of its transfers chained to the seal of the day before, and a signature."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    previous: str
    hash: str
    transfers: int
    key_id: str
    signature: str
    sealed_at: datetime

    class Settings:
        """Where and how Beanie keeps seals."""

        name = "seals"
        keep_nulls = False
        indexes: ClassVar[list[object]] = []


def seal_key(secret: str) -> bytes:
    """Returns the key that signs seals, derived from that secret."""
    return hmac.new(secret.encode(), b"goalsvc seal", hashlib.sha256).digest()


def key_id_of(key: bytes) -> str:
    """Returns the name by which a seal says with which key it was signed."""
    return hashlib.sha256(key).hexdigest()[:16]


async def seal_days(now: datetime, key: bytes) -> list[Seal]:
    """Seals each closed day that is not sealed yet, in order; the seals that were made.

    Two processes may do so at the same time: the seal that is stored first holds.
    """
    made = []
    day, previous = await _next_day()
    while day is not None and day + _DAY + CLOSED_AFTER <= now:
        digest, count = await _digest_of(day, previous, None)
        seal = Seal(
            id=_name(day),
            previous=previous,
            hash=digest,
            transfers=count,
            key_id=key_id_of(key),
            signature=_sign(key, _name(day), digest),
            sealed_at=now,
        )
        try:
            await seal.insert()
        except DuplicateKeyError:
            found = await Seal.find_one({"_id": seal.id})
            digest = found.hash if found is not None else digest
        else:
            made.append(seal)
        day, previous = day + _DAY, digest
    return made


async def check_seals(key: bytes, session: DatabaseSession | None = None) -> AsyncIterator[Finding | None]:
    """Reckons every sealed day anew; yields None for each that holds, and a finding for each that is broken."""
    previous, expected = _FIRST, None
    own = key_id_of(key)
    seals = Seal.get_motor_collection().find({}, session=session).sort("_id", ASCENDING)
    async for seal in seals:
        name = str(seal["_id"])
        day = datetime.strptime(name, "%Y-%m-%d").replace(tzinfo=UTC)
        if seal["previous"] != previous or (expected is not None and day != expected):
            yield Finding("seal_chain_broken", name, f"the seal of {name} does not follow the one before it")
        elif seal["key_id"] == own and not hmac.compare_digest(_sign(key, name, seal["hash"]), seal["signature"]):
            yield Finding("seal_forged", name, f"the seal of {name} has another signature")
        elif (await _digest_of(day, previous, session))[0] != seal["hash"]:
            yield Finding("seal_broken", name, f"the transfers of {name} are not those that were sealed")
        else:
            yield None
        previous, expected = seal["hash"], day + _DAY


async def _next_day() -> tuple[datetime | None, str]:
    """Returns the first day without a seal, and the hash that it follows; None where there is no transfer."""
    last = await Seal.get_motor_collection().find_one({}, sort=[("_id", DESCENDING)])
    if last is not None:
        return datetime.strptime(str(last["_id"]), "%Y-%m-%d").replace(tzinfo=UTC) + _DAY, str(last["hash"])
    where = {"created_at": at_most(LAST_TIME)}
    first = await Transfer.get_motor_collection().find_one(where, {"created_at": 1}, sort=[("created_at", ASCENDING)])
    if first is None:
        return None, _FIRST
    at: datetime = first["created_at"]
    return at.replace(hour=0, minute=0, second=0, microsecond=0), _FIRST


async def _digest_of(day: datetime, previous: str, session: DatabaseSession | None) -> tuple[str, int]:
    """Returns the hash of that day's transfers after the hash of the day before, and their number."""
    digest, count = hashlib.sha256(previous.encode()), 0
    where = {"created_at": {"$gte": day, "$lt": day + _DAY}}
    found = Transfer.get_motor_collection().find(where, session=session, batch_size=1000)
    async for transfer in found.sort([("created_at", ASCENDING), ("_id", ASCENDING)]):
        digest.update(_line_of(transfer))
        count += 1
    return digest.hexdigest(), count


def _line_of(transfer: Stored) -> bytes:
    """What of a transfer is sealed: its id, both accounts, the amount and the time."""
    debit, credit = books.legs_of(transfer)
    at = to_epoch_milliseconds(transfer["created_at"])
    parts = (str(transfer["_id"]), debit, credit, str(transfer.get("amount")), str(at))
    return "".join(f"{len(part)}:{part}" for part in parts).encode()


def _name(day: datetime) -> str:
    return day.date().isoformat()  # strftime pads no year before 1000; names are sorted, and parsed


def _sign(key: bytes, name: str, digest: str) -> str:
    return hmac.new(key, f"{name} {digest}".encode(), hashlib.sha256).hexdigest()
