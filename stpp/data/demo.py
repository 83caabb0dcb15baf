"""The demo data set: procedural scenes of textured, shaded, occluding shapes.

Every scene is a pure function of (seed, index). Only random bits, +, -, *, /, square roots and roundings are used (all
of them exact or correctly rounded under IEEE 754), so the pixels are the same on every machine.

What makes a scene worth a semi-supervised method: a class has a shape, a range of colours and nearly always one
texture, so that a few labels are enough to find most of it; but the background is full of pieces in the same colours
and textures, objects hide each other, and the light runs from clear to hazy, dim and noisy. The clear scenes are learnt
from a few labels, the others take many scenes. Nothing in a scene depends on the subset that it is in.
"""

import glob
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stpp.common.errors import StppError
from stpp.common.files import aside, remove_leftovers, sync
from stpp.data.shapes import CLUTTER, SHAPES, Plane, Shape, radius

CLASSES: list[str] = ["background", "disc", "ring", "square", "cross", "triangle", "star"]

# The colours of Okabe and Ito, told apart under the common colour vision deficiencies.
PALETTE: list[list[int]] = [
    [32, 32, 36],
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
]

SUBSETS: tuple[str, ...] = ("labeled", "unlabeled", "val", "test")
SETTINGS_FILE = "demo.json"
# Raised whenever the pixels of a scene change: an older folder is then not taken for the same data.
SCENES_VERSION = 1

Shade = NDArray[np.float64]


# --- colours and textures --------------------------------------------------------------------------------------------


def _hsv(hue: float, saturation: float, value: float) -> Shade:
    """An RGB colour, shape (3,), in [0, 1]; the hue is cyclic with period 1."""
    ramps = [abs((hue * 6 + shift) % 6 - 3) - 1 for shift in (0.0, 4.0, 2.0)]
    return np.array([value * (1 - saturation + saturation * min(max(ramp, 0.0), 1.0)) for ramp in ramps])


def _wave(x: Plane) -> Plane:
    """A triangle wave in [0, 1] with period 1, zero at the integers."""
    return np.abs(x - np.floor(x + 0.5)) * 2


def _step(x: Plane) -> Plane:
    """A softened threshold at 0.5, so that a texture does not alias."""
    return np.clip((x - 0.5) * 4 + 0.5, 0.0, 1.0)


def _texture(kind: int, u: Plane, v: Plane, frequency: float) -> Plane:
    """A pattern in [0, 1] of the kinds plain, rings, stripes, checks, dots and waves."""
    x, y = u * frequency, v * frequency
    if kind == 0:
        return np.zeros_like(u)
    if kind == 1:
        return _step(_wave(radius(x, y)))
    if kind == 2:
        return _step(_wave(x))
    if kind == 3:
        return _step(np.abs(_wave(x) + _wave(y) - 1.0) + 0.25)
    if kind == 4:
        return _step(_wave(x) * _wave(y) * 1.6)
    return _step(_wave(x + _wave(y * 0.5)))


