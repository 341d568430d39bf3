"""TCP ports on 127.0.0.1, the only address that anything here listens on or speaks to."""

import http.client
import random
import socket
from collections.abc import Collection

HOST = "127.0.0.1"

# Below what Linux hands out to outgoing connections (32768 and up): a part that is started again must find its port free.
_FIRST, _LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on that port now. What merely lingers of closed connections does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(besides: Collection[int] = ()) -> int:
    """A port that is free now and not one of `besides`."""
    for port in random.sample(range(_FIRST, _LAST), 200):
        if port not in besides and is_free(port):
            return port
    raise OSError(f"no free port found on {HOST}")


def is_listening(port: int) -> bool:
    """Whether a program accepts connections on that port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def http_status(port: int, path: str, method: str = "GET", timeout: float = 2.0) -> int | None:
    """The status that the server on that port answers within `timeout` seconds; None if it does not answer.

    Plain `http.client`, because it does not look for a proxy in the environment.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
