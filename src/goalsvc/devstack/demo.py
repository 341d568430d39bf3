"""`goalsvc demo`: the main job, from signed webhook to payout and clip, played on real parts and told as it happens."""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from rich.table import Table
from rich.text import Text

from goalsvc.commands.api import Api, Target
from goalsvc.commands.screen import open_screen
from goalsvc.commands.trace import tree_of
from goalsvc.devstack.demo_show import Course, Plan, Show
from goalsvc.devstack.demo_stage import Parts, StageError, open_parts, open_stage
from goalsvc.devstack.demo_story import Story
from goalsvc.devstack.demo_witness import Witness
from goalsvc.errors import GoalsvcError

CLIP_NAME = "clip.mp4"
LOGS_NAME = "logs"

#: The stream began this long before the performer joined.
_LEAD_SECONDS = 20
_INTERRUPTED = 130


def run_demo(keep_dir: Path, environment: Mapping[str, str] | None = None, *, stay: bool = False) -> int:
    """Plays the show and gives the exit status: 0 only if every figure was as expected, 130 when it was interrupted.

    With `stay` all parts go on at the end, so that the console can show it, until a signal (Ctrl-C) ends the demo.

    The clip goes into `keep_dir` (made if need be), and the parts' logs if something went wrong; all else is deleted.
    Raises GoalsvcError when it cannot be played at all. Call it on the main thread, outside any event loop.
    """
    given = dict(os.environ if environment is None else environment)
    plan = Plan.of(given)
    keep_dir = keep_dir.absolute()
    try:
        if not keep_dir.exists():
            keep_dir.mkdir(parents=True)
            (keep_dir / ".gitignore").write_text("*\n")
        (keep_dir / CLIP_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise StageError(f"nothing can be kept in {keep_dir}: {error.strerror}") from None
    try:
        return asyncio.run(_run(plan, keep_dir, given, stay))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED


async def _run(plan: Plan, keep_dir: Path, given: Mapping[str, str], stay: bool) -> int:
    story = Story(open_screen(), steps=Show.ACTS + 2)
    async with open_parts() as parts:
        visit = _Visit(story) if stay else None
        _stop_on_signals(parts, visit)
        try:
            course = await _play(plan, story, parts, keep_dir / CLIP_NAME, given, visit)
        except GoalsvcError:
            parts.keep_logs(keep_dir / LOGS_NAME)
            raise
        _show(story, plan, course, keep_dir / CLIP_NAME)
        if story.wrong:
            parts.keep_logs(keep_dir / LOGS_NAME)
            story.show(Text(f"the logs of all parts are in {keep_dir / LOGS_NAME}"))
    if not stay:
        story.show(
            _heading("The console"), "`goalsvc demo --stay` goes on at the end, and the console shows the show's page"
        )
    return story.verdict()


class _Visit:
    """The time at the end in which the console can be looked at."""

    def __init__(self, story: Story) -> None:
        self._story, self._over = story, asyncio.Event()
        self.goes_on = False

    async def hold(self, api: Target, show_id: str) -> None:
        """Names the show's page of the console, and waits until `end`."""
        self.goes_on = True
        self._story.show(
            _heading("The console"),
            Text(f"{api.api_url}/console/goals/{show_id} is the show's page; log in with {api.api_key}"),
            "Ctrl-C ends the demo",
        )
        await self._over.wait()
        self.goes_on = False

    def end(self) -> None:
        """Ends the wait."""
        self._over.set()


def _stop_on_signals(parts: Parts, visit: _Visit | None) -> None:
    """Lets the first signal end the demo in good order (a visit of the console first), and further ones hurry the parts."""
    loop, playing = asyncio.get_running_loop(), asyncio.current_task()
    stopping = False

    def on_signal() -> None:
        nonlocal stopping
        if visit is not None and visit.goes_on:
            visit.end()
        elif stopping:
            parts.ask_to_stop()
        elif playing is not None:
            stopping = True
            playing.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)


async def _play(
    plan: Plan, story: Story, parts: Parts, clip: Path, given: Mapping[str, str], visit: _Visit | None
) -> Course:
    with story.telling():
        async with AsyncExitStack() as stack:
            with story.step("MongoDB, Valkey, S3, Pusher, BytePlus, the API, a worker and a livestream start") as step:
                past_seconds = plan.performed_seconds + _LEAD_SECONDS
                stage = await stack.enter_async_context(open_stage(parts, given, past_seconds))
                api = await stack.enter_async_context(Api.open(stage.addresses.api))
                witness = await stack.enter_async_context(Witness.open(stage.addresses))
                step.result = stage.addresses.api.api_url
            show = Show(plan, story, api, witness)
            await show.play(stage.stream.url, clip)
            if visit is not None:
                await visit.hold(stage.addresses.api, show.course.show_id)
        with story.step("everything stops") as step:
            story.expect("exit status of `goalsvc dev`", await parts.stop(), 0)
            step.result = "no process and no data are left behind"
    return show.course


def _show(story: Story, plan: Plan, course: Course, clip: Path) -> None:
    story.show(_heading("What happened to the show"), tree_of(course.show_id, course.trace, fold=True))
    story.show(_heading("Tokens"), _balances(plan, course.balances))
    story.show(_heading("Milliseconds from the performer's leave until"), _timings(course.timings))
    if course.clip is None or not course.clip.seconds:
        return
    first, last = course.clip.seconds[0], course.clip.seconds[-1]
    codecs = ", ".join(course.clip.codecs) + (", fast start" if course.clip.fast_start else "")
    story.show(
        _heading("The clip"),
        f"{clip}",
        f"{course.clip.duration_seconds:.2f} s; {codecs}",
        f"its frames show the seconds {first:%H:%M:%S} to {last:%H:%M:%S} UTC, all {len(course.clip.seconds)} of them; "
        f"the show, of which it begins {(course.left_at - first).total_seconds():.0f} s before the end, "
        f"ended at {course.left_at:%H:%M:%S}",
    )


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold underline")


def _table(*columns: str) -> Table:
    table = Table(*columns[:1], box=None, padding=(0, 3, 0, 0), header_style="dim")
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _balances(plan: Plan, balances: Mapping[str, int]) -> Table:
    """Who had what, gave or got what, and has what."""
    table = _table("account", "deposited", "moved", "balance")

    def add(account: str, deposited: int) -> None:
        balance = balances.get(account, 0)
        table.add_row(account, f"{deposited}", f"{balance - deposited:+}", f"{balance}")

    for viewer in plan.contributions:
        add(f"user:{viewer}", plan.deposit)
    add(f"user:{plan.streamer}", 0)
    for account in balances:
        if account.startswith("escrow:"):
            add(account, 0)
    add("issuer", -plan.deposit * len(plan.contributions))
    table.add_section()
    table.add_row("sum", "0", "", f"{sum(balances.values())}", style="bold")
    return table


def _timings(timings: Mapping[str, float]) -> Table:
    table = _table("", "")
    table.show_header = False
    for what, milliseconds in sorted(timings.items(), key=lambda item: item[1]):
        table.add_row(what, f"{milliseconds:.0f}")
    return table
