"""The inbox of adjustments: four eyes, one effect."""

import pytest
from django.urls import reverse

from counters.models import Adjustment, Counter
from stripemeter.tenancy.models import AuditEntry
from tests.ops.conftest import Office


def state(adjustment: Adjustment) -> str:
    adjustment.refresh_from_db()
    return adjustment.status


def adjusted() -> list[object]:
    return [
        counter.adjusted for counter in Counter.objects.filter(tenant_id__gt=0) if counter.adjusted
    ]


def test_a_second_person_approves_and_a_double_click_applies_once(office: Office) -> None:
    asked = office.adjustment()
    client = office.sign_in("maintainer")
    url = reverse("ops:adjustment-approve", args=[asked.pk])
    assert [client.post(url).status_code for _ in range(3)] == [302, 302, 302]
    assert state(asked) == "approved"
    assert adjusted() == [5]
    assert AuditEntry.objects.filter(action="adjustment.approved").count() == 1


def test_nobody_approves_what_they_asked_for(office: Office) -> None:
    asked = office.adjustment(actor="user:maintainer-person")
    client = office.sign_in("maintainer")
    answer = client.post(reverse("ops:adjustment-approve", args=[asked.pk]))
    assert answer.status_code == 403
    assert "someone else" in answer.content.decode()
    assert state(asked) == "pending"
    assert "Approve</button>" not in client.get(reverse("ops:adjustments")).content.decode()


@pytest.mark.parametrize("act", ["approve", "reject", "revert", "carry"])
def test_a_viewer_decides_nothing_and_a_get_neither(office: Office, act: str) -> None:
    asked = office.adjustment()
    url = reverse(f"ops:adjustment-{act}", args=[asked.pk])
    assert office.sign_in("viewer").post(url).status_code == 403
    assert office.sign_in("owner").get(url).status_code == 405
    assert state(asked) == "pending"


def test_an_adjustment_of_another_tenant_is_not_found(office: Office) -> None:
    asked = office.adjustment(tenant=office.globex)
    url = reverse("ops:adjustment-approve", args=[asked.pk])
    assert office.sign_in("owner").post(url).status_code == 404
    assert state(asked) == "pending"


def test_a_rejected_one_never_counts_and_an_approved_one_can_be_reverted(office: Office) -> None:
    client = office.sign_in("maintainer")
    refused, kept = office.adjustment(), office.adjustment()
    client.post(reverse("ops:adjustment-reject", args=[refused.pk]))
    client.post(reverse("ops:adjustment-approve", args=[kept.pk]))
    client.post(reverse("ops:adjustment-revert", args=[kept.pk]))
    assert (state(refused), state(kept)) == ("rejected", "reverted")
    assert adjusted() == []


def test_a_correction_is_asked_for_on_the_page(office: Office) -> None:
    client = office.sign_in("maintainer")
    form = {
        "customerRef": "acme-customer", "metric": "api_calls", "delta": "-2.5",
        "reason": "correction", "note": "typo",
    }  # fmt: skip
    url = reverse("ops:adjustment-new")
    assert client.post(url, form | {"delta": "NaN"}).status_code == 400
    answer = client.post(url, form | {"next": "//evil.example/"})
    assert answer["Location"] == reverse("ops:adjustments")
    made = Adjustment.objects.get()
    assert (str(made.delta), made.actor) == ("-2.5", "user:maintainer-person")