def _noise(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Smooth noise in [0, 1]: a random grid of `cells` squares a side, interpolated bilinearly."""
    grid = rng.random((cells + 1, cells + 1))
    position = np.arange(size) * (cells / size)
    cell = position.astype(np.intp)
    part = position - cell
    rows = grid[cell] * (1 - part)[:, None] + grid[cell + 1] * part[:, None]
    return rows[:, cell] * (1 - part) + rows[:, cell + 1] * part


# --- one scene -------------------------------------------------------------------------------------------------------


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _direction(rng: np.random.Generator) -> tuple[float, float]:
    """A unit vector of any direction, by the rational parametrisation of the circle."""
    t = _between(rng, -1.0, 1.0)
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return sign * (1 - t * t) / (1 + t * t), sign * 2 * t / (1 + t * t)


class _Canvas:
    """A picture and its mask under construction; pieces are painted one over another.

    `light` is the unit vector away from the lamp. `unit` is the size in pixels of what is one pixel of a scene of 96.
    """

    def __init__(self, size: int, light: tuple[float, float]) -> None:
        self.size, self.light = size, light
        self.unit = size / 96
        self.picture = np.zeros((size, size, 3))
        self.mask = np.zeros((size, size), np.uint8)

    def paint(
        self,
        rng: np.random.Generator,
        shape: Shape,
        *,
        label: int,
        centre: tuple[float, float],
        radius: float,
        colours: tuple[Shade, Shade],
        texture: int,
        relief: float,
    ) -> None:
        """Draw one piece, turned and squeezed at random, and its shadow on what lies below.

        `centre` and `radius` in pixels; `relief` in [0, 1] is the strength of shading and shadow. `label` is a class.
        """
        unit, size = self.unit, self.size
        cos, sin = _direction(rng)
        squeeze = _between(rng, 0.72, 1.0)
        frequency = _between(rng, 1.6, 2.6)
        # Only the window that the piece and its shadow can reach is computed.
        reach = radius * 1.55 + 4 * unit
        top, left = max(int(centre[1] - reach), 0), max(int(centre[0] - reach), 0)
        bottom, right = min(int(centre[1] + reach) + 1, size), min(int(centre[0] + reach) + 1, size)
        if top >= bottom or left >= right:
            return
        window = (slice(top, bottom), slice(left, right))
        x = np.arange(left, right)[None, :] + 0.5 - centre[0]
        y = np.arange(top, bottom)[:, None] + 0.5 - centre[1]

        def local(dx: float, dy: float) -> tuple[Plane, Plane]:
            a, b = (x - dx) / radius, (y - dy) / radius
            return a * cos + b * sin, (b * cos - a * sin) / squeeze

        offset = 2.5 * unit * relief
        shadow = shape(*local(self.light[0] * offset, self.light[1] * offset)) * radius * squeeze
        u, v = local(0.0, 0.0)
        distance = shape(u, v) * radius * squeeze
        under = self.picture[window]
        under *= (1 - 0.45 * relief * np.clip(0.5 - shadow / (3 * unit), 0.0, 1.0))[..., None]
        pattern = _texture(texture, u, v, frequency)[..., None]
        surface = colours[0] * (1 - pattern) + colours[1] * pattern
        slope = (x * self.light[0] + y * self.light[1]) / radius
        rim = np.clip(1 + distance / (3.5 * unit), 0.0, 1.0)
        surface = surface * (1 - relief * (0.30 * slope + 0.25 * rim * rim))[..., None]
        cover = np.clip(0.5 - distance / unit, 0.0, 1.0)[..., None]
        under += (surface - under) * cover
        self.mask[window][distance < 0] = label


def _colours(rng: np.random.Generator, hue: float) -> tuple[Shade, Shade]:
    """The two colours of a texture: one hue, and a neighbour of it that is clearly lighter or darker."""
    saturation, value = _between(rng, 0.45, 0.95), _between(rng, 0.55, 1.0)
    second = value * _between(rng, 0.45, 0.65) if rng.random() < 0.5 else value * 0.35 + 0.65
    return _hsv(hue, saturation, value), _hsv(hue + _between(rng, -0.08, 0.08), saturation * 0.7, second)


def scene(seed: int, index: int, size: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Scene `index` of the endless series `seed`: (image (S, S, 3) RGB, mask (S, S) of classes 0..6), both uint8.

    A pure function of its arguments; larger sizes show the same kind of scene in more detail.
    """
    rng = np.random.default_rng([seed, index])
    canvas = _Canvas(size, _direction(rng))
    unit = canvas.unit
    difficulty = float(rng.random())

    # Ground: two muted colours mixed by soft noise.
    mix = (0.65 * _noise(rng, size, 3) + 0.35 * _noise(rng, size, 12))[..., None]
    ground = [_hsv(float(rng.random()), _between(rng, 0.05, 0.35), _between(rng, 0.25, 0.8)) for _ in range(2)]
    canvas.picture[:] = ground[0] * (1 - mix) + ground[1] * mix

    # Clutter: pieces of no class, in the colours and textures of the classes.
    for _ in range(6 + int(rng.random() * 6)):
        centre = (_between(rng, 0, size), _between(rng, 0, size))
        canvas.paint(
            rng,
            CLUTTER[int(rng.random() * len(CLUTTER))],
            label=0,
            centre=centre,
            radius=_between(rng, 5, 13) * unit,
            colours=_colours(rng, float(rng.random())),
            texture=int(rng.random() * 6),
            relief=_between(rng, 0.2, 0.8),
        )

    # Objects: the shape is the class, the colour lies near its own, and the texture is nearly always its own.
    for _ in range(3 + int(rng.random() * 5)):
        kind = int(rng.random() * len(SHAPES))
        hue = kind / 6 + _between(rng, -0.04, 0.04) + _between(rng, -0.03, 0.03)
        texture = kind if rng.random() < 0.97 else int(rng.random() * 6)
        centre = (_between(rng, 0.06, 0.94) * size, _between(rng, 0.06, 0.94) * size)
        canvas.paint(
            rng,
            SHAPES[kind],
            label=kind + 1,
            centre=centre,
            radius=_between(rng, 13, 28) * unit,
            colours=_colours(rng, hue),
            texture=texture,
            relief=_between(rng, 0.6, 1.0),
        )

    # Weather: haze, exposure, a cast of the light, and grain.
    haze = 0.6 * difficulty * _between(rng, 0.3, 1.0) * (0.5 + 0.5 * _noise(rng, size, 2))[..., None]
    fog = _hsv(float(rng.random()), 0.15, _between(rng, 0.55, 0.9))
    picture = canvas.picture * (1 - haze) + fog * haze
    picture = picture * (1 - 0.5 * difficulty * float(rng.random())) * (1 - 0.25 * difficulty * rng.random(3))
    grain = rng.random((size, size, 3)) + rng.random((size, size, 3)) - 1
    picture = picture + grain * (0.02 + 0.10 * difficulty * float(rng.random()))
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), canvas.mask


