"""`docs/receivers.md` says what the code does."""

from .document import PATH, find_owed, render


async def test_the_document_is_current() -> None:
    assert PATH.read_text("utf-8") == render(await find_owed()), "run `python -m tests.receivers.document`"
