"""A simulated machine: an event loop whose time is virtual, and processes on it that can be killed between any two steps.

Nothing waits: when no task can go on, time jumps to the next timer. What asyncio would hand to a thread (Motor's calls of
PyMongo, reads of files) is done right here, at a virtual instant of its own, so that the order of everything follows from
one seed. A killed process is one whose steps are no longer run: no `except` and no `finally` of it gets a word in.
"""

import asyncio
import heapq
from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from selectors import BaseSelector, SelectorKey
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: The process of the task that runs; None for the world outside (clients, Pusher, whoever looks on).
PROCESS: ContextVar["Process | None"] = ContextVar("simulated_process", default=None)


class ProcessDiedError(ConnectionError):
    """The process that was asked has died: the connection to it broke, and nobody knows how far it came."""


class Process:
    """A process of goalsvc on the simulated machine. It dies before its step number `dies_before`, or when killed."""

    def __init__(self, name: str, dies_before: int | None = None) -> None:
        self.name = name
        self.alive = True
        self.steps = 0
        #: What it opened when it began (goalsvc's context).
        self.opened: Any = None
        self.dies_before = dies_before
        self.on_death: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._unanswered: list[asyncio.Future[Any]] = []

    def may_step(self) -> bool:
        """Whether the next step of this process is run; counts it."""
        if self.alive and self.steps == self.dies_before:
            self.kill()
        self.steps += 1
        return self.alive

    def kill(self) -> None:
        """Stops it where it is. Whoever waits for an answer of it is told that the connection broke."""
        if not self.alive:
            return
        self.alive = False
        for answer in self._unanswered:
            if not answer.done():
                answer.set_exception(ProcessDiedError(self.name))
        for told in self.on_death:
            told()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs the coroutine as a task of this process."""
        within = copy_context()
        within.run(PROCESS.set, self)
        return asyncio.get_running_loop().create_task(coroutine, context=within)

    def own(self, task: asyncio.Task[Any]) -> None:
        """Holds on to a task of this process: what a killed one leaves behind must not be cleared away before the end."""
        # It is not destroyed by mistake but on purpose.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        if len(self._tasks) > 500:
            self._tasks = [each for each in self._tasks if not each.done()]

    async def ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Has the process run the coroutine and gives its result; raises ProcessDiedError when the process dies first."""
        if not self.alive:
            coroutine.close()
            raise ProcessDiedError(self.name)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._unanswered.append(answer)

        def tell(done: asyncio.Task[T]) -> None:
            if answer.done():
                return
            if done.cancelled():
                answer.set_exception(ProcessDiedError(self.name))
            elif (error := done.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(done.result())

        self.start(coroutine).add_done_callback(tell, context=copy_context())
        try:
            return await answer
        finally:
            self._unanswered.remove(answer)

    def bury(self) -> None:
        """Lets go of what the process left behind; to be called once nothing can be changed any more."""
        for task in self._tasks:
            if not task.done():
                with suppress(RuntimeError):  # it awaits something in a `finally`: let it
                    task.get_coro().close()


def _owned_task(loop: asyncio.AbstractEventLoop, coroutine: Any, context: Context | None = None) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, context=context)
    process = PROCESS.get() if context is None else context.get(PROCESS)
    if process is not None:
        process.own(task)
    return task


class _Handle(events.Handle):
    """A step. One of a process that has died is not run."""

    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None or process.may_step():
            super()._run()


class _TimerHandle(events.TimerHandle):
    """What is due later; as a rule it only wakes a task, so that it is no step of its own."""

    __slots__ = ()

    def _run(self) -> None:
        process = self._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None or process.alive:
            super()._run()


class StandstillError(AssertionError):
    """Nothing can ever happen again, and yet somebody waits."""


class _Nothing(BaseSelector):
    """A selector on which nothing ever comes in; waiting is letting virtual time pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None:
            raise StandstillError("every task waits, and no timer is set")
        self.now += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return SelectorKey(fileobj, -1, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        return SelectorKey(fileobj, -1, 0, None)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return SelectorKey(fileobj, -1, events, data)

    def get_key(self, fileobj: Any) -> SelectorKey:
        raise KeyError(fileobj)

    def get_map(self) -> Any:
        return {}


Trip = Callable[[Callable[[], Any]], Awaitable[Any]]


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The event loop of the simulated machine."""

    def __init__(self, random: Random) -> None:
        self._virtual = _Nothing()
        super().__init__(self._virtual)
        self._random = random
        self.set_task_factory(_owned_task)
        #: Called before and after every call that leaves the process (database, files); may raise, or kill the process.
        self.trip: Trip | None = None

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> events.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _call_soon(self, callback: Callable[..., Any], args: Any, context: Context | None) -> events.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Runs the function here and now, as far as the real machine is concerned; a virtual moment later, in truth."""
        assert self.trip is not None
        return self.create_task(self.trip(lambda: func(*args)))  # type: ignore[arg-type]
