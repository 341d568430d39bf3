"""Before a process starts: whether MongoDB and Redis are what goalsvc needs. `serve`, `worker` and `doctor` ask the same.

What may still come (a server that starts, a replica set without a primary) is waited for, with one line for each state. What
will not work however long one waits ends the process with one sentence.
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from redis import Redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from goalsvc.errors import SettingsError
from goalsvc.integrations.redis import tls_options
from goalsvc.models.database import CLIENT_OPTIONS, TRANSACTIONS_MISSING, database_of
from goalsvc.models.migration import prepare_indexes
from goalsvc.models.server_errors import UNAUTHORIZED
from goalsvc.settings import Settings
from goalsvc.tasks.signing import JobSigner

REACH_SECONDS = 2.0
_AUTHENTICATION_FAILED = frozenset({18, 8000})


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a server, as a sentence that begins with the variable; `lasting` when waiting does not help."""

    text: str
    lasting: bool


def mongodb_complaint(url: str, seconds: float = REACH_SECONDS) -> Complaint | None:
    """Returns what is wrong with the MongoDB behind that URL; None when goalsvc can work with it."""
    name = "GOALSVC_MONGODB_URL"
    options = CLIENT_OPTIONS | {
        "serverSelectionTimeoutMS": int(seconds * 1000),
        "connectTimeoutMS": int(seconds * 1000),
    }
    try:
        with MongoClient[dict[str, object]](url, **options) as client:
            hello = client.admin.command("hello")
            if hello.get("isreplicaset"):
                return Complaint(f"{name}: the replica set is not initiated yet", lasting=False)
            if "setName" not in hello and hello.get("msg") != "isdbgrid":
                return Complaint(f"{name}: {TRANSACTIONS_MISSING}", lasting=True)
            database = client[database_of(url)]
            with client.start_session() as session, session.start_transaction():
                database["readiness"].find_one({"_id": "readiness"}, session=session)
    except ServerSelectionTimeoutError as error:
        if told := _distrusts(error, "tlsCAFile"):
            return Complaint(f"{name}: {told}", lasting=True)
        return Complaint(f"{name}: {_unreachable(error)}", lasting=False)
    except OperationFailure as error:
        if error.code in _AUTHENTICATION_FAILED:
            return Complaint(f"{name}: the credentials are refused", lasting=True)
        if error.code == UNAUTHORIZED:
            return Complaint(f"{name}: the user may not use the database (role readWrite)", lasting=True)
        return Complaint(f"{name}: {str(error).splitlines()[0][:200]}", lasting=False)
    except FileNotFoundError:
        return Complaint(f"{name}: {_NO_FILE}", lasting=True)
    except (ConfigurationError, ValueError) as error:
        return Complaint(f"{name}: {_unquoted(error)}", lasting=True)
    except PyMongoError as error:
        return Complaint(f"{name}: {type(error).__name__}", lasting=False)
    return None


def _unquoted(error: Exception) -> str:
    """What a client says of a URL, without the parts of it that the client repeats: they may be of the password."""
    return re.sub(r"\"[^\"]*\"|'[^']*'", "…", (str(error).splitlines() or [type(error).__name__])[0])[:200]


def _unreachable(error: ServerSelectionTimeoutError) -> str:
    if "No primary" in str(error) or "No replica set members match" in str(error):
        return "no primary is known at this moment"
    return f"cannot be reached: {str(error).split(',')[0].splitlines()[0][:200]}"


_DISTRUSTED = re.compile(r"certificate verify failed: ([^(]+)")
_NO_FILE = "a file of TLS that the URL names does not exist"


def _distrusts(error: Exception, option: str) -> str | None:
    """Returns why the server's certificate is not trusted, which waiting does not change; None where that is not the error."""
    found = _DISTRUSTED.search(str(error))
    if found is None:
        return None
    advice = f": name the file of its CA with {option}" if "issuer" in found[1] or "self" in found[1] else ""
    return f"the server's certificate is not trusted ({found[1].strip(' .')}){advice}"


