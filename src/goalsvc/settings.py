"""The settings: all of them, read from `GOALSVC_…` environment variables by each process at its start."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from goalsvc.errors import SettingsError
from goalsvc.settings_checks import cleaned, listed, problems_of

#: The longest that can be set, in seconds: a time so far from now can still be reckoned with.
TEN_YEARS = 315_360_000


def _secrets_by_key(value: object) -> object:
    """The JSON text `{"key": "secret", …}` as a dict; anything else is left to pydantic to refuse."""
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('must be JSON such as {"key": "secret"}') from None
    if isinstance(value, dict):
        return {key.strip(): secret.strip() if isinstance(secret, str) else secret for key, secret in value.items()}
    return value or {}


class Settings(BaseSettings):
    """What can be set, with its default. Secrets never show in a log: they are `SecretStr`."""

    model_config = SettingsConfigDict(
        env_prefix="GOALSVC_", extra="ignore", hide_input_in_errors=True, allow_inf_nan=False
    )

    mongodb_url: str = Field(
        description="MongoDB replica set or sharded cluster, with the database's name in its path."
    )
    redis_url: str = Field(
        description="Redis or Valkey; holds work in flight and caches, never the only copy of anything."
    )

    pusher_app_id: str = Field(default="", description="Pusher's app id (a number).")
    pusher_key: str = Field(default="", description="Pusher's app key; webhooks must name it.")
    pusher_secret: SecretStr = Field(
        default=SecretStr(""), description="Signs webhooks, channel authorisations, API calls."
    )
    pusher_host: str = Field(default="api-mt1.pusher.com", description="Host of Pusher's HTTP API.")
    pusher_port: int = Field(default=443, ge=1, le=65535, description="Port of Pusher's HTTP API.")
    pusher_ssl: bool = Field(default=True, description="Whether Pusher's HTTP API is called by https.")
    pusher_keys: Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_secrets_by_key)] = Field(
        default_factory=dict, description="JSON of further app key → secret whose webhooks are accepted, for rotation."
    )
    webhook_limit_bytes: int = Field(
        default=256 * 1024, ge=1, le=2**24, description="A larger webhook body is refused with 413."
    )

    api_key: SecretStr = Field(
        default=SecretStr(""), description="What `Authorization: Bearer` must hold; empty: refuse all."
    )
    api_key_next: SecretStr = Field(default=SecretStr(""), description="Accepted as well as the API key, for rotation.")
    job_key: SecretStr = Field(
        default=SecretStr(""),
        description="Signs jobs in Redis; the same for the API and all workers. Empty: derived from the API key.",
    )
    seal_key: SecretStr = Field(
        default=SecretStr(""),
        description="Signs the seals of the books (`goalsvc audit --seal`). Empty: derived from the API key.",
    )
    api_url: str = Field(
        default="http://127.0.0.1:8000", description="Where `send`, `trace` and `replay` find the API."
    )
    jwt_key: SecretStr = Field(default=SecretStr(""), description="Verifies the users' own tokens at `/pusher/auth`.")
    jwt_key_next: SecretStr = Field(default=SecretStr(""), description="Verifies them as well, for rotation.")
    jwt_jwks_url: str = Field(
        default="",
        description="Where the platform publishes the keys of the users' tokens (JWKS); used besides JWT_KEY.",
    )
    jwt_issuer: str = Field(default="", description="What `iss` of the users' own tokens must be; empty: anything.")
    jwt_audience: str = Field(default="", description="What `aud` of the users' own tokens must hold; empty: anything.")
    jwt_algorithm: str = Field(default="HS256", description="The one algorithm accepted in the users' own tokens.")

    cors_origins: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(
        default_factory=list,
        description="Origins whose pages may call `/pusher/auth`, comma-separated, as in `https://live.example.com`.",
    )

    cors_headers: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(
        default=["traceparent", "tracestate", "baggage", "sentry-trace", "x-requested-with", "x-request-id"],
        description="Request headers that those pages may send besides `authorization` and `content-type`, comma-separated.",
    )
    root_path: str = Field(
        default="", description="Path below which a proxy serves the API, as in `/goals`; `serve --root-path` sets it."
    )
    jwt_leeway: float = Field(
        default=60.0,
        ge=0,
        le=600,
        description="By how much the clock that `exp` and `nbf` of the users' own tokens are from may differ, in seconds.",
    )

    s3_endpoint_url: str = Field(default="", description="S3's address; empty: AWS's own.")
    s3_quarantine_bucket: str = Field(
        default="goalsvc-quarantine", description="Where clips are stored until reviewed."
    )

    byteplus_access_key: str = Field(default="", description="BytePlus RTC OpenAPI's access key id.")
    byteplus_secret_key: SecretStr = Field(default=SecretStr(""), description="BytePlus RTC OpenAPI's secret key.")
    byteplus_app_id: str = Field(default="", description="BytePlus RTC's app id.")
    byteplus_endpoint: str = Field(default="https://open.byteplusapi.com", description="BytePlus OpenAPI's address.")

    livestream_clip_goal_duration: int = Field(
        default=30, ge=1, le=86_400, description="How long a clip is, in seconds."
    )
    exclusive_resume_grace: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How long a paused exclusive waits for its performer before it ends, in seconds.",
    )
    exclusive_clock: Literal["auto", "both", "performer"] = Field(
        default="auto",
        description="When the clock of an exclusive runs: `auto` (while the performer is in its channel and, once the "
        "viewer has joined, while both are), `both` (only while both are), `performer` (the viewer's joins and leaves "
        "are ignored).",
    )
    exclusive_begin_limit: int = Field(
        default=600,
        ge=0,
        le=TEN_YEARS,
        description="How long an agreed exclusive waits for its performer before it expires, in seconds.",
    )
    clips: Literal["on", "off"] = Field(
        default="on", description="Whether clips are cut; `off`: no clip is promised, and none fails."
    )
    recording: Literal["on", "off"] | None = Field(
        default=None,
        description="Whether BytePlus RTC records; unset: on if an access key is set. `off`: no call is made, and none fails.",
    )
    hls_lag: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="How far the end of a playlist without dates and `Last-Modified` is behind the performance, in seconds.",
    )
    hls_timeshift_url: str = Field(
        default="",
        description="Where the past of a stream is, with `{url}`, `{start}` and `{end}` (UTC, ISO 8601).",
    )
    hls_allow_hosts: Annotated[list[str], NoDecode, BeforeValidator(listed)] = Field(
        default_factory=list,
        description="Hosts that `byteplus.hls_url` may name, comma-separated; empty: any public one.",
    )
    hls_allow_private: bool = Field(
        default=False, description="Whether `byteplus.hls_url` may point to a private or local address."
    )

    platform_fee_bps: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="The platform's part of a payout, in hundredths of a percent, where the goal names none (`fee_bps`).",
    )
    session_limit: float = Field(
        default=86_400,
        gt=0,
        le=TEN_YEARS,
        description="A session without a webhook and without a call for this long is ended with its goals, in seconds.",
    )
    show_begin_limit: float = Field(
        default=0,
        ge=0,
        le=TEN_YEARS,
        description="How long a funded show waits for its performer before it expires, in seconds; 0: without limit.",
    )
    request_limit: float = Field(
        default=3600,
        gt=0,
        le=TEN_YEARS,
        description="When a TriggerGoal without `exp` expires, in seconds after it is made.",
    )
    withdrawal_limit: float = Field(
        default=604_800,
        gt=0,
        le=TEN_YEARS,
        description="A withdrawal that is neither confirmed nor returned for this long returns by itself, in seconds.",
    )
    allow_self_payment: bool = Field(
        default=False,
        description="Whether streamers may contribute to their own goals, pay for requests to themselves or be the viewer of "
        "their own exclusive, and viewers agree to their own.",
    )
    progress_notices_per_second: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="How many `goal.progress.updated` are sent per second and goal at most; the last value always is.",
    )

    task_tries: int = Field(
        default=7, ge=1, le=50, description="How often a failing task is tried before it is a dead letter."
    )
    promise_sweep_seconds: float = Field(
        default=5.0, gt=0, le=86_400, description="A promise that is owed this long is enqueued anew."
    )
    worker_max_jobs: int = Field(
        default=100, ge=1, le=10_000, description="How many jobs of the lane `money` one worker runs side by side."
    )
    worker_host: str = Field(default="127.0.0.1", description="The address on which a worker's port listens.")
    worker_port: int = Field(
        default=0, ge=0, le=65535, description="A worker's port for `/healthz`, `/readyz` and `/metrics`; 0: none."
    )
    reconcile_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="How often Pusher is asked whether the performer of a running clock is still there.",
    )
    reconcile_patience: float = Field(
        default=360.0,
        ge=0,
        le=TEN_YEARS,
        description="How long a performer must be missed before the clock is paused; longer than Pusher repeats a webhook.",
    )
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="How long the API says 503 at `/readyz` after SIGTERM before it closes its port, in seconds.",
    )
    metrics_key: SecretStr = Field(
        default=SecretStr(""), description="What `Authorization: Bearer` must hold at `/metrics`; empty: open to all."
    )
    dev_dir: str = Field(
        default="",
        description="Set by `goalsvc dev` alone: its data directory; switches on the test clock and the examples.",
    )
    trace_days: int = Field(default=30, ge=1, le=36_500, description="How long traces are kept.")
    tracking_days: int = Field(
        default=90,
        ge=0,
        le=36_500,
        description="How long tracking events and settled escrow figures are kept; 0: for ever.",
    )
    webhook_allow_private: bool = Field(
        default=False, description="Whether webhook endpoints may have a private or local address."
    )
    keep_webhooks: bool = Field(
        default=False, description="Whether a goal's trace keeps the body (up to 1 KiB) of each of its webhooks."
    )
    event_days: int = Field(
        default=30, ge=1, le=36_500, description="How long events for the platform's backend are kept."
    )
    test_events: Literal["on", "off"] = Field(
        default="off", description="Whether operators may send test events to a goal; `goalsvc dev` sets `on`."
    )
    log_level: str = Field(default="INFO", description="Least level that is logged: DEBUG, INFO, WARNING, ERROR.")
    log_format: Literal["text", "json"] = Field(
        default="text", description="How a line of the log looks: `text`, or `json` (one object for each line)."
    )

    @classmethod
    def from_environment(cls) -> Self:
        """Reads the environment; raises SettingsError naming every variable that is missing or wrong, showing no value."""
        settings, complaints = cls.read({})
        if settings is None or complaints:
            raise SettingsError("; ".join(complaints))
        return settings

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> tuple[Self | None, Sequence[str]]:
        """Returns the settings that these variables make of the environment of the process, and what is wrong with them.

        Without settings there are complaints: `variable: rule` for each variable, without its value.
        """
        variables = {field: f"GOALSVC_{field.upper()}" for field in cls.model_fields}
        values = {field: environment[name] for field, name in variables.items() if name in environment}
        try:
            settings = cls(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            return None, complaints_of(error)
        return settings, problems_of(settings)

    @model_validator(mode="before")
    @classmethod
    def _cleaned(cls, values: object) -> object:
        return cleaned(values) if isinstance(values, dict) else values

    @property
    def records(self) -> bool:
        """Whether cloud recordings and snapshots are made."""
        return bool(self.byteplus_access_key) if self.recording is None else self.recording == "on"

    @property
    def seal_secret(self) -> str:
        """The secret behind the key that signs seals."""
        return self.seal_key.get_secret_value() or self.api_key.get_secret_value()

    @property
    def webhook_secrets(self) -> dict[str, str]:
        """Every app key whose webhooks are accepted, with its secret."""
        secrets = {key: secret.get_secret_value() for key, secret in self.pusher_keys.items()}
        if self.pusher_key:
            secrets[self.pusher_key] = self.pusher_secret.get_secret_value()
        return {key: secret for key, secret in secrets.items() if key and secret}


def complaints_of(error: ValidationError) -> list[str]:
    """Returns a sentence for each setting that is missing or of the wrong form; it names the variable and shows no value."""
    found: dict[str, None] = {}
    for each in error.errors(include_input=False, include_url=False, include_context=False):
        rule = "required" if each["type"] == "missing" else each["msg"].removeprefix("Value error, ")
        found[f"GOALSVC_{str(each['loc'][0]).upper()}: {rule}"] = None
    return list(found)
