"""Whose token is it? The platform's own token of a user (a JWT), verified by configured keys or by the platform's JWKS."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import jwt
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from goalsvc.api.errors import WebError
from goalsvc.context import Context
from goalsvc.domain.user_tokens import VerifyingKey
from goalsvc.settings import Settings

log = logging.getLogger(__name__)

user_token = HTTPBearer(
    auto_error=False,
    scheme_name="UserToken",
    bearerFormat="JWT",
    description="The user's own token, as the platform issues it: a JWT whose `sub` is the user's id, signed with "
    "`GOALSVC_JWT_KEY` by the one algorithm that `GOALSVC_JWT_ALGORITHM` names, or with a key of `GOALSVC_JWT_JWKS_URL`. "
    "`exp` and `nbf` are heeded where the token has them, with a leeway of `GOALSVC_JWT_LEEWAY`; `iss` and `aud` must be "
    "`GOALSVC_JWT_ISSUER` and `GOALSVC_JWT_AUDIENCE` where these are set.",
)


def user_of(token: str, settings: Settings, now: datetime, published: Sequence[VerifyingKey] = ()) -> str:
    """Id of the user whose token this is; a numeric `sub` as a string.

    Raises WebError 401 unless the token is signed by a configured key and the configured algorithm, or by one of the
    `published` keys, is at `now` within its `nbf` and `exp` (a token without them does not expire), is from the configured
    issuer and for the configured audience, and names a user in `sub`. With no key at all, no caller is let in.
    """
    keys = [*_configured(settings), *published]
    if not keys:
        log.error(
            "no user is let in: no GOALSVC_JWT_KEY with GOALSVC_JWT_ALGORITHM, and no key of GOALSVC_JWT_JWKS_URL"
        )
        raise unauthorized("user tokens cannot be verified: this goalsvc has no key for them")
    try:
        claims = _claims_of(token, keys, settings)
        _check_times(claims, now, settings.jwt_leeway)
    except jwt.ExpiredSignatureError:
        raise unauthorized("the user's token has expired") from None
    except jwt.InvalidTokenError as error:
        log.info("a user's token was refused: %s", error)
        raise unauthorized("the user's token is not one that is accepted here") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        # A key that is not of the algorithm's form; what is wrong with it is not for the caller.
        log.exception("no user is let in: a GOALSVC_JWT_KEY does not fit GOALSVC_JWT_ALGORITHM")
        raise unauthorized("user tokens cannot be verified: this goalsvc has no key for them") from None
    subject = claims["sub"]
    if isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)
    if not isinstance(subject, str) or not subject:
        raise unauthorized("the user's token names no user (`sub`)")
    return subject


def _configured(settings: Settings) -> Sequence[VerifyingKey]:
    algorithm = settings.jwt_algorithm
    if algorithm.lower() == "none":
        return ()
    values = [each.get_secret_value() for each in (settings.jwt_key, settings.jwt_key_next)]
    return [VerifyingKey(value, algorithm) for value in values if value]


def _claims_of(token: str, keys: Sequence[VerifyingKey], settings: Settings) -> Mapping[str, object]:
    """What the token claims, if one of the keys has signed it; raises what PyJWT raises, for the last key that was tried."""
    first, *others = keys
    issuer, audience = settings.jwt_issuer or None, settings.jwt_audience or None
    required = ["sub", *(["iss"] if issuer else []), *(["aud"] if audience else [])]
    try:
        return jwt.decode(
            token,
            first.key,
            algorithms=[first.algorithm],
            issuer=issuer,
            audience=audience,
            options={
                "require": required,
                "verify_sub": False,
                "verify_aud": bool(audience),
                "verify_iat": False,
                "verify_nbf": False,
                "verify_exp": False,
            },
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        if not others:
            raise
        return _claims_of(token, others, settings)


def _check_times(claims: Mapping[str, object], now: datetime, leeway: float) -> None:
    """Raises what PyJWT would raise; that goes by the machine's clock, which is not the time of a test clock."""
    if "nbf" in claims and _seconds(claims["nbf"], "nbf") > now.timestamp() + leeway:
        raise jwt.ImmatureSignatureError("The token is not yet valid (nbf)")
    if "exp" in claims and _seconds(claims["exp"], "exp") <= now.timestamp() - leeway:
        raise jwt.ExpiredSignatureError("Signature has expired")


def _seconds(value: object, claim: str) -> int:
    if isinstance(value, int | float | str):
        with suppress(ValueError, OverflowError):
            return int(value)
    raise jwt.DecodeError(f"{claim}: must be an integer")


def unauthorized(detail: str) -> WebError:
    """The refusal of a caller without a valid token."""
    return WebError(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})


async def caller_by_token(request: Request, token: str) -> str:
    """Id of the user whose token this is, by the keys of this app; raises WebError 401."""
    jwks = getattr(request.app.state, "jwks", None)
    published = await jwks.keys_for(token) if jwks is not None else ()
    context: Context = request.app.state.context
    return user_of(token, context.settings, context.clock.now(), published)


async def require_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(user_token)]
) -> str:
    """Id of the user who asks; refuses a caller without a token of their own."""
    if credentials is None:
        raise unauthorized("send the user's own token as `Authorization: Bearer …`")
    return await caller_by_token(request, credentials.credentials)
