"""What all charts have in common, those of the report and those that are files of their own."""

from typing import Any

MARKERS = ["o", "s", "^", "D", "v", "P"]
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
"""For SVG files: neither the date nor the version of the library."""


def look(ink: str, grid: str) -> dict[str, Any]:
    """matplotlib's settings: lines and texts in the colour `ink`, a grid in `grid` behind the marks."""
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name may have a dollar in it
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "figure.constrained_layout.use": True,
        "grid.color": grid,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "legend.frameon": False,
    }
