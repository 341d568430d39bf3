"""HLS playlists, as far as cutting a clip needs them: which segment holds which seconds of which day.

What a clip does not need is read leniently: a tag that cannot be read counts as absent. The time that parsing takes is
linear in the length of the text. https://datatracker.ietf.org/doc/html/rfc8216
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urljoin

from goalsvc.integrations.hls_text import (
    attributes_of,
    initialisation_vector,
    lines_of,
    name_of_encryption,
    substitute,
)


class PlaylistError(ValueError):
    """The text is not a playlist."""


@dataclass(frozen=True, slots=True)
class Key:
    """How a resource is encrypted: AES-128 with the key at `url`, unless `refusal` names a method that cannot be read."""

    url: str = ""
    iv: bytes = b""
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """Something to fetch: a whole file, or `length` bytes of it from `offset` on."""

    url: str
    offset: int = 0
    length: int | None = None
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the stream."""

    media: Resource
    duration_seconds: float
    begins_at: datetime | None
    """When its first sample was recorded; None when no segment of the playlist gives a date."""
    header: Resource | None
    """What a decoder must read first (fMP4's initialisation section)."""
    run: int
    """Segments of the same run can be joined byte by byte; a new one begins where encoding or timestamps change."""
    gap: bool = False
    """Whether the origin has lost this segment, or its byte range cannot be read."""
    number: int = 0
    """Its media sequence number, which identifies it in later versions of the playlist."""
    discontinuity: int | None = None
    """Its discontinuity sequence number, the same in all renditions; None when the playlist does not number them."""

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

    @property
    def is_dated(self) -> bool:
        """Whether any segment gives a date, so that all of them have one."""
        return bool(self.segments) and self.segments[0].begins_at is not None

    @property
    def seconds(self) -> float:
        """How long all segments last together."""
        return sum(segment.duration_seconds for segment in self.segments)

    def dated(self, live_edge: datetime) -> "MediaPlaylist":
        """This playlist with a date for every segment: where none is given, the last one ends at `live_edge`."""
        if not self.segments or self.is_dated:
            return self
        begins_at = live_edge - timedelta(seconds=self.seconds)
        return replace(self, segments=dated_on((replace(self.segments[0], begins_at=begins_at), *self.segments[1:])))


@dataclass(frozen=True, slots=True)
class Variant:
    """One quality of the stream; `audio_url` is the playlist of its sound, when that is apart from the picture."""

    url: str
    bandwidth: int
    audio_url: str | None = None
    longer_side: int = 0
    """Width or height in pixels, the larger one; 0 when it is not given."""
    sound_only: bool = False


