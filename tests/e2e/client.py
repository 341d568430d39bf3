"""A real pusher-js client, in a process of its own (`client.mjs`)."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .node import CLIENT, node

WAIT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Received:
    """What the client was told: by the server, or by pusher-js itself (`pusher:…`, `connected`, `error`)."""

    event: str
    channel: str | None
    data: Any


class PusherClient:
    """One device of one user. Whatever it is told is kept, so that nothing is missed between a cause and the wait for it."""

    def __init__(self, options: Mapping[str, Any], log: Path) -> None:
        """Starts it and has it connect; `options` as in `client.mjs`, `log` takes what it prints on standard error."""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [node(), str(CLIENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        self._log = log
        self._news = threading.Condition()
        self._received: list[Received] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()

    def connected(self) -> Self:
        """Waits until it is connected to the server."""
        self.wait_for("connected")
        return self

    def subscribe(self, channel: str) -> None:
        """Subscribes to a channel, and waits until it is in it."""
        self.ask_for(channel)
        answer = self.wait_for("pusher:subscription_succeeded", "pusher:subscription_error", channel=channel)
        assert answer.event == "pusher:subscription_succeeded", answer.data

    def refusal(self, channel: str) -> Any:
        """Subscribes to a channel, and waits until that is refused; gives what pusher-js says of it."""
        self.ask_for(channel)
        answer = self.wait_for("pusher:subscription_succeeded", "pusher:subscription_error", channel=channel)
        assert answer.event == "pusher:subscription_error"
        return answer.data

    def ask_for(self, channel: str) -> None:
        """Asks to be let into a channel."""
        self._send({"do": "subscribe", "channel": channel})

    def unsubscribe(self, channel: str) -> None:
        """Leaves a channel."""
        self._send({"do": "unsubscribe", "channel": channel})
        self.wait_for("unsubscribed", channel=channel)

    def kill(self) -> None:
        """Ends it as a crash would: the server is told nothing, its connection is just gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def received(self, event: str) -> list[Received]:
        """What it was told so far by that name, in order."""
        with self._news:
            return [each for each in self._received if each.event == event]

    def wait_for(
        self,
        *events: str,
        channel: str | None = None,
        where: Callable[[Any], bool] = lambda _data: True,
        seconds: float = WAIT_SECONDS,
    ) -> Received:
        """The first thing that it was or is told by one of these names, in that channel, with such data."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for each in self._received:
                    if each.event in events and channel in (None, each.channel) and where(each.data):
                        return each
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._ended:
                    told = "\n".join(map(str, self._received))
                    raise AssertionError(
                        f"the client {'ended' if self._ended else f'waited {seconds:g} s'} without {events} in {channel}; "
                        f"it was told:\n{told}\n{self._log.read_text()}"
                    )
                self._news.wait(remaining)

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            received = Received(**json.loads(line))
            with self._news:
                self._received.append(received)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
