"""YOLO segmentation (Ultralytics): data.yaml with the names, `labels/**.txt` with a polygon a line, `images/` beside.

A line is `class x1 y1 x2 y2 ...` in shares of the width and height. Polygons are drawn in the order of the lines. The
names count from 0 without a background, which becomes class 0. A line with four numbers is a box and is left out. An
empty file says that nothing is there; an image without a file has no mask.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from stpp.common.errors import StppError, shortened
from stpp.importers import Export
from stpp.importers.drawing import in_px, polygon, ring_of
from stpp.importers.gathering import Area, Drawn, Notes, gathered
from stpp.importers.parsing import Mistakes, files_of, read_bytes
from stpp.importers.pictures import ImageFiles, size_of

NAMES = ("yolo",)
SUMMARY = "the folder of a YOLO segmentation data set, with data.yaml"
SIGNS = {".txt": (r"\A\d+( +-?\d+(\.\d+)?(e-?\d+)?){6,}\s*$",)}
IMAGES, LABELS = "images", "labels"


def find(source: Path, classes: Sequence[str] | None, images: Path | None = None) -> Export:
    """The images of all subsets. Raises Problems for broken lines, StppError where there are no labels or names."""
    if not source.is_dir():
        raise StppError(f"{source} is a file; give the folder that holds data.yaml, images/ and labels/")
    mistakes, notes = Mistakes(), Notes()
    names, read = _names(source, mistakes)
    pictures = ImageFiles(source, images)
    texts = {
        _name(path.relative_to(source)): path for path in files_of(source, f"{LABELS}/**/*.txt", "a YOLO data set")
    }
    known = {_name(Path(name)): name for name in pictures.names}
    drawn = []
    for name, path in texts.items():
        place = known.get(name, f"{IMAGES}/{name}")
        picture = pictures.find(place, mistakes, exact=pictures.own)
        if picture is not None and (size := size_of(picture, mistakes)) is not None:
            areas = _areas(path, size, names, mistakes, notes)
            drawn.append(Drawn(f"{name}{picture.suffix}", areas, size, saved=True, place=place))
    drawn += [Drawn(f"{name}{Path(file).suffix}", [], place=file) for name, file in known.items() if name not in texts]
    labels: dict[str, None] = dict.fromkeys(names.values())
    files = [*read, *texts.values()]
    return gathered(f"{source} as a YOLO data set", drawn, labels, classes, pictures, mistakes, notes, files)


def _name(path: Path) -> str:
    """What an image and its labels have in common: the path without the folder `images` or `labels` and the suffix."""
    return Path(*(part for part in path.with_suffix("").parts if part not in (IMAGES, LABELS))).as_posix()


def _names(source: Path, mistakes: Mistakes) -> tuple[dict[int, str], list[Path]]:
    """The names by number, and the files that say so."""
    for path in sorted(path for pattern in ("*.yaml", "*.yml") for path in source.glob(pattern)):
        try:
            content = yaml.safe_load((read_bytes(path, mistakes) or b"").decode())
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mistakes.add(f"not a YAML file ({shortened(str(error), 300)})", path)
            continue
        given = content.get("names") if isinstance(content, Mapping) else None
        pairs = dict(enumerate(given)) if isinstance(given, list) else given
        if isinstance(pairs, Mapping) and all(isinstance(key, int) and str(name) for key, name in pairs.items()):
            return {key: str(pairs[key]) for key in sorted(pairs)}, [path]
    mistakes.refuse(f"{source} as a YOLO data set")
    raise StppError(f"there is no data.yaml with `names` in {source}; give the folder of the whole YOLO data set")


def _areas(path: Path, size: tuple[int, int], names: Mapping[int, str], mistakes: Mistakes, notes: Notes) -> list[Area]:
    """The polygons of a file."""
    areas = []
    height, width = size
    try:
        lines = (read_bytes(path, mistakes) or b"").decode().splitlines()
    except UnicodeDecodeError:
        mistakes.add("not UTF-8 text", path)
        return []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if len(fields) == 5:
            notes.left_out["boxes, which are no polygons"] += 1
        elif fields:
            try:
                values = [float(value) for value in fields[1:]]
                ring = ring_of([in_px(value, (width, height)[place % 2]) for place, value in enumerate(values)])
                areas.append(Area(names[int(fields[0])], polygon([ring])))
            except (ValueError, ArithmeticError) as error:
                mistakes.add(f"a line is not a class with a polygon ({error})", f"{path}:{number}")
            except KeyError:
                mistakes.add(f"no name for class {fields[0]} in data.yaml", f"{path}:{number}")
    return areas
