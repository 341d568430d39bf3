"""Finding whatever has a given id, in every collection."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from beanie import Document
from bson import ObjectId

from goalsvc.domain.documents import Query
from goalsvc.domain.escrow import escrow_account, user_account
from goalsvc.models.api_key import ApiKey
from goalsvc.models.audit import AuditEvent
from goalsvc.models.clip import Asset, Post
from goalsvc.models.event_log import EventDocument
from goalsvc.models.filters import UNSET
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter
from goalsvc.models.redrive import Redrive
from goalsvc.models.session import Session
from goalsvc.models.trace_roots import roots_of_request
from goalsvc.models.user import User
from goalsvc.models.wallet import Account, Earning, Transfer
from goalsvc.models.webhooks import Delivery, WebhookEndpoint
from goalsvc.models.withdrawal import Withdrawal
from goalsvc.request_id import ACCEPTED, made_at

#: Of one kind at most this many are found.
_MOST = 20


@dataclass(frozen=True, slots=True)
class Found:
    """Something that has the id, or names it: its kind, its own id."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class _Place:
    kind: str
    model: type[Document]
    where: Query
    strip: str = ""


async def find_anything(text: str, *, secret: bool) -> Sequence[Found]:
    """Whatever has that id: documents, accounts, transfers of that reference; what admins keep only with `secret`."""
    places: list[_Place] = []
    if ObjectId.is_valid(text):
        by_id = {"_id": ObjectId(text)}
        models: Mapping[str, type[Document]] = {
            "goal": Goal,
            "session": Session,
            "contribution": Earning,
            "clip": Asset,
            "post": Post,
        }
        places += [_Place(kind, model, by_id) for kind, model in models.items()]
    places += [
        _Place("user", User, {"_id": text, "erased_at": UNSET}),
        _Place("wallet", Account, {"_id": user_account(text)}, "user:"),
        _Place("escrow", Account, {"_id": escrow_account(text)}, "escrow:"),
        _Place("account", Account, {"_id": text}),
        _Place("transfer", Transfer, {"_id": text}),
        _Place("transfer", Transfer, {"reference": text}),
        _Place("withdrawal", Withdrawal, {"_id": text}),
        _Place("event", EventDocument, {"_id": text}),
        _Place("dead_letter", DeadLetter, {"_id": text}),
        _Place("redrive", Redrive, {"_id": text}),
    ]
    if secret:
        places += [
            _Place("key", ApiKey, {"_id": text}),
            _Place("audit_event", AuditEvent, {"request_id": text}),
            _Place("webhook_endpoint", WebhookEndpoint, {"_id": text}),
            _Place("delivery", Delivery, {"_id": text}),
        ]
    found = await asyncio.gather(*map(_look, places))
    known = list(dict.fromkeys(one for batch in found for one in batch))
    known = known or await _look(_Place("session", Session, {"user_id": text}))  # a streamer who is no stored user
    # Of an id that a caller chose many traces are read: only where it is nothing else.
    if made_at(text) is not None or (not known and ACCEPTED.fullmatch(text)):
        known += [Found("request", text)] if await roots_of_request(text) else []
    return known


async def _look(place: _Place) -> list[Found]:
    cursor = place.model.get_motor_collection().find(place.where, {"_id": 1}).limit(_MOST)
    return [Found(place.kind, str(one["_id"]).removeprefix(place.strip)) for one in await cursor.to_list(_MOST)]
