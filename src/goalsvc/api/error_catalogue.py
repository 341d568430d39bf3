"""The catalogue of errors: every `code` of a problem, at a stable address (`/errors/{code}`) to which its `type` leads."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

router = APIRouter(tags=["Health"], include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a code means, and what a caller does about it."""

    status: int
    meaning: str
    remedy: str


_AGAIN = "Send the same request again after a moment, with the same Idempotency-Key."
_SEE = "Read the document, and decide anew."

CATALOGUE: Mapping[str, Entry] = {
    "already_redriven": Entry(409, "The dead letter has been tried again before.", _SEE),
    "bad_request": Entry(400, "The request is not of the documented form.", "Correct the request."),
    "bad_signature": Entry(
        401,
        "`X-Pusher-Key` names no configured app, or `X-Pusher-Signature` does not sign this body.",
        "Sign the bytes of the body as they are sent, with the secret of that app key.",
    ),
    "clip_not_failed": Entry(409, "Only a clip that failed is cut again.", _SEE),
    "clip_not_repeatable": Entry(
        409, "The clip does not say which seconds of which goal it was to hold, or the goal is gone.", "Cut a new clip."
    ),
    "conflict": Entry(409, "The state of the document does not allow it.", _SEE),
    "content_too_large": Entry(413, "The body is larger than is accepted.", "Send less."),
    "cursor_expired": Entry(
        410, "The event that the cursor names is no longer kept.", "Begin at the oldest event that the problem names."
    ),
    "forbidden": Entry(403, "This user may not do this.", "Ask for a channel of the user's own."),
    "goal_changed": Entry(409, "The goal was changed by others at the same time.", _SEE),
    "goal_expired": Entry(409, "The goal's `exp` has passed.", "Create another goal."),
    "goal_inactive": Entry(409, "The goal has ended, or its last level is reached.", _SEE),
    "idempotency_conflict": Entry(
        409, "The Idempotency-Key was used for another body under this path.", "Use a new key for a new intention."
    ),
    "insufficient_funds": Entry(402, "The account does not hold that many tokens.", "Deposit tokens, then try again."),
    "insufficient_scope": Entry(
        403, "The API key does not have the scope that the operation requires.", "Use a key that has the named scope."
    ),
    "internal_server_error": Entry(
        500, "Something went wrong that was not foreseen.", "Name the `request_id` to the operators of goalsvc."
    ),
    "invalid": Entry(422, "A value is not what it must be; `errors` names each field.", "Correct the named fields."),
    "key_revoked": Entry(409, "The API key is revoked or expired.", "Create a new key."),
    "ledger_busy": Entry(503, "Others move tokens of the same accounts; nothing was changed.", _AGAIN),
    "malformed": Entry(400, "The body is neither a form nor a JSON object.", "Correct the body."),
    "malformed_webhook": Entry(
        400, "The webhook is not of the documented form; `detail` names the field.", "Correct it."
    ),
    "method_not_allowed": Entry(
        405, "The path does not know this method; `Allow` names those it knows.", "Use one of them."
    ),
    "more_than_paid": Entry(
        409, "The refund is larger than what the goal has paid out.", "Refund at most what was paid."
    ),
    "not_a_deposit": Entry(
        409, "The transfer is not a deposit, so it cannot be reversed.", "Name the transfer of a deposit."
    ),
    "not_found": Entry(404, "There is no such document.", "Check the id; `GET /v1/search?q=` finds what has it."),
    "not_promised": Entry(409, "No document promises this movement of tokens; nothing was moved.", _SEE),
    "nothing_paid": Entry(409, "The goal has paid nothing out.", _SEE),
    "payout_under_way": Entry(409, "The goal is still being paid out.", "Repeat the call after `escrow.completed`."),
    "performer_in_exclusive": Entry(409, "The performer gives another exclusive.", "Wait for its end."),
    "exclusive_running": Entry(409, "Another exclusive goes on in the session.", "Wait for its end."),
    "viewer_in_exclusive": Entry(409, "The viewer is in another exclusive.", "Wait for its end."),
    "precondition_failed": Entry(
        412,
        "The document was changed since its ETag was read: `If-Match` does not name it as it is now; nothing was changed.",
        "Read the document anew, decide anew, and send the call with the new ETag.",
    ),
    "receiver_failed": Entry(503, "A part of the work failed; nothing is lost.", _AGAIN),
    "reference_used": Entry(
        409,
        "The `reference` was used for another transfer of this account.",
        "Use the reference of the intended payment.",
    ),
    "rehearsal_outdated": Entry(
        409,
        "The recording, or what it would change, is not what the rehearsal with that digest said.",
        "Rehearse the recording again, look at what it would change now, and send the new `digest`.",
    ),
    "self_payment": Entry(409, "A user would pay themselves.", "Name another user."),
    "session_ended": Entry(409, "The session has ended.", "Begin another session."),
    "settled_otherwise": Entry(409, "The escrow is being settled in the other direction.", _SEE),
    "stale_webhook": Entry(400, "The webhook is older than 15 minutes.", "Nothing: reconciliation makes up for it."),
    "test_events_off": Entry(
        409, "Test events are switched off (`GOALSVC_TEST_EVENTS`).", "Try it in `goalsvc dev`, or switch them on."
    ),
    "too_large": Entry(413, "The body is larger than is accepted.", "Send less."),
    "too_many_endpoints": Entry(409, "There are as many webhook endpoints as there may be.", "Delete one first."),
    "transfer_conflict": Entry(
        409, "The Idempotency-Key or reference was used for another movement.", "Use a new key for a new intention."
    ),
    "unauthorized": Entry(
        401, "The API key or the user's token is missing, wrong, expired or revoked.", "Send a valid one."
    ),
    "unavailable": Entry(503, "A service that this needs cannot be reached, or is too busy.", _AGAIN),
    "unusable_document": Entry(
        409, "Another service wrote a document that cannot be used; `detail` names the field.", "Correct the document."
    ),
    "user_erased": Entry(409, "The user was erased, and the id is not given out again.", "Use another id."),
    "user_has_running_goal": Entry(409, "The user has a session or goal that goes on.", "End it first."),
    "user_has_open_money": Entry(
        409,
        "The user has tokens, a debt, a share or price that is held, or a withdrawal that is pending.",
        "Settle it first.",
    ),
    "withdrawal_concluded": Entry(409, "The withdrawal has been confirmed or returned before.", _SEE),
    "wrong_goal_kind": Entry(409, "The operation is for goals of another kind.", "Name a goal of that kind."),
}


def address_of(code: str) -> str:
    """The address of that code's entry, relative to the API's own."""
    return f"/errors/{code}"


@router.get("/errors")
async def list_errors() -> HTMLResponse:
    """Shows the whole catalogue."""
    return _page("Errors", "".join(_section(code, entry) for code, entry in sorted(CATALOGUE.items())))


@router.get("/errors/{code}")
async def read_error(code: str) -> Response:
    """Shows one entry."""
    entry = CATALOGUE.get(code)
    if entry is None:
        return HTMLResponse("<!doctype html><title>Unknown error</title><p>There is no such error code.</p>", 404)
    return _page(code, _section(code, entry))


def _section(code: str, entry: Entry) -> str:
    return (
        f'<section id="{escape(code)}"><h2><code>{escape(code)}</code> ({entry.status})</h2>'
        f"<p>{escape(entry.meaning)}</p><p>What to do: {escape(entry.remedy)}</p></section>"
    )


def _page(title: str, body: str) -> HTMLResponse:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)} – goalsvc</title>'
    return HTMLResponse(f"{head}<main><h1>goalsvc: errors</h1>{body}</main></html>")
