"""One job: its task, what that owes, its chain; and what happens when it fails."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from goalsvc.context import Context, WorkerContext
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.lanes import Lane
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Done, FollowUp, Fulfils, Outcome, Reason, Returned
from goalsvc.domain.promises import Job, Promise
from goalsvc.domain.trace import assemble
from goalsvc.errors import (
    ClipImpossibleError,
    ExternalServiceError,
    GoalsvcError,
    InsufficientFundsError,
    InvalidError,
    NotFoundError,
    NotYetError,
    ServiceDownError,
    TransferConflictError,
)
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter
from goalsvc.signals.events import GoalEnded
from goalsvc.signals.receiver import on, receiver
from goalsvc.tasks.redrive import redrive_letter
from goalsvc.tasks.runner import Runner, TryAgain
from goalsvc.tasks.task import RetryPolicy, Task, task
from tests.receivers.fakes import NOW, Stage, open_stage
from tests.receivers.scenes import GOAL, a_goal, goal_document, goal_event

Answers = Callable[[WorkerContext], Awaitable[Outcome]]

PROMISE = f"goals/{GOAL}/example"
FOLLOWING = FollowUp("following", "following", {"goal_id": str(GOAL)})


def a_task(answers: Answers, name: str = "example", **options: Any) -> Task[Any]:
    """A task that answers so, whatever its arguments."""

    async def run(context: WorkerContext, /, **arguments: Any) -> Outcome:
        return await answers(context)

    run.__name__ = name
    made: Task[Any] = task(**options)(run)
    return made


def answering(outcome: Outcome) -> Answers:
    async def answer(context: WorkerContext) -> Outcome:
        return outcome

    return answer


def raising(error: Exception) -> Answers:
    async def answer(context: WorkerContext) -> Outcome:
        raise error

    return answer


def runner_of(*tasks: Task[Any]) -> Runner:
    return Runner(tasks, WITH_PROMISES)


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": PROMISE,
        "task": "example",
        "arguments": {"goal_id": str(GOAL)},
        "promise": PROMISE,
        "origin": Origin.read("s#x/y", None),
    }
    return Job(**fields | changes)


async def a_goal_that_owes(*promises: str) -> None:
    owed = [Promise(id=name, task=name, arguments={"goal_id": str(GOAL)}, at=NOW, parent="s#x/y") for name in promises]
    await a_goal(GoalKind.SHOW, promises=owed)


async def promised() -> list[str]:
    return [promise["id"] for promise in (await goal_document()).get("promises", [])]


async def letters() -> list[DeadLetter]:
    return await DeadLetter.find().to_list()


class TestSuccess:
    @pytest.mark.parametrize("outcome", [Done("it"), Returned(Reason.ALREADY_DONE)])
    async def test_the_promise_is_paid(self, context: WorkerContext, outcome: Outcome) -> None:
        await a_goal_that_owes("example", "other")
        assert await runner_of(a_task(answering(outcome))).run(context, job(), 1) is None
        assert await promised() == ["other"]

    async def test_what_follows_is_owed_in_the_same_write_and_hurried(self, stage: Stage) -> None:
        await a_goal_that_owes("example")
        await runner_of(a_task(answering(Done(follow_ups=(FOLLOWING,))))).run(stage.context, job(), 1)
        assert await promised() == ["following"]
        (waiting,) = stage.queue.jobs
        assert (waiting.id, waiting.promise) == (f"goals/{GOAL}/following", f"goals/{GOAL}/following")

    async def test_a_second_run_adds_nothing(self, stage: Stage) -> None:
        """Another run of the same job was faster: what follows is owed already, or was paid."""
        await a_goal_that_owes("other")
        await runner_of(a_task(answering(Done(follow_ups=(FOLLOWING,))))).run(stage.context, job(), 1)
        assert await promised() == ["other"]
        assert stage.queue.jobs == []

    async def test_a_debt_with_a_time_is_due_then(self, stage: Stage) -> None:
        await a_goal_that_owes("example")
        later = FOLLOWING.not_before(stage.clock.advance(seconds=60))
        await runner_of(a_task(answering(Done(follow_ups=(later,))))).run(stage.context, job(), 1)
        assert [waiting.due_at for waiting in stage.queue.jobs] == [later.due_at]

    async def test_another_promise_may_be_the_one_that_is_paid(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example", "other")
        await runner_of(a_task(answering(Done(fulfils="other")))).run(context, job(), 1)
        assert await promised() == ["example"]

    async def test_or_none_yet(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example")
        await runner_of(a_task(answering(Done(fulfils=Fulfils.NONE_YET)))).run(context, job(), 1)
        assert await promised() == ["example"]

    async def test_one_job_of_many_leaves_the_promise_to_the_last(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example")
        await runner_of(a_task(answering(Done()))).run(context, job(fulfils=False), 1)
        assert await promised() == ["example"]

    async def test_a_task_that_nobody_promised(self, context: WorkerContext) -> None:
        await a_goal_that_owes("other")
        cron = job(id="cron", promise=None, arguments={})
        assert await runner_of(a_task(answering(Done()))).run(context, cron, 1) is None
        assert await promised() == ["other"]


class TestChain:
    async def test_steps_run_in_order_and_the_last_one_pays(self, context: WorkerContext) -> None:
        await a_goal_that_owes("first")
        ran: list[str] = []

        def step(name: str) -> Task[Any]:
            async def note(context: WorkerContext) -> Outcome:
                ran.append(f"{name} {await promised()}")
                return Done()

            return a_task(note, name)

        tasks = [step("first"), step("second"), step("third")]
        then = tuple(task.step() for task in tasks[1:])
        await runner_of(*tasks).run(context, job(task="first", promise=f"goals/{GOAL}/first", then=then), 1)
        assert ran == ["first ['first']", "second ['first']", "third ['first']"]
        assert await promised() == []

    async def test_a_step_may_put_further_steps_before_the_rest(self, stage: Stage) -> None:
        await a_goal_that_owes("first")
        tasks = [a_task(answering(Done()), name) for name in ("inner", "last")]
        first = a_task(answering(Done(then=(tasks[0].step(),))), "first")
        chain = job(task="first", promise=f"goals/{GOAL}/first", then=(tasks[1].step(),))
        await runner_of(first, *tasks).run(stage.context, chain, 1)
        assert [segment["node"]["name"] for segment in stage.recorder.segments] == ["first", "inner", "last"]

    async def test_each_step_hangs_under_the_one_before_it_in_the_trace(self, stage: Stage) -> None:
        await a_goal_that_owes("first")
        tasks = [a_task(answering(Done()), name) for name in ("first", "second", "third")]
        chain = job(task="first", promise=f"goals/{GOAL}/first", then=tuple(task.step() for task in tasks[1:]))
        await runner_of(*tasks).run(stage.context, chain, 1)
        (first,) = assemble(stage.recorder.segments)
        (second,) = first["children"]
        (third,) = second["children"]
        assert (first["name"], second["name"], third["name"]) == ("first", "second", "third")

    async def test_when_a_step_fails_the_chain_begins_anew(self, context: WorkerContext) -> None:
        """Every step can run twice, so nothing need be remembered of how far it came."""
        await a_goal_that_owes("first")
        first = a_task(answering(Done()), "first")
        second = a_task(raising(ExternalServiceError("pusher", "no")), "second")
        chain = job(task="first", promise=f"goals/{GOAL}/first", then=(second.step(),))
        assert isinstance(await runner_of(first, second).run(context, chain, 1), TryAgain)
        assert await promised() == ["first"]

    async def test_a_dead_step_is_named_in_the_letter_and_the_whole_is_run_again(self, context: WorkerContext) -> None:
        await a_goal_that_owes("first")
        first = a_task(answering(Done()), "first")
        second = a_task(raising(InvalidError("x", "never")), "second")
        chain = job(task="first", promise=f"goals/{GOAL}/first", then=(second.step(),))
        await runner_of(first, second).run(context, chain, 1)
        (letter,) = await letters()
        assert (letter.task, letter.id) == ("first", f"goals/{GOAL}/first")


class TestRetry:
    async def test_a_failure_that_may_pass_is_tried_again_after_a_rest(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example")
        runner = runner_of(a_task(raising(ExternalServiceError("pusher", "503"))))
        rests = []
        for tried in range(1, 4):
            again = await runner.run(context, job(), tried)
            assert again is not None
            assert again.failed
            rests.append(again.after_seconds)
        assert rests == sorted(rests)
        assert await promised() == ["example"]
        assert await letters() == []

    async def test_so_is_a_bug_which_may_be_mended_meanwhile(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example")
        assert await runner_of(a_task(raising(ZeroDivisionError()))).run(context, job(), 1) is not None

    async def test_and_a_task_that_takes_too_long(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example")
        never = asyncio.Event()

        async def hang(context: WorkerContext) -> Outcome:
            await never.wait()
            return Done()

        runner = runner_of(a_task(hang, timeout=0.01))
        assert await runner.run(context, job(), 1) is not None
        await runner.run(context, job(), context.settings.task_tries)
        (letter,) = await letters()
        assert letter.reason == "retryable: example took longer than 0.01 s"

    async def test_being_cancelled_is_no_failure(self, stage: Stage) -> None:
        """A worker that is stopped: the job is run again by another."""
        await a_goal_that_owes("example")
        never = asyncio.Event()

        async def hang(context: WorkerContext) -> Outcome:
            await never.wait()
            return Done()

        running = asyncio.create_task(runner_of(a_task(hang)).run(stage.context, job(), 7))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await promised() == ["example"]
        assert await letters() == []

    @pytest.mark.parametrize("tried", [1, 7, 1000])
    async def test_waiting_for_something_is_no_failure_however_often(self, stage: Stage, tried: int) -> None:
        await a_goal_that_owes("example")
        again = await runner_of(a_task(raising(NotYetError("not yet", 3.5)))).run(stage.context, job(), tried)
        assert again == TryAgain(3.5, failed=False)
        assert await letters() == []
        assert stage.recorder.segments == []

    @pytest.mark.parametrize("tried", [1, 7, 1000])
    async def test_a_service_that_is_down_is_waited_for_without_counting_tries(self, stage: Stage, tried: int) -> None:
        await a_goal_that_owes("example")
        runner = runner_of(a_task(raising(ServiceDownError("pusher", "HTTP 500"))))
        stage.clock.advance(seconds=3600)
        again = await runner.run(stage.context, job(), tried)
        assert again is not None
        assert not again.failed
        assert again.after_seconds >= 2
        assert await promised() == ["example"]
        assert await letters() == []
        assert stage.recorder.segments == []

    async def test_a_lane_of_that_service_asks_soon_and_any_other_less_often_the_older_the_promise(
        self, stage: Stage
    ) -> None:
        """The lane lets one job through to probe the service; so what waited is told within seconds of its working again."""
        await a_goal_that_owes("example")
        stage.clock.advance(seconds=3600)
        rests = {}
        for lane in (Lane.NOTICES, Lane.RECORDINGS):
            runner = runner_of(a_task(raising(ServiceDownError("pusher", "HTTP 500", 5.0)), lane=lane))
            again = await runner.run(stage.context, job(), 1)
            assert again is not None
            rests[lane] = again.after_seconds
        assert 5.0 <= rests[Lane.NOTICES] <= 7.5
        assert 30.0 <= rests[Lane.RECORDINGS] <= 45.0

    async def test_but_not_for_ever(self, stage: Stage) -> None:
        await a_goal_that_owes("example")
        runner = runner_of(a_task(raising(ServiceDownError("pusher", "HTTP 500"))))
        stage.clock.advance(seconds=25 * 3600)
        assert await runner.run(stage.context, job(), stage.settings.task_tries) is None
        (letter,) = await letters()
        assert letter.reason == "external_service: pusher: HTTP 500"

    async def test_while_another_call_probes_it_the_wait_is_short(self, stage: Stage) -> None:
        """However old the promise is: in a moment it is known whether the service works again."""
        await a_goal_that_owes("example")
        stage.clock.advance(seconds=3600)
        error = ServiceDownError("pusher", "does not work at the moment", 1.0, probed=True)
        again = await runner_of(a_task(raising(error))).run(stage.context, job(), 1)
        assert again is not None
        assert 1.0 <= again.after_seconds <= 1.5

    async def test_each_failed_try_stands_in_the_trace(self, stage: Stage) -> None:
        await a_goal_that_owes("example")
        runner = runner_of(a_task(raising(ExternalServiceError("pusher", "503"))))
        for tried in (1, 2):
            await runner.run(stage.context, job(), tried)
        nodes = [segment["node"] for segment in stage.recorder.segments]
        assert [(node["outcome"], node["reason"]) for node in nodes] == [
            ("failed", "external_service: pusher: 503")
        ] * 2


class TestOver:
    """A job that fails although its promise is no longer held: another run of it kept the promise, or buried it."""

    @pytest.mark.parametrize(
        "error",
        [ServiceDownError("pusher", "HTTP 500"), ExternalServiceError("pusher", "503"), InvalidError("x", "never")],
    )
    async def test_it_is_dropped(self, context: WorkerContext, error: GoalsvcError) -> None:
        await a_goal_that_owes("other")
        assert await runner_of(a_task(raising(error))).run(context, job(), context.settings.task_tries) is None
        assert (await letters(), await promised()) == ([], ["other"])

    async def test_also_where_something_else_in_the_goal_cannot_be_read(self, context: WorkerContext) -> None:
        await a_goal_that_owes("other")
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"exp": "soon"}})
        assert await runner_of(a_task(raising(InvalidError("x", "never")))).run(context, job(), 1) is None
        assert await letters() == []

    async def test_so_is_one_whose_document_has_expired(self, context: WorkerContext) -> None:
        where = "presence_notices/0123/user.entered:1"
        gone = job(id=where, promise=where, arguments={})
        runner = runner_of(a_task(raising(ServiceDownError("pusher", "HTTP 500"))))
        assert await runner.run(context, gone, context.settings.task_tries) is None
        assert await letters() == []

    async def test_not_one_whose_goal_was_deleted(self, context: WorkerContext) -> None:
        """Nobody else will say that its work was not done."""
        assert await runner_of(a_task(raising(InvalidError("x", "never")))).run(context, job(), 1) is None
        assert [letter.id for letter in await letters()] == [PROMISE]

    async def test_nor_one_whose_promises_cannot_be_read(self, context: WorkerContext) -> None:
        await a_goal_that_owes("other")
        await Goal.get_motor_collection().update_one({"_id": GOAL}, {"$set": {"promises.0.task": 7}})
        assert await runner_of(a_task(raising(InvalidError("x", "never")))).run(context, job(), 1) is None
        assert [letter.id for letter in await letters()] == [PROMISE]


class TestDeadLetter:
    async def test_after_the_last_try(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example", "other")
        tries = context.settings.task_tries
        runner = runner_of(a_task(raising(ExternalServiceError("pusher", "503"))))
        assert await runner.run(context, job(), tries - 1) is not None
        assert await runner.run(context, job(), tries) is None
        (letter,) = await letters()
        assert (letter.id, letter.task, letter.state) == (PROMISE, "example", "dead")
        assert (letter.reason, letter.tries) == ("external_service: pusher: 503", tries)
        assert (letter.at, letter.goal_id, letter.promise) == (NOW, str(GOAL), PROMISE)
        assert letter.arguments == {"goal_id": str(GOAL)}

    async def test_its_promise_is_no_longer_owed(self, context: WorkerContext) -> None:
        """Else the sweep would try it for ever."""
        await a_goal_that_owes("example", "other")
        await runner_of(a_task(raising(InvalidError("x", "never")))).run(context, job(), 1)
        assert await promised() == ["other"]

    @pytest.mark.parametrize(
        "error",
        [
            InvalidError("channel", "no such name"),
            NotFoundError("no earning"),
            InsufficientFundsError("holds 1"),
            TransferConflictError("other content"),
            ClipImpossibleError("no source"),
        ],
    )
    async def test_what_will_never_pass_is_dead_at_once(self, context: WorkerContext, error: GoalsvcError) -> None:
        await a_goal_that_owes("example")
        assert await runner_of(a_task(raising(error))).run(context, job(), 1) is None
        (letter,) = await letters()
        assert letter.reason == f"{error.code}: {error.message}"
        assert letter.tries == 1

    async def test_a_job_of_another_version_without_a_required_argument_is_dead_at_once(
        self, context: WorkerContext
    ) -> None:
        await a_goal_that_owes("example")

        @task()
        async def example(context: WorkerContext, *, goal_id: str, reason: str) -> Outcome:
            """Needs what the job of an earlier version does not have."""
            return Done(reason)

        assert await runner_of(example).run(context, job(), 1) is None
        (letter,) = await letters()
        assert letter.reason.startswith("missing_argument: example: reason: required, but missing in the job")

    async def test_a_task_may_have_its_own_number_of_tries(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example")
        runner = runner_of(a_task(raising(ExternalServiceError("s3", "no")), retry=RetryPolicy(tries=2)))
        assert await runner.run(context, job(), 1) is not None
        assert await runner.run(context, job(), 2) is None

    async def test_and_be_told_of_its_death(self, context: WorkerContext) -> None:
        await a_goal_that_owes("example")
        told: list[tuple[Mapping[str, Any], str]] = []

        async def mourn(context: WorkerContext, arguments: Mapping[str, Any], reason: str) -> None:
            told.append((arguments, reason))

        await runner_of(a_task(raising(InvalidError("x", "never")), after_death=mourn)).run(context, job(), 1)
        (letter,) = await letters()
        assert told == [({"goal_id": str(GOAL)}, letter.reason)]

    async def test_a_job_of_many_takes_the_promise_of_all_with_it(self, context: WorkerContext) -> None:
        await a_goal_that_owes("escrow_out")
        share = job(id="escrow-1", task="example", promise=f"goals/{GOAL}/escrow_out", fulfils=False)
        await runner_of(a_task(raising(InvalidError("x", "never")))).run(context, share, 1)
        (letter,) = await letters()
        assert (letter.id, letter.task) == (f"goals/{GOAL}/escrow_out", "escrow_out")
        assert letter.failed == {"task": "example", "arguments": {"goal_id": str(GOAL)}}

    async def test_without_a_promise_it_is_kept_under_the_jobs_id(self, context: WorkerContext) -> None:
        await runner_of(a_task(raising(InvalidError("x", "never")))).run(context, job(id="j", promise=None), 1)
        (letter,) = await letters()
        assert (letter.id, letter.promise) == ("j", None)


class TestRedrive:
    async def a_dead_letter(self, stage: Stage) -> None:
        await a_goal_that_owes("example")
        await runner_of(a_task(raising(InvalidError("x", "never")))).run(stage.context, job(), 1)

    async def test_it_is_owed_again_and_hurried(self, stage: Stage) -> None:
        await self.a_dead_letter(stage)
        letter = await redrive_letter(stage.context, PROMISE)
        assert letter is not None
        assert (letter.state, letter.redriven_at) == ("redriven", NOW)
        assert await promised() == ["example"]
        (waiting,) = stage.queue.jobs
        assert (waiting.id, waiting.task, waiting.arguments) == (PROMISE, "example", {"goal_id": str(GOAL)})
        assert waiting.origin.parent == "s#x/y"

    async def test_once(self, stage: Stage) -> None:
        await self.a_dead_letter(stage)
        await redrive_letter(stage.context, PROMISE)
        assert await redrive_letter(stage.context, PROMISE) is None
        assert await promised() == ["example"]

    async def test_not_what_does_not_exist(self, stage: Stage) -> None:
        assert await redrive_letter(stage.context, "nothing") is None

    async def test_then_it_can_succeed(self, stage: Stage) -> None:
        await self.a_dead_letter(stage)
        await redrive_letter(stage.context, PROMISE)
        (waiting,) = stage.queue.take()
        await runner_of(a_task(answering(Done()))).run(stage.context, waiting, 1)
        assert await promised() == []

    async def test_or_die_again_with_its_history(self, stage: Stage) -> None:
        await self.a_dead_letter(stage)
        await redrive_letter(stage.context, PROMISE)
        (waiting,) = stage.queue.take()
        stage.clock.advance(seconds=60)
        await runner_of(a_task(raising(NotFoundError("gone")))).run(stage.context, waiting, 1)
        (letter,) = await letters()
        assert (letter.state, letter.reason) == ("dead", "not_found: gone")
        assert [death["reason"] for death in letter.history] == ["invalid: x: never", "not_found: gone"]

    async def test_what_nobody_promised_is_enqueued_as_it_was(self, stage: Stage) -> None:
        await runner_of(a_task(raising(InvalidError("x", "never")))).run(stage.context, job(id="j", promise=None), 1)
        assert await redrive_letter(stage.context, "j") is not None
        assert [(waiting.id, waiting.task) for waiting in stage.queue.jobs] == [("j", "example")]


@receiver(on(GoalEnded))
async def diligent(context: Context, event: GoalEnded) -> Outcome:
    """Owes what follows."""
    return Done(follow_ups=(FOLLOWING,))


@receiver(on(GoalEnded))
async def broken(context: Context, event: GoalEnded) -> Outcome:
    """Raises."""
    raise ValueError("broken")


async def announce(context: WorkerContext) -> Outcome:
    return Done(reports=(await context.bus.send(context, goal_event(GoalEnded, GoalKind.SHOW)),))


class TestWhoeverAnnouncesOwnsTheRetry:
    async def test_a_receiver_that_failed_makes_the_task_fail(self) -> None:
        async with open_stage([diligent, broken]) as stage:
            await a_goal_that_owes("example")
            assert await runner_of(a_task(announce)).run(stage.context, job(), 1) is not None
            await runner_of(a_task(announce)).run(stage.context, job(), stage.settings.task_tries)
            (letter,) = await letters()
            assert letter.reason == "receiver_failed: broken: ValueError: broken"

    async def test_what_its_siblings_owe_is_owed_and_hurried_all_the_same(self) -> None:
        async with open_stage([diligent, broken]) as stage:
            await a_goal_that_owes("example")
            await runner_of(a_task(announce)).run(stage.context, job(), 1)
            assert await promised() == ["example", "following"]
            assert stage.queue.tasks() == ["following"]

    async def test_and_not_twice_when_it_fails_again(self) -> None:
        async with open_stage([diligent, broken]) as stage:
            await a_goal_that_owes("example")
            for tried in (1, 2, 3):
                await runner_of(a_task(announce)).run(stage.context, job(), tried)
            assert await promised() == ["example", "following"]

    async def test_nor_when_it_succeeds_at_last(self) -> None:
        async with open_stage([diligent, broken]) as stage:
            await a_goal_that_owes("example")
            await runner_of(a_task(announce)).run(stage.context, job(), 1)
        async with open_stage([diligent]) as mended:
            await a_goal_that_owes("example", "following")
            await runner_of(a_task(announce)).run(mended.context, job(), 2)
            assert await promised() == ["following"]

    async def test_what_is_owed_stands_in_the_trace_under_who_owes_it(self) -> None:
        async with open_stage([diligent]) as stage:
            await a_goal_that_owes("example")
            await runner_of(a_task(announce)).run(stage.context, job(), 1)
            (waiting,) = stage.queue.take()
            await runner_of(a_task(answering(Done()), "following")).run(stage.context, waiting, 1)
            (root,) = assemble(stage.recorder.segments)
            (signal,) = root["children"]
            (who,) = signal["children"]
            assert (signal["sender"], who["name"]) == ("goal.ended", "diligent")
            assert [node["name"] for node in who["children"]] == ["following"]

    async def test_goals_are_the_collection_where_nothing_else_is_said(self) -> None:
        assert set(WITH_PROMISES) == {"goals", "sessions", "users", "presence_notices", "redrives"}
        assert WITH_PROMISES["goals"] is Goal
