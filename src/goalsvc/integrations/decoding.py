"""What comes out of an HTTP answer, bounded: a few bytes that were compressed twice can become gigabytes."""

import zlib
from collections.abc import AsyncIterator, Iterator

import httpx

from goalsvc.errors import ClipImpossibleError, ExternalServiceError

CHUNK_BYTES = 64 * 1024


async def decoded(answer: httpx.Response, most_bytes: int) -> AsyncIterator[bytes]:
    """Yields the body in chunks of at most 64 KiB, as it was before `Content-Encoding`.

    We ask for `identity`. One gzip or deflate is decoded all the same, a chunk at a time; other or several encodings raise
    ClipImpossibleError, and so does a body of more than `most_bytes` once it is decoded.
    """
    encodings = [
        name
        for value in answer.headers.get_list("content-encoding", split_commas=True)
        if (name := value.strip().lower()) not in ("", "identity")
    ]
    if len(encodings) > 1 or not set(encodings) <= {"gzip", "x-gzip", "deflate"}:
        raise ClipImpossibleError(f"the origin sends an encoding that is not accepted: {', '.join(encodings)[:80]}")
    decoder = _Decoder(encodings[0]) if encodings else None
    size = 0
    async for raw in answer.aiter_raw(CHUNK_BYTES):
        for chunk in decoder.chunks(raw) if decoder is not None else (raw,):
            size += len(chunk)
            if size > most_bytes:
                raise ClipImpossibleError(f"the origin sends more than {most_bytes} bytes")
            yield chunk


class _Decoder:
    """Decodes gzip or deflate (with zlib's frame, or without) in bounded steps."""

    def __init__(self, encoding: str) -> None:
        self._raw_deflate = encoding == "deflate"
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS if self._raw_deflate else zlib.MAX_WBITS | 16)

    def chunks(self, raw: bytes) -> Iterator[bytes]:
        """Yields what these bytes decode to; raises ExternalServiceError when they are not of that encoding."""
        more = bool(raw)
        while more and not self._zlib.eof:
            try:
                chunk = self._zlib.decompress(raw, CHUNK_BYTES)
            except zlib.error as error:
                if not self._raw_deflate:
                    raise ExternalServiceError(
                        "hls", "an answer is not encoded as its Content-Encoding header says"
                    ) from error
                self._raw_deflate = False
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
                continue
            self._raw_deflate = False
            raw = self._zlib.unconsumed_tail
            more = bool(raw) or len(chunk) == CHUNK_BYTES
            if chunk:
                yield chunk
