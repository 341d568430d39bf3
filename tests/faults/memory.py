"""A database in memory, with PyMongo's signatures: as much of MongoDB as goalsvc uses, fast enough for ten thousand histories.

mongomock takes 6 ms for one update of a goal's clock and knows no transactions; a real mongod takes 1 ms for anything. This
takes a fraction of that, and is kept honest by `test_memory.py`: the same histories are played on a real mongod, and
every document must come out the same. What it does not know it refuses, loudly.
"""

import builtins
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import bson
from bson import CodecOptions, MaxKey, MinKey, ObjectId
from pymongo import ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

Document = dict[str, Any]
Evaluator = Callable[["_Scope"], Any]

_OPTIONS: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)


class _Missing:
    """What an expression gives for a field that is not there."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Any = _Missing()


def _copied(document: Mapping[str, Any]) -> Document:
    """The document as it comes back from the wire: deep, and of BSON's types."""
    return bson.decode(bson.encode(document), _OPTIONS)


#: Unique indexes besides that of `_id`, by collection: of documents that have all of these fields no two have the same.
UNIQUE: Mapping[str, Sequence[str]] = {"transfers": ("account", "reference")}


class MemoryDatabase:
    """Collections by name, and at most one transaction at a time."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._collections: dict[str, MemoryCollection] = {}
        #: The server's own time (`$currentDate`).
        self.now = now
        self.undo: list[Callable[[], None]] | None = None

    def __getitem__(self, name: str) -> "MemoryCollection":
        if name not in self._collections:
            self._collections[name] = MemoryCollection(self, UNIQUE.get(name, ()))
        return self._collections[name]

    def begin(self) -> object:
        """Begins a transaction; what is given goes along with its calls as `session`."""
        assert self.undo is None, "one transaction at a time"
        self.undo = []
        return self.undo

    def commit(self, session: object) -> None:
        """Makes it last."""
        assert session is self.undo
        self.undo = None

    def abort(self, session: object) -> None:
        """Takes back all of it."""
        assert self.undo is not None and session is self.undo
        for take_back in reversed(self.undo):
            take_back()
        self.undo = None

    def clear(self) -> None:
        """Forgets everything."""
        for collection in self._collections.values():
            collection.documents.clear()
        self.undo = None

    def saved(self) -> Mapping[str, Mapping[Any, Document]]:
        """A backup: changed documents are other objects."""
        return {name: dict(collection.documents) for name, collection in self._collections.items()}

    def restore(self, saved: Mapping[str, Mapping[Any, Document]]) -> None:
        """Holds the documents of that backup, and no others."""
        assert self.undo is None, "a transaction is open"
        for name, collection in self._collections.items():
            collection.documents.clear()
            collection.documents.update(saved.get(name, {}))

    def peek(self, name: str) -> Mapping[Any, Document]:
        """The documents of a collection, by id, as they are kept: to look at only. A changed one is another object."""
        return self[name].documents

    def contents(self) -> dict[str, list[Document]]:
        """Every document of every collection that holds any."""
        held = {name: list(c.documents.values()) for name, c in self._collections.items() if c.documents}
        return {name: [_copied(document) for document in documents] for name, documents in held.items()}


class MemoryCollection:
    """A collection with the unique index of `_id`, and at most one other."""

    def __init__(self, database: MemoryDatabase, unique: Sequence[str] = ()) -> None:
        self._database = database
        self._unique = unique
        self.documents: dict[Any, Document] = {}

    # -- reading ---------------------------------------------------------------------------------------------------

    def find_one(
        self,
        filter: Mapping[str, Any],
        projection: Any = None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        session: Any = None,
    ) -> Document | None:
        if sort:
            return next(iter(self.find(filter, projection, sort=sort, limit=1)), None)
        found = self._first(_copied(filter))
        return None if found is None else _projected(_copied(found), projection)

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Any = None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
        batch_size: int = 0,
        session: Any = None,
        hint: object = None,
        min: Mapping[str, Any] | None = None,
        max: Mapping[str, Any] | None = None,
    ) -> list[Document]:
        where = _copied(filter or {})
        found = [document for document in self.documents.values() if _matches(document, where)]
        if min is not None and max is not None:
            found = [document for document in found if has_key_between(document, min, max)]
        for field, direction in reversed(sort or ()):
            # The smallest element of an array counts ascending, the largest descending; so it does here.
            pick = builtins.min if direction > 0 else builtins.max
            found.sort(
                key=lambda document, field=field, pick=pick: pick(  # type: ignore[misc]
                    [_order(value) for value in _reached(document, field.split("."))] or [_order(None)]
                ),
                reverse=direction < 0,
            )
        found = found[skip : skip + limit if limit else None]
        return [_projected(_copied(document), projection) for document in found]

    def count_documents(self, filter: Mapping[str, Any], session: Any = None) -> int:
        return len(self.find(filter))

    def aggregate(self, pipeline: Sequence[Mapping[str, Any]], session: Any = None) -> list[Document]:
        documents = [_copied(document) for document in self.documents.values()]
        for stage in pipeline:
            ((name, given),) = stage.items()
            documents = _STAGES[name](documents, given)
        return documents

    # -- writing ---------------------------------------------------------------------------------------------------

    def insert_one(self, document: Mapping[str, Any], session: Any = None) -> Any:
        new = _copied(document)
        self._insert(new, session)
        return SimpleNamespace(inserted_id=new["_id"])

    def insert_many(
        self, documents: Sequence[Mapping[str, Any]], session: Any = None, ordered: bool = True
    ) -> SimpleNamespace:
        faults: list[Document] = []
        for index, document in enumerate(documents):
            try:
                self.insert_one(document, session)
            except DuplicateKeyError as error:
                faults.append({"index": index, "code": error.code, "errmsg": str(error), **(error.details or {})})
                if ordered:
                    break
        if faults:
            raise BulkWriteError({"writeErrors": faults})
        return SimpleNamespace(inserted_ids=[document["_id"] for document in documents])

    def update_one(
        self, filter: Mapping[str, Any], update: Any, upsert: bool = False, session: Any = None
    ) -> SimpleNamespace:
        before, after = self._update(filter, update, upsert, session)
        upserted = after["_id"] if before is None and after is not None else None
        return SimpleNamespace(matched_count=int(before is not None), upserted_id=upserted)

    def find_one_and_update(
        self,
        filter: Mapping[str, Any],
        update: Any,
        projection: Any = None,
        *,
        upsert: bool = False,
        return_document: bool = ReturnDocument.BEFORE,
        session: Any = None,
    ) -> Document | None:
        before, after = self._update(filter, update, upsert, session)
        wanted = after if return_document is ReturnDocument.AFTER else before
        return None if wanted is None else _projected(_copied(wanted), projection)

    def update_many(self, filter: Mapping[str, Any], update: Any, session: Any = None) -> SimpleNamespace:
        changed = self._update_many(filter, update, session)
        return SimpleNamespace(matched_count=len(changed))

    def bulk_write(
        self, writes: Sequence[UpdateOne | UpdateMany], ordered: bool = True, session: Any = None
    ) -> SimpleNamespace:
        changed: list[tuple[Document | None, Document | None]] = []
        faults: list[Document] = []
        for index, write in enumerate(writes):
            try:
                if isinstance(write, UpdateMany):
                    changed += self._update_many(write._filter, write._doc, session)
                else:
                    changed.append(self._update(write._filter, write._doc, bool(write._upsert), session))
            except DuplicateKeyError as error:
                faults.append({"index": index, "code": error.code, "errmsg": str(error), **(error.details or {})})
                if ordered:
                    break
        if faults:
            raise BulkWriteError({"writeErrors": faults})
        upserted = sum(before is None and after is not None for before, after in changed)
        matched = sum(before is not None for before, _ in changed)
        return SimpleNamespace(matched_count=matched, upserted_count=upserted)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _first(self, where: Document) -> Document | None:
        identity = where.get("_id", MISSING)
        if identity is not MISSING and not isinstance(identity, dict):
            document = self.documents.get(identity)
            return document if document is not None and _matches(document, where) else None
        return next((document for document in self.documents.values() if _matches(document, where)), None)

    def _update_many(
        self, filter: Mapping[str, Any], update: Any, session: Any
    ) -> list[tuple[Document | None, Document | None]]:
        where = _copied(filter)
        found = [identity for identity, document in self.documents.items() if _matches(document, where)]
        return [self._update({"_id": identity}, update, False, session) for identity in found]

    def _insert(self, new: Document, session: Any) -> None:
        identity = new["_id"]
        if identity in self.documents:
            raise DuplicateKeyError(f"E11000 duplicate key error: _id {identity}", 11000, {"keyPattern": {"_id": 1}})
        taken = [new[name] for name in self._unique if name in new]
        if taken and any(taken == [each.get(name) for name in self._unique] for each in self.documents.values()):
            pattern = {"keyPattern": dict.fromkeys(self._unique, 1)}
            raise DuplicateKeyError(f"E11000 duplicate key error: {self._unique} {taken}", 11000, pattern)
        self.documents[identity] = new
        if session is not None:
            self._undo(session, lambda: self.documents.pop(identity))

    def _update(
        self, filter: Mapping[str, Any], update: Any, upsert: bool, session: Any
    ) -> tuple[Document | None, Document | None]:
        where = _copied(filter)
        # Of a pipeline the expressions are kept as they are: parts of it that are one object are evaluated once.
        change = update if isinstance(update, list) else _copied(update)
        before = self._first(where)
        if before is not None:
            after = _changed(before, change, where, self._database.now, inserting=False)
            self.documents[before["_id"]] = after
            if session is not None:
                self._undo(session, lambda: self.documents.__setitem__(before["_id"], before))
            return before, after
        if not upsert:
            return None, None
        base = {name: value for name, value in where.items() if not name.startswith("$") and not _is_operators(value)}
        if any("." in name for name in base):
            raise NotImplementedError(f"an upsert by {base}")
        new = _changed(base, change, where, self._database.now, inserting=True)
        if "_id" not in new:
            new["_id"] = ObjectId()
        self._insert(new, session)
        return None, new

    def _undo(self, session: Any, take_back: Callable[[], Any]) -> None:
        assert session is self._database.undo, "a call of another transaction"
        session.append(take_back)  # type: ignore[union-attr]


def _projected(document: Document, projection: Any) -> Document:
    if not projection:
        return document
    if any(value not in (1, True) for value in dict(projection).values()):
        raise NotImplementedError(f"the projection {projection}")
    new: Document = {"_id": document["_id"]}
    for name in projection:
        path = name.split(".")
        value = _at(document, path)
        if value is not MISSING:
            _set(new, path, value)
    return new


# -- comparing ----------------------------------------------------------------------------------------------------------


def _order(value: Any) -> tuple[Any, ...]:
    """A key that sorts values of all types as BSON does."""
    match value:
        case MinKey():
            return (-1,)
        case MaxKey():
            return (99,)
        case _Missing():
            return (0,)
        case None:
            return (1,)
        case bool():
            return (8, value)
        case int() | float():
            return (2, value)
        case str():
            return (3, value)
        case dict():
            return (4, tuple((_order(v)[0], k, _order(v)) for k, v in value.items()))
        case list():
            return (5, tuple(_order(v) for v in value))
        case bytes():
            return (6, value)
        case ObjectId():
            return (7, value.binary)
        case datetime():
            return (9, value)
    raise NotImplementedError(f"{type(value)} in a comparison")


# -- filters ------------------------------------------------------------------------------------------------------------


def _is_operators(value: Any) -> bool:
    return isinstance(value, dict) and next(iter(value), "").startswith("$")


def _reached(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """What a filter's path reaches: through arrays, to each element; and what is there itself."""
    if not path:
        yield value
        if isinstance(value, list):
            yield from value
        return
    if isinstance(value, dict):
        if path[0] in value:
            yield from _reached(value[path[0]], path[1:])
    elif isinstance(value, list):
        for element in value:
            if isinstance(element, dict):
                yield from _reached(element, path)


