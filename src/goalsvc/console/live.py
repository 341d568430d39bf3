"""The live tail: what arrives and what is done, one line each, with the page that shows more of it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from goalsvc.console.rendering import clock_text
from goalsvc.models.activity import Activity, Kind

PLURALS: Mapping[Kind, str] = {
    Kind.ALL: "all",
    Kind.WEBHOOK: "webhooks",
    Kind.CALL: "calls",
    Kind.TASK: "tasks",
    Kind.DELIVERY: "deliveries",
}

Line = Mapping[str, str]


def line_of(fields: Mapping[str, Any]) -> Line:
    """Returns a row of `GET /v1/activity` as a line: its id, when, what, and the page that shows more, if one does."""
    words = _delivery(fields) if fields.get("kind") == Kind.DELIVERY else _root(fields)
    line = {"id": str(fields["id"]), "at": clock_text(fields.get("at")), "text": words}
    path = path_of(fields)
    return {**line, "path": path} if path else line


def path_of(fields: Mapping[str, Any]) -> str:
    """Returns the page that shows more of a row: its event, its root in the goal's trace, its request; empty if none does."""
    if fields.get("kind") == Kind.DELIVERY:
        return f"/events/{quote(str(fields.get('event_id')), safe='')}"
    if fields.get("goal_id"):
        return f"/goals/{fields['goal_id']}/trace?root={quote(str(fields['id']), safe='')}"
    return f"/requests/{quote(str(fields['request_id']), safe='')}" if fields.get("request_id") else ""


def _delivery(fields: Mapping[str, Any]) -> str:
    again = fields.get("next_at")
    words = [f"delivery {fields.get('name')} to {fields.get('endpoint_id')}", str(fields.get("outcome"))]
    words.append(f"{fields.get('status') or fields.get('reason')}, {fields.get('ms') or 0:.0f} ms")
    words += [f"again at {clock_text(again.replace(microsecond=0))}"] if isinstance(again, datetime) else []
    return ", ".join(words)


def _root(fields: Mapping[str, Any]) -> str:
    words = [str(fields.get(name) or "") for name in ("kind", "name")]
    words += [str(fields[name]) for name in ("channel", "user_id") if fields.get(name)]
    refs = fields.get("refs") or {}
    if fields.get("kind") == Kind.CALL:
        words += [str(refs[name]) + unit for name, unit in (("user", ""), ("amount", " tokens")) if refs.get(name)]
        words += [f"by {fields['key']}"] if fields.get("key") else []
    outcome = str(fields.get("outcome") or "")
    words.append(outcome if not fields.get("reason") else f"{outcome}: {fields['reason']}")
    return " ".join(words)


def event_of(one: Activity, base: str) -> str:
    """Returns a line as a Server-Sent Event; `base` is the console's own address."""
    line = line_of(one.fields)
    shown = {name: line[name] for name in ("id", "at", "text")}
    if "path" in line:
        shown["href"] = base + line["path"]
    return f"event: line\ndata: {json.dumps(shown)}"
