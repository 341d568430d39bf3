"""What must hold once a history is over and the queue is quiet , whatever happened on the way."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from bson import ObjectId

from goalsvc.domain.books import legs_of
from goalsvc.domain.events import TELLING_OF_TRANSFERS
from goalsvc.domain.goals import PERFORMED, GoalKind
from goalsvc.domain.ids import derived_id
from tests.support.books import findings_of

from .machine import Document
from .oracle import ClockOracle, sums_of
from .purses import money_violations
from .restore import what_documents_say
from .simulation import STREAMER, Simulation

Goals = Mapping[ObjectId, Document]
#: The events that tell that each share of an escrow is settled.
_SETTLED = ("escrow.completed", "escrow.refunded")


def violations_of(simulation: Simulation) -> list[str]:
    """Everything that is wrong; empty when nothing is."""
    contents = simulation.inside.contents()
    goals = {goal["_id"]: goal for goal in contents.get("goals", [])}
    found = [*simulation.violations, *simulation.connection.wrong]
    found += _progress(simulation, goals)
    found += _ends(simulation, goals)
    found += _money(simulation, contents, goals)
    found += _clips(simulation, contents, goals)
    found += _recordings(simulation, goals)
    found += _session(simulation, contents, goals)
    found += _notices(simulation)
    found += _told_of_ends(contents)
    found += _told_of_progress_and_deaths(contents)
    simulation.figures.goals += len(goals)
    simulation.figures.transfers += len(contents.get("transfers", []))
    return found


def kind_of(goal: Document) -> GoalKind:
    return GoalKind(str(goal["_cls"]).removeprefix("Goal."))


def _target(goal: Document) -> int | None:
    return goal["levels"][-1]["target"] if goal["levels"] else None


def _reached(goal: Document) -> bool:
    target = _target(goal)
    return target is not None and goal["progress"] >= target


def _waited(goal: Document) -> bool:
    """Whether late webhooks could still count after its end was announced."""
    clock = goal.get("clock") or {}
    return "settle_at" in clock or not clock.get("sealed")


# -- the clock, levels, ends ----------------------------------------------------------------------------------------------


def _progress(simulation: Simulation, goals: Goals) -> Iterator[str]:
    """Progress = seconds performed, or tokens contributed; and it was announced in full."""
    announced: Counter[str] = Counter()
    for event in simulation.records.tracked.values():
        if event["name"] == "goal.progressed":
            announced[event["goal_id"]] += event["amount"]
    for goal_id, goal in goals.items():
        kind = kind_of(goal)
        if kind in PERFORMED:
            expected = simulation.clocks.get(goal_id, ClockOracle()).seconds(goal["progress"])
        elif kind is GoalKind.FUNDING:
            expected = _contributed(simulation, goal_id)
        else:
            expected = 0
        if goal["progress"] != expected:
            yield f"{kind} {goal_id}: progress is {goal['progress']}, and should be {expected}"
        if announced[str(goal_id)] != expected:
            yield f"{kind} {goal_id}: {announced[str(goal_id)]} was announced as progress, and should be {expected}"


def _contributed(simulation: Simulation, goal_id: ObjectId) -> int:
    """The tokens that clients were told of; after a restore, those that the earnings are made of."""
    if simulation.restored:
        earnings = simulation.inside.peek("earnings").values()
        return sum(each["amount"] for each in earnings if each.get("goal_id") == goal_id)
    return sum(c.amount for c in simulation.known.contributions if c.goal_id == str(goal_id) and c.taken)


def _ends(simulation: Simulation, goals: Goals) -> Iterator[str]:
    """A level up is completed once, a goal ends once, with its final progress, and owes nothing."""
    tracked = list(simulation.records.tracked.values())
    for goal_id, goal in goals.items():
        name = f"{kind_of(goal)} {goal_id}"
        mine = [event for event in tracked if event.get("goal_id") == str(goal_id)]
        levels = [event["level"] for event in mine if event["name"] == "goal.completed"]
        reached = sum(level["target"] <= goal["progress"] for level in goal["levels"])
        if len(set(levels)) != len(levels):
            yield f"{name}: a level was completed twice: {levels}"
        if goal["levels"] and max(levels, default=0) != reached:
            yield f"{name}: levels {levels} were completed, and {reached} should be"
        if not goal["levels"] and kind_of(goal) is GoalKind.EXCLUSIVE and len(levels) != (goal["progress"] > 0):
            yield f"{name}: was completed {len(levels)} times at progress {goal['progress']}"
        ends = [event for event in mine if event["name"] == "goal.ended"]
        if goal.get("active", True):
            yield f"{name}: is still active"
        if len(ends) != 1:
            yield f"{name}: ended {len(ends)} times"
        elif ends[0]["progress"] != goal["progress"] and not (_waited(goal) and ends[0]["progress"] < goal["progress"]):
            yield f"{name}: ended with {ends[0]['progress']}, and has {goal['progress']} now"
        if goal.get("promises"):
            yield f"{name}: still owes {[promise['id'] for promise in goal['promises']]}"


# -- the money ------------------------------------------------------------------------------------------------------------


def _money(simulation: Simulation, contents: Mapping[str, list[Document]], goals: Goals) -> Iterator[str]:
    """Everybody has what is his; nothing is left in any escrow; the books balance."""
    accounts = {account["_id"]: account["balance"] for account in contents.get("accounts", [])}
    transfers = contents.get("transfers", [])
    for finding in findings_of(contents):
        yield finding.message
    for account, sum_of_transfers in sums_of(transfers).items():
        if accounts.get(account, 0) != sum_of_transfers:
            yield f"{account} holds {accounts.get(account, 0)}, its transfers come to {sum_of_transfers}"
    for account, balance in accounts.items():
        if account.startswith("escrow:") and balance != 0:
            yield f"{account} still holds {balance}"
    if simulation.restored:
        yield from simulation.books.wrong
    else:
        yield from money_violations(simulation, contents, goals)
    yield from what_documents_say(contents, goals, simulation.clocks)
    yield from simulation.audited
    yield from _shares(contents)
    yield from _told(contents)


def _told_of_ends(contents: Mapping[str, list[Document]]) -> Iterator[str]:
    """Each end of a goal, a session and a settlement has its event, also where a process was killed between the two."""
    told = {(event["type"], event.get("goal_id") or event.get("session_id")) for event in contents.get("events", [])}
    settled = {event["data"].get("escrow_id") for event in contents.get("events", []) if event["type"] in _SETTLED}
    for goal in contents.get("goals", []):
        if goal.get("active") is False and ("goal.ended", str(goal["_id"])) not in told:
            yield f"no event tells that goal {goal['_id']} has ended"
        if _reached(goal) and ("goal.completed", str(goal["_id"])) not in told:
            yield f"no event tells that goal {goal['_id']} reached its target"
    for session in contents.get("sessions", []):
        if session["statuses"].get("ended") and ("session.ended", str(session["_id"])) not in told:
            yield f"no event tells that session {session['_id']} has ended"
    for account in contents.get("accounts", []):
        if account.get("completed_at") and str(account["_id"]).removeprefix("escrow:") not in settled:
            yield f"no event tells that {account['_id']} is settled"


def _told_of_progress_and_deaths(contents: Mapping[str, list[Document]]) -> Iterator[str]:
    """The events of a goal's progress end with what it is; each dead letter has its event."""
    reached: dict[str, int] = {}
    deaths: set[str] = set()
    for event in contents.get("events", []):
        if event["type"] == "goal.progressed":
            progress = event["data"]["goal"]["progress"]
            reached[event["goal_id"]] = max(reached.get(event["goal_id"], 0), progress)
        elif event["type"] == "dead_letter.created":
            deaths.add(event["data"]["dead_letter"]["id"])
    for goal in contents.get("goals", []):
        if goal["progress"] != reached.get(str(goal["_id"]), 0):
            yield f"events tell of progress {reached.get(str(goal['_id']), 0)} of goal {goal['_id']}: {goal['progress']}"
    for letter in contents.get("dead_letters", []):
        if letter["_id"] not in deaths:
            yield f"no event tells of the dead letter {letter['_id']}"


