from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    name = "webapp.datasets"
    label = "datasets"

    def ready(self) -> None:
        from webapp.datasets.intake import held_bytes
        from webapp.uploads import quota

        quota.register(held_bytes)
