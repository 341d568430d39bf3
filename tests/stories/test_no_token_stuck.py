"""Nobody is paid for what no document promises, and no token stays where nothing leads to it."""

from typing import Any

import pytest
from bson import ObjectId

from goalsvc.domain.ids import derived_id, exclusive_of
from goalsvc.domain.promises import Job
from goalsvc.errors import LedgerBusyError, UnusableDocumentError
from goalsvc.models.goal import FundingGoal, Goal, TriggerGoal
from tests.world import Document, World, joined, left, occupied, vacated

from .scenes import Show, a_funded_show, a_funding, a_request, a_stage, an_exclusive, contributes

pytestmark = pytest.mark.real


async def snapshot(world: World) -> dict[str, list[Document]]:
    """Every document, as a backup has it."""
    await world.context.recorder.flush()
    return {name: list(world.database[name].find()) for name in world.database.list_collection_names()}


async def restore(world: World, backup: dict[str, list[Document]]) -> None:
    """The database as the backup has it; Redis is left as it is."""
    await world.context.recorder.flush()
    for name in world.database.list_collection_names():
        if name.startswith("system."):
            continue
        world.database[name].delete_many({})
        if documents := backup.get(name):
            world.database[name].insert_many(documents)


async def until_shares_wait(world: World) -> None:
    """Lets the workers run until the shares of the escrow are in the queue."""
    while not any(job.task == "settle_shares" for job in world.jobs.waiting):
        assert await world.jobs.work_one(world.context), "no share was ever enqueued"


class TestRestoredDatabase:
    """MongoDB is restored and Redis is not emptied: jobs of the lost future move nothing."""

    async def test_shares_of_a_show_that_was_never_performed(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        backup = await snapshot(world)
        await world.performs(show, seconds=400)
        await until_shares_wait(world)
        await restore(world, backup)
        world.arrivals.clear()
        await world.settle()
        assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (0, show.escrow)
        assert world.goal(show)["active"]
        assert not [t for t in world.all("transfers") if t["_id"].startswith("escrow-")]
        assert [told for told in world.told("wallet.updated") if told["direction"] == "credit"] == []

    async def test_every_job_of_the_lost_future(self, world: World) -> None:
        """Whatever was in the queue when the backup came back: the show can still be performed, and is paid once."""
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        backup = await snapshot(world)
        await world.performs(show, seconds=400)
        for _ in range(3):
            await world.jobs.work_one(world.context)
        await restore(world, backup)
        world.arrivals.clear()
        await world.settle()
        assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (0, show.escrow)
        await world.performs(show, seconds=400)
        await world.settle(patience=60)
        assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (show.escrow, 0)


class TestPlantedJobs:
    """What is put into the queue by another hand moves nothing, whatever it says."""

    @pytest.mark.parametrize("promise", [None, "escrow_out", "goal.ended"])
    async def test_a_transfer_between_users(self, world: World, promise: str | None) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=1))
        await world.deposits("bob", 101)
        tip = {"transfer_id": "t", "from_user_id": "bob", "to_user_id": "mallory", "amount": 101, "tags": []}
        ref = None if promise is None else f"goals/{show.id}/{promise}"
        world.context.queue.enqueue(Job("planted", "transfer", tip, promise=ref))
        await world.settle()
        assert (world.balance("bob"), world.balance("mallory")) == (101, 0)

    async def test_the_settlement_of_a_show_that_goes_on(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        for task in ("escrow_out", "refund_escrow"):
            arguments = {"escrow_id": show.escrow_id, "user_id": "mallory", "goal_id": show.id}
            window = {"nbf": world.clock.now(), "exp": world.clock.now()} if task == "escrow_out" else {}
            world.context.queue.enqueue(
                Job(f"planted-{task}", task, arguments | window, promise=f"goals/{show.id}/{task}")
            )
        await world.settle()
        assert (world.balance("mallory"), world.escrow(show.escrow_id)) == (0, show.escrow)


class TestEarnings:
    async def test_of_any_date_are_paid(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        early = world.clock.now().replace(year=2001)
        world.database.earnings.update_many({}, {"$set": {"created_at": early}})
        await world.performs(show, seconds=400)
        await world.settle(patience=60)
        assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (show.escrow, 0)
        assert {earning["state"] for earning in world.all("earnings")} == {"paid"}

    async def test_of_an_unknown_date_are_refunded(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        world.database.earnings.update_many({}, {"$unset": {"created_at": True}})
        await world.ends(show)
        await world.settle(patience=60)
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions
        assert {earning["state"] for earning in world.all("earnings")} == {"refunded"}

    @pytest.mark.parametrize("amount", [-30, 0, 1.5, "30", None])
    async def test_of_no_amount_moves_nothing_and_is_a_dead_letter(self, world: World, amount: Any) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=2))
        foreign = ObjectId()
        earning = {"_id": foreign, "user_id": show.streamer, "from_user_id": "eve", f"_{show.escrow_id}": True}
        world.database.earnings.insert_one(earning | ({} if amount is None else {"amount": amount}))
        await world.ends(show)
        await world.settle(patience=60)
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions
        assert world.balance("eve") == 0
        (letter,) = world.all("dead_letters")
        assert f"earning {foreign}: amount" in letter["reason"]
        world.has_dead_letters = True

    async def test_that_nobody_earned_leave_a_dead_letter_that_can_be_redriven(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=2))
        lost = world.database.earnings.find_one_and_delete({"from_user_id": "viewer-1"})
        assert lost is not None
        await world.performs(show, seconds=400)
        await world.settle(patience=60)
        assert world.escrow(show.escrow_id) == lost["amount"]
        (letter,) = world.all("dead_letters")
        assert letter["reason"].startswith("escrow_not_empty: ")
        world.database.earnings.insert_one(lost)
        await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle(patience=60)
        assert (world.escrow(show.escrow_id), world.balance(show.streamer)) == (0, show.escrow)


