"""Results as Markdown tables."""

import math
from typing import Any

from bench.contest import Result, Spread

_HUNDRED, _TEN = 100, 10


def markdown(result: Result) -> str:
    """Return a result's tables: the figures of all contestants, then the ratios that count."""
    lines = [f"### {result.case}: {result.about}", ""]
    if result.values:
        columns = list(dict.fromkeys(figure for rounds in result.values.values() for figure in rounds[0]))
        lines += _table("", columns, {name: result.figures(name) for name in result.values})
        ratios = {f"{name} / {to}": result.ratios(name, to) for name, to in result.pairs}
        if ratios:
            lines += ["", *_table("ratio", columns, ratios, spreads=True)]
    lines += ["", *(f"Not measured: {name}: {reason}." for name, reason in result.absent.items())]
    return "\n".join(lines).rstrip() + "\n"


def wanted_markdown(rows: list[dict[str, Any]], *, short: bool) -> str:
    """Return the table of what is wanted and what was found: the median, the lowest and the highest."""
    heading = "### wanted: what ucspid is to reach, and what was found"
    lines = [heading + (" (in small: the figures mean nothing)" if short else ""), ""]
    lines += ["| figure | found | wanted | |", "| --- | ---: | ---: | --- |"]
    for row in rows:
        found = _cell(Spread(**row["found"]), spreads=True) if row["found"] else "not measured"
        reached = {True: "reached", False: "missed", None: ""}[row["reached"]]
        lines.append(f"| {row['figure']} | {found} | {row['wanted']} | {reached} |")
    return "\n".join(lines) + "\n"


def _table(
    corner: str, columns: list[str], rows: dict[str, dict[str, Spread]], *, spreads: bool = False
) -> list[str]:
    lines = [f"| {corner} | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, figures in rows.items():
        cells = [_cell(figures[column], spreads=spreads) if column in figures else "" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(value: Spread, *, spreads: bool) -> str:
    text = _number(value.median)
    return f"{text} ({_number(value.low)} to {_number(value.high)})" if spreads else text


def _number(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    if abs(value) >= _HUNDRED:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= _TEN else f"{value:.2f}"


def from_json(data: dict[str, Any]) -> Result:
    """Return the result that Result.as_json() gave."""
    return Result(
        data["case"],
        data["about"],
        data["values"],
        data["absent"],
        [(name, to) for name, to in data["pairs"]],
        {name: [(bound, count) for bound, count in pairs] for name, pairs in data["histograms"].items()},
    )
