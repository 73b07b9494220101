"""Download files by URL, from public addresses only: a client must not reach what only this machine can reach."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import httpx

from emotivetalk.errors import InputError
from emotivetalk.files import writing
from emotivetalk.limits import say_duration

MAX_REDIRECTS = 3
MAX_ADDRESSES = 4  # addresses of a host to try
CONNECT_S = 10.0
CHUNK_BYTES = 1 << 20
UPLOAD_INSTEAD = "Check it, or upload the file."

# Addresses that some versions of `ipaddress` call public: the IETF's, with Oracle's metadata service; Azure's host agent.
NOT_PUBLIC = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("168.63.129.16/32"))
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")

# At INFO httpx logs whole URLs, whose query may hold a signature: a reader of the log could fetch the file.
logging.getLogger("httpx").setLevel(logging.WARNING)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> addresses; raises OSError."""


def check_address(address: str, url: str) -> None:
    """Raise InputError unless an IP address is public: not private, loopback, link-local, shared, multicast, reserved.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, NAT64) is checked by that one. The metadata services
    of clouds have link-local, private or shared addresses.

    Args:
        url: the URL that leads to the address, for the message, which does not show the address.
    """
    if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
        raise _not_public(url)


def numeric_address(host: str) -> str | None:
    """Return the IP address that a host is written as, also in decimal, octal, hexadecimal or shortened form; else None.

    The system's resolver accepts all these forms: "2130706433" and "0x7f.1" are 127.0.0.1.
    """
    with suppress(ValueError):
        return str(ipaddress.ip_address(host))
    with suppress(OSError, UnicodeError):
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


def say_url(url: str) -> str:
    """Format a URL for messages, without credentials, query (it may hold a signature) and fragment."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return url.partition("?")[0][:200]
    port = "" if parsed.port is None else f":{parsed.port}"
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{parsed.scheme}://{host}{port}{parsed.path}"[:200]


async def resolve_host(host: str, port: int) -> list[str]:
    """Resolve a host to all its addresses with the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class PublicTransport(httpx.AsyncBaseTransport):
    """A transport for httpx.AsyncClient that connects to public addresses only.

    Each request, redirects included, is resolved once. If every address of its host is public, the transport connects to
    one of exactly these addresses, so a name that resolves differently a moment later is no risk. The certificate is
    checked for the name, and the Host header contains the name.

    Args:
        allow_private: connect to any address.
        resolve: resolver of names.
        verify: TLS context; None is httpx's default.
        inner: transport that connects to the addresses; None is httpx's own. It must not keep connections, since it would
            share them between names at one address.

    Raises:
        InputError: not http(s), credentials in the URL, a host without address or with one that is not public.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        resolve: Resolve = resolve_host,
        verify: ssl.SSLContext | None = None,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._inner = inner or httpx.AsyncHTTPTransport(
            verify=verify or True, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first checked address that answers."""
        addresses = await self._addresses(request.url)
        for tried, address in enumerate(addresses, 1):
            try:
                return await self._inner.handle_async_request(
                    httpx.Request(
                        request.method,
                        request.url.copy_with(host=address),
                        headers=request.headers,  # they include Host
                        stream=request.stream,
                        extensions={**request.extensions, "sni_hostname": request.url.host},
                    )
                )
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if tried == len(addresses):
                    raise
        raise AssertionError("a host without addresses was refused")

    async def _addresses(self, url: httpx.URL) -> list[str]:
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError("url_invalid", f"URL {_named(str(url))} is not of http or https", UPLOAD_INSTEAD)
        if url.userinfo:
            raise InputError("url_invalid", f"URL {_named(str(url))} has credentials in it", UPLOAD_INSTEAD)
        port = (443 if url.scheme == "https" else 80) if url.port is None else url.port
        if not 0 < port < 1 << 16:
            raise InputError("url_invalid", f"URL {_named(str(url))} has a port that is none", UPLOAD_INSTEAD)
        try:
            addresses = await self._resolve(url.host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise _not_public(str(url))  # as for private addresses: the answer must not tell which internal names exist
        if not self._allow_private:
            for address in addresses:
                check_address(address, str(url))
        return addresses[:MAX_ADDRESSES]

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


async def fetch(
    url: str,
    folder: Path,
    max_bytes: int,
    *,
    allow_private: bool = False,
    timeout_s: float = 60.0,
    transport: PublicTransport | None = None,
) -> Path:
    """Download a file. An incomplete file is removed.

    Args:
        folder: where to create the file, with a new name and the URL's suffix.
        max_bytes: maximum size.
        allow_private: allow private addresses.
        timeout_s: time limit of the download, redirects included.
        transport: replaces a PublicTransport with this `allow_private`.

    Raises:
        InputError: the URL is invalid, leads to a private address (directly or by a redirect) or does not answer with a
            file, or the file is too large or too slow.
        OutputError: the disk is full.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise InputError("url_invalid", f"URL {_named(url)} is not a URL", UPLOAD_INSTEAD) from error
    client = httpx.AsyncClient(
        transport=transport or PublicTransport(allow_private=allow_private),
        trust_env=False,  # a proxy would resolve names instead of us
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        headers={"User-Agent": "EmotiveTalk", "Accept": "*/*", "Accept-Encoding": "identity"},
    )
    suffix = re.search(r"\.[A-Za-z0-9]{1,8}$", parsed.path)
    handle, name = tempfile.mkstemp(prefix="fetched-", suffix=suffix[0] if suffix else "", dir=folder)
    os.close(handle)
    path = Path(name)
    try:
        async with asyncio.timeout(timeout_s), client:
            await _download(client, parsed, path, max_bytes)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            raise InputError(
                "url_timeout", f"URL {_named(url)} took longer than {say_duration(timeout_s)}", UPLOAD_INSTEAD
            ) from error
        if isinstance(error, httpx.TooManyRedirects):
            raise InputError(
                "url_too_many_redirects",
                f"URL {_named(url)} is redirected more than {MAX_REDIRECTS} times",
                "Give the address of the file itself.",
            ) from error
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            raise InputError(
                "url_failed", f"URL {_named(url)} could not be read ({type(error).__name__})", UPLOAD_INSTEAD
            ) from error
        raise
    return path


async def _download(client: httpx.AsyncClient, url: httpx.URL, path: Path, max_bytes: int) -> None:
    name = _named(str(url))
    too_large = InputError(
        "url_too_many_bytes", f"URL {name} has more than {max_bytes / 1e6:.0f} MB, the limit", "Compress or shorten it."
    )
    async with client.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise InputError("url_failed", f"URL {name} answers with status {response.status_code}", UPLOAD_INSTEAD)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise InputError("url_failed", f"URL {name} sends its file compressed, unasked", UPLOAD_INSTEAD)
        if int(response.headers.get("content-length", "0")) > max_bytes:
            raise too_large
        num_bytes = 0
        with writing(path), path.open("wb") as file:
            # Raw: decompressed data could have any size.
            async for chunk in response.aiter_raw(CHUNK_BYTES):
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    raise too_large
                await asyncio.to_thread(file.write, chunk)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address in NAT64 or address in IPV4_COMPATIBLE:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if carried is not None:
            return _is_public(carried)
        if address.is_site_local:
            return False
    outside = not (address.is_multicast or address.is_reserved or any(address in network for network in NOT_PUBLIC))
    return address.is_global and outside


def _not_public(url: str) -> InputError:
    return InputError(
        "url_private",
        f"URL {_named(url)} does not lead to a public address",
        "Give one that anybody can open, or upload the file.",
    )


def _named(url: str) -> str:
    return repr(say_url(url))