class TestPairs:
    @pytest.mark.parametrize("completed", [True, False])
    async def test_a_pair_that_another_writer_removed(self, world: World, completed: bool) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        world.database.sessions.update_one({}, {"$set": {"show_goal_pairs": []}})
        await world.performs(show, seconds=400 if completed else 100)
        await world.ends(show) if not completed else None
        await world.settle(patience=60)
        assert world.escrow(show.escrow_id) == 0
        assert world.balance(show.streamer) == (show.escrow if completed else 0)


class TestTargets:
    @pytest.mark.parametrize("target", [86_401, 10**12])
    @pytest.mark.parametrize("kind", ["ShowGoal", "KaraokeGoal", "ExclusiveGoal", "FundingGoal", "TriggerGoal"])
    async def test_more_than_a_day_is_refused(self, world: World, kind: str, target: int) -> None:
        stage = await world.given(a_stage())
        plan = {"title": "Long", "target": target}
        body: dict[str, Any] = {"kind": kind, "session_id": stage.session_id, "levels": [plan]}
        match kind:
            case "FundingGoal":
                body |= {"levels": [{"title": "", "target": 10}], "metadata": {"show": plan}}
            case "TriggerGoal":
                body |= {"levels": [], "metadata": {"viewer_id": "bob", "private": True, "exclusive": plan}}
            case "ExclusiveGoal":
                body |= {"conditions": {"exclusive_to": "bob"}}
        response = await world.call("POST", "/v1/goals", body)
        assert response.status_code == 422
        assert "86400" in response.text

    async def test_a_target_of_another_service_strands_no_hold(self, world: World) -> None:
        """A request that another service wrote asks for 10^12 seconds; it is agreed to, and performed for a while."""
        request = await world.given(a_request(price=300, seconds=360))
        asked = {"$set": {"metadata.exclusive.target": 10**12}}
        world.database.goals.update_one({"_id": ObjectId(request.id)}, asked)
        await world.post(f"/v1/goals/{request.id}/agree")
        await world.settle()
        await world.post(f"/v1/sessions/{request.session_id}/end")
        await world.settle(patience=60)
        assert (world.balance("bob"), world.escrow(request.escrow_id)) == (300, 0)


