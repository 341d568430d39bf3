"""Keys in memory: what another process creates or revokes is known at once, by change stream, or soon, by polling."""

import pytest
from bson import ObjectId

from goalsvc.models.api_key import MARK, key_digest
from goalsvc.models.keyring import Keyring
from tests.support import documents as odd
from tests.support.waiting import comes_to_hold
from tests.world import World

from .app import Service

NEVER, AT_ONCE = 3600.0, 0.01


async def knows(keyring: Keyring, key: str) -> bool:
    return await keyring.caller_of(key) is not None


async def refused(keyring: Keyring, key: str) -> bool:
    """Whether that key comes to be unknown."""

    async def is_unknown() -> bool:
        return not await knows(keyring, key)

    return await comes_to_hold(is_unknown)


@pytest.mark.real
async def test_a_revoked_key_is_refused_by_another_process_by_its_change_stream(world: World) -> None:
    made = await world.post("/v1/keys", {"name": "backend", "scopes": ["read"]})
    async with Keyring(world.clock, NEVER).kept_fresh() as other:
        assert await knows(other, made["key"])
        assert (await world.call("DELETE", f"/v1/keys/{made['id']}")).is_success
        assert await refused(other, made["key"])


async def test_where_there_is_no_change_stream_the_keys_are_polled(service: Service) -> None:
    """The in-memory database has none."""
    made = (await service.client.post("/v1/keys", json={"name": "backend", "scopes": ["read"]})).json()
    async with Keyring(service.stage.clock, AT_ONCE).kept_fresh() as other:
        assert await knows(other, made["key"])
        assert (await service.client.delete(f"/v1/keys/{made['id']}")).is_success
        assert await refused(other, made["key"])


async def test_a_key_of_a_moment_ago_is_known_before_the_next_poll(service: Service) -> None:
    async with Keyring(service.stage.clock, NEVER).kept_fresh() as other:
        made = (await service.client.post("/v1/keys", json={"name": "backend", "scopes": ["read"]})).json()
        assert await knows(other, made["key"])
        assert not await knows(other, made["key"][:-1])


@pytest.mark.real
async def test_an_odd_key_affects_only_itself_and_gives_no_access(world: World) -> None:
    made = await world.post("/v1/keys", {"name": "backend", "scopes": ["read"]})
    given, documents = {}, []
    for path in odd.paths_of(odd.api_key()):
        for name, value in odd.ODD_VALUES.items():
            key = f"{MARK}{ObjectId()}"
            given[key] = (path, name)
            identity = {"_id": f"key_{ObjectId()}", "sha256": key_digest(key)}
            documents.append(odd.with_value(odd.api_key(), path, value) | identity)
    documents += [odd.api_key(sha256=5), odd.api_key(_id=5), odd.api_key(_id={"a": 1})]
    world.database.api_keys.insert_many(documents)
    async with Keyring(world.clock, NEVER).kept_fresh() as other:
        assert await knows(other, made["key"])
        read = [what for key, what in given.items() if key_digest(key) in other._keys and await knows(other, key)]
        unset = ("null", "empty text", "Go's zero time", "an empty object")
        assert [what for what in read if what[0] in {("expires_at",), ("revoked_at",)} and what[1] not in unset] == []
        assert (await world.call("DELETE", f"/v1/keys/{made['id']}")).is_success
        assert await refused(other, made["key"])
    assert (await world.call("GET", "/v1/keys?limit=200")).status_code == 200
    for document in documents[::20]:
        for method, part in (("GET", ""), ("POST", "/roll"), ("DELETE", "")):
            answer = await world.call(method, f"/v1/keys/{document['_id']}{part}")
            assert answer.status_code < 500, (document, answer.text)
