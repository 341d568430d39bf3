"""What is cleaned in a setting, and what is refused: one list for `serve`, `worker`, `dev` and `doctor`."""

import re
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
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
    worker_host: str
    hls_allow_hosts: list[str]
    hls_timeshift_url: str
    s3_quarantine_bucket: str
    cors_headers: list[str]

    def __iter__(self) -> Generator[tuple[str, object], None, None]:
        """Yields each setting's name and value."""
        ...

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

_HOST = re.compile(r"[^\s/@:?#\[\]\\]+|\[?[0-9A-Fa-f:.]+\]?")
_URLS = ("api_url", "s3_endpoint_url", "byteplus_endpoint")


def cleaned(values: Mapping[str, object]) -> dict[str, Any]:
    """Returns the settings without white space and line ends around each; one that is then empty counts as not set.

    A PEM whose line ends are written as the two characters `\\n` gets real ones; addresses lose their last slash.
    """
    clean: dict[str, object] = {}
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
    found: dict[str, str] = {}
    for name, fault in _problems(settings):
        found.setdefault(name, fault)
    return [f"GOALSVC_{name.upper()}: {fault}" for name, fault in found.items()]


def unknown_in(environment: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Returns the variables that are named like settings and are none, so that they have no effect; `known` are the fields.

    What Kubernetes adds for a Service of the name `goalsvc`, and what `goalsvc dev` and tests read, is left out.
    """
    return sorted(
        name
        for name, value in environment.items()
        if name.startswith("GOALSVC_")
        and not name.startswith(("GOALSVC_DEV_", "GOALSVC_TEST_", "GOALSVC_SERVICE_"))
        and not (name.startswith("GOALSVC_PORT") and (value.startswith("tcp://") or "_TCP" in name))
        and name.removeprefix("GOALSVC_").lower() not in known
    )


def _texts(value: object) -> Iterator[str]:
    """Every text in the value of a setting."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from (text for part in pair for text in _texts(part))
    elif isinstance(value, Sequence):
        yield from (text for part in value for text in _texts(part))


def _form_problems(settings: Checked) -> Iterator[tuple[str, str]]:
    for name, value in settings:
        for text in _texts(value):
            shown = text.replace("\n", "") if name.startswith("jwt_key") and "-----BEGIN" in text else text
            if not shown.isprintable() and re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", shown):
                yield name, "must be text in UTF-8 without control characters"


def _problems(settings: Checked) -> Iterator[tuple[str, str]]:
    yield from _form_problems(settings)
    yield from _url_problems(settings)
    if settings.pusher_key and not settings.pusher_secret.get_secret_value().strip():
        yield "pusher_secret", "required with GOALSVC_PUSHER_KEY: with an empty secret anyone could sign webhooks"
    for key, secret in settings.pusher_keys.items():
        if not key.strip() or not secret.get_secret_value().strip():
            yield "pusher_keys", "each key and each secret must not be empty: anyone could sign webhooks"
            break
    if settings.pusher_app_id and not settings.pusher_app_id.isdecimal():
        yield "pusher_app_id", "must be a number"
    for name in ("pusher_host", "worker_host"):
        if not _HOST.fullmatch(getattr(settings, name)):
            yield name, "must be the name of a host, without scheme, port and path"
    if not all(map(_HOST.fullmatch, settings.hls_allow_hosts)):
        yield "hls_allow_hosts", "each must be the name of a host, without scheme, port and path"
    for name in ("api_key", "api_key_next", "metrics_key", "pusher_key", "pusher_keys", "byteplus_access_key"):
        value = getattr(settings, name)
        for text in value if isinstance(value, Mapping) else _texts(value):
            if text and not re.fullmatch(r"[\x21-\x7e]+", text):
                yield name, "must be of visible ASCII characters, as it is sent in a header"
    if not re.fullmatch(r"[A-Za-z0-9._-]{3,255}", settings.s3_quarantine_bucket):
        yield (
            "s3_quarantine_bucket",
            "must be the name of a bucket: 3 to 255 letters, digits, dots, hyphens, underscores",
        )
    if not all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header) for header in settings.cors_headers):
        yield "cors_headers", "each must be the name of a header"
    if settings.hls_timeshift_url and not _is_timeshift(settings.hls_timeshift_url):
        yield "hls_timeshift_url", "must begin with http://, https:// or {url}, and contain {start}"
    for origin in settings.cors_origins:
        if origin != "*" and (not _is_web_address(origin) or urlsplit(origin).path):
            yield "cors_origins", "each must be an origin such as https://live.example.com, without a path"
            break
    if settings.root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", settings.root_path):
        yield "root_path", "must be a path such as /goals, without a slash at its end"
    if settings.log_level not in LOG_LEVELS:
        yield "log_level", f"must be one of {', '.join(LOG_LEVELS)}"
    yield from _jwt_problems(settings)


def _url_problems(settings: Checked) -> Iterator[tuple[str, str]]:
    schemes = {"mongodb_url": ("mongodb://", "mongodb+srv://"), "redis_url": ("redis://", "rediss://", "unix://")}
    for name, possible in schemes.items():
        url = getattr(settings, name)
        if not url.startswith(possible):
            yield name, f"must begin with {', '.join(possible[:-1])} or {possible[-1]}"
        elif re.search(r"[/@#\[\]]", url.partition("://")[2].partition("?")[0].rpartition("@")[0]):
            yield name, "must have the characters / @ # [ ] of its user name and password percent-encoded"
        elif name == "redis_url" and not _is_redis_address(url):
            yield name, "must be an address such as redis://:password@host:6379/0"
    for name in (*_URLS, "jwt_jwks_url"):
        if (url := getattr(settings, name)) and not _is_web_address(url):
            yield name, "must be an address that begins with http:// or https://"


def _is_redis_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        named = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname) and parts.port != 0
        return named and (parts.scheme == "unix" or re.fullmatch(r"(/\d*)?", parts.path) is not None)
    except ValueError:
        return False


def _is_timeshift(text: str) -> bool:
    return text.startswith(("http://", "https://", "{url}")) and "{start}" in text


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
