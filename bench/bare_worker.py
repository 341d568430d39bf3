"""The bare path's worker: arq at its best settings, for each job one update and one call to Pusher.

`python -m bench.bare_worker MONGODB_URL REDIS_URL PUSHER_PORT`. Best settings, as tried: a hundred jobs at a time,
asked for every 10 ms, no results kept. The call is signed by the `pusher` package and sent over kept connections of
aiohttp, which costs less than httpx.
"""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import aiohttp
import uvloop
from arq import Worker, func
from arq.connections import RedisSettings
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient
from pusher.http import POST, Request
from pusher.pusher_client import PusherClient

from bench.traffic import KEY, SECRET
from goalsvc.devstack.ports import HOST


async def increment_goal_progress(context: dict[Any, Any], goal_id: str, amount: int) -> None:
    """Adds the seconds of a leave, and tells who is in the goal's channel of them; a join brings 0 and is told as a start."""
    change = {"$inc": {"progress": amount}, "$set": {"updated_at": datetime.now(UTC)}}
    await context["goals"].update_one({"_id": ObjectId(goal_id)}, change)
    name = "goal.progress.updated" if amount else "goal.started"
    data = json.dumps({"goal_id": goal_id, "amount": amount})
    body = {"name": name, "channels": [f"presence-enc-goal@{goal_id}"], "data": data}
    request = Request(context["pusher"], POST, "/apps/1/events", body)
    async with context["http"].post(request.url, data=request.body, headers=request.headers) as answer:
        await answer.read()
        answer.raise_for_status()


def worker(mongodb_url: str, redis_url: str, pusher_port: str) -> Worker:
    """The worker, which is not running yet."""
    client: Any = AsyncIOMotorClient(mongodb_url, tz_aware=True, w="majority")

    async def on_startup(ctx: dict[Any, Any]) -> None:
        ctx["goals"] = client.get_default_database()["goals"]
        ctx["http"] = aiohttp.ClientSession()
        ctx["pusher"] = PusherClient("1", KEY, SECRET.decode(), ssl=False, host=HOST, port=int(pusher_port))

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        await ctx["http"].close()

    return Worker(
        functions=[func("bench.bare_worker.increment_goal_progress", name="increment_goal_progress", keep_result=0)],
        redis_settings=RedisSettings.from_dsn(redis_url),
        on_startup=on_startup,
        on_shutdown=on_shutdown,
        max_jobs=100,
        poll_delay=0.01,
        keep_result=0,
    )


async def main() -> None:
    """Runs until it is told to stop."""
    running = worker(*sys.argv[1:])
    try:
        await running.main()
    finally:
        await running.close()


if __name__ == "__main__":
    uvloop.run(main())