class TestPrices:
    @pytest.mark.parametrize("kind", ["ShowGoal", "KaraokeGoal", "ExclusiveGoal", "FundingGoal"])
    async def test_only_what_is_charged_has_a_price(self, world: World, kind: str) -> None:
        stage = await world.given(a_stage())
        body: dict[str, Any] = {
            "kind": kind,
            "session_id": stage.session_id,
            "levels": [{"title": "", "target": 10}],
            "metadata": {"price": 5, "show": {"title": "", "target": 5}},
        }
        if kind == "ExclusiveGoal":
            body["conditions"] = {"exclusive_to": "bob"}
        response = await world.call("POST", "/v1/goals", body)
        assert response.status_code == 422
        assert "metadata.price" in response.text

    async def test_a_request_without_an_end_gets_one(self, world: World) -> None:
        stage = await world.given(a_stage())
        await world.deposits("bob", 300)
        metadata = {"viewer_id": "bob", "private": True, "price": 300, "exclusive": {"title": "", "target": 60}}
        body = {"kind": "TriggerGoal", "session_id": stage.session_id, "metadata": metadata}
        made = await world.post("/v1/goals", body)
        assert "exp" in made
        await world.settle(patience=3600)
        assert (world.balance("bob"), world.escrow(f"trigger:{made['id']}")) == (300, 0)


class TestFees:
    async def test_what_the_goal_says_goes_to_the_platform(self, world: World) -> None:
        funding = await world.given(a_funding(target=300, fee_bps=1000))
        for viewer, amount in {"v1": 101, "v2": 199}.items():
            await world.deposits(viewer, amount)
            await contributes(world, funding, viewer, amount)
        await world.settle()
        (pair,) = world.session(funding.session_id)["show_goal_pairs"]
        show = Show(str(pair["show_goal"]), funding.session_id, funding.id, {"v1": 101, "v2": 199}, 360)
        await world.performs(show, seconds=400)
        await world.settle(patience=60)
        assert world.account("fees") == 10 + 19
        assert world.balance(show.streamer) == 300 - 29

    async def test_more_than_all_of_it_is_refused(self, world: World) -> None:
        stage = await world.given(a_stage())
        body = {"kind": "ShowGoal", "session_id": stage.session_id, "levels": [{"target": 5}], "fee_bps": 10_001}
        assert (await world.call("POST", "/v1/goals", body)).status_code == 422

    async def test_nobody_points_a_show_at_the_escrow_of_another(self, world: World) -> None:
        show = await world.given(a_funded_show())
        metadata = {"funding_goal_id": show.funding_id}
        body = {"kind": "ShowGoal", "session_id": show.session_id, "levels": [{"target": 5}], "metadata": metadata}
        assert (await world.call("POST", "/v1/goals", body)).status_code == 422


