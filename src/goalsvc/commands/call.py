"""`goalsvc api`: any call of the API, as an integrator makes it."""

import json
import uuid

from goalsvc.commands.api import Api, CommandError, Target

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


async def call(target: Target, method: str, path: str, body: str, key: str) -> object:
    """Returns the answer's JSON. A POST without `key` gets an Idempotency-Key of its own. Raises CommandError."""
    method = method.upper()
    if method not in METHODS:
        raise CommandError(f"{method!r} is not a method: use one of {', '.join(METHODS)}")
    if not path.startswith("/"):
        raise CommandError(f"{path!r} is not a path: it begins with a slash, as in /v1/goals")
    try:
        content = json.loads(body) if body else None
    except ValueError as error:
        raise CommandError(f"the body is not JSON ({error})") from None
    async with Api.open(target) as api:
        return await api.call(method, path, content, key or (str(uuid.uuid4()) if method == "POST" else ""))
