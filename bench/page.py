"""Row 13: a goal's page in the console after thousands of joins and leaves: when its first byte comes, and how large it is."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter

import httpx
from bson import ObjectId

from bench.lab import Lab
from bench.report import Result, Spread
from bench.traffic import body_of, signed
from bench.webhooks import burst, kept, put_goals

_DATABASE = "page"
_REDIS = 8
#: Webhooks older than 15 minutes are refused.
_SPREAD_OVER = timedelta(minutes=14)
#: What one goal owes at a time: each promise that is fulfilled costs as much as all that are owed beside it.
_AT_ONCE = 250


def _joins_and_leaves(goal_id: ObjectId, webhooks: int) -> list[bytes]:
    """So many signed webhooks about one goal, joins and leaves in turn, up to now."""
    begun, step = datetime.now(UTC) - _SPREAD_OVER, _SPREAD_OVER / webhooks
    times = [int((begun + number * step).timestamp() * 1000) for number in range(webhooks)]
    names = ("member_added", "member_removed")
    return [signed(body_of(names[number % 2], goal_id, at)) for number, at in enumerate(times)]


async def pages(lab: Lab, *, webhooks: int, rounds: int, say: Callable[[str], None]) -> list[Result]:
    """Row 13: each webhook leaves a segment of the trace, and what it set off some more."""
    say(f"row 13: {rounds} times the page of a goal with {webhooks:,} webhooks")
    async with lab.worker(_DATABASE, _REDIS), lab.api(_DATABASE, _REDIS) as api:
        (goal,) = await put_goals(lab, _DATABASE, 1)
        goal_id = str(goal["_id"])
        requests = _joins_and_leaves(goal["_id"], webhooks)
        for begin in range(0, webhooks, _AT_ONCE):
            await burst(api, requests[begin : begin + _AT_ONCE])
            await kept(lab, _DATABASE)
        waits: list[float] = []
        sizes: list[float] = []
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as client:
            key = lab.environment(_DATABASE)["GOALSVC_API_KEY"]
            logged_in = await client.post(
                "/console/login", data={"key": key}, headers={"Sec-Fetch-Site": "same-origin"}
            )
            cookie = logged_in.headers["set-cookie"].partition(";")[0]  # the client keeps it for https alone
            for _ in range(rounds + 1):
                begun = perf_counter()
                async with client.stream("GET", f"/console/goals/{goal_id}", headers={"Cookie": cookie}) as answer:
                    chunks = answer.aiter_raw()
                    sent = len(await anext(chunks))
                    waits.append((perf_counter() - begun) * 1000)
                    sent += sum([len(chunk) async for chunk in chunks])
                if answer.status_code != httpx.codes.OK:
                    raise RuntimeError(f"the page answers {answer.status_code}")
                sizes.append(sent / 1000)
        segments = await lab.mongo[_DATABASE]["traces"].count_documents({"goal_id": goal_id})
    first, size = Spread(tuple(waits[1:])), Spread(tuple(sizes))
    what = "console: first byte of the page of a goal with a long trace"
    return [
        Result(13, what, first.median, "ms", at_most=150, spread=first, basis=f"{segments:,} segments"),
        Result(13, "· size of the page", size.median, "KB", at_most=100, basis="as it is sent to a browser"),
    ]
