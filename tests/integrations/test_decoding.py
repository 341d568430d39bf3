"""What comes out of an answer is bounded, whatever went into it."""

import gzip
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest

from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.decoding import CHUNK_BYTES, decoded

TEXT = b"#EXTM3U\n" * 100_000


class Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes, step: int) -> None:
        self._content, self._step = content, step
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._content), self._step):
            self.sent = at + self._step
            yield self._content[at : at + self._step]


def answer(content: bytes, *encodings: str, step: int = 100) -> httpx.Response:
    headers = [("Content-Encoding", encoding) for encoding in encodings]
    return httpx.Response(200, headers=headers, stream=Body(content, step))


async def read(response: httpx.Response, most_bytes: int = len(TEXT)) -> bytes:
    chunks = [chunk async for chunk in decoded(response, most_bytes)]
    assert all(len(chunk) <= CHUNK_BYTES for chunk in chunks)
    return b"".join(chunks)


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


@pytest.mark.parametrize("step", [1, 100, 1_000_000])
@pytest.mark.parametrize(
    ("encodings", "content"),
    [
        ((), TEXT[:5_000]),
        (("identity",), TEXT[:5_000]),
        (("gzip",), gzip.compress(TEXT)),
        (("X-GZIP",), gzip.compress(TEXT)),
        (("deflate",), zlib.compress(TEXT)),
        (("deflate",), raw_deflate(TEXT)),
    ],
)
async def test_what_is_decoded(encodings: tuple[str, ...], content: bytes, step: int) -> None:
    assert await read(answer(content, *encodings, step=step)) == (TEXT if len(content) != 5_000 else content)


@pytest.mark.parametrize("encodings", [("gzip, gzip",), ("gzip", "gzip"), ("br",), ("zstd",), ("gzip, br",)])
async def test_what_is_refused(encodings: tuple[str, ...]) -> None:
    response = answer(gzip.compress(gzip.compress(TEXT)), *encodings)
    with pytest.raises(ClipImpossibleError, match="encoding"):
        await read(response)
    assert isinstance(response.stream, Body)
    assert response.stream.sent == 0


async def test_a_bomb_stops_at_the_limit() -> None:
    """64 MiB of zeros in 64 KB: no more than the limit is ever unpacked."""
    with pytest.raises(ClipImpossibleError, match="more than 1000000 bytes"):
        await read(answer(gzip.compress(bytes(64 * 1024 * 1024)), "gzip"), most_bytes=1_000_000)


async def test_what_is_not_what_it_says() -> None:
    with pytest.raises(ExternalServiceError, match="not encoded"):
        await read(answer(TEXT, "gzip"))
