"""Works on a clip while its later segments are still fetched: ffmpeg reads them as they come.

What is made so is kept under the condition that the first piece of the clip turns out as it was expected; otherwise it is
made again, as if this module did not exist.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.cutting import Cutter
from goalsvc.integrations.ffmpeg import THREADS, Probe, feed_ffmpeg, piped_input
from goalsvc.integrations.gathering import Gathered, Reel
from goalsvc.integrations.hls import Segment
from goalsvc.integrations.indexing import Indexed, index, listing, read_listing
from goalsvc.integrations.mp4 import SoundTrack
from goalsvc.integrations.sound import output_for_all, read_sound
from goalsvc.integrations.track import Track
from goalsvc.integrations.window import Piece, Selection

log = logging.getLogger(__name__)

#: How many segments are looked at for the first frame that can be copied.
_BEGINNING = 3
#: The name of the file that `Gathered.reel` makes of the first piece.
_REEL = "reel-0"
_SOUND = "ahead.aac"


@dataclass(slots=True)
class Places:
    """How many more clips may be worked on ahead."""

    free: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is made of the first piece already."""

    cutter: Cutter
    probe: Probe
    sound_seconds: float | None
    """How long its own sound is, which is encoded already; None where there is none."""
    directory: Path

    def indexed(self, reel: Reel) -> Indexed:
        """The frames of the first piece."""
        return read_listing(reel, self.probe, self.directory)

    async def sound_of(self, pieces: Sequence[Indexed]) -> SoundTrack | None:
        """The sound of a clip of these pieces; None when it is not what was made."""
        if len(pieces) != 1 or self.sound_seconds is None:
            return None
        if abs(pieces[0].duration_seconds - self.sound_seconds) > 1e-6:
            return None
        return await read_sound(self.directory / _SOUND)


class Ahead:
    """Works on the first piece of one clip, if there is a place free for that. To be closed."""

    def __init__(
        self,
        directory: Path,
        cutter_for: Callable[[Probe], Cutter],
        places: Places,
        time_limit_seconds: float,
    ) -> None:
        self._directory = directory
        self._cutter_for = cutter_for
        self._places = places
        self._time_limit_seconds = time_limit_seconds
        self._task: asyncio.Task[Prepared | None] | None = None
        self._track: Track | None = None
        self._piece: Piece | None = None
        self._until = 0.0
        self._sound_is_apart = False
        self._fed: list[int] = []
        self._all_known = False
        self._news = asyncio.Event()

    def watch(self, picture: Track, sound: Track | None, selection: Selection) -> None:
        """Takes the selection of segments that is about to be fetched. Returns at once and never raises."""
        if not selection.pieces:
            return
        piece = selection.pieces[0]
        if self._piece is None:
            if self._places.free <= 0:
                return
            self._places.free -= 1
            self._track, self._piece, self._sound_is_apart = picture, piece, sound is not None
            self._until = selection.skip_seconds + selection.duration_seconds
            picture.on_arrival = self._news.set
            self._task = asyncio.create_task(self._work(picture, piece))
            self._task.add_done_callback(self._leave)
        elif self._goes_on(picture, piece):
            self._piece = piece
            self._news.set()
        else:
            self._give_up()

    async def finish(self, gathered: Gathered) -> Prepared | None:
        """Waits for the end of the work; None when it is not what is wanted now."""
        if self._task is None or self._piece is None or not gathered.pieces:
            return None
        piece = gathered.pieces[0]
        if not self._goes_on(gathered.picture, piece):
            self._give_up()
        self._piece, self._all_known = piece, True
        self._news.set()
        await asyncio.wait([self._task])
        if self._task.cancelled() or self._fed != [segment.number for segment in piece.segments]:
            return None
        try:
            return self._task.result()
        except (ExternalServiceError, ClipImpossibleError) as error:
            log.debug("a clip is encoded again from its beginning, because early encoding failed: %s", error)
            return None

    async def aclose(self) -> None:
        """Ends the work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _goes_on(self, picture: Track, piece: Piece) -> bool:
        """Whether this is still the piece that was begun: the same beginning, and nothing else than what was fed."""
        begun = self._piece
        same = picture is self._track and begun is not None and abs(piece.skip_seconds - begun.skip_seconds) < 1e-6
        return same and [one.number for one in piece.segments[: len(self._fed)]] == self._fed

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _leave(self, _task: object) -> None:
        self._places.free += 1

    # -- the work -----------------------------------------------------------------------------------------------------

    async def _work(self, track: Track, piece: Piece) -> Prepared | None:
        beginning = await self._look(track, piece, 1)
        if beginning is None or beginning.begins_late:
            return None  # earlier segments are needed, too
        cutter = self._cutter_for(beginning.probe)
        skip, length = beginning.skip_seconds + beginning.start_seconds, self._until - beginning.skip_seconds
        hears = beginning.probe.has_sound and not self._sound_is_apart
        copies = cutter.can_copy(beginning)
        container = beginning.reel.file.container
        arguments = [
            *("-copyts", *THREADS, *piped_input(container), *listing(_REEL, beginning.probe.codec)),
            *(output_for_all(skip, length, _SOUND) if hears else []),
            *(() if copies else cutter.outputs_for_all(beginning)),
        ]
        limit = self._time_limit_seconds
        fed = asyncio.create_task(feed_ffmpeg(arguments, self._directory, self._parts(track), time_limit_seconds=limit))
        try:
            if copies:
                await self._begin(track, piece, cutter, beginning)
            probe = Probe.of(await fed)
        finally:
            fed.cancel()
            await asyncio.gather(fed, return_exceptions=True)
        if not copies:
            await cutter.take_all(_REEL, beginning)
        return Prepared(cutter, probe, length if hears else None, self._directory)

    async def _begin(self, track: Track, piece: Piece, cutter: Cutter, beginning: Indexed) -> None:
        """Has the frames before the first that can be copied encoded, as soon as the segments that hold them are here."""
        for count in range(2, _BEGINNING + 2):
            if await cutter.begin(beginning):
                return
            longer = await self._look(track, piece, count) if count <= _BEGINNING else None
            if longer is None:
                return
            beginning = longer

    async def _look(self, track: Track, piece: Piece, count: int) -> Indexed | None:
        """The frames of the first segments, once they are here; None if there are fewer."""
        while True:
            segments = self._known[:count]
            if len(segments) == count and all(track.file_of(segment) for segment in segments):
                break
            if self._all_known:
                return None
            await self._more()
        file = await track.join(segments, self._directory / f"ahead-{count}")
        wanted = replace(piece, segments=tuple(segments), duration_seconds=self._until - piece.skip_seconds)
        return await index(Reel(file, wanted), self._directory, self._time_limit_seconds)

    async def _parts(self, track: Track) -> AsyncIterator[Path]:
        """Yields the files of the piece as they arrive."""
        if (header := await track.header_of(self._known[0])) is not None:
            yield header
        while True:
            while len(self._fed) < len(self._known):
                segment = self._known[len(self._fed)]
                if (path := track.file_of(segment)) is None:
                    break
                self._fed.append(segment.number)
                yield path
            if self._all_known:
                return
            await self._more()

    @property
    def _known(self) -> Sequence[Segment]:
        return self._piece.segments if self._piece is not None else ()

    async def _more(self) -> None:
        """Waits until something has arrived, or is known."""
        self._news.clear()
        await self._news.wait()
