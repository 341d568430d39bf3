"""A task: an async function that workers run, as a typed value.

A misspelt argument of `follow_up` or `step` is a type error. What happens when a task fails is data (`RetryPolicy`), and is
done by the runner, not by the task.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec

from goalsvc.context import Context, WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import FollowUp, Outcome
from goalsvc.tasks.arguments import check_signature, read_arguments

P = ParamSpec("P")

AfterDeath = Callable[[Context, Mapping[str, object], str], Awaitable[None]]
"""What follows a job's death: called with the job's arguments and the reason that its dead letter gives."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failing task is tried, and how long it rests in between: longer each time, with jitter."""

    tries: int | None = None
    """None: as often as the setting `GOALSVC_TASK_TRIES` says."""
    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    patience_seconds: float = 86_400.0
    """How long its promise waits for a service that does not work, before tries are counted."""

    def rest_seconds(self, tried: int) -> float:
        """How long to rest after so many tries."""
        rest = min(self.first_seconds * 2.0 ** (tried - 1), self.longest_seconds)
        return rest * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret


@dataclass(frozen=True, slots=True)
class Task(Generic[P]):
    """A task: its function, the lane it waits in, how long it may take, and what happens when it fails."""

    name: str
    function: Callable[Concatenate[WorkerContext, P], Awaitable[Outcome]]
    lane: Lane = Lane.MONEY
    timeout_seconds: float = 20.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    after_death: AfterDeath | None = None
    """Called with the arguments, and the reason, once a job of this task has become a dead letter."""
    traced: bool = True
    """Whether its runs are part of the trace, unless they fail."""

    async def __call__(self, context: WorkerContext, *args: P.args, **kwargs: P.kwargs) -> Outcome:
        """Runs the function itself, as a test or another task may."""
        return await self.function(context, *args, **kwargs)

    def arguments_from(self, given: Mapping[str, object]) -> dict[str, object]:
        """Returns those of the given arguments that the function takes, as its signature says; a job of another version may
        have more.

        Raises MissingArgumentError when one is missing that has no default, InvalidArgumentError for one of another type.
        """
        return read_arguments(self.name, self.function, given)

    def follow_up(self, *args: P.args, **kwargs: P.kwargs) -> FollowUp:
        """This task as a follow_up: a receiver answers with it, and it becomes a promise of the document."""
        assert not args, "a task's arguments are named"  # noqa: S101
        return FollowUp(self.name, self.name, kwargs)

    def step(self, *args: P.args, **kwargs: P.kwargs) -> Mapping[str, Any]:
        """This task as a step of a chain."""
        assert not args, "a task's arguments are named"  # noqa: S101
        return {"task": self.name, "arguments": kwargs}


def task(
    *,
    lane: Lane = Lane.MONEY,
    timeout: float = 20.0,
    retry: RetryPolicy | None = None,
    after_death: AfterDeath | None = None,
    traced: bool = True,
) -> Callable[[Callable[Concatenate[WorkerContext, P], Awaitable[Outcome]]], Task[P]]:
    """Makes a task of an async function `(context, *, …) -> Outcome`; it keeps the function's name.

    Raises TypeError for an argument of a type that `goalsvc.tasks.arguments` does not read.
    """

    def decorate(function: Callable[Concatenate[WorkerContext, P], Awaitable[Outcome]]) -> Task[P]:
        check_signature(function)
        return Task(function.__name__, function, lane, timeout, retry or RetryPolicy(), after_death, traced)

    return decorate
