"""`goalsvc api`: any call of the API, as an integrator makes it."""

import json
import uuid
from collections.abc import Callable

import httpx

from goalsvc.commands.api import Api, CommandError, Target, header_value

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


async def call(target: Target, method: str, path: str, body: str, key: str, write: Callable[[str], None]) -> None:
    """Writes the answer: JSON with indents, anything else (CSV, text, a stream of events) as it comes.

    A POST without `key` gets an Idempotency-Key of its own. Raises CommandError.
    """
    method = method.upper()
    if method not in METHODS:
        raise CommandError(f"{method!r} is not a method: use one of {', '.join(METHODS)}")
    if not path.startswith("/"):
        raise CommandError(f"{path!r} is not a path: it begins with a slash, as in /v1/goals")
    try:
        if body:
            json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the body is not JSON ({error})") from None
    own = header_value("--key", key) or (str(uuid.uuid4()) if method == "POST" else "")
    async with Api.open(target) as api, api.answered(method, path, body.encode(), own) as answer:
        if _is_json(answer):
            shown = json.loads(await answer.aread())
            write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
        else:
            async for text in answer.aiter_text():
                write(text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON's")


def _is_json(answer: httpx.Response) -> bool:
    media_type: str = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")
