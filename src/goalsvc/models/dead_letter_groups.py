"""Dead letters in groups: by task, and by the code with which their reason begins."""

from collections.abc import Sequence
from dataclasses import dataclass

from goalsvc.models.bounded import total
from goalsvc.models.filters import text_of

#: At most so many letters are counted, and so many groups are listed.
MOST_LETTERS = 20_000
MOST_GROUPS = 100


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Dead letters of one task with one code of the reason; each text may be empty where none is stored."""

    task: str
    code: str
    count: int


@dataclass(frozen=True, slots=True)
class LetterGroups:
    """The groups, the largest first."""

    items: Sequence[LetterGroup]
    truncated: bool
    """Whether more letters are dead than are counted, or there are more groups than are listed."""


async def dead_letter_groups() -> LetterGroups:
    """Counts the letters that are dead, by task and by their reason up to its first colon. Raises PyMongoError."""
    code = {"$arrayElemAt": [{"$split": [{"$ifNull": [text_of("$reason"), ""]}, ":"]}, 0]}
    found = await total(
        "dead_letters",
        [
            {"$match": {"state": "dead"}},
            {"$limit": MOST_LETTERS + 1},
            {"$group": {"_id": {"task": {"$ifNull": [text_of("$task"), ""]}, "code": code}, "count": {"$sum": 1}}},
            {"$sort": {"count": -1, "_id": 1}},
        ],
    )
    groups = [LetterGroup(str(row["_id"]["task"]), str(row["_id"]["code"]), int(row["count"])) for row in found]
    counted = sum(group.count for group in groups)
    return LetterGroups(groups[:MOST_GROUPS], len(groups) > MOST_GROUPS or counted > MOST_LETTERS)
