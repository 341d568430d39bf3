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

_ROUNDING_SECONDS = 0.05
"""Playlists round durations; so much may be missing at the live edge without waiting another segment for it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Segments that can be joined byte by byte, and what to take of them."""

    segments: tuple[Segment, ...]
    skip_seconds: float
    """How much to leave out at their beginning."""
    duration_seconds: float
    begins_at: datetime
    """When the first second that is taken was recorded."""


def choose_pieces(playlist: MediaPlaylist, begins_at: datetime, duration_seconds: float) -> tuple[Piece, ...]:
    """The pieces that hold `duration_seconds` of the stream from `begins_at` on, in order.

    Every segment must be dated (see `MediaPlaylist.dated`). Where the playlist begins later, because the stream did or
    because its window has moved on, the first second that there is takes the place of `begins_at`; where seconds are
    lost in between (the streamer was cut off), those that follow are taken in their stead: the length is kept.

    Raises NotYetError while they have not all been streamed. Of a stream that has ended what is left is taken; raises
    ClipImpossibleError when that is less than a second, or when all that is wanted was before the playlist's first second.
    """
    there = [segment for segment in playlist.segments if not segment.gap]
    if not there:
        if playlist.ended:
            raise ClipImpossibleError("the stream holds no seconds at all")
        raise NotYetError("the stream holds no seconds yet", max(playlist.target_duration_seconds, 0.5))
    first, edge = _beginning(there[0]), _ending(there[-1])
    if begins_at + timedelta(seconds=duration_seconds) <= first:
        raise ClipImpossibleError(f"the stream does not reach back so far: it begins at {first.isoformat()}")
    start = max(begins_at, first)

    chosen: list[Segment] = []
    missing, skip = duration_seconds, 0.0
    for segment in there:
        if missing <= _ROUNDING_SECONDS:
            break
        if not chosen:
            if _ending(segment) <= start:
                continue
            skip = max(0.0, (start - _beginning(segment)).total_seconds())
            missing += skip
        chosen.append(segment)
        missing -= segment.duration_seconds
    pieces = _pieces_of(chosen, skip, skip + duration_seconds)

    if missing <= _ROUNDING_SECONDS:
        return pieces
    if playlist.ended:
        if duration_seconds - missing < LEAST_SECONDS:
            raise ClipImpossibleError(f"the stream ended at {edge.isoformat()}, before these seconds")
        return pieces
    missing += max(0.0, (start - edge).total_seconds())
    raise NotYetError(
        f"{missing:.1f} s of the clip have not been streamed yet",
        _seconds_until_streamed(missing, playlist.target_duration_seconds),
    )


def _pieces_of(segments: Sequence[Segment], skip: float, until: float) -> tuple[Piece, ...]:
    """The runs among `segments`, of which the seconds from `skip` to `until` are taken, counted from the first one's begin."""
    pieces: list[Piece] = []
    position = 0.0
    for _, members in groupby(segments, key=lambda segment: segment.run):
        run = tuple(members)
        length = sum(segment.duration_seconds for segment in run)
        begins_at = _beginning(run[0]) + timedelta(seconds=skip)
        pieces.append(Piece(run, skip, min(position + length, until) - position - skip, begins_at))
        position += length
        skip = 0.0
    return tuple(pieces)


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
