"""How fast a file is uploaded over loopback, beside `cp`, and how much memory the web server needs for it.

    python benchmarks/upload.py [MB]

Budgets: at least 70 % of the rate of `cp`, and of that at which the file is copied over loopback; memory grows by at
most 64 MB. All end on the disk: the server syncs before it answers, and so do the copies. Where bytes come that fast
the server counts their SHA-256 after its answer: when it was known, and the processor time, include that.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RATE_BUDGET = 0.70
MEMORY_BUDGET = 64e6
TOKEN = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
django.setup()
from webapp.accounts.models import ApiToken
from webapp.accounts.people import create_user
person = create_user("bench")
print(ApiToken.issue(person, person.memberships.get().workspace, "bench")[1])
"""


def synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def by_cp(source: Path, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", source, target], check=True)
    synced(target)
    return time.perf_counter() - started


def over_loopback(source: Path, target: Path) -> float:
    """The barest copy through a socket: the kernel sends, and one thread receives and writes."""
    door = socket.create_server(("127.0.0.1", 0))

    def receive() -> None:
        incoming, _ = door.accept()
        buffer = bytearray(1 << 20)
        with incoming, target.open("wb", buffering=0) as file:
            while size := incoming.recv_into(buffer):
                file.write(memoryview(buffer)[:size])
            os.fsync(file.fileno())

    thread = threading.Thread(target=receive)
    started = time.perf_counter()
    thread.start()
    with socket.create_connection(door.getsockname()) as outgoing, source.open("rb") as file:
        outgoing.sendfile(file)
    thread.join()
    door.close()
    return time.perf_counter() - started


class Server:
    """The web server on throw-away data."""

    def __init__(self, home: Path) -> None:
        from webapp.embedded import Postgres

        self.postgres = Postgres(home / "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.environment = {
            **os.environ,
            "TUNEBOARD_HOME": str(home),
            "TUNEBOARD_PORT": str(self.port),
            "TUNEBOARD_LOG_LEVEL": "WARNING",
            "DATABASE_URL": self.postgres.start(),
        }
        self._manage("prepare")
        self.token = self._run(["-c", TOKEN]).strip().splitlines()[-1]
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"], cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL
        )
        while True:
            try:
                self.ask("OPTIONS", "/api/v1/uploads")
                return
            except OSError:
                time.sleep(0.1)

    def _run(self, arguments: list[str]) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def _manage(self, *arguments: str) -> str:
        return self._run(["manage.py", *arguments])

    def ask(self, method: str, path: str, body: object = None, **said: str) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Tus-Resumable": "1.0.0"}
        headers |= {name.replace("_", "-"): value for name, value in said.items()}
        talk = http.client.HTTPConnection("127.0.0.1", self.port)
        if isinstance(body, Path):  # as the kernel sends it: this process is not what is measured
            talk.putrequest(method, path)
            for name, value in headers.items():
                talk.putheader(name, value)
            talk.endheaders()
            with body.open("rb") as file:
                talk.sock.sendfile(file)
        else:
            talk.request(method, path, body, headers)  # type: ignore[arg-type]
        answer = talk.getresponse()
        answer.read()
        talk.close()
        return answer

    def upload(self, source: Path) -> tuple[float, str]:
        """(seconds, address)."""
        started = time.perf_counter()
        size = str(source.stat().st_size)
        address = str(self.ask("POST", "/api/v1/uploads", b"", Upload_Length=size).headers["Location"])
        kind = "application/offset+octet-stream"
        said = {"Upload_Offset": "0", "Content_Type": kind, "Content_Length": size}
        answer = self.ask("PATCH", address, source, **said)
        assert answer.status == 204, answer.status
        return time.perf_counter() - started, address

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def memory(self) -> int:
        """Bytes that its processes hold."""
        return sum(each.memory_info().rss for each in self._processes())

    def processor_seconds(self) -> float:
        """That its processes have used up to now: what an upload costs, however busy the machine is."""
        used = [each.cpu_times() for each in self._processes()]
        return float(sum(each.user + each.system for each in used))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.postgres.stop()


def write(path: Path, megabytes: int) -> str:
    """Random bytes; returns their SHA-256."""
    hashed = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(megabytes):
            piece = os.urandom(1_000_000)
            hashed.update(piece)
            file.write(piece)
    return hashed.hexdigest()


def main() -> None:
    megabytes = int(sys.argv[1]) if sys.argv[1:] else 1000
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        server = Server(home)
        try:
            write(home / "small", 1)
            server.upload(home / "small")
            source = home / "source"
            digest = write(source, megabytes)
            synced(source)
            before, highest, over = server.memory(), 0, threading.Event()

            def watch() -> None:
                nonlocal highest
                while not over.wait(0.05):
                    highest = max(highest, server.memory())

            watcher = threading.Thread(target=watch)
            watcher.start()
            best: dict[str, float] = {}
            spent = 1e9
            for _ in range(6):
                for way, copy in (("cp", by_cp), ("copy over loopback", over_loopback)):
                    best[way] = min(best.get(way, 1e9), copy(source, home / "copy"))
                    (home / "copy").unlink()
                used = server.processor_seconds()
                started = time.perf_counter()
                seconds, address = server.upload(source)
                while not server.ask("HEAD", address).headers["Repr-Digest"]:
                    time.sleep(0.05)
                known = time.perf_counter() - started
                spent = min(spent, server.processor_seconds() - used)
                best["upload"] = min(best.get("upload", 1e9), seconds)
                best["digest known"] = min(best.get("digest known", 1e9), known)
                kept = home / "storage" / "uploads" / address.rsplit("/", 1)[1] / "data"
                with kept.open("rb") as file:
                    assert hashlib.file_digest(file, "sha256").hexdigest() == digest
                server.ask("DELETE", address)
            over.set()
            watcher.join()
        finally:
            server.stop()
    print(f"{'':<20} {'seconds':>8} {'MB/s':>8} {'upload is':>10}")
    for way, seconds in best.items():
        print(f"{way:<20} {seconds:>8.2f} {megabytes / seconds:>8.0f} {seconds / best['upload']:>10.2f}")
    print(f"processor time of the server: {spent:.2f} s")
    growth = highest - before
    for way in ("cp", "copy over loopback"):
        rate = best[way] / best["upload"]
        print(f"rate: {rate:.2f} of {way} (budget: at least {RATE_BUDGET})")
    print(f"memory: +{growth / 1e6:.0f} MB (budget: at most {MEMORY_BUDGET / 1e6:.0f})")


if __name__ == "__main__":
    main()
