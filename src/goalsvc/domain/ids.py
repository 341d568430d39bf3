"""Ids that follow from other ids, so that a repeat makes nothing new."""

import hashlib
import re

from bson import ObjectId

#: A user id: characters that Pusher allows in a channel name, and not dots alone (`.` and `..` are not segments of a URL).
USER_ID = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_=@,.;-]*[A-Za-z0-9_=@,;-][A-Za-z0-9_=@,.;-]*")
#: What a value is told that is not a user id.
USER_ID_RULE = (
    "must be 1 to 128 characters of A-Z a-z 0-9 _ - = @ , . ; (those of Pusher's channel names), and not dots alone"
)

#: MongoDB reads a dot in a field's name as the separator of two names.
_DOT, _STORED_DOT = ".", "\N{FULLWIDTH FULL STOP}"


def user_id_in(value: object) -> str | None:
    """The user whom a webhook names, as a text; Pusher may send a number, others an empty text for no user."""
    if value is None or value == "":
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def map_key(user_id: str) -> str:
    """The name under which a document's map keeps what belongs to that user: the id, with another sign for each dot."""
    return user_id.replace(_DOT, _STORED_DOT)


def user_of_map_key(key: str) -> str:
    """The user id of that name; a name without the sign is the id itself."""
    return key.replace(_STORED_DOT, _DOT)


def key_digest(key: str) -> str:
    """An Idempotency-Key, which may hold any text, as part of an id."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def derived_id(cause: ObjectId, purpose: str) -> ObjectId:
    """An id that follows from another document's: the same cause and purpose, the same id; sorted in time like its cause."""
    digest = hashlib.sha256(f"{purpose}:{cause}".encode()).digest()
    return ObjectId(cause.binary[:4] + digest[:8])


def exclusive_of(trigger_goal: ObjectId) -> ObjectId:
    """The id of the exclusive that comes of that request; its escrow is named after it before the goal is made."""
    return derived_id(trigger_goal, "exclusive")
