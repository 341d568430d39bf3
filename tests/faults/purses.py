"""What everybody must have in the end: from what clients were told and what was performed, whoever won which race.

What a user is worth, the wallet less the debt, does not depend on the order in which money was moved.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from bson import ObjectId

from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import derived_id

from .machine import Document
from .oracle import Purses, performed_share
from .simulation import STREAMER, Simulation

Goals = Mapping[ObjectId, Document]
Contents = Mapping[str, list[Document]]


def money_violations(simulation: Simulation, contents: Contents, goals: Goals) -> Iterator[str]:
    """Yields where an account, or the number of transfers, is not what clients' answers come to."""
    yield from simulation.books.wrong
    yield from _each_once(simulation, contents)
    yield from _withdrawals(simulation, contents)
    yield from _contributions(simulation, contents)
    accounts = {account["_id"]: account["balance"] for account in contents.get("accounts", [])}
    purses = _purses(simulation, contents, goals)
    for user, expected in purses.tokens.items():
        worth = accounts.get(f"user:{user}", 0) + accounts.get(f"debt:{user}", 0)
        if worth != expected:
            yield f"{user} has {worth} tokens, and should have {expected}"
    if accounts.get("fees", 0) != purses.fees:
        yield f"the platform has {accounts.get('fees', 0)} tokens, and should have {purses.fees}"
    yield from _refunds(simulation, contents, goals)


# -- each effect once -------------------------------------------------------------------------------------------------

#: By verb: the first word of the transfers that it makes, one for each intent.
_MAKES = {"deposit": "deposit-", "adjustment": "adjustment-", "tip": "tip-", "withdrawal": "withdrawal-wd_"}


def _each_once(simulation: Simulation, contents: Contents) -> Iterator[str]:
    """Each intent that was taken made one transfer of its amount; one that was refused made none."""
    transfers = {transfer["_id"]: transfer for transfer in contents.get("transfers", [])}
    for verb, word in _MAKES.items():
        asked = Counter[str]()
        for intent in simulation.known.taken(verb):
            assert intent.taken is not None
            made = f"withdrawal-{intent.taken['id']}" if verb == "withdrawal" else intent.taken["id"]
            asked[made] += 1
            if made not in transfers or transfers[made]["amount"] != intent.body["amount"]:
                yield f"{verb} {made} of {intent.body} has made {transfers.get(made)}"
        made_all = {
            name for name in transfers if name.startswith(word) and not name.endswith(("-confirmed", "-returned"))
        }
        if unasked := made_all - set(asked):
            yield f"nobody was told of {unasked}"
        if twice := {name for name, times in asked.items() if times > 1}:
            yield f"one transfer is the answer to several intents: {twice}"
    references = Counter((each["account"], each["reference"]) for each in transfers.values() if "reference" in each)
    if used := {pair for pair, times in references.items() if times > 1}:
        yield f"references were used twice: {used}"


def _withdrawals(simulation: Simulation, contents: Contents) -> Iterator[str]:
    """A withdrawal ends once, in the way of which its client was told; what nothing ended was returned."""
    ends = Counter[str]()
    for transfer in contents.get("transfers", []):
        ends.update(end for end in ("confirmed", "returned") if transfer["_id"].endswith(f"-{end}"))
        if transfer["_id"].endswith(("-confirmed", "-returned")):
            ends[transfer["_id"].split("-")[1]] += 1
    for withdrawal in contents.get("withdrawals", []):
        name, state = withdrawal["_id"], withdrawal["state"]
        answers = simulation.known.conclusions.get(name, [])
        told = {{"confirm": "confirmed", "return": "returned"}[end] for end, answer in answers if answer.status == 200}
        states = {answer.body["state"] for _, answer in answers if answer.status == 200}
        if told - {state} or states - {state} or (not told and state != "returned"):
            yield f"withdrawal {name} is {state}, its client was told {answers}"
        if ends[name] != 1:
            yield f"withdrawal {name} ended {ends[name]} times"
        if any(answer.status not in (200, 409) for _, answer in answers):
            yield f"withdrawal {name}: {answers}"


def _contributions(simulation: Simulation, contents: Contents) -> Iterator[str]:
    """The earnings of a goal are what its viewers contributed, also where a reversal has split one."""
    told, stored = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for contribution in simulation.known.contributions:
        if contribution.taken:
            told[contribution.goal_id, contribution.user] += contribution.amount
    for earning in contents.get("earnings", []):
        stored[str(earning["goal_id"]), earning["from_user_id"]] += earning["amount"]
    if told != stored:
        yield f"contributed were {dict(told - stored)} more, and {dict(stored - told)} less, than the earnings say"


