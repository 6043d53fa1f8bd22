"""Prometheus series of billing."""

from prometheus_client import Counter, Histogram

pushes = Counter("pushes_total", "Tries to push, by mode and outcome.", ["mode", "outcome"])
push_duration = Histogram(
    "push_call_duration_seconds",
    "Time of one call to Stripe.",
    ["mode"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
pushes_planned = Counter("pushes_planned_total", "Intents written.")
shadow_posts = Counter(
    "shadow_usage_posts_total", "Shadow pushes that Stripe took.", ["tenant", "metric"]
)
shadow_failures = Counter(
    "shadow_usage_post_failures_total",
    "Shadow pushes that failed or were skipped.",
    ["tenant", "metric", "reason"],
)
webhooks = Counter("stripe_webhooks_total", "Webhooks by what became of them.", ["status"])
grace_alerts = Counter(
    "grace_alerts_total", "Periods with unpushed usage when half of their grace was over."
)
