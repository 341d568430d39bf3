"""The pages of the console: each parses its address, reads what it shows, and renders it."""

import asyncio
from importlib.resources import files
from typing import Annotated

from fastapi import Form, Header, Query, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from goalsvc.actions.following import stream
from goalsvc.clock import from_epoch_milliseconds
from goalsvc.console import access, acting, administration, explaining, live, redriving, watching
from goalsvc.console.acts import fields_of, offered
from goalsvc.console.instants import instants_in, timed
from goalsvc.console.operating import OperationFile, read_operation
from goalsvc.console.pictures import balance, evening, ribbon
from goalsvc.console.pictures import timeline as timelines
from goalsvc.console.queries import evenings, finding, money, overview, rows
from goalsvc.console.queries.goals import goal_page
from goalsvc.console.queries.webhooks import Which, webhook_page
from goalsvc.console.ranges import RangeOf
from goalsvc.console.rendering import HEADERS, page, picture
from goalsvc.console.routing import Operator, base_of, console_router, missing, object_id
from goalsvc.console.trees import folded
from goalsvc.context import Context
from goalsvc.domain.books import legs_of
from goalsvc.domain.call import Scope
from goalsvc.domain.escrow import escrow_account, user_account
from goalsvc.domain.origin import Cause
from goalsvc.models.activity import Activity, Kind, View
from goalsvc.models.changes import parse_place, place_now
from goalsvc.models.escrow_sums import sums_of_escrow
from goalsvc.models.goal import Goal
from goalsvc.models.tails import MOST_TAILS, Tails
from goalsvc.models.trace_roots import SETTLES
from goalsvc.models.webhooks import deliveries_of
from goalsvc.models.why import explain_goal, explain_transfer

_MOST_TREE_SEGMENTS = 120
_MOST_MARKS = 100
_MOST_EVENTS = 8
_MOST_LINES = 100
_STATIC = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}


router = console_router()
#: The routers of all pages.
ROUTERS = (router, acting.router, administration.router, redriving.router, watching.router)

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
    base = base_of(request)
    answer = RedirectResponse(to if to.startswith(f"{base}/") and "//" not in to else base, 303, headers=dict(HEADERS))
    access.remember(answer, context, caller)
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """Forgets the key."""
    answer = RedirectResponse(f"{base_of(request)}/login", 303, headers=dict(HEADERS))
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
    asked = q.strip()
    answer = await read_operation(request, caller, "/v1/search", q=asked) if asked else None
    found = await finding.pages_of(asked, answer["items"] if answer is not None else ())
    if len(found) == 1:
        return RedirectResponse(base_of(request) + found[0].path, 303, headers=dict(HEADERS))
    return page(request, "home.html", caller=caller, found=found, query=q)


# -- goals ------------------------------------------------------------------------------------------------------------


@router.get("/goals/{goal_id}")
async def show_goal(request: Request, caller: Operator, goal_id: str, shown: RangeOf) -> Response:
    """Shows a goal: how it stands, its time line, its story, its money, its trace."""
    context: Context = request.app.state.context
    identity = object_id(goal_id)
    found = await goal_page(identity, context.clock.now()) if identity is not None else None
    if found is None:
        return missing(request, caller, f"goal {goal_id}")
    drawn, audited = shown.of(found.timeline), Scope.ADMIN in caller.scopes
    events = timed(
        await read_operation(request, caller, "/v1/events", goal_id=goal_id, order="desc", limit=_MOST_EVENTS)
    )
    told = await deliveries_of([event["id"] for event in events["items"]]) if audited else {}
    tested = context.settings.test_events == "on"
    acts = fields_of(found.goal.active, found.goal.kind, paid=found.paid, tested=tested)
    return page(
        request,
        "goal.html",
        caller=caller,
        now=context.clock.now(),
        page=found,
        goal=found.goal,
        verdict=explaining.verdict(found.goal, found.timeline),
        lateness=found.reports.sentence,
        story=explaining.story(found.goal, found.timeline),
        why=found.why,
        uncounted=explaining.uncounted(found.timeline),
        reason_text=explaining.reason_text,
        drawing=timelines.draw(drawn),
        window=drawn.window,
        whole=timelines.extent(found.timeline),
        marks=[mark for mark in found.timeline.marks if drawn.shows(mark.at)],
        audited=audited,
        events=events,
        told=told,
        acts=offered(caller, *acts),
    )


@router.get("/goals/{goal_id}/timeline.svg")
async def goal_timeline(request: Request, caller: Operator, goal_id: str, shown: RangeOf) -> Response:
    """Returns the time line of a goal as a file."""
    context: Context = request.app.state.context
    identity = object_id(goal_id)
    found = await goal_page(identity, context.clock.now()) if identity is not None else None
    if found is None:
        return missing(request, caller, f"goal {goal_id}")
    return picture("timeline.svg", drawing=timelines.draw(shown.of(found.timeline)))


