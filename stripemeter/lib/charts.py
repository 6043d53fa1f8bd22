"""Small charts as SVG made on the server: no script, no library, readable by screen readers."""

from collections.abc import Sequence
from decimal import Decimal

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT, GAP = 300, 48, 1


def bars(values: Sequence[tuple[str, Decimal | int]], *, label: str) -> SafeString:
    """A bar per (title, value), scaled to the largest; ``label`` says what it shows."""
    largest = max((Decimal(value) for _, value in values), default=Decimal(0))
    width = Decimal(WIDTH) / max(len(values), 1)
    drawn = []
    for place, (title, value) in enumerate(values):
        share = Decimal(value) / largest if largest > 0 else Decimal(0)
        height = max(share * HEIGHT, Decimal(1) if value else Decimal(0))
        drawn.append(
            (
                f"{place * width:.2f}",
                f"{HEIGHT - height:.2f}",
                f"{max(width - GAP, Decimal('0.5')):.2f}",
                f"{height:.2f}",
                title,
            )
        )
    shapes = format_html_join(
        "",
        '<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
        drawn,
    )
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>',
        WIDTH,
        HEIGHT,
        label,
        shapes,
    )
