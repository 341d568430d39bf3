"""What pages read. Every query is bounded in time and number, and served by an index; nothing here changes anything."""

from goalsvc.models.bounded import MOST_MILLISECONDS, collection, rows, total

__all__ = ["MOST_MILLISECONDS", "collection", "rows", "total"]
