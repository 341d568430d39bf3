"""What a process says of itself."""

import asyncio
import threading
from time import monotonic

import pytest
from prometheus_client import REGISTRY

from goalsvc import metrics


async def test_how_late_the_event_loop_woke_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_LOOK_SECONDS", 0.0)
    async with metrics.lag_watched("tested"):
        await asyncio.sleep(0)  # it rests
        begun = monotonic()
        threading.Event().wait(0.05)  # holds up the loop, as a long computation does
        held_up = monotonic() - begun
        lags = []
        for _ in range(5):
            await asyncio.sleep(0)
            lags.append(REGISTRY.get_sample_value("goalsvc_event_loop_lag_seconds", {"process": "tested"}) or 0.0)
    assert max(lags) >= held_up
