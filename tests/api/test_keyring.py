"""Keys in memory: what another process creates or revokes is known at once, by change stream, or soon, by polling."""

import pytest

from goalsvc.models.keyring import Keyring
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
