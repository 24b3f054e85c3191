"""The table that ends the demo."""

from __future__ import annotations

import io

from rich.console import Console

from swiftbolt.demo import _forecast_table


def reply(target: float) -> dict[str, object]:
    return {
        "as_of": "2013-03-01",
        "current_price": 3169.74,
        "price_target": target,
        "lower_ci": 2928.97,
        "upper_ci": 3460.12,
        "direction": "DOWN",
        "confidence": 0.515,
        "agreement": 0.75,
    }


def test_it_fits_a_terminal_of_80_columns_without_shortening_anything() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(_forecast_table({"NASDAQ": {1: reply(3170.66), 20: reply(3195.01)}}))
    text = out.getvalue()
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    first, second = (line.split() for line in text.splitlines() if "DOWN" in line)
    assert first == ["NASDAQ", "3,169.74", "1", "3,170.66", "2,928.97", "-", "3,460.12", "DOWN", "51.5%", "75%"]
    assert second == ["20", "3,195.01", "2,928.97", "-", "3,460.12", "DOWN", "51.5%", "75%"]
