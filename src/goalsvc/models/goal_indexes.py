"""The indexes of goals: one for each way in which goalsvc asks for them."""

from pymongo import ASCENDING, IndexModel

from goalsvc.models.promise import promises_due

INDEXES: list[IndexModel] = [
    IndexModel([("conditions.session_id", ASCENDING), ("_id", ASCENDING), ("active", ASCENDING)], name="session_id"),
    IndexModel(
        [("active", ASCENDING), ("exp", ASCENDING)],
        name="active_exp",
        partialFilterExpression={"exp": {"$exists": True}},
    ),
    IndexModel(
        [("conditions.exclusive_to", ASCENDING), ("active", ASCENDING)],
        name="exclusive_to_active",
        partialFilterExpression={"conditions.exclusive_to": {"$exists": True}},
    ),
    IndexModel(
        [("metadata.user_id", ASCENDING), ("active", ASCENDING)],
        name="performer_active",
        partialFilterExpression={"_cls": "Goal.ExclusiveGoal"},
    ),
    IndexModel(
        [("begin_by", ASCENDING), ("active", ASCENDING)],
        name="begin_by_active",
        partialFilterExpression={"begin_by": {"$exists": True}},
    ),
    IndexModel([("metadata.user_id", ASCENDING), ("_id", ASCENDING)], name="listed_streamer"),
    IndexModel(
        [("metadata.user_id", ASCENDING), ("active", ASCENDING), ("_id", ASCENDING)],
        name="listed_streamer_active",
    ),
    IndexModel([("active", ASCENDING), ("_id", ASCENDING)], name="listed_active"),
    IndexModel([("_cls", ASCENDING), ("_id", ASCENDING)], name="listed_kind"),
    IndexModel([("metadata.viewer_id", ASCENDING), ("active", ASCENDING)], name="viewer_active", sparse=True),
    IndexModel([("created_at", ASCENDING), ("_id", ASCENDING)], name="listed_time", sparse=True),
    IndexModel([("metadata.$**", ASCENDING)], name="metadata"),
    promises_due(),
    IndexModel(
        [("clock.running", ASCENDING), ("clock.asked_at", ASCENDING)],
        name="running_asked",
        partialFilterExpression={"clock.running": True},
    ),
]
