from django.apps import AppConfig


class TenancyConfig(AppConfig):
    name = "stripemeter.tenancy"
    label = "tenancy"
    verbose_name = "Tenancy"
