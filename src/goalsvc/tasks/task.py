"""A task: an async function that workers run, as a typed value.

A misspelt argument of `follow_up` or `step` is a type error. What happens when a task fails is data (`RetryPolicy`), and is
done by the runner, not by the task.
"""

import inspect
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Concatenate, Generic, ParamSpec

from goalsvc.context import Context, WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import FollowUp, Outcome
from goalsvc.errors import MissingArgumentError

P = ParamSpec("P")


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
    after_death: Callable[[Context, Mapping[str, object]], Awaitable[None]] | None = None
    """Called with the arguments once a job of this task has become a dead letter."""
    traced: bool = True
    """Whether its runs are part of the trace, unless they fail."""

    async def __call__(self, context: WorkerContext, *args: P.args, **kwargs: P.kwargs) -> Outcome:
        """Runs the function itself, as a test or another task may."""
        return await self.function(context, *args, **kwargs)

    def arguments_from(self, given: Mapping[str, object]) -> dict[str, object]:
        """Returns those of the given arguments that the function takes; a job of another version may have more.

        Raises MissingArgumentError when one is missing that has no default.
        """
        accepted, required = _parameters_of(self.function)
        missing = sorted(required - given.keys())
        if missing:
            raise MissingArgumentError(self.name, missing)
        return dict(given) if accepted is None else {name: given[name] for name in given if name in accepted}

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
    after_death: Callable[[Context, Mapping[str, object]], Awaitable[None]] | None = None,
    traced: bool = True,
) -> Callable[[Callable[Concatenate[WorkerContext, P], Awaitable[Outcome]]], Task[P]]:
    """Makes a task of an async function `(context, *, …) -> Outcome`; it keeps the function's name."""

    def decorate(function: Callable[Concatenate[WorkerContext, P], Awaitable[Outcome]]) -> Task[P]:
        return Task(function.__name__, function, lane, timeout, retry or RetryPolicy(), after_death, traced)

    return decorate


@cache
def _parameters_of(function: Callable[..., object]) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Names of the arguments that a task's function takes (None: any), and of those that it needs."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
    accepted = frozenset(each.name for each in named) if len(named) == len(parameters) else None
    return accepted, frozenset(each.name for each in named if each.default is each.empty)
