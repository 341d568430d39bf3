"""Whoever can write to Redis can delay work, and no more: what he plants runs no code, and the worker goes on."""

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import msgspec
import pytest
from arq.constants import default_queue_name, job_key_prefix

from goalsvc.domain.lanes import Lane
from goalsvc.tasks.arq_worker import REFUSED
from tests.stories.scenes import a_stage
from tests.world import World


class Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._path),)


def bodies(path: Path) -> dict[str, bytes]:
    """What somebody might plant: as arq's own clients would write it, and hidden in what we read."""
    job: dict[str, Any] = {"t": 1, "f": "sweep_promises", "a": (), "k": {}, "et": 1}
    bomb = Bomb(path)
    found = {f"pickle {protocol}": pickle.dumps(bomb, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)}
    hidden = pickle.dumps(bomb)
    return found | {
        "arguments": pickle.dumps(job | {"k": {"x": bomb}}),
        "function": pickle.dumps(job | {"f": bomb}),
        "in msgpack": msgspec.msgpack.encode(job | {"f": hidden, "k": {"x": hidden}}),
        "an extension": msgspec.msgpack.encode(job | {"f": "x", "k": {"x": msgspec.msgpack.Ext(1, hidden)}}),
        "a task's name": msgspec.msgpack.encode(job | {"f": "os.mkdir", "a": [str(path)]}),
    }


@pytest.mark.real
async def test_what_is_planted_in_the_queue_runs_no_code(
    busy_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "exploded"
    planted = [
        (f"planted-{queue}-{name}", queue, body)
        for queue in (*(lane.queue for lane in Lane), default_queue_name)
        for name, body in bodies(path).items()
    ]
    caplog.set_level(logging.DEBUG, "goalsvc")
    before = REFUSED.labels("unsigned")._value.get()
    now = int(time() * 1000)
    for job_id, queue, body in planted:
        await busy_world.redis.set(job_key_prefix + job_id, body, px=60_000)
        await busy_world.redis.zadd(queue, {job_id: now})
    await busy_world.work()  # until both queues are empty
    assert not path.exists()
    for lane in Lane:
        assert await busy_world.redis.zcard(lane.queue) == 0
    # The control: each was looked at and counted, and the workers live.
    read = [job_id for job_id, queue, _ in planted if queue != default_queue_name]
    assert REFUSED.labels("unsigned")._value.get() - before == len(read)
    await busy_world.given(a_stage())
    await busy_world.settle()


def test_the_bomb_goes_off_where_pickle_is_read(tmp_path: Path) -> None:
    """The control: had the worker read pickle, it would have been seen."""
    for name, body in bodies(tmp_path / "exploded").items():
        if not name.startswith(("in", "an", "a ")):
            pickle.loads(body)
            (tmp_path / "exploded").rmdir()
