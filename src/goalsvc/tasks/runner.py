"""Runs one job: its task, then what that owes, then the trace; and what happens when it fails.

This is all that a worker does around a task, and it knows nothing of arq.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bson import ObjectId
from prometheus_client import Counter

from goalsvc import logs
from goalsvc.context import Context, WorkerContext
from goalsvc.domain.origin import CURRENT, Cause, Origin
from goalsvc.domain.outcome import Answer, Done, Failed, Fulfils, Outcome, Reason, Returned
from goalsvc.domain.promises import Job, PromiseRef
from goalsvc.domain.reading import plain, text
from goalsvc.domain.trace import (
    TracedFollowUp,
    failures_of,
    follow_ups_of,
    node_of,
    refs_among,
    segment_document,
    signal_node,
)
from goalsvc.errors import (
    GoalsvcError,
    InvalidArgumentError,
    MissingArgumentError,
    NotYetError,
    ReceiverFailedError,
    RetryableError,
    ServiceDownError,
    UnusableDocumentError,
)
from goalsvc.models.events import events_of
from goalsvc.models.promise import HasPromises
from goalsvc.models.records import DeadLetter
from goalsvc.tasks.arguments import storable
from goalsvc.tasks.dead_letters import bury
from goalsvc.tasks.dispatch import enqueue_these
from goalsvc.tasks.task import Task

log = logging.getLogger(__name__)

JOBS = Counter("goalsvc_jobs_total", "Runs of tasks and how they ended.", ["task", "outcome"])


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The job is to be run once more, after so many seconds."""

    after_seconds: float
    failed: bool = True
    """Whether this try counts as one that failed; not, when the task only waits for something."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one run of one task came to."""

    outcome: Outcome | None
    error: Exception | None
    follow_ups: tuple[TracedFollowUp, ...]
    origin: Origin
    """The place of the task in the trace."""


