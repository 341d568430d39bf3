"""A person is erased on the real server: beside transfers at the same time, and whatever their document holds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import bson
import httpx
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from goalsvc.actions import erase_user
from goalsvc.models import erasure, ledger
from tests.world import World

pytestmark = pytest.mark.real

Step = Callable[..., Awaitable[Any]]


async def erases(world: World, user: str) -> httpx.Response:
    return await world.call("DELETE", f"/v1/users/{user}")


async def known(world: World) -> None:
    """Bob is known, and has had tokens before: his account is there."""
    await world.call("PUT", "/v1/users/bob", {"username": "Bob"})
    await world.deposits("bob", 5)
    withdrawn = await world.post("/v1/wallets/bob/withdrawals", {"amount": 5})
    await world.post(f"/v1/withdrawals/{withdrawn['id']}/confirm")


def attempts_of(step: Step) -> tuple[Step, list[Exception | None], asyncio.Event]:
    """The step, what came of each attempt at it, and when the first one was over."""
    outcomes, tried = list[Exception | None](), asyncio.Event()

    async def attempt(*given: Any) -> Any:
        try:
            found = await step(*given)
        except Exception as error:
            outcomes.append(error)
            raise
        else:
            outcomes.append(None)
            return found
        finally:
            tried.set()

    return attempt, outcomes, tried


@pytest.mark.parametrize("has_account", [True, False])
class TestADepositAtTheSameTime:
    async def test_that_was_made_first_refuses_the_erasure(
        self, world: World, monkeypatch: pytest.MonkeyPatch, has_account: bool
    ) -> None:
        await (known(world) if has_account else world.call("PUT", "/v1/users/bob", {"username": "Bob"}))
        hold, held, tried = attempts_of(erasure.hold_money_of)
        move, erasures = ledger._move, list[asyncio.Task[httpx.Response]]()

        async def moved_and_not_committed(*given: Any) -> None:
            await move(*given)
            if not erasures:
                erasures.append(asyncio.create_task(erases(world, "bob")))
                await tried.wait()

        monkeypatch.setattr(erase_user, "hold_money_of", hold)
        monkeypatch.setattr(ledger, "_move", moved_and_not_committed)
        await world.deposits("bob", 5)
        answer = await erasures[0]
        assert (answer.status_code, answer.json()["code"]) == (409, "user_has_open_money")
        assert isinstance(held[0], PyMongoError), "it could not be held while the deposit was under way"
        assert held[-1] is None
        (user,) = world.all("users", {"_id": "bob"})
        assert (user["username"], world.balance("bob")) == ("Bob", 5)

    async def test_that_comes_later_is_made_after_the_erasure(
        self, world: World, monkeypatch: pytest.MonkeyPatch, has_account: bool
    ) -> None:
        await (known(world) if has_account else world.call("PUT", "/v1/users/bob", {"username": "Bob"}))
        move, moved, tried = attempts_of(ledger._move)
        erase, deposits = erasure.erase, list[asyncio.Task[None]]()

        async def erased_and_not_committed(*given: Any) -> Any:
            found = await erase(*given)
            deposits.append(asyncio.create_task(world.deposits("bob", 5)))
            await tried.wait()
            return found

        monkeypatch.setattr(ledger, "_move", move)
        monkeypatch.setattr(erase_user, "erase", erased_and_not_committed)
        answer = await erases(world, "bob")
        await deposits[0]
        assert answer.status_code == 200
        assert isinstance(moved[0], PyMongoError), "it could not be made while the erasure was under way"
        assert world.balance("bob") == 5
        assert "username" not in world.all("users", {"_id": "bob"})[0]


async def test_text_that_is_not_utf_8_is_kept_as_it_is(world: World) -> None:
    promise = bson.encode({"_id": "bob", "username": "Bob", "promises": ["XYZ"], "a.b": {"$c": 1}})
    world.database.users.insert_one(RawBSONDocument(promise.replace(b"XYZ", b"\xff\xfe\xfd")))
    assert (await erases(world, "bob")).status_code == 200
    raw = world.database.users.with_options(bson.CodecOptions(document_class=RawBSONDocument))
    stored = raw.find_one({"_id": "bob"})
    assert stored is not None
    assert b"\xff\xfe\xfd" in stored.raw
    assert (b"Bob" in stored.raw, b"$c" in stored.raw) == (False, False)
    again = await erases(world, "bob")
    assert (again.status_code, again.json()["erased_at"][:10]) == (200, "2026-03-01")
    world.database.users.delete_one({"_id": "bob"})
