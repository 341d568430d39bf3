"""BytePlus RTC's OpenAPI: cloud recordings and snapshots of a room.

Calls: https://docs.byteplus.com/en/docs/byteplus-rtc/docs-115526 (StartRecord), `…/docs-155125` (StartSnapshot). The signature
is AWS's version 4 with another algorithm name and without the prefix before the secret.
"""

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import SecretStr
from yarl import URL

from goalsvc.clock import Clock
from goalsvc.errors import ExternalServiceError, InvalidError, ServiceDownError
from goalsvc.integrations.breaker import Breaker
from goalsvc.integrations.outbound import NoAnswerError, Outbound, open_outbound
from goalsvc.settings import Settings

API_VERSION = "2022-06-01"
SERVICE = "rtc"
REGION = "ap-singapore-1"
CONTENT_TYPE = "application/json; charset=utf-8"
CONCURRENT_CALLS = 16

# https://docs.byteplus.com/en/docs/byteplus-rtc/docs-115995#id
_ID = re.compile(r"[a-zA-Z0-9_@\-.]{1,128}")
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.]{1,100}")

_ALREADY_STARTED = frozenset({"TaskAlreadyExists"})
_ALREADY_STOPPED = frozenset({"ErrorActiveTaskNotFound"})


@dataclass(frozen=True, slots=True)
class SnapshotStorage:
    """Where BytePlus puts snapshots: an S3 bucket, by keys of its own that can write there and nothing else.

    BytePlus writes to the bucket itself, so it needs an access key. It is never given this process's own AWS credentials,
    which may allow more: without a key made for it, the storage that is set in the RTC console applies. `region` is
    BytePlus's number for the region, not its name.
    """

    bucket: str
    access_key: str = ""
    secret_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    region: int = 0

    def as_storage_config(self) -> dict[str, object]:
        """BytePlus's `StorageConfig`: type 2 is storage that speaks S3, vendor 0 is Amazon.

        Numbers from the vendor's SDK: https://github.com/volcengine/volc-sdk-golang/tree/main/service/rtc/v20231101
        """
        custom: dict[str, object] = {"Vendor": 0, "Region": self.region, "Bucket": self.bucket}
        if self.access_key:
            custom |= {"AccessKey": self.access_key, "SecretKey": self.secret_key.get_secret_value()}
        return {"Type": 2, "CustomConfig": custom}


@dataclass(frozen=True, slots=True)
class RtcApp:
    """Which RTC app is controlled, by whose keys, and where its OpenAPI is."""

    app_id: str
    access_key: str
    secret_key: SecretStr
    endpoint: str = "https://open.byteplusapi.com"

    @property
    def missing(self) -> list[str]:
        """The variables that must be set before BytePlus can be called."""
        given = {
            "ACCESS_KEY": self.access_key,
            "SECRET_KEY": self.secret_key.get_secret_value(),
            "APP_ID": self.app_id,
        }
        return [f"GOALSVC_BYTEPLUS_{name}" for name, value in given.items() if not value]


