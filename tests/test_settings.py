"""Every setting, missing, empty, with white space or a line end around it, and with nonsense in it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import bson
import pytest
from pydantic import SecretStr

from goalsvc.api.errors import WebError
from goalsvc.api.webhook import verify
from goalsvc.errors import SettingsError
from goalsvc.settings import Settings
from goalsvc.settings_checks import unknown_in, warnings_of

PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYI\n-----END PUBLIC KEY-----\n"
GOOD: Mapping[str, str] = {
    "GOALSVC_MONGODB_URL": "mongodb://127.0.0.1:27017/goalsvc",
    "GOALSVC_REDIS_URL": "redis://127.0.0.1:6379/0",
    "GOALSVC_PUSHER_APP_ID": "1",
    "GOALSVC_PUSHER_KEY": "key",
    "GOALSVC_PUSHER_SECRET": "secret",
    "GOALSVC_API_KEY": "api-key",
    "GOALSVC_JWT_KEY": "a-key-of-more-than-thirty-two-bytes-for-tests",
}

#: A good value of each setting that is not in GOOD; what is not here takes any text, or is read by pydantic.
VALUES: Mapping[str, str] = {
    "pusher_host": "api.example.com",
    "pusher_keys": '{"next": "secret"}',
    "cors_origins": "https://a.example.com,https://b.example.com",
    "cors_headers": "traceparent,x-own",
    "hls_allow_hosts": "pull.example.com",
    "s3_endpoint_url": "https://s3.example.com",
    "byteplus_endpoint": "https://open.byteplusapi.com",
    "api_url": "http://127.0.0.1:8000",
    "log_level": "WARNING",
    "log_format": "json",
    "jwt_algorithm": "HS256",
    "root_path": "/goals",
    "jwt_jwks_url": "https://id.example.com/keys",
    "hls_timeshift_url": "https://past.example.com/{start}",
    "job_key": "job-key",
    "metrics_key": "metrics-key",
    "clips": "off",
    "recording": "off",
}

#: What no process can work with, and the variable that the one sentence names.
NONSENSE: Mapping[str, str] = {
    "mongodb_url": "postgres://localhost/goalsvc",
    "redis_url": "http://localhost:6379",
    "pusher_app_id": "one",
    "pusher_port": "many",
    "pusher_ssl": "perhaps",
    "pusher_host": "https://api.pusher.com/",
    "pusher_keys": "next=secret",
    "webhook_limit_bytes": "-1",
    "api_key": "with a space",
    "api_key_next": "ключ",
    "metrics_key": "a\tb",
    "api_url": "localhost",
    "s3_endpoint_url": "s3.example.com",
    "byteplus_endpoint": "ftp://example.com",
    "cors_origins": "https://live.example.com/page",
    "jwt_algorithm": "none",
    "root_path": "goals",
    "log_level": "loud",
    "log_format": "xml",
    "task_tries": "0",
    "promise_sweep_seconds": "soon",
    "platform_fee_bps": "10001",
    "jwt_leeway": "-1",
    "jwt_jwks_url": "id.example.com",
    "trace_days": "forever",
    "allow_self_payment": "perhaps",
    "clips": "perhaps",
}


def read(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> Settings:
    """The settings of an environment that is good but for these variables."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GOALSVC_{name.upper()}", raising=False)
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    for name, new in changes.items():
        if new is None:
            monkeypatch.delenv(f"GOALSVC_{name.upper()}", raising=False)
        else:
            monkeypatch.setenv(f"GOALSVC_{name.upper()}", new)
    return Settings.from_environment()


def shown(settings: Settings, name: str) -> object:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: secret.get_secret_value() for key, secret in value.items()}
    return value


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_white_space_and_line_ends_around_a_value_are_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    value = GOOD.get(f"GOALSVC_{name.upper()}") or VALUES.get(name)
    if value is None:
        default = Settings.model_fields[name].default
        value = str(default.get_secret_value() if isinstance(default, SecretStr) else default) or "text"
        if default is None:
            value = "on"
    plain = shown(read(monkeypatch, **{name: value}), name)
    for around in ("{}\n", " {} ", "\t{}\r\n", "\ufeff{}"):
        assert shown(read(monkeypatch, **{name: around.format(value)}), name) == plain


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_value_is_a_missing_one(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    outcomes = []
    for given in (None, value):
        try:
            outcomes.append((shown(read(monkeypatch, **{name: given}), name), ""))
        except SettingsError as error:
            outcomes.append((None, error.message))
    assert outcomes[0] == outcomes[1]
    assert not outcomes[0][1] or f"GOALSVC_{name.upper()}" in outcomes[0][1]


@pytest.mark.parametrize("name", sorted(NONSENSE))
def test_nonsense_is_one_sentence_that_names_the_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, **{name: NONSENSE[name]})
    message = caught.value.message
    assert message.startswith(f"GOALSVC_{name.upper()}: ")
    assert "\n" not in message
    assert NONSENSE[name] not in message or name in ("pusher_app_id", "root_path", "log_level")