# -- who has what -----------------------------------------------------------------------------------------------------


def _purses(simulation: Simulation, contents: Contents, goals: Goals) -> Purses:
    purses = Purses({STREAMER: 0})
    _of_intents(simulation, purses)
    freed = Counter[str]()
    for transfer in contents.get("transfers", []):
        if transfer["debit"].startswith("escrow:") and any(tag.startswith("reversal::") for tag in transfer["tags"]):
            freed[transfer["debit"].removeprefix("escrow:")] += transfer["amount"]
        if "goal_refund" in transfer["tags"]:
            purses.give(transfer["to_user_id"], transfer["amount"])
    performed = {
        goal_id: clock.seconds(goals[goal_id]["progress"] if goal_id in goals else -1)
        for goal_id, clock in simulation.clocks.items()
    }
    for goal_id, goal in goals.items():
        fee_bps = simulation.known.fees.get(str(goal_id), 0)
        if _kind(goal) is GoalKind.FUNDING:
            paid = _funded(goal) and performed.get(derived_id(goal_id, "show"), 0) >= goal["metadata"]["show"]["target"]
            shares = [each for each in contents.get("earnings", []) if each["goal_id"] == goal_id]
            for each in shares:
                if paid and "reversal" not in each:
                    purses.take(each["from_user_id"], each["amount"])
                    purses.pay(STREAMER, each["amount"], fee_bps)
        elif _kind(goal) is GoalKind.TRIGGER:
            plan, price = goal["metadata"]["exclusive"], goal["metadata"]["price"]
            exclusive = derived_id(goal_id, "exclusive")
            held = price - freed[f"trigger:{goal_id}"] - freed[f"exclusive:{exclusive}"]
            seconds = performed.get(exclusive, 0) if goal.get("triggerer") else 0
            share = performed_share(held, seconds, plan["target"])
            purses.take(goal["metadata"]["viewer_id"], share)
            purses.pay(STREAMER, share, fee_bps)
        elif str(goal_id) in simulation.known.untimed and performed.get(goal_id, 0) > 0:
            purses.take(goal["metadata"]["viewer_id"], simulation.known.untimed[str(goal_id)])
            purses.give(STREAMER, simulation.known.untimed[str(goal_id)])
    return purses


def _of_intents(simulation: Simulation, purses: Purses) -> None:
    known = simulation.known
    for user, amount in known.deposit_ids().values():
        purses.give(user, amount)
    for reversed_id in {intent.taken["transfer_id"] for intent in known.taken("reversal") if intent.taken is not None}:
        purses.take(*known.deposit_ids()[reversed_id])
    for intent in known.taken("adjustment"):
        sign = 1 if intent.body["direction"] == "credit" else -1
        purses.give(intent.path.split("/")[3], sign * intent.body["amount"])
    for intent in known.taken("tip"):
        purses.take(intent.body["from_user_id"], intent.body["amount"])
        purses.give(intent.body["to_user_id"], intent.body["amount"])
    for intent in known.taken("withdrawal"):
        assert intent.taken is not None
        ends = known.conclusions.get(intent.taken["id"], [])
        if any(end == "confirm" and answer.status == 200 for end, answer in ends):
            purses.take(intent.taken["user_id"], intent.body["amount"])
    for intent in known.taken("refund"):
        assert intent.taken is not None
        purses.take(STREAMER, intent.taken["amount"])


def _kind(goal: Document) -> GoalKind:
    return GoalKind(str(goal["_cls"]).removeprefix("Goal."))


def _funded(goal: Document) -> bool:
    return bool(goal["progress"] >= goal["levels"][-1]["target"])


def _refunds(simulation: Simulation, contents: Contents, goals: Goals) -> Iterator[str]:
    """The shares of a refund are what was asked for; what was returned whole was returned to each as it was paid."""
    shares = Counter[str]()
    for transfer in contents.get("transfers", []):
        if "goal_refund" in transfer["tags"]:
            shares[transfer["metadata"]["refund_id"]] += transfer["amount"]
    asked = Counter[str]()
    for intent in simulation.known.taken("refund"):
        assert intent.taken is not None
        asked[intent.taken["id"]] = intent.taken["amount"]
        if "amount" in intent.body and intent.body["amount"] != intent.taken["amount"]:
            yield f"a refund of {intent.body} became one of {intent.taken}"
    if asked != shares:
        yield f"refunds {dict(asked)} were taken, {dict(shares)} were made"
