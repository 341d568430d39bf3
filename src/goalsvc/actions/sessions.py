"""Sessions: begun and ended."""

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from goalsvc.actions.known import known_session
from goalsvc.context import Context
from goalsvc.domain.call import Call
from goalsvc.domain.views import session_token_view, streamer_views
from goalsvc.errors import ConflictError
from goalsvc.models.events import of_session
from goalsvc.models.session import Rtc, Session, Statuses
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.events import promise_of


async def begin_session(context: Context, call: Call, user_id: str, rtc: Rtc) -> Session:
    """Begins a livestream of that streamer, now; a repeat of the call finds the one that it began."""
    now = context.clock.now()
    session = Session(id=call.new_id, user_id=user_id, statuses=Statuses(started=now), rtc=rtc)
    told = promise_of(of_session("session.started", session, now, context.origin.cause), now, context.origin)
    session.promises = [told]
    try:
        await session.insert()
        enqueue_promises(context, session, [told.id])
    except DuplicateKeyError:
        session = await known_session(call.new_id)
    await context.cache.drop(streamer_views(session.user_id))
    return session


async def end_session(context: Context, call: Call, session_id: ObjectId) -> Session:
    """Ends the livestream now; its open goals are ended by a task. Raises NotFoundError, ConflictError `session_ended`."""
    session = await Session.end(session_id, context.clock.now(), context.origin, ended_by=call.idempotency)
    if session is None:
        session = await known_session(session_id)
        if not call.made((session.model_extra or {}).get("ended_by")):
            raise ConflictError("session_ended", "the session has ended before")
    enqueue_promises(context, session, ["end_session"])
    await context.cache.drop([session_token_view(session.id), *streamer_views(session.user_id)])
    return session
