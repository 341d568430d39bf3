"""The laboratory: a private real `mongod` and Valkey, the processes that are measured, and what the kernel says of them."""

import asyncio
import compileall
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

import goalsvc
from bench.outside import Outside, open_outside
from goalsvc.devstack import private_mongod, private_valkey
from goalsvc.devstack.environment import PrivatePart, environment_for
from goalsvc.devstack.mongod import mongodb_url
from goalsvc.devstack.ports import HOST, free_port, http_status
from goalsvc.devstack.process import bound_to_this_process

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PATIENCE_SECONDS = 60.0

Mongo = AsyncMongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Proc:
    """A process that is measured."""

    pid: int
    port: int = 0

    def cpu_seconds(self) -> float:
        """Processor time that it and all its threads have taken (utime + stime)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    def resident_mb(self) -> float:
        """Memory that it holds now."""
        return self._status("VmRSS")

    def peak_mb(self) -> float:
        """Most memory that it has held since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Lets the peak begin anew, from what it holds now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"the kernel does not tell {name} of process {self.pid}")


@dataclass(frozen=True, slots=True)
class Lab:
    """Everything that a measurement needs."""

    mongod: Proc
    redis_address: str
    outside: Outside
    mongo: Mongo
    logs: Path

    def mongodb_url(self, database: str) -> str:
        """The address of a database on the private mongod."""
        return mongodb_url([self.mongod.port], database)

    def redis_url(self, number: int) -> str:
        """The address of one of Valkey's numbered databases."""
        return f"{self.redis_address}/{number}"

    def environment(self, database: str, redis: int = 0) -> dict[str, str]:
        """What goalsvc's processes are told; what the caller's own environment says of goalsvc does not count."""
        given = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
        ports = {PrivatePart.PUSHER: self.outside.port, PrivatePart.BYTEPLUS: self.outside.port}
        return {
            **environment_for(given, ports, api_port=8000),
            "GOALSVC_MONGODB_URL": self.mongodb_url(database),
            "GOALSVC_REDIS_URL": self.redis_url(redis),
            "GOALSVC_LOG_LEVEL": "WARNING",
            "GOALSVC_S3_ENDPOINT_URL": f"http://{HOST}:9",  # nothing is ever stored
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    async def empty_redis(self, number: int) -> None:
        """Forgets all that is in one of Valkey's databases."""
        client: Redis = Redis.from_url(self.redis_url(number))
        await client.flushdb()
        await client.aclose()

    async def empty(self, database: str) -> None:
        """Deletes every document; the indexes stay."""
        for name in await self.mongo[database].list_collection_names():
            await self.mongo[database][name].delete_many({})

    async def valkey_cpu_seconds(self) -> float:
        """Processor time that Valkey has taken."""
        client: Redis = Redis.from_url(self.redis_url(0))
        told: dict[str, Any] = await client.info("cpu")
        await client.aclose()
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])

    # -- the processes --------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def api(self, database: str, redis: int = 0) -> AsyncIterator[Proc]:
        """One API process, ready."""
        port = free_port()
        command = [sys.executable, "-m", "goalsvc", "serve", "--port", str(port)]
        async with self.running("api", command, self.environment(database, redis), port) as proc:
            yield proc

    @contextlib.asynccontextmanager
    async def bare(self, database: str, redis: int) -> AsyncIterator[Proc]:
        """One process of the bare path, ready."""
        port = free_port()
        addresses = [self.mongodb_url(database), self.redis_url(redis)]
        command = [sys.executable, "-m", "bench.bare", str(port), *addresses]
        async with self.running("bare", command, dict(os.environ), port) as proc:
            yield proc

    @contextlib.asynccontextmanager
    async def bare_worker(self, database: str, redis: int) -> AsyncIterator[Proc]:
        """One worker of the bare path; it has connected once its first job is done."""
        addresses = [self.mongodb_url(database), self.redis_url(redis), str(self.outside.port)]
        command = [sys.executable, "-m", "bench.bare_worker", *addresses]
        async with self.running("bare-worker", command, dict(os.environ)) as proc:
            yield proc

    @contextlib.asynccontextmanager
    async def worker(self, database: str, redis: int = 0) -> AsyncIterator[Proc]:
        """One worker on an empty database and an empty queue, ready."""
        await self.empty(database)
        await self.empty_redis(redis)
        port = free_port()
        environment = {**self.environment(database, redis), "GOALSVC_WORKER_PORT": str(port)}
        async with self.running("worker", [sys.executable, "-m", "goalsvc", "worker"], environment, port) as proc:
            yield proc

    @contextlib.asynccontextmanager
    async def running(
        self, name: str, command: Sequence[str], environment: dict[str, str], port: int = 0
    ) -> AsyncIterator[Proc]:
        """A process that ends with this block, or with this process; with a port, it is ready first.

        What it prints goes to a file. Raises RuntimeError with the end of that when it is over before it is ready.
        """
        printed = self.logs / f"{name}.log"
        process = _started(command, environment, printed)
        try:
            if port:
                await _until_ready(port, process, printed)
            yield Proc(process.pid, port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(command: Sequence[str], environment: dict[str, str], printed: Path) -> "subprocess.Popen[bytes]":
    with printed.open("ab") as log:
        return subprocess.Popen(
            bound_to_this_process(command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _end_of(printed: Path) -> str:
    return printed.read_text()[-500:]


async def _until_ready(port: int, process: "subprocess.Popen[bytes]", printed: Path) -> None:
    deadline = perf_counter() + _PATIENCE_SECONDS
    while http_status(port, "/readyz") != 200:
        if process.poll() is not None or perf_counter() > deadline:
            raise RuntimeError(f"{printed.stem} was not ready: {_end_of(printed)}")
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def open_lab(cache_gb: float = 1.0) -> AsyncIterator[Lab]:
    """Starts the private parts; all of it is gone when left. `cache_gb` bounds mongod's cache."""
    # As pip does on installing: where Python may write no bytecode, each process would compile all modules anew.
    compileall.compile_dir(Path(goalsvc.__file__).parent, quiet=1)
    with (
        tempfile.TemporaryDirectory(prefix="goalsvc-bench-", ignore_cleanup_errors=True) as directory,
        private_mongod(Path(directory) / "mongod", cache_gb=cache_gb) as mongod,
        private_valkey(Path(directory) / "valkey") as redis_url,
    ):
        async with open_outside() as outside, AsyncMongoClient[dict[str, Any]](mongod.url, tz_aware=True) as mongo:
            server = Proc(mongod.members[0].pid, mongod.ports[0])
            yield Lab(server, redis_url.rpartition("/")[0], outside, mongo, Path(directory))