def has_key_between(document: Document, least: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
    """Whether one of the document's keys in a sparse index of an array's fields is in that range; the end is not in it."""
    (array,), names = {path.split(".")[0] for path in least}, [path.split(".")[1] for path in least]
    entries = [entry for entry in document.get(array) or () if isinstance(entry, dict)]
    keys = [[_order(entry.get(name)) for name in names] for entry in entries if any(name in entry for name in names)]
    first, last = list(map(_order, least.values())), list(map(_order, end.values()))
    return any(first <= key < last for key in keys)


def _matches(document: Document, where: Mapping[str, Any]) -> bool:
    return all(_clause(document, name, wanted) for name, wanted in where.items())


def _clause(document: Document, name: str, wanted: Any) -> bool:
    match name:
        case "$and":
            return all(_matches(document, each) for each in wanted)
        case "$or":
            return any(_matches(document, each) for each in wanted)
        case "$expr":
            return _true(_compiled(wanted)(_Scope(document)))
    if name.startswith("$"):
        raise NotImplementedError(f"the filter {name}")
    values = list(_reached(document, name.split(".")))
    if not _is_operators(wanted):
        return _equals_any(values, wanted)
    return all(_operator(values, operator, operand) for operator, operand in wanted.items())


def _equals_any(values: Sequence[Any], wanted: Any) -> bool:
    if wanted is None:
        return not values or any(value is None for value in values)
    return any(type(value) is not bool or type(wanted) is bool for value in values if value == wanted)


_TYPES: Mapping[str, type] = {
    "objectId": ObjectId, "string": str, "int": int, "long": int, "double": float, "date": datetime,
    "array": list, "object": dict, "binData": bytes, "bool": bool, "null": type(None), "regex": bson.Regex,
    "javascript": bson.Code, "timestamp": bson.Timestamp, "decimal": bson.Decimal128, "minKey": bson.MinKey,
    "maxKey": bson.MaxKey,
}  # fmt: skip


def _types(names: str | Sequence[str]) -> tuple[type, ...]:
    """The types of these names. 32 and 64 bits are one type here: ask for both."""
    given = [names] if isinstance(names, str) else names
    names = [each for name in given for each in (["int", "long", "double"] if name == "number" else [name])]
    if ("int" in names) != ("long" in names):
        raise NotImplementedError(f"the types {names}")
    return tuple(_TYPES[name] for name in names)


def _operator(values: Sequence[Any], operator: str, operand: Any) -> bool:
    match operator:
        case "$eq":
            return _equals_any(values, operand)
        case "$ne":
            return not _equals_any(values, operand)
        case "$in":
            return any(_equals_any(values, each) for each in operand)
        case "$nin":
            return not any(_equals_any(values, each) for each in operand)
        case "$exists":
            return bool(values) is bool(operand)
        case "$not":
            return not all(_operator(values, each, of) for each, of in operand.items())
        case "$type":
            types = _types(operand)
            return any(isinstance(value, types) and (bool in types or type(value) is not bool) for value in values)
        case "$elemMatch":
            arrays = [value for value in values if isinstance(value, list)]
            return any(isinstance(each, dict) and _matches(each, operand) for array in arrays for each in array)
    compare = _COMPARISONS.get(operator)
    if compare is None:
        raise NotImplementedError(f"the filter operator {operator}")
    bound = _order(operand)
    keys = [_order(value) for value in values]
    return any(key[0] == bound[0] and compare(key, bound) for key in keys)  # a filter compares within a type


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


# -- updates ------------------------------------------------------------------------------------------------------------


def _changed(
    document: Document, update: Any, where: Mapping[str, Any], now: Callable[[], datetime], *, inserting: bool
) -> Document:
    if isinstance(update, list):
        return _by_pipeline(document, update)
    new = _copied(document)
    for operator, fields in update.items():
        if operator == "$setOnInsert" and not inserting:
            continue
        if operator == "$currentDate":
            operator, fields = "$set", dict.fromkeys(fields, now())
        change = _CHANGES.get(operator)
        if change is None:
            raise NotImplementedError(f"the update operator {operator}")
        for name, value in fields.items():
            path = name.split(".")
            if "$" in path:
                path[path.index("$")] = str(_position(document, path[: path.index("$")], where))
            change(new, path, value)
    return new


def _position(document: Document, array: Sequence[str], where: Mapping[str, Any]) -> int:
    """Which element of the array the filter matched first."""
    name = ".".join(array)
    elements: list[Any] = document[name]
    for field, wanted in where.items():
        if field == name and _is_operators(wanted) and "$elemMatch" in wanted:
            return next(i for i, each in enumerate(elements) if _matches(each, wanted["$elemMatch"]))
        if field.startswith(f"{name}."):
            inner = {field.removeprefix(f"{name}."): wanted}
            return next(i for i, each in enumerate(elements) if _matches(each, inner))
    raise NotImplementedError(f"the position of {name} in {where}")


def _parent(document: Document, path: Sequence[str]) -> tuple[Any, Any]:
    """What holds the last field of the path, made if need be, and the key by which it does."""
    holder: Any = document
    for name in path[:-1]:
        holder = holder[int(name)] if isinstance(holder, list) else holder.setdefault(name, {})
    return holder, int(path[-1]) if isinstance(holder, list) else path[-1]


def _set(document: Document, path: Sequence[str], value: Any) -> None:
    holder, key = _parent(document, path)
    holder[key] = value


def _increase(document: Document, path: Sequence[str], value: Any) -> None:
    holder, key = _parent(document, path)
    holder[key] = holder.get(key, 0) + value


def _raise(document: Document, path: Sequence[str], value: Any) -> None:
    holder, key = _parent(document, path)
    holder[key] = value if holder.get(key) is None else max(holder[key], value)


def _lower(document: Document, path: Sequence[str], value: Any) -> None:
    holder, key = _parent(document, path)
    holder[key] = value if holder.get(key) is None else min(holder[key], value)


def _push(document: Document, path: Sequence[str], value: Any) -> None:
    holder, key = _parent(document, path)
    each = value["$each"] if _is_operators(value) else [value]
    holder.setdefault(key, []).extend(each)


def _pull(document: Document, path: Sequence[str], condition: Any) -> None:
    holder, key = _parent(document, path)
    if key in holder:
        holder[key] = [each for each in holder[key] if not _matches(each, condition)]


def _unset(document: Document, path: Sequence[str], _value: Any) -> None:
    holder: Any = document
    for name in path[:-1]:
        holder = holder.get(name)
        if holder is None:
            return
    holder.pop(path[-1], None)


_CHANGES: Mapping[str, Callable[[Document, Sequence[str], Any], None]] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$inc": _increase,
    "$max": _raise,
    "$min": _lower,
    "$push": _push,
    "$pull": _pull,
    "$unset": _unset,
}


