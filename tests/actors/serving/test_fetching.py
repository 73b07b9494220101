"""Fetching of URLs: a public file arrives unchanged; no private address is ever connected to."""

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
    """A small web server on loopback. `answers` maps paths to replies; `requests` records paths and headers."""

    port: int
    answers: dict[str, bytes | list[bytes | float]]
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = lines[0].split()[1]
            self.requests.append((path, dict(line.lower().split(": ", 1) for line in lines[1:] if line)))
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


class RecordingTransport(httpx.AsyncBaseTransport):
    """Records the addresses that are connected to, and connects to the test's server instead."""

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


def resolver(*answers: list[str]) -> tuple[Callable[[str, int], Awaitable[list[str]]], list[str]]:
    """Return a resolver that gives these answers in turn, and the list of hosts that it was asked for."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


def expect_refusal(code: str, url: str, folder: Path, **settings: object) -> InputError:
    """Assert that the URL is refused with this code and leaves no file."""
    with pytest.raises(InputError) as caught:
        asyncio.run(fetch(url, folder, 10_000_000, **settings))  # pyright: ignore[reportArgumentType]
    assert caught.value.code == code
    assert caught.value.remedy.endswith(".") and not list(folder.iterdir())
    return caught.value


def test_a_file_arrives_unchanged(tmp_path: Path) -> None:
    async def main() -> tuple[Path, Server]:
        async with serving({"/a/speech.mp3?key=1": reply(BODY)}) as server:
            return await fetch(server.url("/a/speech.mp3?key=1"), tmp_path, len(BODY), allow_private=True), server

    path, server = asyncio.run(main())
    assert path.read_bytes() == BODY and path.parent == tmp_path and path.suffix == ".mp3"
    (_, headers), = server.requests  # fmt: skip
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
def test_a_private_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check_address(address, "http://a.example/b?c")
    assert caught.value.code == "url_private" and "'http://a.example/b'" in str(caught.value)
    assert address not in str(caught.value), "the error does not reveal what a name resolves to"
    inner = RecordingTransport()
    transport = PublicTransport(resolve=resolver([PUBLIC, address])[0], inner=inner)
    expect_refusal("url_private", "http://mixed.example/", tmp_path, transport=transport)
    assert not inner.addresses


@pytest.mark.parametrize("address", PUBLICS)
def test_a_public_address_is_allowed(address: str) -> None:
    check_address(address, "http://a.example/")


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 localhost 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.1 127.0.0.1. 0 [::1] [::] "
    "[::ffff:127.0.0.1] [::ffff:7f00:1] [fe80::1] 127\u30020\u30020\u30021 \uff11\uff12\uff17.0.0.1 \u246b7.0.0.1 169.254.169.254 2852039166".split(),
)
def test_every_spelling_of_a_loopback_address_is_refused(host: str, tmp_path: Path) -> None:
    """With the system's resolver, and a server that would answer."""

    async def main() -> tuple[str, Server]:
        async with serving({"/secret": reply(BODY)}) as server:
            with pytest.raises(InputError) as caught:
                await fetch(server.url("/secret", host), tmp_path, 10_000_000, timeout_s=10)
            return caught.value.code, server

    code, server = asyncio.run(main())
    assert code in ("url_private", "url_invalid") and not server.requests
    assert not list(tmp_path.iterdir())


def test_the_system_resolves_numeric_spellings_of_loopback(tmp_path: Path) -> None:
    """So the test above can fail: these spellings do lead to loopback."""
    assert asyncio.run(resolve_host("0x7f.1", 80)) == asyncio.run(resolve_host("2130706433", 80)) == ["127.0.0.1"]


