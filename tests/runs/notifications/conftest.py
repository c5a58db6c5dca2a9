"""People who are told of runs, and something real at the other end: an HTTPS server, a mail server."""

from __future__ import annotations

import datetime
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runs import lifecycle
from runs.lifecycle import changes
from runs.models import Channel, Run, Worker
from runs.notifications import channels
from webapp.accounts.models import User

FAILURE = {
    "code": "crashed",
    "message": "The trainer crashed.",
    "hint": "Try again.",
    "log_tail": ["secret line"],
}
EVERYTHING = {"happenings": Channel.Happening.values, "scope": "mine", "stall_minutes": None, "enabled": True}


@pytest.fixture(autouse=True)
def nobody_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "wake", lambda queue: None)


@dataclass
class Post:
    """What a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server of the user's: answers with the next of `answers`, the last one over and over."""

    port: int = 0
    got: list[Post] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=lambda: [(200, {}, b"ok")])
    hold: threading.Event = field(default_factory=threading.Event)  # once it is cleared, answers wait

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/hook?from=tuneboard"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for `localhost` that signs itself: (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert, private


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Receiver]:
    """An HTTPS server on this host, whose network the deployment has opened."""
    settings.ALLOWED_PRIVATE_NETWORKS = networks("127.0.0.0/8", "::1/128")
    running = Receiver()
    running.hold.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            running.got.append(Post(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            running.hold.wait(30)
            answer = running.answers.pop(0) if len(running.answers) > 1 else running.answers[0]
            status, headers, text = answer
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    cert, key = certificate(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    running.port = server.server_address[1]
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))  # as an operator adds a certificate of their own
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield running
    running.hold.set()
    server.shutdown()
    server.server_close()


def networks(*texts: str) -> list[Any]:
    import ipaddress

    return [ipaddress.ip_network(text) for text in texts]


@pytest.fixture
def hook(lab: Any, receiver: Receiver) -> tuple[Channel, str]:
    """The member's webhook at the receiver, and its secret."""
    return channels.add_webhook(lab.member, lab.workspace, name="Mine", url=receiver.url, **EVERYTHING)


Ended = Callable[..., Run]


@pytest.fixture
def end_a_run(lab: Any, worker: Worker) -> Ended:
    """Brings a run of the member's to its end: `succeeded`, or with the failure that is given."""

    def end(failure: dict[str, Any] | None = None, by: User | None = None, **values: Any) -> Run:
        run = lab.run(created_by=by or lab.member, **values)
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None and attempt.run_id == run.pk
        if failure is None:
            lifecycle.succeed(attempt, {"accuracy": 0.875})
        else:
            lifecycle.fail(attempt, failure)
        run.refresh_from_db()
        return run

    return end
