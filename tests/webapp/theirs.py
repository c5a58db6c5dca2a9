"""A workspace with one of each thing in it, for tests of who may see and change what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from runs.models import Artifact, Attempt, Channel, Delivery, Log, LogChunk, Run, Worker
from runs.notifications import messages, outbox
from webapp import storage
from webapp.accounts.models import ApiToken, Membership, User, Workspace
from webapp.accounts.people import create_user
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.secrets import seal
from webapp.uploads.models import Upload

SECRET = "zebra-crossing"  # in the name of everything that is not the stranger's


@dataclass
class Theirs:
    """One of each thing, in a workspace that the stranger is not in."""

    workspace: Workspace
    owner: User
    member: Membership
    run: Run
    dataset: Dataset
    model: BaseModel
    token: ApiToken
    host: Worker  # everybody's: what runs on it is theirs
    channel: Channel
    delivery: Delivery
    upload: Upload

    def path(self, route: str) -> str:
        """An address with the ids of what is here in the places of its converters."""
        filled = route.removeprefix("^")
        ids: dict[str, Any] = {"runs/": self.run.pk, "datasets/": self.dataset.pk, "tokens/": self.token.pk}
        ids["members/"], ids["hosts/"] = self.member.pk, self.host.pk
        ids["workspaces/"] = self.workspace.pk
        ids |= {
            "channels/": self.channel.pk,
            "deliveries/": self.delivery.pk,
            "notifications/<": self.delivery.pk,
        }
        for part, value in ids.items():
            if part in filled:
                filled = filled.replace("<int:pk>", str(value)).replace("{run_id}", str(value))
                filled = filled.replace("{dataset_id}", str(value)).replace("{channel_id}", str(value))
                filled = filled.replace("{delivery_id}", str(value)).replace("{host}", str(value))
        filled = filled.replace("<slug:slug>" if "models/" in filled else "{model_id}", self.model.slug)
        filled = filled.replace("{model_id}", self.model.slug).replace("<path:name>", "model.safetensors")
        filled = filled.replace("{name}", "model.safetensors").replace("<slug:name>", "0")
        filled = filled.replace("<slug:slug>", "which-language").replace("{slug}", "which-language")
        filled = filled.replace("<str:secret>", "guess").replace("<slug:split>", "train")
        filled = filled.replace("<int:row>", "1").replace("<int:column>", "0")
        filled = filled.replace("{split}", "train").replace("{row}", "1").replace("{column}", "0")
        filled = filled.replace("<slug:kind>", "parquet").replace("{kind}", "parquet")
        filled = filled.replace("<uuid:pk>", str(self.upload.pk)).replace("{upload_id}", str(self.upload.pk))
        filled = filled.replace("<int:number>", "1").replace("{number}", "1").replace("{change_id}", "1")
        filled = filled.replace("<int:attempt>", "1").replace("{attempt}", "1")
        assert not re.search(r"[<{]", filled), f"teach this test to fill in {filled}"
        return "/" + filled.lstrip("/")


def make_theirs(folder: Path) -> Theirs:
    """Fill a workspace whose every name has SECRET in it."""
    owner = create_user(SECRET)
    workspace = owner.memberships.get().workspace
    workspace.name = f"Workspace {SECRET}"
    workspace.save()
    common = {"workspace": workspace, "created_by": owner}
    model = BaseModel.objects.create(
        workspace=workspace,
        slug="own-model",
        name=f"Model {SECRET}",
        kind="text-encoder",
        source="folder",
        reference="/x",
    )
    dataset = Dataset.objects.create(**common, name=f"Data {SECRET}", status="ready")
    version = DatasetVersion.objects.create(
        dataset=dataset,
        content_hash="a" * 64,
        storage_prefix=f"datasets/{dataset.pk}/versions/a",
        size_bytes=1,
        rows=3,
        splits={"train": 3},
        columns=[{"name": SECRET, "kind": "text"}],
    )
    dataset.version = version
    dataset.save()
    run = Run.objects.create(
        **common,
        name=f"Run {SECRET}",
        base_model=model,
        dataset_version=version,
        dataset_name=dataset.name,
        dataset_hash="a" * 64,
        task="text-classification",
        method="head",
        columns={},
        settings={},
    )
    path = folder / "weights"
    path.write_text(SECRET)
    storage.put(path, f"runs/{run.pk}/artifacts/model.safetensors")
    Artifact.objects.create(
        run=run,
        name="model.safetensors",
        storage_key=f"runs/{run.pk}/artifacts/model.safetensors",
        size=len(SECRET),
        sha256="0" * 64,
    )
    attempt = Attempt.objects.create(run=run, number=1, lease_until=timezone.now(), log_tail=SECRET)
    Log.objects.create(attempt=attempt, read=9, size=len(SECRET) + 1, lines=1)
    LogChunk.objects.create(attempt=attempt, start=0, first_line=1, data=f"{SECRET}\n".encode())
    token = ApiToken.issue(owner, workspace, f"Token {SECRET}")[0]
    host = Worker.objects.create(
        name="host:/home", host="host", pid=1, last_seen_at=timezone.now() - timedelta(1)
    )
    Attempt.objects.filter(pk=attempt.pk).update(worker=host)
    channel = Channel.objects.create(
        user=owner,
        workspace=workspace,
        kind="webhook",
        name=f"Webhook {SECRET}",
        sealed_url=seal(f"https://8.8.8.8/{SECRET}"),
        sealed_secret=seal(f"whsec_{SECRET}"),
    )
    delivery = outbox.send_test(channel)
    outbox.tell(run, "failed", SECRET, channels=[outbox.ensure_own(owner.pk, workspace.pk) or channel])
    assert Delivery.objects.filter(
        in_app=True, message__title=messages.TITLES["failed"].format(name=run.name)
    )
    upload = Upload.objects.create(
        **common, name=f"{SECRET}.csv", length=len(SECRET), expires_at=timezone.now() + timedelta(1)
    )
    storage.put(path, upload.key)
    member = owner.memberships.get()
    return Theirs(workspace, owner, member, run, dataset, model, token, host, channel, delivery, upload)


def facts(theirs: Theirs) -> list[Any]:
    """What must be the same afterwards."""
    return [
        list(kind.objects.order_by("pk").values())
        for kind in (
            Run,
            Dataset,
            DatasetVersion,
            Artifact,
            ApiToken,
            Membership,
            Workspace,
            BaseModel,
            Worker,
            Upload,
        )
    ] + [User.objects.count(), theirs.run.events.count(), *_told(theirs)]


def _told(theirs: Theirs) -> list[Any]:
    """Their channels and messages; whoever looks may have their own."""
    return [
        list(kind.objects.filter(user=theirs.owner).order_by("pk").values()) for kind in (Channel, Delivery)
    ]


def facts_of(theirs: Theirs) -> list[Any]:
    """The same without what the stranger may make in a workspace of their own."""
    place = theirs.workspace
    return [
        list(kind.objects.filter(**{where: place.pk}).order_by("pk").values())
        for kind, where in (
            (Run, "workspace"),
            (Dataset, "workspace"),
            (DatasetVersion, "dataset__workspace"),
            (Artifact, "run__workspace"),
            (ApiToken, "workspace"),
            (Membership, "workspace"),
            (Workspace, "pk"),
            (BaseModel, "workspace"),
            (Upload, "workspace"),
        )
    ] + [theirs.run.events.count(), list(Worker.objects.values()), *_told(theirs)]
