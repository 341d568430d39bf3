"""Behind a real nginx (TLS, a prefix, kept connections, small buffers) webhooks, calls, pages and sign-ins pass."""

import asyncio
import getpass
import hmac
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import jwt
import pytest

from goalsvc.devstack.environment import DEFAULTS
from goalsvc.devstack.ports import free_port, is_listening
from goalsvc.devstack.waiting import holds_within
from tests.faults.outside import DevStack, dev_stack
from tests.outages.beside import api_beside

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/bin")
OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        NGINX is None or OPENSSL is None, reason="needs nginx and openssl (Debian's nginx-light, openssl)"
    ),
]

PREFIX = "/goals"
PAGE = "https://live.example.com"
WEBHOOKS, AT_ONCE = 300, 20

CONFIGURATION = """
{user} daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  client_body_buffer_size 1k; proxy_buffer_size 4k; proxy_buffers 2 4k; proxy_busy_buffers_size 4k;
  upstream goalsvc {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {directory}/certificate.pem; ssl_certificate_key {directory}/key.pem;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    location {prefix}/ {{ proxy_pass http://goalsvc{stripped}; }}
  }}
}}
"""


@contextmanager
def nginx(directory: Path, upstream: int, *, strips: bool) -> Iterator[str]:
    """Runs an nginx in front of that port, which takes the prefix off or leaves it on; yields the address of the API."""
    assert NGINX is not None
    assert OPENSSL is not None
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem")]
    made = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *names, *files]
    subprocess.run(made, check=True, capture_output=True)
    port, stripped = free_port(), "/" if strips else ""
    user = (
        f"user {getpass.getuser()};" if os.getuid() == 0 else ""
    )  # or root's workers could not write below `directory`
    written = CONFIGURATION.format(
        user=user, directory=directory, upstream=upstream, port=port, prefix=PREFIX, stripped=stripped
    )
    (directory / "nginx.conf").write_text(written)
    words = [NGINX, "-e", str(directory / "error.log"), "-c", str(directory / "nginx.conf")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert holds_within(10, lambda: is_listening(port)), (directory / "error.log").read_text()
        yield f"https://127.0.0.1:{port}{PREFIX}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def stack() -> AsyncIterator[DevStack]:
    async with dev_stack() as running:
        yield running


def signed(body: bytes) -> dict[str, str]:
    """The headers with which Pusher sends that body."""
    signature = hmac.new(DEFAULTS["GOALSVC_PUSHER_SECRET"].encode(), body, sha256).hexdigest()
    return {"x-pusher-key": DEFAULTS["GOALSVC_PUSHER_KEY"], "x-pusher-signature": signature}


@pytest.mark.parametrize("strips", [True, False], ids=["takes the prefix off", "leaves it on"])
async def test_everything_passes(stack: DevStack, tmp_path: Path, strips: bool) -> None:
    environment = {"GOALSVC_CORS_ORIGINS": PAGE}
    with (
        api_beside(stack, tmp_path / "api.log", "--root-path", PREFIX, environment=environment) as addresses,
        nginx(tmp_path, urlsplit(addresses["api_url"]).port or 0, strips=strips) as url,
    ):
        trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        headers = {"authorization": f"Bearer {DEFAULTS['GOALSVC_API_KEY']}"}
        async with httpx.AsyncClient(verify=trusted, headers=headers, trust_env=False, timeout=20) as client:
            goal = await a_show(client, url)
            await webhooks_under_load(client, url, goal)
            await no_redirects(client, url)
            await pages_and_what_they_load(client, url)
            await the_sign_in_of_a_browser(client, url, goal)
            await one_key_two_ways(client, url, addresses["api_url"])
        assert "error" not in (tmp_path / "error.log").read_text()


async def a_show(client: httpx.AsyncClient, url: str) -> str:
    """Makes a show of alice's through the proxy; its id."""
    session = (await client.post(f"{url}/v1/sessions", json={"user_id": "alice"})).raise_for_status().json()
    # More than the proxy's buffers hold, on the way in and on the way back.
    levels = [{"title": f"{number} " + "song " * 40, "target": 1000 + number} for number in range(60)]
    goal = {"kind": "ShowGoal", "session_id": session["id"], "levels": levels}
    made = (await client.post(f"{url}/v1/goals", json=goal)).raise_for_status().json()
    read = (await client.get(f"{url}/v1/goals/{made['id']}")).raise_for_status().json()
    assert read["levels"] == levels
    return str(made["id"])


async def webhooks_under_load(client: httpx.AsyncClient, url: str, goal: str) -> None:
    """Every one of many webhooks, many at a time, is answered 200."""
    free = asyncio.Semaphore(AT_ONCE)

    async def send(number: int) -> int:
        name = "member_removed" if number % 2 else "member_added"
        event = {"name": name, "channel": f"presence-enc-goal@{goal}", "user_id": "alice"}
        body = json.dumps({"time_ms": int(time.time() * 1000) - 1000 + number, "events": [event] * 2}).encode()
        async with free:
            return (await client.post(f"{url}/notify/pusher", content=body, headers=signed(body))).status_code

    assert set(await asyncio.gather(*map(send, range(WEBHOOKS)))) == {200}


async def no_redirects(client: httpx.AsyncClient, url: str) -> None:
    """A slash at the end leads nowhere else, least of all to plain http; probes may ask by HEAD."""
    for path in ("/v1/sessions/", "/healthz/", "/docs/"):
        assert not (await client.get(f"{url}{path}")).is_redirect, path
    for path in ("/healthz", "/readyz"):
        assert (await client.head(f"{url}{path}")).status_code == 200


async def pages_and_what_they_load(client: httpx.AsyncClient, url: str) -> None:
    """The documentation's page, what it loads, and the document that it shows are below the prefix."""
    page = (await client.get(f"{url}/docs")).raise_for_status()
    loaded = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"'#]+)["']""", page.text)
    own = [urljoin(str(page.url), each) for each in loaded if not each.startswith("data:")]
    assert len(own) >= 3
    assert all(each.startswith(url) for each in own), own
    for each in own:
        assert (await client.get(each)).status_code == 200, each
    document = (await client.get(f"{url}/openapi.json")).raise_for_status().json()
    assert "/v1/goals" in document["paths"]


async def the_sign_in_of_a_browser(client: httpx.AsyncClient, url: str, goal: str) -> None:
    """A page of the platform lets its user into the channel: first the browser asks whether it may, then it calls."""
    asks = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,traceparent",
    }
    allowed = await client.options(f"{url}/pusher/auth", headers=asks)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    token = jwt.encode({"sub": "alice", "exp": int(time.time()) + 60}, DEFAULTS["GOALSVC_JWT_KEY"], "HS256")
    form = {"socket_id": "1.2", "channel_name": f"presence-enc-goal@{goal}"}
    headers = {"origin": PAGE, "authorization": f"Bearer {token}"}
    answer = await client.post(f"{url}/pusher/auth", data=form, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == PAGE
    own = await client.get(f"{url}/v1/channels/private-user@alice", headers={"authorization": f"Bearer {token}"})
    assert own.status_code == 200, own.text
    assert answer.json()["auth"].startswith(f"{DEFAULTS['GOALSVC_PUSHER_KEY']}:")


async def one_key_two_ways(client: httpx.AsyncClient, url: str, direct: str) -> None:
    """A call that is repeated past the proxy is the same call; the trace names what it made."""
    key = {"idempotency-key": "one-key-two-ways"}
    made = [
        (await client.post(f"{each}/v1/sessions", json={"user_id": "bob"}, headers=key)).json()
        for each in (url, direct)
    ]
    assert made[0]["id"] == made[1]["id"]
    page = await client.get(f"{url}/console")
    assert page.status_code == 303
    assert urljoin(str(page.url), page.headers["location"]).startswith(f"{url}/console/login?to=%2Fgoals%2Fconsole")
