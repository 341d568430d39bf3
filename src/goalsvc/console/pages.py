"""The pages of the console: each parses its address, reads what it shows, and renders it."""

from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import quote

from bson import ObjectId
from fastapi import APIRouter, Depends, Form, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from pymongo.errors import ExecutionTimeout, PyMongoError

from goalsvc.console import access, explaining, live
from goalsvc.console.pictures import timeline as timelines
from goalsvc.console.queries import finding, health, money, overview
from goalsvc.console.queries.goals import goal_page
from goalsvc.console.rendering import HEADERS, page, picture
from goalsvc.console.trees import folded
from goalsvc.context import Context
from goalsvc.domain.call import Caller
from goalsvc.models.census import take_census
from goalsvc.models.records import TraceSegment
from goalsvc.models.trace_roots import Place

_MOST_TREE_SEGMENTS = 1_500
_LATELY = timedelta(minutes=15)
_STATIC = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}


class ConsoleRoute(APIRoute):
    """A page: to those who may not read it, the log-in or what they lack; where the database is slow or away, it says so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        """Returns the handler of the page, with what it answers instead."""
        show = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await show(request)
            except access.LogInError:
                wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                to = f"{_base(request)}/login?to={quote(wanted, safe='')}"
                return RedirectResponse(to, 303, headers=dict(HEADERS))
            except access.ForbiddenError as error:
                return page(request, "message.html", status=403, title="Not with this key", text=_lacks(error))
            except ExecutionTimeout:
                text = "The database took longer than three seconds to answer this page. Try again, or narrow the page."
                return page(request, "message.html", status=503, title="The database is slow", text=text)
            except PyMongoError:
                text = "The database does not answer. Pusher repeats webhooks meanwhile."
                return page(request, "message.html", status=503, title="No database", text=text)
            except RequestValidationError as error:
                text = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
                return page(request, "message.html", status=422, title="This address is not right", text=text)

        return guarded


router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)

Operator = Annotated[Caller, Depends(access.reader)]


def _lacks(error: access.ForbiddenError) -> str:
    return f"Your key has not the scope {error.scope.value}, which this page requires."


def _base(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/") + "/console"


def _missing(request: Request, caller: Caller, what: str) -> Response:
    return page(request, "message.html", status=404, title="Nothing there", text=f"There is no {what}.", caller=caller)


def _object_id(text: str) -> ObjectId | None:
    return ObjectId(text) if ObjectId.is_valid(text) else None


# -- coming in --------------------------------------------------------------------------------------------------------


@router.get("/login")
async def show_log_in(request: Request, to: Annotated[str, Query()] = "") -> Response:
    """Shows the form that asks for a key."""
    context: Context = request.app.state.context
    return page(request, "login.html", to=to, wrong=False, closed=not access.is_open(context))


@router.post("/login")
async def log_in(request: Request, key: Annotated[str, Form()] = "", to: Annotated[str, Form()] = "") -> Response:
    """Remembers a valid key in a cookie."""
    context: Context = request.app.state.context
    if not access.is_same_origin(request) or not access.is_open(context):
        return page(request, "login.html", status=403, to=to, wrong=True, closed=not access.is_open(context))
    caller = await access.caller_by_key(context, key.strip())
    if caller is None:
        return page(request, "login.html", status=401, to=to, wrong=True, closed=False)
    base = _base(request)
    answer = RedirectResponse(to if to.startswith(f"{base}/") and "//" not in to else base, 303, headers=dict(HEADERS))
    access.remember(answer, context, caller)
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """Forgets the key."""
    answer = RedirectResponse(f"{_base(request)}/login", 303, headers=dict(HEADERS))
    if access.is_same_origin(request):
        access.forget(answer)
    return answer


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Returns the style sheet or the script."""
    kind = _STATIC.get(name)
    if kind is None:
        return Response(status_code=404, headers=dict(HEADERS))
    text = files("goalsvc.console").joinpath("static", name).read_text("utf-8")
    return Response(text, media_type=kind, headers={**HEADERS, "Cache-Control": "no-cache"})


# -- finding ----------------------------------------------------------------------------------------------------------


@router.get("")
async def home(request: Request, caller: Operator) -> Response:
    """Shows the search and what happened lately."""
    return page(request, "home.html", caller=caller, found=None)


@router.get("/search")
async def search(request: Request, caller: Operator, q: Annotated[str, Query(max_length=400)] = "") -> Response:
    """Leads to the page that shows the thing of that id; lists them when there are several."""
    found = await finding.find(q)
    if len(found) == 1:
        return RedirectResponse(_base(request) + found[0].path, 303, headers=dict(HEADERS))
    return page(request, "home.html", caller=caller, found=found, query=q)


# -- goals ------------------------------------------------------------------------------------------------------------


@router.get("/goals/{goal_id}")
async def show_goal(request: Request, caller: Operator, goal_id: str) -> Response:
    """Shows a goal: how it stands, its time line, its story, its money, its trace."""
    context: Context = request.app.state.context
    identity = _object_id(goal_id)
    found = await goal_page(identity, context.clock.now()) if identity is not None else None
    if found is None:
        return _missing(request, caller, f"goal {goal_id}")
    return page(
        request,
        "goal.html",
        caller=caller,
        now=context.clock.now(),
        page=found,
        goal=found.goal,
        verdict=explaining.verdict(found.goal, found.timeline),
        lateness=explaining.lateness(found.timeline),
        story=explaining.story(found.goal, found.timeline, found.transfers),
        reason_text=explaining.reason_text,
        drawing=timelines.draw(found.timeline),
    )


