"""The guard in front of everything that is fetched on behalf of others."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from goalsvc.domain.addresses import is_public
from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.egress import EgressRules, GuardedTransport

from .stub_server import StubAnswer, StubServer

PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


class TestRules:
    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://localhost:8000/live.m3u8",
            "http://LOCALHOST./",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[fe80::1]/",
            "https://user:password@10.0.0.1:8443/",
        ],
    )
    async def test_private_addresses_in_any_spelling(self, url: str) -> None:
        with pytest.raises(ClipImpossibleError, match="not a public one"):
            await EgressRules().addresses_of(httpx.URL(url))

    @pytest.mark.parametrize(
        "url", ["", "live.m3u8", "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://8.8.8.8/", "http:///x"]
    )
    async def test_what_is_no_address_of_http(self, url: str) -> None:
        with pytest.raises(ClipImpossibleError, match="http or https"):
            await EgressRules(private=True).addresses_of(httpx.URL(url))

    async def test_public_address(self) -> None:
        assert await EgressRules().addresses_of(httpx.URL("https://8.8.8.8/live.m3u8")) == ["8.8.8.8"]

    async def test_private_when_allowed(self) -> None:
        assert await EgressRules(private=True).addresses_of(httpx.URL("http://127.0.0.1:9/")) == ["127.0.0.1"]

    async def test_only_named_hosts(self) -> None:
        rules = EgressRules(hosts=[" Live.example", "127.0.0.1"], private=True)
        assert await rules.addresses_of(httpx.URL("http://127.0.0.1/")) == ["127.0.0.1"]
        for url in ("http://localhost/", "http://evil-live.example/", "http://live.example.evil/", "http://8.8.8.8/"):
            with pytest.raises(ClipImpossibleError, match="GOALSVC_HLS_ALLOW_HOSTS"):
                await rules.addresses_of(httpx.URL(url))

    async def test_a_named_host_must_be_public_still(self) -> None:
        with pytest.raises(ClipImpossibleError, match="not a public one"):
            await EgressRules(hosts=["localhost"]).addresses_of(httpx.URL("http://localhost/"))

    @pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "a" * 64 + ".invalid"])
    async def test_a_host_that_cannot_be_resolved(self, host: str) -> None:
        with pytest.raises(ExternalServiceError, match="cannot be resolved"):
            await EgressRules().addresses_of(httpx.URL(f"http://{host}/"))


@dataclass(frozen=True, slots=True)
class Book(EgressRules):
    """Resolves `stream.example` and `other.example` to fixed addresses, as if they were public; else the strict rules."""

    addresses: tuple[str, ...] = ("127.0.0.1",)

    async def addresses_of(self, url: httpx.URL) -> list[str]:
        if url.host.endswith(".example"):
            return list(self.addresses)
        return await EgressRules().addresses_of(url)


@asynccontextmanager
async def guarded_client(rules: EgressRules, context: ssl.SSLContext | None = None) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=GuardedTransport(rules, context), follow_redirects=True, trust_env=False, timeout=5
    ) as client:
        yield client


class TestTransport:
    async def test_the_checked_address_is_the_one_that_is_connected_to(self, stub: StubServer) -> None:
        """`stream.example` resolves nowhere: had the name been looked up once more, there would be no answer."""
        async with guarded_client(Book()) as client:
            answer = await client.get(f"http://stream.example:{stub.port}/live.m3u8?token=t")
        assert answer.is_success
        assert answer.url.host == "stream.example"
        (request,) = stub.requests
        assert request.headers["host"] == f"stream.example:{stub.port}"
        assert request.target == "/live.m3u8?token=t"

    @pytest.mark.parametrize(
        "location",
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://127.0.0.1:{port}/",
            "http://[::1]:{port}/",
            "//2130706433:{port}/",
        ],
    )
    async def test_redirects_to_private_addresses(self, stub: StubServer, location: str) -> None:
        stub.answer(status=302, Location=location.format(port=stub.port))
        async with guarded_client(Book()) as client:
            with pytest.raises(ClipImpossibleError, match="not a public one"):
                await client.get(f"http://stream.example:{stub.port}/")
        assert len(stub.requests) == 1

    async def test_redirects_to_allowed_hosts_are_followed(self, stub: StubServer) -> None:
        answers = iter([302, 200])
        stub.answering = lambda _: stub_redirect(next(answers), f"http://other.example:{stub.port}/there")
        async with guarded_client(Book()) as client:
            answer = await client.get(f"http://stream.example:{stub.port}/")
        assert answer.url.host == "other.example"
        assert [request.path for request in stub.requests] == ["/", "/there"]

    async def test_the_next_address_when_one_takes_no_connection(self, stub: StubServer) -> None:
        async with guarded_client(Book(addresses=("127.0.0.2", "127.0.0.1"))) as client:
            assert (await client.get(f"http://stream.example:{stub.port}/")).is_success

    async def test_connections_are_not_shared_between_names(self, stub: StubServer) -> None:
        async with guarded_client(Book()) as client:
            for host in ("stream.example", "other.example", "stream.example"):
                await client.get(f"http://{host}:{stub.port}/")
        assert stub.connections == 2

    async def test_tls_is_for_the_name(self, tmp_path: Path) -> None:
        server_context, client_context = certificate_for("stream.example", tmp_path)
        async with tls_server(server_context) as port, guarded_client(Book(), client_context) as client:
            assert (await client.get(f"https://stream.example:{port}/")).text == "ok"
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await client.get(f"https://other.example:{port}/")


def stub_redirect(status: int, location: str) -> StubAnswer:
    return StubAnswer(status=status, headers={"Location": location})


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def certificate_for(host: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `host`, and a client's that trusts it and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "certificate.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(encoding))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pem)
    return server_context, ssl.create_default_context(cadata=certificate.public_bytes(encoding).decode())
