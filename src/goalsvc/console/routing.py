"""What every page has in common: who may read it, and what is shown instead of it."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote

from bson import ObjectId
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from pymongo.errors import ExecutionTimeout, PyMongoError

from goalsvc.console import access
from goalsvc.console.rendering import HEADERS, page
from goalsvc.domain.call import Caller


class ConsoleRoute(APIRoute):
    """A page: to those who may not read it, the log-in or what they lack; where the database is slow or away, it says so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[None, None, Response]]:
        """Returns the handler of the page, with what it answers instead."""
        show = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await show(request)
            except access.LogInError:
                return to_log_in(request)
            except access.ForbiddenError as error:
                text = f"Your key has not the scope {error.scope.value}, which this page requires."
                return page(request, "message.html", status=403, title="Not with this key", text=text)
            except ExecutionTimeout:
                text = "The database took longer than three seconds to answer this page. Try again, or narrow the page."
                return page(request, "message.html", status=503, title="The database is slow", text=text)
            except (PyMongoError, TimeoutError):
                text = "The database does not answer. Pusher repeats webhooks meanwhile."
                return page(request, "message.html", status=503, title="No database", text=text)
            except RequestValidationError as error:
                text = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
                return page(request, "message.html", status=422, title="This address is not right", text=text)

        return guarded


def console_router() -> APIRouter:
    """Returns a router whose routes are pages of the console."""
    return APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


Operator = Annotated[Caller, Depends(access.reader)]


def base_of(request: Request) -> str:
    """Returns the console's own address."""
    return str(request.scope.get("root_path", "")).rstrip("/") + "/console"


def to_log_in(request: Request) -> Response:
    """Returns the way to the log-in, and from there back to what was asked for; a form that was sent is not sent again."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    to = f"?to={quote(asked, safe='')}" if request.method == "GET" else ""
    return RedirectResponse(f"{base_of(request)}/login{to}", 303, headers=dict(HEADERS))


def missing(request: Request, caller: Caller, what: str) -> Response:
    """Returns the page that says that there is no such thing."""
    return page(request, "message.html", status=404, title="Nothing there", text=f"There is no {what}.", caller=caller)


def object_id(text: str) -> ObjectId | None:
    """Returns the id that this text is, None if it is not one."""
    return ObjectId(text) if ObjectId.is_valid(text) else None


def texts_of(form: Any) -> dict[str, str]:
    """Returns the fields of a form that are texts, each once."""
    return {name: value for name, value in form.items() if isinstance(value, str)}
