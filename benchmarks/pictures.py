"""How long inspecting and converting a zip of pictures takes, and how much memory it needs.

    python benchmarks/pictures.py [PICTURES …]

Budget: 10,000 photographs of 200 KB in at most 60 s, memory flat: the peak does not grow with their number. Beside it
stands what nothing here can spare: unpacking the zip with the standard library, and decoding each picture
once, as the conversion does, by one core. The processor's time says what it costs however busy the machine is.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BUDGET_SECONDS = 60.0
BYTES = 200_000
SIDE = (1024, 768)
DIFFERENT = 64
CLASSES = ("cat", "dog", "bird", "fish")


def photograph(seed: int) -> bytes:
    """A JPEG of about 200 KB: smooth colours with as much noise as it takes."""
    chance = np.random.default_rng(seed)
    small = chance.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize(SIDE, Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + chance.normal(0, 14, smooth.shape)
    target = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(target, "JPEG", quality=80)
    return target.getvalue()


def commented(data: bytes, number: int) -> bytes:
    """The same picture in other bytes: a comment (COM, ITU T.81 B.2.4.5) stands after the first marker."""
    text = f"picture {number}".encode()
    return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:]


def write_zip(path: Path, pictures: int) -> None:
    """A folder a class; stored, as JPEGs do not pack."""
    different = [photograph(seed) for seed in range(DIFFERENT)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(pictures):
            name = f"{CLASSES[number % len(CLASSES)]}/{number}.jpg"
            archive.writestr(name, commented(different[number % DIFFERENT], number))


def used() -> float:
    """Seconds of the processor, of this process and of those that it has waited for."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in each)


def one(path: Path) -> None:
    """Convert it in this process."""
    from webapp.datasets.conversion import Order, convert_files

    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        output, scratch = Path(name) / "output", Path(name) / "scratch"
        output.mkdir()
        scratch.mkdir()
        stages: dict[str, float] = {}
        last = ["starting", time.perf_counter()]

        def report(stage: str, done: int, total: int) -> None:
            now = time.perf_counter()
            stages[str(last[0])] = stages.get(str(last[0]), 0.0) + now - float(last[1])
            last[:] = [stage, now]

        started, before = time.perf_counter(), used()
        made = convert_files(Order([(str(path), "photos.zip")]), output, scratch, report)
        report("", 0, 0)
        seconds, spent = time.perf_counter() - started, used() - before
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    told = {
        "rows": made.rows,
        "seconds": seconds,
        "spent": spent,
        "peak": peak * 1024 / 1e6,
        "stages": stages,
    }
    print(json.dumps(told))


def by_hand(path: Path) -> tuple[float, float]:
    """(seconds to unpack, seconds to decode what was unpacked), of one core."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        started = time.process_time()
        with zipfile.ZipFile(path) as archive:
            archive.extractall(name)
        unpacked = time.process_time() - started
        started = time.process_time()
        for picture in Path(name).rglob("*.jpg"):
            with Image.open(picture) as opened:
                opened.draft("RGB", (SIDE[0] // 8, SIDE[1] // 8))
                opened.load()
        return unpacked, time.process_time() - started


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]))
        return
    head = f"{'pictures':>9} {'zip':>8} {'seconds':>8} {'a second':>9} {'processor':>10} {'unpack':>7} {'decode':>7}"
    print(f"{head} {'peak':>8} {'of budget':>10}")
    for pictures in [int(each) for each in sys.argv[1:]] or [1000, 10_000]:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "photos.zip"
            write_zip(path, pictures)
            size = path.stat().st_size
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(path)], check=True, capture_output=True, text=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            assert found["rows"] == pictures
            unpack, decode = by_hand(path)
        share = found["seconds"] / (BUDGET_SECONDS * pictures / 10_000)
        print(
            f"{pictures:>9,} {size / 1e6:>5.0f} MB {found['seconds']:>8.1f} {pictures / found['seconds']:>9.0f} "
            f"{found['spent']:>8.1f} s {unpack:>5.1f} s {decode:>5.1f} s {found['peak']:>5.0f} MB {share:>10.2f}"
        )
        stages = sorted(found["stages"].items(), key=lambda item: -item[1])
        print(
            "          "
            + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages if seconds >= 0.05)
        )
    print(
        f"processor: what the conversion used; on {os.cpu_count()} cores. Budget: 60 s for 10,000 pictures."
    )


if __name__ == "__main__":
    main()