#: What is tried in every setting, and in those that are texts, addresses, lists or secrets.
ANYTHING: Sequence[str] = (
    "word", "-1", "1.5", "1e400", "9" * 5000, "1" + "0" * 18, "nan", "inf", "-inf", "null", "[]", "{}", "hunter\x07two",
)  # fmt: skip
ANY_TEXT: Sequence[str] = (
    "word", "two words", "hunter\x1b[2Jtwo", "hunter\ntwo", "hunter\x7ftwo", "hunter\u2028two", "hunter\udcfftwo",
    "redis://:hunter/two@host:6379", "mongodb://user:hunter/two@host/db", "redis://host:99999", "redis://host/word",
    "https://host:port/", "/", "@", "%", "[", '{"key": 5}', '{"k\\u0007": "s"}', "\U0001f600",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_anything_in_any_setting_is_accepted_and_usable_or_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    is_number = isinstance(Settings.model_fields[name].default, int | float)
    for value in ANYTHING if is_number else (*ANYTHING[-2:], *ANY_TEXT):
        try:
            accepted = shown(read(monkeypatch, **{name: value}), name)
        except SettingsError as error:
            told = error.message
            assert told.startswith(f"GOALSVC_{name.upper()}: "), (value, told)
            assert told.isprintable(), (value, told)
            assert told.count("GOALSVC_") == 1, (value, told)
            assert len(told) < 200, (value, told)
            assert "hunter" not in told, "a part of a secret"
            assert value not in told or len(value) < 6, (value, told)
        else:
            assert_usable(name, accepted)


def assert_usable(name: str, value: object) -> None:
    if isinstance(value, int | float):
        assert timedelta(days=value) if name.endswith("_days") else timedelta(seconds=value) is not None
        bson.encode({"": value})
    for text in [str(value)] if not isinstance(value, list | dict) else map(str, value):
        assert text.isprintable(), (name, text)
        text.encode()


def test_a_name_that_is_no_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "GOALSVC_PUSHR_KEY": "x", "GOALSVC_": "x", "GOALSVC_API_KEY": "x", "GOALSVC_DEV_MONGOD_CACHE_GB": "1", "PATH": "x",
        # Kubernetes adds these for a Service whose name is goalsvc.
        "GOALSVC_SERVICE_HOST": "10.0.0.1", "GOALSVC_PORT": "tcp://10.0.0.1:80", "GOALSVC_PORT_80_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    assert unknown_in(environment, Settings.model_fields) == ["GOALSVC_", "GOALSVC_PUSHR_KEY"]


def test_what_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    escaped = PEM.replace("\n", "\\n")
    for key in (PEM, escaped, PEM.replace("\n", "\r\n"), f'"{escaped}"', f"{escaped}\n"):
        settings = read(monkeypatch, jwt_key=key, jwt_algorithm="es256")
        assert settings.jwt_key.get_secret_value() == PEM
        assert settings.jwt_algorithm == "ES256"
    settings = read(monkeypatch, cors_origins=" https://a.example.com/ , https://b.example.com,", log_level="warn")
    assert settings.cors_origins == ["https://a.example.com", "https://b.example.com"]
    assert settings.log_level == "WARNING"
    assert read(monkeypatch, s3_endpoint_url="https://s3.example.com/").s3_endpoint_url == "https://s3.example.com"
    assert shown(read(monkeypatch, pusher_keys='{" next ": " secret\\n"}'), "pusher_keys") == {"next": "secret"}


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"pusher_secret": ""}, "GOALSVC_PUSHER_SECRET"),
        ({"pusher_secret": None}, "GOALSVC_PUSHER_SECRET"),
        ({"pusher_secret": " \n"}, "GOALSVC_PUSHER_SECRET"),
        ({"pusher_keys": '{"next": ""}'}, "GOALSVC_PUSHER_KEYS"),
        ({"pusher_keys": '{"next": " "}'}, "GOALSVC_PUSHER_KEYS"),
        ({"pusher_keys": '{"": "secret"}'}, "GOALSVC_PUSHER_KEYS"),
    ],
)
def test_an_empty_pusher_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], variable: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, **changes)
    assert caught.value.message.startswith(f"{variable}: ")


@pytest.mark.parametrize("secrets", [{}, {"key": ""}], ids=["unknown key", "empty secret"])
@pytest.mark.parametrize("word", ["unknown", "", "key"])
def test_an_empty_secret_verifies_nothing(secrets: dict[str, str], word: str) -> None:
    import hmac
    from hashlib import sha256

    body = b'{"events": []}'
    signature = hmac.new(word.encode(), body, sha256).hexdigest()
    with pytest.raises(WebError) as caught:
        verify({"x-pusher-key": "key", "x-pusher-signature": signature}, body, secrets)
    assert caught.value.status == 401


def test_keys_that_are_not_set_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, pusher_key=None, pusher_secret=None, api_key=None, jwt_key=None, job_key="job")
    told = " ".join(warnings_of(settings))
    for variable in ("GOALSVC_PUSHER_KEY", "GOALSVC_API_KEY", "GOALSVC_JWT_KEY", "GOALSVC_PUSHER_APP_ID"):
        assert variable in told
    assert warnings_of(read(monkeypatch)) == []
