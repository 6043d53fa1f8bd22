"""Small charts as SVG made on the server: no script, no library, readable by screen readers."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT, GAP = 300, 48, 1


def bars(
    values: Sequence[tuple[str, Decimal | int]], *, label: str, below: Sequence[str] = ()
) -> SafeString:
    """A bar per (title, value), scaled to the largest; ``label`` says what it shows.

    ``below`` are words under the bars, spread from the left edge to the right one: where the
    time begins and ends, and what the highest bar stands for.
    """
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
    words = format_html_join("", "<span>{}</span>", ((word,) for word in below))
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>{}',
        WIDTH,
        HEIGHT,
        label,
        shapes,
        format_html('<p class="scale">{}</p>', words) if below else "",
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a `columns` chart: its label, its values in order of the legend, a title."""

    label: str
    values: tuple[Decimal | int, ...]
    title: str


PLOT_WIDTH, PLOT_HEIGHT, PLOT_LABELS = 720, 220, 26


def columns(shown: Sequence[Column], *, label: str, tones: Sequence[str]) -> SafeString:
    """Labelled columns side by side; ``tones`` are CSS classes, one per value of a column."""
    largest = max((Decimal(v) for each in shown for v in each.values), default=Decimal(0))
    slot = Decimal(PLOT_WIDTH) / max(len(shown), 1)
    inner = slot * Decimal("0.72") / max(len(tones), 1)
    room = PLOT_HEIGHT - PLOT_LABELS - 18
    shapes = []
    for place, each in enumerate(shown):
        left = place * slot + slot * Decimal("0.14")
        for number, (value, tone) in enumerate(zip(each.values, tones, strict=True)):
            share = Decimal(value) / largest if largest > 0 else Decimal(0)
            height = max(share * room, Decimal(1) if value else Decimal(0))
            shapes.append(
                format_html(
                    '<rect class="bar {}" x="{}" y="{}" width="{}" height="{}" rx="2">'
                    "<title>{}</title></rect>",
                    tone,
                    f"{left + number * inner:.1f}",
                    f"{PLOT_HEIGHT - PLOT_LABELS - height:.1f}",
                    f"{max(inner - 2, Decimal(1)):.1f}",
                    f"{height:.1f}",
                    each.title,
                )
            )
        shapes.append(
            format_html(
                '<text x="{}" y="{}" text-anchor="middle">{}</text>',
                f"{place * slot + slot / 2:.1f}",
                PLOT_HEIGHT - 8,
                each.label,
            )
        )
    return format_html(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"></line>{}</svg>',
        PLOT_WIDTH,
        PLOT_HEIGHT,
        label,
        PLOT_WIDTH,
        PLOT_HEIGHT - PLOT_LABELS,
        PLOT_HEIGHT - PLOT_LABELS,
        format_html_join("", "{}", ((shape,) for shape in shapes)),
    )
