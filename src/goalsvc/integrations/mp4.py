"""Writes mp4 files: one picture track in H.264, one sound track in AAC, the index first.

ffmpeg's own muxer gives a file one set of parameters; a clip whose ends were encoded anew needs those of the stream as well.
https://developer.apple.com/documentation/quicktime-file-format
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

TICKS = 90_000
"""Units of time in a second: of the picture, and of the file."""

AAC_SAMPLES = 1024
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_LANGUAGE = 0x55C4  # "und"
_MATRIX = b"".join(number.to_bytes(4) for number in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame: when it is shown, in ticks from the clip's beginning, and how many bytes it has in the file of frames."""

    shown_at: int
    size: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class PictureTrack:
    """Frames in the order in which they are decoded, one after the other in the file at `path`."""

    path: Path
    frames: Sequence[Picture]
    width: int
    height: int
    configuration: bytes
    """The decoder configuration record (`avcC`)."""


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """AAC frames, one after the other in the file at `path`, each behind an ADTS header of 7 bytes."""

    path: Path
    sizes: Sequence[int]
    """Of each frame with its header."""
    rate: int
    channels: int
    delay: int
    """How many samples the encoder put before the first one."""

    @classmethod
    def read(cls, path: Path, delay: int) -> "SoundTrack":
        """Reads the headers of an ADTS file; raises ValueError when it is not one."""
        content = path.read_bytes()
        if len(content) < 7:
            raise ValueError("no sound")
        sizes: list[int] = []
        at = 0
        while at + 7 <= len(content):
            size = (content[at + 3] & 3) << 11 | content[at + 4] << 3 | content[at + 5] >> 5
            if content[at] != 0xFF or size <= 7:
                raise ValueError("not ADTS")
            sizes.append(size)
            at += size
        rate = _AAC_RATES[content[2] >> 2 & 15]
        return cls(path, sizes, rate, (content[2] & 1) << 2 | content[3] >> 6, delay)


def write_mp4(path: Path, picture: PictureTrack, sound: SoundTrack | None, duration: int) -> None:
    """Writes the clip of `duration` ticks to `path`."""
    shown = sorted(frame.shown_at for frame in picture.frames)
    # Frames are decoded in another order than they are shown in: so much earlier as none is shown before it is decoded.
    delay = max(moment - frame.shown_at for moment, frame in zip(shown, picture.frames, strict=True))
    pictures = _Track(
        TICKS,
        [frame.size for frame in picture.frames],
        [later - earlier for earlier, later in zip(shown, [*shown[1:], max(duration, shown[-1] + 1)], strict=True)],
        [frame.shown_at - moment + delay for moment, frame in zip(shown, picture.frames, strict=True)],
        [number for number, frame in enumerate(picture.frames, 1) if frame.is_key],
        delay,
    )
    tracks = [pictures]
    if sound is not None:
        sizes = [size - 7 for size in sound.sizes]
        tracks.append(_Track(sound.rate, sizes, [AAC_SAMPLES] * len(sizes), None, None, sound.delay))
    chunks = list(_chunks(tracks))

    def movie(first_byte: int) -> bytes:
        offsets: list[list[int]] = [[] for _ in tracks]
        counts: list[list[int]] = [[] for _ in tracks]
        at = first_byte
        for track, begin, end in chunks:
            offsets[track].append(at)
            counts[track].append(end - begin)
            at += sum(tracks[track].sizes[begin:end])
        boxes = [_picture_box(picture, tracks[0], duration, offsets[0], counts[0])]
        if sound is not None:
            boxes.append(_sound_box(sound, tracks[1], duration, offsets[1], counts[1]))
        header = _full(
            b"mvhd", 0, 0, bytes(8), _u32(TICKS), _u32(duration), _u32(0x10000), _u16(0x100), bytes(10),
            _MATRIX, bytes(24), _u32(len(tracks) + 1),
        )  # fmt: skip
        return _box(b"moov", header, *boxes)

    kind = _box(b"ftyp", b"isom", _u32(512), b"isomiso2avc1mp41")
    size = sum(sum(track.sizes) for track in tracks)
    first_byte = len(kind) + len(movie(0)) + 8
    with path.open("wb") as file:
        file.write(kind + movie(first_byte) + _u32(size + 8) + b"mdat")
        with picture.path.open("rb") as frames:
            if sound is None:
                shutil.copyfileobj(frames, file)
            else:
                with sound.path.open("rb") as heard:
                    _copy(file, frames, heard, tracks, chunks)


@dataclass(frozen=True, slots=True)
class _Track:
    """The tables of one track."""

    scale: int
    sizes: Sequence[int]
    durations: Sequence[int]
    offsets: Sequence[int] | None
    """How much later than decoded each sample is shown."""
    keys: Sequence[int] | None
    delay: int
    """Where the presentation begins."""


def _chunks(tracks: Sequence[_Track]) -> Iterator[tuple[int, int, int]]:
    """Track, first and last sample of each chunk: about a second of each track in turn, so that a player need not seek."""
    at = [0] * len(tracks)
    time = [0.0] * len(tracks)
    second = 1
    while any(position < len(track.sizes) for position, track in zip(at, tracks, strict=True)):
        for number, track in enumerate(tracks):
            begin = at[number]
            while at[number] < len(track.sizes) and time[number] < second:
                time[number] += track.durations[at[number]] / track.scale
                at[number] += 1
            if at[number] > begin:
                yield number, begin, at[number]
        second += 1


