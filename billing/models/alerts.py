"""Alerts and caps: rules, what they found, and every notice given of it."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from ledger.models import ExactNumeric, Metric
from stripemeter.tenancy.models import Tenant


class AlertRule(models.Model):
    """When somebody wants to know. On the wire this is an alert configuration.

    Without customer or metric the rule is a default of the tenant; of the rules with the same
    type and action only those with the narrowest scope apply to a customer's metric.
    """

    class Type(models.TextChoices):
        """What is compared with the threshold."""

        THRESHOLD = "threshold", "Usage of the period"
        SPIKE = "spike", "Today against the days before"
        BUDGET = "budget", "Cost of the period so far"
        FORECASTED_BUDGET = "forecasted_budget", "Expected cost at the period's end"

    class Action(models.TextChoices):
        """What is done when it is reached."""

        EMAIL = "email", "Email"
        WEBHOOK = "webhook", "Webhook"
        SLACK = "slack", "Slack"
        SOFT_CAP = "soft_cap", "Soft cap"
        HARD_CAP = "hard_cap", "Hard cap"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="alert_rules")
    customer_ref = models.TextField(null=True, db_collation="C")
    metric = models.ForeignKey(Metric, models.PROTECT, null=True)
    type = models.CharField(max_length=17, choices=Type.choices)
    #: Units of the metric, a factor (spike), or major units of the currency (budgets).
    threshold = ExactNumeric()
    action = models.CharField(max_length=8, choices=Action.choices)
    config = models.JSONField(default=dict)
    enabled = models.BooleanField(default=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(type__in=["threshold", "spike", "budget", "forecasted_budget"]),
                name="alert_rule_type_is_known",
            ),
            models.CheckConstraint(
                condition=Q(action__in=["email", "webhook", "slack", "soft_cap", "hard_cap"]),
                name="alert_rule_action_is_known",
            ),
            models.CheckConstraint(
                condition=Q(threshold__gte=0, threshold__lt=10**26),
                name="alert_rule_threshold_is_not_negative",
            ),
            models.CheckConstraint(
                condition=~Q(action__in=["soft_cap", "hard_cap"])
                | Q(type__in=["threshold", "budget"]),
                name="alert_rule_caps_what_is_certain",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["tenant"],
                condition=Q(enabled=True, deleted_at__isnull=True),
                name="alert_rule_in_force",
            ),
            # `caps.check_caps` asks for a customer's caps before every use.
            models.Index(
                fields=["tenant", "customer_ref"],
                condition=Q(
                    enabled=True, deleted_at__isnull=True, action__in=["soft_cap", "hard_cap"]
                ),
                name="alert_rule_caps",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.threshold}"


class AlertState(models.Model):
    """A rule was met for a customer's metric in a period (or, for a spike, on a day).

    At most one per rule, customer, metric, period and threshold: a rule speaks once.
    """

    class Status(models.TextChoices):
        """Where it stands."""

        TRIGGERED = "triggered", "Triggered"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        SNOOZED = "snoozed", "Snoozed"
        RESOLVED = "resolved", "Resolved"

    class Severity(models.TextChoices):
        """How bad it is."""

        INFO = "info", "Info"
        WARN = "warn", "Warning"
        CRITICAL = "critical", "Critical"

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="alert_states")
    rule = models.ForeignKey(AlertRule, models.PROTECT, related_name="states")
    customer_ref = models.TextField(db_collation="C")
    #: Empty where the rule watches the whole bill.
    metric = models.CharField(max_length=100, db_collation="C", blank=True)
    #: The period, or the day of a spike; null for states that a caller wrote.
    bucket_start = models.DateTimeField(null=True)
    bucket_end = models.DateTimeField(null=True)
    value = ExactNumeric()
    threshold = ExactNumeric()
    action = models.CharField(max_length=8, choices=AlertRule.Action.choices)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.TRIGGERED)
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.INFO)
    title = models.CharField(max_length=255)
    description = models.CharField(max_length=2_000, blank=True)
    metadata = models.CharField(max_length=2_000, blank=True)
    #: Whether the value has fallen below the threshold again, after a correction.
    withdrawn = models.BooleanField(default=False)
    snoozed_until = models.DateTimeField(null=True)
    changed_by = models.CharField(max_length=200, blank=True)
    triggered_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "rule", "customer_ref", "metric", "bucket_start", "threshold"],
                name="alert_speaks_once_a_period",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["triggered", "acknowledged", "snoozed", "resolved"]),
                name="alert_state_status_is_known",
            ),
            models.CheckConstraint(
                condition=Q(severity__in=["info", "warn", "critical"]),
                name="alert_state_severity_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-created_at"], name="alert_state_list"),
            models.Index(
                fields=["tenant", "customer_ref"],
                condition=~Q(status="resolved"),
                name="alert_state_open",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class AlertEvent(models.Model):
    """One notice about a state: it was triggered, revised, acknowledged, snoozed or resolved.

    Only ever added.
    """

    id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="alert_events")
    state = models.ForeignKey(AlertState, models.CASCADE, related_name="events")
    rule = models.ForeignKey(AlertRule, models.PROTECT)
    customer_ref = models.TextField(db_collation="C")
    metric = models.CharField(max_length=100, db_collation="C", blank=True)
    #: ``triggered``, ``revised``, ``acknowledged``, ``snoozed`` or ``resolved``.
    kind = models.CharField(max_length=12)
    status = models.CharField(max_length=12, choices=AlertState.Status.choices)
    value = ExactNumeric()
    threshold = ExactNumeric()
    action = models.CharField(max_length=8, choices=AlertRule.Action.choices)
    triggered_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True)
    actor = models.CharField(max_length=200, blank=True)
    recorded_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(
                    kind__in=["triggered", "revised", "acknowledged", "snoozed", "resolved"]
                ),
                name="alert_event_kind_is_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-recorded_at"], name="alert_event_list"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.customer_ref}"


class AlertProgress(models.Model):
    """How far a customer's period has been looked at; derived, may be thrown away."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="+")
    customer_ref = models.TextField(db_collation="C")
    period_start = models.DateTimeField()
    #: Sum of the revisions of the customer's counters when they were looked at.
    revision = models.BigIntegerField()
    evaluated_at = models.DateTimeField()
    #: When prices and forecasts, which change with time, were last looked at.
    priced_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "customer_ref", "period_start"], name="alert_progress_of_a_period"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_ref} {self.period_start}"
