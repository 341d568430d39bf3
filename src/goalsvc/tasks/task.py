"""A task: an async function that workers run, as a typed value.

A misspelt argument of `owe` or `job` is a type error. What happens when a task fails is data (`RetryPolicy`), and is done
by the runner, not by the task.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec

from goalsvc.context import Context
from goalsvc.domain.outcome import FollowUp, Outcome

P = ParamSpec("P")

#: The queue of everything that is quick, and the queue of clips: one crash in long work must not hold up short work.
MAIN_QUEUE = "goalsvc"
CLIP_QUEUE = "goalsvc:clips"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failing task is tried, and how long it rests in between: longer each time, with jitter."""

    tries: int | None = None
    """None: as often as the setting `GOALSVC_TASK_TRIES` says."""
    first_seconds: float = 0.5
    longest_seconds: float = 30.0

    def rest_seconds(self, tried: int) -> float:
        """How long to rest after so many tries."""
        rest = min(self.first_seconds * 2.0 ** (tried - 1), self.longest_seconds)
        return rest * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret


@dataclass(frozen=True, slots=True)
class Task(Generic[P]):
    """A task: its function, the queue it waits in, how long it may take, and what happens when it fails."""

    name: str
    function: Callable[Concatenate[Context, P], Awaitable[Outcome]]
    queue: str = MAIN_QUEUE
    timeout_seconds: float = 20.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    after_death: Callable[[Context, Mapping[str, Any]], Awaitable[None]] | None = None
    """Called with the arguments once a job of this task has become a dead letter."""

    async def __call__(self, context: Context, *args: P.args, **kwargs: P.kwargs) -> Outcome:
        """Runs the function itself, as a test or another task may."""
        return await self.function(context, *args, **kwargs)

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
    queue: str = MAIN_QUEUE,
    timeout: float = 20.0,
    retry: RetryPolicy | None = None,
    after_death: Callable[[Context, Mapping[str, Any]], Awaitable[None]] | None = None,
) -> Callable[[Callable[Concatenate[Context, P], Awaitable[Outcome]]], Task[P]]:
    """Makes a task of an async function `(context, *, …) -> Outcome`; it keeps the function's name."""

    def decorate(function: Callable[Concatenate[Context, P], Awaitable[Outcome]]) -> Task[P]:
        return Task(function.__name__, function, queue, timeout, retry or RetryPolicy(), after_death)

    return decorate
