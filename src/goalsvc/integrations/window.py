"""Which segments of a playlist hold the seconds that are wanted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from goalsvc.errors import ClipImpossibleError, NotYetError
from goalsvc.integrations.hls import MediaPlaylist, Segment

LEAST_SECONDS = 1.0
"""What is left of a stream that has ended is cut if it lasts at least this long."""

ROUNDING_SECONDS = 0.05
"""Playlists round durations: what is missing at the live edge may be no more than that, and is not waited for long."""

_SAME_SECONDS = 0.002
"""Playlists round times to milliseconds. A frame lasts longer than this."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Segments that can be joined byte by byte, and what to take of them."""

    segments: tuple[Segment, ...]
    skip_seconds: float
    """How much to leave out at their beginning."""
    duration_seconds: float
    begins_at: datetime
    """When the first second that is taken was recorded."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The segments that hold the wanted seconds, as far as they have been streamed."""

    runs: tuple[tuple[Segment, ...], ...]
    """Segments that can be joined byte by byte, in order."""
    skip_seconds: float
    """How much to leave out at the beginning of the first one."""
    duration_seconds: float
    """How long the clip is to be."""
    missing_seconds: float
    """How much of it has not been streamed yet; 0 or less when all has."""
    wait_seconds: float
    """When to look again."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments, in order."""
        return tuple(segment for run in self.runs for segment in run)

    @property
    def is_complete(self) -> bool:
        """Whether all the wanted seconds have been streamed, to the last frame."""
        return self.missing_seconds <= _SAME_SECONDS

    @property
    def is_nearly_complete(self) -> bool:
        """Whether at most what playlists round is missing: a frame or two, or nothing."""
        return self.missing_seconds <= ROUNDING_SECONDS

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What to take of each run."""
        pieces: list[Piece] = []
        skip, position, until = self.skip_seconds, 0.0, self.skip_seconds + self.duration_seconds
        for run in self.runs:
            length = sum(segment.duration_seconds for segment in run)
            begins_at = _beginning(run[0]) + timedelta(seconds=skip)
            pieces.append(Piece(run, skip, min(position + length, until) - position - skip, begins_at))
            position += length
            skip = 0.0
        return tuple(pieces)


def select(
    playlist: MediaPlaylist, begins_at: datetime, duration_seconds: float, latest_begin: datetime | None = None
) -> Selection:
    """The segments that hold `duration_seconds` of the stream from `begins_at` on, as far as they are there.

    Every segment must be dated (see `MediaPlaylist.dated`). Where the playlist begins later, because the stream did or
    because its window has moved on, the first second that there is takes the place of `begins_at`, if that is before
    `latest_begin` or within the wanted seconds; where seconds are lost in between (the streamer was cut off), those that
    follow are taken in their stead: the length is kept.

    Raises NotYetError while there is no segment at all, and ClipImpossibleError when all that is wanted was before the
    playlist's first second, or when a stream that has ended holds less than a second of it.
    """
    there = [(index, segment) for index, segment in enumerate(playlist.segments) if not segment.gap]
    if not there:
        if playlist.ended:
            raise ClipImpossibleError("the stream holds no seconds at all")
        raise NotYetError("the stream has no segment yet", max(playlist.target_duration_seconds, 0.5))
    first, edge = _beginning(there[0][1]), _ending(there[-1][1])
    latest = begins_at + timedelta(seconds=duration_seconds)
    if max(latest, latest_begin or latest) <= first:
        raise ClipImpossibleError(f"the stream does not reach back so far: it begins at {first.isoformat()}")
    start = max(begins_at, first)

    chosen: list[tuple[int, Segment]] = []
    missing, skip = duration_seconds, 0.0
    for index, segment in there:
        if missing <= _SAME_SECONDS:
            break
        if not chosen:
            if _ending(segment) <= start:
                continue
            skip = max(0.0, (start - _beginning(segment)).total_seconds())
            missing += skip
        chosen.append((index, segment))
        missing -= segment.duration_seconds
    if playlist.ended and duration_seconds - missing < min(LEAST_SECONDS, duration_seconds):
        raise ClipImpossibleError(f"the stream ended at {edge.isoformat()}, before these seconds")
    if not chosen:
        missing += max(0.0, (start - edge).total_seconds())
    wait = _seconds_until_streamed(missing, playlist.target_duration_seconds)
    return Selection(_runs_of(chosen), skip, duration_seconds, missing, wait)


def not_yet(selection: Selection) -> NotYetError:
    """The error that says how much is missing."""
    return NotYetError(
        f"{selection.missing_seconds:.1f} s of the clip have not been streamed yet", selection.wait_seconds
    )


def _runs_of(chosen: Sequence[tuple[int, Segment]]) -> tuple[tuple[Segment, ...], ...]:
    """Neighbours of the same run: after a gap the timestamps jump, so that what follows cannot be joined to it."""
    numbered = ((index - position, segment) for position, (index, segment) in enumerate(chosen))
    grouped = groupby(numbered, key=lambda item: (item[0], item[1].run))
    return tuple(tuple(segment for _, segment in members) for _, members in grouped)


def _seconds_until_streamed(missing: float, segment_seconds: float) -> float:
    """How long `missing` seconds take to appear, as whole segments, if the last one appeared this moment."""
    if segment_seconds <= 0:
        return max(missing, 0.5)
    return max(math.ceil(missing / segment_seconds) * segment_seconds, 0.5)


def _beginning(segment: Segment) -> datetime:
    if segment.begins_at is None:
        raise ValueError("the segment is not dated")
    return segment.begins_at


def _ending(segment: Segment) -> datetime:
    return _beginning(segment) + timedelta(seconds=segment.duration_seconds)