def _copy(
    file: IO[bytes],
    frames: IO[bytes],
    heard: IO[bytes],
    tracks: Sequence[_Track],
    chunks: Iterable[tuple[int, int, int]],
) -> None:
    for number, begin, end in chunks:
        for size in tracks[number].sizes[begin:end]:
            if number == 0:
                file.write(frames.read(size))
            else:
                heard.read(7)  # the ADTS header
                file.write(heard.read(size))


# -- boxes ------------------------------------------------------------------------------------------------------------


def _u16(number: int) -> bytes:
    return number.to_bytes(2)


def _u32(number: int) -> bytes:
    return number.to_bytes(4)


def _box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return _u32(len(content) + 8) + name + content


def _full(name: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(name, bytes([version]) + flags.to_bytes(3), *parts)


def _runs(values: Sequence[int]) -> bytes:
    runs = [(len(list(members)), value) for value, members in groupby(values)]
    return _u32(len(runs)) + b"".join(_u32(count) + _u32(value) for count, value in runs)


def _picture_box(
    picture: PictureTrack, track: _Track, duration: int, offsets: Sequence[int], counts: Sequence[int]
) -> bytes:
    size = _u16(picture.width) + _u16(picture.height)
    entry = _box(
        b"avc1", bytes(6), _u16(1), bytes(16), size, _u32(0x480000), _u32(0x480000), bytes(4), _u16(1), bytes(32),
        _u16(24), b"\xff\xff", _box(b"avcC", picture.configuration), _box(b"pasp", _u32(1), _u32(1)),
    )  # fmt: skip
    shape = _u32(picture.width << 16) + _u32(picture.height << 16)
    media = _full(b"vmhd", 0, 1, bytes(8))
    return _track_box(1, track, duration, entry, media, b"vide", shape, 0, offsets, counts)


def _sound_box(sound: SoundTrack, track: _Track, duration: int, offsets: Sequence[int], counts: Sequence[int]) -> bytes:
    rate = _AAC_RATES.index(sound.rate)
    config = (2 << 11 | rate << 7 | sound.channels << 3).to_bytes(2)
    specific = b"\x05" + bytes([len(config)]) + config
    decoder = bytes([0x40, 0x15]) + bytes(3) + bytes(8) + specific
    decoder = b"\x04" + bytes([len(decoder)]) + decoder
    stream = bytes(3) + decoder + b"\x06\x01\x02"
    entry = _box(
        b"mp4a", bytes(6), _u16(1), bytes(8), _u16(sound.channels), _u16(16), bytes(4), _u32(sound.rate << 16),
        _full(b"esds", 0, 0, b"\x03" + bytes([len(stream)]) + stream),
    )  # fmt: skip
    return _track_box(
        2, track, duration, entry, _full(b"smhd", 0, 0, bytes(4)), b"soun", bytes(8), 0x100, offsets, counts
    )


def _track_box(
    number: int,
    track: _Track,
    duration: int,
    entry: bytes,
    media: bytes,
    handler: bytes,
    shape: bytes,
    volume: int,
    offsets: Sequence[int],
    counts: Sequence[int],
) -> bytes:
    header = _full(
        b"tkhd", 0, 3, bytes(8), _u32(number), bytes(4), _u32(duration), bytes(8), _u16(0), _u16(0), _u16(volume),
        bytes(2), _MATRIX, shape,
    )  # fmt: skip
    edit = _box(b"edts", _full(b"elst", 0, 0, _u32(1), _u32(duration), _u32(track.delay), _u32(0x10000)))
    length = sum(track.durations)
    media_header = _full(b"mdhd", 0, 0, bytes(8), _u32(track.scale), _u32(length), _u16(_LANGUAGE), bytes(2))
    kind = _full(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"\x00")
    source = _box(b"dinf", _full(b"dref", 0, 0, _u32(1), _full(b"url ", 0, 1)))
    changes = [(index, count) for index, count in enumerate(counts, 1) if index == 1 or count != counts[index - 2]]
    tables = [
        _full(b"stsd", 0, 0, _u32(1), entry),
        _full(b"stts", 0, 0, _runs(track.durations)),
        _full(b"stsc", 0, 0, _u32(len(changes)), *(_u32(at) + _u32(count) + _u32(1) for at, count in changes)),
        _full(b"stsz", 0, 0, _u32(0), _u32(len(track.sizes)), *map(_u32, track.sizes)),
        _full(b"stco", 0, 0, _u32(len(offsets)), *map(_u32, offsets)),
    ]
    if track.offsets is not None and any(track.offsets):
        tables.insert(2, _full(b"ctts", 0, 0, _runs(track.offsets)))
    if track.keys is not None:
        tables.insert(2, _full(b"stss", 0, 0, _u32(len(track.keys)), *map(_u32, track.keys)))
    information = _box(b"minf", media, source, _box(b"stbl", *tables))
    return _box(b"trak", header, edit, _box(b"mdia", media_header, kind, information))
