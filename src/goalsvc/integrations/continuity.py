"""Whether a stream goes on without a break: what its dates say, and what its media's timestamps say."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from goalsvc.integrations.hls import SET_SECONDS, Segment

#: Timestamps of one stream wrap after 33 bits at 90 kHz.
_WRAP_SECONDS = 2**33 / 90_000


def unwrapped(apart_seconds: float) -> float:
    """The distance of two timestamps of one stream, of which one may have wrapped."""
    return apart_seconds - round(apart_seconds / _WRAP_SECONDS) * _WRAP_SECONDS


def timestamp_of_packed_audio(path: Path) -> float | None:
    """The timestamp in seconds that a segment of packed audio begins with, in an ID3 tag; None when there is none.

    https://datatracker.ietf.org/doc/html/rfc8216#section-3.4
    """
    owner = b"com.apple.streaming.transportStreamTimestamp\x00"
    with path.open("rb") as file:
        beginning = file.read(4096)
    if beginning[:3] != b"ID3" or (at := beginning.find(owner)) < 0:
        return None
    content = beginning[at + len(owner) : at + len(owner) + 8]
    return int.from_bytes(content) % 2**33 / 90_000 if len(content) == 8 else None


def seconds_between(earlier: Segment, later: Segment) -> float:
    """How much later than the end of the one a segment begins; 0 where they are not dated."""
    if earlier.ends_at is None or later.begins_at is None:
        return 0.0
    return (later.begins_at - earlier.ends_at).total_seconds()


def jumps(segments: Sequence[Segment], since: datetime) -> Iterator[int]:
    """The segments that begin after `since` and later than their dates let expect, the last one first.

    Only within a run: elsewhere the playlist itself says that something is missing.
    """
    for index in range(len(segments) - 1, 0, -1):
        earlier, later = segments[index - 1], segments[index]
        if later.begins_at is None or later.begins_at <= since:
            return
        follows = later.run == earlier.run and later.number == earlier.number + 1
        if follows and seconds_between(earlier, later) > max(SET_SECONDS, earlier.duration_seconds / 2):
            yield index
