"""The platform's published keys (JWKS), fetched when they are needed and kept for a while."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from time import monotonic

import jwt

from goalsvc.domain.user_tokens import VerifyingKey
from goalsvc.integrations.breaker import measured

log = logging.getLogger(__name__)

#: How long the keys are used without asking again, and how soon an unknown key or a failure makes it ask again.
KEPT_SECONDS = 600.0
AGAIN_SECONDS = 30.0
_PATIENCE_SECONDS = 5.0
_LARGEST_BYTES = 256 * 1024

#: The algorithm of a key that does not name one. Symmetric keys are never published, so none is accepted.
_BY_TYPE: Mapping[str, str] = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA"}
)


class Jwks:
    """The keys at one address. When it cannot be reached, those that are known stay in use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, VerifyingKey] = {}
        self._asked_at = -KEPT_SECONDS
        self._asking = asyncio.Lock()

    async def keys_for(self, token: str) -> Sequence[VerifyingKey]:
        """The keys that may have signed the token: the one that its header names, or all where it names none."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError):
            return ()
        known = kid is None or kid in self._keys
        if monotonic() - self._asked_at > (KEPT_SECONDS if known and self._keys else AGAIN_SECONDS):
            await self._ask()
        if kid is None:
            return list(self._keys.values())
        return [self._keys[kid]] if kid in self._keys else []

    async def _ask(self) -> None:
        began = monotonic()
        async with self._asking:
            if self._asked_at >= began:
                return  # another caller asked meanwhile
            self._asked_at = monotonic()
            try:
                with measured("jwks") as call:
                    try:
                        document = await _fetched(self._url)
                    except (OSError, ValueError):
                        call.outcome = "down"
                        raise
                    call.outcome = "refused"
                    self._keys = _parsed(document)
                    call.outcome = "ok"
            except (OSError, ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
                log.warning("GOALSVC_JWT_JWKS_URL cannot be read (%s): known keys are used", type(error).__name__)


async def _fetched(url: str) -> bytes:
    """The document at that address; raises OSError, ValueError."""
    import httpx  # here, so that an API that has no such address starts without it

    try:
        async with (
            httpx.AsyncClient(timeout=_PATIENCE_SECONDS, follow_redirects=False) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status_code != 200 or answer.headers.get("content-encoding", "identity") != "identity":
                raise ValueError(f"HTTP {answer.status_code}")
            read = bytearray()
            async for piece in answer.aiter_raw():
                read += piece
                if len(read) > _LARGEST_BYTES:
                    raise ValueError(f"larger than {_LARGEST_BYTES} bytes")
    except httpx.HTTPError as error:
        raise OSError(type(error).__name__) from None
    return bytes(read)


def _parsed(document: bytes) -> dict[str, VerifyingKey]:
    """The keys by their `kid`; those that are not for signatures or not of a known form are left out."""
    found: dict[str, VerifyingKey] = {}
    for number, key in enumerate(json.loads(document)["keys"]):
        verifying = _verifying(key)
        if verifying is not None:
            found[str(key.get("kid", f"#{number}"))] = verifying
    return found


def _verifying(key: object) -> VerifyingKey | None:
    if not isinstance(key, dict) or key.get("use", "sig") != "sig":
        return None
    algorithm = key.get("alg") or _BY_TYPE.get(str(key.get("kty")))
    if algorithm not in _ASYMMETRIC:
        return None
    try:
        return VerifyingKey(jwt.PyJWK(key, algorithm).key, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
