"""What one event may carry, from settings: the same for requests, files and backfills."""

from django.conf import settings

from ledger.wire import Limits


def limits(*, batch_max: int) -> Limits:
    """The limits of this installation, for batches of at most ``batch_max`` events."""
    return Limits(
        batch_max=batch_max,
        meta_bytes_max=settings.MAX_EVENT_META_BYTES,
        quantity_digits_max=settings.QUANTITY_DIGITS_MAX,
        quantity_decimals_max=settings.QUANTITY_DECIMALS_MAX,
    )
