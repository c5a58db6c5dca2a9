"""docker-compose.yml describes a deployment that can work. (No engine is needed to see that.)"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[2]
OURS = ("prepare", "web", "worker", "dispatcher")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


# Of the Compose specification, those that are used here: a slip of the pen is in none of them.
SERVICE = {
    "image",
    "build",
    "restart",
    "env_file",
    "environment",
    "volumes",
    "command",
    "healthcheck",
    "depends_on",
}
SERVICE |= {"ports", "stop_grace_period", "shm_size", "deploy"}
HEALTHCHECK = {"test", "interval", "timeout", "retries"}
CONDITIONS = {"service_healthy", "service_completed_successfully"}


def test_it_has_the_shape_of_a_compose_file(compose: dict[str, Any]) -> None:
    assert set(compose) == {"x-tuneboard", "services", "volumes"}
    assert set(compose["services"]) == {"postgres", "valkey", *OURS}
    for service in compose["services"].values():
        assert set(service) <= SERVICE and service["image"]
        assert set(service.get("healthcheck", {})) <= HEALTHCHECK
        assert all(isinstance(value, str) for value in service["environment"].values())
        for other, how in service.get("depends_on", {}).items():
            assert other in compose["services"] and how["condition"] in CONDITIONS
        assert all(re.fullmatch(r"[a-z]+:/[a-z/]+", volume) for volume in service.get("volumes", []))
    assert compose["services"]["web"]["ports"] == ["${TUNEBOARD_PORT:-8000}:8000"]


def test_the_containers_settings_go_before_those_of_the_file(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert service["env_file"] == [{"path": ".env", "required": False}]
        assert service["environment"]["TUNEBOARD_HOME"] == "/data"
        assert service["environment"]["TUNEBOARD_PORT"] == "8000"
        assert "data:/data" in service["volumes"]


def test_the_same_image_runs_commands_that_exist(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert (service["build"], service["image"]) == (".", "tuneboard:latest")
        program, script, command = service["command"]
        assert (program, script) == ("python", "manage.py") and command in get_commands()


def test_nothing_serves_before_the_database_is_up_to_date(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["prepare"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("web", "worker", "dispatcher"):
        assert services[name]["depends_on"]["prepare"]["condition"] == "service_completed_successfully"
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"]


def test_data_outlives_containers_in_declared_volumes(compose: dict[str, Any]) -> None:
    mounted = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    }
    assert mounted == set(compose["volumes"])
    assert compose["services"]["web"]["environment"]["STORAGE_URL"].endswith("/data/storage}")


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "SECRET_KEY"):
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert uses and all(use.startswith(":?") for use in uses), name


def test_the_worker_has_gpus_shared_memory_and_time_to_save(compose: dict[str, Any], settings: Any) -> None:
    worker = compose["services"]["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and device["driver"] == "nvidia"
    assert int(worker["stop_grace_period"].rstrip("s")) > settings.STOP_GRACE_SECONDS
    assert worker["shm_size"]


def test_the_image_runs_as_nobody_special_and_takes_no_local_data_in() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER tuneboard" in lines
    assert lines.index("USER tuneboard") < next(n for n, line in enumerate(lines) if line.startswith("CMD"))
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"var", ".venv", ".git", ".env"} <= {name.strip("/") for name in ignored}
