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