def _by_pipeline(document: Document, stages: Sequence[Mapping[str, Any]]) -> Document:
    new = _copied(document)
    for stage in stages:
        ((name, fields),) = stage.items()
        if name != "$set":
            raise NotImplementedError(f"the update stage {name}")
        scope = _Scope(new)
        values = [(field.split("."), _compiled(expression)(scope)) for field, expression in fields.items()]
        new = _copied(new)  # every expression of a stage sees the document as it was before the stage
        for path, value in values:
            if value is _REMOVED:
                _unset(new, path, None)
            elif value is not MISSING:
                _merge(new, path, value)
    return _copied(new)


def _merge(document: Document, path: Sequence[str], value: Any) -> None:
    """A `$set` stage's assignment: a document that is set onto a document is merged into it."""
    holder, key = _parent(document, path)
    if isinstance(value, _Fields) and isinstance(holder.get(key), dict):
        for name, inner in value.items():
            _merge(holder[key], [name], inner)
    else:
        holder[key] = value


# -- expressions --------------------------------------------------------------------------------------------------------


class _Fields(dict[str, Any]):
    """A document that was written out in an expression, field by field."""


_REMOVED: Any = object()


class _Scope:
    """Where an expression is evaluated: the document, the variables, and what was evaluated before."""

    __slots__ = ("document", "known", "variables")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.variables: dict[str, Any] = {}
        #: Values of expressions without variables.
        self.known: dict[Evaluator, Any] = {}


