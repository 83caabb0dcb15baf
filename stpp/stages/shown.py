"""What a network is shown of a whole image: its pixels, or what a frozen encoder has made of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from stpp.common.bands import Bands
from stpp.data.manifest import Row
from stpp.data.reading import image_of
from stpp.engine.inference import WholeImage
from stpp.runtime.job import Job
from stpp.store.maps import MapStore, whole_view


def pictures_of(job: Job, bands: Bands | None, tta: Mapping[str, Any] | None = None) -> Callable[[Row], WholeImage]:
    """What gives the picture of a row: its maps at the scales and flips of `tta`, where the stage reads stored ones.

    Else its pixels, RGB or of those `bands`.
    """
    if "maps" not in job.recipe["inputs"]:
        return partial(image_of, bands=bands)
    store = MapStore(job.input("maps"))
    flips = (False, True) if tta and tta["flip"] else (False,)
    views = [whole_view(scale, mirrored) for scale in (tta["scales"] if tta else [1.0]) for mirrored in flips]
    return lambda row: store.image(row.id, (row.height, row.width), views)
