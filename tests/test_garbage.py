"""The collector rests while a process starts, and works once it serves."""

import os
import subprocess
import sys

import pytest

from goalsvc.devstack.environment import DEFAULTS

SERVE = """
import gc, importlib, uvicorn
from goalsvc.cli import running

def run(target, **options):
    told.append(gc.isenabled())
    module, _, factory = target.partition(":")
    getattr(importlib.import_module(module), factory)()

told = []
uvicorn.run, running._wait_for_services = run, lambda settings: None
running.serve(host="127.0.0.1", port=0, workers=1)
print(*told, gc.isenabled(), gc.get_freeze_count() > 0)
"""

WORKER = """
import asyncio, gc, uvloop
from goalsvc import worker
from goalsvc.cli import running

async def run(*_, **__):
    print(told, gc.isenabled(), gc.get_freeze_count() > 0)

told = None
def settings(real=running._settings):
    global told
    told = gc.isenabled()
    return real()

running._settings, worker.run_worker = settings, run
running._wait_for_services = lambda settings: None
running.worker()
"""


@pytest.mark.parametrize("program", [SERVE, WORKER], ids=["serve", "worker"])
def test_it_rests_until_the_process_serves(program: str) -> None:
    parts = {"GOALSVC_MONGODB_URL": "mongodb://127.0.0.1:1/none", "GOALSVC_REDIS_URL": "redis://127.0.0.1:1"}
    environment = {**os.environ, **DEFAULTS, **parts}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False True True", "")