@router.get("/goals/{goal_id}/timeline.svg")
async def goal_timeline(request: Request, caller: Operator, goal_id: str) -> Response:
    """Returns the time line of a goal as a file."""
    context: Context = request.app.state.context
    identity = _object_id(goal_id)
    found = await goal_page(identity, context.clock.now()) if identity is not None else None
    if found is None:
        return _missing(request, caller, f"goal {goal_id}")
    return picture("timeline.svg", drawing=timelines.draw(found.timeline))


@router.get("/goals/{goal_id}/trace")
async def goal_trace(
    request: Request, caller: Operator, goal_id: str, all_nodes: Annotated[bool, Query(alias="all")] = False
) -> Response:
    """Shows the trace of a goal as a tree; receivers whose business it was not are folded to a count."""
    if _object_id(goal_id) is None:
        return _missing(request, caller, f"goal {goal_id}")
    cursor = (
        TraceSegment.get_motor_collection().find({"goal_id": goal_id}).sort("at", -1).limit(_MOST_TREE_SEGMENTS + 1)
    )
    segments: list[dict[str, Any]] = await cursor.to_list(_MOST_TREE_SEGMENTS + 1)
    return page(
        request,
        "trace.html",
        caller=caller,
        goal_id=goal_id,
        roots=folded(segments[:_MOST_TREE_SEGMENTS], keep_returned=all_nodes),
        cut=len(segments) > _MOST_TREE_SEGMENTS,
        all_nodes=all_nodes,
    )


# -- money ------------------------------------------------------------------------------------------------------------


@router.get("/escrows/{escrow_id}")
async def show_escrow(request: Request, caller: Operator, escrow_id: str) -> Response:
    """Shows the statement of an escrow, as a bank prints it, and its proof."""
    statement = await money.escrow_statement(escrow_id)
    goal_id = escrow_id.rpartition(":")[2]
    return page(request, "escrow.html", caller=caller, escrow_id=escrow_id, statement=statement, goal_id=goal_id)


@router.get("/transfers/{transfer_id:path}")
async def show_transfer(request: Request, caller: Operator, transfer_id: str) -> Response:
    """Shows one transfer and what caused it."""
    found = await money.transfer(transfer_id)
    if found is None:
        return _missing(request, caller, f"transfer {transfer_id}")
    return page(request, "transfer.html", caller=caller, transfer=found)


# -- people and evenings ----------------------------------------------------------------------------------------------


@router.get("/users/{user_id}")
async def show_user(request: Request, caller: Operator, user_id: str) -> Response:
    """Shows a user: wallet with every transfer, and the sessions."""
    context: Context = request.app.state.context
    found = await overview.user_page(user_id)
    statement = await money.wallet_statement(user_id)
    return page(request, "user.html", caller=caller, found=found, statement=statement, now=context.clock.now())


@router.get("/sessions/{session_id}")
async def show_session(request: Request, caller: Operator, session_id: str) -> Response:
    """Shows one stream's evening with its goals."""
    context: Context = request.app.state.context
    identity = _object_id(session_id)
    found = await overview.session_page(identity) if identity is not None else None
    if found is None:
        return _missing(request, caller, f"session {session_id}")
    now = context.clock.now()
    return page(request, "session.html", caller=caller, found=found, session=found.session, now=now)


# -- operations -------------------------------------------------------------------------------------------------------


@router.get("/live")
async def show_live(request: Request, caller: Operator) -> Response:
    """Shows what arrives: webhooks, refused ones too, calls and periodic runs that changed something."""
    context: Context = request.app.state.context
    now = context.clock.now()
    latest = await overview.latest_roots(now - _LATELY)
    lines = [live.line_of(row) for row in latest]
    place = Place(latest[0]["at"], str(latest[0]["_id"])) if latest else Place(now)
    return page(request, "live.html", caller=caller, lines=lines, place=str(place))


@router.get("/live/stream")
async def stream_live(
    request: Request,
    _caller: Operator,
    after: Annotated[str, Query(max_length=100)] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """Streams what arrives after a place."""
    state = request.app.state
    tails = live.open_tails(state)
    if len(tails) >= live.MOST_TAILS:
        return Response("too many live tails are open in this process", 503, headers={**HEADERS, "Retry-After": "30"})
    place = Place.parse(last_event_id or after) or Place(state.context.clock.now())

    async def lines() -> AsyncIterator[str]:
        tail = object()
        tails.add(tail)
        try:
            async for text in live.follow(place, _base(request), state.context.clock, lambda: state.stopping.stopped):
                yield text
        finally:
            tails.discard(tail)

    return StreamingResponse(lines(), media_type="text/event-stream", headers=dict(HEADERS))


@router.get("/health")
async def show_health(request: Request, caller: Operator) -> Response:
    """Shows what waits, and whether anything is stuck."""
    context: Context = request.app.state.context
    now = context.clock.now()
    census = await take_census(now, timedelta(seconds=3 * context.settings.reconcile_seconds))
    queues = await health.queues(request.app.state.resources.redis)
    return page(request, "health.html", caller=caller, census=census, queues=queues, now=now)


@router.get("/dead-letters")
async def show_dead_letters(
    request: Request,
    caller: Operator,
    identity: Annotated[str | None, Query(alias="id", max_length=400)] = None,
    before: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """Shows the tasks that failed for the last time, in groups and one by one."""
    context: Context = request.app.state.context
    letters = await overview.dead_letters(identity, before)
    return page(
        request,
        "dead_letters.html",
        caller=caller,
        groups=[] if identity else await overview.dead_letter_groups(),
        letters=letters,
        more=letters[-1]["_id"] if len(letters) == overview.MOST else None,
        now=context.clock.now(),
    )
