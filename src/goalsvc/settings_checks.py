"""What is cleaned in a setting, and what is refused: one list for `serve`, `worker`, `dev` and `doctor`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Checked(Protocol):
    """The settings that are looked at (`goalsvc.settings.Settings`)."""

    mongodb_url: str
    redis_url: str
    pusher_app_id: str
    pusher_key: str
    pusher_secret: SecretStr
    pusher_keys: dict[str, SecretStr]
    pusher_host: str
    api_key: SecretStr
    jwt_key: SecretStr
    jwt_algorithm: str
    cors_origins: list[str]
    root_path: str
    log_level: str

    @property
    def webhook_secrets(self) -> dict[str, str]:
        """Every app key whose webhooks are accepted, with its secret."""
        ...


_OTHER_NAMES = {"WARN": "WARNING", "FATAL": "CRITICAL", "TRACE": "DEBUG"}

_HMAC = ("HS256", "HS384", "HS512")
_ASYMMETRIC = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512", "EdDSA",
)  # fmt: skip
_ALGORITHMS = {name.upper(): name for name in (*_HMAC, *_ASYMMETRIC)}
#: RFC 7518, 3.2: a key for HS256 has at least as many bits as the hash; a shorter one is reported, not refused.
LEAST_JWT_KEY_BYTES = 32

_URLS = ("api_url", "s3_endpoint_url", "byteplus_endpoint")


def cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings without white space and line ends around each; one that is then empty counts as not set.

    A PEM whose line ends are written as the two characters `\\n` gets real ones; addresses lose their last slash.
    """
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, str):
            clean[name] = value
            continue
        text = value.strip().strip("\ufeff").strip()
        if name.startswith("jwt_key") and "-----BEGIN" in text:
            text = text.replace("\\r\\n", "\n").replace("\\n", "\n").replace("\r\n", "\n").strip('"').strip() + "\n"
        elif name == "log_level":
            text = _OTHER_NAMES.get(text.upper(), text.upper())
        elif name == "jwt_algorithm":
            text = _ALGORITHMS.get(text.upper(), text)
        elif name in _URLS or name == "root_path":
            text = text.rstrip("/")
        if text:
            clean[name] = text
    return clean


def listed(value: object) -> object:
    """`a, b/` as `["a", "b"]`: items lose white space and a last slash, empty ones are left out."""
    if isinstance(value, str):
        return [item for each in value.split(",") if (item := each.strip().rstrip("/"))]
    return value or []


def problems_of(settings: Checked) -> list[str]:
    """Returns a sentence for each setting with which no process can work; it names the variable and shows no value."""
    return [f"GOALSVC_{name.upper()}: {fault}" for name, fault in _problems(settings)]


def _problems(settings: Checked) -> Iterator[tuple[str, str]]:
    if not settings.mongodb_url.startswith(("mongodb://", "mongodb+srv://")):
        yield "mongodb_url", "must begin with mongodb:// or mongodb+srv://"
    if not settings.redis_url.startswith(("redis://", "rediss://", "unix://")):
        yield "redis_url", "must begin with redis://, rediss:// or unix://"
    if settings.pusher_key and not settings.pusher_secret.get_secret_value().strip():
        yield "pusher_secret", "required with GOALSVC_PUSHER_KEY: with an empty secret anyone could sign webhooks"
    for key, secret in settings.pusher_keys.items():
        if not key.strip() or not secret.get_secret_value().strip():
            yield "pusher_keys", "each key and each secret must not be empty: anyone could sign webhooks"
            break
    if settings.pusher_app_id and not settings.pusher_app_id.isdecimal():
        yield "pusher_app_id", "must be a number"
    if re.search(r"[\s/]", settings.pusher_host):
        yield "pusher_host", "must be the name of a host, without scheme, port and path"
    for name in ("api_key", "api_key_next", "metrics_key"):
        value = getattr(settings, name).get_secret_value()
        if value and not re.fullmatch(r"[\x21-\x7e]+", value):
            yield name, "must be of visible ASCII characters, as it is sent in a header"
    for name in (*_URLS, "jwt_jwks_url"):
        if (url := getattr(settings, name)) and not _is_web_address(url):
            yield name, "must be an address that begins with http:// or https://"
    for origin in settings.cors_origins:
        if origin != "*" and (not _is_web_address(origin) or urlsplit(origin).path):
            yield "cors_origins", "each must be an origin such as https://live.example.com, without a path"
            break
    if settings.root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", settings.root_path):
        yield "root_path", "must be a path such as /goals, without a slash at its end"
    if settings.log_level not in LOG_LEVELS:
        yield "log_level", f"must be one of {', '.join(LOG_LEVELS)}"
    yield from _jwt_problems(settings)


def _jwt_problems(settings: Checked) -> Iterator[tuple[str, str]]:
    algorithm = settings.jwt_algorithm
    if algorithm not in _ALGORITHMS.values():
        yield "jwt_algorithm", f"must be one of {', '.join(_ALGORITHMS.values())}"
        return
    for name in ("jwt_key", "jwt_key_next"):
        key = getattr(settings, name).get_secret_value()
        if key and algorithm in _ASYMMETRIC and "-----BEGIN" not in key:
            yield name, f"must be a public key in PEM form for {algorithm}"
        if key and algorithm in _HMAC and "-----BEGIN" in key:
            yield name, f"is a key in PEM form, which {algorithm} must not use: set GOALSVC_JWT_ALGORITHM"


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def warnings_of(settings: Checked) -> list[str]:
    """Returns a sentence for each setting without which a part of the service refuses everything."""
    found = []
    if not settings.webhook_secrets:
        found.append("GOALSVC_PUSHER_KEY is not set: every webhook is refused")
    if not settings.pusher_app_id or not settings.pusher_key:
        found.append("GOALSVC_PUSHER_APP_ID and GOALSVC_PUSHER_KEY are not both set: no notice can be sent to Pusher")
    if not settings.api_key.get_secret_value():
        found.append("GOALSVC_API_KEY is not set: only keys made with `goalsvc keys create` are accepted")
    key = settings.jwt_key.get_secret_value()
    if not key:
        found.append("GOALSVC_JWT_KEY is not set: /pusher/auth refuses every user")
    elif settings.jwt_algorithm in _HMAC and len(key.encode()) < LEAST_JWT_KEY_BYTES:
        found.append(
            f"GOALSVC_JWT_KEY: has fewer than {LEAST_JWT_KEY_BYTES} bytes, too few for {settings.jwt_algorithm}"
        )
    return found
