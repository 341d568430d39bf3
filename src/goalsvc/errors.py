"""Every error that goalsvc raises itself, and the code by which the outside knows it.

What an error means to a client of the API (its HTTP status) is decided in one table, `goalsvc.api.errors`; what it means
to a task (try again or give up) by `RetryableError`.
"""

from collections.abc import Sequence


class GoalsvcError(Exception):
    """The base of all our errors. `code` is stable and part of the contract; the message is for people."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SettingsError(GoalsvcError):
    """A setting is missing or wrong; the message names the variable."""

    code = "settings"


# -- what may pass if one waits ------------------------------------------------------------------------------------


class RetryableError(GoalsvcError):
    """What was tried may succeed later: a task raising it is tried again with back-off."""

    code = "retryable"


class ExternalServiceError(RetryableError):
    """A service that we call (Pusher, S3, BytePlus, the stream's origin) refused, failed or did not answer in time."""

    code = "external_service"

    def __init__(self, service: str, message: str) -> None:
        super().__init__(f"{service}: {message}")
        self.service = service
        self.fault = message


class ServiceDownError(ExternalServiceError):
    """A service as a whole does not work at the moment; no other call would do better. Its work waits; tries do not count."""

    def __init__(self, service: str, message: str, after_seconds: float = 2.0, *, probed: bool = False) -> None:
        super().__init__(service, message)
        self.after_seconds = after_seconds
        self.probed = probed
        """Whether another call finds out at this moment if the service works again."""


class LedgerBusyError(RetryableError):
    """Other transfers touch the same accounts, again and again; nothing was changed."""

    code = "ledger_busy"


class NotYetError(RetryableError):
    """What this waits for has not happened yet; `after_seconds` says when to look again. Not a failure."""

    code = "not_yet"

    def __init__(self, message: str, after_seconds: float) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class ReceiverFailedError(RetryableError):
    """At least one receiver of a signal failed; the message names each with its error."""

    code = "receiver_failed"


# -- what will not ----------------------------------------------------------------------------------------------------


class InvalidError(GoalsvcError):
    """A value from outside is not what the contract asks for; `field` is its path, as in `levels.0.target`."""

    code = "invalid"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.fault = message


class MissingArgumentError(GoalsvcError):
    """A job lacks an argument of its task: another version wrote it. The message names the task and the arguments."""

    code = "missing_argument"

    def __init__(self, task: str, missing: Sequence[str]) -> None:
        super().__init__(
            f"{task}: {', '.join(missing)}: required, but missing in the job (written by another version?)"
        )


class InvalidArgumentError(GoalsvcError):
    """An argument of a promise or a job is not what its task takes; the message names the task and the argument."""

    code = "invalid_argument"

    def __init__(self, task: str, fault: str) -> None:
        super().__init__(f"{task}: {fault}")


class UnusableDocumentError(GoalsvcError):
    """A document lacks what its use here requires; `where` is its place, as in `goals/5`, and `field` the path in it."""

    code = "unusable_document"

    def __init__(self, where: str, field: str, rule: str) -> None:
        super().__init__(f"{where}: {field}: {rule}")
        self.where = where
        self.field = field


class NotFoundError(GoalsvcError):
    """There is no such document."""

    code = "not_found"


class ConflictError(GoalsvcError):
    """The document's state does not allow what was asked; `code` says why."""

    code = "conflict"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PreconditionFailedError(GoalsvcError):
    """The document is no longer as the caller knows it (`If-Match`); nothing was changed."""

    code = "precondition_failed"


class InsufficientFundsError(GoalsvcError):
    """The account does not hold that many tokens; nothing was moved."""

    code = "insufficient_funds"


class TransferConflictError(GoalsvcError):
    """A transfer with this id exists with other content; nothing was moved."""

    code = "transfer_conflict"


class NotPromisedError(GoalsvcError):
    """No document promises this movement of tokens: its job was planted, is left over, or the documents were restored."""

    code = "not_promised"


class NoticeTooLargeError(GoalsvcError):
    """The data of a Pusher event is over Pusher's 10 KB; it would never be accepted."""

    code = "notice_too_large"


class ClipImpossibleError(GoalsvcError):
    """The clip can never be cut: no HLS source, or the stream does not hold these seconds (any more)."""

    code = "clip_impossible"


class CursorExpiredError(GoalsvcError):
    """Events after that place have been deleted; `oldest` is the place after which all are there."""

    code = "cursor_expired"

    def __init__(self, oldest: int) -> None:
        super().__init__(f"events after that cursor have expired; the oldest cursor is {oldest}")
        self.oldest = oldest
