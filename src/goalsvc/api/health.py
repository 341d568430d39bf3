"""Whether the process lives, whether it is ready, and its figures."""

import asyncio
import hmac

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from goalsvc.api.dependencies import ContextOf, ResourcesOf
from goalsvc.api.draining import Draining
from goalsvc.api.errors import WebError, responses
from goalsvc.api.readiness import mongodb_state, redis_state
from goalsvc.metrics import exposition

router = APIRouter(tags=["Health"])

_ASKS_FOR_KEY = {"WWW-Authenticate": "Bearer"}


class Liveness(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """What the API needs: `ok`, or what is wrong with it."""

    mongodb: str = Field(examples=["ok"])
    redis: str = Field(examples=["ok"])
    stopping: bool = Field(default=False, description="Whether the process has been told to stop, and drains.")


@router.get("/healthz", summary="Liveness", openapi_extra={"security": []})
async def healthz() -> Liveness:
    """The process lives, whatever else does."""
    return Liveness(status="ok")


@router.get(
    "/readyz",
    summary="Readiness",
    openapi_extra={"security": []},
    responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "One of them does not answer."}},
)
async def readyz(request: Request, resources: ResourcesOf) -> JSONResponse:
    """Whether MongoDB commits a transaction and Redis takes a write; if not, why."""

    if Draining.is_begun(request):
        return JSONResponse({"mongodb": "ok", "redis": "ok", "stopping": True}, 503)
    mongodb, redis = await asyncio.gather(mongodb_state(resources.database), redis_state(resources.redis))
    ready = mongodb == redis == "ok"
    return JSONResponse({"mongodb": mongodb, "redis": redis}, 200 if ready else 503)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses=responses(401),
    openapi_extra={"security": [{}, {"MetricsKey": []}]},
)
async def metrics(request: Request, context: ContextOf) -> Response:
    """Counters, gauges and histograms in Prometheus's text format; over all API processes that share the port.

    With `GOALSVC_METRICS_KEY` set, the request needs it as a bearer token.
    """
    key = context.settings.metrics_key.get_secret_value()
    given = request.headers.get("authorization", "").encode()
    if key and not hmac.compare_digest(given, f"Bearer {key}".encode()):
        raise WebError(401, "unauthorized", "send GOALSVC_METRICS_KEY as `Authorization: Bearer …`", _ASKS_FOR_KEY)
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)