class BytePlusRtc:
    """Starts and stops recordings. Every call is signed anew, for a signature is good for 15 minutes only.

    A call takes `timeout_seconds` at most, the wait for a free connection included.
    """

    def __init__(
        self,
        app: RtcApp,
        snapshots: SnapshotStorage,
        client: Outbound,
        clock: Clock,
        *,
        timeout_seconds: float = 5.0,
        breaker: Breaker | None = None,
    ) -> None:
        self._app = app
        self._snapshots = snapshots
        self._client = client
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._breaker = breaker or Breaker("byteplus")

    async def start_record(self, room_id: str, task_id: str) -> None:
        """Starts to record the room; a recording of that task id that runs already is success.

        What is recorded, and where to, is set in the RTC console. Raises InvalidError (`room_id`, `task_id`) for an id
        that BytePlus cannot take, ExternalServiceError when it refuses, fails or does not answer in time.
        """
        await self._call("StartRecord", self._task(room_id, task_id), success=_ALREADY_STARTED)

    async def stop_record(self, room_id: str, task_id: str) -> None:
        """Stops that recording; that none of that task id runs (any more) is success. Raises as `start_record`."""
        await self._call("StopRecord", self._task(room_id, task_id), success=_ALREADY_STOPPED)

    async def start_snapshot(self, room_id: str, task_id: str) -> None:
        """Starts to take snapshots of every stream of the room, a JPEG each 10 s, into `snapshots`.

        They end by themselves when no user has published for 3 minutes (BytePlus's own default). A task of that id that
        runs already is success. Raises as `start_record`.
        """
        snapshot = {
            "StorageConfig": self._snapshots.as_storage_config(),
            "ImageConfig": {"Interval": 10, "Format": 0},
        }
        await self._call("StartSnapshot", self._task(room_id, task_id) | snapshot, success=_ALREADY_STARTED)

    def _task(self, room_id: str, task_id: str) -> dict[str, object]:
        return {
            "AppId": self._app.app_id,
            "RoomId": checked_id("room_id", room_id),
            "TaskId": checked_id("task_id", task_id),
        }

    async def _call(self, action: str, body: Mapping[str, object], *, success: frozenset[str]) -> None:
        """One signed request; an error whose code is in `success` says that what was asked for is so already."""
        if self._app.missing:
            raise ExternalServiceError("byteplus", f"not configured: {', '.join(self._app.missing)}")
        content = json.dumps(body, separators=(",", ":")).encode()
        url = URL(self._app.endpoint).with_path("/").with_query(Action=action, Version=API_VERSION)
        headers = signed_headers(self._app, url, content, self._clock.now())
        with self._breaker.call():
            await self._send(action, str(url), content, headers, success)

    async def _send(
        self, action: str, url: str, content: bytes, headers: Mapping[str, str], success: frozenset[str]
    ) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status, told = await self._client.call("POST", url, content=content, headers=headers)
        except TimeoutError as error:
            raise ServiceDownError("byteplus", f"{action}: no answer within {self._timeout_seconds:g} s") from error
        except NoAnswerError as error:
            raise ServiceDownError("byteplus", f"{action}: cannot be reached ({error})") from error
        code = _error_code(status, told)
        if code is not None and code.rpartition(".")[2] not in success:
            refused = ServiceDownError if status >= 500 or status == 429 else ExternalServiceError
            raise refused("byteplus", f"{action}: {code} (HTTP {status})")


@asynccontextmanager
async def open_rtc(
    settings: Settings,
    clock: Clock,
    *,
    snapshots: SnapshotStorage | None = None,
    timeout_seconds: float = 5.0,
    breaker: Breaker | None = None,
) -> AsyncIterator[BytePlusRtc]:
    """A BytePlusRtc for the app that the settings name; its connections are closed on leaving.

    Snapshots go to the quarantine bucket unless `snapshots` says otherwise. Without keys it opens all the same, and each
    call raises ExternalServiceError naming what is missing.
    """
    app = RtcApp(
        app_id=settings.byteplus_app_id,
        access_key=settings.byteplus_access_key,
        secret_key=settings.byteplus_secret_key,
        endpoint=settings.byteplus_endpoint,
    )
    async with open_outbound(connections=CONCURRENT_CALLS) as client:
        yield BytePlusRtc(
            app,
            snapshots or SnapshotStorage(settings.s3_quarantine_bucket),
            client,
            clock,
            timeout_seconds=timeout_seconds,
            breaker=breaker,
        )


def checked_id(field: str, value: str) -> str:
    """`value` itself. Raises InvalidError for `field` when BytePlus could not take it as an id."""
    if not _ID.fullmatch(value):
        raise InvalidError(field, "must be 1 to 128 characters of a-z A-Z 0-9 _ @ - .")
    return value


def signed_headers(app: RtcApp, url: URL, content: bytes, at: datetime) -> dict[str, str]:
    """The headers of a POST of `content`, signed as of `at`; signed are all of them but the signature itself.

    https://docs.byteplus.com/en/docs/byteplus-platform/docs-sign-calculation
    """
    date = at.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(content).hexdigest()
    headers = {
        "content-type": CONTENT_TYPE,
        "host": url.host_port_subcomponent or "",
        "x-content-sha256": digest,
        "x-date": date,
    }
    names = ";".join(headers)
    query = "&".join(sorted(url.raw_query_string.split("&")))
    canonical = "\n".join(["POST", url.raw_path, query, *(f"{k}:{v}" for k, v in headers.items()), "", names, digest])
    scope = [date[:8], REGION, SERVICE, "request"]
    to_sign = "\n".join(["HMAC-SHA256", date, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()])
    key = app.secret_key.get_secret_value().encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"HMAC-SHA256 Credential={app.access_key}/{'/'.join(scope)}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _error_code(status: int, answer: bytes) -> str | None:
    """The code of the error that BytePlus answered with, None for success.

    Only the code: its message may repeat what was sent, and what was sent may hold a storage key.
    """
    try:
        error = json.loads(answer)["ResponseMetadata"].get("Error")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "UnreadableAnswer"
    if not error:
        return None if 200 <= status < 300 else "NoErrorCode"
    code = str(error.get("Code", "")) if isinstance(error, dict) else ""
    return code if _ERROR_CODE.fullmatch(code) else "NoErrorCode"
