"""URLs: a public file comes as it is; nothing that only this machine can reach is ever connected to."""

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from emotivetalk.actors.serving.intake.fetch import PublicTransport, check_address, fetch, resolve_host, say_url
from emotivetalk.errors import InputError, OutputError

BODY = bytes(range(256)) * 20_000
PUBLIC, OTHER_PUBLIC = "93.184.216.34", "2606:2800:220:1::1"
Answer = Callable[["Server", str, dict[str, str]], Awaitable[bytes] | bytes]


@dataclass
class Server:
    """A small web server on loopback: `answers` go by path; `seen` are the requests' paths and headers."""

    port: int
    answers: dict[str, bytes | list[bytes | float]]
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = lines[0].split()[1]
            self.seen.append((path, dict(line.lower().split(": ", 1) for line in lines[1:] if line)))
            answer = self.answers.get(path, reply(b"", status="404 Not Found"))
            for part in answer if isinstance(answer, list) else [answer]:
                if isinstance(part, float):
                    await asyncio.sleep(part)
                else:
                    writer.write(part)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def reply(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def serving(answers: dict, context: ssl.SSLContext | None = None):
    server = Server(0, answers)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server


class Elsewhere(httpx.AsyncBaseTransport):
    """Stands for the network: writes down which address is connected to, and connects to the test's server."""

    def __init__(self, unreachable: tuple[str, ...] = ()) -> None:
        self.addresses: list[str] = []
        self.unreachable = unreachable
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.addresses.append(request.url.host)
        if request.url.host in self.unreachable:
            raise httpx.ConnectError("unreachable", request=request)
        return await self._inner.handle_async_request(
            httpx.Request(
                request.method, request.url.copy_with(host="127.0.0.1"), headers=request.headers, stream=request.stream
            )
        )


def names(*answers: list[str]) -> tuple[Callable[[str, int], Awaitable[list[str]]], list[str]]:
    """A resolver that gives these answers one after the other, and the hosts it was asked for."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


def refused(code: str, url: str, folder: Path, **settings: object) -> InputError:
    """The URL is refused with this code, and nothing is left of it."""
    with pytest.raises(InputError) as caught:
        asyncio.run(fetch(url, folder, 10_000_000, **settings))  # pyright: ignore[reportArgumentType]
    assert caught.value.code == code
    assert caught.value.remedy.endswith(".") and not list(folder.iterdir())
    return caught.value


def test_a_file_comes_as_it_is(tmp_path: Path) -> None:
    async def main() -> tuple[Path, Server]:
        async with serving({"/a/speech.mp3?key=1": reply(BODY)}) as server:
            return await fetch(server.url("/a/speech.mp3?key=1"), tmp_path, len(BODY), allow_private=True), server

    path, server = asyncio.run(main())
    assert path.read_bytes() == BODY and path.parent == tmp_path and path.suffix == ".mp3"
    (_, headers), = server.seen  # fmt: skip
    assert headers["host"] == f"127.0.0.1:{server.port}" and headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & set(headers)


PRIVATE = """
    127.0.0.1 127.8.9.10 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1
    100.100.100.200 192.0.0.192 198.18.0.1 224.0.0.1 239.1.2.3 240.0.0.1 255.255.255.255 168.63.129.16 192.0.2.1
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:a00:1 fe80::1 fe80::1%eth0 fec0::1 fc00::1
    fd00:ec2::254 ff02::1 ff0e::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe
    64:ff9b:1::1 2001:0:5ef5:79fd::1 100::1 5f00::1
""".split()
PUBLICS = f"{PUBLIC} 8.8.8.8 1.1.1.1 {OTHER_PUBLIC} 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_not_public(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check_address(address, "http://a.example/b?c")
    assert caught.value.code == "url_private" and "'http://a.example/b'" in str(caught.value)
    assert address not in str(caught.value), "what a name means inside is nobody's business"
    elsewhere = Elsewhere()
    transport = PublicTransport(resolve=names([PUBLIC, address])[0], inner=elsewhere)
    refused("url_private", "http://mixed.example/", tmp_path, transport=transport)
    assert not elsewhere.addresses


@pytest.mark.parametrize("address", PUBLICS)
def test_public(address: str) -> None:
    check_address(address, "http://a.example/")


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 localhost 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.1 127.0.0.1. 0 [::1] [::] "
    "[::ffff:127.0.0.1] [::ffff:7f00:1] [fe80::1] 127\u30020\u30020\u30021 \uff11\uff12\uff17.0.0.1 \u246b7.0.0.1 169.254.169.254 2852039166".split(),
)
def test_loopback_by_any_spelling(host: str, tmp_path: Path) -> None:
    """The system's own resolver is used, and the server would answer."""

    async def main() -> tuple[str, Server]:
        async with serving({"/secret": reply(BODY)}) as server:
            with pytest.raises(InputError) as caught:
                await fetch(server.url("/secret", host), tmp_path, 10_000_000, timeout_s=10)
            return caught.value.code, server

    code, server = asyncio.run(main())
    assert code in ("url_private", "url_invalid") and not server.seen
    assert not list(tmp_path.iterdir())


def test_the_system_resolves_numbers(tmp_path: Path) -> None:
    """The test above means something: these spellings do lead to loopback."""
    assert asyncio.run(resolve_host("0x7f.1", 80)) == asyncio.run(resolve_host("2130706433", 80)) == ["127.0.0.1"]


def test_rebinding_gains_nothing(tmp_path: Path) -> None:
    """The name is asked for once, and the address that was checked is the one that is connected to."""
    resolve, asked = names([PUBLIC], ["127.0.0.1"])
    elsewhere = Elsewhere()

    async def main() -> Path:
        async with serving({"/": reply(BODY)}) as server:
            url = server.url("/", "rebinding.example")
            return await fetch(url, tmp_path, len(BODY), transport=PublicTransport(resolve=resolve, inner=elsewhere))

    assert asyncio.run(main()).read_bytes() == BODY
    assert elsewhere.addresses == [PUBLIC] and asked == ["rebinding.example"]


def redirecting(location: str, answers: list[list[str]], tmp_path: Path, hops: int = 1) -> tuple[list[str], list]:
    """Fetch from a public host that sends on to `location`: addresses connected to, and what the server saw."""
    elsewhere = Elsewhere()

    async def main() -> Server:
        async with serving({"/file": reply(BODY)}) as server:
            for hop in range(hops):
                to = f"/hop{hop + 1}" if hop + 1 < hops else location.replace("PORT", str(server.port))
                server.answers[f"/hop{hop}"] = reply(b"", "302 Found", Location=to)
            transport = PublicTransport(resolve=names(*answers)[0], inner=elsewhere)
            try:
                await fetch(server.url("/hop0", "public.example"), tmp_path, len(BODY), transport=transport)
            finally:
                seen.extend(server.seen)
            return server

    seen: list = []
    try:
        asyncio.run(main())
    except InputError as error:
        return elsewhere.addresses, [*seen, error.code]
    return elsewhere.addresses, seen


def test_redirects_are_followed_and_checked(tmp_path: Path) -> None:
    addresses, seen = redirecting("http://other.example:PORT/file", [[PUBLIC], [OTHER_PUBLIC]], tmp_path)
    assert addresses == [PUBLIC, OTHER_PUBLIC]
    assert [headers["host"].partition(":")[0] for _, headers in seen] == ["public.example", "other.example"]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [BODY]


@pytest.mark.parametrize(
    ("location", "answers", "code"),
    [
        ("http://inside.example:PORT/file", [[PUBLIC], ["10.0.0.1"]], "url_private"),
        ("http://169.254.169.254/latest", [[PUBLIC], ["169.254.169.254"]], "url_private"),
        ("/file", [[PUBLIC], ["127.0.0.1"]], "url_private"),
        ("http://mapped.example:PORT/file", [[PUBLIC], ["::ffff:10.0.0.1"]], "url_private"),
        ("file:///etc/passwd", [[PUBLIC]], "url_invalid"),
        ("ftp://public.example/file", [[PUBLIC]], "url_invalid"),
        ("http://user:pass@public.example:PORT/file", [[PUBLIC]], "url_invalid"),
        ("http://[::1", [[PUBLIC]], "url_failed"),
    ],
)
def test_bad_redirects(location: str, answers: list[list[str]], code: str, tmp_path: Path) -> None:
    addresses, seen = redirecting(location, answers, tmp_path)
    assert addresses == [PUBLIC] and seen[1:] == [code]
    assert not list(tmp_path.iterdir())


def test_too_many_redirects(tmp_path: Path) -> None:
    assert len(redirecting("/file", [[PUBLIC]], tmp_path, hops=3)[1]) == 4
    addresses, seen = redirecting("/file", [[PUBLIC]], tmp_path, hops=4)
    assert len(addresses) == 4 and seen[-1] == "url_too_many_redirects"


def fetched(
    answer: bytes | list[bytes | float], folder: Path, max_bytes: int = len(BODY), timeout_s: float = 10
) -> str:
    """The error's code for what a server answers."""

    async def main() -> str:
        async with serving({"/": answer}) as server:
            with pytest.raises(InputError) as caught:
                await fetch(server.url("/"), folder, max_bytes, allow_private=True, timeout_s=timeout_s)
            return caught.value.code

    code = asyncio.run(main())
    assert not list(folder.iterdir())
    return code


def test_too_large(tmp_path: Path) -> None:
    assert fetched(reply(BODY), tmp_path, len(BODY) - 1) == "url_too_many_bytes"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + 6 * (b"100000\r\n" + bytes(1 << 20) + b"\r\n")
    assert fetched(chunked, tmp_path) == "url_too_many_bytes", "that does not say how much comes"


def test_too_slow(tmp_path: Path) -> None:
    drip: list[bytes | float] = [reply(b"", length=1000), *([b"x", 0.05] * 100)]
    assert fetched(drip, tmp_path, timeout_s=0.5) == "url_timeout", "although each byte comes soon"
    assert fetched([0.8, reply(BODY)], tmp_path, timeout_s=0.3) == "url_timeout"


def test_other_answers(tmp_path: Path) -> None:
    assert fetched(reply(b"no", "404 Not Found"), tmp_path) == "url_failed"
    assert fetched(reply(b"no", "500 Oh"), tmp_path) == "url_failed"
    assert fetched(reply(BODY, Content_Encoding="gzip"), tmp_path) == "url_failed"
    assert fetched(reply(BODY, length=len(BODY) * 2), tmp_path, 3 * len(BODY)) == "url_failed", "cut off"
    assert fetched(b"hello\r\n\r\n", tmp_path) == "url_failed"
    assert fetched(b"", tmp_path) == "url_failed"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///etc/passwd", "url_invalid"),
        ("gopher://a.example/", "url_invalid"),
        ("http:///nowhere", "url_invalid"),
        ("nothing", "url_invalid"),
        ("", "url_invalid"),
        ("http://[::1", "url_invalid"),
        ("http://a.example:99999/", "url_invalid"),
        ("http://a.example:0/", "url_invalid"),
        ("http://user:secret@a.example/", "url_invalid"),
        ("http://a.example/\x00", "url_invalid"),
        ("http://" + "a" * 70_000, "url_invalid"),
    ],
)
def test_not_a_url(url: str, code: str, tmp_path: Path) -> None:
    error = refused(code, url, tmp_path, transport=PublicTransport(resolve=names([PUBLIC])[0], inner=Elsewhere()))
    assert "secret" not in str(error) and len(str(error)) < 500


