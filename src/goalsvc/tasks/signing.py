"""Signatures of jobs: write access to Redis is not enough to have work done.

A job's body is a msgpack map whose last entry is `s`, the HMAC-SHA256 over the job's id and the body without that entry.
Nothing of a body is decoded before its signature has been verified.
"""

import hmac
from collections.abc import Sequence
from enum import StrEnum

from goalsvc.errors import SettingsError
from goalsvc.settings import Settings

#: A msgpack map has its number of entries in its first byte, as long as that is below 16.
_MAP = 0x80
_ENTRY = b"\xa1s\xc4\x20"
_DIGEST_BYTES = 32
_ADDED_BYTES = len(_ENTRY) + _DIGEST_BYTES
_PURPOSE = b"goalsvc: signs jobs"


class Refusal(StrEnum):
    """Why a job was dropped."""

    UNSIGNED = "unsigned"
    ALTERED = "altered"
    UNREADABLE = "unreadable"
    NO_BODY = "no_body"


class RefusedJobError(Exception):
    """The job is not run, because it is not one of ours or not as we wrote it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class JobSigner:
    """Signs jobs with the first of its keys, and accepts the signatures of all."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Raises SettingsError when there is no secret, or only empty ones."""
        self._keys = [hmac.digest(secret.encode(), _PURPOSE, "sha256") for secret in secrets if secret]
        if not self._keys:
            raise SettingsError("GOALSVC_JOB_KEY: required where GOALSVC_API_KEY is not set (signs the jobs in Redis)")

    @classmethod
    def from_settings(cls, settings: Settings) -> "JobSigner":
        """Returns the signer with `GOALSVC_JOB_KEY`, else with keys derived from the API keys, else from Pusher's secret."""
        if own := settings.job_key.get_secret_value():
            return cls([own])
        derived = (settings.api_key, settings.api_key_next, settings.pusher_secret)
        return cls([secret.get_secret_value() for secret in derived])

    def signed(self, job_id: str, body: bytes) -> bytes:
        """Returns the body with its signature."""
        return bytes([body[0] + 1]) + body[1:] + _ENTRY + self._digest(self._keys[0], job_id, body)

    def verified(self, job_id: str, signed: bytes) -> bytes:
        """Returns the body without its signature. Raises RefusedJobError when none of the keys made it."""
        if not signed:
            raise RefusedJobError(Refusal.NO_BODY)
        if len(signed) <= _ADDED_BYTES or signed[-_ADDED_BYTES:-_DIGEST_BYTES] != _ENTRY or not _MAP < signed[0] < 0x90:
            raise RefusedJobError(Refusal.UNSIGNED)
        body = bytes([signed[0] - 1]) + signed[1:-_ADDED_BYTES]
        given = signed[-_DIGEST_BYTES:]
        if not any(hmac.compare_digest(self._digest(key, job_id, body), given) for key in self._keys):
            raise RefusedJobError(Refusal.ALTERED)
        return body

    @staticmethod
    def _digest(key: bytes, job_id: str, body: bytes) -> bytes:
        named = job_id.encode()
        return hmac.digest(key, len(named).to_bytes(4, "big") + named + body, "sha256")
