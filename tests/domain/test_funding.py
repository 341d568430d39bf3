"""Which contributions of a batch are taken, in order, and what each of them is answered."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from goalsvc.domain.funding import Batch, Contribution, Decision, Funding, Replayed, Taken, debits_of
from goalsvc.errors import GoalsvcError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOAL = ObjectId()
FUNDING = Funding(open=True, progress=0, target=100, streamer="alice")


def batch(funding: Funding = FUNDING, **balances: int) -> Batch:
    return Batch(funding, dict(balances), {}, NOW)


def of(user: str, amount: int, *, key: str | None = None, cap: bool = False) -> Contribution:
    transfer_id = f"contribution-{key or ObjectId()}"
    return Contribution(goal_id=GOAL, transfer_id=transfer_id, user_id=user, amount=amount, capped=cap)


def code(decision: Decision) -> str:
    """The code of a refusal; `taken` or `replayed`."""
    return decision.code if isinstance(decision, GoalsvcError) else type(decision).__name__.lower()


def test_one_without_funds_is_refused_alone() -> None:
    deciding = batch(bob=10, dave=10)
    decisions = [deciding.decide(of(user, 10)) for user in ("bob", "carol", "dave")]
    assert [code(one) for one in decisions] == ["taken", "insufficient_funds", "taken"]
    assert [one.progress for one in decisions if isinstance(one, Taken)] == [10, 20]


def test_several_of_one_viewer_are_paid_from_one_balance() -> None:
    deciding = batch(bob=25)
    decisions = [deciding.decide(of("bob", 10)) for _ in range(3)]
    assert [code(one) for one in decisions] == ["taken", "taken", "insufficient_funds"]
    assert debits_of([one for one in decisions if isinstance(one, Taken)]) == {"bob": 20}


def test_the_same_key_twice_in_one_batch_is_taken_once() -> None:
    deciding = batch(bob=100)
    first, second = deciding.decide(of("bob", 10, key="k")), deciding.decide(of("bob", 10, key="k"))
    assert isinstance(first, Taken)
    assert second == Replayed(first.made, 10)
    assert deciding.balances == {"bob": 90}


@pytest.mark.parametrize("other", [of("bob", 11, key="k"), of("carol", 10, key="k"), of("bob", 10, key="k", cap=True)])
def test_the_same_key_for_something_else_is_a_conflict(other: Contribution) -> None:
    deciding = batch(bob=100, carol=100)
    deciding.decide(of("bob", 10, key="k"))
    assert code(deciding.decide(other)) == "transfer_conflict"


def test_a_repeat_is_answered_also_when_the_goal_is_over_and_the_wallet_empty() -> None:
    deciding = batch(bob=100)
    first = deciding.decide(of("bob", 100, key="k"))
    assert isinstance(first, Taken)
    later = Batch(replace(FUNDING, open=False, progress=100), {}, deciding.made, NOW)
    assert code(later.decide(of("bob", 100, key="k"))) == "replayed"


def test_those_after_the_one_that_reaches_the_target_are_refused() -> None:
    deciding = batch(bob=200, carol=200)
    decisions = [deciding.decide(of(user, amount)) for user, amount in (("bob", 90), ("carol", 30), ("bob", 1))]
    assert [code(one) for one in decisions] == ["taken", "taken", "goal_inactive"]
    assert deciding.progress == 120


@pytest.mark.parametrize(("offered", "taken", "surplus"), [(30, 30, 0), (40, 40, 0), (41, 40, 1), (500, 40, 460)])
def test_a_capped_one_takes_what_is_missing(offered: int, taken: int, surplus: int) -> None:
    deciding = batch(replace(FUNDING, progress=60), bob=40)
    decision = deciding.decide(of("bob", offered, key="k", cap=True))
    assert isinstance(decision, Taken)
    assert (decision.made.amount, decision.made.surplus) == (taken, surplus)
    again = deciding.decide(of("bob", offered, key="k", cap=True))
    assert isinstance(again, Replayed)
    assert (again.made.amount, again.made.surplus) == (taken, surplus)


def test_the_streamer_is_refused_unless_that_is_allowed() -> None:
    assert code(batch(alice=10).decide(of("alice", 10))) == "self_payment"
    allowed = Batch(FUNDING, {"alice": 10}, {}, NOW, allows_self_payment=True)
    assert code(allowed.decide(of("alice", 10))) == "taken"


def test_a_goal_that_is_over_takes_nothing() -> None:
    assert code(batch(replace(FUNDING, open=False), bob=10).decide(of("bob", 10))) == "goal_inactive"
