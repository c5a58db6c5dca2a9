"""A base model: pretrained weights that a run can start from."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from webapp.accounts.models import Workspace


class BaseModelQuerySet(models.QuerySet["BaseModel"]):
    def visible_to(self, user: Any) -> BaseModelQuerySet:
        """Models for everybody, and those of the workspaces this user belongs to."""
        return self.filter(Q(workspace=None) | Q(workspace__memberships__user=user)).distinct()


class BaseModel(models.Model):
    """An entry of the catalogue. What can be done with it follows from `kind`: a task says which kinds it takes."""

    class Source(models.TextChoices):
        STARTER = "starter", "Starter"
        HUB = "hub", "Hub"
        FOLDER = "folder", "Folder on this host"
        RUN = "run", "Made by a run"

    class Kind(models.TextChoices):
        TEXT_ENCODER = "text-encoder", "Text encoder"
        TEXT_DECODER = "text-decoder", "Language model"
        IMAGE_ENCODER = "image-encoder", "Image model"
        WORD_VECTORS = "word-vectors", "Word vectors"
        OTHER = "other", "Other"

    workspace = models.ForeignKey(
        Workspace, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    slug = models.SlugField(max_length=200, unique=True)
    name = models.CharField(max_length=200)
    summary = models.TextField(blank=True)
    kind = models.CharField(max_length=30, choices=Kind.choices)
    source = models.CharField(max_length=10, choices=Source.choices)
    # Python package, Hub repository id, or folder; with `revision` it names exact bytes.
    reference = models.CharField(max_length=500)
    revision = models.CharField(max_length=100, blank=True)
    # How the weights lie there: transformers · gguf · timm-state-dict · npy (runs/training/base_models.py).
    weights_format = models.CharField(max_length=30, default="transformers")
    weights_path = models.CharField(max_length=300, blank=True)  # inside the package or folder
    architecture = models.CharField(max_length=100, blank=True)  # e.g. BertModel, tf_efficientnet_lite0
    parameters = models.BigIntegerField(null=True, blank=True)
    size_bytes = models.BigIntegerField(null=True, blank=True)
    licence = models.CharField(max_length=100, blank=True)  # SPDX identifier where there is one
    homepage = models.URLField(max_length=500, blank=True)
    context_length = models.IntegerField(null=True, blank=True)  # tokens
    image_size = models.IntegerField(null=True, blank=True)  # pixels
    details = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = BaseModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
