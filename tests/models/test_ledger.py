"""The ledger on the real server: double entry, once, all or nothing, whoever else is at it."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from goalsvc.domain.escrow import ISSUER, Settlement, escrow_account, user_account
from goalsvc.domain.orders import Order
from goalsvc.errors import ConflictError, GoalsvcError, InsufficientFundsError, TransferConflictError
from goalsvc.models.wallet import Account
from tests.world import World

pytestmark = pytest.mark.real

ESCROW = escrow_account("show_funding:1")


async def post(world: World, **order: Any) -> bool:
    """Makes the transfer; whether it was made now."""
    _, new = await world.context.ledger.post(Order(**order), world.clock.now())
    return new


async def outcomes(*transfers: Any) -> Counter[str]:
    """How these transfers went, made side by side."""
    made = await asyncio.gather(*transfers, return_exceptions=True)
    unexpected = [error for error in made if isinstance(error, BaseException) and not isinstance(error, GoalsvcError)]
    assert unexpected == []
    return Counter(type(one).__name__ if isinstance(one, Exception) else ("made" if one else "known") for one in made)


def balances(world: World) -> dict[str, int]:
    return {account["_id"]: account["balance"] for account in world.all("accounts")}


async def deposit(world: World, account: str, amount: int) -> None:
    await post(world, transfer_id=f"deposit-{account}", debit=ISSUER, credit=account, amount=amount)


async def test_the_same_transfer_side_by_side_is_made_once(world: World) -> None:
    same = {"transfer_id": "one", "debit": ISSUER, "credit": user_account("bob"), "amount": 7}
    assert await outcomes(*(post(world, **same) for _ in range(12))) == {"made": 1, "known": 11}
    assert balances(world) == {ISSUER: -7, "user:bob": 7}


async def test_many_transfers_from_one_account(world: World) -> None:
    await deposit(world, ESCROW, 10)
    pays = [
        post(world, transfer_id=f"pay-{n}", debit=ESCROW, credit=user_account(f"u{n % 3}"), amount=1)
        for n in range(25)
    ]  # fmt: skip
    assert await outcomes(*pays) == {"made": 10, "InsufficientFundsError": 15}
    assert balances(world)[ESCROW] == 0
    assert len(world.all("transfers")) == 11


async def test_transfers_round_in_a_circle(world: World) -> None:
    users = [user_account(name) for name in ("a", "b", "c")]
    for user in users:
        await deposit(world, user, 100)
    moves = [
        post(world, transfer_id=f"move-{n}", debit=users[n % 3], credit=users[(n + 1) % 3], amount=3)
        for n in range(30)
    ]  # fmt: skip
    assert await outcomes(*moves) == {"made": 30}
    assert balances(world) == {ISSUER: -300, **dict.fromkeys(users, 100)}


@pytest.mark.parametrize(
    "other", [{"amount": 8}, {"credit": user_account("carol")}, {"to_user_id": "bob"}, {"tags": ["escrow::x"]}]
)
async def test_the_same_id_with_other_content_is_refused(world: World, other: dict[str, Any]) -> None:
    first = {"transfer_id": "one", "debit": ISSUER, "credit": user_account("bob"), "amount": 7}
    await post(world, **first)
    with pytest.raises(TransferConflictError):
        await post(world, **(first | other))
    assert balances(world) == {ISSUER: -7, "user:bob": 7}


async def test_what_was_made_is_known_also_when_it_could_not_be_made_any_more(world: World) -> None:
    await deposit(world, ESCROW, 5)
    pay = {"transfer_id": "pay", "debit": ESCROW, "credit": user_account("bob"), "amount": 5}
    assert await post(world, **pay) is True
    assert await post(world, **pay) is False
    with pytest.raises(InsufficientFundsError):
        await post(world, **(pay | {"transfer_id": "pay-2"}))


async def test_from_an_account_that_is_not_there(world: World) -> None:
    with pytest.raises(InsufficientFundsError):
        await post(world, transfer_id="one", debit=user_account("nobody"), credit=ESCROW, amount=1)
    assert (balances(world), world.all("transfers")) == ({}, [])


async def test_what_goes_along_fails_and_all_of_it_is_undone(world: World) -> None:
    async def fail(session: Any) -> None:
        raise ConflictError("goal_inactive", "the goal is over")

    order = Order(transfer_id="one", debit=ISSUER, credit=ESCROW, amount=9)
    with pytest.raises(ConflictError):
        await world.context.ledger.post(order, world.clock.now(), fail)
    assert (balances(world), world.all("transfers")) == ({}, [])


async def test_an_escrow_is_paid_or_refunded_never_half_of_each(world: World) -> None:
    world.expected_findings = {"escrow_without_goal"}
    await deposit(world, ESCROW, 20)
    sides = [
        post(
            world,
            transfer_id=f"{way.value}-{share}",
            debit=ESCROW,
            credit=user_account(way.value),
            amount=1,
            settlement=way,
        )
        for share in range(10)
        for way in Settlement
    ]
    assert await outcomes(*sides) == {"made": 10, "ConflictError": 10}
    assert sorted(balances(world).values()) == [-20, 10, 10]
    account = await Account.of_escrow("show_funding:1")
    assert account is not None
    assert account.shares_settled == 10
