"""No text makes the parser raise anything but PlaylistError, and its work grows with the length of the text, not faster."""

import contextlib
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goalsvc.integrations import hls, hls_text
from goalsvc.integrations.hls import PlaylistError, parse_playlist

URL = "https://cdn.example/live/index.m3u8?token=t"

TAGS = [
    "#EXTM3U",
    "#EXTINF:",
    "#EXT-X-TARGETDURATION:",
    "#EXT-X-MEDIA-SEQUENCE:",
    "#EXT-X-PROGRAM-DATE-TIME:",
    "#EXT-X-BYTERANGE:",
    "#EXT-X-DISCONTINUITY",
    "#EXT-X-MAP:",
    "#EXT-X-KEY:",
    "#EXT-X-GAP",
    "#EXT-X-ENDLIST",
    "#EXT-X-DEFINE:",
    "#EXT-X-MEDIA:",
    "#EXT-X-STREAM-INF:",
]
VALUES = st.one_of(
    st.text(max_size=40),
    st.floats().map(str),
    st.integers().map(str),
    st.datetimes().map(str),
    st.sampled_from(
        [
            'URI="a.mp4",BYTERANGE="10@0"',
            'METHOD=AES-128,URI="k",IV=0x10',
            'METHOD=SAMPLE-AES,KEYFORMAT="x"',
            'NAME="a",VALUE="{$a}"',
            'TYPE=AUDIO,GROUP-ID="g",DEFAULT=YES',
            "BANDWIDTH=1",
            "{$a}",
            "http://[",
        ]
    ),
)
LINES = st.one_of(st.builds(str.__add__, st.sampled_from(TAGS), VALUES), VALUES)
PLAYLISTS = st.lists(LINES, max_size=30).map(lambda lines: "\n".join(["#EXTM3U", *lines]))


@settings(max_examples=400, deadline=None)
@given(st.one_of(PLAYLISTS, st.text()))
def test_no_text_is_a_crash(text: str) -> None:
    try:
        playlist = parse_playlist(text, URL, {"a": "b"})
    except PlaylistError:
        return
    if isinstance(playlist, hls.MediaPlaylist):
        dates = [segment.begins_at is None for segment in playlist.segments]
        assert len(set(dates)) <= 1, "all segments have a date, or none has"
        assert all(0 <= segment.duration_seconds <= 3600 for segment in playlist.segments)


# -- steps -------------------------------------------------------------------------------------------------------------


class Reach(str):
    """A text that counts how many characters are looked at: what a search passes over, what a slice copies."""

    looked_at = 0

    def find(self, sought: str, start: Any = 0, end: Any = None) -> int:
        last = len(self) if end is None else min(end, len(self))
        found = str.find(self, sought, start, last)
        Reach.looked_at += max(0, (last if found < 0 else found) - start) + 1
        return found

    def __getitem__(self, index: Any) -> "Reach":
        part = Reach(str.__getitem__(self, index))
        Reach.looked_at += len(part)
        return part

    def partition(self, separator: str) -> Any:
        Reach.looked_at += len(self)
        return tuple(map(Reach, str.partition(self, separator)))

    def rpartition(self, separator: str) -> Any:
        Reach.looked_at += len(self)
        return tuple(map(Reach, str.rpartition(self, separator)))

    def startswith(self, *arguments: Any) -> bool:
        Reach.looked_at += 1
        return str.startswith(self, *arguments)


def looked_at(work: Callable[[str], Any], text: str) -> int:
    Reach.looked_at = 0
    work(Reach(text))
    return Reach.looked_at


def steps_of(work: Callable[[], Any]) -> int:
    """How many lines of the parser run."""
    steps = 0
    files = {hls.__file__, hls_text.__file__}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        if frame.f_code.co_filename not in files:
            return None
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize(
    "unit", ["A", "=", ",", '"', 'A="', "A=1,", '=",', "A,=", '"=', "{$", "{$a", "A={$a},", ',"=', "= , "]
)
def test_attributes_take_linear_time(unit: str) -> None:
    few, many = ("#EXT-X-MAP:" + unit * count for count in (1_000, 8_000))
    assert looked_at(hls_text.attributes_of, many) <= 10 * looked_at(hls_text.attributes_of, few) + 1_000


@pytest.mark.parametrize("unit", ["{$", "{$}", "{$a}", "{", "}", "{$b", "x{$" + "b" * 60])
@pytest.mark.parametrize("end", ["", "}"])
def test_substitution_takes_linear_time(unit: str, end: str) -> None:
    def work(text: str) -> list[str]:
        return list(hls_text.substitute([text], {"a": "1"}, 10_000_000))

    few, many = (unit * count + end for count in (1_000, 8_000))
    assert looked_at(work, many) <= 10 * looked_at(work, few) + 1_000


@pytest.mark.parametrize(
    "unit",
    [
        "#EXTINF:1,\na.ts\n",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n#EXTINF:1,\na.ts\n",
        '#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\na.ts\n',
        '#EXT-X-DEFINE:NAME="a",VALUE="b"\n#EXTINF:1,\n{$a}.ts\n',
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="g"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="g"\na\n',
        '#EXT-X-MAP:URI="x"\n',
        "#EXTINF:1,\n#EXT-X-BYTERANGE:5@0\na.ts\n",
        "\r\n",
    ],
)
def test_playlists_take_linear_time(unit: str) -> None:
    def steps(count: int) -> int:
        def work() -> None:
            with contextlib.suppress(PlaylistError):
                parse_playlist("#EXTM3U\n" + unit * count, URL)

        return steps_of(work)

    assert steps(1_600) <= 10 * steps(200) + 500
