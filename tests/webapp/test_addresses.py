"""What people type in as an address reaches nothing inside: neither by name, by number, nor by a second DNS answer."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from webapp import addresses
from webapp.addresses import Refused, Unreachable, check_url, post

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.1.1",
    "100.64.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:c0a8:101::", "2001:db8::1",
]  # fmt: skip
METADATA = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
]


def named(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", PRIVATE + METADATA)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(Refused):
        check_url(f"https://{named(address)}/hook")
    with pytest.raises(Refused):
        post(f"https://{named(address)}/hook", b"", {}, seconds=5)


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "localhost.", "LOCALHOST", "①②⑦.0.0.1"],
)
def test_other_ways_to_write_this_host_are_the_same_host(host: str) -> None:
    with pytest.raises((Refused, Unreachable)):
        check_url(f"https://{host}/hook")


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses_are_allowed_by_https_alone(address: str) -> None:
    check_url(f"https://{named(address)}/hook")
    with pytest.raises(Refused, match="https"):
        check_url(f"http://{named(address)}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8/", "//8.8.8.8/", "8.8.8.8", "", "https://",
        "https:///path", "https://user:pass@8.8.8.8/", "https://8.8.8.8:22/", "https://8.8.8.8:25/",
        "https://8.8.8.8:6379/", "https://8.8.8.8:99999/", "https://8.8.8.8/a b", "https://8.8.8.8/\r\nX: 1",
        "https://8.8.8.8\\@127.0.0.1/", "https://[fe80::1%25eth0]/", "https://8.8.8.8/#part", "https://8.8.8.8/" + "a" * 2000,
    ],
)  # fmt: skip
def test_what_no_webhook_looks_like_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(Refused) as refused:
        check_url(url)
    assert str(refused.value).endswith((".", ")"))


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers([["8.8.8.8", "10.0.0.1"]]))
    with pytest.raises(Refused, match=r"10\.0\.0\.1"):
        check_url("https://two.example/")


def answers(rounds: list[list[str]]) -> Callable[..., Any]:
    """A name server whose answers change from question to question."""
    left = list(rounds)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> Any:
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    return getaddrinfo


class Inside(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_POST(self) -> None:
        type(self).asked.append(f"{self.headers['Host']}{self.path}")
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x" * 300_000)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def inside() -> Iterator[int]:
    """A service of this host; its port."""
    Inside.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inside)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_second_dns_answer_leads_nowhere(inside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers([["8.8.8.8"], ["127.0.0.1"]]))
    check_url(f"https://rebinding.example:{inside}/")
    with pytest.raises(Refused, match=r"127\.0\.0\.1"):  # asked again when sending, and checked again
        post(f"https://rebinding.example:{inside}/", b"{}", {}, seconds=5)
    assert Inside.asked == []


def test_the_connection_goes_to_the_address_that_was_checked(
    inside: int, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.ALLOWED_PRIVATE_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    asked = []
    real = answers([["127.0.0.1"], ["10.0.0.1"]])

    def counted(*arguments: Any, **more: Any) -> Any:
        asked.append(arguments[0])
        return real(*arguments, **more)

    monkeypatch.setattr(addresses.socket, "getaddrinfo", counted)
    connected = []
    connect = socket.create_connection

    def seen(address: tuple[str, int], *arguments: Any, **more: Any) -> Any:
        connected.append(address[0])
        monkeypatch.undo()  # whatever asks from here on would be somebody else
        return connect(address, *arguments, **more)

    monkeypatch.setattr(socket, "create_connection", seen)
    answer = post(f"http://chat.example:{inside}/hooks/1?a=b", b"{}", {}, seconds=10)
    assert (asked, connected) == (["chat.example"], ["127.0.0.1"])
    assert answer.status == 200 and Inside.asked == [f"chat.example:{inside}/hooks/1?a=b"]


def test_an_opened_network_may_be_reached_by_http_and_the_rest_stays_closed(
    inside: int, settings: Any
) -> None:
    settings.ALLOWED_PRIVATE_NETWORKS = [ipaddress.ip_network("127.0.0.1/32")]
    assert post(f"http://127.0.0.1:{inside}/", b"{}", {}, seconds=10).status == 200
    for url in ("http://127.0.0.2/", "http://10.0.0.1/", "https://169.254.169.254/"):
        with pytest.raises(Refused):
            post(url, b"{}", {}, seconds=5)


def test_a_metadata_service_stays_closed_even_in_an_opened_network(settings: Any) -> None:
    settings.ALLOWED_PRIVATE_NETWORKS = [ipaddress.ip_network("169.254.0.0/16")]
    with pytest.raises(Refused, match="metadata"):
        check_url("http://169.254.169.254/latest/meta-data/")
    check_url("http://169.254.1.1/")


def test_of_a_long_answer_only_the_beginning_is_read(inside: int, settings: Any) -> None:
    settings.ALLOWED_PRIVATE_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    assert len(post(f"http://127.0.0.1:{inside}/", b"{}", {}, seconds=30).body) == addresses.LARGEST_ANSWER


@pytest.mark.parametrize("drip", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_answers_by_the_byte_gets_no_more_time_than_any(drip: bytes, settings: Any) -> None:
    settings.ALLOWED_PRIVATE_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as client:
                client.sendall(drip)
                while not stop.wait(0.1):
                    try:
                        client.sendall(b"a")
                    except OSError:
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(Unreachable, match="did not answer within 1 seconds"):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, seconds=1)
        stop.set()
        thread.join(10)


def test_nobody_there_says_so(settings: Any) -> None:
    settings.ALLOWED_PRIVATE_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1 cannot be talked to"):
        post(f"http://127.0.0.1:{port}/", b"{}", {}, seconds=5)
    with pytest.raises(Unreachable, match="cannot be found"):
        check_url("https://no-such-host.invalid/")
