"""What the running processes say about themselves."""

from datetime import datetime
from typing import ClassVar

from django.db import models


class Heartbeat(models.Model):
    """The last sign of life of a part of the service (``worker``, ``beat``).

    One row a part: PostgreSQL is the only truth, so readiness looks here and not in Redis.
    """

    component = models.CharField(max_length=40, primary_key=True)
    beaten_at = models.DateTimeField()

    class Meta:
        app_label = "shell"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(component__in=["worker", "beat"]),
                name="heartbeat_component_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.component} at {self.beaten_at}"


def beat_heart(component: str, *, now: datetime) -> None:
    """Record that ``component`` lives at ``now``; an older beat never replaces a newer one."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(component=component, beaten_at=now)],
        update_conflicts=True,
        unique_fields=["component"],
        update_fields=["beaten_at"],
    )