class Runner:
    """Runs jobs of the tasks it knows, against the documents that can owe them."""

    def __init__(self, tasks: Sequence[Task[Any]], owing: Mapping[str, type[HasPromises]]) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._owing = owing

    async def run(self, context: WorkerContext, job: Job, tried: int) -> TryAgain | None:
        """Runs the job's task and then the steps of its chain. `tried` counts this try; None when there need be no other."""
        with about(job):
            return await self._run(context, job, tried)

    async def _run(self, context: WorkerContext, job: Job, tried: int) -> TryAgain | None:
        origin = job.origin
        steps = [{"task": job.task, "arguments": job.arguments}, *job.then]
        while steps:
            step = steps.pop(0)
            task, arguments = self._tasks[step["task"]], step["arguments"]
            attempt = await self._attempt(context, job, task, arguments, origin)
            if attempt.error is not None:
                return await self._after_failure(context, job, task, arguments, attempt, tried)
            if attempt.outcome == Returned(Reason.NOT_PROMISED):
                return await self._after_refusal(context, job, tried)  # nothing of its chain is promised either
            if isinstance(attempt.outcome, Done):
                steps[:0] = attempt.outcome.then
            promise_id = self._fulfilled_by(job, attempt.outcome, last=not steps)
            if promise_id is not None:
                await self._fulfil(context, self._home(job, arguments), promise_id, attempt.follow_ups)
            elif attempt.follow_ups:
                await self._add(context, self._home(job, arguments), attempt.follow_ups)
            origin = attempt.origin
        return None

    def task(self, name: str) -> Task[object] | None:
        """Returns the task of that name, if this version has it."""
        return self._tasks.get(name)

    async def tick(self, context: WorkerContext, task: Task[[]]) -> str | None:
        """Runs a periodic task once. Returns its error, if it failed: there is no dead letter, the next tick tries again."""
        job = Job(f"periodic:{task.name}", task.name, {}, origin=Origin.new(Cause(task=task.name)))
        with about(job):
            attempt = await self._attempt(context, job, task, {}, job.origin)
        return None if attempt.error is None else _told(attempt.error)

    # -- one task ---------------------------------------------------------------------------------------------------

    async def _attempt(
        self, context: WorkerContext, job: Job, task: Task[Any], arguments: Mapping[str, object], origin: Origin
    ) -> _Attempt:
        own = origin.of_task(task.name)
        inner = context.within(own)
        at, begun = context.clock.now(), perf_counter()
        outcome: Outcome | None = None
        error: Exception | None = None
        entered = CURRENT.set(own)
        try:
            if job.promise is not None:
                inner = context.within(own, PromiseRef.parse(job.promise))
            async with asyncio.timeout(task.timeout_seconds):
                outcome = await task.function(inner, **task.arguments_from(arguments))
            if told := list(events_of(outcome, own.cause, _goal_of(job, arguments))):
                # Before the promise is fulfilled, and also when a receiver failed: what they tell of has happened.
                await context.events.write(told)
            if problems := failures_of(outcome):
                error = ReceiverFailedError("; ".join(problems))
        except TimeoutError:
            error = RetryableError(f"{task.name} took longer than {task.timeout_seconds:g} s")
        except Exception as raised:
            error = raised
        finally:
            CURRENT.reset(entered)
        answer: Answer = outcome if error is None and outcome is not None else Failed(_told(error))
        idle = isinstance(outcome, Returned) and job.promise is None  # a periodic run that changed nothing
        if idle:
            JOBS.labels(task.name, "returned").inc()
        elif not isinstance(error, NotYetError | ServiceDownError):
            reports = outcome.reports if isinstance(outcome, Done) else ()
            milliseconds = (perf_counter() - begun) * 1000
            refs = refs_among(arguments) | inner.refs
            node = node_of("task", task.name, answer, at, milliseconds, map(signal_node, reports), refs)
            node["place"] = own.place
            if task.traced or isinstance(answer, Failed):
                goal_id = _goal_of(job, arguments)
                context.recorder.trace(segment_document(own, goal_id, origin.parent, at, node))
            JOBS.labels(task.name, node["outcome"]).inc()
        return _Attempt(outcome, error, tuple(follow_ups_of(outcome, own)) if outcome else (), own)

    # -- what follows -----------------------------------------------------------------------------------------------

    def _fulfilled_by(self, job: Job, outcome: Outcome | None, *, last: bool) -> str | None:
        """Returns the id of the promise that is fulfilled now, if one is."""
        if isinstance(outcome, Done) and outcome.fulfils is not Fulfils.OWN:
            return outcome.fulfils if isinstance(outcome.fulfils, str) else None
        if last and job.fulfils and job.promise is not None:
            return PromiseRef.parse(job.promise).promise_id
        return None

    def _owner(self, job: Job, arguments: Mapping[str, object]) -> PromiseRef | None:
        """Returns where the job's promise stands; of a job without one, the goal that its arguments name, if they name one."""
        if job.promise is not None:
            return PromiseRef.parse(job.promise)
        goal_id = text(arguments.get("goal_id")) or ""
        return PromiseRef("goals", ObjectId(goal_id), "") if ObjectId.is_valid(goal_id) else None

    def _home(self, job: Job, arguments: Mapping[str, object]) -> PromiseRef:
        """Returns the same; raises MissingArgumentError where there is none, and what follows could be written nowhere."""
        owner = self._owner(job, arguments)
        if owner is None:
            raise MissingArgumentError(job.task, ["goal_id"])
        return owner

    async def _fulfil(
        self, context: Context, owner: PromiseRef, promise_id: str, follow_ups: Sequence[TracedFollowUp]
    ) -> None:
        owing = self._owing[owner.collection]
        owed = await owing.fulfil(owner.document_id, promise_id, follow_ups, context.clock.now())
        enqueue_these(context, owner.collection, owner.document_id, owed)

    async def _add(self, context: Context, owner: PromiseRef, follow_ups: Sequence[TracedFollowUp]) -> None:
        owing = self._owing[owner.collection]
        owed = await owing.add_promises(owner.document_id, follow_ups, context.clock.now())
        enqueue_these(context, owner.collection, owner.document_id, owed)

    async def _after_failure(
        self,
        context: Context,
        job: Job,
        task: Task[object],
        arguments: Mapping[str, object],
        attempt: _Attempt,
        tried: int,
    ) -> TryAgain | None:
        owner = self._owner(job, arguments)
        if attempt.follow_ups and owner is not None:
            # Receivers that did their part do not wait for a sibling that failed: their promises are enqueued now.
            await self._add(context, owner, attempt.follow_ups)
        error = attempt.error
        if isinstance(error, NotYetError):
            # No failure: the task knows what it waits for, and how long that may last.
            return TryAgain(error.after_seconds, failed=False)
        document = await self._read(owner) if owner is not None else None
        named = f"{task.name}{_of_goal(job, arguments)}"
        if job.promise is not None and owner is not None and self._is_over(owner, document):
            log.info("%s failed (try %d), but is not promised any more: %s", named, tried, _told(error))
            return None
        if isinstance(error, ServiceDownError):
            rest = _rest_while_down(context, owner, document, task, error)
            if rest is not None:
                return TryAgain(rest, failed=False)
        final = isinstance(error, GoalsvcError) and not isinstance(error, RetryableError)
        if not final and tried < (task.retry.tries or context.settings.task_tries):
            log.info("%s failed (try %d): %s", named, tried, _told(error))
            return TryAgain(task.retry.rest_seconds(tried))
        log.error("%s failed for the last time (try %d): %s", named, tried, _told(error), exc_info=error)
        await self._bury(context, job, owner, document, _told(error), tried)
        return None

    async def _after_refusal(self, context: Context, job: Job, tried: int) -> TryAgain | None:
        """Drops a job that no document promises. One whose promise stands, and still does not cover it, is dead in the end:
        its arguments contradict each other, and it would be swept for ever.
        """
        if job.promise is None or not job.fulfils:
            return None
        owner = PromiseRef.parse(job.promise)
        document = await self._read(owner)
        promise = document.promise(owner.promise_id) if document is not None else None
        if promise is None or promise.task != job.task or plain(promise.arguments) != plain(job.arguments):
            return None
        task = self._tasks[job.task]
        if tried < (task.retry.tries or context.settings.task_tries):
            return TryAgain(task.retry.rest_seconds(tried))
        reason = f"not_promised: {job.task}: arguments: contradict each other, or the document; nothing was moved"
        await self._bury(context, job, owner, document, reason, tried)
        return None

    async def _read(self, owner: PromiseRef) -> HasPromises | None:
        try:
            return await self._owing[owner.collection].read(owner.document_id)
        except UnusableDocumentError as error:
            log.warning("a promise cannot be removed: %s", error.message)
            return None

    def _is_over(self, owner: PromiseRef, document: HasPromises | None) -> bool:
        """Returns whether the document stands and no longer holds the promise: another run kept it, or buried it."""
        if document is None:
            return self._owing[owner.collection].expires
        readable = not any(fault.startswith("promises") for fault in document.faults)
        return readable and document.promise(owner.promise_id) is None

    async def _bury(
        self,
        context: Context,
        job: Job,
        owner: PromiseRef | None,
        document: HasPromises | None,
        reason: str,
        tries: int,
    ) -> None:
        """Writes the dead letter first and removes the promise then: a crash in between leaves both, never neither.

        A job that is one of many (a share of an escrow) takes the promise of all of them with it: a redrive of that promise
        runs again those that are missing.
        """
        if owner is not None and document is not None and document.faults:
            reason = f"{reason} (unreadable in {owner.collection}/{owner.document_id}: {'; '.join(document.faults)})"
        promise = document.promise(owner.promise_id) if document is not None and owner is not None else None
        arguments = storable(job.arguments)
        ran = {"task": job.task, "arguments": arguments}
        letter = DeadLetter(
            id=job.promise or job.id,
            task=promise.task if promise else job.task,
            arguments=promise.arguments if promise else arguments,
            reason=reason,
            at=context.clock.now(),
            tries=tries,
            promise=job.promise,
            parent=job.origin.parent or None,
            cause=job.origin.cause.document(),
            goal_id=str(owner.document_id) if owner is not None and owner.collection == "goals" else None,
            progress=promise.progress if promise else None,
            failed=ran if promise and promise.task != job.task else None,
        )
        await bury(context, letter)
        await _tell_of_death(context, self._tasks[job.task], job.arguments, reason)
        if promise is not None and owner is not None:
            await self._owing[owner.collection].fulfil(owner.document_id, owner.promise_id, (), context.clock.now())


