"""`goalsvc dev`: everything on this machine, on real parts."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from goalsvc.devstack.data_directory import DataDirectory
from goalsvc.devstack.environment import (
    Addresses,
    PrivatePart,
    environment_for,
    private_parts,
    quarantine_bucket,
)
from goalsvc.devstack.following import follow
from goalsvc.devstack.mongod import mongod_part
from goalsvc.devstack.parts import Part, api_part, s3_part, standins_part, valkey_part, worker_part
from goalsvc.devstack.ports import HOST, free_port, is_free
from goalsvc.devstack.process import PartFailedError
from goalsvc.devstack.supervisor import Supervisor
from goalsvc.devstack.voice import Voice
from goalsvc.errors import GoalsvcError, SettingsError
from goalsvc.settings import Settings

#: So long a task that was cancelled may take to end, before it is cancelled again.
_CANCELLED_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Commands:
    """What is started as the API and as the worker; tests put something smaller in their place."""

    api: Callable[[int], tuple[str, ...]] = lambda port: (
        *(sys.executable, "-m", "goalsvc", "serve"),
        *("--host", HOST, "--port", str(port)),
    )
    """Given the port."""
    worker: tuple[str, ...] = (sys.executable, "-m", "goalsvc", "worker")
    source: Path = Path(__file__).parents[1]
    """What they are made from; watched with `reload`."""


@dataclass(frozen=True, slots=True)
class _Options:
    talking: bool
    reload: bool


class PortTakenError(GoalsvcError):
    """Another program listens on the port that was asked for."""

    code = "port_taken"


def run_dev(
    *,
    port: int = 8000,
    data_dir: Path = Path(".goalsvc"),
    json_output: bool = False,
    quiet: bool = False,
    reload: bool = False,
    commands: Commands | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs the stack until Ctrl-C, SIGTERM or SIGHUP, and gives the exit status: 0 after a stop, 1 if it cannot run.

    `port` is the API's (0: any free one); data, logs and what must be remembered are kept in `data_dir`. Once all is ready,
    a line is printed for each thing that happens, unless `quiet`. With `json_output` the one thing printed on standard output
    is a JSON object, once all is ready. With `reload` a change of goalsvc's source restarts the API and the worker.
    `environment` (the process's own if None) says what to use instead of private parts. Call it on the main thread, outside
    any event loop.
    """
    voice = Voice(json_output)
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
            options = _Options(talking=not quiet and not json_output, reload=reload)
            asyncio.run(_run(port or free_port(), data, voice, commands or Commands(), given, options))
    except KeyboardInterrupt:  # before the event loop took it over: nothing had been started
        return 0
    except GoalsvcError as error:
        voice.complain(error.message)
        return 1
    except OSError as error:
        voice.complain(f"the stack cannot run: {error}")
        return 1
    return 0


async def _run(
    port: int, data: DataDirectory, voice: Voice, commands: Commands, given: Mapping[str, str], options: _Options
) -> None:
    began_at = time.monotonic()
    ports = {PrivatePart(name): number for name, number in data.ports_for(private_parts(given), besides=[port]).items()}
    environment = environment_for(given, ports, port) | {"GOALSVC_DEV_DIR": str(data.path)}
    _, complaints = Settings.read(environment)
    if complaints:
        raise SettingsError("; ".join(complaints))
    parts = _parts(data.path, ports, port, environment, commands)
    reloading = ("api", "worker") if options.reload else ()
    supervisor = Supervisor(
        parts, data.logs, tell=voice.tell, running_changed=data.remember_running, reloading=reloading
    )

    stop = asyncio.Event()
    addresses = Addresses.of(environment, port)

    def on_signal() -> None:
        if stop.is_set():
            supervisor.kill()
        else:
            voice.tell("stopping")
            stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    voice.tell(f"starting {', '.join(part.name for part in parts)}; their logs are in {data.logs}")
    async with _beside() as begin:

        def when_ready() -> None:
            voice.announce(addresses, supervisor.pids, environment, given, time.monotonic() - began_at)
            if options.talking:
                begin(_talk(addresses, voice))

        if options.reload:
            begin(_reload(commands.source, supervisor, voice))
        await supervisor.run(stop, when_ready)


async def _talk(addresses: Addresses, voice: Voice) -> None:
    """Shows what happens until it is cancelled; the stack goes on without it."""
    try:
        async for line in follow(addresses.mongodb_url):
            voice.show(line, f"{addresses.api_url}/console")
    except Exception as error:
        voice.complain(f"what happens is no longer shown: {error!r}")


async def _reload(source: Path, supervisor: Supervisor, voice: Voice) -> None:
    """Restarts the API and the worker whenever a file of the source changes, until it is cancelled."""
    import watchfiles  # of the extra `dev`

    async for changes in watchfiles.awatch(source):
        names = sorted(str(Path(path).relative_to(source)) for _, path in changes)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        voice.tell(f"{names[0]}{more} changed: the API and the worker start again")
        supervisor.restart()


@asynccontextmanager
async def _beside() -> AsyncIterator[Callable[[Coroutine[None, None, None]], None]]:
    """Yields what begins work beside the parts; on leaving it is cancelled."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield lambda work: tasks.append(asyncio.create_task(work))
    finally:
        running = set(tasks)
        while running:  # PyMongo swallows a cancellation that comes while its connection breaks
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=_CANCELLED_AGAIN_SECONDS)
        await asyncio.gather(*tasks, return_exceptions=True)


def _cache_of(environment: Mapping[str, str]) -> float:
    """Returns the cache of the private MongoDB in gigabytes, within what `mongod` accepts. Raises SettingsError."""
    try:
        size = float(environment.get("GOALSVC_DEV_MONGOD_CACHE_GB") or 0.25)
    except ValueError:
        size = 0.0
    if not 0.25 <= size <= 10_000:  # NaN is neither
        raise SettingsError("GOALSVC_DEV_MONGOD_CACHE_GB: must be a number of gigabytes from 0.25 to 10000")
    return size


def _parts(
    directory: Path,
    ports: Mapping[PrivatePart, int],
    api_port: int,
    environment: Mapping[str, str],
    commands: Commands,
) -> list[Part]:
    parts: list[Part] = []
    if (port := ports.get(PrivatePart.MONGOD)) is not None:
        parts.append(mongod_part(directory / "mongod", port, _cache_of(environment)))
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


__all__ = ["Commands", "PartFailedError", "PortTakenError", "run_dev"]
