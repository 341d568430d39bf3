"""The parts as data: what to run, and how to know that it works."""

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from goalsvc.devstack.binaries import find_valkey
from goalsvc.devstack.ports import HOST, http_status
from goalsvc.devstack.process import PartFailedError, holds_connection_to

ReadyProbe = Callable[[int], bool]
"""Told the process id, does what is still missing for the part to be of use, and says whether it is. Takes at most a few
seconds, may be called again and again, and from any thread. Raises PartFailedError when it never will be."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process that the stack consists of."""

    name: str
    command: tuple[str, ...]
    is_ready: ReadyProbe
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    needs: frozenset[str] = frozenset()
    """Names of the parts without which it cannot start; it is stopped before them."""
    tell_warnings: bool = False
    """Whether its log is followed for warnings."""


def valkey_part(directory: Path, port: int) -> Part:
    """A private Valkey with its append-only file in `directory` (made if need be): at most a second of writes is lost."""
    directory.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    words = [word for option, value in options.items() for word in (f"--{option}", value)]
    return Part("valkey", (str(find_valkey()), *words), lambda _pid: _answers_ping(port))


def _answers_ping(port: int) -> bool:
    # While it loads its data it accepts connections and answers -LOADING.
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def s3_part(port: int, buckets: Sequence[str], environment: Mapping[str, str]) -> Part:
    """A private S3 endpoint (moto), which keeps everything in memory: the buckets are made at every start."""

    def is_ready(_pid: int) -> bool:
        statuses = {bucket: http_status(port, f"/{bucket}", "PUT") for bucket in buckets}
        for bucket, status in statuses.items():
            if status is not None and 400 <= status < 500 and status != 409:  # 409: it is there already
                raise PartFailedError(f"S3 refuses to make a bucket named {bucket!r}: choose another name")
        return all(status in (200, 409) for status in statuses.values())

    return Part("s3", (sys.executable, "-m", "goalsvc.devstack.s3", str(port)), is_ready, environment)


def standins_part(pusher_port: int | None, byteplus_port: int | None, environment: Mapping[str, str]) -> Part:
    """The emulators for Pusher's and BytePlus's HTTP APIs, in one process; keys and secrets as in `environment`."""
    ports = {"--pusher-port": pusher_port, "--byteplus-port": byteplus_port}
    wanted = {option: port for option, port in ports.items() if port is not None}
    words = [word for option, port in wanted.items() for word in (option, str(port))]

    def is_ready(_pid: int) -> bool:
        return all(http_status(port, "/recorded?limit=1") == 200 for port in wanted.values())

    return Part("emulators", (sys.executable, "-m", "goalsvc.devstack.standins", *words), is_ready, environment)


def api_part(command: Sequence[str], port: int, environment: Mapping[str, str], needs: frozenset[str]) -> Part:
    """The API; ready once GET /readyz answers 200."""
    return Part(
        "api",
        tuple(command),
        lambda _pid: http_status(port, "/readyz") == 200,
        environment,
        needs,
        tell_warnings=True,
    )


def worker_part(
    command: Sequence[str], valkey_port: int | None, environment: Mapping[str, str], needs: frozenset[str]
) -> Part:
    """A worker; ready once it is connected to the private Valkey, or, where that cannot be seen, as soon as it runs."""

    def is_ready(pid: int) -> bool:
        return valkey_port is None or holds_connection_to(pid, valkey_port) is not False

    return Part("worker", tuple(command), is_ready, environment, needs, tell_warnings=True)
