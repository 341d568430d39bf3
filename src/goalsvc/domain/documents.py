"""Names of what MongoDB and JSON hold. Only who reads a value knows its type; `goalsvc.domain.reading` reads leniently."""

from collections.abc import Mapping, Sequence
from typing import Any

#: A document, or a part of one, as it is stored.
Stored = Mapping[str, Any]
#: A filter, an update or a stage of a pipeline.
Query = Mapping[str, Any]
#: An update of a document, also one that is a pipeline.
Update = Query | Sequence[Query]
#: A document, a filter or an update that is being put together.
RawDocument = dict[str, Any]
#: An object of JSON.
Json = dict[str, Any]
