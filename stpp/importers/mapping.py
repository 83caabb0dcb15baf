"""Where the pixels of masks lie on a map: from the images, whose georeference is that of their masks."""

from pathlib import Path

from stpp.common.errors import Problems, StppError
from stpp.common.wording import counted, listed
from stpp.importers import Labels
from stpp.store.geotiff import Georeference, georeference


def places_of(labels: Labels) -> dict[str, Georeference]:
    """The georeference of each mask by its id. Raises StppError where the images are not known, and Problems where one
    has none.
    """
    if unknown := [id for id in labels.images if id not in labels.files]:
        raise StppError(
            f"nothing says where {listed(unknown)} lie on a map: give the folder of the GeoTIFF images by --images"
        )
    found = {id: georeference(Path(labels.files[id])) for id in labels.images}
    if missing := [str(labels.files[id]) for id, place in found.items() if place is None]:
        raise Problems(
            "masks as a map; choose another format for images that lie on none",
            [f"{counted(len(missing), 'image')} without a georeference (GeoTIFF tags): {listed(missing)}"],
        )
    return {id: place for id, place in found.items() if place is not None}
