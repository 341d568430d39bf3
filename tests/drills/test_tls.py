"""MongoDB and Redis over TLS with passwords: a show is paid; a certificate that is not trusted is one sentence."""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from goalsvc.commands.preflight import mongodb_complaint, redis_complaint
from goalsvc.devstack import private_valkey
from goalsvc.devstack.ports import HOST, free_port
from tests.support.streams import copy

from .only import in_drills
from .processes import API_KEY, running_stack
from .shows import FundedShow
from .test_rights import PASSWORD, command, mongod_with_users

pytestmark = [
    pytest.mark.real,
    in_drills,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates"),
]


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate, and a server's certificate and key in one file, for 127.0.0.1 and for another host."""

    ca: Path
    server: Path
    elsewhere: Path


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def authority(directory: Path) -> Authority:
    directory.mkdir()
    new = ["req", "-newkey", "rsa:2048", "-nodes", "-sha256"]
    openssl(directory, *new, "-x509", "-days", "2", "-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, host in (("server", f"IP:{HOST}"), ("elsewhere", "DNS:elsewhere.example.com")):
        openssl(directory, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (directory / "names").write_text(f"subjectAltName={host}\n")
        by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.crt")
        both = (directory / f"{name}.crt").read_text() + (directory / f"{name}.key").read_text()
        (directory / f"{name}.pem").write_text(both)
    return Authority(directory / "ca.pem", directory / "server.pem", directory / "elsewhere.pem")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "another")


@contextmanager
def tls_in_front_of(port: int, certificate: Path) -> Iterator[int]:
    """Ends TLS and hands on to that port (the wheel's Valkey is built without TLS); yields its own port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    own, started = free_port(), threading.Event()
    stopping: list[Callable[[], object]] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, port)
        await asyncio.gather(copy(reader, back), copy(there, writer))

    async def serve() -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(over.set))
        async with await asyncio.start_server(forward, HOST, own, ssl=context):
            started.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield own
    finally:
        stopping[0]()
        thread.join(10)


@contextmanager
def redis_with_tls(certificate: Path) -> Iterator[str]:
    """A Valkey with a password behind TLS; the URL without the options of TLS."""
    with private_valkey() as url:
        with closing(Redis.from_url(url)) as admin:
            command(admin, "CONFIG", "SET", "requirepass", PASSWORD)
        with tls_in_front_of(int(url.rpartition(":")[2].partition("/")[0]), certificate) as port:
            yield f"rediss://:{PASSWORD}@{HOST}:{port}/0"  # repository: allowed, made up


def mongod_words(given: Authority) -> list[str]:
    return [
        *("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(given.server), "--tlsCAFile", str(given.ca)),
        "--tlsAllowConnectionsWithoutCertificates",
    ]


def test_a_show_is_paid_over_tls_and_doctor_is_content(tmp_path: Path, ours: Authority, another: Authority) -> None:
    with ExitStack() as left:
        options = f"&tls=true&tlsCAFile={ours.ca}"
        mongodb_url = left.enter_context(mongod_with_users(tmp_path, *mongod_words(ours), options=options))
        redis_url = left.enter_context(redis_with_tls(ours.server)) + f"?ssl_ca_certs={ours.ca}"
        assert mongodb_complaint(mongodb_url) is None
        assert redis_complaint(redis_url) is None
        with running_stack(tmp_path, mongodb_url, redis_url, RECORDING="off") as stack, stack.client() as client:
            show = FundedShow(client)
            show.fund()
            assert show.begins(), stack.logs()
            assert show.perform() == [200, 200]
            assert show.is_paid(), stack.logs()
        told = doctor(mongodb_url, redis_url)
        assert "ok       mongodb: reached, and it has transactions" in told
        assert "ok       redis: reached, and it takes a write" in told
        wrong = doctor(
            mongodb_url.replace(str(ours.ca), str(another.ca)), redis_url.replace(str(ours.ca), str(another.ca))
        )
    for name, option in (("MONGODB_URL", "tlsCAFile"), ("REDIS_URL", "ssl_ca_certs")):
        (line,) = [line for line in wrong.splitlines() if f"GOALSVC_{name}: " in line]
        assert "the server's certificate is not trusted (" in line
        assert line.endswith(f"): name the file of its CA with {option}")


def doctor(mongodb_url: str, redis_url: str) -> str:
    """What `goalsvc doctor` prints of these servers."""
    environment = {
        **os.environ,
        "GOALSVC_MONGODB_URL": mongodb_url,
        "GOALSVC_REDIS_URL": redis_url,
        "GOALSVC_API_KEY": API_KEY,
    }
    words = [sys.executable, "-m", "goalsvc", "doctor"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout


def test_a_redis_of_another_name_is_refused(tmp_path: Path, ours: Authority) -> None:
    with redis_with_tls(ours.elsewhere) as url:
        complaint = redis_complaint(f"{url}?ssl_ca_certs={ours.ca}")
        assert redis_complaint(f"{url}?ssl_ca_certs={ours.ca}&ssl_check_hostname=false") is None
        missing = redis_complaint(f"{url}?ssl_ca_certs={tmp_path}/missing.pem")
    elsewhere = mongodb_complaint(f"mongodb://{HOST}:1/goalsvc?tls=true&tlsCAFile={tmp_path}/missing.pem")
    assert complaint is not None
    assert complaint.lasting
    assert complaint.text.endswith("IP address mismatch, certificate is not valid for '127.0.0.1')")
    assert missing is not None
    assert missing.text == "GOALSVC_REDIS_URL: a file of TLS that the URL names does not exist"
    assert elsewhere is not None
    assert elsewhere.text == "GOALSVC_MONGODB_URL: a file of TLS that the URL names does not exist"
