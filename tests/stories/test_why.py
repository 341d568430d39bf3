"""Why: one sentence and the chain, from the documents themselves."""

from typing import Any

from tests.world import World, joined

from .scenes import a_funded_show, a_request


async def why(world: World, transfer_id: str) -> Any:
    return await world.get(f"/v1/transfers/{transfer_id}/why")


class TestWhy:
    async def test_of_a_payout_leads_to_the_show_the_contribution_and_the_webhook(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60, earnings=2))
        await world.performs(show, seconds=74)
        await world.settle()
        (payout, _) = world.all("transfers", {"_id": {"$regex": "^escrow-"}})
        world.database.traces.delete_many({})
        told = await why(world, payout["_id"])
        assert told["sentence"].startswith("alice received 101 tokens at ")
        for part in ("reached level 1 (60 s) with 74 s performed", "reported by a webhook", "viewer-1's contribution"):
            assert part in told["sentence"]
        chain = {link["kind"]: link["id"] for link in reversed(told["chain"])}
        assert chain["goal"] == show.id
        assert chain["webhook"] == payout["cause"]["event_id"]
        assert chain["trace"] == payout["cause"]["root"]

    async def test_of_every_transfer_there_is_an_answer(self, world: World) -> None:
        await world.given(a_funded_show(seconds=60, earnings=2))
        request = await world.given(a_request(price=300))
        await world.post(f"/v1/goals/{request.id}/decline")
        await world.settle()
        sentences = [(await why(world, transfer["_id"]))["sentence"] for transfer in world.all("transfers")]
        assert any("as a contribution to the FundingGoal" in sentence for sentence in sentences)
        assert any("bob got 300 tokens back" in sentence and "the call decline" in sentence for sentence in sentences)
        assert any("deposited from outside" in sentence for sentence in sentences)

    async def test_of_no_transfer(self, world: World) -> None:
        assert (await world.call("GET", "/v1/transfers/nothing/why")).status_code == 404


class TestWhyNot:
    async def test_names_what_is_missing_and_who_did_not_count(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60, earnings=2))
        await world.hears(joined(show, "mallory"))
        await world.performs(show, seconds=48)
        await world.settle()
        await world.context.recorder.flush()
        told = await world.get(f"/v1/goals/{show.id}/why-not")
        for part in (
            "had 48 of 60 s performed",
            "12 of 60 s are missing",
            "mallory is not a participant",
            "still active",
        ):
            assert part in told["sentence"]
        assert {"mark", "escrow"} <= {link["kind"] for link in told["chain"]}

    async def test_of_a_settled_goal_nothing_is_missing(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60, earnings=2))
        await world.performs(show, seconds=74)
        await world.settle()
        assert (await world.get(f"/v1/goals/{show.id}/why-not"))["chain"] == []
