"""A private `mongod` as a replica set (transactions need one), and all that the devstack asks of its members."""

import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import bson
from pymongo.errors import OperationFailure

from goalsvc.devstack.binaries import find_mongod
from goalsvc.devstack.parts import Part
from goalsvc.devstack.ports import HOST, is_listening
from goalsvc.devstack.waiting import holds_within
from goalsvc.domain.documents import RawDocument

REPLICA_SET = "rs0"
DATABASE = "goalsvc"

_NOT_YET_INITIALIZED = 94


def mongodb_url(ports: Sequence[int], database: str = DATABASE) -> str:
    """The address of the replica set whose members listen on these ports, with the database's name."""
    members = ",".join(f"{HOST}:{port}" for port in ports)
    return f"mongodb://{members}/{database}?replicaSet={REPLICA_SET}"


def mongod_part(directory: Path, port: int, cache_gb: float = 0.25) -> Part:
    """A single-node replica set with its data in `directory` (made if need be); ready once it is primary.

    It comes up whatever port it had before, and after a kill -9 (its journal is on). `cache_gb` bounds WiredTiger's cache.
    """
    return Part("mongod", member_command(directory, port, cache_gb), lambda _pid: _is_primary(port))


def member_command(directory: Path, port: int, cache_gb: float = 0.25) -> tuple[str, ...]:
    """What starts one member of a replica set; its data are in `directory` (made if need be)."""
    directory.mkdir(parents=True, exist_ok=True)
    parameters = {
        "diagnosticDataCollectionEnabled": "false",
        # A primary that is told to stop would wait up to 15 s for others to catch up; what a majority has is safe anyway.
        "shutdownTimeoutMillisForSignaledShutdown": "100",
    }
    options = {
        "--dbpath": str(directory),
        "--port": str(port),
        "--bind_ip": HOST,
        "--replSet": REPLICA_SET,
        "--oplogSize": "256",
        "--wiredTigerCacheSizeGB": str(cache_gb),
        # Without the 200 MB of journal that is otherwise laid out in advance: a quicker first start, a smaller directory.
        "--wiredTigerEngineConfigString": "log=(prealloc=false)",
    }
    words = [word for option, value in options.items() for word in (option, value)]
    words += [word for name, value in parameters.items() for word in ("--setParameter", f"{name}={value}")]
    return (str(find_mongod()), *words, "--nounixsocket")


def _is_primary(port: int) -> bool:
    try:
        with _Member(port) as member:
            _configure([port], member)
            return holds_within(2, lambda: bool(member.run({"hello": 1})["isWritablePrimary"]))
    except (OSError, OperationFailure):
        return False


def initiate(ports: Sequence[int]) -> bool:
    """Makes the members on these ports one replica set; says whether it has a primary and all members follow it.

    May be called again and again, from any thread. A lost primary is replaced after about two seconds.
    """
    if not all(is_listening(port) for port in ports):
        return False
    try:
        with _Member(ports[0]) as member:
            _configure(ports, member)
            return holds_within(5, lambda: _all_in_place(member, len(ports)))
    except (OSError, OperationFailure):
        return False


def _all_in_place(member: "_Member", members: int) -> bool:
    states = sorted(each["stateStr"] for each in member.run({"replSetGetStatus": 1})["members"])
    return states == ["PRIMARY"] + ["SECONDARY"] * (members - 1)


def _configure(ports: Sequence[int], member: "_Member") -> None:
    """Tells a new member what it belongs to. One that was on another port before is told its new address."""
    hosts = [f"{HOST}:{port}" for port in ports]
    try:
        config = member.run({"replSetGetConfig": 1})["config"]
    except OperationFailure as error:
        if error.code != _NOT_YET_INITIALIZED:
            raise
        members = [{"_id": number, "host": host} for number, host in enumerate(hosts)]
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        member.run({"replSetInitiate": {"_id": REPLICA_SET, "members": members, "settings": settings}})
        return
    if [each["host"] for each in config["members"]] != hosts:
        # A member that does not find itself in its configuration belongs to nothing and can be told by force only.
        config["members"] = [{**each, "host": host} for each, host in zip(config["members"], hosts, strict=True)]
        config["version"] += 1
        member.run({"replSetReconfig": config, "force": True})


class _Member:
    """One connection to one member, for commands to its `admin` database; raises OSError when it does not answer.

    Not a `MongoClient`: that one brings three threads along and half a second to close, and has ideas of its own about
    whom to talk to. https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/#op_msg
    """

    _OP_MSG = 2013
    _HEADER = struct.Struct("<iiii")  # length of the whole, request id, id of what is answered, kind of message
    _PREAMBLE = struct.Struct("<Ib")  # no flags, then a section of one document

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection((HOST, port), timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def run(self, command: Mapping[str, object]) -> dict[str, Any]:
        """Runs one command; raises OperationFailure with the member's code and message when it refuses."""
        body = self._PREAMBLE.pack(0, 0) + bson.encode({**command, "$db": "admin"})
        self._connection.sendall(self._HEADER.pack(self._HEADER.size + len(body), 1, 0, self._OP_MSG) + body)
        length, *_ = self._HEADER.unpack(self._receive(self._HEADER.size))
        answer: RawDocument = bson.decode(self._receive(length - self._HEADER.size)[self._PREAMBLE.size :])
        if not answer["ok"]:
            raise OperationFailure(answer.get("errmsg", ""), answer.get("code"))
        return answer

    def _receive(self, length: int) -> bytes:
        received = bytearray()
        while len(received) < length:
            piece = self._connection.recv(length - len(received))
            if not piece:
                raise ConnectionResetError("the member closed the connection")
            received += piece
        return bytes(received)
