"""Auditing the books now, instead of when the day is over, and sealing the days that have closed."""

from goalsvc.context import Context
from goalsvc.models.audit_figures import keep_audit
from goalsvc.models.book_audit import Report, audit
from goalsvc.models.seal import Seal, seal_days, seal_key


async def audit_now(context: Context) -> Report:
    """Returns what an audit of the books finds, and stores its figures as those of the last one. Raises PyMongoError."""
    report = await audit(context.clock.now(), seal_key(context.settings.seal_secret))
    await keep_audit(report.figures())
    return report


async def seal_closed_days(context: Context) -> list[Seal]:
    """Seals each day that has closed and is not sealed yet; returns the seals that were made. Raises PyMongoError."""
    return await seal_days(context.clock.now(), seal_key(context.settings.seal_secret))
