"""What test doubles of the queue share."""

from collections.abc import Sequence
from datetime import datetime

from goalsvc.domain.lanes import Lane
from goalsvc.domain.promises import Job


class AlwaysSweptWhole:
    """A queue that remembers nothing of the sweep, which then looks at all promises each time."""

    def enqueue(self, job: Job) -> None:
        raise NotImplementedError

    async def flush(self) -> None:
        raise NotImplementedError

    async def offer(self, lane: Lane, jobs: Sequence[Job]) -> bool:
        for job in jobs:
            self.enqueue(job)
        await self.flush()
        return True

    async def swept_until(self, lane: Lane) -> datetime | None:
        return None

    async def note_swept(self, lane: Lane, until: datetime, whole_again_seconds: float | None) -> None:
        pass
