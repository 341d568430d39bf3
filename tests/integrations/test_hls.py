"""Reading playlists, and finding the wanted seconds in them."""

from datetime import UTC, datetime, timedelta

import pytest

from goalsvc.errors import ClipImpossibleError, NotYetError
from goalsvc.integrations.hls import (
    Key,
    MasterPlaylist,
    MediaPlaylist,
    PlaylistError,
    Resource,
    Segment,
    Variant,
    parse_playlist,
)
from goalsvc.integrations.window import Piece, not_yet, select

URL = "https://cdn.example/live/one/index.m3u8?token=t"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def media(*lines: str) -> MediaPlaylist:
    playlist = parse_playlist("\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines]), URL)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class TestMedia:
    def test_segments(self) -> None:
        playlist = media(
            "#EXT-X-MEDIA-SEQUENCE:7",
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:00.000Z",
            "#EXTINF:2.000,a title, with a comma",
            "seg-7.ts",
            "",
            "# a comment",
            "#EXTINF:1.5,",
            "/other/seg-8.ts?x=1",
            "#EXTINF:2",
            "https://far.example/seg-9.ts",
        )
        assert [(segment.media.url, segment.begins_at) for segment in playlist.segments] == [
            ("https://cdn.example/live/one/seg-7.ts", NOON),
            ("https://cdn.example/other/seg-8.ts?x=1", after(2)),
            ("https://far.example/seg-9.ts", after(3.5)),
        ]
        assert (playlist.target_duration_seconds, playlist.ended) == (2.0, False)

    def test_windows_line_ends_and_a_byte_order_mark(self) -> None:
        playlist = parse_playlist("\ufeff#EXTM3U\r\n#EXTINF:2,\r\nseg.ts\r\n#EXT-X-ENDLIST\r\n", URL)
        assert isinstance(playlist, MediaPlaylist)
        assert (len(playlist.segments), playlist.ended) == (1, True)

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("2026-01-01T12:00:00Z", NOON),
            ("2026-01-01T12:00:00.250Z", after(0.25)),
            ("2026-01-01T12:00:00.123456789Z", NOON.replace(microsecond=123456)),
            ("2026-01-01T14:00:00+02:00", NOON),
            ("2026-01-01T14:00:00.000+0200", NOON),
            ("2026-01-01T07:30:00-04:30", NOON),
            ("2026-01-01T12:00:00", NOON),
        ],
    )
    def test_dates(self, written: str, meant: datetime) -> None:
        playlist = media(f"#EXT-X-PROGRAM-DATE-TIME:{written}", "#EXTINF:2,", "seg.ts")
        assert playlist.segments[0].begins_at == meant

    def test_a_date_that_comes_late_dates_what_was_before(self) -> None:
        playlist = media(
            *("#EXTINF:2,", "a.ts", "#EXTINF:3,", "b.ts"),
            *("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:05Z", "#EXTINF:2,", "c.ts", "#EXTINF:2,", "d.ts"),
        )
        assert [segment.begins_at for segment in playlist.segments] == [NOON, after(2), after(5), after(7)]

    def test_no_date_at_all_counts_back_from_the_live_edge(self) -> None:
        playlist = media("#EXTINF:2,", "a.ts", "#EXTINF:3,", "b.ts")
        assert [segment.begins_at for segment in playlist.segments] == [None, None]
        assert [segment.begins_at for segment in playlist.dated(after(5)).segments] == [NOON, after(2)]

    def test_dates_that_are_told_are_kept(self) -> None:
        playlist = media("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:00Z", "#EXTINF:2,", "a.ts")
        assert playlist.dated(after(99)) == playlist

    def test_runs(self) -> None:
        playlist = media(
            *('#EXT-X-MAP:URI="init-1.mp4"', "#EXTINF:2,", "a.m4s", "#EXTINF:2,", "b.m4s"),
            *("#EXT-X-DISCONTINUITY", '#EXT-X-MAP:URI="init-2.mp4",BYTERANGE="600@20"', "#EXTINF:2,", "c.m4s"),
            *("#EXT-X-DISCONTINUITY", "#EXTINF:2,", "d.m4s"),
        )
        runs = [segment.run for segment in playlist.segments]
        assert runs[0] == runs[1]
        assert len(set(runs)) == 3
        assert [segment.header for segment in playlist.segments] == [
            Resource("https://cdn.example/live/one/init-1.mp4"),
            Resource("https://cdn.example/live/one/init-1.mp4"),
            Resource("https://cdn.example/live/one/init-2.mp4", 20, 600),
            Resource("https://cdn.example/live/one/init-2.mp4", 20, 600),
        ]

    def test_byte_ranges(self) -> None:
        playlist = media(
            *("#EXTINF:2,", "#EXT-X-BYTERANGE:100@50", "all.ts"),
            *("#EXTINF:2,", "#EXT-X-BYTERANGE:30", "all.ts"),
            *("#EXTINF:2,", "#EXT-X-BYTERANGE:9@0", "next.ts"),
        )
        assert [(segment.media.offset, segment.media.length) for segment in playlist.segments] == [
            (50, 100),
            (150, 30),
            (0, 9),
        ]

    def test_gaps(self) -> None:
        playlist = media("#EXTINF:2,", "#EXT-X-GAP", "a.ts", "#EXTINF:2,", "b.ts")
        assert [segment.gap for segment in playlist.segments] == [True, False]

    def test_segments_longer_than_announced(self) -> None:
        assert media("#EXTINF:6.2,", "a.ts").target_duration_seconds == 6.2

    def test_no_segments_yet(self) -> None:
        assert media().segments == ()

    def test_a_key_and_its_vector(self) -> None:
        playlist = media(
            *("#EXT-X-MEDIA-SEQUENCE:7", '#EXT-X-KEY:METHOD=AES-128,URI="key.bin"', "#EXTINF:2,", "a.ts"),
            *('#EXT-X-KEY:METHOD=AES-128,URI="key.bin",IV=0x0000000000000000000000000000ABCD', "#EXTINF:2,", "b.ts"),
            *("#EXT-X-KEY:METHOD=NONE", "#EXTINF:2,", "c.ts"),
        )
        key = "https://cdn.example/live/one/key.bin"
        assert [segment.media.key for segment in playlist.segments] == [
            Key(key, (7).to_bytes(16)),
            Key(key, 0xABCD.to_bytes(16)),
            None,
        ]

    @pytest.mark.parametrize(
        ("tag", "named"),
        [
            ('METHOD=SAMPLE-AES,URI="key.bin"', "SAMPLE-AES"),
            ('METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery"', "SAMPLE-AES (FairPlay)"),
            (
                'METHOD=SAMPLE-AES-CTR,URI="data:",KEYFORMAT="urn:uuid:EDEF8BA9-79D6-4ACE-A3C8-27DCD51D21ED"',
                "SAMPLE-AES-CTR (Widevine)",
            ),
        ],
    )
    def test_what_cannot_be_decrypted_is_named(self, tag: str, named: str) -> None:
        (segment,) = media(f"#EXT-X-KEY:{tag}", "#EXTINF:2,", "a.ts").segments
        assert segment.media.key == Key(refusal=named)

    def test_expressly_not_encrypted(self) -> None:
        assert len(media("#EXT-X-KEY:METHOD=NONE", "#EXTINF:2,", "a.ts").segments) == 1

    @pytest.mark.parametrize(
        "text",
        ["", "<html>not found</html>", "#EXTINF:2,\na.ts", "#EXTM3U\na.ts", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1"],
    )
    def test_what_is_not_a_playlist(self, text: str) -> None:
        with pytest.raises(PlaylistError):
            parse_playlist(text, URL)


class TestLeniency:
    @pytest.mark.parametrize(
        "date", ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "yesterday", "", "2026-13-01T00:00:00Z"]
    )
    def test_a_date_that_cannot_be_meant_is_absent(self, date: str) -> None:
        playlist = media(
            *(f"#EXT-X-PROGRAM-DATE-TIME:{date}", "#EXTINF:2,", "a.ts"),
            *("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:02Z", "#EXTINF:2,", "b.ts"),
        )
        assert [segment.begins_at for segment in playlist.segments] == [NOON, after(2)]

    @pytest.mark.parametrize("seconds", ["two", "nan", "inf", "-2", "1e9", ""])
    def test_a_duration_that_cannot_be_read_is_the_target(self, seconds: str) -> None:
        assert media(f"#EXTINF:{seconds},", "a.ts").segments[0].duration_seconds == 2.0

    @pytest.mark.parametrize("target", ["NaN", "inf", "-1", "", "six"])
    def test_a_target_that_cannot_be_read(self, target: str) -> None:
        playlist = parse_playlist(f"#EXTM3U\n#EXT-X-TARGETDURATION:{target}\n#EXTINF:4,\na.ts", URL)
        assert isinstance(playlist, MediaPlaylist)
        assert playlist.target_duration_seconds == 4.0

    @pytest.mark.parametrize("byte_range", ["10", "x@y", "", "-1@0", "0@5"])
    def test_a_byte_range_that_cannot_be_read_is_a_gap(self, byte_range: str) -> None:
        playlist = media("#EXTINF:2,", f"#EXT-X-BYTERANGE:{byte_range}", "a.ts", "#EXTINF:2,", "b.ts")
        assert [segment.gap for segment in playlist.segments] == [True, False]

    @pytest.mark.parametrize("bandwidth", ["fast", "nan", "", "-5"])
    def test_a_bandwidth_that_cannot_be_read(self, bandwidth: str) -> None:
        text = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=9.5\nb.m3u8"
        playlist = parse_playlist(text, URL)
        assert isinstance(playlist, MasterPlaylist)
        assert [variant.bandwidth for variant in playlist.in_order()] == [9, 0]

    @pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c"])
    def test_only_cr_and_lf_end_lines(self, separator: str) -> None:
        playlist = media(f"#EXTINF:2,a{separator}title", "a.ts")
        assert len(playlist.segments) == 1

    def test_carriage_returns_alone(self) -> None:
        playlist = parse_playlist("#EXTM3U\r#EXTINF:2,\ra.ts\r", URL)
        assert isinstance(playlist, MediaPlaylist)
        assert len(playlist.segments) == 1

    def test_a_clock_that_was_set_back(self) -> None:
        """The hour before has the dates of a clock that was wrong; the clock that was set last dates it anew."""
        playlist = media(
            *("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T13:00:00Z", "#EXTINF:2,", "a.ts", "#EXTINF:2,", "b.ts"),
            *("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:04Z", "#EXTINF:2,", "c.ts", "#EXTINF:2,", "d.ts"),
        )
        assert [segment.begins_at for segment in playlist.segments] == [NOON, after(2), after(4), after(6)]


