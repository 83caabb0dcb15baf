"""Which bands of an image file make an image, and which of their values become 0 and 255.

Standard library only: what the configuration says of it is planned, and stands in recipes and in checkpoints.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

RGB_PLACES = (0, 1, 2)
"""Where red, green and blue are in an image of which nothing else is said."""
MOST_BANDS = 1024
"""More than any sensor has; a damaged checkpoint may claim others."""

Range = tuple[float, float]


class Bands(NamedTuple):
    """The bands of the images of a data set, where they are not red, green and blue of 8 bits.

    `numbers` are those of the bands in a file, from 1, in the order in which an image has them; `of` is how many each
    file has, None where others may be there. With `pages`, the pages of a TIFF file are bands. `scale` has for each
    band the values that become 0 and 255, others in proportion; None: values of 8 bits as they are. `rgb` are the
    places of red, green and blue among the bands of an image, from 0, where some are these.
    """

    numbers: tuple[int, ...]
    of: int | None = None
    pages: bool = False
    scale: tuple[Range, ...] | None = None
    rgb: tuple[int, ...] | None = None

    @property
    def colours(self) -> tuple[int | None, ...]:
        """For each band the place in RGB whose weights and statistics it takes, None for none.

        Three bands of which nothing is said take those of red, green and blue, as a picture of three other bands would.
        """
        rgb = self.rgb or (RGB_PLACES if len(self.numbers) == 3 else ())
        return tuple(rgb.index(place) if place in rgb else None for place in range(len(self.numbers)))

    @property
    def shown(self) -> tuple[int, ...]:
        """The places of the bands that people see: red, green and blue, three of which nothing is said, or the first
        one."""
        return self.rgb or (RGB_PLACES if len(self.numbers) == 3 else (0,))

    def plain(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "numbers": list(self.numbers),
            "of": self.of,
            "pages": self.pages,
            "scale": None if self.scale is None else [list(pair) for pair in self.scale],
            "rgb": None if self.rgb is None else list(self.rgb),
        }

    @classmethod
    def said(cls, content: Mapping[str, Any] | None) -> Self | None:
        """What `plain` gave. Raises ValueError, TypeError or KeyError for another content, but for None."""
        if content is None:
            return None
        numbers, of, pages, scale, rgb = (content[name] for name in cls._fields)
        if not 0 < len(numbers) <= MOST_BANDS or not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError(f"its bands are {numbers!r:.100}")
        if not isinstance(pages, bool) or not (of is None or isinstance(of, int)):
            raise TypeError("its bands are of another kind")
        ranges = None if scale is None else tuple((float(low), float(high)) for low, high in scale)
        if ranges is not None and (
            len(ranges) != len(numbers) or not all(-math.inf < low < high < math.inf for low, high in ranges)
        ):
            raise ValueError(f"its scale is {scale!r:.100}")
        if rgb is not None and (len({*rgb}) != 3 or len(rgb) != 3 or not {*rgb} <= {*range(len(numbers))}):
            raise ValueError(f"its red, green and blue are {rgb!r:.100}")
        return cls(tuple(numbers), of, pages, ranges, None if rgb is None else tuple(rgb))


def bands_of(data: Mapping[str, Any]) -> Bands | None:
    """What the data settings say; None where images are RGB of 8 bits.

    Of `percentiles` nothing is known here: their `scale` comes from the images.
    """
    asked = data.get("bands")
    if asked is None:
        return None
    numbers = tuple(range(1, asked + 1)) if isinstance(asked, int) else tuple(asked)
    scale, rgb = data.get("scale"), data.get("rgb")
    if scale is not None:
        pairs = scale if isinstance(scale[0], list | tuple) else [scale] * len(numbers)
        scale = tuple((float(low), float(high)) for low, high in pairs)
    places = None if rgb is None else tuple(numbers.index(number) for number in rgb)
    return Bands(numbers, asked if isinstance(asked, int) else None, bool(data.get("pages")), scale, places)


def bands_in(settings: Mapping[str, Any]) -> Bands | None:
    """What the settings of a stage say; None where images are RGB of 8 bits."""
    return Bands.said(settings.get("bands"))
