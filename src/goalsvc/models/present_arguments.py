"""The arguments with which the tasks of dead letters are promised now, where a document promises them still or again."""

from collections.abc import Mapping, Sequence

from goalsvc.domain.promises import PromiseRef
from goalsvc.domain.reading import mapping, sequence
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.promise import PLACE
from goalsvc.models.records import DeadLetter


async def present_arguments(letters: Sequence[DeadLetter]) -> dict[str, dict[str, object]]:
    """Returns, by the letter's id, the arguments that stand in its document now, where they are others than the letter's.

    These are what a redrive runs: a promise that a document holds already is not replaced. One query for each collection.
    """
    places: dict[str, list[tuple[DeadLetter, PromiseRef]]] = {}
    for letter in letters:
        ref = _place_of(letter)
        if ref is not None:
            places.setdefault(ref.collection, []).append((letter, ref))
    found: dict[str, dict[str, object]] = {}
    for collection, wanted in places.items():
        promises = await _promises_of(collection, [ref.document_id for _, ref in wanted])
        for letter, ref in wanted:
            standing = _standing(promises.get(ref.document_id, ()), ref.promise_id)
            if standing is not None and standing != letter.arguments:
                found[letter.id] = standing
    return found


def _place_of(letter: DeadLetter) -> PromiseRef | None:
    try:
        ref = PromiseRef.parse(letter.promise or "")
    except ValueError:
        return None
    return ref if ref.collection in WITH_PROMISES else None


async def _promises_of(collection: str, document_ids: Sequence[object]) -> dict[object, Sequence[object]]:
    where, fields = {"_id": {"$in": list(set(document_ids))}}, {"promises": 1}
    rows = WITH_PROMISES[collection].get_motor_collection().find(where, fields)
    return {row["_id"]: sequence(row.get("promises")) for row in await rows.to_list(None)}


def _standing(promises: Sequence[object], promise_id: str) -> dict[str, object] | None:
    """The arguments of the promise of that id; one without a readable id is named by its place."""
    place = promise_id.removeprefix(PLACE)
    if promise_id.startswith(PLACE) and place.isdecimal():
        entries: Sequence[Mapping[str, object]] = [mapping(one) for one in promises[int(place) : int(place) + 1]]
    else:
        entries = [one for each in promises if (one := mapping(each)).get("id") == promise_id]
    arguments = entries[0].get("arguments") if entries else None
    return dict(arguments) if isinstance(arguments, Mapping) else None
