"""`arq goalsvc.tasks.WorkerSettings` runs what `goalsvc worker` runs."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from goalsvc.devstack.waiting import holds_within

pytestmark = pytest.mark.real


async def test_arqs_own_command_runs_the_worker(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    """It finds a promise by the sweep, fulfils it, and ends in good order."""
    goals, goal_id = documents.get_default_database().goals, ObjectId()
    goals.insert_one(
        {
            "_id": goal_id,
            "_cls": "Goal.KaraokeGoal",
            "active": True,
            "progress": 0,
            "levels": [{"title": "A song", "target": 100}],
            "conditions": {"session_id": ObjectId()},
            "metadata": {"user_id": "alice"},
            "promises": [
                {
                    "id": "event-1",
                    "task": "increment_goal_progress",
                    "arguments": {"goal_id": str(goal_id), "amount": 30, "event_id": "event-1"},
                    "at": datetime.now(UTC) - timedelta(minutes=1),
                    "parent": "",
                }
            ],
        }
    )
    given = {name: value for name, value in os.environ.items() if not name.startswith("GOALSVC_")}
    environment = given | {
        "GOALSVC_MONGODB_URL": mongodb_url,
        "GOALSVC_REDIS_URL": redis_url,
        "GOALSVC_API_KEY": "key",
        "GOALSVC_PROMISE_SWEEP_SECONDS": "0.5",
    }
    command = [str(Path(sys.executable).with_name("arq")), "goalsvc.tasks.WorkerSettings"]
    output = tmp_path / "output"
    with output.open("w") as file:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=file, stderr=file)
    try:

        def counted() -> bool:
            goal = goals.find_one({"_id": goal_id})
            return goal is not None and goal["progress"] == 30

        assert await asyncio.to_thread(holds_within, 40.0, counted), output.read_text()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "Traceback" not in output.read_text()