def test_a_name_that_changes_its_address_is_resolved_once(tmp_path: Path) -> None:
    """The address that was checked is the one that is connected to."""
    resolve, asked = resolver([PUBLIC], ["127.0.0.1"])
    inner = RecordingTransport()

    async def main() -> Path:
        async with serving({"/": reply(BODY)}) as server:
            url = server.url("/", "rebinding.example")
            return await fetch(url, tmp_path, len(BODY), transport=PublicTransport(resolve=resolve, inner=inner))

    assert asyncio.run(main()).read_bytes() == BODY
    assert inner.addresses == [PUBLIC] and asked == ["rebinding.example"]


def fetch_redirected(location: str, answers: list[list[str]], tmp_path: Path, hops: int = 1) -> tuple[list[str], list]:
    """Fetch from a public host that redirects to `location`. Returns the addresses connected to, and the requests, followed by the error's code if any."""
    inner = RecordingTransport()

    async def main() -> Server:
        async with serving({"/file": reply(BODY)}) as server:
            for hop in range(hops):
                to = f"/hop{hop + 1}" if hop + 1 < hops else location.replace("PORT", str(server.port))
                server.answers[f"/hop{hop}"] = reply(b"", "302 Found", Location=to)
            transport = PublicTransport(resolve=resolver(*answers)[0], inner=inner)
            try:
                await fetch(server.url("/hop0", "public.example"), tmp_path, len(BODY), transport=transport)
            finally:
                requests.extend(server.requests)
            return server

    requests: list = []
    try:
        asyncio.run(main())
    except InputError as error:
        return inner.addresses, [*requests, error.code]
    return inner.addresses, requests


def test_redirects_are_followed_and_checked(tmp_path: Path) -> None:
    addresses, requests = fetch_redirected("http://other.example:PORT/file", [[PUBLIC], [OTHER_PUBLIC]], tmp_path)
    assert addresses == [PUBLIC, OTHER_PUBLIC]
    assert [headers["host"].partition(":")[0] for _, headers in requests] == ["public.example", "other.example"]
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
def test_a_redirect_to_a_forbidden_url_is_refused(
    location: str, answers: list[list[str]], code: str, tmp_path: Path
) -> None:
    addresses, requests = fetch_redirected(location, answers, tmp_path)
    assert addresses == [PUBLIC] and requests[1:] == [code]
    assert not list(tmp_path.iterdir())


def test_more_than_three_redirects_are_refused(tmp_path: Path) -> None:
    assert len(fetch_redirected("/file", [[PUBLIC]], tmp_path, hops=3)[1]) == 4
    addresses, requests = fetch_redirected("/file", [[PUBLIC]], tmp_path, hops=4)
    assert len(addresses) == 4 and requests[-1] == "url_too_many_redirects"


def error_code(
    answer: bytes | list[bytes | float], folder: Path, max_bytes: int = len(BODY), timeout_s: float = 10
) -> str:
    """Return the code of the error that this answer of the server causes."""

    async def main() -> str:
        async with serving({"/": answer}) as server:
            with pytest.raises(InputError) as caught:
                await fetch(server.url("/"), folder, max_bytes, allow_private=True, timeout_s=timeout_s)
            return caught.value.code

    code = asyncio.run(main())
    assert not list(folder.iterdir())
    return code


def test_a_file_over_the_size_limit_is_refused(tmp_path: Path) -> None:
    assert error_code(reply(BODY), tmp_path, len(BODY) - 1) == "url_too_many_bytes"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + 6 * (b"100000\r\n" + bytes(1 << 20) + b"\r\n")
    assert error_code(chunked, tmp_path) == "url_too_many_bytes", "without a content length"


def test_a_slow_server_times_out(tmp_path: Path) -> None:
    drip: list[bytes | float] = [reply(b"", length=1000), *([b"x", 0.05] * 100)]
    assert error_code(drip, tmp_path, timeout_s=0.5) == "url_timeout", "the limit is on the whole transfer"
    assert error_code([0.8, reply(BODY)], tmp_path, timeout_s=0.3) == "url_timeout"


