"""Events about transfers. Each transfer has one event whose `data.transfer` is it: who pays, who receives, how much.

A backend that applies each `data.transfer` once, by its id, has the same balances as goalsvc: also where
`deposit.reversed` names the deposit once more.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bson import ObjectId
from pydantic import BaseModel

from goalsvc.domain.documents import Stored
from goalsvc.domain.events import Event, users
from goalsvc.domain.orders import Order
from goalsvc.domain.origin import Cause
from goalsvc.models.wallet import Transfer

_OF_A_TRANSFER: Final = (
    "debit", "credit", "from_user_id", "to_user_id", "amount", "tags", "metadata", "created_at", "reference",
)  # fmt: skip
#: Accounts of one user, by what their ids begin with.
_OF_A_USER: Final = ("user:", "debt:")


def plain(value: object) -> Any:
    """A value of a document as an event tells it: ids as strings, without what is absent."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, ObjectId) else value


def of_transfer(
    type_: str,
    transfer: Stored,
    *,
    goal_id: str | None = None,
    user_id: str | None = None,
    **more: object,
) -> Event:
    """An event about a transfer's document: `contribution.created`, `withdrawal.*`, …; `more`, plain, is added to its data.

    A transfer has one event of each type; the time and the cause are its own. `user_id` is a user whom it concerns besides
    those of its accounts. Write it in the transfer's transaction.
    """
    shown = {"id": transfer["_id"], **plain({name: transfer.get(name) for name in _OF_A_TRANSFER})}
    owners = [_user_of(transfer.get(side)) for side in ("debit", "credit")]
    return Event(
        type=type_,
        identity=transfer["_id"],
        created_at=transfer["created_at"],
        data={"transfer": shown, **more},
        goal_id=goal_id,
        user_ids=users(transfer.get("from_user_id"), transfer.get("to_user_id"), *owners, user_id),
        cause=Cause.read(transfer.get("cause")),
    )


def of_order(type_: str, order: Order, at: datetime, *, user_id: str | None = None) -> Event:
    """An event about a transfer that is made at `at`: `deposit.created`, `withdrawal.*`, … See `of_transfer`."""
    fields_ = {name: getattr(order, name) for name in _OF_A_TRANSFER if name != "created_at"}
    document = {"_id": order.transfer_id, "created_at": at, "cause": order.cause.document(), **fields_}
    return of_transfer(type_, document, user_id=user_id)


def of_posted(type_: str, transfer: Transfer) -> Event:
    """An event about a transfer that the ledger makes: of the goal that it goes back to, where it goes back to one."""
    goal_id = (transfer.cause or {}).get("goal_id")
    return of_transfer(type_, {"_id": transfer.id, **transfer.model_dump(exclude={"id"})}, goal_id=goal_id)


def _user_of(account: str | None) -> str | None:
    return next((account.removeprefix(kind) for kind in _OF_A_USER if account and account.startswith(kind)), None)
