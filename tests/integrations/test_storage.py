"""S3: the real store against moto's server, the emulator beside it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import httpx
import pytest
from moto.server import ThreadedMotoServer

from goalsvc.context import ObjectStore
from goalsvc.errors import ExternalServiceError
from goalsvc.integrations.storage import PART_BYTES, S3Store, open_store
from tests.support.services import MemoryStore, StoredObject

from .conftest import settings_with
from .stub_server import StubAnswer, StubRequest, StubServer, free_port

BUCKET = "quarantine"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AWS's own variables, and none of what this machine may hold besides."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_url: str, credentials: None) -> Iterator[Any]:
    client = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture
async def store(moto_url: str, s3: Any) -> AsyncIterator[S3Store]:
    settings = settings_with(s3_endpoint_url=moto_url, s3_quarantine_bucket=BUCKET)
    async with open_store(settings) as opened:
        yield opened


class World:
    """One of the two stores, with a way to see what it holds."""

    def __init__(self, store: ObjectStore, s3: Any) -> None:
        self.store = store
        self._s3 = s3

    def holds(self, key: str) -> StoredObject:
        if isinstance(self.store, MemoryStore):
            return self.store.objects[key]
        found = self._s3.get_object(Bucket=BUCKET, Key=key)
        return StoredObject(found["Body"].read(), found["ContentType"])


@pytest.fixture(params=["real", "emulator"])
async def world(request: pytest.FixtureRequest, store: S3Store, s3: Any) -> World:
    return World(store if request.param == "real" else MemoryStore(), s3)


def file_of(directory: Path, content: bytes) -> Path:
    path = directory / "clip.mp4"
    path.write_bytes(content)
    return path


class TestContract:
    """What holds for the real store and for its emulator."""

    @pytest.mark.parametrize("size", [0, 1, 1000, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 17])
    async def test_every_byte_arrives(self, world: World, tmp_path: Path, size: int) -> None:
        content = (bytes(range(251)) * (size // 251 + 1))[:size]
        await world.store.upload("64a1", file_of(tmp_path, content), "video/mp4")
        assert world.holds("64a1") == StoredObject(content, "video/mp4")

    async def test_the_same_key_again_replaces(self, world: World, tmp_path: Path) -> None:
        await world.store.upload("64a1", file_of(tmp_path, b"one"), "video/mp4")
        await world.store.upload("64a1", file_of(tmp_path, b"two"), "text/plain")
        assert world.holds("64a1") == StoredObject(b"two", "text/plain")

    async def test_several_at_once(self, world: World, tmp_path: Path) -> None:
        path = file_of(tmp_path, b"same")
        await asyncio.gather(*(world.store.upload(f"key-{n}", path, "video/mp4") for n in range(10)))
        assert {world.holds(f"key-{n}").content for n in range(10)} == {b"same"}

    async def test_a_file_that_is_not_there_is_no_matter_of_s3(self, world: World, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            await world.store.upload("64a1", tmp_path / "none.mp4", "video/mp4")


class TestFailure:
    async def test_a_bucket_that_is_not_there(self, moto_url: str, tmp_path: Path) -> None:
        settings = settings_with(s3_endpoint_url=moto_url, s3_quarantine_bucket="nowhere")
        async with open_store(settings) as store:
            with pytest.raises(ExternalServiceError, match="s3: CreateMultipartUpload: NoSuchBucket"):
                await store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4")

    async def test_nobody_listens(self, tmp_path: Path) -> None:
        settings = settings_with(s3_endpoint_url=f"http://127.0.0.1:{await free_port()}")
        async with open_store(settings) as store:
            with pytest.raises(ExternalServiceError, match=r"cannot be reached \(EndpointConnectionError\)"):
                await store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4")

    async def test_no_answer(self, stub: StubServer, tmp_path: Path) -> None:
        stub.answer(never=True)
        store = S3Store(BUCKET, endpoint_url=stub.url, timeout_seconds=0.1)
        with pytest.raises(ExternalServiceError, match=r"cannot be reached \(ReadTimeoutError\)"):
            await store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4")
        await store.close()

    async def test_no_credentials(self, moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        async with open_store(settings_with(s3_endpoint_url=moto_url)) as store:
            with pytest.raises(ExternalServiceError, match="no credentials: set AWS_ACCESS_KEY_ID"):
                await store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4")

    async def test_a_refused_part_leaves_nothing_behind(self, stub: StubServer, tmp_path: Path) -> None:
        stub.answering = refusing_parts
        async with open_store(settings_with(s3_endpoint_url=stub.url, s3_quarantine_bucket=BUCKET)) as store:
            with pytest.raises(ExternalServiceError, match="UploadPart: AccessDenied") as caught:
                await store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4")
        assert "hush-hush" not in str(caught.value)
        assert [request.method for request in stub.requests] == ["POST", "PUT", "DELETE"]

    async def test_a_cancelled_upload_leaves_nothing_behind(self, stub: StubServer, tmp_path: Path) -> None:
        sending = asyncio.Event()

        def answering(request: StubRequest) -> StubAnswer:
            if request.method == "PUT":
                sending.set()
                return StubAnswer(never=True)
            return refusing_parts(request)

        stub.answering = answering
        async with open_store(settings_with(s3_endpoint_url=stub.url, s3_quarantine_bucket=BUCKET)) as store:
            uploading = asyncio.create_task(store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4"))
            await sending.wait()
            uploading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await uploading
        assert stub.requests[-1].method == "DELETE"

    async def test_the_stand_in_fails_as_told(self, tmp_path: Path) -> None:
        store = MemoryStore()
        store.refuse(2)
        for _ in range(2):
            with pytest.raises(ExternalServiceError, match="s3"):
                await store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4")
        await store.upload("64a1", file_of(tmp_path, b"x"), "video/mp4")
        assert set(store.objects) == {"64a1"}


async def test_a_store_that_was_never_used_closes() -> None:
    async with open_store(settings_with()):
        pass


def refusing_parts(request: StubRequest) -> StubAnswer:
    """An S3 that takes no parts."""
    if request.method == "POST":
        started = f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>64a1</Key><UploadId>u1</UploadId>"
        return StubAnswer(f"{started}</InitiateMultipartUploadResult>".encode())
    if request.method == "PUT":
        return StubAnswer(b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>", status=403)
    return StubAnswer(b"", status=204)


class TestLink:
    async def test_the_object_can_be_fetched_by_it(self, store: S3Store, tmp_path: Path) -> None:
        clip = tmp_path / "clip.mp4"
        clip.write_bytes(b"the clip")
        await store.upload("a-clip", clip, "video/mp4")
        link = await store.link("a-clip", 60)
        async with httpx.AsyncClient(trust_env=False) as stranger:
            answer = await stranger.get(link)
        assert (answer.status_code, answer.content) == (200, b"the clip")
        assert answer.headers["content-type"] == "video/mp4"
        assert "X-Amz-Signature=" in link
        assert "X-Amz-Expires=60" in link
        assert "hush-hush" not in link

    async def test_without_credentials(self, store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(ExternalServiceError, match="credentials"):
            await store.link("a-clip", 60)
