"""Which parts are private and what the API and the worker are told: dev's defaults under what the environment says."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from goalsvc.devstack.mongod import mongodb_url
from goalsvc.devstack.ports import HOST
from goalsvc.settings import Settings


class PrivatePart(StrEnum):
    """A part that is started here unless the environment says where there is one."""

    MONGOD = "mongod"
    VALKEY = "valkey"
    S3 = "s3"
    PUSHER = "pusher"
    BYTEPLUS = "byteplus"


_CONFIGURED_BY = {
    PrivatePart.MONGOD: "GOALSVC_MONGODB_URL",
    PrivatePart.VALKEY: "GOALSVC_REDIS_URL",
    PrivatePart.S3: "GOALSVC_S3_ENDPOINT_URL",
    PrivatePart.PUSHER: "GOALSVC_PUSHER_HOST",
    PrivatePart.BYTEPLUS: "GOALSVC_BYTEPLUS_ENDPOINT",
}

DEFAULTS: Mapping[str, str] = {
    "GOALSVC_PUSHER_APP_ID": "1",  # the client wants a number
    "GOALSVC_PUSHER_KEY": "goalsvc-key",
    "GOALSVC_PUSHER_SECRET": "goalsvc-secret",
    "GOALSVC_API_KEY": "goalsvc-api-key",
    "GOALSVC_JWT_KEY": "goalsvc-jwt-key-for-development-only",
    "GOALSVC_JWT_ALGORITHM": "HS256",
    "GOALSVC_HLS_ALLOW_PRIVATE": "true",
    "GOALSVC_WEBHOOK_ALLOW_PRIVATE": "true",
    "GOALSVC_TEST_EVENTS": "on",
    # The emulator for Pusher says that no user is in any channel: a show that is played by hand would lose its clock.
    "GOALSVC_RECONCILE_PATIENCE": "86400",
}
"""What `dev` sets unless the environment does."""


def private_parts(given: Mapping[str, str]) -> list[PrivatePart]:
    """The parts that the environment does not configure. An empty variable configures nothing."""
    return [part for part, variable in _CONFIGURED_BY.items() if not given.get(variable)]


def environment_for(given: Mapping[str, str], ports: Mapping[PrivatePart, int], api_port: int) -> dict[str, str]:
    """The whole environment of the API, the worker and the emulators, given the ports of the private parts."""
    set_here = {"GOALSVC_API_URL": f"http://{HOST}:{api_port}", **DEFAULTS}
    fixed: dict[str, str] = {}  # goes together with a private part's address
    if (port := ports.get(PrivatePart.MONGOD)) is not None:
        fixed["GOALSVC_MONGODB_URL"] = mongodb_url([port])
    if (port := ports.get(PrivatePart.VALKEY)) is not None:
        fixed["GOALSVC_REDIS_URL"] = f"redis://{HOST}:{port}/0"
    if (port := ports.get(PrivatePart.S3)) is not None:
        fixed["GOALSVC_S3_ENDPOINT_URL"] = f"http://{HOST}:{port}"
        set_here |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        if not (given.get("AWS_ACCESS_KEY_ID") and given.get("AWS_SECRET_ACCESS_KEY")):
            fixed |= {"AWS_ACCESS_KEY_ID": "goalsvc", "AWS_SECRET_ACCESS_KEY": "goalsvc"}
        # So that no library looks for credentials elsewhere on the network.
        fixed["AWS_EC2_METADATA_DISABLED"] = "true"
    if (port := ports.get(PrivatePart.PUSHER)) is not None:
        fixed |= {
            "GOALSVC_PUSHER_HOST": HOST,
            "GOALSVC_PUSHER_PORT": str(port),
            "GOALSVC_PUSHER_SSL": "false",
        }
    if (port := ports.get(PrivatePart.BYTEPLUS)) is not None:
        fixed["GOALSVC_BYTEPLUS_ENDPOINT"] = f"http://{HOST}:{port}"
        set_here |= {
            "GOALSVC_BYTEPLUS_ACCESS_KEY": "goalsvc-byteplus-key",
            "GOALSVC_BYTEPLUS_SECRET_KEY": "goalsvc-byteplus-secret",
            "GOALSVC_BYTEPLUS_APP_ID": "goalsvc-byteplus-app",
        }
    composed = {**set_here, **{name: value for name, value in given.items() if value}, **fixed}
    if PrivatePart.S3 in ports:
        composed.pop("AWS_PROFILE", None)  # boto refuses to start over a profile that it cannot find
    for variable in ("no_proxy", "NO_PROXY"):
        composed[variable] = ",".join(filter(None, [composed.get(variable, ""), HOST, "localhost"]))
    composed["PYTHONUNBUFFERED"] = "1"
    return composed


def quarantine_bucket(environment: Mapping[str, str]) -> str:
    """The bucket that clips go to, by the settings or their default."""
    default: str = Settings.model_fields["s3_quarantine_bucket"].default
    return environment.get("GOALSVC_S3_QUARANTINE_BUCKET") or default


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is, also what others started."""

    api_url: str
    mongodb_url: str
    redis_url: str
    s3_endpoint_url: str
    pusher_url: str
    byteplus_url: str

    @classmethod
    def of(cls, environment: Mapping[str, str], api_port: int) -> "Addresses":
        """The addresses that the children's environment tells them."""
        fields = Settings.model_fields
        ssl = environment.get("GOALSVC_PUSHER_SSL", "true").lower() in ("1", "true", "t", "yes", "y", "on")
        port = environment.get("GOALSVC_PUSHER_PORT") or fields["pusher_port"].default
        return cls(
            api_url=f"http://{HOST}:{api_port}",
            mongodb_url=environment["GOALSVC_MONGODB_URL"],
            redis_url=environment["GOALSVC_REDIS_URL"],
            s3_endpoint_url=environment["GOALSVC_S3_ENDPOINT_URL"],
            pusher_url=f"{'https' if ssl else 'http'}://{environment['GOALSVC_PUSHER_HOST']}:{port}",
            byteplus_url=environment["GOALSVC_BYTEPLUS_ENDPOINT"],
        )
