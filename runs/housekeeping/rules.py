"""Which rule counts where, and what it says in words."""

from __future__ import annotations

from django.conf import settings

from runs.models import RetentionRule
from webapp.accounts.models import User, Workspace

FIELDS = (
    "checkpoint_days",
    "unfinished_checkpoint_days",
    "checkpoint_keep",
    "log_days",
    "file_days",
    "unfinished_file_days",
    "metric_days",
    "metric_action",
    "run_days",
)


def site_rule() -> RetentionRule:
    """What counts where nobody has said anything else; not saved until a superuser changes it."""
    found = RetentionRule.objects.filter(workspace=None).first()
    return found or RetentionRule(checkpoint_days=settings.CHECKPOINT_DAYS or None)


def own_rule(workspace: Workspace) -> RetentionRule | None:
    return RetentionRule.objects.filter(workspace=workspace).first()


def rule_for(workspace: Workspace) -> RetentionRule:
    """The workspace's own rule, else the site's."""
    return own_rule(workspace) or site_rule()


def save_rule(workspace: Workspace | None, values: RetentionRule, by: User) -> RetentionRule:
    """Keep a rule for a workspace, or with None the site's."""
    kept = {name: getattr(values, name) for name in FIELDS}
    if workspace is None:
        kept["remove_orphans"] = values.remove_orphans
    rule, _ = RetentionRule.objects.update_or_create(workspace=workspace, defaults={**kept, "updated_by": by})
    return rule


def sentences(rule: RetentionRule) -> list[str]:
    """What goes under this rule; empty if nothing does."""
    kept = {
        RetentionRule.KeepCheckpoint.NONE: "",
        RetentionRule.KeepCheckpoint.LAST: ", but for the last one,",
        RetentionRule.KeepCheckpoint.BEST: ", but for the best one,",
        RetentionRule.KeepCheckpoint.BOTH: ", but for the last and the best one,",
    }[RetentionRule.KeepCheckpoint(rule.checkpoint_keep)]
    points = "are removed" if rule.metric_action == RetentionRule.Points.REMOVE else "are thinned out"
    told = [
        (rule.checkpoint_days, f"Checkpoints of runs that succeeded{kept} go"),
        (rule.unfinished_checkpoint_days, f"Checkpoints of runs that failed or were cancelled{kept} go"),
        (rule.log_days, "Logs go"),
        (rule.file_days, "Model files of runs that succeeded go"),
        (rule.unfinished_file_days, "Model files of runs that failed or were cancelled go"),
        (rule.metric_days, f"Points of metrics {points}"),
        (rule.run_days, "Whole runs go"),
    ]
    found = [f"{what} {after(days)} the run has ended." for days, what in told if days is not None]
    return [*found, "Files without an owner go every day."] if rule.remove_orphans else found


def after(days: int) -> str:
    return f"{days:,} day{'s' if days != 1 else ''} after" if days else "as soon as"
