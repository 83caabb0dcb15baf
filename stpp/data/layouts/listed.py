"""The authors' list files: each subset is what its list says, and there is nothing else."""

from stpp.data.sources import Entry, Place

NAMES = ("lists",)
CLASSES = False


def scan(place: Place) -> tuple[list[Entry], list[Entry]]:
    """Nothing: a subset without a list is empty."""
    return [], []
