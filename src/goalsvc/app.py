"""The API process: the FastAPI app, with everything opened when it starts and closed when it stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI

from goalsvc import __version__, garbage, logs, metrics
from goalsvc.api import (
    activity,
    asyncapi,
    audit,
    channels,
    clips,
    contributions,
    dead_letters,
    error_catalogue,
    errors,
    escrow_sums,
    events,
    examples,
    goals,
    health,
    health_view,
    keys,
    money,
    openapi,
    performances,
    pusher_auth,
    received_webhooks,
    reconciliation,
    redrives,
    replays,
    reports,
    search,
    session_token,
    sessions,
    statements,
    test_clock,
    test_events,
    traces,
    users,
    wallets,
    webhook,
    webhook_endpoints,
    why,
    wiring,
)
from goalsvc.api.authentication import KeyFirst, RequestIds, require_api_key
from goalsvc.api.cors import CrossOrigin
from goalsvc.api.docs.pages import serve_docs
from goalsvc.api.draining import STATE, Draining
from goalsvc.api.limits import BodyLimit
from goalsvc.api.methods import ReadableMethods
from goalsvc.api.operation import Operation
from goalsvc.api.paths import ForgivingPaths
from goalsvc.api.stopping import Stopping, watch_signals
from goalsvc.console import pages as console
from goalsvc.domain.documents import RawDocument
from goalsvc.integrations.jwks import Jwks
from goalsvc.models.keyring import Keyring
from goalsvc.models.tails import Tails
from goalsvc.settings import Settings
from goalsvc.tasks.heartbeats import Beating, beating
from goalsvc.wiring import open_context


def include(app: FastAPI, router: APIRouter) -> None:
    """Includes a router of the API; raises TypeError unless each of its routes is an `Operation`."""
    for route in router.routes:
        if not isinstance(route, Operation):
            raise TypeError(f"{route}: make the router by goalsvc.api.operation.operations")
    app.include_router(router, dependencies=[Depends(require_api_key)])


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app; without settings it reads the environment when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Draining]]:
        own = settings or Settings.from_environment()
        async with open_context(own) as (context, resources), Keyring(context.clock).kept_fresh() as keyring:
            app.state.keyring = keyring
            app.state.jwks = Jwks(own.jwt_jwks_url) if own.jwt_jwks_url else None
            app.state.context = context
            app.state.resources = resources
            app.state.webhook_secrets = own.webhook_secrets
            draining = Draining()
            app.state.stopping = Stopping()
            heartbeat = Beating(resources.redis, context.clock, "api", resources.breakers)
            async with metrics.lag_watched("api"), beating(heartbeat):
                with watch_signals(app.state.stopping), draining.on_sigterm(own.drain_seconds):
                    yield {STATE: draining}
                await Tails.of(app.state).close()

    app = FastAPI(
        title="goalsvc",
        version=__version__,
        description=openapi.DESCRIPTION,
        generate_unique_id_function=lambda route: route.name,
        contact={"name": "The maintainers of goalsvc"},
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.root_path = settings.root_path if settings is not None else ""
    app.add_middleware(KeyFirst)
    app.add_middleware(ReadableMethods)
    app.add_middleware(BodyLimit)
    app.add_middleware(CrossOrigin)
    app.add_middleware(RequestIds)
    webhook.install(app)
    app.add_middleware(ForgivingPaths)
    errors.install(app)
    app.include_router(error_catalogue.router)
    app.include_router(webhook.router)
    app.include_router(pusher_auth.router)
    for module in (
        users, sessions, session_token, channels, goals, contributions, wallets, clips, dead_letters, redrives,
        performances, reconciliation, replays, events, keys, audit, reports, search, money, statements, escrow_sums,
        health_view, wiring, test_events,
    ):  # fmt: skip
        include(app, module.router)
    for router in (
        traces.router,
        why.router,
        received_webhooks.router,
        activity.router,
        webhook_endpoints.router,
        webhook_endpoints.resending,
    ):
        include(app, router)
    if settings is not None and settings.dev_dir:
        include(app, test_clock.router)
        examples.serve_examples(app)
    for router in console.ROUTERS:
        app.include_router(router)
    app.include_router(health.router)
    app.include_router(asyncapi.router)
    serve_docs(app)

    def document() -> RawDocument:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.describe(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return app


def serving() -> FastAPI:
    """The app in a process that does nothing but serve it (`goalsvc serve`)."""
    metrics.introduce("api")
    settings = Settings.from_environment()
    logs.configure(settings)  # each of several processes for itself
    app = create_app(settings)
    garbage.resume()
    return app
