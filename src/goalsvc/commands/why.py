"""`goalsvc why`: one sentence and the chain, of a transfer or of a goal."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from bson import ObjectId

from goalsvc.commands.api import Api, Target

Answer = Mapping[str, Any]


async def read_why(target: Target, identity: str) -> Answer:
    """The answer of the API: `why` of a transfer, `why-not` of a goal. Raises CommandError, also where there is neither."""
    async with Api.open(target) as api:
        if ObjectId.is_valid(identity):
            goal: Answer = await api.get(f"/v1/goals/{identity}/why-not")
            return goal
        transfer: Answer = await api.get(f"/v1/transfers/{quote(identity, safe=':')}/why")
        return transfer


def lines_of(answer: Answer) -> Iterator[str]:
    """The sentence, and below it one line for each link."""
    yield answer["sentence"]
    for link in answer["chain"]:
        yield f"  {link['kind']:<12} {link['id']}  {link['text']}"
