"""Search: what has this id?"""

from typing import Annotated
from urllib.parse import quote

from fastapi import Query
from pydantic import BaseModel, Field

from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.models.search import Found, find_anything

router = operations("/v1/search", "Search")

#: Where each kind is read; kinds without a place of their own are found by the list that shows them.
_PATHS = {
    "goal": "/v1/goals/{id}",
    "session": "/v1/sessions/{id}",
    "user": "/v1/users/{id}",
    "wallet": "/v1/wallets/{id}",
    "escrow": "/v1/escrows/{id}",
    "transfer": "/v1/transfers/{id}",
    "withdrawal": "/v1/withdrawals/{id}",
    "event": "/v1/events/{id}",
    "webhook_endpoint": "/v1/webhook-endpoints/{id}",
    "redrive": "/v1/redrives/{id}",
    "clip": "/v1/clips/{id}",
    "request": "/v1/activity?request_id={id}",
    "key": "/v1/keys/{id}",
    "account": "/v1/transfers?account={id}",
    "audit_event": "/v1/audit",
}
_DELIVERIES = "/v1/webhook-endpoints/{id}/deliveries"


class FoundView(BaseModel):
    """Something that has the id, or names it."""

    kind: str = Field(
        description="goal, session, contribution, clip, post, user, wallet, escrow, account, transfer, withdrawal, event, "
        "dead_letter, request, key, …",
        examples=["goal"],
    )
    id: str = Field(description="Its own id.", examples=["68143584d6945d32e732cc21"])
    path: str | None = Field(
        default=None,
        description="Where it is read, if it has a place of its own.",
        examples=["/v1/goals/68143584d6945d32e732cc21"],
    )

    @classmethod
    def of(cls, found: Found) -> "FoundView":
        """The view of what was found."""
        path = _PATHS.get(found.kind)
        if found.kind == "delivery":  # it is shown in the list of its endpoint
            return cls(kind=found.kind, id=found.id, path=_DELIVERIES.format(id=quote(found.id.partition(":")[0])))
        return cls(kind=found.kind, id=found.id, path=path and path.format(id=quote(found.id, safe=":@,;=")))


@router.get("", summary="Find whatever has an id", responses=responses(422, 503))
async def search(
    call: CallOf,
    q: Annotated[
        str,
        Query(
            min_length=1,
            max_length=512,
            pattern=r"^[^\x00]+$",
            description="An id of anything, also of a request (its `X-Request-ID`), or a transfer's reference; with the scope "
            "`admin` also the id of a key, a webhook endpoint or a delivery, and the audit of a request.",
            examples=["68143584d6945d32e732cc21"],
        ),
    ],
) -> Page[FoundView]:
    """What has this id: at most a few of each kind, all on one page."""
    found = await find_anything(q.strip(), secret=Scope.ADMIN in call.caller.scopes)
    return Page(items=[FoundView.of(one) for one in found], next=None)
