"""How data lie on disk: a file for each layout, found by the name that `data.layout` gives.

A layout has `scan(place)`: the training images and the val images that lie below the root of a `sources.Place`, to
which it adds what is wrong with them. An entry without a mask is unlabeled. The lists of single subsets are read
for it, with `expand(fields)` where a line may be shorter than an image and a mask. On lines of its own, plain values
say what the settings have to know: `VAL = True` where it brings val images of its own, and `CLASSES = False` where it
says nothing of the classes.
"""