class TestLevelsOfACompletedGoal:
    """Levels are final once the last of them is reached: the show begins or is paid, and is not refunded as well."""

    @staticmethod
    async def adds_a_level(world: World, goal_id: str) -> tuple[int, str]:
        levels = [{name: level[name] for name in ("title", "target")} for level in world.goal(goal_id)["levels"]]
        body = {"levels": [*levels, {"title": "More", "target": 5000}]}
        answer = await world.call("PATCH", f"/v1/goals/{goal_id}", body)
        return answer.status_code, answer.json()["code"]

    @pytest.mark.parametrize("jobs", [0, 1, 2])
    async def test_of_a_funding_before_it_has_ended(self, world: World, jobs: int) -> None:
        funding = await world.given(a_funding(target=300))
        await world.settle()
        await world.deposits("bob", 300)
        await contributes(world, funding, "bob", 300)
        await world.work_off(jobs)
        assert world.goal(funding.id)["active"]
        assert await self.adds_a_level(world, funding.id) == (409, "goal_inactive")
        await world.settle()
        assert world.goal(str(derived_id(ObjectId(funding.id), "show")))["active"]
        assert (world.balance("bob"), world.escrow(f"show_funding:{funding.id}")) == (0, 300)

    @pytest.mark.parametrize("jobs", [0, 1])
    async def test_of_a_show_before_it_has_ended(self, world: World, jobs: int) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=3))
        await world.performs(show, seconds=400)
        while world.progress(show) < show.seconds:
            await world.work_off(1)
        await world.work_off(jobs)
        assert world.goal(show)["active"]
        assert await self.adds_a_level(world, show.id) == (409, "goal_inactive")
        await world.settle(patience=60)
        assert world.balance(show.streamer) == show.escrow

    async def test_that_another_service_changed_refund_no_funding_whose_show_has_begun(self, world: World) -> None:
        funding = await world.given(a_funding(target=300))
        await world.settle()
        await world.deposits("bob", 300)
        await contributes(world, funding, "bob", 300)
        while world.database.goals.find_one({"_cls": "Goal.ShowGoal"}) is None:
            await world.work_off(1)
        theirs = {"$set": {"levels.0.target": 5000}}
        world.database.goals.update_one({"_id": ObjectId(funding.id), "active": True}, theirs)
        await world.settle()
        assert not world.goal(funding.id)["active"]
        assert (world.balance("bob"), world.escrow(f"show_funding:{funding.id}")) == (0, 300)
        world.database.goals.update_one({"_id": ObjectId(funding.id)}, {"$set": {"levels.0.target": 300}})


