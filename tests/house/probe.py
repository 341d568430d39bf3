"""Wrong uses of the ports, which mypy must refuse: where it accepts one, its `type: ignore` is unused and `make check` fails.

Nothing here is ever called.
"""

from goalsvc.context import Context, WorkerContext
from goalsvc.tasks.recording import StopRecord
from goalsvc.tasks.runner import Runner


async def wrong_values(context: Context) -> None:
    """Hands the ports values of other types."""
    await context.clocks.move("started")  # type: ignore[arg-type]
    await context.ledger.post(42, context.clock.now())  # type: ignore[arg-type]
    await context.events.write([{"type": "goal.ended"}])  # type: ignore[list-item]
    await context.notifier.trigger("private-user@alice", "wallet.updated", {1: "one"})  # type: ignore[dict-item]
    context.queue.enqueue("transfer")  # type: ignore[arg-type]
    await context.cache.drop([7])  # type: ignore[list-item]


async def wrong_contexts(context: Context, runner: Runner) -> None:
    """Asks a receiver's or endpoint's context for what workers alone have."""
    await context.store.link("clip", 60)  # type: ignore[attr-defined]
    context.rtc  # type: ignore[attr-defined]  # noqa: B018
    context.cutter  # type: ignore[attr-defined]  # noqa: B018
    await StopRecord(context, goal_id="g", session_id="s")  # type: ignore[arg-type]


async def wrong_arguments(context: WorkerContext) -> None:
    """Misspells and mistypes arguments of tasks."""
    StopRecord.follow_up(goal="g", session_id="s")  # type: ignore[call-arg]
    await StopRecord(context, goal_id=7, session_id="s")  # type: ignore[arg-type]
