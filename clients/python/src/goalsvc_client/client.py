"""The client: every operation of goalsvc, with retries, Idempotency-Keys and errors as exceptions."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, Self, TypeVar

import httpx

from goalsvc_client.errors import ApiError, UnreachableError
from goalsvc_client.generated.api import Operations
from goalsvc_client.generated.models.event_view import EventView
from goalsvc_client.generated.types import Unset
from goalsvc_client.retries import IDEMPOTENCY_KEY, RetryPolicy, asks_for_another_try, may_repeat

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Page(Protocol[T_co]):
    """A page of a list."""

    @property
    def items(self) -> Sequence[T_co]:
        """What is on it."""
        ...

    @property
    def next_(self) -> str | Unset | None:
        """The cursor of the next page, if there is one."""
        ...


class GoalsvcClient(Operations):
    """A connection to one goalsvc, by one API key. Its attributes hold the operations, by tag: `client.wallet.deposit(…)`.

    Reads, and POSTs with an Idempotency-Key, are made again by `retry` after 429, 502, 503, 504 and broken connections. Every
    POST has such a key: the caller's (`idempotency_key=`), or one that is made for the call and kept over its retries.
    Raises ApiError for what goalsvc refuses, UnreachableError when there is no answer. Threads may share a client.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        retry: RetryPolicy | None = None,
        timeout: float = 15.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(self)
        self._retry, self._timeout = retry or RetryPolicy(), timeout
        headers = {"Authorization": f"Bearer {key}", "User-Agent": "goalsvc-client"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, request: Mapping[str, Any]) -> httpx.Response:
        """Sends a request, given as the arguments of `httpx.Client.request`; the answer, which is a success."""
        method, headers = str(request["method"]), dict(request.get("headers") or {})
        if method.upper() == "POST" and IDEMPOTENCY_KEY not in headers:
            headers[IDEMPOTENCY_KEY] = str(uuid.uuid4())
        waits = float((request.get("params") or {}).get("wait") or 0)
        sent = {**request, "headers": headers, "timeout": self._timeout + waits}
        repeats, deadline = may_repeat(method, headers), time.monotonic() + self._retry.deadline_seconds + waits
        tried = 0
        while True:
            tried += 1
            answer: httpx.Response | None = None
            try:
                answer = self._http.request(**sent)
                if answer.is_success:
                    return answer
                fault: Exception = ApiError.of(answer)
                again = asks_for_another_try(answer)
            except httpx.TransportError as error:
                fault, again = (
                    UnreachableError(f"{method.upper()} {request['url']}: {str(error) or type(error).__name__}"),
                    True,
                )
                fault.__cause__ = error
            wait = self._retry.wait_before(tried, answer)
            if not (again and repeats) or tried >= self._retry.tries or time.monotonic() + wait > deadline:
                raise fault
            time.sleep(wait)

    # -- lists --------------------------------------------------------------------------------------------------------

    def all_of(self, list_: Callable[P, Page[T]], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        """Yields every item of a list, page by page: `client.all_of(client.goals.list_goals, session_id=…)`."""
        cursor: str | Unset | None = None
        more: Any = dict(kwargs)
        while True:
            page = list_(*args, **more)
            yield from page.items
            cursor = page.next_
            if not cursor:
                return
            more["cursor"] = cursor

    def follow_events(
        self,
        after: str | None = None,
        *,
        types: Sequence[str] = (),
        goal_id: str | None = None,
        user_id: str | None = None,
        wait: float = 25.0,
        forever: bool = True,
    ) -> Iterator[EventView]:
        """Yields the events that follow a cursor, in order, and waits for more; `forever=False`: those that there are now.

        Only those of `types` (`goal.*` is all that begin so), of one goal, of one user, where that is given.

        An event's `sequence` is the cursor to continue with (`after=str(event.sequence)`): store it with your own changes.
        Raises ApiError `cursor_expired` when events after it have been deleted; `problem["oldest"]` is where to go on.
        """
        cursor = after
        while True:
            page = self.events.list_events(
                after=cursor,
                types=",".join(types) or None,
                goal_id=goal_id,
                user_id=user_id,
                limit=1000,
                wait=wait if forever else 0,
            )
            yield from page.items
            if not forever and not page.items:
                return
            cursor = page.next_ if isinstance(page.next_, str) else cursor
