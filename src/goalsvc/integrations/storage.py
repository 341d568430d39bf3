"""The object store (S3 or whatever speaks its protocol): where clips are put until they are reviewed."""

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goalsvc.errors import ExternalServiceError, ServiceDownError
from goalsvc.integrations.breaker import Breaker
from goalsvc.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 * 1024 * 1024
"""How much of a file is in memory at a time; S3 wants at least 5 MiB in every part but the last."""


class S3Store:
    """Uploads to one bucket, by one client that is made at the first upload and kept.

    Making a client costs about a second, most of it for loading boto: too much for the start of an API process that
    never stores anything, and for each upload. Credentials and region are found as AWS's own tools find them (AWS's
    environment variables, profile, role). Leave it with `close`.
    """

    def __init__(
        self, bucket: str, *, endpoint_url: str = "", timeout_seconds: float = 30.0, breaker: Breaker | None = None
    ) -> None:
        self._bucket = bucket
        self._breaker = breaker or Breaker("s3")
        self._endpoint_url = endpoint_url
        self._timeout_seconds = timeout_seconds
        self._exit = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._opened: S3Client | None = None

    async def upload(self, key: str, path: Path, content_type: str) -> None:
        """Streams the file to the bucket under `key`, a part at a time; the same key again replaces it.

        The object appears only when the last part is through, whole or not at all: what was sent of a failed or cancelled
        upload is given up. Raises ExternalServiceError; OSError when the file itself cannot be read.
        """
        await asyncio.to_thread(importlib.import_module, "aioboto3")  # the first time 0.6 s: not on the event loop
        with self._breaker.call(), _as_external_error():
            client = await self._client()
            created = await client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
            upload_id = created["UploadId"]
            try:
                parts = await self._send_parts(client, key, upload_id, path)
                await client.complete_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
                )
            except BaseException:  # a cancelled upload too would be kept, and paid for, for ever
                await self._give_up(client, key, upload_id)
                raise

    async def link(self, key: str, seconds: int) -> str:
        """A signed address from which the object can be fetched for so long; made here, without a request.

        Raises ExternalServiceError when there are no credentials.
        """
        await asyncio.to_thread(importlib.import_module, "aioboto3")
        with _as_external_error():
            client = await self._client()
            parameters = {"Bucket": self._bucket, "Key": key, "ResponseContentType": "video/mp4"}
            link: str = await client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        return link

    async def close(self) -> None:
        """Closes the client's connections, if it was ever made."""
        self._opened = None
        await self._exit.aclose()

    async def _send_parts(
        self, client: "S3Client", key: str, upload_id: str, path: Path
    ) -> "list[CompletedPartTypeDef]":
        parts: list[CompletedPartTypeDef] = []
        with await asyncio.to_thread(path.open, "rb") as file:
            # The first part is sent even when it is empty: an upload without parts cannot be completed.
            while (content := await asyncio.to_thread(file.read, PART_BYTES)) or not parts:
                number = len(parts) + 1
                sent = await client.upload_part(
                    Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=content
                )
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        return parts

    async def _give_up(self, client: "S3Client", key: str, upload_id: str) -> None:
        """Tells S3 to drop the parts; if that fails too, the bucket's lifecycle rule is what is left."""
        with suppress(Exception):  # the caller is about to hear of the error that matters
            async with asyncio.timeout(5.0):
                await client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    async def _client(self) -> "S3Client":
        async with self._opening:
            if self._opened is None:
                self._opened = await self._open()
            return self._opened

    async def _open(self) -> "S3Client":
        import aioboto3

        session = aioboto3.Session()
        client = session.client(
            "s3",
            endpoint_url=self._endpoint_url or None,
            region_name=session.region_name or os.environ.get("AWS_REGION") or "us-east-1",
            config=self._config(),
        )
        return await self._exit.enter_async_context(client)

    def _config(self) -> Any:
        from botocore.config import Config

        return Config(
            signature_version="s3v4",  # boto signs addresses by version 2 otherwise, which newer regions refuse
            connect_timeout=5,
            read_timeout=self._timeout_seconds,
            retries={"total_max_attempts": 2, "mode": "standard"},  # the task that uploads has its own, with back-off
            # Names of buckets do not resolve as hosts below an endpoint of one's own.
            s3={"addressing_style": "path"} if self._endpoint_url else {},
            # boto sends checksums that other makers' S3 does not know unless it is told not to:
            # https://github.com/boto/boto3/issues/4392
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )


@asynccontextmanager
async def open_store(settings: Settings, *, breaker: Breaker | None = None) -> AsyncIterator[S3Store]:
    """An S3Store for the quarantine bucket that the settings name; its client is closed on leaving."""
    store = S3Store(settings.s3_quarantine_bucket, endpoint_url=settings.s3_endpoint_url, breaker=breaker)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def _as_external_error() -> Iterator[None]:
    """Tells what went wrong with S3 in our words: error codes and class names, never a message that may hold a key."""
    # Here, not above: importing boto would double the time that an API process takes to start.
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        refused = ServiceDownError if status >= 500 or status == 429 else ExternalServiceError
        raise refused("s3", f"{error.operation_name}: {code}") from error
    except NoCredentialsError as error:
        raise ExternalServiceError("s3", "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
        raise ServiceDownError("s3", f"cannot be reached ({type(error).__name__})") from error
