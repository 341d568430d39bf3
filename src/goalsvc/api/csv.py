"""Answers as CSV, streamed line by line."""

import csv
import io
from collections.abc import AsyncIterator, Iterable

from fastapi.responses import StreamingResponse

#: What a spreadsheet would run as a formula when a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_answer(name: str, rows: AsyncIterator[Iterable[object]]) -> StreamingResponse:
    """Returns an answer that streams these rows as a file of that name."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_lines(rows), media_type="text/csv", headers=headers)


async def _lines(rows: AsyncIterator[Iterable[object]]) -> AsyncIterator[str]:
    waiting: list[str] = []
    async for row in rows:
        waiting.append(_line(row))
        if len(waiting) == 200:
            yield "".join(waiting)
            waiting = []
    if waiting:
        yield "".join(waiting)


def _line(row: Iterable[object]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerow([_cell(value) for value in row])
    return written.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
