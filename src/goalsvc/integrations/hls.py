"""HLS playlists, as far as cutting a clip needs them: which segment holds which seconds of which day.

https://datatracker.ietf.org/doc/html/rfc8216
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin


class PlaylistError(ValueError):
    """The text is not a playlist."""


class UnsupportedPlaylistError(PlaylistError):
    """The text is a playlist whose segments we cannot read, encrypted ones for example."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Something to fetch: a whole file, or `length` bytes of it from `offset` on."""

    url: str
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the stream."""

    media: Resource
    duration_seconds: float
    begins_at: datetime | None
    """When its first sample was recorded; None when no segment of the playlist tells a date."""
    header: Resource | None
    """What a decoder must read first (fMP4's initialisation section)."""
    run: int
    """Segments of the same run can be joined byte by byte; a new one begins where encoding or timestamps change."""
    gap: bool = False
    """Whether the origin says that it has lost this segment."""

    @property
    def ends_at(self) -> datetime | None:
        """When its last sample ends."""
        return self.begins_at and self.begins_at + timedelta(seconds=self.duration_seconds)


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """The segments that are there at this moment, oldest first."""

    segments: tuple[Segment, ...]
    target_duration_seconds: float
    ended: bool
    """Whether no segment will be added any more."""

    def dated(self, live_edge: datetime) -> "MediaPlaylist":
        """This playlist with a date for every segment: where none is told, the last one ends at `live_edge`."""
        if not self.segments or self.segments[0].begins_at is not None:
            return self
        begins_at = live_edge - timedelta(seconds=sum(segment.duration_seconds for segment in self.segments))
        return replace(self, segments=_dated_on((replace(self.segments[0], begins_at=begins_at), *self.segments[1:])))


@dataclass(frozen=True, slots=True)
class Variant:
    """One quality of the stream; `audio_url` is the playlist of its sound, when that is apart from the picture."""

    url: str
    bandwidth: int
    audio_url: str | None = None


@dataclass(frozen=True, slots=True)
class MasterPlaylist:
    """The qualities that a stream is offered in."""

    variants: tuple[Variant, ...]

    @property
    def best(self) -> Variant:
        """The variant of the highest bandwidth."""
        return max(self.variants, key=lambda variant: variant.bandwidth)


def parse_playlist(text: str, url: str) -> MasterPlaylist | MediaPlaylist:
    """Reads a playlist that was fetched from `url`, to which its relative addresses relate.

    Raises PlaylistError, or UnsupportedPlaylistError when the segments are encrypted.
    """
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    if not lines or lines[0] != "#EXTM3U":
        raise PlaylistError("does not begin with #EXTM3U")
    try:
        if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
            return _parse_master(lines, url)
        return _parse_media(lines, url)
    except (ValueError, KeyError, OverflowError) as error:
        if isinstance(error, PlaylistError):
            raise
        raise PlaylistError("has a tag that cannot be read") from error


def _parse_master(lines: list[str], url: str) -> MasterPlaylist:
    audio: dict[str, str] = {}
    for line in lines:
        if line.startswith("#EXT-X-MEDIA:"):
            attributes = _attributes(line)
            group = attributes.get("GROUP-ID", "")
            # Of a group's renditions the default one, if there is one, else the first that is named.
            wanted = group not in audio or attributes.get("DEFAULT") == "YES"
            if attributes.get("TYPE") == "AUDIO" and "URI" in attributes and wanted:
                audio[group] = urljoin(url, attributes["URI"])
    variants: list[Variant] = []
    announced: Mapping[str, str] | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            announced = _attributes(line)
        elif line and not line.startswith("#") and announced is not None:
            bandwidth = int(announced.get("BANDWIDTH", 0))
            variants.append(Variant(urljoin(url, line), bandwidth, audio.get(announced.get("AUDIO", ""))))
            announced = None
    if not variants:
        raise PlaylistError("offers no variant")
    return MasterPlaylist(tuple(variants))


def _parse_media(lines: list[str], url: str) -> MediaPlaylist:
    segments: list[Segment] = []
    target = 0.0
    ended = False
    duration: float | None = None
    begins_at: datetime | None = None
    byte_range: str | None = None
    header: Resource | None = None
    gap = False
    run = 0

    for line in lines:
        tag, _, value = line.partition(":")
        match tag:
            case "#EXTINF":
                duration = _seconds(value.partition(",")[0])
            case "#EXT-X-PROGRAM-DATE-TIME":
                begins_at = parse_instant(value)
            case "#EXT-X-BYTERANGE":
                byte_range = value
            case "#EXT-X-DISCONTINUITY":
                run += 1
            case "#EXT-X-MAP":
                header = _header(value, url)
                run += 1
            case "#EXT-X-KEY":
                if _attributes(line).get("METHOD") != "NONE":
                    raise UnsupportedPlaylistError("the stream is encrypted")
            case "#EXT-X-GAP":
                gap = True
            case "#EXT-X-TARGETDURATION":
                target = _seconds(value)
            case "#EXT-X-ENDLIST":
                ended = True
            case _ if line and not line.startswith("#"):
                if duration is None:
                    raise PlaylistError("has a segment without a duration")
                before = segments[-1].media if segments else None
                media = _resource(urljoin(url, line), byte_range, before)
                segments.append(Segment(media, duration, begins_at, header, run, gap))
                duration, begins_at, byte_range, gap = None, None, None, False
    longest = max((segment.duration_seconds for segment in segments), default=0.0)
    return MediaPlaylist(_dated_on(_dated_back(tuple(segments))), max(target, longest), ended)


def parse_instant(text: str) -> datetime:
    """An ISO 8601 date and time; without a zone it is taken for UTC. Raises ValueError.

    The basic zone format `+0200`, which FFmpeg writes, is among what `fromisoformat` reads.
    """
    instant = datetime.fromisoformat(text.strip())
    if not 1970 < instant.year < 9000:  # beyond, a time zone or a duration could leave the calendar
        raise ValueError("is no date of a livestream")
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 3600:  # "nan" and "inf" are floats, too
        raise ValueError("is no duration of a segment")
    return seconds


def _dated_on(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Dates each segment that tells no date by the end of the one before it."""
    dated: list[Segment] = []
    for segment in segments:
        if segment.begins_at is None and dated and dated[-1].ends_at is not None:
            segment = replace(segment, begins_at=dated[-1].ends_at)
        dated.append(segment)
    return tuple(dated)


def _dated_back(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Dates the segments before the first that tells a date, counting back from it."""
    first = next((index for index, segment in enumerate(segments) if segment.begins_at is not None), 0)
    dated = list(segments)
    for index in range(first - 1, -1, -1):
        following = dated[index + 1].begins_at
        if following is not None:
            begins_at = following - timedelta(seconds=dated[index].duration_seconds)
            dated[index] = replace(dated[index], begins_at=begins_at)
    return tuple(dated)


def _resource(url: str, byte_range: str | None, before: Resource | None) -> Resource:
    """What `#EXT-X-BYTERANGE:length[@offset]` names; without an offset it follows the part of the same file before it."""
    if byte_range is None:
        return Resource(url)
    length, _, offset = byte_range.partition("@")
    if offset:
        return Resource(url, int(offset), int(length))
    if before is None or before.url != url or before.length is None:
        raise PlaylistError("has a byte range without a beginning")
    return Resource(url, before.offset + before.length, int(length))


def _header(value: str, url: str) -> Resource:
    attributes = _attributes(f":{value}")
    length, _, offset = attributes.get("BYTERANGE", "").partition("@")
    return Resource(urljoin(url, attributes["URI"]), int(offset or 0), int(length) if length else None)


_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')


def _attributes(line: str) -> dict[str, str]:
    """The attribute list behind a tag's colon, values without their quotes."""

    def pairs() -> Iterator[tuple[str, str]]:
        for name, value in _ATTRIBUTE.findall(line.partition(":")[2]):
            yield name, value.strip('"')

    return dict(pairs())
