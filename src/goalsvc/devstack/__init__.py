"""What `goalsvc dev` starts: every part that goalsvc needs, private to this machine, watched and started again.

Tests use the same parts by themselves: `private_mongod`, `private_valkey` and `private_s3` are context managers, the
emulators in `goalsvc.devstack.standins` can be served in the test's own process.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goalsvc.devstack.dev import Commands, run_dev
    from goalsvc.devstack.doctor import Finding, check
    from goalsvc.devstack.private import PrivateMongod, private_mongod, private_s3, private_valkey

__all__ = [
    "Commands",
    "Finding",
    "PrivateMongod",
    "check",
    "private_mongod",
    "private_s3",
    "private_valkey",
    "run_dev",
]

_HOMES = {
    "Commands": "dev",
    "Finding": "doctor",
    "PrivateMongod": "private",
    "check": "doctor",
    "private_mongod": "private",
    "private_s3": "private",
    "private_valkey": "private",
    "run_dev": "dev",
}


def __getattr__(name: str) -> object:
    # Our own child processes (the S3 endpoint, the emulators) import this package too: they shall not pay for all of it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