# --- the data set ----------------------------------------------------------------------------------------------------


def generate(root: Path, *, drawn: Path | None = None, **settings: int) -> None:
    """Have the data set that `draw_scenes` makes of these settings in `root`.

    The folder appears whole or not at all; it is a copy of `drawn` where that is given. One that was made with the same
    settings is left as it is. Raises StppError if `root` exists and was made with other settings, or is something else.
    """
    if is_there(root, **settings):
        return
    remove_leftovers(root.parent, f"{glob.escape(root.name)}.*")
    temporary = aside(root)
    try:
        if drawn is not None:
            shutil.copytree(drawn, temporary)
        else:
            draw_scenes(temporary, **settings)
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        try:
            temporary.rename(root)
            sync(root.parent)
        except OSError:
            # Another process may have been faster with the same scenes.
            if not is_there(root, **settings):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def draw_scenes(folder: Path, *, labeled: int, unlabeled: int, val: int, test: int, seed: int) -> None:
    """Write the data set: `images/`, `masks/` (palette PNG), a list `SUBSET.txt` for each subset, `classes.txt`.

    The lists say `image mask` a line, relative to `folder`; unlabeled images come with masks too, for measuring only.
    Each subset has scenes of its own: a larger one keeps those of a smaller, and leaves the other subsets alone.
    """
    counts = dict(zip(SUBSETS, (labeled, unlabeled, val, test)))
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for subset, count in counts.items():
        names = [f"{subset}-{index:05d}.png" for index in range(count)]
        for index, name in enumerate(names):
            image, mask = scene(seed, _index(subset, index))
            Image.fromarray(image).save(folder / "images" / name)
            _palette_image(mask).save(folder / "masks" / name)
        _write(folder / f"{subset}.txt", [f"images/{name} masks/{name}" for name in names])
    colours = ["#" + bytes(colour).hex() for colour in PALETTE]
    _write(folder / "classes.txt", [f"{name} {colour}" for name, colour in zip(CLASSES, colours)])
    _write(folder / SETTINGS_FILE, [json.dumps(_settings(seed, counts))])


def _index(subset: str, index: int) -> int:
    """The scene of a subset's n-th image: each subset has a million scenes to itself."""
    return SUBSETS.index(subset) * 1_000_000 + index


def _settings(seed: int, counts: Mapping[str, int]) -> dict[str, int]:
    return {"scenes": SCENES_VERSION, "seed": seed, **counts}


def is_there(root: Path, *, seed: int, **counts: int) -> bool:
    """Whether `root` holds the scenes of these settings; False if there is nothing yet; else StppError."""
    settings = _settings(seed, counts)
    record = root / SETTINGS_FILE
    if not record.is_file():
        if root.exists() and not (root.is_dir() and not any(root.iterdir())):
            raise StppError(
                f"{root} exists and holds something other than demo scenes; remove it, or choose another root for them"
            )
        return False
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        found = "unreadable"
    if found != settings:
        raise StppError(
            f"{root} holds demo scenes made with other settings ({record}: {json.dumps(found)}; "
            f"expected {json.dumps(settings)}); remove that folder, or choose another root"
        )
    return True


def _write(path: Path, lines: list[str]) -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def _palette_image(mask: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(mask)
    image.putpalette([value for colour in PALETTE for value in colour])
    return image


# --- the preview -----------------------------------------------------------------------------------------------------


def preview_sheet(out: Path, *, seed: int = 0, columns: int = 8, rows: int = 4, size: int = 96) -> None:
    """Draw the first columns x rows labeled scenes of `seed` beside their masks, over a legend of the classes, as PNG.

    The picture is columns * (2 * size + gap) + gap wide, gap = size // 16; the legend adds size // 3 to its height.
    """
    gap, legend = size // 16, size // 3
    cell = 2 * size + gap
    width, height = columns * cell + gap, rows * (size + gap) + gap
    sheet = Image.new("RGB", (width, height + legend), (250, 250, 248))
    for place in range(columns * rows):
        image, mask = scene(seed, _index("labeled", place), size)
        x, y = gap + place % columns * cell, gap + place // columns * (size + gap)
        sheet.paste(Image.fromarray(image), (x, y))
        sheet.paste(_palette_image(mask).convert("RGB"), (x + size, y))
    draw = ImageDraw.Draw(sheet)
    step, box = (width - gap) // len(CLASSES), legend // 2
    font = ImageFont.load_default(min(box, max(step // 8, 6)))
    for class_, (name, colour) in enumerate(zip(CLASSES, PALETTE)):
        x = gap + class_ * step
        draw.rectangle((x, height, x + box, height + box), fill=(colour[0], colour[1], colour[2]))
        draw.text((x + box + gap, height + box / 2), name, fill=(40, 40, 44), font=font, anchor="lm")
    sheet.save(out, format="PNG")
