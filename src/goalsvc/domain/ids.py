"""Ids that follow from other ids, so that a repeat makes nothing new."""

import hashlib
import re

from bson import ObjectId

#: User ids become parts of MongoDB paths and of channel names, so they hold no `.`, no `$`, no white space.
USER_ID = re.compile(r"[A-Za-z0-9_=,;@-]{1,128}")


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
