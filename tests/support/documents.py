"""Documents as other services write them: MongoEngine, Mongoose, Doctrine, Go's driver and the shell, each in its own way.

`odd_values` is the table of what a field may hold besides what it should; `as_written` turns a good document into one of
some driver's; `documents` draws documents of which any fields are odd, missing or not ours.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import strategies as st

Document = dict[str, Any]
Path = tuple[str | int, ...]

START = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)

#: One of each type that MongoDB knows, and of each trap within a type.
ODD_VALUES: Mapping[str, object] = {
    "null": None,
    "true": True,
    "a whole number": 7,
    "a negative number": -7,
    "a fraction": 12.5,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "a decimal": Decimal128("12.5"),
    "a huge decimal": Decimal128("1E+6000"),
    "a huge number": Int64(2**62),
    "empty text": "",
    "text": "nonsense",
    "a date as text": "2026-03-01T20:00:00Z",
    "bytes": b"\x00\xff",
    "a uuid": Binary(b"0123456789abcdef", 4),
    "an empty array": [],
    "an array": [1, None, {"a": 1}],
    "an empty object": {},
    "an object": {"a": {"b": 1}},
    "a date as extended JSON": {"$date": "2026-03-01T20:00:00Z"},
    "an id as extended JSON": {"$oid": "68143584d6945d32e732cc2f"},
    "an id": ObjectId("68143584d6945d32e732cc2f"),
    "a reference": DBRef("goals", ObjectId("68143584d6945d32e732cc2f")),
    "Go's zero time": datetime(1, 1, 1, tzinfo=UTC),
    "a far date": DatetimeMS(2**52),
    "a date long ago": DatetimeMS(-(2**52)),
    "a timestamp": Timestamp(1, 1),
    "a regular expression": Regex("a+"),
    "code": Code("return 1"),
    "the least key": MinKey(),
    "the greatest key": MaxKey(),
}


def goal(kind: str, **fields: Any) -> Document:
    """A goal that another service wrote, with every field that the contract names."""
    return {
        "_id": ObjectId(),
        "_cls": f"Goal.{kind}",
        "active": True,
        "progress": 0,
        "levels": [{"title": "one", "target": 100}, {"title": "two", "target": 360}],
        "conditions": {"session_id": ObjectId(), "exclusive_to": "bob", "trigger_goal_id": ObjectId()},
        "context": {
            "started": START,
            "paused": START - timedelta(seconds=9),
            "last_updated": START,
        },
        "metadata": {
            "user_id": "alice",
            "viewer_id": "bob",
            "show": {"title": "show", "target": 360},
            "private": False,
            "price": 0,
            "exclusive": {"title": "minute", "target": 60},
        },
        "clock": {"marks": [], "floor": 0, "folded": 0, "counted": 0},
        "exp": START + timedelta(hours=1),
        "triggerer": "alice",
        "breakdown_id": "theirs",
        "promises": [],
        **fields,
    }


def clock(**fields: Any) -> Document:
    """A clock that runs, with every field that goalsvc keeps in one (marks: twice the epoch milliseconds, odd for a leave)."""
    joined = 2 * int(START.timestamp() * 1000)
    return {
        "marks": [joined - 60_000, joined - 39_999, joined],
        "viewer_marks": [joined - 60_000, joined - 39_999, joined],
        "unowned_marks": [joined - 60_000],
        "rule": "auto",
        "floor": 0,
        "folded": 0,
        "counted": 10,
        "running": True,
        "owned": True,
        "viewer_joined": True,
        "started": START,
        "stretches": [{"from": START - timedelta(seconds=30), "to": START - timedelta(seconds=20)}],
        "revision": ObjectId(),
        "known_at": START,
        "asked_at": START,
        "absent_at": START,
        **fields,
    }


def session(**fields: Any) -> Document:
    """A session that another service wrote, with every field that the contract names."""
    return {
        "_id": ObjectId(),
        "user_id": "alice",
        "statuses": {"started": START - timedelta(minutes=5), "ended": None},
        "status": {"exclusive_to": "bob"},
        "show_goal_pairs": [
            {"funding_goal": ObjectId(), "show_goal": ObjectId(), "show_started": START, "show_ended": START}
        ],
        "exclusive_goal_pairs": {
            "bob": {
                "trigger_goal": ObjectId(),
                "exclusive_goal": ObjectId(),
                "exclusive_goal_started": START,
                "exclusive_goal_ended": START,
            }
        },
        "viewers": {"bob": {"nbf": START, "exp": START + timedelta(hours=1), "duration": 3600}},
        "karaoke_goal": {"id": ObjectId(), "progress": 1, "levels": [{"title": "a", "target": 5}], "active": True},
        "karaoke_scores": {},
        "rtc": {"room_id": "room", "record_task_id": "task"},
        "promises": [],
        **fields,
    }


def user(**fields: Any) -> Document:
    """A user that another service wrote, with every field that the contract names."""
    return {
        "_id": "alice",
        "username": "Alice",
        "tags": ["verified"],
        "online": True,
        "last_seen": START,
        "byteplus": {"hls_url": "https://pull.example.com/alice.m3u8"},
        "promises": [],
        **fields,
    }


def earning(escrow_id: str, **fields: Any) -> Document:
    """A contribution that another service wrote, held by that escrow, with every field that the contract names."""
    return {
        "_id": ObjectId(),
        "user_id": "alice",
        "from_user_id": "bob",
        "amount": 7,
        "created_at": START,
        "goal_id": ObjectId(),
        "transfer_id": "theirs",
        "state": "held",
        "settled_at": START,
        "progress": 7,
        "metadata": {"theirs": 1},
        f"_{escrow_id}": True,
        **fields,
    }


def account(account_id: str, **fields: Any) -> Document:
    """An account with every field that goalsvc keeps in one."""
    return {
        "_id": account_id,
        "balance": 7,
        "settlement": "escrow",
        "shares_settled": 1,
        "shares_amount": 7,
        "shares_announced": 1,
        "settling": True,
        "shares_due": 1,
        "completed_by": "68143584d6945d32e732cc21",
        "completed_at": START,
        "held": 7,
        "owes": True,
        **fields,
    }


def transfer(transfer_id: str, **fields: Any) -> Document:
    """A transfer that another service wrote, with every field that the contract names."""
    return {
        "_id": transfer_id,
        "debit": "user:bob",
        "credit": "user:alice",
        "from_user_id": "bob",
        "to_user_id": "alice",
        "amount": 7,
        "tags": ["escrow::show_funding:68143584d6945d32e732cc21"],
        "metadata": {"doc_id": "68143584d6945d32e732cc22", "user_id": "alice"},
        "cause": {"goal_id": "68143584d6945d32e732cc21", "event_id": "e", "root": "r", "happened_at": START},
        "created_at": START,
        "reversed_at": START,
        **fields,
    }


def asset(**fields: Any) -> Document:
    """A clip's asset, with every field that the contract names."""
    return {
        "_id": ObjectId(),
        "content_type": "video/mp4",
        "duration": 30,
        "begins_at": START,
        "dated_by": "lag",
        "wanted": {"begins_at": START, "duration": 30, "completed_at": START + timedelta(seconds=30)},
        "user_id": "alice",
        "goal_id": ObjectId(),
        "state": "failed",
        "metadata": {"source": {"cls": "Session", "id": ObjectId()}, "auto_claimed_by:1": "message-1:0"},
        "cause": {"goal_id": "68143584d6945d32e732cc21"},
        "created_at": START,
        "failed_at": START,
        "stored_at": START,
        "retried_at": START,
        "size": 5,
        "reason": "no_source",
        **fields,
    }