def _told(contents: Mapping[str, list[Document]]) -> Iterator[str]:
    """Each transfer has one event that is it, also where a process was killed between the two; and none is invented."""
    events = [event["data"] for event in contents.get("events", []) if event["type"] in TELLING_OF_TRANSFERS]
    told: dict[str, list[Document]] = {}
    for transfer in (data["transfer"] for data in events if "transfer" in data):
        told.setdefault(transfer["id"], []).append(transfer)
    for transfer in contents.get("transfers", []):
        same = told.pop(transfer["_id"], [])
        if str(transfer["_id"]).startswith("hold-exclusive:"):
            continue  # what another service has moved is no transfer of ours
        if len(same) != 1:
            yield f"{len(same)} events tell of transfer {transfer['_id']}"
        elif (same[0]["debit"], same[0]["credit"], same[0]["amount"]) != (*legs_of(transfer), transfer["amount"]):
            yield f"transfer {transfer} was told as {same[0]}"
    if told:
        yield f"events tell of transfers that were not made: {sorted(told)}"


def _shares(contents: Mapping[str, list[Document]]) -> Iterator[str]:
    """Each Earning is paid once, or refunded once."""
    settled = Counter(
        transfer["metadata"]["doc_id"]
        for transfer in contents.get("transfers", [])
        if str(transfer["_id"]).startswith(("escrow-show_funding", "refund-show_funding"))
    )
    for earning in contents.get("earnings", []):
        if settled[str(earning["_id"])] != 1:
            yield f"earning {earning['_id']} was settled {settled[str(earning['_id'])]} times"


