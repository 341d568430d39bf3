"""A clip that was cut: which seconds it really holds."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """An mp4 file of a stream's seconds."""

    path: Path
    begins_at: datetime
    """When the first second that it shows was recorded."""
    duration_seconds: float
    dated_by: str
    """What its dates rest on: `program_date_time`, `last_modified` or `lag`."""
