"""What the values of a mask mean: the classes from 0 on, and one that is none."""

from collections.abc import Mapping
from typing import Any

IGNORE = 255
"""The mask value of pixels that carry no class. They are never counted."""
MOST_CLASSES = IGNORE
"""As many classes as fit below `IGNORE`."""
LARGEST_VALUE = 65535
"""The largest value that a mask file may hold: it has 16 bits at most."""

STEM = "{stem}"
"""In a pattern of names, what an image and its mask have in common."""

GROUP = "{group}"
"""In a pattern of ids, what images have in common that belong together."""

CERTAIN = 255
"""The confidence of a true label, where one is kept beside each label, in steps of 1/255."""


def encoding_of(data: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """What the values and colours of mask files mean, as `stpp.data.images.class_of` takes it, from the data settings.

    `first_label` and `threshold` are ways to write a label map, and come out as one.
    """
    label_map = data.get("label_map")
    if first := data.get("first_label"):
        label_map = dict.fromkeys(range(first), "ignore") | {first + class_: class_ for class_ in range(classes)}
    if threshold := data.get("threshold"):
        label_map = {f"0-{threshold - 1}": 0, f"{threshold}-{LARGEST_VALUE}": 1}
    encoding = {
        "classes": classes,
        "ignore_value": data.get("ignore_value"),
        "label_map": {str(raw): class_ for raw, class_ in label_map.items()} if label_map else None,
        "palette_map": data.get("palette_map"),
    }
    tolerance = data.get("palette_tolerance") or 0
    return encoding | ({"palette_tolerance": tolerance} if tolerance else {})
