"""Sending to addresses that people typed in, without letting them reach what is inside.

A host is resolved once, every answer is checked, and the connection is made to an address that was checked:
a second DNS answer (rebinding) is never asked for. Redirects are not followed, schemes and ports are limited, and time
and size are bounded as a whole, not a read at a time. TUNEBOARD_ALLOW_PRIVATE_ADDRESSES opens networks on purpose.
The checks hold for the socket itself, so whatever sends through `post` cannot forget them.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore2
from django.conf import settings

Address = IPv4Address | IPv6Address
DEFAULT_PORTS = {"https": 443, "http": 80}
LOWEST_FREE_PORT = 1024  # below it only the two above: mail, SSH, DNS and the like have no business here
# What browsers refuse (the Fetch standard's list) and where databases listen.
REFUSED_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6697, 10080}
    | set(range(6665, 6670))
    | {1433, 1521, 2375, 2376, 2379, 3306, 5432, 6379, 6380, 9042, 9200, 9300, 11211, 27017}
)
# Cloud metadata services: they hand out credentials. Those that lie in no private range, or might be opened with one.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
CONNECT_SECONDS = 5.0
LONGEST_URL = 2000
LARGEST_ANSWER = 64 * 1024  # bytes that are read of an answer's body; the rest is left where it is


class Refused(Exception):
    """This address may not be used; the message says why and what would do."""


class Unreachable(Exception):
    """Nobody answered there as HTTP asks for, or not in time."""


@dataclass(frozen=True)
class Answer:
    """What came back. `body` is the first LARGEST_ANSWER bytes."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, Teredo, NAT64), else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in NAT64 or int(address) >> 32 == 0:  # the last: IPv4-compatible, as ::127.0.0.1
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_opened(address: Address) -> bool:
    """Whether this deployment allows it by name, though it is private."""
    networks: list[Any] = settings.ALLOWED_PRIVATE_NETWORKS
    return any(address in network for network in networks if network.version == address.version)


def check_address(text: str, scheme: str = "https") -> None:
    """Raises Refused unless this IP address is public, or opened by the deployment; http needs the latter."""
    address = _meant(ipaddress.ip_address(text))
    if address in METADATA:
        raise Refused(f"{text} is a cloud's metadata service.")
    if _is_opened(address):
        return
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    if not address.is_global or address.is_multicast or address.is_reserved or site_local:
        raise Refused(
            f"{text} is a private address. Whoever operates this server can open its network with "
            "TUNEBOARD_ALLOW_PRIVATE_ADDRESSES."
        )
    if scheme != "https":
        raise Refused("Use https: what goes over http to a public address can be read on its way.")


def resolve(host: str, port: int, scheme: str = "https") -> list[str]:
    """The host's addresses, every one of them checked; raises Refused or Unreachable.

    One private answer among public ones refuses the host: which of them is used must not be a matter of luck.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable(f"{host} cannot be found: no such name, or its name server is away.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for address in addresses:
        check_address(address, scheme)
    return addresses


def _parts(url: str) -> tuple[SplitResult, str, int]:
    """The URL's parts, host and port; raises Refused for what no address of ours may look like."""
    if len(url) > LONGEST_URL:
        raise Refused(f"The address is longer than {LONGEST_URL} characters.")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url) or "\\" in url:
        raise Refused("The address has a blank or a character in it that no address has.")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except (ValueError, UnicodeError):
        raise Refused("This is no address; it looks like https://host/path.") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise Refused("The address has to begin with https://.")
    if not host or "%" in host:
        raise Refused("The address names no host; it looks like https://host/path.")
    if parts.username is not None or parts.password is not None:
        raise Refused("Leave user name and password out of the address.")
    if parts.fragment:
        raise Refused("Leave out what follows the #: it is never sent.")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    if (port < LOWEST_FREE_PORT and port not in DEFAULT_PORTS.values()) or port in REFUSED_PORTS:
        raise Refused(f"Port {port} is not one that web servers use.")
    return parts, host, port


def check_url(url: str) -> None:
    """For forms: raises Refused or Unreachable now, not at the first delivery. `post` checks again."""
    parts, host, port = _parts(url)
    resolve(host, port, parts.scheme)


def post(
    url: str, body: bytes, headers: dict[str, str], *, seconds: float, trusted: ssl.SSLContext | None = None
) -> Answer:
    """POST `body` within `seconds` as a whole; raises Refused or Unreachable. A redirect is an answer like others."""
    parts, host, port = _parts(url)
    deadline = _Deadline(seconds)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    address = httpcore2.URL(
        scheme=parts.scheme.encode(), host=host.encode(), port=port, target=target.encode("ascii", "replace")
    )
    named = f"[{host}]" if ":" in host else host
    shown = named if port == DEFAULT_PORTS[parts.scheme] else f"{named}:{port}"
    sent = {"Host": shown, "Content-Length": str(len(body)), "Connection": "close", **headers}
    pool = httpcore2.ConnectionPool(
        ssl_context=trusted, network_backend=_CheckedBackend(parts.scheme, deadline)
    )
    try:
        with pool, pool.stream("POST", address, headers=list(sent.items()), content=body) as answer:
            start = b""
            for chunk in answer.iter_stream():
                start += chunk
                if len(start) >= LARGEST_ANSWER:
                    break
            found = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers
            }
            return Answer(answer.status, found, start[:LARGEST_ANSWER])
    except httpcore2.TimeoutException:
        raise Unreachable(f"{host} did not answer within {seconds:g} seconds.") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise Unreachable(f"{host} cannot be talked to: {_short(error)}") from error


class _Deadline:
    """Time for a whole exchange: a server that sends a byte now and then gets no more of it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, most: float | None = None) -> float:
        """Seconds; raises httpcore2.ReadTimeout once there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the time is up")
        return left if most is None else min(left, most)


class _CheckedBackend(httpcore2.SyncBackend):
    """Resolves, checks and connects in one go; TLS still asks for the host's own name."""

    def __init__(self, scheme: str, deadline: _Deadline) -> None:
        self._scheme, self._deadline = scheme, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        failed: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in resolve(host, port, self._scheme):
            try:
                limit = self._deadline.left(CONNECT_SECONDS)
                stream = super().connect_tcp(address, port, limit, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
            else:
                return _BoundedStream(stream, self._deadline)
        raise failed

    def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore2.NetworkStream:
        raise Refused("Sockets of this host are not for sending.")


class _BoundedStream(httpcore2.NetworkStream):
    """A stream on which every step ends by the deadline of the whole."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _BoundedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
