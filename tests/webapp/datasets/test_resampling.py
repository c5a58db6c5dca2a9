"""Recordings of several rates are told, and a button gives them one."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.packing import recording, zipped
from tests.webapp.datasets.test_changes import changed, refused, rows_of
from tests.webapp.datasets.test_fixes import pressed
from webapp.datasets.changing import request_change
from webapp.datasets.edits import Wrong
from webapp.datasets.models import Dataset
from webapp.datasets.pictures import Unreadable
from webapp.datasets.recordings import at_rate

pytestmark = pytest.mark.django_db(transaction=True)


def tone(hertz: float, rate: int, channels: int, kind: str = "WAV") -> bytes:
    target, times = io.BytesIO(), np.arange(rate) / rate
    soundfile.write(
        target, np.tile(0.5 * np.sin(2 * np.pi * hertz * times)[:, None], channels), rate, format=kind
    )
    return target.getvalue()


@pytest.fixture
def mixed(inspected: Inspected) -> Dataset:
    files = {f"{label}/{n}.wav": recording(n, seconds=0.5) for label in ("yes", "no") for n in range(12)}
    files |= {f"yes/stereo-{n}.wav": tone(440 + n, 44_100, 2) for n in range(3)}
    files |= {"no/usual.wav": tone(300, 16_000, 1)}
    return inspected(("words.zip", zipped(files)))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_a_tone_stays_what_it_is(rate: int, channels: int, kind: str) -> None:
    sound, found = soundfile.read(io.BytesIO(at_rate(tone(440, rate, channels, kind), 16_000)))
    assert found == 16_000 and sound.ndim == 1 and abs(len(sound) - 16_000) <= 16
    spectrum = np.abs(np.fft.rfft(sound[:16_000], 16_000))
    assert int(np.argmax(spectrum)) == 440
    assert abs(float(np.abs(sound[2_000:-2_000]).max()) - 0.5) < 0.02


def test_what_has_the_rate_is_not_touched_and_what_is_no_sound_is_refused() -> None:
    data = tone(440, 16_000, 1)
    assert at_rate(data, 16_000) is data
    with pytest.raises(Unreadable):
        at_rate(b"RIFF\x00\x00\x00\x00WAVE", 16_000)


def test_the_button_gives_all_recordings_one_rate(mixed: Dataset) -> None:
    (found,) = [each for each in mixed.findings if each["code"] == "mixed_rates"]
    assert "24 recordings with 8,000, 3 recordings with 44,100, 1 recording with 16,000" in found["message"]
    before = {split: [row["audio"]["path"] for row in rows] for split, rows in rows_of(mixed.version).items()}  # type: ignore[arg-type]
    version = pressed(mixed, "mixed_rates")
    (audio,) = [column for column in version.columns if column["kind"] == "audio"]
    assert audio["rates"] == {"16000": 28} and abs(audio["seconds"]["total"] - (24 * 0.5 + 4)) < 0.05
    assert version.change["says"] == "Resampled “audio” to 16,000 samples a second, in one channel."
    for split, rows in rows_of(version).items():
        names = [row["audio"]["path"].rsplit(".")[0] for row in rows]
        assert names == [path.rsplit(".")[0] for path in before[split]]
        for row in rows:
            usual = row["audio"]["path"].startswith("usual")
            assert row["audio"]["bytes"][:4] == (b"RIFF" if usual else b"fLaC")


def test_it_is_said_where_nothing_is_to_do_or_it_cannot_be(mixed: Dataset) -> None:
    changed(mixed, op="resample", column="audio", rate=8_000)
    assert refused(mixed, op="resample", column="audio", rate=8_000) == "no_change"
    asked: Any
    for asked in ({"column": "audio", "rate": 100}, {"column": "label"}, {"column": "audio", "rate": "x"}):
        with pytest.raises(Wrong):
            request_change(mixed.version, {"op": "resample", **asked}, None)  # type: ignore[arg-type]
