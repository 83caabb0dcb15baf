"""What the values of a mask mean: the classes from 0 on, and one that is none."""

IGNORE = 255
"""The mask value of pixels that carry no class. They are never counted."""
MOST_CLASSES = IGNORE
"""As many classes as fit below `IGNORE`."""

CERTAIN = 255
"""The confidence of a true label, where one is kept beside each label, in steps of 1/255."""