class TestGoalsOfAnEndedSession:
    """No goal outlives its session: it would hold what is contributed to it for ever."""

    async def test_one_that_is_created_while_its_session_ends(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage = await world.given(a_stage())
        insert = FundingGoal.insert

        async def insert_late(goal: FundingGoal, **options: Any) -> Any:
            monkeypatch.setattr(FundingGoal, "insert", insert)
            await world.post(f"/v1/sessions/{stage.session_id}/end")
            await world.settle()  # the job that ends its goals finds none
            return await insert(goal, **options)

        monkeypatch.setattr(FundingGoal, "insert", insert_late)
        body = {"kind": "FundingGoal", "session_id": stage.session_id, "levels": [{"title": "", "target": 100}]}
        made = await world.post("/v1/goals", {**body, "metadata": {"show": {"title": "", "target": 60}}})
        assert made["active"] is False
        await world.deposits("bob", 40)
        gift = {"user_id": "bob", "amount": 40}
        answer = await world.call("POST", f"/v1/goals/{made['id']}/contributions", gift)
        assert (answer.status_code, answer.json()["code"]) == (409, "goal_inactive")
        await world.settle()
        (told,) = world.all("events", {"type": "goal.ended"})
        assert told["goal_id"] == made["id"]

    async def test_the_price_of_a_request_goes_back(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        stage = await world.given(a_stage())
        await world.deposits("bob", 300)
        insert = TriggerGoal.insert

        async def insert_late(goal: TriggerGoal, **options: Any) -> Any:
            monkeypatch.setattr(TriggerGoal, "insert", insert)
            await world.post(f"/v1/sessions/{stage.session_id}/end")
            await world.settle()
            return await insert(goal, **options)

        monkeypatch.setattr(TriggerGoal, "insert", insert_late)
        metadata = {"viewer_id": "bob", "private": True, "price": 300, "exclusive": {"title": "", "target": 60}}
        body = {"kind": "TriggerGoal", "session_id": stage.session_id, "metadata": metadata}
        made = await world.post("/v1/goals", body)
        await world.settle(patience=60)
        assert (world.balance("bob"), world.escrow(f"trigger:{made['id']}")) == (300, 0)

    @staticmethod
    def fails_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        """Lets the next end of a goal fail."""
        deactivate = Goal.deactivate
        left_to_fail = [error]

        async def failing(*arguments: Any, **options: Any) -> Any:
            if left_to_fail:
                raise left_to_fail.pop()
            return await deactivate(*arguments, **options)

        monkeypatch.setattr(Goal, "deactivate", failing)

    async def test_one_that_others_are_changing_ends_a_moment_later(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        funding = await world.given(a_funding(target=300))
        await world.deposits("bob", 100)
        await contributes(world, funding, "bob", 100)
        await world.settle()
        self.fails_once(monkeypatch, LedgerBusyError("others moved the clock 20 times in a row"))
        await world.post(f"/v1/sessions/{funding.session_id}/end")
        await world.settle()
        assert (world.goal(funding.id)["active"], world.balance("bob")) == (False, 100)
        assert len(world.all("events", {"type": "session.ended"})) == 1

    async def test_one_that_cannot_be_used_is_a_dead_letter_and_the_others_end(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.has_dead_letters = True
        funding = await world.given(a_funding(target=300))
        levels = [{"title": "", "target": 60}]
        body = {"kind": "KaraokeGoal", "session_id": funding.session_id, "levels": levels}
        karaoke = await world.post("/v1/goals", body)
        await world.deposits("bob", 100)
        await contributes(world, funding, "bob", 100)
        await world.settle()
        self.fails_once(monkeypatch, UnusableDocumentError(f"goals/{funding.id}", "document", "refuses a change"))
        await world.post(f"/v1/sessions/{funding.session_id}/end")
        await world.settle()
        assert (world.goal(funding.id)["active"], world.goal(karaoke["id"])["active"]) == (True, False)
        (letter,) = world.all("dead_letters")
        assert (letter["task"], letter["state"]) == ("end_session", "dead")
        assert f"goals/{funding.id}: document: refuses a change" in letter["reason"]
        assert len(world.all("events", {"type": "session.ended"})) == 1
        await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle()
        assert (world.goal(funding.id)["active"], world.balance("bob")) == (False, 100)


#: What another service may make of the show that a FundingGoal pays for, so that it cannot begin.
NO_SHOW: list[Document] = [
    {"$unset": {"metadata.show": True}},
    {"$set": {"metadata.show.target": "360"}},
    {"$set": {"metadata.show.target": 12.5}},
    {"$set": {"metadata.show.target": 0}},
    {"$set": {"metadata.show.target": -5}},
    {"$unset": {"conditions.session_id": True}},
]


class TestOddFields:
    """Whatever other services make of a goal's fields, its tokens reach a user, or a dead letter names what is missing."""

    @pytest.mark.parametrize("change", NO_SHOW, ids=str)
    async def test_a_funding_that_can_begin_no_show_is_refunded(self, world: World, change: Document) -> None:
        funding = await world.given(a_funding(target=300))
        world.database.goals.update_one({"_id": ObjectId(funding.id)}, change)
        await world.deposits("bob", 300)
        await contributes(world, funding, "bob", 300)
        await world.settle(patience=60)
        assert world.database.goals.find_one({"_cls": "Goal.ShowGoal"}) is None
        assert (world.balance("bob"), world.escrow(f"show_funding:{funding.id}")) == (300, 0)

    @pytest.mark.parametrize("target", [0, -5])
    async def test_a_show_without_a_target_above_0_is_not_completed_and_refunded_at_its_end(
        self, world: World, target: int
    ) -> None:
        show = await world.given(a_funded_show(seconds=360, earnings=2))
        await world.settle()
        world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": {"levels.0.target": target}})
        await world.performs(show, seconds=60)
        await world.settle()
        assert world.goal(show)["active"]
        await world.ends(show)
        await world.settle(patience=600)
        assert {viewer: world.balance(viewer) for viewer in show.contributions} == show.contributions

    @pytest.mark.parametrize("target", [0, -5])
    async def test_an_exclusive_that_was_asked_for_without_a_target(self, world: World, target: int) -> None:
        request = await world.given(a_request(price=300))
        asked = {"$set": {"metadata.exclusive.target": target}}
        world.database.goals.update_one({"_id": ObjectId(request.id)}, asked)
        await world.post(f"/v1/goals/{request.id}/agree")
        await world.settle()
        exclusive = str(exclusive_of(ObjectId(request.id)))
        assert world.goal(exclusive).get("levels", []) == []
        await world.post(f"/v1/goals/{exclusive}/end")
        await world.settle(patience=600)
        assert (world.balance("bob"), world.escrow(f"exclusive:{exclusive}")) == (300, 0)

    @pytest.mark.parametrize("seconds", [0, 100])
    @pytest.mark.parametrize("target", [0, -5])
    async def test_an_exclusive_whose_target_is_not_above_0_is_untimed(
        self, world: World, target: int, seconds: int
    ) -> None:
        exclusive = await world.given(an_exclusive(price=300))
        await world.settle()
        world.database.goals.update_one({"_id": ObjectId(exclusive.id)}, {"$set": {"levels.0.target": target}})
        if seconds:
            await world.hears(joined(exclusive), joined(exclusive, exclusive.viewer))
            await world.after(seconds=seconds)
            await world.hears(left(exclusive), left(exclusive, exclusive.viewer))
        await world.ends(exclusive)
        await world.settle(patience=600)
        paid = (world.balance("alice"), world.balance("bob"), world.escrow(exclusive.escrow_id))
        assert paid == ((300, 0, 0) if seconds else (0, 300, 0))

    @pytest.mark.parametrize("verb", ["agree", "decline"])
    async def test_a_hold_moves_though_its_request_is_not_called_private(self, world: World, verb: str) -> None:
        request = await world.given(a_request(price=300))
        world.database.goals.update_one({"_id": ObjectId(request.id)}, {"$unset": {"metadata.private": True}})
        await world.post(f"/v1/goals/{request.id}/{verb}")
        await world.settle(patience=60)
        exclusive = f"exclusive:{exclusive_of(ObjectId(request.id))}"
        assert world.escrow(request.escrow_id) == 0
        assert (world.escrow(exclusive), world.balance("bob")) == ((300, 0) if verb == "agree" else (0, 300))

    @staticmethod
    async def stands_alone(world: World, goal: Any, seconds: int) -> None:
        """The channel is occupied for a while, by whom is not told."""
        await world.hears(occupied(goal))
        await world.after(seconds=seconds)
        await world.hears(vacated(goal))

    async def test_an_exclusive_of_no_streamer_pays_nobody(self, world: World) -> None:
        world.has_dead_letters = True
        exclusive = await world.given(an_exclusive(price=360, seconds=360))
        await world.settle()
        goal = {"_id": ObjectId(exclusive.id)}
        world.database.goals.update_one(goal, {"$unset": {"metadata.user_id": True}})
        world.arrivals.clear()
        await self.stands_alone(world, exclusive, 100)
        await world.ends(exclusive)
        await world.settle(patience=900)
        assert (world.account("user:"), world.escrow(exclusive.escrow_id)) == (0, 100)
        assert world.balance("bob") == 260
        (letter,) = world.all("dead_letters", {"task": "deactivate_goal"})
        assert "metadata.user_id: required" in letter["reason"]
        world.database.goals.update_one(goal, {"$set": {"metadata.user_id": "alice"}})
        await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle(patience=900)
        assert (world.balance("alice"), world.escrow(exclusive.escrow_id)) == (100, 0)

    async def test_a_show_of_no_streamer_pays_nobody(self, world: World) -> None:
        world.has_dead_letters = True
        show = await world.given(a_funded_show(seconds=360, earnings=2))
        await world.settle()
        world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$unset": {"metadata.user_id": True}})
        world.database.sessions.update_many({}, {"$unset": {"user_id": True}})
        await self.stands_alone(world, show, 400)
        await world.settle(patience=900)
        assert world.escrow(show.escrow_id) == show.escrow
        (letter,) = world.all("dead_letters")
        assert "metadata.user_id: required" in letter["reason"]
        world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": {"metadata.user_id": "alice"}})
        world.database.sessions.update_many({}, {"$set": {"user_id": "alice"}})
        await world.post(f"/v1/dead-letters/{letter['_id']}/redrive")
        await world.settle(patience=900)
        assert (world.escrow(show.escrow_id), world.balance("alice")) == (0, show.escrow)
