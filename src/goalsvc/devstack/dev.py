"""`goalsvc dev`: everything on this machine, on real parts."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from goalsvc.devstack.data_directory import DataDirectory
from goalsvc.devstack.environment import (
    Addresses,
    PrivatePart,
    environment_for,
    private_parts,
    quarantine_bucket,
)
from goalsvc.devstack.mongod import mongod_part
from goalsvc.devstack.parts import Part, api_part, s3_part, standins_part, valkey_part, worker_part
from goalsvc.devstack.ports import HOST, free_port, is_free
from goalsvc.devstack.process import PartFailedError
from goalsvc.devstack.supervisor import Supervisor
from goalsvc.errors import GoalsvcError, SettingsError

_IN_THE_JSON = ("api", "worker", "mongod", "valkey", "s3")


@dataclass(frozen=True, slots=True)
class Commands:
    """What is started as the API and as the worker; tests put something smaller in their place."""

    api: Callable[[int], tuple[str, ...]] = lambda port: (
        *(sys.executable, "-m", "goalsvc", "serve"),
        *("--host", HOST, "--port", str(port)),
    )
    """Given the port."""
    worker: tuple[str, ...] = (sys.executable, "-m", "goalsvc", "worker")


class PortTakenError(GoalsvcError):
    """Another program listens on the port that was asked for."""

    code = "port_taken"


def run_dev(
    *,
    port: int = 8000,
    data_dir: Path = Path(".goalsvc"),
    json_output: bool = False,
    commands: Commands | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs the stack until Ctrl-C, SIGTERM or SIGHUP, and gives the exit status: 0 after a stop, 1 if it cannot run.

    `port` is the API's (0: any free one); data, logs and what must be remembered are kept in `data_dir`. With
    `json_output` the one thing printed on standard output is a JSON object, once all is ready. `environment` (the
    process's own if None) says what to use instead of private parts. Call it on the main thread, outside any event loop.
    """
    voice = _Voice(json_output)
    given = dict(os.environ if environment is None else environment)
    data = DataDirectory(data_dir.absolute())
    try:
        with data.held():
            for name in data.end_what_was_left_behind():
                voice.tell(f"{name} was left behind by an earlier run and has been ended")
            if port and not is_free(port):
                raise PortTakenError(
                    f"port {port} on {HOST} is taken by another program: stop it, or choose another with --port"
                )
            asyncio.run(_run(port or free_port(), data, voice, commands or Commands(), given))
    except KeyboardInterrupt:  # before the event loop took it over: nothing had been started
        return 0
    except GoalsvcError as error:
        voice.complain(error.message)
        return 1
    except OSError as error:
        voice.complain(f"the stack cannot run: {error}")
        return 1
    return 0


async def _run(port: int, data: DataDirectory, voice: "_Voice", commands: Commands, given: Mapping[str, str]) -> None:
    began_at = time.monotonic()
    ports = {PrivatePart(name): number for name, number in data.ports_for(private_parts(given), besides=[port]).items()}
    environment = environment_for(given, ports, port) | {"GOALSVC_DEV_DIR": str(data.path)}
    parts = _parts(data.path, ports, port, environment, commands)
    supervisor = Supervisor(parts, data.logs, tell=voice.tell, running_changed=data.remember_running)

    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            supervisor.kill()
        else:
            voice.tell("stopping")
            stop.set()

    def when_ready() -> None:
        voice.announce(
            Addresses.of(environment, port), supervisor.pids, environment, given, time.monotonic() - began_at
        )

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    voice.tell(f"starting {', '.join(part.name for part in parts)}; their logs are in {data.logs}")
    await supervisor.run(stop, when_ready)


