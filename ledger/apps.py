from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "ledger"
    verbose_name = "Ledger"

    def ready(self) -> None:
        # Registers the array dumpers before Django copies psycopg's adapters for its
        # first connection.
        from ledger import packing  # noqa: F401