def _true(value: Any) -> bool:
    return not (value is None or value is MISSING or value is False or (type(value) in (int, float) and value == 0))


def _compiled(expression: Any) -> Evaluator:
    """The expression as a function."""
    return _Compiler().compile(expression)


class _Compiler:
    """Translates expressions; a part that occurs several times (the same object) is translated, and evaluated, once."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Evaluator, frozenset[str]]] = {}
        #: Variables that what was translated so far looks at, and that are bound outside of it.
        self.free: set[str] = set()

    def compile(self, expression: Any) -> Evaluator:
        """The function; adds to `free` the variables that it looks at."""
        if isinstance(expression, str) and expression.startswith("$"):
            return self._field(expression)
        if isinstance(expression, list):
            parts = [self.compile(part) for part in expression]
            return lambda scope: [None if (v := part(scope)) is MISSING else v for part in parts]
        if not isinstance(expression, dict):
            return lambda _scope: expression
        if not _is_operators(expression):
            fields = {name: self.compile(part) for name, part in expression.items()}
            return lambda scope: _Fields({n: v for n, part in fields.items() if (v := part(scope)) is not MISSING})
        return self._shared(expression)

    def within(self, expression: Any, *names: str) -> Evaluator:
        """The function of an expression in which these variables are bound."""
        outer, self.free = self.free, set()
        evaluate = self.compile(expression)
        self.free = outer | self.free.difference(names)
        return evaluate

    def _shared(self, expression: Mapping[str, Any]) -> Evaluator:
        known = self._done.get(id(expression))
        if known is None:
            outer, self.free = self.free, set()
            ((name, operand),) = expression.items()
            translate = _OPERATORS.get(name)
            if translate is None:
                raise NotImplementedError(f"the expression {name}")
            evaluate = translate(self, operand)
            known = evaluate if self.free else _remembered(evaluate), frozenset(self.free)
            self._done[id(expression)] = known
            self.free = outer
        self.free |= known[1]
        return known[0]

    def _field(self, path: str) -> Evaluator:
        if path == "$$REMOVE":
            return lambda _scope: _REMOVED
        if path.startswith("$$"):
            name, *rest = path[2:].split(".")
            self.free.add(name)
            if not rest:
                return lambda scope: scope.variables[name]
            return lambda scope: _at(scope.variables[name], rest)
        names = path[1:].split(".")
        return lambda scope: _at(scope.document, names)


def _remembered(evaluate: Evaluator) -> Evaluator:
    def recall(scope: _Scope) -> Any:
        known = scope.known
        if evaluate not in known:
            known[evaluate] = evaluate(scope)
        return known[evaluate]

    return recall


def _at(value: Any, path: Sequence[str]) -> Any:
    for position, name in enumerate(path):
        if isinstance(value, dict):
            value = value.get(name, MISSING)
        elif isinstance(value, list):
            found = [_at(element, path[position:]) for element in value if isinstance(element, dict)]
            return [each for each in found if each is not MISSING]
        else:
            return MISSING
    return value


def _of_many(compute: Callable[[list[Any]], Any]) -> Callable[[_Compiler, Any], Evaluator]:
    """An operator of several operands, each evaluated first."""

    def translate(compiler: _Compiler, operands: Any) -> Evaluator:
        parts = [compiler.compile(each) for each in (operands if isinstance(operands, list) else [operands])]
        return lambda scope: compute([part(scope) for part in parts])

    return translate


def _of_two(compute: Callable[[Any, Any], Any]) -> Callable[[_Compiler, Any], Evaluator]:
    def translate(compiler: _Compiler, operands: Any) -> Evaluator:
        left, right = (compiler.compile(each) for each in operands)
        return lambda scope: compute(left(scope), right(scope))

    return translate


def _numeric(compute: Callable[[Any, Any], Any]) -> Callable[[_Compiler, Any], Evaluator]:
    """An operator of two numbers, or dates; null if one of them is missing."""

    def checked(left: Any, right: Any) -> Any:
        if left is None or left is MISSING or right is None or right is MISSING:
            return None
        return compute(left, right)

    return _of_two(checked)


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[_Compiler, Any], Evaluator]:
    def compute(left: Any, right: Any) -> bool:
        if type(left) is int and type(right) is int:
            return compare(left, right)
        return compare(_order(left), _order(right))

    return _of_two(compute)


def _subtract(left: Any, right: Any) -> Any:
    if isinstance(left, datetime):
        if isinstance(right, datetime):
            return round((left - right) / timedelta(milliseconds=1))
        return left - timedelta(milliseconds=round(right))
    return left - right


def _add(values: list[Any]) -> Any:
    return None if any(v is None or v is MISSING for v in values) else sum(values)


def _product(values: list[Any]) -> Any:
    return None if any(v is None or v is MISSING for v in values) else math.prod(values)


def _total(values: list[Any]) -> Any:
    values = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    return sum(v for v in values if type(v) in (int, float))


def _extreme(pick: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def compute(values: list[Any]) -> Any:
        values = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        present = [v for v in values if v is not None and v is not MISSING]
        return pick(present) if present else None

    return compute


def _first_present(values: list[Any]) -> Any:
    return next((v for v in values[:-1] if v is not None and v is not MISSING), values[-1])


def _element(array: Any, index: Any) -> Any:
    if array is None or array is MISSING:
        return None
    return array[index] if -len(array) <= index < len(array) else MISSING


def _joined(arrays: list[Any]) -> Any:
    return None if any(a is None or a is MISSING for a in arrays) else [each for array in arrays for each in array]


def _condition(compiler: _Compiler, operands: Any) -> Evaluator:
    if isinstance(operands, dict):
        operands = [operands["if"], operands["then"], operands["else"]]
    condition, then, otherwise = (compiler.compile(each) for each in operands)
    return lambda scope: then(scope) if _true(condition(scope)) else otherwise(scope)


def _filtered(compiler: _Compiler, given: Mapping[str, Any]) -> Evaluator:
    array, name = compiler.compile(given["input"]), given.get("as", "this")
    condition = compiler.within(given["cond"], name)

    def evaluate(scope: _Scope) -> Any:
        return _each(scope, name, array(scope), lambda element: element, lambda: _true(condition(scope)))

    return evaluate


def _mapped(compiler: _Compiler, given: Mapping[str, Any]) -> Evaluator:
    array, name = compiler.compile(given["input"]), given.get("as", "this")
    inner = compiler.within(given["in"], name)

    def evaluate(scope: _Scope) -> Any:
        return _each(scope, name, array(scope), lambda _element: _or_null(inner(scope)), lambda: True)

    return evaluate


def _or_null(value: Any) -> Any:
    return None if value is MISSING else value


def _each(
    scope: _Scope, name: str, array: Any, give: Callable[[Any], Any], wanted: Callable[[], bool]
) -> list[Any] | None:
    if array is None or array is MISSING:
        return None
    variables = scope.variables
    shadowed, result = variables.get(name, MISSING), []
    for element in array:
        variables[name] = element
        if wanted():
            result.append(give(element))
    variables[name] = shadowed
    return result


def _let(compiler: _Compiler, given: Mapping[str, Any]) -> Evaluator:
    values = {name: compiler.compile(each) for name, each in given["vars"].items()}
    inner = compiler.within(given["in"], *values)

    def evaluate(scope: _Scope) -> Any:
        new = {name: value(scope) for name, value in values.items()}
        outer = scope.variables
        scope.variables = {**outer, **new}
        try:
            return inner(scope)
        finally:
            scope.variables = outer

    return evaluate


def _type_of(values: list[Any]) -> str:
    names = {type(None): "null", bool: "bool", list: "array", dict: "object", int: "long", _Missing: "missing"}
    return names.get(type(values[0])) or next(name for name, kind in _TYPES.items() if kind is type(values[0]))


def _text(values: list[Any]) -> Any:
    return None if any(v is None or v is MISSING for v in values) else "".join(values)


def _first_of(values: list[Any]) -> Any:
    (array,) = values
    if array is None or array is MISSING:
        return None
    return array[0] if array else MISSING


def _replaced(compiler: _Compiler, given: Mapping[str, Any]) -> Evaluator:
    parts = [compiler.compile(given[name]) for name in ("input", "find", "replacement")]

    def evaluate(scope: _Scope) -> Any:
        text, find, replacement = (part(scope) for part in parts)
        return None if text is None or text is MISSING else text.replace(find, replacement, 1)

    return evaluate


def _converted(compiler: _Compiler, given: Mapping[str, Any]) -> Evaluator:
    if given["to"] != "long":
        raise NotImplementedError(f"the conversion {given}")
    value = compiler.compile(given["input"])
    on_error, on_null = (compiler.compile(given[name]) for name in ("onError", "onNull"))

    def evaluate(scope: _Scope) -> Any:
        found = value(scope)
        if found is None or found is MISSING:
            return on_null(scope)
        if not isinstance(found, int | float) or not math.isfinite(found) or not -(2**63) <= found < 2**63:
            return on_error(scope)
        return int(found)

    return evaluate


def _literal(_compiler: _Compiler, given: Any) -> Evaluator:
    return lambda _scope: given


_OPERATORS: Mapping[str, Callable[[_Compiler, Any], Evaluator]] = {
    "$literal": _literal,
    "$cond": _condition,
    "$let": _let,
    "$filter": _filtered,
    "$map": _mapped,
    "$ifNull": _of_many(_first_present),
    "$isNumber": _of_many(lambda values: isinstance(values[0], int | float) and not isinstance(values[0], bool)),
    "$isArray": _of_many(lambda values: isinstance(values[0], list)),
    "$and": _of_many(lambda values: all(map(_true, values))),
    "$or": _of_many(lambda values: any(map(_true, values))),
    "$not": _of_many(lambda values: not _true(values[0])),
    "$eq": _comparison(lambda a, b: a == b),
    "$ne": _comparison(lambda a, b: a != b),
    "$gt": _comparison(lambda a, b: a > b),
    "$gte": _comparison(lambda a, b: a >= b),
    "$lt": _comparison(lambda a, b: a < b),
    "$lte": _comparison(lambda a, b: a <= b),
    "$in": _of_two(lambda value, array: value in array),
    "$add": _of_many(_add),
    "$multiply": _of_many(_product),
    "$subtract": _numeric(_subtract),
    "$divide": _numeric(lambda a, b: a / b),
    "$mod": _numeric(lambda a, b: int(math.fmod(a, b)) if type(a) is int and type(b) is int else math.fmod(a, b)),
    "$floor": _of_many(lambda values: values[0] if values[0] is None else type(values[0])(math.floor(values[0]))),
    "$toInt": _of_many(lambda values: int(values[0])),
    "$toLong": _of_many(lambda values: None if values[0] is None or values[0] is MISSING else int(values[0])),
    "$toString": _of_many(lambda values: str(values[0])),
    "$sum": _of_many(_total),
    "$min": _of_many(_extreme(lambda values: min(values, key=_order))),
    "$max": _of_many(_extreme(lambda values: max(values, key=_order))),
    "$size": _of_many(lambda values: len(values[0])),
    "$arrayElemAt": _of_two(_element),
    "$concatArrays": _of_many(_joined),
    "$concat": _of_many(_text),
    "$first": _of_many(_first_of),
    "$type": _of_many(_type_of),
    "$indexOfBytes": _of_two(lambda text, part: text.encode().find(part.encode())),
    "$replaceOne": _replaced,
    "$convert": _converted,
}


# -- aggregation ----------------------------------------------------------------------------------------------------------


def _group(documents: list[Document], given: Mapping[str, Any]) -> list[Document]:
    groups: dict[Any, list[Document]] = {}
    identify = _compiled(given["_id"])
    for document in documents:
        groups.setdefault(_or_null(identify(_Scope(document))), []).append(document)
    sums = {name: _compiled(each["$sum"]) for name, each in given.items() if name != "_id"}
    return [
        {"_id": identity, **{name: _total([value(_Scope(each)) for each in members]) for name, value in sums.items()}}
        for identity, members in groups.items()
    ]


def _sort(documents: list[Document], given: Mapping[str, int]) -> list[Document]:
    for field, direction in reversed(list(given.items())):
        documents.sort(key=lambda each, field=field: _order(each.get(field)), reverse=direction < 0)  # type: ignore[misc]
    return documents


def _project(documents: list[Document], given: Mapping[str, Any]) -> list[Document]:
    wanted = {name: _compiled(f"${name}" if each == 1 else each) for name, each in given.items() if each != 0}
    return [{name: value(_Scope(each)) for name, value in wanted.items()} for each in documents]


def _unwind(documents: list[Document], given: str) -> list[Document]:
    name = given.removeprefix("$")
    return [{**document, name: each} for document in documents for each in document.get(name, ())]


_STAGES: Mapping[str, Callable[[list[Document], Any], list[Document]]] = {
    "$match": lambda documents, given: [each for each in documents if _matches(each, given)],
    "$group": _group,
    "$sort": _sort,
    "$limit": lambda documents, given: documents[:given],
    "$project": _project,
    "$unwind": _unwind,
}
