"""What the doctor finds."""

from pathlib import Path

import pytest

from goalsvc.devstack import doctor
from goalsvc.devstack.doctor import Finding
from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.private import private_mongod, private_s3, private_valkey


def examine(given: dict[str, str]) -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.check(given)}


@pytest.mark.real
class TestCheck:
    def test_finds_nothing_wrong_where_dev_can_run(self) -> None:
        assert [finding for finding in doctor.check({}) if not finding.ok] == []

    def test_reaches_what_is_configured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        with private_mongod(tmp_path) as mongod, private_valkey() as redis_url, private_s3(["mine"]) as s3_url:
            found = examine(
                {
                    "GOALSVC_MONGODB_URL": mongod.url,
                    "GOALSVC_REDIS_URL": redis_url,
                    "GOALSVC_S3_ENDPOINT_URL": s3_url,
                    "GOALSVC_S3_QUARANTINE_BUCKET": "mine",
                }
            )
        assert [found[name].message for name in ("mongodb", "redis", "s3")] == [
            "reached, and it has transactions",
            "reached, and it takes a write",
            "the bucket 'mine' is reached",
        ]

    def test_tells_what_cannot_be_reached(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_REACH_SECONDS", 0.2)
        port = free_port()
        found = examine(
            {
                "GOALSVC_MONGODB_URL": f"mongodb://{HOST}:{port}/goalsvc",
                "GOALSVC_REDIS_URL": f"redis://{HOST}:{port}",
                "GOALSVC_S3_ENDPOINT_URL": f"http://{HOST}:{port}",
            }
        )
        for name in ("mongodb", "redis", "s3"):
            assert not found[name].ok
            assert "cannot be reached" in found[name].message

    def test_tells_what_production_lacks(self) -> None:
        found = examine({"GOALSVC_MONGODB_URL": "mongodb:/nonsense", "GOALSVC_JWT_KEY": "short"})
        assert found["pusher_key"].message == "GOALSVC_PUSHER_KEY is not set: every webhook is refused without it"
        assert found["jwt_key"].message == "GOALSVC_JWT_KEY has 5 bytes: HS256 wants at least 32"
        assert not found["mongodb"].ok

    @pytest.mark.parametrize(
        ("variable", "value", "told"),
        [
            ("GOALSVC_PUSHER_PORT", "many", "GOALSVC_PUSHER_PORT: "),
            ("GOALSVC_PUSHER_KEYS", "{", "GOALSVC_PUSHER_KEYS: "),
            ("GOALSVC_JWT_KEY", "hunter\udcfftwo", "GOALSVC_JWT_KEY: "),
            ("GOALSVC_REDIS_URL", "redis://:hunter/two@127.0.0.1:1", "GOALSVC_REDIS_URL: "),
            ("GOALSVC_MONGODB_URL", "mongodb://u:hunter/two@127.0.0.1:1/db", "GOALSVC_MONGODB_URL: "),
            ("GOALSVC_EVENT_DAYS", "1000000000", "GOALSVC_EVENT_DAYS: "),
            ("GOALSVC_PUSHER_KYE", "x", "not a setting, so without effect: GOALSVC_PUSHER_KYE"),
        ],
    )
    def test_tells_which_setting_is_wrong(self, variable: str, value: str, told: str) -> None:
        findings = examine({variable: value})
        found = findings["settings"]
        assert not found.ok
        assert found.message.startswith(told)
        assert not any("two" in finding.message for finding in findings.values()), "a part of a secret"

    def test_tells_what_cannot_be_found(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        broken = tmp_path / "mongod"
        broken.write_text(
            "#!/bin/sh\necho 'error while loading shared libraries: libcurl.so.4: no such' >&2\nexit 127\n"
        )
        broken.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert examine({})["mongod"].message == (
            "mongod cannot run on this machine: the system library libcurl.so.4 is missing"
        )