@dataclass(frozen=True, slots=True)
class MasterPlaylist:
    """The qualities that a stream is offered in."""

    variants: tuple[Variant, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    """What media playlists may import by EXT-X-DEFINE."""

    @property
    def best(self) -> Variant:
        """The variant of the highest bandwidth."""
        return self.in_order()[0]

    def in_order(self, longer_side: int = 1_000_000) -> Sequence[Variant]:
        """The variants, the one to take first: with a picture, not larger than wanted, of the highest bandwidth."""

        def rank(variant: Variant) -> tuple[bool, bool, int]:
            fits = variant.longer_side <= longer_side
            return variant.sound_only, not fits, -variant.bandwidth if fits else variant.longer_side

        return sorted(self.variants, key=rank)


#: A substituted playlist is at most so much longer than its text: variables must not multiply it without end.
_SUBSTITUTED_CHARACTERS: Final = 1_000_000
#: Of a longer playlist the last segments are kept: a day of segments of 2 s.
_MOST_SEGMENTS: Final = 43_200
#: Longer addresses, multiplied by the number of segments, would fill the memory.
_ADDRESS_CHARACTERS: Final = 4_096


def parse_playlist(text: str, url: str, imported: Mapping[str, str] | None = None) -> MasterPlaylist | MediaPlaylist:
    """Reads a playlist that was fetched from `url`, to which its relative addresses relate.

    `imported` are the variables of the master playlist. Raises PlaylistError.
    """
    base = url.partition("?")[0]
    if len(base) > _ADDRESS_CHARACTERS:
        raise PlaylistError("has an address that is too long")
    lines = lines_of(text)
    if not lines or not lines[0].startswith("#EXTM3U"):
        raise PlaylistError("does not begin with #EXTM3U")
    variables = _variables(lines, url.partition("?")[2], imported or {})
    if variables:
        try:
            lines = list(substitute(lines, variables, _SUBSTITUTED_CHARACTERS))
        except OverflowError as error:
            raise PlaylistError("has variables that make it too long") from error
    if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return _parse_master(lines, base, variables)
    return _parse_media(lines, base)


def _joined(base: str, address: str) -> str:
    """The absolute address; empty for one that is not an address, or too long."""
    if len(address) > _ADDRESS_CHARACTERS:
        return ""
    try:
        return urljoin(base, address)
    except ValueError:  # "http://[", for example
        return ""


def _variables(lines: Iterable[str], query_text: str, imported: Mapping[str, str]) -> dict[str, str]:
    """What EXT-X-DEFINE tags define; a value may not refer to another variable."""
    found: dict[str, str] = {}
    query: dict[str, str] | None = None
    for line in lines:
        if not line.startswith("#EXT-X-DEFINE:"):
            continue
        attributes = attributes_of(line)
        if "NAME" in attributes:
            found[attributes["NAME"]] = attributes.get("VALUE", "")
        elif (name := attributes.get("IMPORT")) is not None and name in imported:
            found[name] = imported[name]
        elif (name := attributes.get("QUERYPARAM")) is not None:
            if query is None:
                query = dict(parse_qsl(query_text, keep_blank_values=True))
            if name in query:
                found[name] = query[name]
    return found


# -- master -----------------------------------------------------------------------------------------------------------


def _parse_master(lines: Sequence[str], url: str, variables: Mapping[str, str]) -> MasterPlaylist:
    sounds: dict[str, list[Mapping[str, str]]] = {}
    for line in lines:
        if line.startswith("#EXT-X-MEDIA:"):
            attributes = attributes_of(line)
            if attributes.get("TYPE") == "AUDIO":
                sounds.setdefault(attributes.get("GROUP-ID", ""), []).append(attributes)
    audio = {group: _rendition(renditions) for group, renditions in sounds.items()}
    variants: list[Variant] = []
    announced: Mapping[str, str] | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            announced = attributes_of(line)
        elif line and not line.startswith("#") and announced is not None:
            uri = audio.get(announced.get("AUDIO", ""))
            width, _, height = announced.get("RESOLUTION", "").lower().partition("x")
            variants.append(
                Variant(
                    _joined(url, line),
                    int(_number(announced.get("BANDWIDTH", ""), most=1e12) or 0),
                    _joined(url, uri) if uri else None,
                    int(max(_number(width, most=1e6) or 0, _number(height, most=1e6) or 0)),
                    _is_sound_only(announced),
                )
            )
            announced = None
    if not variants:
        raise PlaylistError("offers no variant")
    return MasterPlaylist(tuple(variants), variables)


def _rendition(renditions: Sequence[Mapping[str, str]]) -> str | None:
    """The address of the sound that a player would take; None when it is in the variant itself."""
    for attribute in ("DEFAULT", "AUTOSELECT"):
        for rendition in renditions:
            if rendition.get(attribute) == "YES":
                return rendition.get("URI")
    return renditions[0].get("URI")


def _is_sound_only(attributes: Mapping[str, str]) -> bool:
    codecs = [codec.strip() for codec in attributes.get("CODECS", "").split(",") if codec.strip()]
    return (
        bool(codecs)
        and "RESOLUTION" not in attributes
        and all(codec.startswith(("mp4a", "ac-3", "ec-3", "fLaC", "Opus", "opus")) for codec in codecs)
    )


# -- media ------------------------------------------------------------------------------------------------------------


def _parse_media(lines: Iterable[str], url: str) -> MediaPlaylist:
    reader = _MediaReader(url)
    for line in lines:
        if line.startswith("#"):
            reader.tag(line)
        elif line:
            reader.address(line)
    longest = max((segment.duration_seconds for segment in reader.segments), default=0.0)
    return MediaPlaylist(on_one_clock(tuple(reader.segments)), max(reader.target, longest), reader.ended)


class _MediaReader:
    """Reads a media playlist line by line."""

    def __init__(self, url: str) -> None:
        self.segments: deque[Segment] = deque(maxlen=_MOST_SEGMENTS)
        self.target = 0.0
        self.ended = False
        self._url = url
        self._number = 0
        self._run = 0
        self._discontinuity: int | None = None
        self._header: Resource | None = None
        self._keys: dict[str, Mapping[str, str]] = {}
        self._keys_read_at = -1
        # What belongs to the next segment only.
        self._duration: float | None = None
        self._begins_at: datetime | None = None
        self._byte_range: str | None = None
        self._gap = False

    def tag(self, line: str) -> None:
        """Reads a line that begins with `#`."""
        name, _, value = line.partition(":")
        match name:
            case "#EXTINF":
                seconds = _number(value.partition(",")[0], most=3600)
                self._duration = self.target if seconds is None else seconds
            case "#EXT-X-PROGRAM-DATE-TIME":
                self._begins_at = parse_instant(value)
            case "#EXT-X-BYTERANGE":
                self._byte_range = value
            case "#EXT-X-DISCONTINUITY":
                self._run += 1
                if self._discontinuity is not None:
                    self._discontinuity += 1
            case "#EXT-X-DISCONTINUITY-SEQUENCE":
                sequence = _number(value, most=2**53)
                self._discontinuity = None if sequence is None else int(sequence)
            case "#EXT-X-MAP":
                self._read_header(attributes_of(line))
            case "#EXT-X-KEY":
                self._read_key(attributes_of(line))
            case "#EXT-X-GAP":
                self._gap = True
            case "#EXT-X-MEDIA-SEQUENCE":
                self._number = int(_number(value, most=2**53) or 0)
            case "#EXT-X-TARGETDURATION":
                self.target = _number(value, most=3600) or 0.0
            case "#EXT-X-ENDLIST":
                self.ended = True

    def address(self, line: str) -> None:
        """Reads a line that names a segment."""
        if self._duration is None:
            raise PlaylistError("has a segment without a duration")
        url = _joined(self._url, line)
        before = self.segments[-1].media if self.segments else None
        media = Resource(url) if self._byte_range is None else _part(url, self._byte_range, before)
        gap = self._gap or media is None or not url
        media = replace(media or Resource(url), key=self._key())
        place = (self._header, self._run, gap, self._number, self._discontinuity)
        self.segments.append(Segment(media, self._duration, self._begins_at, *place))
        self._number += 1
        self._duration, self._begins_at, self._byte_range, self._gap = None, None, None, False

    def _read_header(self, attributes: Mapping[str, str]) -> None:
        uri = attributes.get("URI")
        if uri is None:
            return
        url, byte_range = _joined(self._url, uri), attributes.get("BYTERANGE")
        part = Resource(url) if byte_range is None else _part(url, byte_range, Resource(url, 0, 0))
        header = replace(part or Resource(url), key=self._key())
        if header != self._header and self.segments:
            self._run += 1
        self._header = header

    def _read_key(self, attributes: Mapping[str, str]) -> None:
        if attributes.get("METHOD", "NONE") == "NONE":
            self._keys = {}
            return
        if self._keys_read_at != self._number:  # tags in a row are one key, in several formats
            self._keys, self._keys_read_at = {}, self._number
        self._keys[attributes.get("KEYFORMAT", "identity")] = attributes

    def _key(self) -> Key | None:
        """How what follows is encrypted."""
        if not self._keys:
            return None
        identity = self._keys.get("identity")
        if identity is not None and identity.get("METHOD") == "AES-128" and "URI" in identity:
            iv = initialisation_vector(identity.get("IV")) or self._number.to_bytes(16)
            return Key(_joined(self._url, identity["URI"]), iv)
        return Key(refusal=name_of_encryption(self._keys))


def _part(url: str, byte_range: str, before: Resource | None) -> Resource | None:
    """What `length[@offset]` names; without an offset it follows the part of the same file before it. None: unreadable."""
    length_text, _, offset_text = byte_range.strip().partition("@")
    length, offset = _number(length_text, most=2**53), _number(offset_text, most=2**53)
    if not length:
        return None
    if offset is not None:
        return Resource(url, int(offset), int(length))
    if before is None or before.url != url or before.length is None:
        return None
    return Resource(url, before.offset + before.length, int(length))


def parse_instant(text: str) -> datetime | None:
    """An ISO 8601 date and time; without a zone it is taken for UTC. None for what is not a date of a livestream.

    The basic zone format `+0200`, which FFmpeg writes, is among what `fromisoformat` reads.
    """
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if not 1971 < instant.year < 9000:  # beyond, a time zone or a duration could leave the calendar
        return None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _number(text: str, *, most: float) -> float | None:
    """The number from 0 to `most` that the text is; None for any other text ("nan" and "inf" are floats, too)."""
    if len(text) > 40:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= most else None


# -- dates ------------------------------------------------------------------------------------------------------------

#: A date that differs from the end of the segment before it by more than this was set anew.
SET_SECONDS = 1.0


def on_one_clock(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Dates all segments by those that give a date; where the dates jump back, by the clock that was set last."""
    return dated_on(_dated_back(_of_the_last_clock(segments)))


def dated_on(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Dates each segment that gives no date by the end of the one before it."""
    return tuple(_on(segments))


def _on(segments: Iterable[Segment]) -> Iterator[Segment]:
    ends_at: datetime | None = None
    for segment in segments:
        dated = replace(segment, begins_at=ends_at) if segment.begins_at is None and ends_at is not None else segment
        ends_at = dated.ends_at
        yield dated


def _dated_back(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Dates the segments before the first that gives a date, counting back from it."""
    first = next((index for index, segment in enumerate(segments) if segment.begins_at is not None), 0)
    dated = list(segments)
    for index in range(first - 1, -1, -1):
        following = dated[index + 1].begins_at
        if following is not None:
            begins_at = following - timedelta(seconds=dated[index].duration_seconds)
            dated[index] = replace(dated[index], begins_at=begins_at)
    return tuple(dated)


def _of_the_last_clock(segments: Sequence[Segment]) -> Sequence[Segment]:
    """The segments without the dates of a clock that was set back: the clock that was set last is right for all."""
    valid_from = 0
    ends_at: datetime | None = None
    for index, segment in enumerate(segments):
        begins_at = segment.begins_at or ends_at
        overlap = (ends_at - segment.begins_at).total_seconds() if segment.begins_at and ends_at else 0.0
        if overlap > max(SET_SECONDS, segment.duration_seconds / 2):
            valid_from = index
        ends_at = begins_at and begins_at + timedelta(seconds=segment.duration_seconds)
    if valid_from == 0:
        return segments
    return [replace(segment, begins_at=None) for segment in segments[:valid_from]] + list(segments[valid_from:])