class TestVariables:
    def test_defined_imported_and_from_the_address(self) -> None:
        playlist = parse_playlist(
            "#EXTM3U\n"
            '#EXT-X-DEFINE:NAME="path",VALUE="a/b"\n#EXT-X-DEFINE:IMPORT="host"\n#EXT-X-DEFINE:QUERYPARAM="token"\n'
            '#EXT-X-MAP:URI="{$path}/init.mp4"\n#EXTINF:2,\nhttps://{$host}/{$path}/{$unknown}.m4s?t={$token}',
            URL,
            {"host": "far.example"},
        )
        assert isinstance(playlist, MediaPlaylist)
        (segment,) = playlist.segments
        assert segment.media.url == "https://far.example/a/b/{$unknown}.m4s?t=t"
        assert segment.header == Resource("https://cdn.example/live/one/a/b/init.mp4")

    def test_a_master_playlist_hands_them_on(self) -> None:
        playlist = parse_playlist(
            '#EXTM3U\n#EXT-X-DEFINE:NAME="q",VALUE="high"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$q}.m3u8', URL
        )
        assert isinstance(playlist, MasterPlaylist)
        assert playlist.variants[0].url == "https://cdn.example/live/one/high.m3u8"
        assert playlist.variables == {"q": "high"}

    def test_they_cannot_multiply_without_end(self) -> None:
        lines = ['#EXT-X-DEFINE:NAME="v",VALUE="' + "x" * 10_000 + '"', *(["#EXTINF:2,", "{$v}" * 100] * 100)]
        with pytest.raises(PlaylistError, match="too long"):
            media(*lines)


