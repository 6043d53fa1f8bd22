"""``manage.py repair FINDING…``: from a dry run to a verified repair, on the command line."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.services.running import run_pushes
from reconciliation.models import Finding
from reconciliation.services import repairs, verifying
from reconciliation.services.repairs import Proposal
from stripemeter.lib import clock
from stripemeter.lib.decimals import plain
from stripemeter.lib.errors import ProblemError


class Command(BaseCommand):
    help = "Shows what a repair plan for some findings would do; with two names, carries it out."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options of the command."""
        parser.add_argument("finding", nargs="+", type=UUID)
        parser.add_argument("--proposer", help="who proposes the plan")
        parser.add_argument("--approver", help="who approves it: somebody else")

    def handle(self, *args: Any, **options: Any) -> None:
        """Dry run; then propose, approve, apply, push, read back."""
        first = Finding.objects.filter(pk=options["finding"][0]).first()
        if first is None:
            raise CommandError("No such finding.")
        tenant_id, ids = first.tenant_id, options["finding"]
        try:
            self._show(repairs.draft(tenant_id=tenant_id, finding_ids=ids))
            if options["proposer"] and options["approver"]:
                self._carry_out(tenant_id, ids, options)
            else:
                self.stdout.write("Dry run. Name --proposer and --approver to carry it out.")
        except ProblemError as problem:
            raise CommandError(problem.detail) from problem

    def _show(self, proposal: Proposal) -> None:
        for step in proposal.steps:
            money = step.finding.amount_minor
            worth = f", {plain(money)} minor units of {step.finding.currency}" if money else ""
            self.stdout.write(
                f"{step.kind}: {step.finding.cause} of {step.finding.customer_ref}; "
                f"Stripe changes by {plain(step.effect_units)} units{worth}"
            )
        for refusal in proposal.refusals:
            self.stdout.write(f"refused: {refusal['findingId']}: {refusal['reason']}")

    def _carry_out(self, tenant_id: int, ids: list[UUID], options: dict[str, Any]) -> None:
        plan = repairs.propose(
            tenant_id=tenant_id,
            finding_ids=ids,
            note="",
            actor=options["proposer"],
            now=clock.now(),
        )
        repairs.decide(
            tenant_id=tenant_id,
            plan_id=plan.pk,
            approve=True,
            actor=options["approver"],
            now=clock.now(),
        )
        repairs.apply(
            tenant_id=tenant_id,
            plan_id=plan.pk,
            actor=options["proposer"],
            now=clock.now(),
            steps_max=None,
        )
        self.stdout.write(f"plan {plan.pk}: applied; pushing")
        run_pushes(clock=clock.now, seconds=30, tenant_id=tenant_id)
        done = verifying.verify(tenant_id=tenant_id, plan_id=plan.pk, clock=clock.now)
        self.stdout.write(f"plan {plan.pk}: {done.state}")
