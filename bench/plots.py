"""`python -m bench.plots RESULTS FOLDER`: how latencies spread and costs grow, as PNG, with matplotlib."""

import importlib
import importlib.util
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contest import Result
from bench.report import from_json

_USAGE = 100
_MISSING = 111


def main(arguments: list[str]) -> int:
    """Draw a plot for each result that has distributions; return the exit status."""
    if len(arguments) != 2:  # noqa: PLR2004 - a file and a folder
        sys.stderr.write("usage: python -m bench.plots RESULTS FOLDER\n")
        return _USAGE
    if importlib.util.find_spec("matplotlib") is None:
        sys.stderr.write("bench: no plots without matplotlib (pip install matplotlib)\n")
        return _MISSING
    results = [from_json(item) for item in json.loads(Path(arguments[0]).read_text())["results"]]
    folder = Path(arguments[1])
    folder.mkdir(exist_ok=True)
    for result in results:
        if result.histograms:
            draw(result, folder / f"{result.case}.png")
        for growth in GROWTHS.get(result.case, ()):
            draw_growth(result, growth, folder / f"{growth.file}.png")
    return 0


@dataclass(frozen=True)
class Growth:
    """A figure against a number that stands in the contestants' names: "NAME, NUMBER ..."."""

    file: str
    figure: str
    of: str
    y: str


GROWTHS = {
    "live": [
        Growth("live-rate", "connections/s", "live sessions", "connections/s, 20 clients at once"),
        Growth("live-cpu", "CPU µs", "live sessions", "CPU of a connection, µs"),
    ],
    "services": [
        Growth("services-memory", "PSS MB", "services", "memory (PSS), MB"),
        Growth("services-start", "start ms", "services", "start to listening, ms"),
    ],
}


def draw_growth(result: Result, growth: Growth, file: Path) -> None:
    """Draw how a figure grows, a line for each server."""
    plt: Any = importlib.import_module("matplotlib.pyplot")
    lines: dict[str, list[tuple[int, float]]] = {}
    for contestant in result.values:
        name, _, rest = contestant.partition(", ")
        found = result.figures(contestant).get(growth.figure)
        if found is not None and not math.isnan(found.median):
            lines.setdefault(name, []).append((int(rest.split()[0]), found.median))
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, points in lines.items():
        axes.plot(
            *zip(*sorted(points), strict=True), marker="o", label=name, linewidth=2 if name == "ucspid" else 1
        )
    axes.set(xlabel=growth.of, ylabel=growth.y, ylim=(0, None))
    axes.set_title(f"{growth.y} against {growth.of}")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=80)
    plt.close(figure)


def draw(result: Result, file: Path) -> None:
    """Draw which share of the clients had their first byte after how long at most.

    The share is shown from the far end, on a logarithmic scale, where servers differ.
    """
    plt: Any = importlib.import_module("matplotlib.pyplot")  # here, because the bench runs without it
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, pairs in result.histograms.items():
        total = sum(count for _bound, count in pairs)
        left = total
        milliseconds, share = [], []
        for bound, count in pairs:
            milliseconds.append(bound / 1e6)
            share.append(left / total)
            left -= count
        axes.step(milliseconds, share, where="post", label=name, linewidth=2 if name == "ucspid" else 1)
    axes.set(
        xscale="log", yscale="log", xlabel="ms to the first byte", ylabel="share of clients that wait longer"
    )
    axes.set_title(result.about)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
