"""Charts are read by people who see them and by people who have them read out."""

from decimal import Decimal

from stripemeter.lib.charts import bars


def test_bars_name_every_value_and_say_where_they_begin_and_end() -> None:
    drawn = bars(
        [("Monday: 2", Decimal(2)), ("Tuesday: <none>", 0), ("Wednesday: 8", 8)],
        label="calls per day",
        below=("Monday", "highest 8", "Wednesday"),
    )
    assert 'aria-label="calls per day"' in drawn
    assert "<title>Tuesday: &lt;none&gt;</title>" in drawn
    assert '<p class="scale"><span>Monday</span><span>highest 8</span>' in drawn
    # A quarter of the largest is a quarter of the height; nothing is no bar at all.
    assert [part.split('"')[0] for part in drawn.split('height="')[1:]] == [
        "12.00",
        "0.00",
        "48.00",
    ]


def test_bars_without_words_have_no_scale() -> None:
    assert "scale" not in bars([("a", 1)], label="one")