# -- clips, recordings, the session, notices ----------------------------------------------------------------------------------


def _clips(simulation: Simulation, contents: Mapping[str, list[Document]], goals: Goals) -> Iterator[str]:
    """A completed show or karaoke has one asset, one post and one object; what was not completed has none."""
    banned = "banned:livestream:create_clip" in simulation.inside.peek("users")[STREAMER]["tags"]
    wanted = [
        goal_id
        for goal_id, goal in goals.items()
        if kind_of(goal) in (GoalKind.SHOW, GoalKind.KARAOKE) and _reached(goal) and not banned
    ]
    assets = {asset["_id"]: asset["state"] for asset in contents.get("assets", [])}
    if simulation.restored:
        # A job of the lost time moves no tokens, but may still make a clip (docs/operations.md).
        made_anew = {derived_id(goal_id, "asset") for goal_id in wanted}
        assets = {identity: state for identity, state in assets.items() if identity in made_anew}
    if assets != (expected := {derived_id(goal_id, "asset"): "quarantined" for goal_id in wanted}):
        yield f"assets are {assets}, and should be {expected}"
    posts = {post["_id"] for post in contents.get("posts", [])}
    if not simulation.restored and posts != {derived_id(goal_id, "post") for goal_id in wanted}:
        yield f"posts are {posts}"
    stored = set(simulation.store.stored)
    lost = simulation.restored and stored > {str(asset) for asset in expected}  # of what the database has forgotten
    if stored != {str(asset) for asset in expected} and not lost:
        yield f"stored are {set(simulation.store.stored)}, and should be {set(map(str, expected))}"


def _recordings(simulation: Simulation, goals: Goals) -> Iterator[str]:
    """No recording of a show that is over runs on. (BytePlus would begin one that was stopped again, for a moment.)"""
    for goal_id, goal in goals.items():
        # Of a show that was started in a time that a restore has lost, the database does not know that it ever began.
        over = _reached(goal) or (goal.get("active") is False and not simulation.restored)
        if kind_of(goal) is GoalKind.SHOW and over and f"goal-{goal_id}" in simulation.rtc.recording:
            yield f"the recording of the show {goal_id}, which is over, still runs"


