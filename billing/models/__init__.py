"""What is told to Stripe: accounts, customer links, price mappings, pushes, webhooks.

A push is a fact from the moment its intent is committed: what it says never changes
(a trigger refuses), only what became of it. `pushed_total` is the sum of acknowledged
pushes; there is no stored scalar that could be overwritten.
"""

from billing.models.accounts import CustomerLink, Mode, StripeAccount
from billing.models.alerts import AlertEvent, AlertProgress, AlertRule, AlertState
from billing.models.mappings import PriceMapping
from billing.models.notices import Delivery, DeliveryAttempt, WebhookEndpoint
from billing.models.prices import PriceVersion
from billing.models.pushes import Push, PushAttempt, PushCursor, PushSlice
from billing.models.simulations import SimulationBatch, SimulationRun, SimulationScenario
from billing.models.terms import CustomerTerms
from billing.models.webhooks import WebhookInbox
from billing.models.whatif import WhatIfCustomer, WhatIfRun

__all__ = [
    "AlertEvent",
    "AlertProgress",
    "AlertRule",
    "AlertState",
    "CustomerLink",
    "CustomerTerms",
    "Delivery",
    "DeliveryAttempt",
    "Mode",
    "PriceMapping",
    "PriceVersion",
    "Push",
    "PushAttempt",
    "PushCursor",
    "PushSlice",
    "SimulationBatch",
    "SimulationRun",
    "SimulationScenario",
    "StripeAccount",
    "WebhookEndpoint",
    "WebhookInbox",
    "WhatIfCustomer",
    "WhatIfRun",
]
