"""Indexes: made once by `goalsvc migrate`, and by a process that starts only where it takes no time."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from goalsvc.commands.migrate import run_migrate
from goalsvc.commands.preflight import wait_for_services
from goalsvc.errors import SettingsError
from goalsvc.models import indexes
from goalsvc.models.migration import Keeping, make_indexes, prepare_indexes
from goalsvc.settings import Settings

pytestmark = pytest.mark.real

Documents = Database[dict[str, Any]]
DAY = 86_400


@pytest.fixture
def url(mongodb_url: str) -> str:
    return mongodb_url.replace("/goalsvc", "/migration")


@pytest.fixture
def database(url: str) -> Iterator[Documents]:
    """A database of its own, which nothing is in."""
    with MongoClient[dict[str, Any]](url) as client:
        client.drop_database("migration")
        yield client["migration"]
        client.drop_database("migration")


@pytest.fixture
def settings(url: str, redis_url: str) -> Settings:
    return Settings(mongodb_url=url, redis_url=redis_url, job_key=SecretStr("job-key"))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One document is many."""
    monkeypatch.setattr(indexes, "SMALL", 0)


def ends(database: Documents, collection: str, field: str) -> int | None:
    for index in database[collection].index_information().values():
        if index["key"] == [(field, 1)]:
            seconds: int | None = index.get("expireAfterSeconds")
            return seconds
    return None


async def test_a_new_database_gets_all_at_the_start(database: Documents, settings: Settings) -> None:
    told: list[str] = []
    await prepare_indexes(settings, told.append)
    assert told == []
    assert (await make_indexes(settings.mongodb_url, Keeping())).names == []
    assert {"listed_streamer", "promises_due"} <= set(database["goals"].index_information())


@pytest.mark.usefixtures("few")
def test_a_large_collection_waits_for_migrate(
    database: Documents, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    database["goals"].insert_one({"_cls": "Goal.ShowGoal"})
    told: list[str] = []
    wait_for_services(settings, told.append)
    (line,) = told
    assert line.startswith("GOALSVC_MONGODB_URL: the database lacks indexes (goals.")
    assert "run `goalsvc migrate`" in line
    assert set(database["goals"].index_information()) == {"_id_"}
    assert len(database["sessions"].index_information()) > 1
    run_migrate(settings)
    assert "made goals.promises_due" in capsys.readouterr().out.splitlines()
    run_migrate(settings)
    assert capsys.readouterr().out == "0 indexes made; the database has all that this version needs\n"
    told.clear()
    wait_for_services(settings, told.append)
    assert told == []


@pytest.mark.usefixtures("few")
async def test_without_an_index_that_decides_nothing_starts(database: Documents, settings: Settings) -> None:
    for name in ("transfers", "api_keys"):
        database[name].insert_one({})
    with pytest.raises(SettingsError, match=r"^GOALSVC_MONGODB_URL: .*api_keys\.sha256.* run `goalsvc migrate`$"):
        await prepare_indexes(settings, print)
    told: list[str] = []
    await prepare_indexes(settings.model_copy(update={"dev_dir": "somewhere"}), told.append)
    assert told == [], "goalsvc dev makes them itself"
    await prepare_indexes(settings, told.append)
    assert told == []


async def test_what_others_and_earlier_versions_left(database: Documents, settings: Settings) -> None:
    same_keys = {"key": {"metadata.user_id": 1.0, "_id": 1}, "name": "of_another_service"}
    same_name = {"key": {"x": 1}, "name": "listed_kind"}
    retired = {"key": {"exp": 1}, "name": "expiry"}
    database.command({"createIndexes": "goals", "indexes": [same_keys, same_name, retired]})
    names = (await make_indexes(settings.mongodb_url, Keeping())).names
    known = database["goals"].index_information()
    assert "goals.listed_streamer" not in names, "the same keys under another name are accepted"
    assert "listed_streamer" not in known
    assert [("_cls", 1), ("_id", 1)] in [index["key"] for index in known.values()]
    assert "expiry" not in known, "a later version replaced it"


def test_a_mongodb_that_is_not_there_is_one_sentence(settings: Settings) -> None:
    away = settings.model_copy(update={"mongodb_url": "mongodb://127.0.0.1:9/x"})
    with pytest.raises(SettingsError, match=r"^GOALSVC_MONGODB_URL: cannot be reached"):
        run_migrate(away)


async def test_how_long_documents_are_kept_follows_the_settings(database: Documents, settings: Settings) -> None:
    database["tracking_events"].create_index([("at", 1)], name="mine", expireAfterSeconds=5)
    for traces, events, tracking in ((7, 8, 9), (17, 18, 19), (30, 30, 0), (30, 30, 90)):
        await make_indexes(settings.mongodb_url, Keeping(traces, events, tracking))
        assert ends(database, "traces", "at") == traces * DAY
        assert ends(database, "events", "created_at") == events * DAY
        assert ends(database, "deliveries", "created_at") == events * DAY
        assert ends(database, "tracking_events", "at") == (tracking * DAY or None)
        assert ends(database, "bi_escrows", "updated_at") == (tracking * DAY or None)
        assert ("mine" in database["tracking_events"].index_information()) is (tracking in (9, 19))
    assert Keeping.of(settings) == Keeping(traces=30, events=30, tracking=90)