class TestMaster:
    def test_the_best_variant(self) -> None:
        playlist = parse_playlist(
            "#EXTM3U\n"
            '#EXT-X-STREAM-INF:BANDWIDTH=800000,CODECS="avc1.4d401e,mp4a.40.2",RESOLUTION=640x360\nlow/index.m3u8\n'
            "#EXT-X-STREAM-INF:RESOLUTION=1280x720,BANDWIDTH=2400000\n../high/index.m3u8\n"
            "#EXT-X-STREAM-INF:BANDWIDTH=1200000\nmid/index.m3u8\n",
            URL,
        )
        assert isinstance(playlist, MasterPlaylist)
        assert len(playlist.variants) == 3
        assert playlist.best == Variant("https://cdn.example/live/high/index.m3u8", 2400000, longer_side=1280)

    def test_sound_apart(self) -> None:
        playlist = parse_playlist(
            "#EXTM3U\n"
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",URI="en.m3u8"\n'
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="de, at",DEFAULT=YES,URI="de.m3u8"\n'
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="b",NAME="muxed",DEFAULT=YES\n'
            '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="a",NAME="s",URI="s.m3u8"\n'
            '#EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO="a"\nhigh.m3u8\n'
            '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="b"\nlow.m3u8\n',
            URL,
        )
        assert isinstance(playlist, MasterPlaylist)
        sounds = [variant.audio_url for variant in playlist.variants]
        assert sounds == ["https://cdn.example/live/one/de.m3u8", None]

    def test_a_default_rendition_without_an_address_is_in_the_variant(self) -> None:
        playlist = parse_playlist(
            "#EXTM3U\n"
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="commentary",URI="commentary.m3u8"\n'
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="main",DEFAULT=YES\n'
            '#EXT-X-STREAM-INF:BANDWIDTH=2,AUDIO="a"\nhigh.m3u8\n',
            URL,
        )
        assert isinstance(playlist, MasterPlaylist)
        assert playlist.best.audio_url is None

    def test_the_order_in_which_variants_are_taken(self) -> None:
        playlist = parse_playlist(
            "#EXTM3U\n"
            '#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"\nsound\n'
            "#EXT-X-STREAM-INF:BANDWIDTH=9000000,RESOLUTION=3840x2160\n2160\n"
            "#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=640x360\n360\n"
            "#EXT-X-STREAM-INF:BANDWIDTH=5000000,RESOLUTION=1080x1920\n1080\n",
            URL,
        )
        assert isinstance(playlist, MasterPlaylist)
        assert [variant.url[-4:] for variant in playlist.in_order(1920)] == ["1080", "/360", "2160", "ound"]


