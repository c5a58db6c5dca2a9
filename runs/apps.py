from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        # Datasets do not know of tasks; the tasks tell them what columns they need.
        from runs.training.tasks import all_tasks
        from webapp.datasets import suggestion

        for task in all_tasks():
            suggestion.register(task.slug, task.title, task.column_sets, task.roles)