def _session(simulation: Simulation, contents: Mapping[str, list[Document]], goals: Goals) -> Iterator[str]:
    """The session tells of its goals as they are: nobody has it for himself any more, every pair is closed."""
    (session,) = contents["sessions"]
    if (viewer := session.get("status", {}).get("exclusive_to")) is not None:
        yield f"the session still belongs to {viewer}"
    for pair in session.get("show_goal_pairs", ()):
        show = goals[ObjectId(pair["show_goal"])]
        if _reached(show) != ("show_ended" in pair):
            yield f"show {show['_id']} with progress {show['progress']}: its pair says {pair}"
    for viewer, pair in session.get("exclusive_goal_pairs", {}).items():
        exclusive = goals[ObjectId(pair["exclusive_goal"])]
        if "exclusive_goal_ended" not in pair:
            yield f"the exclusive {exclusive['_id']} of {viewer} has ended, its pair does not say so: {pair}"
    karaoke = session.get("karaoke_goal")
    if karaoke is not None and karaoke["progress"] != goals[ObjectId(karaoke["id"])]["progress"]:
        yield f"the session shows karaoke {karaoke['progress']}"
    for viewer, window in session.get("viewers", {}).items():
        mine = [g for g in goals.values() if g.get("conditions", {}).get("exclusive_to") == viewer]
        if mine and ("exp" not in window or window["exp"] > max(goal["exp"] for goal in mine)):
            yield f"the window of {viewer} is open until {window.get('exp')}, their exclusives ended before"


_TOLD = {"goal.progressed": "goal.progress.updated", "goal.ended": "goal.ended"}


def _notices(simulation: Simulation) -> Iterator[str]:
    """Clients were told of every progress, every end and every payment, at least once."""
    told = {(notice.event, notice.data.get("event_id")) for notice in simulation.pusher.told}
    if not simulation.restored and (untold := simulation.known.owed_notices - {str(event_id) for _, event_id in told}):
        yield f"{len(untold)} notices of an earlier version were never told: {sorted(untold)[:3]}"
    last_told: dict[str, int] = {}
    for notice in simulation.pusher.told:
        if notice.event == "goal.progress.updated":
            goal_id = str(notice.data["goal_id"])
            last_told[goal_id] = max(last_told.get(goal_id, 0), notice.data["progress"])
    for identity, event in simulation.records.tracked.items():
        kind = event.get("kind")
        expected = _TOLD.get(event["name"])
        if expected is None or (kind == GoalKind.EXCLUSIVE and event["name"] == "goal.progressed"):
            continue
        event_id = identity.split(":", 2)[2]
        if event["name"] == "goal.ended" and kind == GoalKind.SHOW and _completed(simulation, event["goal_id"]):
            continue
        if event["name"] == "goal.progressed" and event["progress"] <= last_told.get(str(event["goal_id"]), -1):
            continue  # while Pusher was away, newer progress has taken its place
        if (expected, event_id) not in told:
            yield f"nobody was told {expected} ({event_id}) of {kind} {event['goal_id']}"
    yield from _debits_told(simulation)
    for transfer in simulation.inside.peek("transfers").values():
        settles = str(transfer["_id"]).startswith(("escrow-", "refund-")) and "to_user_id" in transfer
        settles = settles and "reversal" not in transfer["metadata"]  # what a reversal frees, it takes
        event_id = transfer["_id"]
        if str(event_id).startswith("escrow-"):  # a payout is told once, at its end
            event_id = f"{transfer['tags'][0].removeprefix('escrow::')}:escrow.completed"
        if settles and ("wallet.updated", event_id) not in told:
            yield f"nobody was told of transfer {transfer['_id']}"


def _debits_told(simulation: Simulation) -> Iterator[str]:
    """Each viewer is told of what they gave, no more and no less; a repeat says the same."""
    if simulation.restored:
        return
    amounts: dict[str, int] = {}
    told: Counter[tuple[str, str]] = Counter()
    for notice in simulation.pusher.told:
        data = notice.data
        if notice.event != "wallet.updated" or not str(data.get("escrow_id")).startswith("show_funding:"):
            continue
        if data["direction"] == "debit" and amounts.setdefault(data["event_id"], data["amount"]) != data["amount"]:
            yield f"{data['event_id']}: {amounts[data['event_id']]} tokens were told, then {data['amount']}"
    for event_id, amount in amounts.items():
        goal_id, _, viewer = event_id.split(":", 2)
        told[goal_id, viewer] += amount
    for contribution in simulation.known.contributions:
        if contribution.taken:
            told[contribution.goal_id, contribution.user] -= contribution.amount
    for (goal_id, viewer), excess in told.items():
        if excess:
            yield f"{viewer} was told of {excess} tokens more than they gave to {goal_id}"


def _completed(simulation: Simulation, goal_id: Any) -> bool:
    return _reached(simulation.goal(goal_id))
