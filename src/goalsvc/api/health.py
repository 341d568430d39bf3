"""Whether the process lives, whether it is ready, and its figures."""

import asyncio
from collections.abc import Awaitable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from goalsvc.api.dependencies import ResourcesOf

router = APIRouter(tags=["Health"])

#: Readiness is asked for every few seconds; it must not hang where a database does.
_PATIENCE_SECONDS = 2.0


class Liveness(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """What the API needs: `ok`, or what is wrong with it."""

    mongodb: str = Field(examples=["ok"])
    redis: str = Field(examples=["ok"])


@router.get("/healthz", summary="Liveness")
async def healthz() -> Liveness:
    """The process lives, whatever else does."""
    return Liveness(status="ok")


@router.get(
    "/readyz",
    summary="Readiness",
    responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "One of them does not answer."}},
)
async def readyz(resources: ResourcesOf) -> JSONResponse:
    """Whether database and Redis answer."""

    async def state(question: Awaitable[object]) -> str:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await question
        except Exception as error:
            return f"unreachable ({type(error).__name__})"
        return "ok"

    mongodb, redis = await asyncio.gather(state(resources.database.ping()), state(resources.redis.ping()))
    ready = mongodb == redis == "ok"
    return JSONResponse({"mongodb": mongodb, "redis": redis}, 200 if ready else 503)


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics() -> Response:
    """Counters of webhooks, receivers and jobs, in Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
