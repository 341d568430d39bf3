"""The bare path: a FastAPI handler that does only what cannot be left out (docs/specification.md#targets).

It checks the signature, makes one find-one-and-update on Motor and one enqueue by arq's own `enqueue_job`; the server and
the write concern are those of `goalsvc serve`. `python -m bench.bare PORT MONGODB_URL REDIS_URL`.
"""

import hmac
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import uvicorn
from arq import create_pool
from arq.connections import RedisSettings
from bson import ObjectId
from fastapi import FastAPI, HTTPException, Request, Response
from motor.motor_asyncio import AsyncIOMotorClient

from bench.traffic import SECRET
from goalsvc.devstack.ports import HOST


def create_app(mongodb_url: str, redis_url: str) -> FastAPI:
    """The app; `goals` is in the database that the URL names."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        client: Any = AsyncIOMotorClient(mongodb_url, tz_aware=True, w="majority")
        app.state.goals = client.get_default_database()["goals"]
        app.state.queue = await create_pool(RedisSettings.from_dsn(redis_url))
        yield
        await app.state.queue.aclose()
        client.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def readyz() -> Response:
        return Response()

    @app.post("/notify/pusher")
    async def notify_pusher(request: Request) -> Response:
        body = await request.body()
        signature = hmac.new(SECRET, body, sha256).hexdigest()
        if not hmac.compare_digest(signature, request.headers["x-pusher-signature"]):
            raise HTTPException(401)
        webhook = json.loads(body)
        goal_id = webhook["events"][0]["channel"].partition("@")[2]
        at = datetime.fromtimestamp(webhook["time_ms"] / 1000, UTC)
        field = "started" if webhook["events"][0]["name"] in ("member_added", "channel_occupied") else "paused"
        await request.app.state.goals.find_one_and_update(
            {"_id": ObjectId(goal_id)}, {"$max": {f"context.{field}": at, "context.last_updated": at}}
        )
        await request.app.state.queue.enqueue_job("increment_goal_progress", goal_id, 3 if field == "paused" else 0)
        return Response()

    return app


def main() -> None:
    """Serves the app as `goalsvc serve` does its own."""
    port, mongodb_url, redis_url = sys.argv[1:]
    uvicorn.run(
        create_app(mongodb_url, redis_url),
        host=HOST,
        port=int(port),
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=8,
        timeout_keep_alive=75,
        server_header=False,
    )


if __name__ == "__main__":
    main()
