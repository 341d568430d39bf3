"""Where a stream comes from: fetches its playlists, segments and keys, within limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO

import httpx
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from goalsvc.errors import ClipImpossibleError, ExternalServiceError, ServiceDownError
from goalsvc.integrations.decoding import decoded
from goalsvc.integrations.egress import EgressRules, GuardedTransport
from goalsvc.integrations.hls import Key, MasterPlaylist, MediaPlaylist, PlaylistError, Resource, parse_playlist
from goalsvc.integrations.outbound import keep_signatures_out_of_logs

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much may be fetched for one clip."""

    playlist_bytes: int = 4 * 1024 * 1024
    media_bytes: int = 512 * 1024 * 1024
    """All the segments of one clip together."""
    answer_seconds: float = 10.0
    """The origin's longest silence."""
    redirects: int = 5


class Origin:
    """Fetches what one clip needs; errors name the host only, because the rest of an address may hold a token."""

    def __init__(self, rules: EgressRules, limits: FetchLimits) -> None:
        self._limits = limits
        self._bytes_left = limits.media_bytes
        self._keys: dict[str, bytes] = {}
        keep_signatures_out_of_logs()
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(rules),
            timeout=limits.answer_seconds,
            headers={"Accept-Encoding": "identity"},  # media is compressed already, and sizes are what they seem
            follow_redirects=True,
            max_redirects=limits.redirects,
            trust_env=False,
        )

    async def __aenter__(self) -> "Origin":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def playlist(
        self, url: str, variables: dict[str, str] | None = None
    ) -> tuple[MasterPlaylist | MediaPlaylist, str]:
        """The playlist at `url`, and the address that it came from after redirects.

        Raises ClipImpossibleError when it is too large, ExternalServiceError when it cannot be had or read.
        """
        content = bytearray()
        async with self._get(url) as answer:
            async for chunk in decoded(answer, self._limits.playlist_bytes):
                content += chunk
        source = str(answer.url)
        try:
            # Not on the event loop: megabytes take a while.
            parsed = await asyncio.to_thread(parse_playlist, content.decode(errors="replace"), source, variables)
        except PlaylistError as error:
            raise ExternalServiceError("hls", f"the playlist {error}") from error
        return parsed, source

    async def append(self, resource: Resource, file: IO[bytes]) -> None:
        """Appends the resource to the file, decrypted.

        Raises ClipImpossibleError for an encryption that cannot be read and for too much data, ExternalServiceError when
        the origin fails or sends less than it should.
        """
        decryption = await self._decryption(resource.key) if resource.key is not None else None
        skip = wanted = 0
        async with self._get(resource.url, resource) as answer:
            if resource.length is not None:
                wanted = resource.length
                if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                    skip = resource.offset  # the whole file instead of the range: the range is cut out here
            written = 0
            async for chunk in decoded(answer, self._bytes_left):
                self._bytes_left -= len(chunk)
                if skip:
                    skip, chunk = max(0, skip - len(chunk)), chunk[skip:]
                if wanted:
                    chunk = chunk[: wanted - written]
                written += len(chunk)
                file.write(decryption.update(chunk) if decryption is not None else chunk)
                if wanted and written == wanted:
                    break
        if wanted and written < wanted:
            raise ExternalServiceError("hls", f"{answer.url.host} sends {written} of {wanted} bytes of a range")
        if decryption is not None:
            file.write(decryption.finish())

    async def last_modified(self, resource: Resource) -> datetime | None:
        """When the origin says that it last changed this file; None when it does not say so."""
        try:
            async with self._get(resource.url, method="HEAD") as answer:
                text = answer.headers.get("last-modified", "")
        except ExternalServiceError:
            return None
        try:
            instant = parsedate_to_datetime(text)
        except ValueError:
            return None
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)

    async def _decryption(self, key: Key) -> "_Decryption":
        if key.refusal is not None:
            raise ClipImpossibleError(
                f"the segments are encrypted by {key.refusal}; only AES-128 (KEYFORMAT identity) can be read"
            )
        secret = self._keys.get(key.url)
        if secret is None:
            content = bytearray()
            async with self._get(key.url) as answer:
                async for chunk in decoded(answer, 4096):
                    content += chunk
            if len(content) != _KEY_BYTES:
                raise ClipImpossibleError(f"the key of the segments has {len(content)} bytes, not {_KEY_BYTES}")
            secret = self._keys[key.url] = bytes(content)
        return _Decryption(secret, key.iv)

    @asynccontextmanager
    async def _get(self, url: str, part: Resource | None = None, method: str = "GET") -> AsyncIterator[httpx.Response]:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ClipImpossibleError("the stream's address is not a valid URL") from error
        headers = {}
        if part is not None and part.length is not None:
            headers["Range"] = f"bytes={part.offset}-{part.offset + part.length - 1}"
        try:
            async with self._client.stream(method, parsed, headers=headers) as answer:
                if not answer.is_success:
                    refused = ServiceDownError if answer.status_code >= 500 else ExternalServiceError
                    raise refused("hls", f"HTTP {answer.status_code} from {answer.url.host}")
                yield answer
        except httpx.TimeoutException as error:
            raise ServiceDownError("hls", f"no answer in time from {parsed.host}") from error
        except httpx.UnsupportedProtocol as error:
            raise ClipImpossibleError("the stream's address must be an http or https URL") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceDownError("hls", f"{parsed.host} cannot be reached ({type(error).__name__})") from error


class _Decryption:
    """AES-128-CBC with PKCS7 padding, a chunk at a time."""

    def __init__(self, secret: bytes, iv: bytes) -> None:
        self._decryptor = Cipher(algorithms.AES(secret), modes.CBC(iv)).decryptor()
        self._held = b""

    def update(self, chunk: bytes) -> bytes:
        """Returns what can be decrypted so far; the last block is held back, because it may be padding."""
        plain = self._held + self._decryptor.update(chunk)
        self._held = plain[-_KEY_BYTES:]
        return plain[:-_KEY_BYTES]

    def finish(self) -> bytes:
        """The rest without its padding; raises ExternalServiceError when this is not how the segment is encrypted."""
        try:
            rest = self._held + self._decryptor.finalize()
        except ValueError as error:
            raise ExternalServiceError("hls", "a segment is not encrypted as its playlist says") from error
        padding = rest[-1] if rest else 0
        if not 1 <= padding <= _KEY_BYTES or rest[-padding:] != bytes([padding]) * padding:
            raise ExternalServiceError("hls", "a segment cannot be decrypted with its key")
        return rest[:-padding]


def container_of(beginning: bytes) -> str:
    """ffmpeg's name for the format of a segment that begins so. Raises ExternalServiceError for any other."""
    if beginning[:1] == b"\x47" and (len(beginning) < 189 or beginning[188:189] == b"\x47"):
        return "mpegts"
    if beginning[4:8] in (b"ftyp", b"styp", b"moof", b"sidx", b"emsg", b"prft"):
        return "mp4"
    if beginning[:3] == b"ID3" or (beginning[:1] == b"\xff" and beginning[1:2] >= b"\xf0"):
        return "aac"
    raise ExternalServiceError("hls", "a segment is neither MPEG-TS, MP4 nor AAC")
