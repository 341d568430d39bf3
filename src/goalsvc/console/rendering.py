"""Pages as HTML: the templates, what they may call, and the headers that every answer of the console has."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, Response

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.console.acts import ACTS
from goalsvc.domain.books import legs_of
from goalsvc.domain.durations import duration_text
from goalsvc.domain.reading import instant, whole

if TYPE_CHECKING:
    from jinja2 import Environment

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@cache
def templates() -> "Environment":
    """Returns the templates; every text in them is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # the API starts without it

    made = Environment(
        loader=PackageLoader("goalsvc.console"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["new_key"] = lambda: token_hex(16)
    made.filters |= {
        "clock": clock_text,
        "instant": instant_text,
        "span": duration_text,
        "seconds": lambda value: duration_text(timedelta(seconds=value)),
        "ago": ago_text,
        "words": lambda code: str(code).replace("_", " "),
        "millis": to_epoch_milliseconds,
        "field_time": lambda at: at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}",
        "legs": legs_of,
        "shown_json": lambda value: json.dumps(value, indent=1, ensure_ascii=False, default=str)[:20_000],
        "number": number_text,
        "px": _px,
        "points": lambda points: "".join([f"{_px(x)},{_px(y)} " for x, y in points]),
    }
    return made


def _px(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def page(request: Request, template: str, *, status: int = 200, media: str = "", **values: object) -> HTMLResponse:
    """Returns a page with the headers of the console; `media` is the host of what it plays."""
    root = request.scope.get("root_path", "").rstrip("/")
    done = ACTS.get(request.query_params.get("did", ""))
    known: dict[str, object] = {
        "base": f"{root}/console",
        "path": request.url.path,
        "query": "",
        "caller": None,
        "back": "",
        "notice": done.done if done is not None else "",
        "acts": [],
    }
    html = templates().get_template(template).render({**known, **values})
    headers = dict(HEADERS)
    if media:
        headers["Content-Security-Policy"] += f"; media-src {media}"
    return HTMLResponse(html, status, headers=headers)


def picture(template: str, **values: object) -> Response:
    """Returns a picture as a file."""
    svg = templates().get_template(template).render(values)
    return Response(svg, media_type="image/svg+xml", headers=dict(HEADERS))


def number_text(value: object) -> str:
    """Returns a number with its thousands apart; of a document's value that is not a number a dash."""
    known = value if isinstance(value, float) else whole(value)
    return "–" if known is None else f"{known:,}".replace(",", " ")


def clock_text(value: object) -> str:
    """Returns the time of day in UTC, to the millisecond where there are any; of what is not a time a dash."""
    at = instant(value)
    if at is None:
        return "–"
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}" if at.microsecond else f"{at:%H:%M:%S}"


def instant_text(value: object) -> str:
    """Returns the date and time in UTC; of what is not a time a dash."""
    at = instant(value)
    return "–" if at is None else f"{at:%Y-%m-%d} {clock_text(at)} UTC"


def ago_text(value: object, now: datetime) -> str:
    """Returns how long ago that was, or in how long it will be; of what is not a time a dash."""
    at = instant(value)
    if at is None:
        return "–"
    if at > now:
        return f"in {duration_text(at - now)}"
    length = now - at
    return "just now" if length < timedelta(seconds=1) else f"{duration_text(_rounded(length))} ago"


def _rounded(length: timedelta) -> timedelta:
    return timedelta(seconds=int(length.total_seconds()))
