"""What the database must have besides documents: indexes, and how long documents are kept."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from goalsvc.errors import SettingsError
from goalsvc.models.database import DOCUMENTS, open_database
from goalsvc.models.indexes import Ending, Missing, Wanted, is_small, make, what_is_missing
from goalsvc.settings import Settings


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how many days what is written for people and their tools is kept; 0: for ever."""

    traces: int = 30
    events: int = 30
    tracking: int = 90

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say."""
        return cls(settings.trace_days, settings.event_days, settings.tracking_days)

    def endings(self) -> dict[str, Ending]:
        """When the documents of each collection end; the others are kept, or have an ending that is no setting."""
        return {
            "traces": Ending("at", self.traces),
            "events": Ending("created_at", self.events),
            "deliveries": Ending("created_at", self.events),
            "tracking_events": Ending("at", self.tracking),
            "bi_escrows": Ending("updated_at", self.tracking),
        }


@dataclass(frozen=True, slots=True)
class Made:
    """The names of the indexes that were made or changed, and what is missing still."""

    names: Sequence[str]
    missing: Sequence[Missing]


def wanted_indexes(keeping: Keeping) -> list[Wanted]:
    """Returns what each collection must have. `open_database` must have been called before."""
    endings = keeping.endings()
    declared = {model.get_settings().name: model.get_settings().indexes or () for model in DOCUMENTS}
    return [
        Wanted(name, [each.index for each in indexes], endings.get(name)) for name, indexes in declared.items() if name
    ]


async def make_indexes(url: str, keeping: Keeping, *, only_small: bool = False) -> Made:
    """Makes the indexes that are missing; with `only_small`, those of collections in which it takes no time.

    Raises PyMongoError.
    """
    async with open_database(url) as database:
        own: object = database.client[database.name]
        wanted = wanted_indexes(keeping)
        found = await asyncio.gather(*(what_is_missing(own, each) for each in wanted))
        names: list[str] = []
        left: list[Missing] = []
        for each, missing in zip(wanted, found, strict=True):
            if only_small and missing and not await is_small(own, each.collection):
                left.append(missing)
            elif missing or missing.retired:
                names += await make(own, each)
    return Made(names, left)


async def prepare_indexes(settings: Settings, tell: Callable[[str], None]) -> None:
    """Makes the indexes of small collections, and in `goalsvc dev` all; tells which others are missing, in one sentence.

    Raises SettingsError when one is missing without which the same could be written twice, and PyMongoError.
    """
    every = bool(settings.dev_dir)
    missing = (await make_indexes(settings.mongodb_url, Keeping.of(settings), only_small=not every)).missing
    if not missing:
        return
    names = ", ".join(name for each in missing for name in each.names)
    sentence = f"GOALSVC_MONGODB_URL: the database lacks indexes ({names}): run `goalsvc migrate`"
    if any(each.decides for each in missing):
        raise SettingsError(sentence)
    tell(f"{sentence}; until then it is slow, or keeps documents for another time than the settings say")
