"""What the values of a mask mean: the classes from 0 on, and one that is none."""

IGNORE = 255
"""The mask value of pixels that carry no class. They are never counted."""
MOST_CLASSES = IGNORE
"""As many classes as fit below `IGNORE`."""
