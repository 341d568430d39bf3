"""What an explanation needs: read from the documents themselves; traces only add the marks that did not count."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from bson import ObjectId

from goalsvc.domain.documents import Stored
from goalsvc.domain.escrow import escrow_account, exclusive_escrow, show_escrow, trigger_escrow
from goalsvc.domain.goals import PERFORMED_CLASSES
from goalsvc.domain.origin import Cause
from goalsvc.domain.reading import mapping, sequence, text
from goalsvc.domain.why import NOT_COUNTED, Why, why_not, why_transfer
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter, TraceSegment
from goalsvc.models.wallet import Account, Earning, Transfer, balance_in

#: How many webhooks of a goal are looked through for marks that did not count.
_MOST_WEBHOOKS = 2000
_MOST_LETTERS = 20
#: What of a webhook's root says whether its mark counted.
UNCOUNTED_FIELDS: Mapping[str, int] = {
    "node.user_id": 1,
    "node.children.children.name": 1,
    "node.children.children.reason": 1,
}


async def explain_transfer(transfer_id: str) -> Why | None:
    """Why that transfer was made; None when there is no such transfer."""
    transfer = await Transfer.get_motor_collection().find_one({"_id": transfer_id})
    if transfer is None:
        return None
    earning = await _earning_of(transfer)
    return why_transfer(transfer, await _goal_of(transfer), earning, await _arrival_of(transfer))


async def _arrival_of(transfer: Mapping[str, object]) -> datetime | None:
    """When the webhook arrived that caused the transfer; None where no webhook did, or its trace is kept no longer."""
    cause = Cause.read(transfer.get("cause"))
    if cause.event_id is None or cause.root is None:
        return None
    root = await TraceSegment.get_motor_collection().find_one({"_id": cause.root}, {"at": 1})
    return root["at"] if root is not None else None


async def _earning_of(transfer: Mapping[str, object]) -> Mapping[str, object] | None:
    metadata = transfer.get("metadata")
    doc_id = metadata.get("doc_id") if isinstance(metadata, dict) else None
    if str(transfer["_id"]).startswith("contribution-") or not isinstance(doc_id, str) or not ObjectId.is_valid(doc_id):
        return None
    found: Mapping[str, object] | None = await Earning.get_motor_collection().find_one({"_id": ObjectId(doc_id)})
    return found


async def _goal_of(transfer: Mapping[str, object]) -> Mapping[str, object] | None:
    named = [Cause.read(transfer.get("cause")).goal_id]
    named += [str(tag).rpartition(":")[2] for tag in sequence(transfer.get("tags")) if str(tag).startswith("escrow::")]
    for goal_id in named:
        if goal_id is not None and ObjectId.is_valid(goal_id):
            found: Mapping[str, object] | None = await Goal.get_motor_collection().find_one({"_id": ObjectId(goal_id)})
            if found is not None:
                return found
    return None


async def explain_goal(
    goal_id: ObjectId, now: datetime, webhooks: Iterable[Mapping[str, object]] | None = None
) -> Why | None:
    """Why that goal is not completed, or not paid; None when there is no such goal.

    `webhooks` are the roots of its trace, where the caller has read them (at least `UNCOUNTED_FIELDS`).
    """
    goal = await Goal.get_motor_collection().find_one({"_id": goal_id})
    if goal is None:
        return None
    metadata = goal.get("metadata")
    funding = metadata.get("funding_goal_id") if isinstance(metadata, dict) else None
    escrows = [show_escrow(goal_id), trigger_escrow(goal_id), exclusive_escrow(goal_id)]
    if isinstance(funding, str | ObjectId) and ObjectId.is_valid(funding):
        escrows.append(show_escrow(ObjectId(funding)))
    accounts = {"_id": {"$in": [escrow_account(escrow) for escrow in escrows]}}
    held = [balance_in(account) async for account in Account.get_motor_collection().find(accounts)]
    # A dead letter's id begins with the goal's.
    prefix = f"goals/{goal_id}/"
    letters = {"state": "dead", "_id": {"$gte": prefix, "$lt": prefix[:-1] + "0"}}
    dead = await DeadLetter.get_motor_collection().find(letters).limit(_MOST_LETTERS).to_list(None)
    if webhooks is None:
        webhooks = await _webhooks(goal) if text(goal.get("_cls")) in PERFORMED_CLASSES else ()
    return why_not(goal, sum(held), dead, _uncounted(webhooks), now)


async def _webhooks(goal: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    where = {"goal_id": str(goal["_id"]), "node.kind": "webhook"}
    found: list[Mapping[str, object]] = (
        await TraceSegment.get_motor_collection().find(where, UNCOUNTED_FIELDS).limit(_MOST_WEBHOOKS).to_list(None)
    )
    return found


def _uncounted(webhooks: Iterable[Stored]) -> Mapping[tuple[str, str], int]:
    """The marks that did not count, as far as the trace still holds them."""
    found: Counter[tuple[str, str]] = Counter()
    for segment in webhooks:
        node = mapping(segment.get("node"))
        for signal in sequence(node.get("children")):
            for receiver in map(mapping, sequence(mapping(signal).get("children"))):
                reason = text(receiver.get("reason"))
                if receiver.get("name") == "karaoke_control" and reason is not None and reason in NOT_COUNTED:
                    found[str(node.get("user_id") or "an unnamed user"), reason] += 1
    return found
