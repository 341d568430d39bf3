"""Dead letters: one by one, in groups, and groups that are tried again, with how far that has come."""

import json
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request
from fastapi.responses import Response

from goalsvc.console.acts import offered
from goalsvc.console.instants import instants_in, timed
from goalsvc.console.operating import read_operation
from goalsvc.console.rendering import page
from goalsvc.console.routing import Operator, console_router, missing
from goalsvc.context import Context

router = console_router()

_PAGE = 20
_MOST_REDRIVES = 5
_LONGEST_VALUE = 300
_GOAL_ID = "^[0-9a-fA-F]{24}$"

Difference = tuple[str, str, str]


@router.get("/dead-letters")
async def show_dead_letters(
    request: Request,
    caller: Operator,
    identity: Annotated[str | None, Query(alias="id", max_length=400)] = None,
    goal_id: Annotated[str | None, Query(pattern=_GOAL_ID)] = None,
    cursor: Annotated[str | None, Query(max_length=700)] = None,
) -> Response:
    """Shows the tasks that failed for the last time, in groups and one by one; those of one goal, redriven ones too."""
    context: Context = request.app.state.context
    narrowed = {name: value for name, value in (("id", identity), ("goal_id", goal_id)) if value}
    wanted = narrowed or {"state": "dead"}
    found = timed(await read_operation(request, caller, "/v1/dead-letters", **wanted, **_latest(_PAGE, cursor)))
    groups = None if narrowed else await read_operation(request, caller, "/v1/dead-letters/groups")
    redrives = await read_operation(request, caller, "/v1/redrives", **_latest(_MOST_REDRIVES))
    return page(
        request,
        "dead_letters.html",
        caller=caller,
        groups=groups["items"] if groups else [],
        groups_cut=bool(groups and groups["truncated"]),
        letters=found["items"],
        next=found["next"],
        redrives=[] if narrowed else timed(redrives)["items"],
        one=bool(identity),
        goal_id=goal_id,
        differences=differences,
        now=context.clock.now(),
        acts=offered(caller, "redrive"),
        of_groups=offered(caller, "redrive-group"),
    )


@router.get("/redrives/{redrive_id}")
async def show_redrive(request: Request, caller: Operator, redrive_id: str) -> Response:
    """Shows a group of dead letters that is tried again: how far it is, what could not be, what others did meanwhile."""
    context: Context = request.app.state.context
    found = await read_operation(request, caller, f"/v1/redrives/{quote(redrive_id, safe='')}")
    if found is None:
        return missing(request, caller, f"redrive {redrive_id}")
    return page(request, "redrive.html", caller=caller, redrive=instants_in(found), now=context.clock.now())


def _latest(number: int, cursor: str | None = None) -> Mapping[str, object]:
    return {"order": "desc", "limit": number, "cursor": cursor}


def differences(old: Mapping[str, object], new: Mapping[str, object] | None) -> list[Difference]:
    """Returns the arguments that differ: name, old value, new value; a dash where there is none."""
    if new is None:
        return []
    names = [*old, *(name for name in new if name not in old)]
    return [(name, _text(old, name), _text(new, name)) for name in names if old.get(name) != new.get(name)]


def _text(arguments: Mapping[str, object], name: str) -> str:
    if name not in arguments:
        return "–"
    value = arguments[name]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