def test_any_other_bad_answer_is_an_error(tmp_path: Path) -> None:
    assert error_code(reply(b"no", "404 Not Found"), tmp_path) == "url_failed"
    assert error_code(reply(b"no", "500 Oh"), tmp_path) == "url_failed"
    assert error_code(reply(BODY, Content_Encoding="gzip"), tmp_path) == "url_failed"
    assert error_code(reply(BODY, length=len(BODY) * 2), tmp_path, 3 * len(BODY)) == "url_failed", "cut off"
    assert error_code(b"hello\r\n\r\n", tmp_path) == "url_failed"
    assert error_code(b"", tmp_path) == "url_failed"


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
def test_an_invalid_url_is_refused(url: str, code: str, tmp_path: Path) -> None:
    error = expect_refusal(
        code, url, tmp_path, transport=PublicTransport(resolve=resolver([PUBLIC])[0], inner=RecordingTransport())
    )
    assert "secret" not in str(error) and len(str(error)) < 500


def test_a_host_without_an_address_is_refused(tmp_path: Path) -> None:
    expect_refusal("url_private", "http://a.example/", tmp_path, transport=PublicTransport(resolve=resolver([])[0]))
    expect_refusal("url_private", "http://no-such-host.invalid/", tmp_path)


def test_the_next_address_is_tried_when_one_is_unreachable(tmp_path: Path) -> None:
    inner = RecordingTransport(unreachable=(OTHER_PUBLIC,))

    async def main() -> Path:
        async with serving({"/": reply(BODY)}) as server:
            transport = PublicTransport(resolve=resolver([OTHER_PUBLIC, PUBLIC])[0], inner=inner)
            return await fetch(server.url("/", "a.example"), tmp_path, len(BODY), transport=transport)

    asyncio.run(main()).unlink()
    assert inner.addresses == [OTHER_PUBLIC, PUBLIC]
    transport = PublicTransport(resolve=resolver([OTHER_PUBLIC])[0], inner=inner)
    expect_refusal("url_failed", "http://a.example/", tmp_path, transport=transport)


def test_the_certificate_is_checked_against_the_host_name(tmp_path: Path) -> None:
    """Even though the connection is made to an address."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=media.example"
    subprocess.run(
        [*make.split(), "-addext", "subjectAltName=DNS:media.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)
    server_names: list[str | None] = []
    server_side.sni_callback = lambda connection, name, context: server_names.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    folder = tmp_path / "files"
    folder.mkdir()

    async def main(host: str) -> Path:
        async with serving({"/": reply(BODY)}, server_side) as server:
            transport = PublicTransport(allow_private=True, resolve=resolver(["127.0.0.1"])[0], verify=trusting)
            return await fetch(f"https://{host}:{server.port}/", folder, len(BODY), transport=transport)

    path = asyncio.run(main("media.example"))
    assert path.read_bytes() == BODY and server_names == ["media.example"]
    path.unlink()
    with pytest.raises(InputError) as caught:
        asyncio.run(main("other.example"))
    assert caught.value.code == "url_failed" and not list(folder.iterdir())


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("emotivetalk.actors.serving.intake.fetch.asyncio.to_thread", full)

    async def main() -> None:
        async with serving({"/": reply(BODY)}) as server:
            await fetch(server.url("/"), tmp_path, len(BODY), allow_private=True)

    with pytest.raises(OutputError, match="No space left"):
        asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_a_cancelled_fetch_leaves_no_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving({"/": [reply(b"", length=1000), b"x", 5.0]}) as server:
            task = asyncio.create_task(fetch(server.url("/"), tmp_path, 10_000, allow_private=True))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_messages_show_a_url_without_its_secrets() -> None:
    assert say_url("https://user:pass@a.example:8443/b/c.png?signature=1#d") == "https://a.example:8443/b/c.png"
    assert say_url("http://[2001:db8::1]:80/x") == "http://[2001:db8::1]/x"
    assert say_url("http://[::1?key=secret") == "http://[::1"
    assert len(say_url("http://a.example/" + "b" * 1000)) == 200
