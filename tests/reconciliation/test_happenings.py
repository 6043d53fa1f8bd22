"""Findings and certified periods reach the tenant's webhooks."""

from decimal import Decimal
from typing import Any

from billing.models import Delivery
from reconciliation.models import Finding
from reconciliation.services import closes
from reconciliation.services.findings import decide
from tests.builders.notices import told_to_acme, watch
from tests.reconciliation.injecting import foreign
from tests.reconciliation.running import reconcile, settled
from tests.reconciliation.test_closes import NOVEMBER


def said(world: Any) -> list[tuple[str, dict[str, Any]]]:
    assert not Delivery.objects.filter(tenant=world.globex).exists()
    return told_to_acme(world)


def test_a_finding_is_told_when_it_opens_when_it_is_decided_and_when_it_closes(world):
    watch(world, "reconciliation.*", "period.*")
    world.mapping()
    world.use(5)
    world.push()
    foreign(world, 3)
    settled(world)
    reconcile(world)
    settled(world)
    reconcile(world)
    kinds = [kind for kind, _ in said(world)]
    assert kinds == ["reconciliation.finding.opened"]
    data = said(world)[0][1]
    assert (data["cause"], data["customerRef"], abs(Decimal(data["units"]))) == (
        "foreign_writer", "c1", 3,
    )  # fmt: skip
    finding = Finding.objects.get()
    assert data["findingId"] == str(finding.pk)
    decide(
        tenant_id=world.acme.pk,
        finding_id=finding.pk,
        state="explained",
        note="the old importer wrote it",
        owner=None,
        actor="ada",
        now=world.now,
    )
    foreign(world, 1)
    settled(world)
    reconcile(world)  # it has grown since: what was said of it no longer holds
    foreign(world, -4)
    settled(world)
    reconcile(world)
    settled(world)
    reconcile(world)
    verbs = [kind.rpartition(".")[2] for kind, _ in said(world)]
    assert verbs == ["opened", "decided", "opened", "closed"]
    assert said(world)[1][1]["state"] == "explained"
    assert abs(Decimal(said(world)[2][1]["units"])) == 4


def test_a_period_is_told_when_it_is_frozen_by_hand_and_when_it_is_certified(world):
    watch(world, "reconciliation.*", "period.*")
    world.mapping()
    world.use(5)
    world.push()
    world.move(days=11)
    reconcile(world)
    closes.close(tenant_id=world.acme.pk, period=NOVEMBER, actor="ada", now=world.now, note="")
    world.move(minutes=1)
    reconcile(world)
    row = closes.seal(tenant_id=world.acme.pk, period=NOVEMBER, actor="ada", now=world.now)
    closes.seal(tenant_id=world.acme.pk, period=NOVEMBER, actor="ada", now=world.now)
    found = [(kind, data["state"]) for kind, data in said(world) if kind.startswith("period.")]
    assert found == [("period.frozen", "frozen"), ("period.sealed", "sealed")]
    assert said(world)[-1][1]["certificateSha256"] == row.certificate_sha256