def _parts(
    directory: Path,
    ports: Mapping[PrivatePart, int],
    api_port: int,
    environment: Mapping[str, str],
    commands: Commands,
) -> list[Part]:
    parts: list[Part] = []
    if (port := ports.get(PrivatePart.MONGOD)) is not None:
        try:
            cache_gb = float(environment.get("GOALSVC_DEV_MONGOD_CACHE_GB") or 0.25)
        except ValueError:
            raise SettingsError("GOALSVC_DEV_MONGOD_CACHE_GB: must be a number of gigabytes") from None
        parts.append(mongod_part(directory / "mongod", port, cache_gb))
    if (port := ports.get(PrivatePart.VALKEY)) is not None:
        parts.append(valkey_part(directory / "valkey", port))
    stores = frozenset(part.name for part in parts)
    if (port := ports.get(PrivatePart.S3)) is not None:
        parts.append(s3_part(port, [quarantine_bucket(environment)], environment))
    pusher, byteplus = ports.get(PrivatePart.PUSHER), ports.get(PrivatePart.BYTEPLUS)
    if pusher is not None or byteplus is not None:
        parts.append(standins_part(pusher, byteplus, environment))
    valkey = ports.get(PrivatePart.VALKEY)
    return [
        *parts,
        api_part(commands.api(api_port), api_port, environment, stores),
        worker_part(commands.worker, valkey, environment, stores),
    ]


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Lets the error through, where rich would end the process at once and leave the parts behind."""
        raise BrokenPipeError


class _Voice:
    """Speaks to the user; a closed terminal is not a reason to fail."""

    def __init__(self, json_output: bool) -> None:
        self._json_output = json_output
        self._progress = _Screen(stderr=True, highlight=False, soft_wrap=True)

    def tell(self, line: str) -> None:
        """A line of progress, on standard error."""
        self._say(sys.stderr, lambda: self._progress.print(f"[dim]dev:[/dim] {escape(line)}"))

    def complain(self, message: str) -> None:
        """What went wrong, on standard error: one sentence, then perhaps the end of a log."""
        self._say(
            sys.stderr,
            lambda: self._progress.print(f"[bold red]goalsvc dev:[/bold red] {escape(message)}"),
        )

    def announce(
        self,
        addresses: Addresses,
        pids: Mapping[str, int],
        environment: Mapping[str, str],
        given: Mapping[str, str],
        seconds: float,
    ) -> None:
        """All is ready."""
        self.tell(f"ready after {seconds:.1f} s; Ctrl-C stops everything")
        if self._json_output:
            numbers: dict[str, int | list[int]] = {name: pids.get(name, []) for name in _IN_THE_JSON}
            line = json.dumps({**asdict(addresses), "pids": numbers})
            self._say(sys.stdout, lambda: print(line, flush=True))
        else:
            overview = _overview(addresses, environment, given)
            self._say(sys.stdout, lambda: _Screen(soft_wrap=True).print(overview))

    @staticmethod
    def _say(stream: TextIO, speak: Callable[[], None]) -> None:
        try:
            speak()
        except OSError:
            # Python flushes its standard streams once more at its end: let that go somewhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _overview(addresses: Addresses, environment: Mapping[str, str], given: Mapping[str, str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = {
        "API": addresses.api_url,
        "docs": f"{addresses.api_url}/docs",
        "console": f"{addresses.api_url}/console",
        "examples": f"{addresses.api_url}/examples",
        "MongoDB": addresses.mongodb_url,
        "Redis": addresses.redis_url,
        "S3": addresses.s3_endpoint_url,
        "Pusher": addresses.pusher_url,
        "BytePlus": addresses.byteplus_url,
    }
    keys = {
        "API key": "GOALSVC_API_KEY",
        "Pusher app id": "GOALSVC_PUSHER_APP_ID",
        "Pusher key": "GOALSVC_PUSHER_KEY",
        "Pusher secret": "GOALSVC_PUSHER_SECRET",
        "JWT key": "GOALSVC_JWT_KEY",
    }
    # Only what is public is shown: a secret of the user's own does not belong on a screen.
    rows |= {
        name: f"as in {variable}" if given.get(variable) else environment[variable] for name, variable in keys.items()
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/bold]", Text(value, overflow="fold"))
    return table


__all__ = ["Commands", "PartFailedError", "PortTakenError", "run_dev"]
