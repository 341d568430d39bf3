"""`python -m goalsvc.devstack.standins [--pusher-port N] [--byteplus-port N]`: keys and secrets from GOALSVC_…."""

import argparse
import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

from starlette.types import ASGIApp

from goalsvc.clock import MovableClock, SystemClock, clock_file
from goalsvc.devstack.standins.byteplus import BytePlusStandIn
from goalsvc.devstack.standins.pusher import PusherStandIn
from goalsvc.devstack.standins.serving import serving
from goalsvc.devstack.standins.webhooks import Subscriber


def main() -> None:
    """Serves the emulators that have been given a port."""
    options = argparse.ArgumentParser(prog="goalsvc.devstack.standins")
    options.add_argument("--pusher-port", type=int)
    options.add_argument("--byteplus-port", type=int)
    wanted = options.parse_args()

    # Not `Settings`: these need neither a database nor Redis.
    given = os.environ
    apps: dict[int, ASGIApp] = {}
    if wanted.pusher_port:
        secrets = json.loads(given.get("GOALSVC_PUSHER_KEYS") or "{}")
        secrets[given["GOALSVC_PUSHER_KEY"]] = given["GOALSVC_PUSHER_SECRET"]
        key = given["GOALSVC_PUSHER_KEY"]
        subscriber = Subscriber(f"{given['GOALSVC_API_URL']}/notify/pusher", key, secrets[key])
        directory = given.get("GOALSVC_DEV_DIR")
        clock = MovableClock(clock_file(Path(directory))) if directory else SystemClock()
        emulator = PusherStandIn(given["GOALSVC_PUSHER_APP_ID"], secrets, subscribers=[subscriber], clock=clock)
        apps[wanted.pusher_port] = emulator.app
    if wanted.byteplus_port:
        keys = given["GOALSVC_BYTEPLUS_ACCESS_KEY"], given["GOALSVC_BYTEPLUS_SECRET_KEY"]
        apps[wanted.byteplus_port] = BytePlusStandIn(*keys).app

    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the threads are started: they inherit it
    with ExitStack() as stack:
        for port, app in apps.items():
            stack.enter_context(serving(app, port))
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
