"""The training curve as a picture."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "training.png"

_COLOURS = ("#3b6ea5", "#d1702d", "#4f8f4f", "#8b5fa8", "#a33b3b", "#6b6b6b")


def losses(curves: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """The curves of losses that have more than one point."""
    return {name: curve for name, curve in sorted(curves.items()) if name.endswith("loss") and len(curve) > 1}


def draw(curves: Mapping[str, list[tuple[int, float]]], folder: Path) -> bool:
    """Draws the losses of a run beside its model.

    Returns:
        Whether there is a picture: there are losses, and matplotlib is installed.
    """
    shown = losses(curves)
    if not shown or importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=150, layout="constrained")
    axes: Any = figure.subplots()
    for number, (name, curve) in enumerate(shown.items()):
        steps, values = zip(*curve, strict=True)
        is_measured = not name.startswith("train/")
        axes.plot(
            steps,
            values,
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            linewidth=2 if is_measured else 1.2,
            marker="o" if is_measured else None,
            markersize=4,
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(folder / FILE, metadata={"Software": None})
    return True


def table(curves: Mapping[str, list[tuple[int, float]]], num_rows: int = 8) -> str:
    """Some points of the losses, where there is no picture."""
    shown = losses(curves)
    if not shown:
        return ""
    names = list(shown)
    steps = sorted({step for curve in shown.values() for step, _ in curve})
    picked = [
        steps[index * (len(steps) - 1) // max(min(num_rows, len(steps)) - 1, 1)]
        for index in range(min(num_rows, len(steps)))
    ]
    lines = [f"| step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for step in picked:
        found = [[value for at, value in shown[name] if at <= step][-1:] for name in names]
        lines.append(f"| {step} | {' | '.join(f'{value[0]:.4f}' if value else '' for value in found)} |")
    return "\n".join(lines)
