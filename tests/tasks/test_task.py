"""Tasks as values, and how often and when a failing one is tried."""

import pytest

from goalsvc.context import WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome
from goalsvc.errors import MissingArgumentError
from goalsvc.tasks import ALL
from goalsvc.tasks.task import RetryPolicy, task


@task(timeout=5, retry=RetryPolicy(tries=3))
async def example(context: WorkerContext, *, goal_id: str, amount: int = 1) -> Outcome:
    """Does something."""
    return Done(f"{goal_id}: {amount}")


class TestTask:
    async def test_it_can_be_awaited_without_a_worker(self, context: WorkerContext) -> None:
        assert await example(context, goal_id="g") == Done("g: 1")

    def test_as_a_debt_it_is_owed_once_under_its_name(self) -> None:
        follow_up = example.follow_up(goal_id="g", amount=7)
        assert (follow_up.id, follow_up.task, follow_up.arguments) == (
            "example",
            "example",
            {"goal_id": "g", "amount": 7},
        )

    def test_as_a_step_of_a_chain_it_is_data(self) -> None:
        assert example.step(goal_id="g") == {"task": "example", "arguments": {"goal_id": "g"}}

    def test_its_arguments_are_named(self) -> None:
        with pytest.raises(AssertionError):
            example.follow_up("g")  # type: ignore[call-arg]

    def test_an_argument_of_a_later_version_is_ignored(self) -> None:
        assert example.arguments_from({"goal_id": "g", "colour": "red"}) == {"goal_id": "g"}

    def test_an_argument_of_a_later_version_that_is_missing_has_its_default(self) -> None:
        assert example.arguments_from({"goal_id": "g"}) == {"goal_id": "g"}

    def test_a_required_argument_that_is_missing_is_named(self) -> None:
        with pytest.raises(MissingArgumentError, match="example: goal_id: required, but missing in the job"):
            example.arguments_from({"amount": 1})

    def test_each_lane_has_a_queue_of_its_own(self) -> None:
        assert len({lane.queue for lane in Lane}) == len(Lane)

    def test_what_calls_an_outside_service_is_not_in_the_lane_of_money(self) -> None:
        outside = {task.name: task.lane for task in ALL if task.lane is not Lane.MONEY}
        assert outside == {
            "deliver_notice": Lane.NOTICES,
            "notify_payers": Lane.NOTICES,
            "notify_progress": Lane.NOTICES,
            "StartRecord": Lane.RECORDINGS,
            "StopRecord": Lane.RECORDINGS,
            "StartSnapshot": Lane.RECORDINGS,
            "create_post_from_livestream": Lane.ANALYTICS,
            "redrive_letters": Lane.ANALYTICS,
            "clip_livestream_as_asset": Lane.CLIPS,
        }

    def test_nothing_that_is_quick_may_take_long(self) -> None:
        """`audit_books` runs by a timer of its own, not in a lane."""
        slow = {task.name for task in ALL if task.timeout_seconds > 60}
        assert slow <= {"clip_livestream_as_asset", "audit_books"}

    def test_the_tasks_of_the_specification_have_its_names(self) -> None:
        named = {
            *("increment_goal_progress", "deactivate_goal", "create_post_from_livestream", "clip_livestream_as_asset"),
            *("StartRecord", "StopRecord", "StartSnapshot", "escrow_out", "transfer_escrow", "transfer"),
            *("update_bi_escrow", "refund_escrow", "expire_goals", "sweep_promises"),
        }
        assert named <= {task.name for task in ALL}


class TestRetryPolicy:
    @pytest.mark.parametrize(("tried", "rest"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (6, 16), (7, 30), (8, 30), (50, 30)])
    def test_rests_longer_each_time_up_to_a_limit(self, tried: int, rest: float) -> None:
        rests = [RetryPolicy().rest_seconds(tried) for _ in range(200)]
        assert 0.75 * rest <= min(rests) <= max(rests) <= 1.25 * rest

    def test_with_jitter(self) -> None:
        assert len({RetryPolicy().rest_seconds(1) for _ in range(20)}) > 1

    def test_a_very_late_try_does_not_overflow(self) -> None:
        assert RetryPolicy().rest_seconds(900) <= 1.25 * 30
