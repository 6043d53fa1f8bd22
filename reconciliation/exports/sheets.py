"""What an export holds: sheets of typed columns whose rows stream by once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from stripemeter.lib.cells import Cell
from stripemeter.lib.decimals import EXACT


class Kind(StrEnum):
    """Types of columns."""

    TEXT = "text"
    NUMBER = "number"
    INTEGER = "integer"
    INSTANT = "instant"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``summed`` ones have a total."""

    name: str
    kind: Kind = Kind.TEXT
    summed: bool = False


@dataclass(slots=True)
class Sheet:
    """One table. Its rows may be gone through once; totals are complete after that."""

    name: str
    columns: tuple[Column, ...]
    source: Iterable[tuple[Cell, ...]]
    rows_written: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """The rows, adding up the totals on the way: they equal the rows by construction."""
        summed = [(index, each.name) for index, each in enumerate(self.columns) if each.summed]
        self.totals = {name: Decimal(0) for _, name in summed}
        self.rows_written = 0
        for row in self.source:
            for index, name in summed:
                value = row[index]
                if isinstance(value, Decimal | int):
                    self.totals[name] = EXACT.add(self.totals[name], Decimal(value))
            self.rows_written += 1
            yield row

    def totals_row(self) -> tuple[Cell, ...]:
        """The last row of a file: ``TOTAL``, then the sums under their columns."""
        cells: list[Cell] = [self.totals.get(each.name) for each in self.columns]
        cells[0] = "TOTAL"
        return tuple(cells)