def stream(count: int, *, ended: bool = False, begins: float = 0, run: int = 0, gap: bool = False) -> MediaPlaylist:
    """`count` segments of 2 s."""
    segments = [
        Segment(Resource(f"{begins:g}-{number}"), 2.0, after(begins + 2 * number), None, run, gap)
        for number in range(count)
    ]
    return MediaPlaylist(tuple(segments), 2.0, ended)


def joined(*playlists: MediaPlaylist, ended: bool = False) -> MediaPlaylist:
    return MediaPlaylist(tuple(segment for playlist in playlists for segment in playlist.segments), 2.0, ended)


def choose_pieces(
    playlist: MediaPlaylist, begins_at: datetime, duration_seconds: float, latest_begin: datetime | None = None
) -> tuple[Piece, ...]:
    """What is selected, all of it; raises NotYetError while some is to come."""
    selection = select(playlist, begins_at, duration_seconds, latest_begin)
    if not selection.is_nearly_complete and not playlist.ended:
        raise not_yet(selection)
    return selection.pieces


class TestWindow:
    def test_just_the_segments_that_are_needed(self) -> None:
        (piece,) = choose_pieces(stream(10), after(4.5), 3)
        assert [segment.media.url for segment in piece.segments] == ["0-2", "0-3"]
        assert (piece.skip_seconds, piece.duration_seconds, piece.begins_at) == (0.5, 3.0, after(4.5))

    def test_from_the_first_to_the_last_second(self) -> None:
        (piece,) = choose_pieces(stream(5), NOON, 10)
        assert (len(piece.segments), piece.skip_seconds, piece.duration_seconds) == (5, 0.0, 10.0)

    @pytest.mark.parametrize(
        ("begins", "duration", "wait"), [(4, 7, 2), (4, 8, 2), (4, 8.5, 4), (9, 3, 2), (10, 3, 4), (20, 30, 40)]
    )
    def test_not_yet(self, begins: float, duration: float, wait: float) -> None:
        with pytest.raises(NotYetError) as caught:
            choose_pieces(stream(5), after(begins), duration)
        assert caught.value.after_seconds == wait

    def test_a_rounding_is_not_waited_for(self) -> None:
        (piece,) = choose_pieces(stream(5), after(4), 6.04)
        assert piece.duration_seconds == pytest.approx(6.0)

    def test_nothing_streamed_yet(self) -> None:
        with pytest.raises(NotYetError) as caught:
            choose_pieces(stream(0), NOON, 3)
        assert caught.value.after_seconds == 2.0

    def test_begin_before_the_window_keeps_the_length(self) -> None:
        (piece,) = choose_pieces(stream(10), after(-2), 5)
        assert (piece.begins_at, piece.skip_seconds, piece.duration_seconds) == (NOON, 0.0, 5.0)

    def test_begin_before_the_window_waits_for_the_length(self) -> None:
        with pytest.raises(NotYetError):
            choose_pieces(stream(2), after(-2), 5)

    @pytest.mark.parametrize("begins", [-5, -400])
    def test_all_before_the_window(self, begins: float) -> None:
        with pytest.raises(ClipImpossibleError, match="reach back"):
            choose_pieces(stream(10), after(begins), 5)

    def test_the_rest_of_a_stream_that_has_ended(self) -> None:
        (piece,) = choose_pieces(stream(5, ended=True), after(8.5), 30)
        assert piece.duration_seconds == 1.5

    @pytest.mark.parametrize("begins", [9.1, 10, 60])
    def test_less_than_a_second_of_a_stream_that_has_ended(self, begins: float) -> None:
        with pytest.raises(ClipImpossibleError, match="ended"):
            choose_pieces(stream(5, ended=True), after(begins), 30)

    def test_a_stream_that_ended_before_it_began(self) -> None:
        with pytest.raises(ClipImpossibleError, match="no seconds at all"):
            choose_pieces(stream(0, ended=True), NOON, 30)

    def test_seconds_that_were_lost_are_made_up_for(self) -> None:
        interrupted = joined(stream(2), stream(5, begins=60, run=1))
        first, second = choose_pieces(interrupted, after(1), 8)
        assert (first.begins_at, first.skip_seconds, first.duration_seconds) == (after(1), 1.0, 3.0)
        assert (second.begins_at, second.skip_seconds, second.duration_seconds) == (after(60), 0.0, 5.0)

    def test_begin_among_the_lost_seconds(self) -> None:
        (piece,) = choose_pieces(joined(stream(2), stream(5, begins=60, run=1)), after(30), 4)
        assert piece.begins_at == after(60)

    def test_a_playlist_made_to_keep_us_busy(self) -> None:
        """200,000 segments that last no time at all."""
        idle = Segment(Resource("x"), 0.0, after(1), None, 0)
        playlist = MediaPlaylist((*stream(1).segments, *(idle for _ in range(200_000))), 2.0, False)
        with pytest.raises(NotYetError):
            choose_pieces(playlist, NOON, 30)

    def test_segments_that_the_origin_lost(self) -> None:
        with_gap = joined(stream(2), stream(1, begins=4, gap=True), stream(3, begins=6))
        pieces = choose_pieces(with_gap, after(2), 6)
        # Timestamps jump at the gap, so what is before it and what is after it are not joined byte by byte.
        assert [[segment.media.url for segment in piece.segments] for piece in pieces] == [["0-1"], ["6-0", "6-1"]]

    def test_a_window_that_moved_on_is_taken_if_it_still_holds_the_performance(self) -> None:
        with pytest.raises(ClipImpossibleError, match="reach back"):
            choose_pieces(stream(10), after(-60), 5, latest_begin=after(-10))
        (piece,) = choose_pieces(stream(10), after(-60), 5, latest_begin=after(10))
        assert (piece.begins_at, piece.duration_seconds) == (NOON, 5.0)
