"""Writes of customer terms. Each leaves one audit row in the same transaction."""

from typing import Any

from django.db import transaction

from billing.models import CustomerTerms
from billing.pricing import PricingError
from billing.pricing.reading import Fields
from billing.pricing.simulator import INPUT_FIELDS, read_terms
from billing.services import notices
from billing.services.mappings import Actor
from billing.services.simulations import plain
from stripemeter.lib import strictjson
from stripemeter.lib.errors import FieldError, InvalidRequest, NotFound
from stripemeter.tenancy import audit

DOCUMENT_BYTES_MAX = 32_768


@transaction.atomic
def set_terms(*, actor: Actor, customer_ref: str | None, document: dict[str, Any]) -> CustomerTerms:
    """Agree on terms, in place of any before. Raises `InvalidRequest`."""
    kept = plain(document)
    _check(kept)
    found = (
        CustomerTerms.objects.select_for_update()
        .filter(tenant_id=actor.tenant_id, customer_ref=customer_ref)
        .first()
    )
    before = None if found is None else dict(found.document)
    if found is None:
        found = CustomerTerms(
            id=notices.new_id(), tenant_id=actor.tenant_id, customer_ref=customer_ref
        )
    found.document, found.updated_by, found.updated_at = kept, actor.name, actor.now
    found.save()
    _audit(actor, "set", found, before, kept)
    return found


@transaction.atomic
def clear_terms(*, actor: Actor, customer_ref: str | None) -> None:
    """Forget the terms; the tenant's default applies again. Raises `NotFound`."""
    found = CustomerTerms.objects.filter(
        tenant_id=actor.tenant_id, customer_ref=customer_ref
    ).first()
    if found is None:
        raise NotFound("No such terms")
    _audit(actor, "cleared", found, found.document, None)
    found.delete()


def _check(document: dict[str, Any]) -> None:
    if len(strictjson.dumps(document)) > DOCUMENT_BYTES_MAX:
        raise InvalidRequest(f"Terms may have at most {DOCUMENT_BYTES_MAX} bytes.")
    try:
        fields = Fields(document, "", INPUT_FIELDS)
        read_terms(fields, 2)
        rate = fields.amount("tax_rate")
        if rate is not None and not 0 <= rate <= 100:
            raise InvalidRequest("taxRate must be between 0 and 100", code="out_of_range")
    except PricingError as error:
        raise InvalidRequest(
            str(error),
            code="invalid_terms",
            errors=[FieldError(error.code, error.detail, error.path)],
        ) from error


def _audit(
    actor: Actor,
    verb: str,
    terms: CustomerTerms,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    audit.record(
        tenant_id=actor.tenant_id,
        actor=actor.name,
        action=f"terms.{verb}",
        object_type="customer_terms",
        object_id=(terms.customer_ref or "default")[:200],
        now=actor.now,
        before=before,
        after=after,
    )
