"""The tenancy app."""

from django.apps import AppConfig


class TenancyConfig(AppConfig):
    """Tenants, operators, keys and the audit trail."""

    name = "stripemeter.tenancy"
    label = "tenancy"
    verbose_name = "Tenancy"

    def ready(self) -> None:
        from stripemeter.lib import openapi  # noqa: F401  these register themselves on import
        from stripemeter.tenancy import openapi as schemes  # noqa: F401