@router.get("/goals/{goal_id}/seconds")
async def goal_seconds(
    request: Request, caller: Operator, goal_id: str, upto: Annotated[int | None, Query(ge=0, le=100_000)] = None
) -> Response:
    """Shows every join and leave and every stretch of a goal, from the latest on."""
    context: Context = request.app.state.context
    identity = object_id(goal_id)
    found = await goal_page(identity, context.clock.now()) if identity is not None else None
    if found is None:
        return missing(request, caller, f"goal {goal_id}")
    last = len(found.timeline.marks) if upto is None else upto
    earlier = max(0, last - _MOST_MARKS)
    return page(
        request,
        "seconds.html",
        caller=caller,
        goal=found.goal,
        timeline=found.timeline,
        marks=found.timeline.marks[earlier:last],
        earlier=earlier,
        reason_text=explaining.reason_text,
    )


@router.get("/goals/{goal_id}/trace")
async def goal_trace(
    request: Request,
    caller: Operator,
    goal_id: str,
    all_nodes: Annotated[bool, Query(alias="all")] = False,
    root: Annotated[str, Query(max_length=64)] = "",
    upto: Annotated[int | None, Query(ge=0, lt=10**14)] = None,
) -> Response:
    """Shows the trace of a goal as a tree; receivers whose business it was not are folded to a count."""
    if object_id(goal_id) is None:
        return missing(request, caller, f"goal {goal_id}")
    until = {} if upto is None else {"at": {"$lte": from_epoch_milliseconds(upto)}}
    where = {"goal_id": goal_id, **({"root": root} if root else {}), **until}
    segments = await rows("traces", where, sort=[("at", -1)], limit=_MOST_TREE_SEGMENTS + 1)
    earlier = segments[-1]["at"] if len(segments) > _MOST_TREE_SEGMENTS else None
    if (
        earlier is not None
    ):  # a page ends between two milliseconds, so that the next one begins with what is left out here
        segments = [segment for segment in segments if segment["at"] > earlier] or segments[:_MOST_TREE_SEGMENTS]
    own = next((segment for segment in segments if root and not segment.get("parent")), None)
    trees = folded(segments, keep_returned=all_nodes)
    return page(
        request,
        "trace.html",
        caller=caller,
        goal_id=goal_id,
        roots=trees,
        earlier=earlier,
        later=upto is not None,
        all_nodes=all_nodes,
        root=root,
        told=explaining.root_sentence(Activity.of_root(own).fields) if own is not None else "",
    )


# -- money ------------------------------------------------------------------------------------------------------------


@router.get("/escrows/{escrow_id}")
async def show_escrow(
    request: Request, caller: Operator, escrow_id: str, before: Annotated[str, Query(max_length=700)] = ""
) -> Response:
    """Shows the statement of an escrow, as a bank prints it, and its proof."""
    context: Context = request.app.state.context
    account = escrow_account(escrow_id)
    statement, sums = await asyncio.gather(
        money.statement(account, money.Before.parse(before)), sums_of_escrow(escrow_id, money.MOST_PARTIES)
    )
    goal_id = escrow_id.rpartition(":")[2]
    identity = object_id(goal_id)
    why = await explain_goal(identity, context.clock.now()) if identity is not None else None
    sentence = explaining.held(sums)
    flows = money.parties(sums)
    goal = await Goal.by_id(identity) if identity is not None else None
    return page(
        request,
        "escrow.html",
        caller=caller,
        escrow_id=escrow_id,
        statement=statement,
        drawing=ribbon.draw(escrow_id, *flows) if flows is not None else None,
        parties=flows,
        shares=sums.shares,
        rule=explaining.rule(escrow_id, goal, flows, context.settings.platform_fee_bps),
        goal_id=goal_id,
        sentence=sentence,
        why=why,
    )


@router.get("/transfers/{transfer_id:path}")
async def show_transfer(request: Request, caller: Operator, transfer_id: str) -> Response:
    """Shows why one transfer was made, and the chain to its cause."""
    found = await money.transfer(transfer_id)
    why = await explain_transfer(transfer_id) if found is not None else None
    if found is None or why is None:
        return missing(request, caller, f"transfer {transfer_id}")
    steps = explaining.steps(why, Cause.read(found.get("cause")).goal_id)
    return page(request, "transfer.html", caller=caller, transfer=found, legs=legs_of(found), why=why, steps=steps)


@router.get("/escrows/{escrow_id}/statement.csv")
async def escrow_file(request: Request, caller: Operator, escrow_id: str) -> Response:
    """Returns the whole statement of an escrow as a file."""
    return OperationFile(request, caller, f"/v1/escrows/{escrow_id}/statement", {"format": "csv"})


@router.get("/users/{user_id}/statement.csv")
async def wallet_file(request: Request, caller: Operator, user_id: str) -> Response:
    """Returns the whole statement of a wallet as a file."""
    return OperationFile(request, caller, f"/v1/wallets/{user_id}/statement", {"format": "csv"})


# -- people and evenings ----------------------------------------------------------------------------------------------


