"""`manage.py housekeeping`: what the rules would remove, files without an owner; and removing them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from runs.housekeeping import orphans, overview, removal
from runs.housekeeping.applying import apply
from runs.housekeeping.planning import plan
from runs.housekeeping.rules import rule_for
from runs.models import HousekeepingReport
from webapp import storage
from webapp.accounts.models import Workspace
from webapp.templatetags.ui import size


class Command(BaseCommand):
    help = "Shows what the retention rules would remove now, or with --orphans the files that no row owns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="SLUG", help="of one workspace alone")
        parser.add_argument("--apply", action="store_true", help="remove what the rules say, now")
        parser.add_argument(
            "--orphans", action="store_true", help="files without an owner, and rows without files"
        )
        parser.add_argument("--delete", action="store_true", help="with --orphans: delete those files")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["delete"] and not options["orphans"]:
            raise CommandError("--delete goes with --orphans; --apply does what the rules say.")
        if options["orphans"]:
            self.orphans(options["delete"])
        else:
            self.rules(options["workspace"], options["apply"])

    def rules(self, slug: str | None, do_it: bool) -> None:
        workspaces = Workspace.objects.filter(slug=slug) if slug else Workspace.objects.all()
        if slug and not workspaces:
            raise CommandError(f"There is no workspace {slug!r}.")
        report = HousekeepingReport.objects.create(asked_by="manage.py housekeeping") if do_it else None
        total = 0
        for workspace in workspaces.order_by("pk"):
            rule = rule_for(workspace)
            found = plan(rule, workspace)
            items = apply(found, rule, report) if report else found.items
            for item in items:
                what = f"{item.count:,} {item.kind}"
                self.stdout.write(
                    f"{workspace.slug}  run {item.run_id}  {what}  {size(item.size_bytes)}  {item.reason}"
                )
                total += item.size_bytes
            if found.is_cut:
                self.stdout.write(f"{workspace.slug}  and more, with the next round")
        if report:
            overview.end(report)
            removal.remove_due()
        self.stdout.write(f"{size(total)} {'removed' if do_it else 'would go; --apply removes it'}.")

    def orphans(self, delete: bool) -> None:
        files = list(storage.listing())
        found = orphans.find_orphans(files)
        for orphan in found:
            note = "" if orphan.is_known else " (left alone)"
            self.stdout.write(
                f"{orphan.prefix}  {len(orphan.keys):,} files  {size(orphan.size_bytes)}  {orphan.reason}{note}"
            )
        for missing in orphans.find_missing(files):
            of = f"run {missing.run_id}" if missing.run_id else f"dataset {missing.dataset_id}"
            self.stdout.write(
                self.style.WARNING(f"{missing.key}  is gone from storage: a {missing.what} of {of}")
            )
        known = [orphan for orphan in found if orphan.is_known]
        total = size(sum(orphan.size_bytes for orphan in known))
        if not delete:
            self.stdout.write(f"{total} without an owner{'; --delete removes it' if known else ''}.")
            return
        report = HousekeepingReport.objects.create(asked_by="manage.py housekeeping")
        try:
            gone = orphans.delete_orphans([orphan.prefix for orphan in known], report)
        except (orphans.WrongDatabase, OSError) as error:
            raise CommandError(str(error)) from error
        finally:
            overview.end(report)
        self.stdout.write(overview.told_of_orphans(gone))
