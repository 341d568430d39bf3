"""Streams as today's providers make them: each clip shows the right frames, with the beeps at the right places."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.cutting import Frames, Shape
from goalsvc.integrations.gathering import Wish, timeshifted

from .conftest import Cutting
from .studio import NOON, Origin, Reel, Seen, Show, after, film, remux

#: How far a beep may be from where it belongs.
STEP = 0.04


def frames_from(seconds: float, length: float, rate: float = 25) -> list[int]:
    """The frames of those seconds."""
    return [number for number in range(10_000) if seconds - 0.002 <= number / rate < seconds + length - 0.002]


def assert_in_step(seen: Seen, begins: float) -> None:
    """Asserts that there is a beep wherever a second begins, and nowhere else."""
    wanted = [second - begins for second in range(int(begins), int(begins + seen.seconds) + 2)]
    wanted = [moment for moment in wanted if 0.1 < moment < seen.seconds - 0.1]
    heard = [beep for beep in seen.beeps if 0.1 < beep < seen.seconds - 0.1]
    assert heard == pytest.approx(wanted, abs=STEP)


class TestExactness:
    @pytest.mark.parametrize("begins", [0, 1, 1.2, 2.96, 5.52, 7.04])
    @pytest.mark.parametrize("seconds", [4, 6.48])
    async def test_first_and_last_frame(
        self, origin: Origin, cut: Cutting, plain: Reel, begins: float, seconds: float
    ) -> None:
        origin.clock.at = after(60)
        clip, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(begins), seconds)
        assert seen.numbers == frames_from(begins, seconds)
        assert seen.times == pytest.approx([number / 25 for number in range(len(seen.numbers))], abs=0.025)
        assert seen.seconds == pytest.approx(seconds, abs=0.05)
        assert (clip.begins_at, clip.duration_seconds) == (after(begins), seconds)
        assert_in_step(seen, begins)

    @pytest.mark.parametrize("now", [60, 8.2])
    @pytest.mark.parametrize("seconds", [5.03, 5.04])
    async def test_the_last_frame_is_the_first_of_a_segment(
        self, origin: Origin, cut: Cutting, plain: Reel, seconds: float, now: float
    ) -> None:
        """It is waited for, although playlists may be wrong by more than a frame's length."""
        origin.clock.at = after(now)
        clip, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(3), seconds)
        assert seen.numbers == frames_from(3, seconds)
        assert clip.duration_seconds == seconds
        assert origin.clock.slept <= 4

    async def test_a_last_frame_that_never_comes(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        """It is not waited for as long as seconds are."""
        origin.clock.at = after(60)
        _, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(55), 5.04)
        assert seen.numbers == frames_from(55, 5)
        assert origin.clock.slept < 10

    @pytest.mark.parametrize("begins", [2, 2.08, 2.96])
    async def test_most_is_copied(
        self, origin: Origin, cut: Cutting, plain: Reel, begins: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At most the first and the last group of pictures are encoded: 25 frames each."""
        made: list[Frames] = []

        def kept(path: Path, shape: Shape) -> Frames:
            made.append(Frames(path, shape))
            return made[-1]

        monkeypatch.setattr("goalsvc.integrations.media.Frames", kept)
        origin.clock.at = after(60)
        _, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(begins), 20)
        (frames,) = made
        assert frames.encoded < 60
        assert frames.copied == len(seen.numbers) - frames.encoded == 500 - frames.encoded

    async def test_nothing_of_earlier_seconds_is_in_the_file(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        """Earlier seconds may have been private: not even frames that no player would show are left."""
        origin.clock.at = after(60)
        _, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(10.6), 5)
        # `look` decodes every sample of the track, also those that an edit list would hide.
        assert min(seen.numbers) == 265
        assert len(seen.numbers) == 125

    @pytest.mark.parametrize("rate", ["30000/1001", "60000/1001", "10"])
    async def test_rates(self, origin: Origin, cut: Cutting, tmp_path: Path, rate: str) -> None:
        reel = film(tmp_path, 12, rate=rate, gop=30)
        origin.clock.at = after(13)
        numerator, _, denominator = rate.partition("/")
        per_second = int(numerator) / int(denominator or 1)
        # Segments last until the next key frame: the playlist that ffmpeg wrote says how long each is.
        made = (tmp_path / "made.m3u8").read_text().splitlines()
        lines = [line for line in made if line.startswith("#EXTINF") or line.endswith(".ts")]
        url = origin.text("/live.m3u8", f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}", *lines, "#EXT-X-ENDLIST")
        origin.files |= {f"/{name}": reel.content(number) for number, name in enumerate(reel.segments)}
        _, seen = await cut(url, after(3.5), 5)
        first = seen.numbers[0] / per_second
        assert first == pytest.approx(3.5, abs=1.1 / per_second)
        assert seen.numbers == list(range(seen.numbers[0], seen.numbers[0] + len(seen.numbers)))
        assert len(seen.numbers) == pytest.approx(5 * per_second, abs=1.1)
        assert_in_step(seen, 3.5)

    async def test_fragmented_mp4(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        from .conftest import B_FRAMES

        reel = film(tmp_path, 12, coder=B_FRAMES, fmp4=True)
        origin.clock.at = after(20)
        _, seen = await cut(origin.add("/live.m3u8", Show(reel, "f/")), after(3.4), 6)
        assert seen.numbers == frames_from(3.4, 6)
        assert_in_step(seen, 3.4)

    @pytest.mark.parametrize(
        ("coder", "more"),
        [
            pytest.param(("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"), (), id="HEVC"),
            pytest.param(("-c:v", "libsvtav1", "-preset", "12"), (), id="AV1"),
            pytest.param(("-c:v", "libx264", "-preset", "ultrafast"), ("-ac", "6"), id="5.1"),
        ],
    )
    async def test_other_codecs(
        self, origin: Origin, cut: Cutting, tmp_path: Path, coder: Sequence[str], more: Sequence[str]
    ) -> None:
        reel = film(tmp_path, 12, coder=coder, more=more, fmp4=True)
        origin.clock.at = after(20)
        _, seen = await cut(origin.add("/live.m3u8", Show(reel, "a/")), after(3.4), 6)
        assert seen.numbers == frames_from(3.4, 6)
        assert_in_step(seen, 3.4)

    async def test_timestamps_that_wrap(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        """After 33 bits at 90 kHz they begin at 0 again: here in the middle of the clip."""
        reel = film(tmp_path, 12, more=("-output_ts_offset", f"{2**33 / 90_000 - 6:.3f}"))
        origin.clock.at = after(20)
        _, seen = await cut(origin.add("/live.m3u8", Show(reel, "a/")), after(3.4), 6)
        assert seen.numbers == frames_from(3.4, 6)
        assert_in_step(seen, 3.4)


class TestWindows:
    @pytest.mark.parametrize(("window", "rewind"), [(3, 0), (3, 3), (4, 5), (7, 10)])
    async def test_shorter_than_the_clip(
        self, origin: Origin, cut: Cutting, plain: Reel, window: int, rewind: int
    ) -> None:
        """The clip is promised when the show is over; its seconds are fetched as they appear."""
        origin.clock.at = after(21)
        url = origin.add("/live.m3u8", Show(plain, "a/", window=window))
        clip, seen = await cut(url, after(21 - rewind), 30, latest_begin=after(21))
        assert seen.numbers == frames_from(21 - rewind, 30)
        assert (clip.begins_at, clip.duration_seconds) == (after(21 - rewind), 30)
        assert_in_step(seen, 21 - rewind)

    async def test_of_seven_segments_of_one_second(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        reel = film(tmp_path, 30, segment=1)
        origin.clock.at = after(12)
        url = origin.add("/live.m3u8", Show(reel, "a/", window=7, lag=2))
        _, seen = await cut(url, after(6), 15, latest_begin=after(12))
        assert seen.numbers == frames_from(6, 15)

    async def test_shorter_than_the_rewind(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        """What the window holds of the performance is taken, and the clip says which seconds those are."""
        origin.clock.at = after(40)
        url = origin.add("/live.m3u8", Show(plain, "a/", window=3))
        clip, seen = await cut(url, after(5), 10, latest_begin=after(40))
        assert seen.numbers == frames_from(34, 10)
        assert (clip.begins_at, clip.duration_seconds) == (after(34), 10)

    async def test_the_performance_has_left_it(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(50)
        url = origin.add("/live.m3u8", Show(plain, "a/", window=3))
        with pytest.raises(ClipImpossibleError, match="reach back"):
            await cut(url, after(5), 10, latest_begin=after(40))

    async def test_a_stream_that_stops(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        """No end is announced and nothing comes any more: after two minutes what there is is cut."""
        origin.clock.at = after(58)
        clip, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/", window=5)), after(55), 30)
        assert seen.numbers == frames_from(55, 5)
        assert clip.duration_seconds == 5
        assert 60 < origin.clock.slept < 200

    async def test_an_encoder_that_begins_to_count_anew(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        """After a restart the media sequence begins at 0 again, with other segments."""
        first, second = film(tmp_path / "a", 12), film(tmp_path / "b", 20, first_second=12)
        origin.clock.at = after(8)
        before, then = Show(first, "a/", window=3), Show(second, "b/", begins_at=after(12), window=3)
        origin.shows |= {"/a.m3u8": before, "/b.m3u8": then}

        class Restarted(Show):
            def lines(self, now: datetime) -> list[str]:
                return (then if then.available(now) else before).lines(now)

        url = origin.add("/live.m3u8", Restarted(first, "none/"))
        _, seen = await cut(url, after(5), 14)
        assert seen.numbers == frames_from(5, 14)

    async def test_timeshift(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(50)
        live = origin.add("/live.m3u8", Show(plain, "a/", window=3))
        origin.add("/past.m3u8", Show(plain, "past/"))
        shifted = origin.url("/past.m3u8") + "?of={url}&from={start}&to={end}"
        clip, seen = await cut(live, after(5), 10, latest_begin=after(40), timeshift_url=shifted)
        assert seen.numbers == frames_from(5, 10)
        assert clip.begins_at == after(5)
        targets = [request.target for request in origin.stub.requests if request.path == "/past.m3u8"]
        assert f"of={live.replace(':', '%3A').replace('/', '%2F')}" in targets[0]
        assert "from=2026-01-01T12:00:05Z&to=2026-01-01T12:00:15Z" in targets[0]

    async def test_no_timeshift_where_the_window_suffices(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(50)
        live = origin.add("/live.m3u8", Show(plain, "a/"))
        _, seen = await cut(live, after(5), 4, timeshift_url=origin.url("/past.m3u8?{start}"))
        assert seen.numbers == frames_from(5, 4)
        assert "/past.m3u8" not in origin.fetched()

    async def test_a_timeshift_that_fails(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(50)
        live = origin.add("/live.m3u8", Show(plain, "a/", window=3))
        clip, _ = await cut(live, after(5), 4, latest_begin=after(49), timeshift_url=origin.url("/none.m3u8?{start}"))
        assert clip.begins_at == after(44)

    def test_the_address_stands_for_itself_at_the_beginning(self) -> None:
        wish = Wish("https://cdn.example/live.m3u8", after(0.5), 10, timeshift_url="{url}?start={start}&end={end}")
        assert timeshifted(wish) == (
            "https://cdn.example/live.m3u8?start=2026-01-01T12:00:00Z&end=2026-01-01T12:00:11Z"
        )


class TestDates:
    @pytest.mark.parametrize("lag_seconds", [0, 5])
    @pytest.mark.parametrize("lag", [0, 3, 8])
    async def test_by_last_modified(
        self, origin: Origin, cut: Cutting, plain: Reel, lag: int, lag_seconds: int
    ) -> None:
        """The file of a segment was written when it had been streamed; neither the stream's lag nor the setting counts."""
        origin.last_modified = True
        origin.clock.at = after(41.3)
        url = origin.add("/live.m3u8", Show(plain, "a/", dated=False, lag=lag))
        clip, seen = await cut(url, after(10), 6, lag_seconds=lag_seconds)
        assert seen.numbers[0] / 25 == pytest.approx(10, abs=1.0)  # Last-Modified has whole seconds
        assert clip.dated_by == "last_modified"

    @pytest.mark.parametrize("lag", [0, 3, 8])
    async def test_by_the_setting(self, origin: Origin, cut: Cutting, plain: Reel, lag: int) -> None:
        origin.clock.at = after(40 + lag)
        url = origin.add("/live.m3u8", Show(plain, "a/", dated=False, lag=lag))
        clip, seen = await cut(url, after(10), 6, lag_seconds=lag)
        assert seen.numbers == frames_from(10, 6)
        assert clip.dated_by == "lag"

    async def test_by_the_playlist(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(40)
        clip, _ = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(10), 2)
        assert clip.dated_by == "program_date_time"

    async def test_files_that_were_copied_later(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        """All written at once: their dates say nothing of the stream."""
        origin.clock.at = after(60)
        lines = [line for name in plain.segments for line in ("#EXTINF:2,", f"a/{name}")]
        url = origin.text("/live.m3u8", "#EXT-X-TARGETDURATION:2", *lines)
        origin.files |= {f"/a/{name}": plain.content(number) for number, name in enumerate(plain.segments)}
        clip, seen = await cut(url, after(20), 4)
        assert clip.dated_by == "lag"
        assert seen.numbers == frames_from(20, 4)

    async def test_a_clock_that_was_set_back(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        lines = []
        for number, name in enumerate(plain.segments[:20]):
            wrong = 3600 if number < 8 else 0
            lines += [f"#EXT-X-PROGRAM-DATE-TIME:{after(2 * number + wrong).isoformat()}", "#EXTINF:2,", f"a/{name}"]
        origin.shows["/unused"] = Show(plain, "a/")
        origin.clock.at = after(60)
        _, seen = await cut(origin.text("/live.m3u8", *lines), after(10), 8)
        assert seen.numbers == frames_from(10, 8)

    @pytest.mark.parametrize("ahead", [3600, 10])
    async def test_a_clock_that_is_set_back_while_it_is_watched(
        self, origin: Origin, cut: Cutting, plain: Reel, ahead: int
    ) -> None:
        """The window at first holds only dates that are still to come."""

        class Ahead(Show):
            def lines(self, now: datetime) -> list[str]:
                wrong = [
                    f"#EXT-X-PROGRAM-DATE-TIME:{after(2 * number).isoformat(timespec='milliseconds')}"
                    for number in range(12)
                ]
                shifted = {
                    line: f"#EXT-X-PROGRAM-DATE-TIME:{after(2 * number + ahead).isoformat()}"
                    for number, line in enumerate(wrong)
                }
                return [shifted.get(line, line) for line in super().lines(now)]

        origin.clock.at = after(21)
        clip, seen = await cut(origin.add("/live.m3u8", Ahead(plain, "a/", window=3)), after(17), 10)
        assert seen.numbers == frames_from(17, 10)
        assert (clip.begins_at, clip.dated_by) == (after(17), "program_date_time")

    async def test_a_clock_that_stays_ahead(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        """Its dates are not used: the setting says where the end is."""
        origin.clock.at = after(22)
        dates = {number: [f"#EXT-X-PROGRAM-DATE-TIME:{after(2 * number + 60).isoformat()}"] for number in range(30)}
        url = origin.add("/live.m3u8", Show(plain, "a/", window=4, dated=False, tags=dates))
        clip, seen = await cut(url, after(16), 10)
        assert seen.numbers == frames_from(16, 10)
        assert clip.dated_by == "lag"

    @pytest.mark.parametrize("behind", [5, 3600])
    @pytest.mark.parametrize("right_from", [4, 6, 8])
    async def test_a_clock_that_was_set_forward(
        self, origin: Origin, cut: Cutting, plain: Reel, right_from: int, behind: int
    ) -> None:
        """The media goes on meanwhile: no second is left out or shown as a still."""
        dates = set_forward(right_from, behind)
        origin.clock.at = after(41)
        url = origin.add("/live.m3u8", Show(plain, "a/", dated=False, tags=dates))
        clip, seen = await cut(url, after(10.4), 6)
        assert seen.numbers == frames_from(10.4, 6)
        assert clip.begins_at == after(10.4)
        assert_in_step(seen, 10.4)

    async def test_a_clock_that_is_set_forward_while_it_is_watched(
        self, origin: Origin, cut: Cutting, plain: Reel
    ) -> None:
        """What the window held, though by its dates too early, is in the clip."""
        dates = set_forward(13, 5)
        origin.clock.at = after(25)
        url = origin.add("/live.m3u8", Show(plain, "a/", window=4, dated=False, tags=dates))
        clip, seen = await cut(url, after(20), 10)
        assert seen.numbers == frames_from(20, 10)
        assert clip.begins_at == after(20)
        assert_in_step(seen, 20)

    async def test_a_clock_that_was_set_forward_with_sound_apart(
        self, origin: Origin, cut: Cutting, plain: Reel, tmp_path: Path
    ) -> None:
        dates = set_forward(6, 5)
        seen = await TestSound().apart(origin, cut, plain, tmp_path, dated=False, lag=0, tags=dates)
        assert_in_step(seen, 10.4)

    async def test_seconds_that_are_lost_without_a_word(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        """Dates and timestamps jump, and the playlist tells of no discontinuity: what follows comes at once, no still."""
        later = ("-output_ts_offset", "20")
        first, second = film(tmp_path / "a", 12), film(tmp_path / "b", 12, first_second=20, more=later)
        lines = []
        for begins, prefix, reel in ((0, "a", first), (20, "b", second)):
            for number, name in enumerate(reel.segments):
                lines += [f"#EXT-X-PROGRAM-DATE-TIME:{after(begins + 2 * number).isoformat()}", "#EXTINF:2,"]
                lines.append(f"{prefix}/{name}")
                origin.files[f"/{prefix}/{name}"] = reel.content(number)
        origin.clock.at = after(40)
        _, seen = await cut(origin.text("/live.m3u8", *lines), after(9), 8)
        assert seen.numbers == frames_from(9, 3) + frames_from(20, 5)
        gaps = [later - earlier for earlier, later in zip(seen.times, seen.times[1:], strict=False)]
        assert max(gaps) < 0.06


def set_forward(right_from: int, behind: float) -> dict[int, list[str]]:
    """A date for each segment of 2 s, of a clock that is behind until that segment."""
    return {
        number: [f"#EXT-X-PROGRAM-DATE-TIME:{after(2 * number - (behind if number < right_from else 0)).isoformat()}"]
        for number in range(30)
    }


class TestTrouble:
    async def test_a_lost_segment(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        """No still picture takes its place: what follows does."""
        origin.clock.at = after(40)
        origin.missing.add(f"/a/{plain.segments[6]}")
        clip, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(10), 6)
        assert seen.numbers == frames_from(10, 2) + frames_from(14, 4)
        gaps = [later - earlier for earlier, later in zip(seen.times, seen.times[1:], strict=False)]
        assert max(gaps) < 0.06
        assert clip.duration_seconds == 6

    async def test_a_gap_that_is_announced(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(40)
        url = origin.add("/live.m3u8", Show(plain, "a/", tags={6: ["#EXT-X-GAP"]}))
        _, seen = await cut(url, after(10), 6)
        assert seen.numbers == frames_from(10, 2) + frames_from(14, 4)
        assert f"/a/{plain.segments[6]}" not in origin.fetched()

    async def test_a_dead_variant(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(40)
        origin.add("/low.m3u8", Show(plain, "a/"))
        master = ["#EXT-X-STREAM-INF:BANDWIDTH=9", "high.m3u8", "#EXT-X-STREAM-INF:BANDWIDTH=1", "low.m3u8"]
        _, seen = await cut(origin.text("/live.m3u8", *master), after(10), 4)
        assert seen.numbers == frames_from(10, 4)

    async def test_a_variant_whose_segments_are_gone(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.clock.at = after(40)
        origin.add("/low.m3u8", Show(plain, "a/"))
        lines = [line for name in plain.segments for line in ("#EXTINF:2,", f"gone/{name}")]
        origin.text("/high.m3u8", f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}", *lines)
        master = ["#EXT-X-STREAM-INF:BANDWIDTH=9", "high.m3u8", "#EXT-X-STREAM-INF:BANDWIDTH=1", "low.m3u8"]
        _, seen = await cut(origin.text("/live.m3u8", *master), after(10), 4)
        assert seen.numbers == frames_from(10, 4)

    async def test_all_variants_are_dead(self, origin: Origin, cut: Cutting) -> None:
        master = ["#EXT-X-STREAM-INF:BANDWIDTH=9", "high.m3u8", "#EXT-X-STREAM-INF:BANDWIDTH=1", "low.m3u8"]
        with pytest.raises(ExternalServiceError, match="HTTP 404"):
            await cut(origin.text("/live.m3u8", *master), after(10), 4)

    async def test_a_segment_that_begins_without_a_key_frame(
        self, origin: Origin, cut: Cutting, tmp_path: Path
    ) -> None:
        """The segment before it is fetched as well; no still picture is shown, and nothing of it is in the clip."""
        reel = film(tmp_path, 16, gop=100, segment=2, more=("-hls_flags", "split_by_time"))
        origin.clock.at = after(20)
        url = origin.add("/live.m3u8", Show(reel, "a/"))
        _, seen = await cut(url, after(6.4), 4)
        assert len(set(seen.numbers)) == len(seen.numbers)
        assert seen.numbers[0] == pytest.approx(160, abs=2)
        assert seen.numbers == list(range(seen.numbers[0], seen.numbers[0] + len(seen.numbers)))


SECRET = bytes(range(16))


def encrypted(content: bytes, iv: bytes, secret: bytes = SECRET) -> bytes:
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    return encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()


class TestEncryption:
    def serve(self, origin: Origin, reel: Reel, tag: str, first: int = 0) -> str:
        """Segments from `first` on are encrypted."""
        lines = [f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}", "#EXT-X-MEDIA-SEQUENCE:0"]
        for number, name in enumerate(reel.segments):
            if number == first:
                lines.append(tag)
            content = reel.content(number)
            if number >= first:
                content = encrypted(content, number.to_bytes(16))
            origin.files[f"/a/{name}"] = content
            lines += ["#EXTINF:2,", f"a/{name}"]
        origin.clock.at = after(60)
        return origin.text("/live.m3u8", *lines)

    async def test_a_key_at_an_address(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        origin.files["/key"] = SECRET
        url = self.serve(origin, plain, '#EXT-X-KEY:METHOD=AES-128,URI="/key"')
        _, seen = await cut(url, after(9), 6)
        assert seen.numbers == frames_from(9, 6)
        assert origin.fetched().count("/key") == 1

    async def test_only_other_seconds_are_encrypted(self, origin: Origin, cut: Cutting, plain: Reel) -> None:
        url = self.serve(origin, plain, '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x"', first=20)
        _, seen = await cut(url, after(9), 6)
        assert seen.numbers == frames_from(9, 6)

    @pytest.mark.parametrize(
        ("tag", "named"),
        [
            ('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="/key"', "SAMPLE-AES"),
            (
                '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery"',
                "FairPlay",
            ),
        ],
    )
    async def test_what_cannot_be_read_is_refused_by_name(
        self, origin: Origin, cut: Cutting, plain: Reel, tag: str, named: str
    ) -> None:
        with pytest.raises(ClipImpossibleError, match=named):
            await cut(self.serve(origin, plain, tag), after(9), 6)

    @pytest.mark.parametrize("secret", [b"short", b"x" * 17, b"\x00" * 16])
    async def test_a_wrong_key(self, origin: Origin, cut: Cutting, plain: Reel, secret: bytes) -> None:
        origin.files["/key"] = secret
        with pytest.raises((ClipImpossibleError, ExternalServiceError), match="key"):
            await cut(self.serve(origin, plain, '#EXT-X-KEY:METHOD=AES-128,URI="/key"'), after(9), 6)

    async def test_a_key_on_a_forbidden_host(self, origin: Origin, plain: Reel) -> None:
        from goalsvc.integrations.egress import EgressRules
        from goalsvc.integrations.media import FfmpegCutter

        url = self.serve(origin, plain, f'#EXT-X-KEY:METHOD=AES-128,URI="http://localhost:{origin.stub.port}/key"')
        cutter = FfmpegCutter(EgressRules(["127.0.0.1"], private=True), origin.clock, sleep=origin.clock.sleep)
        with pytest.raises(ClipImpossibleError, match="localhost is not in"):
            async with cutter.cut(url, after(9), 6):
                pass
        assert "/key" not in origin.fetched()


class TestSound:
    async def apart(
        self,
        origin: Origin,
        cut: Cutting,
        plain: Reel,
        tmp_path: Path,
        *,
        dated: bool,
        lag: float,
        tags: Mapping[int, Sequence[str]] | None = None,
    ) -> Seen:
        picture, sound = await asyncio.gather(
            asyncio.to_thread(remux, plain, tmp_path / "p", "-an", "-copyts", "-muxdelay", "0"),
            asyncio.to_thread(remux, plain, tmp_path / "s", "-vn", "-copyts", "-muxdelay", "0"),
        )
        origin.clock.at = after(41.4)  # a playlist without dates ends within a second
        origin.add("/p.m3u8", Show(picture, "p/", dated=not tags, tags=tags or {}))
        head = () if dated else ("#EXT-X-VERSION:3",)
        origin.add("/s.m3u8", Show(sound, "s/", dated=dated, lag=lag, head=head, tags=tags or {}))
        master = [
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",DEFAULT=YES,URI="s.m3u8"',
            '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"',
            "p.m3u8",
        ]
        _, seen = await cut(origin.text("/live.m3u8", *master), after(10.4), 8)
        assert seen.numbers == frames_from(10.4, 8)
        return seen

    @pytest.mark.parametrize("lag", [0.0, 2.0])
    @pytest.mark.parametrize("dated", [True, False])
    async def test_apart(
        self, origin: Origin, cut: Cutting, plain: Reel, tmp_path: Path, dated: bool, lag: float
    ) -> None:
        """Its playlist gives no dates and is a segment behind: then its timestamps put it in step."""
        assert_in_step(await self.apart(origin, cut, plain, tmp_path, dated=dated, lag=lag), 10.4)

    async def test_a_default_rendition_without_an_address(
        self, origin: Origin, cut: Cutting, plain: Reel, tmp_path: Path
    ) -> None:
        """The sound of the variant itself is what a player takes, not the commentary."""
        silence = film(tmp_path, 20, picture=False, sound=True, more=("-af", "volume=0"))
        origin.clock.at = after(20)
        origin.add("/p.m3u8", Show(plain, "p/"))
        origin.add("/c.m3u8", Show(silence, "c/"))
        master = [
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="commentary",URI="c.m3u8"',
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="main",DEFAULT=YES',
            '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"',
            "p.m3u8",
        ]
        _, seen = await cut(origin.text("/live.m3u8", *master), after(4), 6)
        assert_in_step(seen, 4)

    @pytest.mark.parametrize("breaks", [14, pytest.param(60, marks=pytest.mark.media)])
    async def test_in_step_after_many_breaks(self, origin: Origin, cut: Cutting, tmp_path: Path, breaks: int) -> None:
        """Each discontinuity begins with timestamps of its own; the beeps stay where they belong."""
        one = film(tmp_path / "one", 1, segment=1)
        reel = Reel(one.directory, list(one.segments) * (breaks + 2), 1)
        lines = [f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}"]
        for number in range(breaks + 2):
            lines += ["#EXT-X-DISCONTINUITY", "#EXTINF:1,", f"a/{reel.segments[number]}"]
        origin.files[f"/a/{one.segments[0]}"] = one.content(0)
        origin.clock.at = after(breaks + 10)
        _, seen = await cut(origin.text("/live.m3u8", *lines, "#EXT-X-ENDLIST"), after(0.5), breaks + 1)
        wanted = [0.5 + number for number in range(breaks + 1)]
        assert [beep for beep in seen.beeps if beep > 0.1] == pytest.approx(wanted, abs=STEP)
        assert seen.seconds == pytest.approx(breaks + 1, abs=0.05)

    @pytest.mark.parametrize("numbered", [True, False])
    async def test_undated_and_apart_with_breaks(
        self, origin: Origin, cut: Cutting, tmp_path: Path, numbered: bool
    ) -> None:
        """All discontinuities have the same timestamps; which sound belongs to which picture is heard by its beeps."""
        picture = film(tmp_path / "p", 1, segment=1, sound=False)
        loud = film(tmp_path / "s", 1, segment=1, picture=False)
        quiet = film(tmp_path / "q", 1, segment=1, picture=False, more=("-af", "volume=0"))
        for name, reel in (("p", picture), ("s", loud), ("q", quiet)):
            origin.files[f"/{name}.ts"] = reel.content(0)
        beeping = [0, 1, 3, 4, 7, 9, 10, 11]

        def lines(names: list[str], first: int, *head: str) -> list[str]:
            tags = [f"#EXT-X-DISCONTINUITY-SEQUENCE:{first}"] if numbered else []
            made = ["#EXT-X-TARGETDURATION:1", *tags, *head]
            for number, name in enumerate(names):
                made += [*(["#EXT-X-DISCONTINUITY"] if number else []), "#EXTINF:1,", f"{name}.ts"]
            return made

        sounds = ["s" if second in beeping else "q" for second in range(12)]
        # Where they are numbered, the window of the sound begins and ends later, and it is counted otherwise.
        told = lines(sounds[1:], 1, "#EXT-X-MEDIA-SEQUENCE:500") if numbered else lines(sounds, 0)
        origin.text("/sound.m3u8", *told)
        date = f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}"
        origin.text("/p.m3u8", *lines(["p"] * (11 if numbered else 12), 0, date))
        master = [
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",DEFAULT=YES,URI="sound.m3u8"',
            '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"',
            "p.m3u8",
        ]
        origin.clock.at = after(12)
        _, seen = await cut(origin.text("/live.m3u8", *master), after(2.5), 6)
        assert seen.beeps == pytest.approx([second - 2.5 for second in beeping if 2.5 < second < 8.5], abs=STEP)


class TestShapes:
    async def test_a_rotated_portrait(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        """A phone's picture lies on its side in the stream and is turned by the player."""
        reel = film(tmp_path / "a", 8, size=(160, 90), filters="transpose=clock", fmp4=True)
        turned = tmp_path / "b"
        turned.mkdir()
        header = (reel.directory / "init.mp4").read_bytes()
        at = header.index(b"tkhd") + 4 + 40  # version 0: the matrix
        matrix = [0, -0x10000, 0, 0x10000, 0, 0, 0, 90 << 16, 0x40000000]
        header = header[:at] + b"".join((one & 0xFFFFFFFF).to_bytes(4) for one in matrix) + header[at + 36 :]
        (reel.directory / "init.mp4").write_bytes(header)
        origin.clock.at = after(10)
        _, seen = await cut(origin.add("/live.m3u8", Show(reel, "a/")), after(2), 3)
        assert seen.size == (160, 90)
        assert seen.numbers == frames_from(2, 3)
        assert seen.upright

    async def test_pixels_that_are_not_square(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        reel = film(tmp_path, 8, size=(120, 90), filters="setsar=4/3")
        origin.clock.at = after(10)
        _, seen = await cut(origin.add("/live.m3u8", Show(reel, "a/")), after(2), 3)
        assert seen.size == (160, 90)
        assert seen.numbers == frames_from(2, 3)

    async def test_a_size_that_changes(self, origin: Origin, cut: Cutting, tmp_path: Path) -> None:
        wide, tall = film(tmp_path / "a", 6), film(tmp_path / "b", 6, first_second=6, size=(320, 180))
        lines = [f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}"]
        for reel, prefix in ((wide, "a"), (tall, "b")):
            lines.append("#EXT-X-DISCONTINUITY")
            for number, name in enumerate(reel.segments):
                lines += ["#EXTINF:2,", f"{prefix}/{name}"]
                origin.files[f"/{prefix}/{name}"] = reel.content(number)
        origin.clock.at = after(20)
        _, seen = await cut(origin.text("/live.m3u8", *lines), after(3.2), 6)
        assert seen.numbers == frames_from(3.2, 6)
        assert seen.size == (160, 90)
        assert_in_step(seen, 3.2)
