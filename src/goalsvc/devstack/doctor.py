"""`goalsvc doctor`: what is missing on this machine or wrong in the settings, in plain words."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from goalsvc.commands.preflight import mongodb_complaint, redis_complaint
from goalsvc.devstack.binaries import MissingProgramError, find_ffmpeg, find_mongod, find_valkey
from goalsvc.devstack.environment import DEFAULTS, quarantine_bucket
from goalsvc.devstack.process import why_it_ended
from goalsvc.settings import Settings
from goalsvc.settings_checks import LEAST_JWT_KEY_BYTES, cleaned, unknown_in

_LEAST_PYTHON = (3, 11)
_REACH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    message: str
    """What was found; if not ok, also what to do about it."""


def check(environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Looks at this machine and the settings (of this process's environment if None). Takes a few seconds, changes nothing.

    What only `goalsvc dev` needs is fine to lack where the environment configures it instead.
    """
    given = _cleaned(os.environ if environment is None else environment)
    return [
        _python(),
        _program("mongod", find_mongod, ["--version"], instead=given.get("GOALSVC_MONGODB_URL")),
        _program("valkey", find_valkey, ["--version"], instead=given.get("GOALSVC_REDIS_URL")),
        _program("ffmpeg", find_ffmpeg, ["-version"], instead=None),
        _moto(instead=given.get("GOALSVC_S3_ENDPOINT_URL")),
        _settings(given),
        _mongodb(given.get("GOALSVC_MONGODB_URL", "")),
        _redis(given.get("GOALSVC_REDIS_URL", "")),
        _s3(given),
        *_keys(given),
    ]


def _cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which each setting is as the processes read it; one that is empty is left out."""
    ours = {name: value for name, value in environment.items() if name.startswith("GOALSVC_")}
    fields = cleaned({name.removeprefix("GOALSVC_").lower(): value for name, value in ours.items()})
    others = {name: value for name, value in environment.items() if name not in ours}
    return others | {f"GOALSVC_{field.upper()}": value for field, value in fields.items()}


def _python() -> Finding:
    have = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _LEAST_PYTHON:
        return Finding("python", False, f"Python {have} is too old: goalsvc needs 3.11 or newer")
    return Finding("python", True, f"Python {have}")


def _program(name: str, find: Callable[[], Path], words: list[str], instead: str | None) -> Finding:
    if instead:
        return Finding(name, True, "not needed here: the environment configures one")
    try:
        path = find()
    except MissingProgramError as error:
        return Finding(name, False, error.message)
    try:
        done = subprocess.run(  # noqa: S603
            [str(path), *words], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, False, f"{path} cannot be run: {error}")
    if done.returncode != 0:
        return Finding(name, False, why_it_ended(name, done.returncode, done.stderr))
    return Finding(name, True, f"{done.stdout.splitlines()[0].strip()} ({path})")


def _moto(instead: str | None) -> Finding:
    if instead:
        return Finding("moto", True, "not needed here: the environment configures S3")
    missing = [package for package in ("moto", "flask", "flask_cors") if find_spec(package) is None]
    if missing:
        advice = "`pip install 'goalsvc[dev]'`, or set GOALSVC_S3_ENDPOINT_URL"
        return Finding("moto", False, f"the S3 endpoint of `goalsvc dev` lacks {', '.join(missing)}: {advice}")
    return Finding("moto", True, "the S3 endpoint of `goalsvc dev` is installed")


def _settings(given: dict[str, str]) -> Finding:
    missing = [name for name in ("GOALSVC_MONGODB_URL", "GOALSVC_REDIS_URL") if not given.get(name)]
    unset = {"GOALSVC_MONGODB_URL": "mongodb://unset", "GOALSVC_REDIS_URL": "redis://unset"}
    _, complaints = Settings.read(unset | given)
    if complaints:
        return Finding("settings", False, "; ".join(complaints))
    if unknown := unknown_in(given, Settings.model_fields):
        return Finding("settings", False, f"not a setting, so without effect: {', '.join(unknown)}")
    if missing:
        told = "`serve` and `worker` need them, `dev` starts its own"
        return Finding("settings", True, f"readable; {' and '.join(missing)} not set: {told}")
    return Finding("settings", True, "all readable")


def _mongodb(url: str) -> Finding:
    if not url:
        return Finding("mongodb", True, "GOALSVC_MONGODB_URL is not set: nothing to reach")
    if complaint := mongodb_complaint(url, _REACH_SECONDS):
        return Finding("mongodb", False, complaint.text)
    return Finding("mongodb", True, "reached, and it has transactions")


def _redis(url: str) -> Finding:
    if not url:
        return Finding("redis", True, "GOALSVC_REDIS_URL is not set: nothing to reach")
    if complaint := redis_complaint(url, _REACH_SECONDS):
        return Finding("redis", False, complaint.text)
    return Finding("redis", True, "reached, and it takes a write")


def _s3(given: Mapping[str, str]) -> Finding:
    endpoint, bucket = given.get("GOALSVC_S3_ENDPOINT_URL", ""), quarantine_bucket(given)
    if not endpoint and not given.get("GOALSVC_S3_QUARANTINE_BUCKET"):
        return Finding("s3", True, "neither endpoint nor bucket is set: nothing to reach")
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import get_session

    patience = Config(connect_timeout=_REACH_SECONDS, read_timeout=_REACH_SECONDS, retries={"total_max_attempts": 1})
    try:
        client: Any = get_session().create_client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or "us-east-1",
            config=patience,
        )
        client.head_bucket(Bucket=bucket)
        client.close()
    except (BotoCoreError, ClientError, ValueError) as error:
        return Finding("s3", False, f"the bucket {bucket!r} cannot be reached: {error}")
    return Finding("s3", True, f"the bucket {bucket!r} is reached")


def _keys(given: Mapping[str, str]) -> list[Finding]:
    """The keys without which requests are refused. Where `dev` is meant, it sets its own: then lacking them is fine."""
    serves = bool(given.get("GOALSVC_MONGODB_URL"))

    def value(variable: str) -> str:
        return given.get(variable) or ("" if serves else DEFAULTS[variable])

    findings = []
    purposes = {
        "GOALSVC_PUSHER_KEY": "every webhook is refused without it",
        "GOALSVC_PUSHER_SECRET": "no webhook can be verified without it",
        "GOALSVC_PUSHER_APP_ID": "nothing can be sent to Pusher without it",
        "GOALSVC_API_KEY": "every request is refused without it",
    }
    for variable, purpose in purposes.items():
        name = variable.removeprefix("GOALSVC_").lower()
        present = bool(value(variable))
        findings.append(Finding(name, present, "present" if present else f"{variable} is not set: {purpose}"))
    findings.append(_jwt_key(value("GOALSVC_JWT_KEY"), value("GOALSVC_JWT_ALGORITHM") or "HS256"))
    return findings


def _jwt_key(key: str, algorithm: str) -> Finding:
    if not key:
        return Finding("jwt_key", False, "GOALSVC_JWT_KEY is not set: /pusher/auth refuses every user")
    if algorithm.startswith("HS") and len(key.encode(errors="replace")) < LEAST_JWT_KEY_BYTES:
        return Finding(
            "jwt_key",
            False,
            f"GOALSVC_JWT_KEY has {len(key.encode(errors='replace'))} bytes: {algorithm} wants at least {LEAST_JWT_KEY_BYTES}",
        )
    return Finding("jwt_key", True, f"present, for {algorithm}")
