"""Dev's defaults, under what the environment says."""

from goalsvc.devstack.environment import (
    Addresses,
    PrivatePart,
    environment_for,
    private_parts,
    quarantine_bucket,
)

PORTS = {part: 20_000 + number for number, part in enumerate(PrivatePart)}


class TestPrivateParts:
    def test_are_all_when_the_environment_configures_none(self) -> None:
        assert private_parts({}) == list(PrivatePart)

    def test_are_not_those_that_the_environment_configures(self) -> None:
        given = {
            "GOALSVC_MONGODB_URL": "mongodb://db/goalsvc",
            "GOALSVC_REDIS_URL": "",
            "GOALSVC_PUSHER_HOST": "host",
        }
        assert private_parts(given) == [PrivatePart.VALKEY, PrivatePart.S3, PrivatePart.BYTEPLUS]


class TestEnvironment:
    def test_leads_to_the_private_parts(self) -> None:
        told = environment_for({}, PORTS, 8000)
        assert Addresses.of(told, 8000) == Addresses(
            api_url="http://127.0.0.1:8000",
            mongodb_url="mongodb://127.0.0.1:20000/goalsvc?replicaSet=rs0",
            redis_url="redis://127.0.0.1:20001/0",
            s3_endpoint_url="http://127.0.0.1:20002",
            pusher_url="http://127.0.0.1:20003",
            byteplus_url="http://127.0.0.1:20004",
        )

    def test_leads_to_what_is_given(self) -> None:
        given = {
            "GOALSVC_MONGODB_URL": "mongodb://db/goalsvc",
            "GOALSVC_REDIS_URL": "redis://cache/3",
            "GOALSVC_S3_ENDPOINT_URL": "https://s3.example",
            "GOALSVC_PUSHER_HOST": "pusher.example",
            "GOALSVC_BYTEPLUS_ENDPOINT": "https://rtc.example",
        }
        told = environment_for(given, {}, 8000)
        assert Addresses.of(told, 8000) == Addresses(
            api_url="http://127.0.0.1:8000",
            mongodb_url="mongodb://db/goalsvc",
            redis_url="redis://cache/3",
            s3_endpoint_url="https://s3.example",
            pusher_url="https://pusher.example:443",
            byteplus_url="https://rtc.example",
        )
        assert "AWS_ACCESS_KEY_ID" not in told
        assert "GOALSVC_BYTEPLUS_ACCESS_KEY" not in told

    def test_lets_what_is_given_win(self) -> None:
        told = environment_for({"GOALSVC_PUSHER_KEY": "mine", "AWS_REGION": "eu-west-1"}, PORTS, 8000)
        assert told["GOALSVC_PUSHER_KEY"] == "mine"
        assert told["AWS_REGION"] == "eu-west-1"

    def test_never_sends_local_calls_through_a_proxy(self) -> None:
        told = environment_for({"NO_PROXY": "example.com"}, PORTS, 8000)
        assert told["NO_PROXY"] == "example.com,127.0.0.1,localhost"


def test_the_bucket_is_that_of_the_settings() -> None:
    assert quarantine_bucket({}) == "goalsvc-quarantine"
    assert quarantine_bucket({"GOALSVC_S3_QUARANTINE_BUCKET": "mine"}) == "mine"
