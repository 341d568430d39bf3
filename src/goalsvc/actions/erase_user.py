"""Erasing a person. The platform's id of the user is the pseudonym that remains in ledger and history."""

from datetime import datetime

from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.views import streamer_views
from goalsvc.errors import ConflictError, NotFoundError
from goalsvc.models.erasure import erase, hold_money_of, open_money_of, running_for


async def erase_user(context: Context, user_id: str) -> datetime:
    """Removes the name, the tags and everything else that is known of the person; when that was done first.

    Raises NotFoundError, ConflictError `user_has_running_goal`, `user_has_open_money`; in each case nothing was changed.
    """
    now = context.clock.now()

    async def check_and_erase(session: DatabaseSession) -> datetime:
        await hold_money_of(user_id, session)
        if running := await running_for(user_id, session):
            raise ConflictError("user_has_running_goal", f"end first: {', '.join(running)}")
        if money := await open_money_of(user_id, session):
            raise ConflictError("user_has_open_money", f"settle first: {', '.join(money)}")
        erased = await erase(user_id, now, session)
        if erased is None:
            raise NotFoundError(f"there is no user {user_id}")
        return erased

    erased: datetime = await context.ledger.transaction(check_and_erase)
    await context.cache.drop(streamer_views(user_id))
    return erased
