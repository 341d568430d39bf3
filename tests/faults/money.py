"""The money beside shows and exclusives: withdrawals, reversals, adjustments, tips, refunds of goals, as clients ask for them.

All of it goes on while the users perform, contribute and are paid, with the same users; every verb meets every other.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from .intents import Intent
from .simulation import STREAMER, Simulation


@dataclass(frozen=True, slots=True)
class Business:
    """What money may be moved meanwhile: between these users, and of these goals' payouts. `name` makes keys unique."""

    simulation: Simulation
    name: str
    users: Sequence[str]
    goals: Sequence[str] = ()

    async def go_on(self, times: int, within_seconds: float) -> None:
        """Asks for so many movements, at any time within that."""
        random = self.simulation.random
        verbs = [random.choice(_VERBS if self.goals else _VERBS_WITHOUT_GOALS) for _ in range(times)]
        await asyncio.gather(*(self._later(verb, f"{self.name}-{n}", within_seconds) for n, verb in enumerate(verbs)))

    async def _later(self, verb: "Verb", key: str, within_seconds: float) -> None:
        await asyncio.sleep(self.simulation.random.choice([0.0, self.simulation.random.uniform(0.0, within_seconds)]))
        await verb(self, key)

    def user(self) -> str:
        return self.simulation.random.choice([*self.users, STREAMER])

    def amount(self) -> int:
        """Mostly a little; now and then more than there is."""
        random = self.simulation.random
        return random.choice([1, random.randrange(1, 100), random.randrange(1, 4000), random.randrange(1, 12_000)])

    async def ask(self, verb: str, path: str, body: dict[str, Any], key: str | None) -> Intent:
        """Asks for it, now and then under a key that is used for something else as well, or with a used reference."""
        random, bodies = self.simulation.random, [body]
        if random.random() < 0.15 and "amount" in body and verb != "refund":
            body["reference"] = f"reference-{random.randrange(3)}"
        if random.random() < 0.2:
            changes = [{"reason": "another one"}] if "reason" in body else [{"metadata": {"note": "another one"}}]
            changes += [{"amount": body["amount"] + 1}] if "amount" in body else []
            bodies.append({**body, **random.choice(changes)})
        return await self.simulation.intend(Intent(verb, path, bodies, key))


Verb = Callable[[Business, str], Coroutine[Any, Any, None]]


async def deposit(business: Business, key: str) -> None:
    user = business.user()
    await business.ask("deposit", f"/v1/wallets/{user}/deposits", {"amount": business.amount()}, key)


async def adjustment(business: Business, key: str) -> None:
    user, direction = business.user(), business.simulation.random.choice(["credit", "debit"])
    body = {"amount": business.amount(), "direction": direction, "reason": "corrected"}
    await business.ask("adjustment", f"/v1/wallets/{user}/adjustments", body, key)


async def tip(business: Business, key: str) -> None:
    payer, payee = business.user(), business.user()
    body = {"from_user_id": payer, "to_user_id": payee, "amount": business.amount()}
    if payer != payee:
        await business.ask("tip", "/v1/transfers", body, key)


async def withdrawal(business: Business, key: str) -> None:
    """Is begun; and confirmed, returned, both at once, or neither, until it returns by itself."""
    simulation, random, user = business.simulation, business.simulation.random, business.user()
    begun = await business.ask("withdrawal", f"/v1/wallets/{user}/withdrawals", {"amount": business.amount()}, key)
    if begun.taken is None:
        return
    ends = random.choice([["confirm"], ["confirm"], ["return"], ["confirm", "return"], ["return", "return"], []])
    await asyncio.sleep(random.choice([0.0, random.uniform(0.0, 30.0), random.uniform(80.0, 160.0)]))
    path = f"/v1/withdrawals/{begun.taken['id']}"
    answers = await asyncio.gather(*(simulation.insist("POST", f"{path}/{end}") for end in ends))
    simulation.known.conclusions[begun.taken["id"]] = list(zip(ends, answers, strict=True))


async def reversal(business: Business, key: str) -> None:
    """Of any deposit that was made by now."""
    deposits = sorted(business.simulation.known.deposit_ids())
    if deposits:
        path = f"/v1/deposits/{business.simulation.random.choice(deposits)}/reverse"
        await business.ask("reversal", path, {"reason": "chargeback"}, None)


async def refund(business: Business, key: str) -> None:
    """Of the whole payout of a goal, or of a part; a show's payout also by the goal that funded it."""
    random = business.simulation.random
    path = f"/v1/goals/{random.choice(business.goals)}/refund"
    amount = random.choice([None, None, 1, random.randrange(1, 50), random.randrange(1, 2000)])
    body = {"reason": "cut short"} if amount is None else {"reason": "cut short", "amount": amount}
    await business.ask("refund", path, body, key)


_VERBS_WITHOUT_GOALS: Sequence[Verb] = (deposit, adjustment, tip, tip, withdrawal, withdrawal, reversal)
_VERBS: Sequence[Verb] = (adjustment, tip, withdrawal, withdrawal, reversal, reversal, refund, refund, refund, refund)
