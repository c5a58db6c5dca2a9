"""What the pages about storage show, each part read when the template asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Now

from runs.housekeeping import removal, rules, use
from runs.housekeeping.orphans import Orphan
from runs.housekeeping.planning import Item, Plan, plan
from runs.models import HousekeepingReport, Removal, RetentionRule, StorageRemoval
from webapp import storage
from webapp.accounts.models import User, Workspace
from webapp.templatetags.ui import size
from webapp.uploads.quota import Quota, quota_of

REPORTS = 10
REMOVALS = 50  # shown of one report


@dataclass(frozen=True)
class ReportRow:
    """A round of house-keeping, as far as it is this workspace's business."""

    report: HousekeepingReport
    removals: list[Removal]
    more: int
    size_bytes: int


class StoragePage:
    """The parts of the page *Storage* of a workspace."""

    def __init__(self, workspace: Workspace, user: User) -> None:
        self.workspace, self.user = workspace, user

    @cached_property
    def use(self) -> use.Use:
        return use.use_of(self.workspace)

    @property
    def free(self) -> tuple[int, int] | None:
        return storage.free_space()

    @property
    def quota(self) -> Quota:
        return quota_of(self.workspace)

    @cached_property
    def own_rule(self) -> RetentionRule | None:
        return rules.own_rule(self.workspace)

    @property
    def sentences(self) -> list[str]:
        return rules.sentences(self.own_rule or rules.site_rule())

    @property
    def last_daily(self) -> HousekeepingReport | None:
        return last_daily()

    @property
    def reports(self) -> list[ReportRow]:
        return _reports(Removal.objects.filter(workspace=self.workspace))

    @property
    def deleted(self) -> list[Removal]:
        """Runs that people deleted, newest first."""
        return list(Removal.objects.filter(workspace=self.workspace, report=None)[:REPORTS])


def last_daily() -> HousekeepingReport | None:
    """The newest round of a day, over or not."""
    return HousekeepingReport.objects.filter(is_daily=True).first()


class SitePage:
    """The parts of the page about all workspaces."""

    @cached_property
    def use(self) -> use.Use:
        return use.use_of(None)

    @property
    def free(self) -> tuple[int, int] | None:
        return storage.free_space()

    @property
    def by_workspace(self) -> list[tuple[str, int, int]]:
        return use.by_workspace()

    @property
    def sentences(self) -> list[str]:
        return rules.sentences(rules.site_rule())

    @property
    def last_daily(self) -> HousekeepingReport | None:
        return last_daily()

    @property
    def stuck(self) -> list[StorageRemoval]:
        return removal.stuck()

    @property
    def reports(self) -> list[ReportRow]:
        return _reports(Removal.objects.all())


def _reports(removals: QuerySet[Removal]) -> list[ReportRow]:
    """The newest reports under which something went, or that ended with an error."""
    found = HousekeepingReport.objects.filter(
        Q(pk__in=removals.order_by().values("report")) | ~Q(error="")
    ).order_by("-started_at")[:REPORTS]
    rows = []
    for report in found:
        mine = removals.filter(report=report)
        total = mine.order_by().aggregate(size=Sum("size_bytes"))["size"] or 0
        rows.append(ReportRow(report, list(mine[:REMOVALS]), max(0, mine.count() - REMOVALS), total))
    return rows


class Preview:
    """What a rule would remove in some workspaces."""

    def __init__(self, rule: RetentionRule, workspaces: list[Workspace]) -> None:
        self.plans: list[Plan] = [plan(rule, workspace) for workspace in workspaces]

    @cached_property
    def items(self) -> list[Item]:
        return [item for found in self.plans for item in found.items]

    @property
    def size_bytes(self) -> int:
        return sum(found.size_bytes for found in self.plans)

    @property
    def runs(self) -> int:
        return sum(found.runs for found in self.plans)

    @property
    def is_cut(self) -> bool:
        return any(found.is_cut for found in self.plans)


def followers_of_the_site() -> list[Workspace]:
    """Workspaces without a rule of their own."""
    own = RetentionRule.objects.filter(workspace__isnull=False).values("workspace")
    return list(Workspace.objects.exclude(pk__in=own).order_by("pk"))


def told(report: HousekeepingReport, workspace: Workspace) -> str:
    """What went under a report, in a sentence."""
    mine = Removal.objects.filter(report=report, workspace=workspace)
    total = mine.order_by().aggregate(size=Sum("size_bytes"))["size"] or 0
    count = mine.order_by().exclude(run_name="").values("run_name", "run").distinct().count()
    if not mine.exists():
        return "Nothing had to go."
    return f"Something of {count} run{'s' if count != 1 else ''} went: {size(total)}."


def told_of_orphans(gone: list[Orphan]) -> str:
    files = sum(len(orphan.keys) for orphan in gone)
    total = sum(orphan.size_bytes for orphan in gone)
    return f"{files:,} file{'s' if files != 1 else ''} deleted: {size(total)}."


def end(report: HousekeepingReport) -> None:
    HousekeepingReport.objects.filter(pk=report.pk).update(finished_at=Now())
