"""What a worker tells of its devices: all that they say, and the rest in spite of one that does not."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from runs.execution import hosts, telemetry
from tests.runs.execution.fake_nvml import Gpu, install


def test_gpus_are_those_that_the_driver_lists_and_the_environment_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, Gpu("GPU-a1"), Gpu("GPU-b2", "NVIDIA L4", memory=24 * 2**30))
    found = hosts.gpus()
    assert [(gpu["index"], gpu["uuid"], gpu["name"]) for gpu in found] == [
        (0, "GPU-a1", "NVIDIA H100 80GB HBM3"),
        (1, "GPU-b2", "NVIDIA L4"),
    ]
    assert [gpu["memory_bytes"] for gpu in found] == [80 * 2**30, 24 * 2**30]
    for visible, expected in (("GPU-b2", [1]), ("GPU-b", [1]), ("0", [0]), ("1, 0", [0, 1]), ("", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [gpu["index"] for gpu in hosts.gpus()] == expected, visible


def test_a_host_without_a_driver_has_no_gpus_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch, init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert hosts.gpus() == [] and telemetry.driver_versions() == {}
    assert caplog.text == ""


def test_a_driver_that_does_not_work_is_told_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = install(monkeypatch, Gpu("GPU-a"), init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    assert hosts.gpus() == [] and "does not work" in caplog.text
    fake.init_error = None
    assert [gpu["uuid"] for gpu in hosts.gpus()] == ["GPU-a"]


def test_of_two_gpus_one_that_is_lost_does_not_hide_the_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = install(monkeypatch, Gpu("GPU-a"), Gpu("GPU-b"))
    devices = hosts.gpus()
    fake.gpus[1].lost = True
    first, second = telemetry.sample(devices)["devices"]
    assert first == {
        **{"index": 0, "uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 * 2**30},
        **{"memory_used": 10 * 2**30, "utilisation": 0.75, "temperature": 61},
        **{"power": 412.5, "power_limit": 700.0},
    }
    assert second["error"] == "GPU is lost" and second["uuid"] == "GPU-b" and "power" not in second
    # A worker that starts now goes on without it.
    assert [gpu["index"] for gpu in hosts.gpus()] == [0] and "GPU 1 does not answer" in caplog.text


def test_what_a_gpu_does_not_measure_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpu("GPU-a", without={"power", "limit", "use", "memory", "mig"}))
    (device,) = telemetry.sample(hosts.gpus())["devices"]
    assert "error" not in device and device["temperature"] == 61
    assert {name for name, value in device.items() if value is None} == {
        "power",
        "power_limit",
        "utilisation",
        "memory_used",
    }


def test_a_gpu_that_is_split_says_what_a_run_gets_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Gpu("MIG-1", "NVIDIA H100 MIG 1g.10gb", memory=10 * 2**30)
    install(monkeypatch, Gpu("GPU-a", parts=[part, Gpu("MIG-2")], without={"use"}))
    (device,) = hosts.gpus()
    assert device["memory_bytes"] == 10 * 2**30 and [part["uuid"] for part in device["mig"]] == [
        "MIG-1",
        "MIG-2",
    ]
    assert telemetry.sample([device])["devices"][0]["utilisation"] is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    assert [gpu["uuid"] for gpu in hosts.gpus()] == ["GPU-a"]


def test_versions_name_the_driver_the_libraries_and_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Gpu("GPU-a"))
    found = hosts.versions()
    assert (found["driver"], found["cuda"]) == ("580.82.07", "13.0")
    assert {"python", "torch", "transformers"} <= set(found)
    assert found["tuneboard"].split("+g")[0] == "0.1.0"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.1.0", "0.2.0", False),
        ("0.1.0+gabc", "0.1.0+gabc", True),
        ("0.1.0+gabc", "0.1.0+gdef", False),
        ("0.1.0+gabc", "0.1.0", True),  # an image knows no commit
        ("", "0.1.0", True),
    ],
)
def test_versions_are_the_same_as_far_as_they_say(one: str, other: str, same: bool) -> None:
    assert hosts.same_version(one, other) is same


def test_a_host_without_gpus_tells_of_its_cpu_memory_load_and_disk(tmp_path: Path) -> None:
    found = telemetry.sample([], tmp_path)
    host = found["host"]
    assert found["devices"] == []
    assert 0 <= host["cpu"] <= 1 and 0 < host["memory_used"] < host["memory_bytes"]
    assert 0 < host["disk_free"] < host["disk_bytes"] and host["load"] >= 0
    assert "disk_free" not in telemetry.host_sample(tmp_path / "nowhere")
