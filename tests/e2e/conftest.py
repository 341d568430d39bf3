"""One goalsvc and, for each way of sending webhooks, one soketi for all tests here; every test has users of its own."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import jwt
import pytest

from goalsvc.devstack.environment import DEFAULTS
from goalsvc.devstack.ports import HOST, free_port

from . import node, soketi
from .client import PusherClient
from .goalsvc_api import Platform, running_goalsvc
from .soketi import Webhooks, running_emulator, running_soketi
from .webhook_witness import Witness, listening_witness

Device = Callable[..., PusherClient]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = node.missing_programs()
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)
            if missing:
                reason = f"no real Pusher-protocol server can be run: {' and '.join(missing)} not found on $PATH"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def pusher_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, pusher_port: int) -> Iterator[Platform]:
    """A goalsvc whose Pusher is on that port."""
    with running_goalsvc(tmp_path_factory.mktemp("goalsvc"), free_port(besides=[pusher_port]), pusher_port) as running:
        yield running


@pytest.fixture(scope="session")
def witness() -> Iterator[Witness]:
    with listening_witness() as listening:
        yield listening


@pytest.fixture(scope="session", params=["single", "batched", "emulator"])
def webhooks(request: pytest.FixtureRequest, platform: Platform, witness: Witness) -> Webhooks:
    """Where webhooks go, and from which server: soketi, one event each or those of 50 ms together, or the emulator."""
    urls = [f"{platform.url}/notify/pusher", witness.url]
    return Webhooks(urls, batched=request.param != "single", emulated=request.param == "emulator")


@pytest.fixture(scope="session")
def pusher(tmp_path_factory: pytest.TempPathFactory, pusher_port: int, webhooks: Webhooks) -> Iterator[Webhooks]:
    """A running Pusher-protocol server."""
    node.install()
    if webhooks.emulated:
        with running_emulator(pusher_port, webhooks):
            yield webhooks
        return
    with running_soketi(tmp_path_factory.mktemp("soketi"), pusher_port, webhooks):
        yield webhooks


@pytest.fixture
def user() -> Callable[[str], str]:
    """Gives a person's user id, of this test alone."""
    test = uuid.uuid4().hex[:8]
    return lambda name: f"u-{name}-{test}"


@pytest.fixture
def device(tmp_path: Path, pusher_port: int, platform: Platform, pusher: Webhooks) -> Iterator[Device]:
    """Switches on devices that are logged in as that user; `token` is sent in place of his own."""
    with ExitStack() as switched_on:

        def switch_on(user_id: str, *, token: str | None = None) -> PusherClient:
            options = {
                "key": soketi.KEY,
                "host": HOST,
                "port": pusher_port,
                "auth_url": f"{platform.url}/pusher/auth",
                "token": token or token_of(user_id),
            }
            client = switched_on.enter_context(PusherClient(options, tmp_path / "devices.log"))
            return client.connected()

        yield switch_on


def token_of(user_id: str, key: str = DEFAULTS["GOALSVC_JWT_KEY"]) -> str:
    """The platform's own token of that user."""
    return jwt.encode({"sub": user_id}, key, algorithm="HS256")
