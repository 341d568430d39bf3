"""How a crowd funds a goal: which contributions are taken, in order, and what each of them is answered. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bson import ObjectId

from goalsvc.domain.promises import Promise
from goalsvc.errors import ConflictError, GoalsvcError, InsufficientFundsError, TransferConflictError


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """Tokens that a viewer offers to a FundingGoal. `transfer_id` follows from the caller's Idempotency-Key."""

    goal_id: ObjectId
    transfer_id: str
    user_id: str
    amount: int
    capped: bool = False
    """Whether at most what is missing to the target is taken."""
    earning_id: ObjectId = field(default_factory=ObjectId)
    """Id of the earning, if it is taken: one for each request, so that a request recognises its own earning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A contribution that was made: what was offered, what was taken, and the earning that it became."""

    transfer_id: str
    user_id: str
    offered: int
    amount: int
    capped: bool
    earning_id: str
    created_at: datetime | None

    @property
    def surplus(self) -> int:
        """What was offered and not taken."""
        return self.offered - self.amount

    def is_of(self, contribution: Contribution) -> bool:
        """Whether that contribution is the one that was made here."""
        return (self.user_id, self.offered, self.capped) == (
            contribution.user_id,
            contribution.amount,
            contribution.capped,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """The state of a FundingGoal before a batch of contributions."""

    open: bool
    """Whether it is active and its time has not passed."""
    progress: int
    target: int
    streamer: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A contribution that is taken now, and the goal's progress with it."""

    made: Made
    progress: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """A contribution that was taken before under the same key, and the goal's progress now."""

    made: Made
    progress: int


Decision = Taken | Replayed | GoalsvcError


@dataclass(slots=True)
class Batch:
    """Decides contributions to one goal, in order, against what the database held before the batch."""

    funding: Funding
    balances: dict[str, int]
    """Tokens by viewer."""
    made: dict[str, Made]
    """What was made before, by transfer id."""
    now: datetime
    allows_self_payment: bool = False
    progress: int = field(init=False)

    def __post_init__(self) -> None:
        self.progress = self.funding.progress

    def decide(self, contribution: Contribution) -> Decision:
        """Takes the contribution, answers it as before, or says why it is refused; later ones see what it changed."""
        before = self.made.get(contribution.transfer_id)
        if before is not None:
            if not before.is_of(contribution):
                return TransferConflictError(f"transfer {contribution.transfer_id} exists with other content")
            return Replayed(before, self.progress)
        refusal = self._refusal(contribution.user_id)
        if refusal is not None:
            return refusal
        missing = self.funding.target - self.progress
        amount = min(contribution.amount, missing) if contribution.capped else contribution.amount
        balance = self.balances.get(contribution.user_id, 0)
        if balance < amount:
            return InsufficientFundsError(f"user:{contribution.user_id} holds {balance} tokens, {amount} are asked for")
        made = Made(
            transfer_id=contribution.transfer_id,
            user_id=contribution.user_id,
            offered=contribution.amount,
            amount=amount,
            capped=contribution.capped,
            earning_id=str(contribution.earning_id),
            created_at=self.now,
        )
        self.balances[contribution.user_id] = balance - amount
        self.made[contribution.transfer_id] = made
        self.progress += amount
        return Taken(made, self.progress)

    def _refusal(self, user_id: str) -> GoalsvcError | None:
        if user_id == self.funding.streamer and not self.allows_self_payment:
            return ConflictError("self_payment", "user_id: must not be the streamer whose goal it is")
        if not self.funding.open or self.progress >= self.funding.target:
            return ConflictError("goal_inactive", "the goal is not active, or its last level is reached")
        return None


@dataclass(frozen=True, slots=True)
class Contributed:
    """What became of a contribution: how it was made, whether it was made now, and the goal's progress with it.

    `promise` is the announcement that the goal holds, for one caller of each batch to enqueue.
    """

    made: Made
    streamer: str
    progress: int
    new: bool
    promise: Promise | None


def debits_of(taken: Sequence[Taken]) -> Mapping[str, int]:
    """What each viewer pays in all, by viewer."""
    debits: dict[str, int] = {}
    for one in taken:
        debits[one.made.user_id] = debits.get(one.made.user_id, 0) + one.made.amount
    return debits
