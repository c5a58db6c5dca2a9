"""The pages of hosts: everybody sees what is there, nobody the names of others' runs, and admins alone change it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.execution import hosts, samples
from runs.execution.joining import joining, without_secrets
from runs.fleet import fleet
from runs.models import Attempt, Deployment, Run, Worker
from tests.runs.conftest import Lab, Script, poll, text_of
from webapp.accounts.models import Membership, User, Workspace

H100 = {"name": "NVIDIA H100", "memory_bytes": 80 * 10**9}
SAMPLE = {
    "devices": [
        {**{"index": 0, "uuid": "GPU-a", "utilisation": 0.75, "memory_used": 20 * 10**9}, **H100}
        | {"temperature": 61, "power": 412.0, "power_limit": 700.0},
        {**{"index": 1, "uuid": "GPU-b", "error": "GPU is lost"}, **H100},
    ],
    "host": {"cpu": 0.25, "memory_bytes": 512 * 10**9, "memory_used": 100 * 10**9, "load": 3.5},
}


@pytest.fixture
def gpu_host(lab: Lab) -> Worker:
    return Worker.objects.create(
        name="gpu-01:/srv",
        host="gpu-01",
        pid=4711,
        queues=["cpu", "gpu1"],
        slots=2,
        devices=[
            {"index": 0, "uuid": "GPU-a", **H100},
            {"index": 1, "uuid": "GPU-b", **H100},
        ],
        versions={"tuneboard": hosts.own_version(), "torch": "2.11", "driver": "580.82", "cuda": "13.0"},
        cpus=64,
        memory_bytes=512 * 10**9,
        telemetry=SAMPLE,
        cost_setting=12.5,
    )


@pytest.fixture
def admin(lab: Lab) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("root", is_superuser=True))
    return client


@pytest.fixture
def hold(gpu_host: Worker) -> Callable[..., Attempt]:
    """Has the host train a run."""

    def take(run: Run) -> Attempt:
        Run.objects.filter(pk=run.pk).update(status="running", attempt=1)
        return Attempt.objects.create(
            run=run, number=1, worker=gpu_host, lease_until=timezone.now() + timedelta(seconds=50)
        )

    return take


def offline(worker: Worker) -> None:
    Worker.objects.filter(pk=worker.pk).update(last_seen_at=timezone.now() - timedelta(hours=1))


def page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return text_of(answer.content.decode())


# -- what is seen ----------------------------------------------------------------------------------
def test_the_list_shows_each_host_with_devices_use_slots_and_cost(
    lab: Lab, browser: Client, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    hold(lab.run(name="Mine"))
    offline(Worker.objects.create(name="old:/srv", host="old-box", pid=1, cpus=8))
    shown = page(browser, "/hosts/")
    for part in (
        "gpu-01",
        "2 × NVIDIA H100",
        "75.0 %",
        "1 of 2",
        "Mine",
        "$12.50",
        "old-box",
        "8 CPUs",
        "Offline",
    ):
        assert part in shown, part
    assert 'href="/hosts/"' in browser.get("/").content.decode()


def test_a_host_shows_what_each_device_does_and_one_that_does_not_answer(
    browser: Client, gpu_host: Worker
) -> None:
    shown = page(browser, f"/hosts/{gpu_host.pk}/")
    for part in (
        "75.0 %",
        "20.0 GB of 80.0 GB",
        "61 °C",
        "412 W of 700 W",
        "GPU is lost",
        "25.0 %",
        "load 3.50",
    ):
        assert part in shown, part
    for part in ("gpu-01:/srv", "4711", "580.82", "13.0", hosts.own_version(), "cpu, gpu1", "512 GB"):
        assert part in shown, part


def test_a_host_without_gpus_or_any_sample_yet_has_a_page(browser: Client, worker: Worker) -> None:
    shown = page(browser, f"/hosts/{worker.pk}/")
    assert "Running now" in shown and "GPU" not in shown
    assert browser.get("/hosts/999/").status_code == 404


def test_nobody_yet(browser: Client) -> None:
    assert "No host yet" in page(browser, "/hosts/")


def test_runs_of_other_workspaces_are_there_without_their_names(
    lab: Lab, browser: Client, script: Script, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    elsewhere = Workspace.objects.get(slug="elsewhere")
    hold(lab.run(name="zebra-crossing", workspace=elsewhere))
    for path in ("/hosts/", f"/hosts/{gpu_host.pk}/"):
        answer = browser.get(path).content.decode()
        assert "zebra" not in answer
        assert "a run of another workspace" in answer.lower()
    row = script.get(f"hosts/{gpu_host.pk}").json()
    assert [(held["run"], held["name"], held["attempt"]) for held in row["runs"]] == [(None, None, 1)]
    assert "zebra" not in script.get("hosts").content.decode()
    stranger = Client()
    stranger.force_login(lab.stranger)
    assert "zebra-crossing" in page(stranger, f"/hosts/{gpu_host.pk}/")


def test_the_lease_of_a_run_is_told(
    lab: Lab, browser: Client, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    attempt = hold(lab.run(name="Mine"))
    assert "lease good for " in page(browser, f"/hosts/{gpu_host.pk}/")
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() - timedelta(seconds=30))
    offline(gpu_host)
    shown = page(browser, f"/hosts/{gpu_host.pk}/")
    assert "lease expired 30 s ago" in shown and "Its runs go to other workers" in shown


def test_a_poll_that_has_nothing_new_is_304_and_a_beat_is_news(browser: Client, gpu_host: Worker) -> None:
    for path in ("/hosts/", f"/hosts/{gpu_host.pk}/"):
        tag = browser.get(path)["HX-PTag"]
        assert poll(browser, path, tag).status_code == 304
        newer = {**SAMPLE, "host": {**SAMPLE["host"], "cpu": 0.9}}  # type: ignore[dict-item]
        samples.beat(gpu_host.pk, newer, is_new=True)
        answer = poll(browser, path, tag)
        assert answer.status_code == 200 and "<html" not in answer.content.decode()


def test_a_poll_tells_that_a_host_has_gone_though_nothing_was_written(
    browser: Client, gpu_host: Worker, settings: Any
) -> None:
    tag = browser.get("/hosts/")["HX-PTag"]
    settings.LEASE_SECONDS = 0
    assert "Offline" in poll(browser, "/hosts/", tag).content.decode()


# -- charts ----------------------------------------------------------------------------------------
def test_points_come_once_in_buckets_and_then_only_what_is_new(browser: Client, gpu_host: Worker) -> None:
    now = int(timezone.now().timestamp())
    for number in range(2000):
        gpu_host.samples.create(
            at=timezone.now() - timedelta(seconds=2000 - number),
            values={"cpu": number / 2000, "gpu0.power": 400.0},
        )
    gpu_host.samples.create(at=timezone.now() - timedelta(hours=3), values={"cpu": 0.0})
    answer = browser.get(f"/hosts/{gpu_host.pk}/points/").json()["series"]
    assert set(answer) == {"cpu", "gpu0.power"}
    cpu = answer["cpu"]
    assert 400 < len(cpu["step"]) <= 1000 and cpu["step"] == sorted(cpu["step"])
    assert cpu["min"][0] == 0.0 and cpu["max"][-1] == pytest.approx(0.9995)
    assert cpu["min"][5] < cpu["mean"][5] < cpu["max"][5]
    last = cpu["step"][-1]
    assert now - 5 <= last <= now + 5
    since = {"since": f"cpu:{last},gpu0.power:{last}"}
    assert browser.get(f"/hosts/{gpu_host.pk}/points/", since).json()["series"] == {}
    gpu_host.samples.create(at=timezone.now() + timedelta(seconds=5), values={"cpu": 0.5})
    newer = browser.get(f"/hosts/{gpu_host.pk}/points/", since).json()["series"]
    assert list(newer) == ["cpu"] and newer["cpu"]["mean"] == [0.5]
    longer = browser.get(f"/hosts/{gpu_host.pk}/points/?hours=6").json()["series"]["cpu"]
    assert longer["step"][0] < now - 10_000


@pytest.mark.parametrize(
    "query", ["since=cpu:x", "since=:5", "hours=1000000", "hours=a", "since=cpu:999999999999999"]
)
def test_a_query_of_nobodys_making_does_no_harm(browser: Client, gpu_host: Worker, query: str) -> None:
    samples.beat(gpu_host.pk, SAMPLE, is_new=True)
    assert browser.get(f"/hosts/{gpu_host.pk}/points/?{query}").status_code == 200
    assert browser.get(f"/hosts/{gpu_host.pk}/?{query}").status_code == 200


def test_the_charts_of_a_host_have_a_line_a_gpu(browser: Client, gpu_host: Worker) -> None:
    answer = browser.get(f"/hosts/{gpu_host.pk}/").content.decode()
    for part in (
        "gpu0.utilisation",
        "gpu1.memory_used",
        "gpu1.temperature",
        "gpu0.power",
        "CPU use",
        "Host memory",
    ):
        assert part in answer, part


# -- what admins do --------------------------------------------------------------------------------
@pytest.mark.parametrize("action", ["drain", "resume", "cost", "remove"])
def test_only_admins_change_a_host(lab: Lab, browser: Client, gpu_host: Worker, action: str) -> None:
    offline(gpu_host)
    before = Worker.objects.filter(pk=gpu_host.pk).values().get()
    assert browser.post(f"/hosts/{gpu_host.pk}/{action}/", {"cost": "1"}).status_code == 403
    assert Worker.objects.filter(pk=gpu_host.pk).values().get() == before
    shown = browser.get(f"/hosts/{gpu_host.pk}/").content.decode()
    assert (
        f"/hosts/{gpu_host.pk}/drain/" not in shown
        and "Add a host" not in browser.get("/hosts/").content.decode()
    )


def test_an_admin_drains_a_host_and_has_it_take_runs_again(
    lab: Lab, admin: Client, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    attempt = hold(lab.run())
    admin.post(f"/hosts/{gpu_host.pk}/drain/")
    shown = page(admin, f"/hosts/{gpu_host.pk}/")
    assert "Draining" in shown and "It finishes the run that it has and takes no more." in shown
    assert "1 draining" in fleet().sentence and fleet().queues == frozenset()
    Attempt.objects.filter(pk=attempt.pk).update(finished_at=timezone.now())
    shown = page(admin, f"/hosts/{gpu_host.pk}/")
    assert "Drained" in shown and "the host can be stopped now" in shown
    admin.post(f"/hosts/{gpu_host.pk}/resume/")
    assert "Online" in page(admin, f"/hosts/{gpu_host.pk}/")


def test_a_host_that_is_told_to_stop_says_so_while_its_runs_save(
    lab: Lab, admin: Client, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    hold(lab.run())
    Worker.objects.filter(pk=gpu_host.pk).update(leaving=True)
    shown = page(admin, f"/hosts/{gpu_host.pk}/")
    assert "Shutting down" in shown and "runs save and go back to the queue" in shown
    assert "1 shutting down · runs wait until one takes runs again" in fleet().sentence
    assert fleet().queues == frozenset()


def test_what_an_hour_costs_is_said_on_the_page(admin: Client, gpu_host: Worker) -> None:
    admin.post(f"/hosts/{gpu_host.pk}/cost/", {"cost": "3,75"})
    assert "$3.75" in page(admin, f"/hosts/{gpu_host.pk}/")
    for wrong in ("much", "-1", "nan", "1e9"):
        answer = admin.post(f"/hosts/{gpu_host.pk}/cost/", {"cost": wrong}, follow=True)
        assert "is a number" in answer.content.decode()
    assert Worker.objects.get(pk=gpu_host.pk).cost_per_hour == 3.75
    admin.post(f"/hosts/{gpu_host.pk}/cost/", {"cost": ""})
    assert Worker.objects.get(pk=gpu_host.pk).cost_per_hour == 12.5  # the host's own setting


def test_only_a_host_that_is_gone_and_holds_nothing_is_removed(
    lab: Lab, admin: Client, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    remove = f"/hosts/{gpu_host.pk}/remove/"
    assert "stop its worker first" in admin.post(remove, follow=True).content.decode()
    attempt = hold(lab.run())
    offline(gpu_host)
    assert "still holds runs" in admin.post(remove, follow=True).content.decode()
    assert remove not in admin.get(f"/hosts/{gpu_host.pk}/").content.decode()
    Attempt.objects.filter(pk=attempt.pk).update(finished_at=timezone.now())
    assert remove in admin.get(f"/hosts/{gpu_host.pk}/").content.decode()
    admin.post(remove)
    assert not Worker.objects.filter(pk=gpu_host.pk).exists()
    assert Attempt.objects.get(pk=attempt.pk).worker is None


# -- versions --------------------------------------------------------------------------------------
def test_a_worker_of_another_version_is_told_apart_and_may_be_refused(
    browser: Client, gpu_host: Worker
) -> None:
    Worker.objects.update(versions={"tuneboard": "0.0.9"})
    assert "another version" in page(browser, "/hosts/")
    assert "It runs version 0.0.9" in page(browser, f"/hosts/{gpu_host.pk}/")
    assert "gpu1" in fleet().queues
    Deployment.objects.create(version=hosts.own_version(), refuse_other_versions=True)
    shown = page(browser, f"/hosts/{gpu_host.pk}/")
    assert "Refused" in shown and "it takes no runs until both are the same" in shown
    assert fleet().queues == frozenset() and "1 refused" in fleet().sentence


# -- API -------------------------------------------------------------------------------------------
def test_a_script_sees_hosts_and_an_admins_drains_them(
    lab: Lab, script: Script, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    run = lab.run(name="Mine")
    hold(run)
    (row,) = script.get("hosts").json()
    assert (row["id"], row["state"], row["slots"], row["busy"], row["free"]) == (
        gpu_host.pk,
        "online",
        2,
        1,
        1,
    )
    assert row["devices"][0]["power"] == 412.0 and row["devices"][1]["error"] == "GPU is lost"
    assert row["now"]["cpu"] == 0.25 and row["cost_per_hour"] == 12.5 and row["versions"]["cuda"] == "13.0"
    assert [(held["run"], held["name"]) for held in row["runs"]] == [(run.pk, "Mine")]
    for action in ("drain", "resume"):
        assert script.post(f"hosts/{gpu_host.pk}/{action}").status_code == 403
    assert script.get("hosts/999").status_code == 404
    person = User.objects.create_user("root", is_superuser=True)
    Membership.objects.create(user=person, workspace=lab.workspace, role=Membership.Role.VIEWER)
    root = Script(person, lab.workspace)
    assert root.post(f"hosts/{gpu_host.pk}/drain").json()["state"] == "draining"
    assert root.post(f"hosts/{gpu_host.pk}/drain").json()["free"] == 0
    assert root.post(f"hosts/{gpu_host.pk}/resume").json()["state"] == "online"


# -- joining ---------------------------------------------------------------------------------------
def test_the_command_to_join_is_this_deployments_without_its_secrets(admin: Client, settings: Any) -> None:
    settings.DATABASE_URL = "postgres://tune:geheim@db.example:5433/tb?sslmode=require&sslpassword=topf"
    settings.REDIS_URL = "rediss://:schluessel@broker.example:6379/2"
    settings.STORAGE_URL = "s3://our-bucket/prefix"
    settings.STORAGES = {**settings.STORAGES, "default": {"OPTIONS": {"endpoint_url": "http://minio:9000"}}}
    answer = admin.get("/hosts/").content.decode()
    for part in (
        "postgres://tune:&lt;password&gt;@db.example:5433/tb?sslmode=require&amp;sslpassword=&lt;…&gt;",
        "rediss://:&lt;password&gt;@broker.example:6379/2",
        "s3://our-bucket/prefix",
        "http://minio:9000",
        "make worker",
        "docker run",
    ):
        assert part in answer, part
    for secret in ("geheim", "schluessel", "topf"):
        assert secret not in answer
    assert joining().problems == ()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://postgres:@/x?host=/home/me/pg",
        "postgres://u@%2Fvar%2Frun/x",
        "postgres://u@127.0.0.1/x",
        "",
    ],
)
def test_what_other_hosts_cannot_reach_is_said(settings: Any, address: str) -> None:
    settings.DATABASE_URL = address
    found = joining()
    assert "The database of this deployment can be reached from this machine alone" in found.problems[0]
    assert found.settings["DATABASE_URL"].startswith("postgres://<user>")


def test_addresses_keep_what_is_no_secret() -> None:
    assert without_secrets("redis://broker:6379/0") == "redis://broker:6379/0"
    assert without_secrets("redis://u:p@[::1]:6379/0") == "redis://u:<password>@[::1]:6379/0"
