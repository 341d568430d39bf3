"""Whose token is it? What is no token of a user's is refused, in words that tell an attacker nothing."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from goalsvc.api.errors import WebError

from .conftest import JWT_KEY, settings_with, token_of, user_of

FAR_FUTURE = 32_503_680_000  # in the year 3000


def refused(token: str, **values: Any) -> WebError:
    with pytest.raises(WebError) as error:
        user_of(token, settings_with(**values))
    assert (error.value.status, error.value.code) == (401, "unauthorized")
    assert error.value.headers == {"WWW-Authenticate": "Bearer"}
    return error.value


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({}, id="without an end"),
        pytest.param({"exp": FAR_FUTURE, "nbf": 1}, id="within its time"),
        pytest.param({"aud": "platform", "iss": "platform", "iat": FAR_FUTURE}, id="with claims of the platform's own"),
    ],
)
def test_names_the_user_of_a_token(claims: dict[str, Any]) -> None:
    assert user_of(token_of("alice", **claims), settings_with()) == "alice"


def test_a_numeric_subject_is_a_string_from_then_on() -> None:
    assert user_of(token_of(42), settings_with()) == "42"


@pytest.mark.parametrize("subject", ["", None, True, 1.5, ["alice"], {"id": "alice"}])
def test_refuses_a_subject_that_is_no_user(subject: Any) -> None:
    refused(jwt.api_jws.encode(json.dumps({"sub": subject}).encode(), JWT_KEY, "HS256"))


def test_refuses_a_token_without_a_subject() -> None:
    refused(jwt.encode({"user": "alice"}, JWT_KEY, "HS256"))


def test_tells_of_an_expired_token() -> None:
    assert "expired" in refused(token_of("alice", exp=1)).message


def test_refuses_a_token_before_its_time() -> None:
    refused(token_of("alice", nbf=FAR_FUTURE))


@pytest.mark.parametrize("exp", ["tomorrow", None, [1]])
def test_refuses_an_end_that_is_no_time(exp: Any) -> None:
    refused(jwt.api_jws.encode(json.dumps({"sub": "alice", "exp": exp}).encode(), JWT_KEY, "HS256"))


def test_refuses_an_unsigned_token() -> None:
    refused(jwt.encode({"sub": "alice"}, "", "none"))


def test_refuses_a_token_whose_signature_was_cut_off() -> None:
    head, claims, _ = token_of("alice").split(".")
    refused(f"{head}.{claims}.")


def test_refuses_a_token_whose_claims_were_changed() -> None:
    head, _, signature = token_of("alice").split(".")
    claims = base64.urlsafe_b64encode(b'{"sub":"mallory"}').rstrip(b"=").decode()
    refused(f"{head}.{claims}.{signature}")


def test_refuses_another_key() -> None:
    refused(token_of("alice", key="a-key-of-somebody-else-that-is-long-enough"))


def test_refuses_another_algorithm_with_the_same_key() -> None:
    refused(token_of("alice", key=JWT_KEY * 2, algorithm="HS512"), jwt_key=JWT_KEY * 2)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "alice", "\N{SNOWMAN}", "a" * 10_000])
def test_refuses_what_is_no_token(text: str) -> None:
    refused(text)


def test_lets_nobody_in_without_a_key() -> None:
    refused(jwt.encode({"sub": "alice"}, "", "none"), jwt_key="")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE"])
def test_lets_nobody_in_by_no_algorithm(algorithm: str) -> None:
    refused(jwt.encode({"sub": "alice"}, "", "none"), jwt_algorithm=algorithm)


def test_lets_nobody_in_by_an_algorithm_that_does_not_exist() -> None:
    refused(token_of("alice"), jwt_algorithm="HS1")


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def public(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


class TestWithAPublicKey:
    def test_names_the_user(self, key: rsa.RSAPrivateKey, public: str) -> None:
        token = jwt.encode({"sub": "alice"}, key, "RS256")
        assert user_of(token, settings_with(jwt_key=public, jwt_algorithm="RS256")) == "alice"

    def test_refuses_a_token_that_was_signed_with_the_public_key_as_a_secret(self, public: str) -> None:
        forged = jwt.api_jws.PyJWS()
        header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
        claims = base64.urlsafe_b64encode(b'{"sub":"alice"}').rstrip(b"=")
        signature = forged.get_algorithm_by_name("HS256").sign(header + b"." + claims, public.encode())
        token = b".".join([header, claims, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
        refused(token, jwt_key=public, jwt_algorithm="RS256")

    def test_lets_nobody_in_when_the_key_does_not_fit(self, key: rsa.RSAPrivateKey) -> None:
        refused(jwt.encode({"sub": "alice"}, key, "RS256"), jwt_key="no key in PEM", jwt_algorithm="RS256")


def test_a_second_key_is_accepted_while_keys_are_rotated() -> None:
    settings = settings_with(jwt_key_next="the-next-key-of-the-platform-that-signs-tokens")
    assert user_of(token_of("alice"), settings) == "alice"
    assert user_of(token_of("alice", key="the-next-key-of-the-platform-that-signs-tokens"), settings) == "alice"
    for wrong in (token_of("alice", key="a-third-key-that-nobody-knows-of-here"), token_of("alice", exp=1)):
        with pytest.raises(WebError):
            user_of(wrong, settings)