def _rest_while_down(
    context: Context,
    owner: PromiseRef | None,
    document: HasPromises | None,
    task: Task[object],
    error: ServiceDownError,
) -> float | None:
    """Returns how long a promise waits for a service that does not work, or None when it has waited long enough."""
    promise = document.promise(owner.promise_id) if document is not None and owner is not None else None
    if promise is None:
        return None
    age = (context.clock.now() - promise.at).total_seconds()
    if age > task.retry.patience_seconds:
        return None
    rest = error.after_seconds
    # A lane of that service lets one job at a time through, however many are due; elsewhere each would ask.
    if not error.probed and error.service != task.lane.service:
        rest = max(rest, min(age / 4, task.retry.longest_seconds))
    return rest * random.uniform(1.0, 1.5)  # noqa: S311 - jitter, not a secret


async def _tell_of_death(context: Context, task: Task[Any], arguments: Mapping[str, object], reason: str) -> None:
    """Does what follows a job's death, unless its arguments name nothing that it could be done to."""
    if task.after_death is None:
        return
    try:
        await task.after_death(context, task.arguments_from(arguments), reason)
    except (MissingArgumentError, InvalidArgumentError) as error:
        log.warning("%s is dead, and what should follow is left out: %s", task.name, error)


def _goal_of(job: Job, arguments: Mapping[str, Any]) -> str | None:
    """The goal in whose trace this run belongs."""
    if job.promise is not None and job.promise.startswith("goals/"):
        return job.promise.split("/", 2)[1]
    return text(arguments.get("goal_id"))


def _of_goal(job: Job, arguments: Mapping[str, object]) -> str:
    goal_id = _goal_of(job, arguments) or job.origin.cause.goal_id
    return f" of goal {goal_id}" if goal_id else ""


def about(job: Job) -> logs.About:
    """Returns what lines of the log say that this job is about."""
    cause = job.origin.cause
    return logs.About(
        request_id=cause.request_id,
        key=cause.key,
        goal_id=_goal_of(job, job.arguments) or cause.goal_id,
        job_id=job.id,
        task=job.task,
        trace_id=cause.trace_id,
    )


def _told(error: Exception | None) -> str:
    """An error in one line, for traces and dead letters."""
    if isinstance(error, GoalsvcError):
        return f"{error.code}: {error.message}"
    return f"{type(error).__name__}: {error}"
