"""Each alert on a real stack and a real Prometheus: `python -m tests.drills.alerts [NAME …]`.

What it means is brought about; it is seen firing; its runbook's commands are run and show the cause; the runbook's mitigation
is carried out; and it is seen to go away. Exit status 1 if one of these failed. Needs Debian's package `prometheus`.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from goalsvc.devstack import private_mongod, private_valkey
from goalsvc.devstack.ports import free_port
from goalsvc.devstack.waiting import holds_within

from .alert_scenes import SCENES, Drill, Scene
from .processes import API_KEY, KEY, SECRET, Program, running_stack
from .prometheus import prometheus_over
from .runbooks import commands_of, is_of_the_host, run

#: QueueOld's condition is that a job has been due for a minute; the figures behind some alerts are gathered every 15 s.
FIRES_SECONDS, RESOLVED_SECONDS = 120.0, 90.0


def play(scene: Scene, drill: Drill) -> list[str]:
    """Plays one scene and prints a line for each of its alerts; what went wrong."""
    wrong: list[str] = []
    names = set(scene.alerts)
    if not holds_within(RESOLVED_SECONDS, lambda: not names & drill.prometheus.firing(), every=0.5):
        return [f"{names & drill.prometheus.firing()} fires before its condition holds"]
    fired: dict[str, float] = {}
    resolved: dict[str, float] = {}

    def note(since: float, into: dict[str, float], firing: bool) -> bool:
        now_firing = drill.prometheus.firing()
        for name in names - set(into):
            if (name in now_firing) is firing:
                into[name] = monotonic() - since
        return set(into) == names

    begun = monotonic()
    with scene.trouble(drill):
        if not holds_within(FIRES_SECONDS, lambda: note(begun, fired, firing=True), every=0.5):
            wrong.append(f"{sorted(names - set(fired))} did not fire")
        for alert in sorted(fired):
            wrong += _diagnose(alert, scene.alerts[alert], drill)
    cured = monotonic()
    if not holds_within(RESOLVED_SECONDS, lambda: note(cured, resolved, firing=False), every=0.5):
        wrong.append(f"{sorted(names - set(resolved))} still fires after its cure")
    for alert in sorted(names):
        told = [f"fired after {fired[alert]:.0f} s" if alert in fired else "did not fire"]
        told.append(f"gone {resolved[alert]:.0f} s after the cure" if alert in resolved else "still there")
        sys.stdout.write(f"{alert}: {', '.join(told)}\n")
        sys.stdout.flush()
    return wrong


def _diagnose(alert: str, evidence: str, drill: Drill) -> list[str]:
    """Runs the runbook's commands; what went wrong, also where they do not show the cause."""
    wrong, printed = [], ""
    for command in commands_of(alert):
        if is_of_the_host(command):
            sys.stdout.write(f"  {alert}: not run, it asks the host: {command}\n")
            continue
        output, failed = run(command, drill.environment())
        printed += output
        if failed:
            wrong.append(f"{alert}: {failed}")
    if not drill.shows(evidence, printed):
        wrong.append(f"{alert}: the runbook's commands do not show {evidence!r}:\n{printed[-2000:]}")
    return wrong


def main(names: Sequence[str]) -> int:
    """Plays the scenes of these alerts, or all."""
    if shutil.which("prometheus") is None:
        sys.stdout.write("alerts are not drilled: Debian's package prometheus is not installed\n")
        return 0
    chosen = [scene for scene in SCENES if not names or set(scene.alerts) & set(names)]
    with ExitStack() as left:
        name = tempfile.TemporaryDirectory(prefix="goalsvc-alerts-", ignore_cleanup_errors=True)
        directory = Path(left.enter_context(name))
        mongod = left.enter_context(private_mongod(directory / "mongod"))
        redis_url = left.enter_context(private_valkey())
        stack = left.enter_context(
            running_stack(directory, mongod.url, redis_url, RECORDING="off", RECONCILE_SECONDS="2", TASK_TRIES="3")
        )
        port = free_port()
        environment = {**stack.workers[0].environment, "GOALSVC_WORKER_PORT": str(port)}
        second = Program([], port, environment, directory / "second-worker.log")
        left.callback(second.stop)
        ports = [stack.apis[0].port, stack.workers[0].port, port]
        prometheus = left.enter_context(prometheus_over(ports, directory / "prometheus"))
        client = left.enter_context(stack.client())
        commands = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GOALSVC_API_URL": stack.apis[0].url,
            "GOALSVC_API_KEY": API_KEY,
            "GOALSVC_MONGODB_URL": mongod.url,
            "GOALSVC_REDIS_URL": redis_url,
            "GOALSVC_PUSHER_APP_ID": "1",
            "GOALSVC_PUSHER_KEY": KEY,
            "GOALSVC_PUSHER_SECRET": SECRET,
            "GOALSVC_METRICS_KEY": "",
            "WORKER_URL": stack.workers[0].url,
            "NO_COLOR": "1",
        }
        drill = Drill(stack, mongod, prometheus, client, second, commands)
        drill.begin()
        wrong = [complaint for scene in chosen for complaint in play(scene, drill)]
    for complaint in wrong:
        sys.stdout.write(f"WRONG {complaint}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