_CLUSTER = "is a Redis Cluster; goalsvc needs one primary, whose keys are all in one place"
_OF_A_CLUSTER = ("ASK ", "CLUSTERDOWN", "CROSSSLOT", "MOVED ")
_PROBE = "goalsvc:ready:probe"
#: Each command that goalsvc runs, in a form that changes nothing but keys of the probe's own.
_COMMANDS: tuple[tuple[str | int | float, ...], ...] = (
    ("ping",), ("time",), ("info", "memory"), ("script", "load", "return 1"), ("evalsha", "0" * 40, 0),
    ("set", _PROBE, "1"), ("psetex", _PROBE, 1000, "1"), ("get", _PROBE), ("incr", _PROBE), ("decr", _PROBE),
    ("expire", _PROBE, 1), ("pexpire", _PROBE, 1000), ("pttl", _PROBE), ("exists", _PROBE), ("del", _PROBE),
    ("hset", _PROBE, "f", "1"), ("hget", _PROBE, "f"), ("hmget", _PROBE, "f"), ("unlink", _PROBE),
    ("lpush", _PROBE, "1"), ("ltrim", _PROBE, 0, 0), ("blpop", _PROBE, 0.01), ("del", _PROBE),
    ("zadd", _PROBE, 1, "m"), ("zcard", _PROBE), ("zcount", _PROBE, 0, 1), ("zrange", _PROBE, 0, 1),
    ("zrangebyscore", _PROBE, 0, 1), ("zrem", _PROBE, "m"),
)  # fmt: skip


def _refused_commands(client: Any) -> list[str]:
    """Returns the commands that the user's rights (ACL) do not contain."""
    with client.pipeline(transaction=False) as pipe:
        for command in _COMMANDS:
            pipe.execute_command(*command)
        answers = pipe.execute(raise_on_error=False)
    refused = [
        str(command[0])
        for command, answer in zip(_COMMANDS, answers, strict=True)
        if isinstance(answer, NoPermissionError)
    ]
    return list(dict.fromkeys(refused))


def redis_complaint(url: str, seconds: float = REACH_SECONDS) -> Complaint | None:
    """Returns what is wrong with the Redis or Valkey behind that URL; None when goalsvc can work with it."""
    name = "GOALSVC_REDIS_URL"
    try:
        limits: dict[str, object] = {"socket_connect_timeout": seconds, "socket_timeout": seconds}
        with Redis.from_url(url, **limits, **tls_options(url)) as client:
            client.set("goalsvc:ready", "1", ex=60)
            client.exists("goalsvc:ready", "arq:ready")  # two keys that a Cluster has in two places
            refused = _refused_commands(client)
            if refused:
                told = (
                    f"the user may not run all commands that are needed ({', '.join(refused)}): see docs/operations.md"
                )
                return Complaint(f"{name}: {told}", lasting=True)
    except AuthenticationError:
        return Complaint(f"{name}: the credentials are refused", lasting=True)
    except ReadOnlyError:
        return Complaint(f"{name}: is a read-only replica at this moment", lasting=False)
    except BusyLoadingError:
        return Complaint(f"{name}: loads its data at this moment", lasting=False)
    except ResponseError as error:
        text = str(error).splitlines()[0][:200]
        if isinstance(error, AskError | ClusterError | ClusterCrossSlotError) or text.startswith(_OF_A_CLUSTER):
            return Complaint(f"{name}: {_CLUSTER}", lasting=True)
        if text.startswith("unknown command"):
            return Complaint(f"{name}: is a Sentinel; name the address of the primary that it watches", lasting=True)
        if isinstance(error, NoPermissionError):
            return Complaint(
                f"{name}: the user may not write keys goalsvc* and arq:*: see docs/operations.md", lasting=True
            )
        if text.startswith(("NOAUTH", "NOPERM", "WRONGPASS")) or "uthentication required" in text:
            return Complaint(f"{name}: the credentials are refused", lasting=True)
        return Complaint(f"{name}: refuses a write: {text}", lasting=False)
    except (TypeError, ValueError) as error:
        return Complaint(f"{name}: {_unquoted(error)}", lasting=True)
    except (RedisError, OSError) as error:
        if trouble := _distrusts(error, "ssl_ca_certs"):
            return Complaint(f"{name}: {trouble}", lasting=True)
        if url.startswith("rediss:") and "No such file or directory" in str(error):
            return Complaint(f"{name}: {_NO_FILE}", lasting=True)
        return Complaint(f"{name}: cannot be reached: {str(error).splitlines()[0][:200]}", lasting=False)
    return None


def wait_for_services(
    settings: Settings, tell: Callable[[str], None], *, rest: Callable[[float], None] = time.sleep
) -> None:
    """Returns once MongoDB and Redis can be worked with; tells each state once. Raises SettingsError for what will not be."""
    JobSigner.from_settings(settings)
    told = ""
    while True:
        complaints = [
            each for each in (mongodb_complaint(settings.mongodb_url), redis_complaint(settings.redis_url)) if each
        ]
        if lasting := [each.text for each in complaints if each.lasting]:
            raise SettingsError("; ".join(lasting))
        if not complaints:
            asyncio.run(prepare_indexes(settings, tell))
            return
        state = "; ".join(each.text for each in complaints)
        if state != told:
            tell(f"waiting: {state}")
            told = state
        rest(1.0)