def test_a_host_without_address(tmp_path: Path) -> None:
    refused("url_private", "http://a.example/", tmp_path, transport=PublicTransport(resolve=names([])[0]))
    refused("url_private", "http://no-such-host.invalid/", tmp_path)


def test_the_next_address_is_tried(tmp_path: Path) -> None:
    elsewhere = Elsewhere(unreachable=(OTHER_PUBLIC,))

    async def main() -> Path:
        async with serving({"/": reply(BODY)}) as server:
            transport = PublicTransport(resolve=names([OTHER_PUBLIC, PUBLIC])[0], inner=elsewhere)
            return await fetch(server.url("/", "a.example"), tmp_path, len(BODY), transport=transport)

    asyncio.run(main()).unlink()
    assert elsewhere.addresses == [OTHER_PUBLIC, PUBLIC]
    transport = PublicTransport(resolve=names([OTHER_PUBLIC])[0], inner=elsewhere)
    refused("url_failed", "http://a.example/", tmp_path, transport=transport)


def test_the_certificate_is_that_of_the_name(tmp_path: Path) -> None:
    """Although an address is connected to."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=media.example"
    subprocess.run(
        [*make.split(), "-addext", "subjectAltName=DNS:media.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)
    asked_for: list[str | None] = []
    server_side.sni_callback = lambda connection, name, context: asked_for.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    folder = tmp_path / "files"
    folder.mkdir()

    async def main(host: str) -> Path:
        async with serving({"/": reply(BODY)}, server_side) as server:
            transport = PublicTransport(allow_private=True, resolve=names(["127.0.0.1"])[0], verify=trusting)
            return await fetch(f"https://{host}:{server.port}/", folder, len(BODY), transport=transport)

    path = asyncio.run(main("media.example"))
    assert path.read_bytes() == BODY and asked_for == ["media.example"]
    path.unlink()
    with pytest.raises(InputError) as caught:
        asyncio.run(main("other.example"))
    assert caught.value.code == "url_failed" and not list(folder.iterdir())


def test_a_full_disk_is_no_fault_of_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("emotivetalk.actors.serving.intake.fetch.asyncio.to_thread", full)

    async def main() -> None:
        async with serving({"/": reply(BODY)}) as server:
            await fetch(server.url("/"), tmp_path, len(BODY), allow_private=True)

    with pytest.raises(OutputError, match="No space left"):
        asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_when_nobody_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving({"/": [reply(b"", length=1000), b"x", 5.0]}) as server:
            task = asyncio.create_task(fetch(server.url("/"), tmp_path, 10_000, allow_private=True))
            while not server.seen:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_what_messages_say_of_a_url() -> None:
    assert say_url("https://user:pass@a.example:8443/b/c.png?signature=1#d") == "https://a.example:8443/b/c.png"
    assert say_url("http://[2001:db8::1]:80/x") == "http://[2001:db8::1]/x"
    assert say_url("http://[::1?key=secret") == "http://[::1"
    assert len(say_url("http://a.example/" + "b" * 1000)) == 200