@router.get("/users/{user_id}")
async def show_user(
    request: Request, caller: Operator, user_id: str, before: Annotated[str, Query(max_length=700)] = ""
) -> Response:
    """Shows a user: wallet with every transfer, and the sessions."""
    context: Context = request.app.state.context
    found = await overview.user_page(user_id)
    statement = await money.statement(user_account(user_id), money.Before.parse(before))
    return page(
        request,
        "user.html",
        caller=caller,
        found=found,
        statement=statement,
        curve=balance.draw(user_id, statement.opening, statement.changes),
        now=context.clock.now(),
    )


@router.get("/sessions/{session_id}")
async def show_session(request: Request, caller: Operator, session_id: str) -> Response:
    """Shows one stream's evening with its goals."""
    context: Context = request.app.state.context
    identity = object_id(session_id)
    now = context.clock.now()
    found = await evenings.session_page(identity, now) if identity is not None else None
    if found is None:
        return missing(request, caller, f"session {session_id}")
    acts = offered(caller, "end-session") if found.session.open else []
    return page(
        request,
        "session.html",
        caller=caller,
        found=found,
        session=found.session,
        drawing=evening.draw(found.evening),
        name_of=evenings.name_of,
        now=now,
        acts=acts,
    )


# -- operations -------------------------------------------------------------------------------------------------------


@router.get("/webhooks")
async def show_webhooks(
    request: Request,
    caller: Operator,
    which: Annotated[Which, Query()] = Which.ALL,
    until: Annotated[int | None, Query(ge=0, lt=10**14)] = None,
) -> Response:
    """Shows Pusher's webhooks: whether they come, whether they are refused, how late they are."""
    context: Context = request.app.state.context
    last = context.clock.now() + SETTLES if until is None else from_epoch_milliseconds(until)
    found = await webhook_page(which, last)
    return page(request, "webhooks.html", caller=caller, found=found, which=which, kinds=list(Which))


@router.get("/live")
async def show_live(
    request: Request,
    caller: Operator,
    kind: Annotated[Kind, Query()] = Kind.ALL,
    cursor: Annotated[str | None, Query(max_length=14)] = None,
) -> Response:
    """Shows what arrives: webhooks, refused ones too, calls, periodic runs that changed something, and deliveries."""
    found = await read_operation(request, caller, "/v1/activity", kind=kind.value, cursor=cursor, limit=_MOST_LINES)
    if found is None:
        return missing(request, caller, "such page")
    lines = [live.line_of(instants_in(row)) for row in found["items"]]
    kinds = [(one, live.PLURALS[one]) for one in View(kind, caller.scopes).kinds]
    return page(request, "live.html", caller=caller, lines=lines, found=found, kind=kind, kinds=kinds, cursor=cursor)


@router.get("/live/stream")
async def stream_live(
    request: Request,
    caller: Operator,
    after: Annotated[str, Query(max_length=2000)] = "",
    kind: Annotated[Kind, Query()] = Kind.ALL,
    last_event_id: Annotated[str, Header(max_length=2000)] = "",
) -> Response:
    """Streams what arrives after a place."""
    tails, stopping, now = Tails.of(request.app.state), request.app.state.stopping, await place_now()
    place = parse_place(last_event_id) or parse_place(after) or now
    if len(tails) >= MOST_TAILS:
        return Response("too many live tails are open in this process", 503, headers={**HEADERS, "Retry-After": "30"})

    async def may_read() -> bool:
        try:
            return (await access.reader(request)).scopes == caller.scopes
        except (access.LogInError, access.ForbiddenError):
            return False

    base, view = base_of(request), View(kind, caller.scopes)
    lines = stream(tails, place, now, view, lambda one: live.event_of(one, base), stopping, may_read)
    return StreamingResponse(lines, media_type="text/event-stream", headers={**HEADERS, "X-Accel-Buffering": "no"})


@router.get("/requests/{request_id:path}")
async def show_request(request: Request, caller: Operator, request_id: str) -> Response:
    """Shows what a request was: the events of a webhook, a refused webhook, or a call, and what the audit has of it."""
    found = await read_operation(request, caller, "/v1/activity", request_id=request_id)
    audited = Scope.ADMIN in caller.scopes
    acts = timed(await read_operation(request, caller, "/v1/audit", request_id=request_id)) if audited else None
    shown = [instants_in(row) for row in found["items"]] if found is not None else []
    if not shown and not (acts and acts["items"]):
        return missing(request, caller, f"request {request_id}")
    return page(
        request,
        "request.html",
        caller=caller,
        request_id=request_id,
        sentence=explaining.request_sentence(shown, acts["items"] if acts else ()),
        shown=shown,
        path_of=live.path_of,
        acts=acts,
    )


@router.get("/health")
async def show_health(request: Request, caller: Operator) -> Response:
    """Shows the processes, the services that they call, what waits, and whether anything is stuck."""
    found = instants_in(await read_operation(request, caller, "/v1/health"))
    if found is None:
        raise TimeoutError
    return page(request, "health.html", caller=caller, health=found, now=found["at"])
