"""The clock of a goal: from joins and leaves, in whatever order they arrive, to performed seconds (SPEC §4).

The document remembers the joins and leaves of the last quarter of an hour (older webhooks are refused, so what lies
further back can not change any more and is folded into one sum). One aggregation-pipeline update inserts the new one at
its place in time and derives everything else from the sorted list. So the result does not depend on the order of
arrival, a repeat changes nothing, and no other writer can come between the decision and the change.

A mark is one number: twice its epoch milliseconds, plus one for a leave. Sorted as numbers, marks are sorted by time,
and at the same instant a join comes before a leave ("the clock runs while started is *later* than paused"). A turn is a
mark that changed the clock: the first mark, and each one of the other kind than the mark before it.

    marks    join 0   join 5   leave 9   leave 9.01   join 20        (seconds)
    turns    join 0            leave 9                join 20    →   9 s performed, running since 20
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from goalsvc.clock import to_epoch_milliseconds

Expression = Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Webhooks older than this are refused (SPEC §3) …
STALE_AFTER = timedelta(minutes=15)
#: … so marks older than this are settled: the difference leaves room for processes whose clocks disagree.
FOLD_AFTER = timedelta(minutes=20)
#: Folding is not worth its while for fewer marks.
FOLD_ABOVE = 32


def join_mark(at: datetime) -> int:
    """The mark of a join at that instant."""
    return 2 * to_epoch_milliseconds(at)


def leave_mark(at: datetime) -> int:
    """The mark of a leave at that instant."""
    return 2 * to_epoch_milliseconds(at) + 1


@dataclass(frozen=True, slots=True)
class ClockFields:
    """Where a pipeline that contains `stages` finds what the mark did: expressions for its later stages."""

    amount: Expression = "$clock.amount"
    started: Expression = "$clock.turned.started"
    paused: Expression = "$clock.turned.paused"


FIELDS = ClockFields()


def stages(mark: int, now: datetime, *, only_if_running: bool = False) -> list[Mapping[str, Any]]:
    """The update stages that bring this mark into a goal's clock.

    They set `context`, and in `clock`: `amount`, the whole seconds that are to be added to progress because of it;
    `turned.started` and `turned.paused`, whether the clock has one more start, or one more pause, than before. With
    `only_if_running` the mark is ignored unless the clock runs (the end of a goal is no leave for a clock that stands).
    """
    running = _is_join(_last("$clock.marks"))
    inserted = _insert("$clock.marks", mark)
    return [
        {
            "$set": {
                "clock.marks": {"$ifNull": ["$clock.marks", _marks_of_context()]},
                "clock.floor": {"$ifNull": ["$clock.floor", _floor_of_context()]},
                "clock.folded": {"$ifNull": ["$clock.folded", 0]},
                "clock.counted": {"$ifNull": ["$clock.counted", 0]},
            }
        },
        # Another service may have set `context.started` since we looked last: that is a join like any other.
        {"$set": {"clock.marks": _if_present("$context.started", _insert_context_start(), "$clock.marks")}},
        {"$set": {"clock.turned": _turn_counts(_turns("$clock.marks"))}},
        {"$set": {"clock.marks": {"$cond": [running, inserted, "$clock.marks"]} if only_if_running else inserted}},
        {"$set": {"clock.turns": _turns("$clock.marks")}},
        {
            "$set": {
                "context.started": _latest("$clock.turns", _is_join, "$context.started"),
                "context.paused": _latest("$clock.turns", _is_leave, "$context.paused"),
                "context.last_updated": _raised_to_mark(mark, only_if_running),
                "clock.turned": _turned_since("$clock.turned", _turn_counts("$clock.turns")),
                "clock.seconds": _whole_seconds({"$add": ["$clock.folded", _performed("$clock.turns")]}),
            }
        },
        {
            "$set": {
                "clock.amount": {"$max": [0, {"$subtract": ["$clock.seconds", "$clock.counted"]}]},
                "clock.counted": {"$max": ["$clock.seconds", "$clock.counted"]},
                "clock.fold_from": _last({"$filter": _where("$clock.turns", {"$lt": ["$$m", _fold_before(now)]})}),
            }
        },
        _fold_stage(_fold_before(now)),
    ]


# -- what another service wrote ---------------------------------------------------------------------------------------


def _marks_of_context() -> Expression:
    """The first marks of a goal whose clock is new to us, from its context.

    Running: a join at `started`. Paused: a leave at `paused`; the seconds before it were counted by whoever paused it.
    """
    return {
        "$cond": [
            {"$gt": ["$context.started", {"$ifNull": ["$context.paused", EPOCH]}]},
            array_of(_mark_of("$context.started")),
            _if_present("$context.paused", array_of({"$add": [_mark_of("$context.paused"), 1]}), []),
        ]
    }


def _floor_of_context() -> Expression:
    """Marks below this are ignored: what happened before a pause that another service counted is its business."""
    return _if_present("$context.started", _if_present("$context.paused", _mark_of("$context.paused"), 0), 0)


def _insert_context_start() -> Expression:
    return {"$let": {"vars": {"new": _mark_of("$context.started")}, "in": _insert("$clock.marks", "$$new")}}


def _mark_of(date: Expression) -> Expression:
    return {"$multiply": [2, {"$subtract": [date, EPOCH]}]}


# -- marks and turns --------------------------------------------------------------------------------------------------


def _insert(marks: Expression, mark: Expression) -> Expression:
    """`marks` with `mark` at its place, unless it is there already or lies below what has been folded."""
    return {
        "$cond": [
            {"$or": [{"$lt": [mark, "$clock.floor"]}, {"$in": [mark, marks]}]},
            marks,
            {
                "$concatArrays": [
                    {"$filter": _where(marks, {"$lt": ["$$m", mark]})},
                    [mark],
                    {"$filter": _where(marks, {"$gt": ["$$m", mark]})},
                ]
            },
        ]
    }


def _turns(marks: Expression) -> Expression:
    """The marks that changed the clock: the first one, and each of another kind than the one before it."""
    first = {"$eq": ["$$before", None]}
    changed = {"$ne": [{"$mod": ["$$m", 2]}, {"$mod": ["$$before", 2]}]}
    return {"$filter": _where(marks, _with_one_before(marks, {"$or": [first, changed]}))}


def _with_one_before(marks: Expression, expression: Expression) -> Expression:
    """`expression`, in which `$$before` is the mark that comes before `$$m`, or null.

    A look at all marks for each of them: quadratic, for a handful. (Positions would need `$range`, which mongomock lacks.)
    """
    earlier = {"$filter": {"input": marks, "as": "other", "cond": {"$lt": ["$$other", "$$m"]}}}
    return {"$let": {"vars": {"before": _last_or_null(earlier)}, "in": expression}}


def _turn_counts(turns: Expression) -> Expression:
    """How often the clock was started, and how often it was paused after it had run."""
    joins = {"$size": {"$filter": _where(turns, _is_join("$$m"))}}
    first_is_leave = {"$cond": [_is_leave({"$ifNull": [{"$arrayElemAt": [turns, 0]}, 0]}), 1, 0]}
    return {
        "started": joins,
        "paused": {"$subtract": [{"$subtract": [{"$size": turns}, joins]}, first_is_leave]},
    }


def _turned_since(before: str, after: Expression) -> Expression:
    return {name: {"$gt": [after[name], f"{before}.{name}"]} for name in ("started", "paused")}


def _performed(turns: Expression) -> Expression:
    """Twice the milliseconds between each join and the leave that follows it; a run that is still open counts nothing."""
    ends_a_run = {"$and": [_is_leave("$$m"), {"$ne": ["$$before", None]}]}
    run = {"$subtract": [{"$subtract": ["$$m", 1]}, "$$before"]}
    counted = _with_one_before(turns, {"$cond": [ends_a_run, run, 0]})
    runs = {"$map": {"input": turns, "as": "m", "in": counted}}
    return {"$let": {"vars": {"runs": runs}, "in": {"$sum": "$$runs"}}}


def _whole_seconds(doubled_milliseconds: Expression) -> Expression:
    return {"$toInt": {"$floor": {"$divide": [doubled_milliseconds, 2000]}}}


def _latest(turns: Expression, is_kind: Any, otherwise: Expression) -> Expression:
    """The instant of the last turn of that kind, or what the field held before."""
    last = _last_or_null({"$filter": _where(turns, is_kind("$$m"))})
    # The epoch *minus* minus so many milliseconds: mongomock cannot add a number to a date.
    instant = {"$subtract": [EPOCH, {"$multiply": [-1, {"$floor": {"$divide": ["$$last", 2]}}]}]}
    return {"$let": {"vars": {"last": last}, "in": _if_present("$$last", instant, otherwise)}}


def _raised_to_mark(mark: int, only_if_running: bool) -> Expression:
    raised = {"$max": ["$context.last_updated", EPOCH + timedelta(milliseconds=mark // 2)]}
    return {"$cond": [{"$in": [mark, "$clock.marks"]}, raised, "$context.last_updated"]} if only_if_running else raised


# -- folding ----------------------------------------------------------------------------------------------------------


def _fold_before(now: datetime) -> int:
    return join_mark(now - FOLD_AFTER)


def _fold_stage(horizon: int) -> Mapping[str, Any]:
    """Keeps the marks from `horizon` on and the last turn before it; the runs that ended before go into `folded`."""
    wanted = {
        "$and": [{"$gt": [{"$size": "$clock.marks"}, FOLD_ABOVE]}, {"$gt": [{"$ifNull": ["$clock.fold_from", 0]}, 0]}]
    }
    kept_turns = {"$filter": _where("$clock.turns", {"$gte": ["$$m", "$clock.fold_from"]})}
    kept_marks = {"$filter": _where("$clock.marks", {"$gte": ["$$m", horizon]})}
    dropped = {
        "$subtract": [_performed("$clock.turns"), {"$let": {"vars": {"k": kept_turns}, "in": _performed("$$k")}}]
    }
    return {
        "$set": {
            "clock.marks": {"$cond": [wanted, {"$concatArrays": [["$clock.fold_from"], kept_marks]}, "$clock.marks"]},
            "clock.folded": {"$cond": [wanted, {"$add": ["$clock.folded", dropped]}, "$clock.folded"]},
            "clock.floor": {"$cond": [wanted, horizon, "$clock.floor"]},
            # Working fields of this update; none of them means anything to the next one.
            "clock.turns": "$$REMOVE",
            "clock.seconds": "$$REMOVE",
            "clock.fold_from": "$$REMOVE",
        }
    }


# -- small expressions ------------------------------------------------------------------------------------------------


def _is_join(mark: Expression) -> Expression:
    return {"$eq": [{"$mod": [mark, 2]}, 0]}


def _is_leave(mark: Expression) -> Expression:
    return {"$eq": [{"$mod": [mark, 2]}, 1]}


def _last(numbers: Expression) -> Expression:
    """The last of sorted numbers; 1 (a leave in 1970: not running) when there is none."""
    return {"$ifNull": [{"$arrayElemAt": [numbers, -1]}, 1]}


def _last_or_null(numbers: Expression) -> Expression:
    return {"$ifNull": [{"$arrayElemAt": [numbers, -1]}, None]}


def array_of(expression: Expression) -> Expression:
    """An array that holds only this. (Plain `[expression]` would do, but mongomock does not evaluate what is in there.)"""
    return {"$map": {"input": [0], "as": "only", "in": expression}}


def _where(array: Expression, condition: Expression) -> Expression:
    return {"input": array, "as": "m", "cond": condition}


def _if_present(value: Expression, then: Expression, otherwise: Expression) -> Expression:
    """`then` unless the value is missing or null."""
    return {"$cond": [{"$eq": [{"$ifNull": [value, None]}, None]}, otherwise, then]}
