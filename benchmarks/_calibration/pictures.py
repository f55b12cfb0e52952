"""The pictures of docs/calibration.md."""

from pathlib import Path
from typing import Any

METHODS = {"ours": "#1f6fb4", "adjusted Wald": "#d98c00", "Student's t": "#b03a4a"}
SHADES = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")


def pictures(folder: Path, document: dict[str, Any]) -> None:
    """Write all of them as SVG; the same figures give the same bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "calibration", "font.size": 9, "axes.spines.top": False,
                         "axes.spines.right": False, "savefig.facecolor": "white"})  # fmt: skip
    _misses(folder / "calibration-misses.svg", document["comparisons"])
    _power(folder / "calibration-power.svg", document["power"])
    _optimism(folder / "calibration-optimism.svg", document["optimism"])


def _figure(columns: int, height: float = 3.4) -> tuple[Any, Any]:
    from matplotlib import pyplot as plt

    return plt.subplots(1, columns, figsize=(10, height), sharey=columns > 1, layout="constrained", squeeze=False)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _misses(path: Path, rows: list[dict[str, Any]]) -> None:
    figure, axes = _figure(2)
    for place, (axis, nominal) in enumerate(zip(axes[0], (5.0, 1.25), strict=True)):
        for shift, (method, colour) in enumerate(METHODS.items()):
            points = [
                (at + 0.24 * (shift - 1), max(cell[place])) for row in rows for at, cell in enumerate(row[method])
            ]
            axis.scatter(*zip(*points, strict=True), s=9, color=colour, alpha=0.6, linewidths=0, label=method)
        axis.axhline(nominal, color="#555", lw=0.8)
        axis.axhline(nominal + 2, color="#555", lw=0.8, ls="--")
        axis.set(title=f"promised: {nominal:g} % a side", xlabel="units", yscale="symlog", ylim=(0, 100))
        axis.set_xticks(range(len(rows[0]["sizes"])), rows[0]["sizes"])
        axis.set_yticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100 %"])
    axes[0][0].set_ylabel("truth outside, on the worse side")
    axes[0][0].legend(frameon=False, loc="upper right", markerscale=2)
    _save(figure, path)


def _power(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(row["programs"] for row in rows))
    figure, axes = _figure(len(names))
    for axis, name in zip(axes[0], names, strict=True):
        for shade, row in zip(SHADES, (row for row in rows if row["programs"] == name), strict=False):
            chances = [pair[1] for pair in row["chances"]]
            axis.plot(row["gains"], chances, color=shade, label=f"{row['units']}")
            if row["at_told"][1] is not None and row["told"][1] <= 20:
                axis.plot([row["told"][1]], [row["at_told"][1]], "o", color=shade, ms=5)
        axis.axhline(80, color="#555", lw=0.8, ls="--")
        axis.set(title=name, xlabel="true gain, points", xlim=(0, 20), ylim=(0, 101))
    axes[0][0].set_ylabel("chance of better, % (dev, one of 4 stages)")
    axes[0][1].legend(title="units", frameon=False, loc="lower right")
    _save(figure, path)


def _optimism(path: Path, rows: list[dict[str, Any]]) -> None:
    names = ("pass/fail, 50 %", "pass/fail, 90 %", "token F1")
    figure, axes = _figure(len(names), 3.0)
    for axis, name in zip(axes[0], names, strict=True):
        for shade, row in zip(SHADES[1:], (row for row in rows if row["programs"] == name), strict=False):
            axis.plot(row["sizes"], row["points"], "o-", ms=3, color=shade, label=f"{row['stages']}")
        axis.set(title=name, xlabel="units of dev", xscale="log")
        axis.set_xticks(row["sizes"], row["sizes"])
        axis.minorticks_off()
    axes[0][0].set(ylabel="dev score above the truth, points", ylim=(0, None))
    axes[0][2].legend(title="stages", frameon=False)
    _save(figure, path)
