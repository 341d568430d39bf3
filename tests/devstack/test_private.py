"""The private parts by themselves."""

from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis import Redis

from goalsvc.devstack.ports import http_status, is_listening
from goalsvc.devstack.private import private_mongod, private_s3, private_valkey
from goalsvc.devstack.process import PartFailedError
from goalsvc.devstack.waiting import holds_within

pytestmark = pytest.mark.real


def insert(client: MongoClient[dict[str, Any]], name: str) -> bool:
    try:
        with client.start_session() as session, session.start_transaction():
            client.get_default_database()["things"].insert_one({"_id": name}, session=session)
    except PyMongoError:
        return False
    return True


class TestPrivateMongod:
    def test_is_a_replica_set_with_transactions(self, tmp_path: Path) -> None:
        with private_mongod(tmp_path) as server, MongoClient[dict[str, Any]](server.url) as client:
            assert client.get_default_database().name == "goalsvc"
            assert insert(client, "one")
        assert not is_listening(server.ports[0])

    def test_comes_back_with_its_data_after_a_crash(self, tmp_path: Path) -> None:
        with private_mongod(tmp_path) as server, MongoClient[dict[str, Any]](server.url) as client:
            assert insert(client, "one")
            (member,) = server.members
            member.kill()
            member.start()
            member.wait_until_ready()
            assert holds_within(10, lambda: insert(client, "two"))

    def test_another_member_takes_over_from_a_killed_primary(self, tmp_path: Path) -> None:
        with private_mongod(tmp_path, members=3) as server, MongoClient[dict[str, Any]](server.url) as client:
            assert insert(client, "one")
            primary = client.primary
            assert primary
            server.member_on(primary[1]).kill()
            assert holds_within(15, lambda: insert(client, "two"))
            assert client.primary != primary


class TestPrivateValkey:
    def test_answers_and_ends(self) -> None:
        with private_valkey() as url:
            with Redis.from_url(url) as client:
                assert client.ping()
            port = int(url.rpartition(":")[2].partition("/")[0])
        assert not is_listening(port)

    def test_keeps_its_data_in_the_directory(self, tmp_path: Path) -> None:
        for kept in (False, True):
            with private_valkey(tmp_path) as url, Redis.from_url(url) as client:
                assert bool(client.exists("name")) is kept
                client.set("name", "kept")


class TestPrivateS3:
    def test_has_the_buckets(self) -> None:
        with private_s3(["clips"]) as url:
            port = int(url.rpartition(":")[2])
            assert http_status(port, "/clips") == 200
            assert http_status(port, "/others") == 404

    def test_says_so_when_a_bucket_cannot_be_had(self) -> None:
        with pytest.raises(PartFailedError, match="a bucket named 'b'"), private_s3(["b"]):
            pass