def post(**fields: Any) -> Document:
    """A draft post, with every field that the contract names."""
    return {
        "_id": ObjectId(),
        "sender": "alice",
        "caption": "Ukulele",
        "tags": ["drafts"],
        "asset_id": ObjectId(),
        "metadata": {"goal_id": ObjectId()},
        "cause": {"goal_id": "68143584d6945d32e732cc21"},
        "created_at": START,
        **fields,
    }


def webhook_endpoint(**fields: Any) -> Document:
    """A webhook endpoint with every field that goalsvc keeps in one."""
    return {
        "_id": f"whe_{ObjectId()}",
        "url": "http://127.0.0.1:9/theirs",
        "types": ["nothing.*"],
        "description": "theirs",
        "enabled": True,
        "secrets": [{"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "expires_at": START}],
        "begins_after": 0,
        "created_at": START,
        "updated_at": START,
        "failing_since": START,
        "disabled_at": START,
        **fields,
    }


def delivery(endpoint_id: str, event_id: str, **fields: Any) -> Document:
    """A due delivery with every field that goalsvc keeps in one."""
    return {
        "_id": f"{endpoint_id}:{ObjectId()}",
        "endpoint_id": endpoint_id,
        "event_id": event_id,
        "type": "deposit.created",
        "state": "pending",
        "tried": 1,
        "attempts": [{"at": START, "status": 500}],
        "created_at": START,
        "next_at": START,
        "claimed_until": START,
        "tried_at": START,
        "cause": {"call": "deposit"},
        **fields,
    }


def api_key(**fields: Any) -> Document:
    """An API key with every field that goalsvc keeps in one."""
    return {
        "_id": f"key_{ObjectId()}",
        "name": "theirs",
        "prefix": "gsk_12345678",
        "sha256": str(ObjectId()),
        "scopes": ["read"],
        "created_by": "env",
        "created_at": START,
        "updated_at": START,
        "expires_at": START + timedelta(days=365),
        "last_used_at": START,
        "revoked_at": None,
        **fields,
    }


def promise(**fields: Any) -> Document:
    """A promise that is long overdue."""
    return {
        "id": "increment",
        "task": "increment_goal_progress",
        "arguments": {"goal_id": "68143584d6945d32e732cc21", "amount": 5, "event_id": "increment"},
        "at": START - timedelta(minutes=5),
        "parent": "",
        **fields,
    }


def paths_of(document: Mapping[str, Any], within: Path = ()) -> Iterator[Path]:
    """The path of every value in the document but its identity, outermost first."""
    for name, value in document.items():
        path = (*within, name)
        if path not in {("_id",), ("_cls",)}:
            yield path
            if isinstance(value, Mapping):
                yield from paths_of(value, path)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    yield (*path, index)
                    if isinstance(item, Mapping):
                        yield from paths_of(item, (*path, index))


_ABSENT = object()


def without(document: Document, path: Path) -> Document:
    """A copy without the value at that path."""
    changed: Document = _changed(document, path, _ABSENT)
    return changed


def with_value(document: Document, path: Path, value: object) -> Document:
    """A copy with that value at that path."""
    changed: Document = _changed(document, path, value)
    return changed


def _changed(value: Any, path: Path, new: object) -> Any:
    step, rest = path[0], path[1:]
    if isinstance(value, list):
        assert isinstance(step, int)
        inner = [new] if not rest else [_changed(value[step], rest, new)]
        return [*value[:step], *(item for item in inner if item is not _ABSENT), *value[step + 1 :]]
    if not rest and new is _ABSENT:
        return {name: item for name, item in value.items() if name != step}
    return {**value, step: new if not rest else _changed(value[step], rest, new)}


# -- how each driver writes -------------------------------------------------------------------------------------------

Writer = Callable[[Any], Any]


def _each(convert: Writer) -> Writer:
    def write(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: write(item) for name, item in value.items()}
        if isinstance(value, list):
            return [write(item) for item in value]
        return convert(value)

    return write


def _double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _long(value: Any) -> Any:
    return Int64(value) if type(value) is int else value


def _decimal(value: Any) -> Any:
    return Decimal128(str(value)) if type(value) is int else value


def _zero_times(value: Any) -> Any:
    return datetime(1, 1, 1, tzinfo=UTC) if value is None else _long(value)


#: A good document as each of them writes it: the same facts.
WRITERS: Mapping[str, Writer] = {
    "MongoEngine": _each(lambda value: value),
    "Mongoose": _each(_double),
    "Doctrine": lambda document: {"theirs": None} | _each(_long)(document),
    "Go": _each(_zero_times),
    "the shell": _each(_decimal),
}


# -- by chance --------------------------------------------------------------------------------------------------------


@st.composite
def documents(draw: st.DrawFn, good: Document, most: int = 3) -> Document:
    """That document as some driver wrote it, with up to `most` of its values odd or missing, and one that is not ours."""
    document = WRITERS[draw(st.sampled_from(sorted(WRITERS)))](good)
    for _ in range(draw(st.integers(0, most))):
        paths = [path for path in paths_of(document) if path[0] != "theirs"]
        path = draw(st.sampled_from(paths))
        if draw(st.booleans()):
            document = without(document, path)
        else:
            document = with_value(document, path, ODD_VALUES[draw(st.sampled_from(sorted(ODD_VALUES)))])
    return {**document, "theirs": ODD_VALUES[draw(st.sampled_from(sorted(ODD_VALUES)))]}
