from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        # Datasets and the catalogue do not know of tasks; the tasks tell them what they need.
        from runs.training.tasks import all_tasks
        from webapp.catalog import abilities
        from webapp.datasets import suggestion

        for task in all_tasks():
            suggestion.register(task.slug, task.title, task.column_sets, task.roles)
            methods = tuple(method.title for method in task.methods)
            abilities.register(
                abilities.Ability(task.slug, task.title, task.summary, task.icon, task.model_kinds, methods)
            )

        from runs.housekeeping.datasets import dataset_goes
        from webapp.datasets import deleting

        deleting.register(dataset_goes)

        from django.db.models.signals import post_delete

        from runs.notifications import channels
        from webapp.accounts.models import Membership

        def left(instance: Membership, **_: object) -> None:
            channels.leave(instance.user_id, instance.workspace_id)

        post_delete.connect(left, sender=Membership, weak=False, dispatch_uid="runs.notifications.left")
