"""The weak and strong augmentations: their laws, their pixels, what happens to the mask, and their randomness."""

import itertools
import math
import os
import random
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as reference

from stpp.common.errors import StppError
from stpp.data import strong
from stpp.data.augmentation import (
    augment,
    crop_box,
    flip,
    nearest,
    rare_box,
    rescale_size,
    rescaled_crop,
    sample_rng,
)
from stpp.data.strong import (
    OPERATIONS,
    adjust,
    colour_jitter,
    cutout,
    cutout_box,
    draw_jitter,
    gaussian_blur,
    operation,
    random_operations,
    to_grayscale,
)

JITTER = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.25}
BOX = {"area": [0.02, 0.4], "ratio": [0.3, 1 / 0.3]}
WEAK = {"scale": [0.5, 2.0], "flip": 0.5}
STRONG = WEAK | {
    "jitter": {"p": 0.8} | JITTER,
    "grayscale": {"p": 0.2},
    "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
    "cutout": {"p": 0.5, "fill": "random"} | BOX,
}


def streams(part: str, count: int) -> list[np.random.Generator]:
    """The generators of `count` samples, as training uses them."""
    return [sample_rng(0, "student", 1, index, part) for index in range(count)]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def classes(height: int, width: int, seed: int = 0, count: int = 21) -> np.ndarray:
    return np.random.default_rng(seed).integers(count, size=(height, width), dtype=np.uint8)


def run(image, mask, settings, *, crop, base_size, index=0, epoch=0, role="student", seed=0):
    place = {"seed": seed, "role": role, "epoch": epoch, "index": index}
    ((pixels, labels),) = augment(image, mask, settings, crop=crop, base_size=base_size, **place)
    return pixels, labels


def distance(sample, reference) -> float:
    """Kolmogorov-Smirnov: the largest difference of the two empirical distribution functions."""
    sample, reference = np.sort(sample), np.sort(reference)
    points = np.concatenate([sample, reference])
    below = [np.searchsorted(values, points, side="right") / len(values) for values in (sample, reference)]
    return float(np.abs(below[0] - below[1]).max())


def agree(sample, reference) -> bool:
    """Not distinguishable at the level 0.001, for samples of any sizes."""
    return distance(sample, reference) < 1.95 * math.sqrt(1 / len(sample) + 1 / len(reference))


def looks_uniform(values, support) -> bool:
    """Chi-square at about the level 0.0001; False if a value lies outside of `support`."""
    counts, support = Counter(values), list(support)
    expected = len(values) / len(support)
    chi_square = sum((counts[value] - expected) ** 2 / expected for value in support)
    freedom = len(support) - 1
    return set(counts) <= set(support) and chi_square < freedom + 4 * math.sqrt(2 * freedom) + 8


def rate_agrees(hits: int, count: int, p: float) -> bool:
    return abs(hits - count * p) < 4 * math.sqrt(count * p * (1 - p))


# Random streams


def test_stream_is_the_same_in_every_process():
    code = "from stpp.data.augmentation import sample_rng as r; print(r(3, 'student', 5, 7, 'blur').integers(2**62))"
    here = int(sample_rng(3, "student", 5, 7, "blur").integers(2**62))
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert int(other.stdout) == here


def test_stream_bits_stay_those_of_the_first_release():
    assert sample_rng(0, "student", 1, 2, "crop").bit_generator.random_raw() == 8242603247864327039


def test_every_argument_changes_the_stream():
    changed = [
        (0, "student", 0, 0, "crop"),
        (1, "student", 0, 0, "crop"),
        (0, "teacher", 0, 0, "crop"),
        (0, "student", 1, 0, "crop"),
        (0, "student", 0, 1, "crop"),
        (0, "student", 0, 0, "flip"),
    ]
    assert len({sample_rng(*arguments).random() for arguments in changed}) == len(changed)


# Rescale


def test_long_side_is_a_uniform_integer_with_both_ends():
    def sides(scale, base_size, count):
        rngs = streams("scale", count)
        return [rescale_size((5, 9), rng, scale=scale, base_size=base_size)[0] for rng in rngs]

    # int(0.5 * 7) = 3 and int(2.0 * 7) = 14; the tempting alternative, a uniform real rounded down, loses the 14.
    assert looks_uniform(sides([0.5, 2.0], 7, 6000), range(3, 15))
    generator = random.Random(1)
    assert not looks_uniform([int(generator.uniform(3, 14)) for _ in range(6000)], range(3, 15))
    assert not looks_uniform(
        [min(14, round(math.exp(generator.uniform(1.1, 2.65)))) for _ in range(6000)], range(3, 15)
    )

    paper = sides([0.5, 2.0], 400, 12000)
    assert (min(paper), max(paper)) == (200, 800)
    assert agree(paper, [generator.randint(200, 800) for _ in range(100_000)])


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 3000))
@example(4, 3, 2)  # 1.5
@example(5, 2, 400)  # exact
def test_short_side_keeps_the_aspect_rounded_half_up(width, height, base_size):
    new_width, new_height = rescale_size((height, width), np.random.default_rng(0), scale=None, base_size=base_size)
    exact = Fraction(min(width, height) * base_size, max(width, height))
    assert max(new_width, new_height) == base_size
    assert min(new_width, new_height) == max(1, math.floor(exact + Fraction(1, 2)))
    assert (new_width >= new_height) if width >= height else (new_width <= new_height)


@given(st.tuples(*[st.integers(1, 200)] * 4))
def test_every_mask_pixel_comes_from_a_nearest_pixel(sizes):
    width, height, new_width, new_height = sizes
    for axis, old, new in ((0, height, new_height), (1, width, new_width)):
        position = np.arange(old, dtype=np.uint8)
        moved = position[nearest(old, new)]
        assert moved.shape == (new,)
        away = np.abs(moved + 0.5 - (np.arange(new) + 0.5) * old / new)
        assert away.max() <= 0.5 + 1e-9  # half a pixel: the edge between two, which are then equally near
        shape = (new, 1) if axis == 0 else (1, new)
        whole = Image.fromarray(position[:, None] if axis == 0 else position[None]).resize(shape[::-1], Image.NEAREST)
        assert (moved == np.asarray(whole).ravel()).all()


def triangle_weights(old: int, new: int) -> np.ndarray:
    """Rows of weights of a linear interpolation that widens to cover all old pixels when it shrinks."""
    support = max(1.0, old / new)
    away = np.abs((np.arange(new)[:, None] + 0.5) * old / new - (np.arange(old) + 0.5))
    weights = np.clip(1 - away / support, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(10, 6), (23, 31), (60, 44)])
def test_image_is_bilinear_and_antialiased(size):
    image = noise(22, 30)
    moved, _ = rescaled_crop(image, classes(22, 30), size, (0, 0, *size), crop=max(size))
    moved = moved[: size[1], : size[0]]
    rows, columns = triangle_weights(22, size[1]), triangle_weights(30, size[0])
    expected = np.einsum("yh,hwc,xw->yxc", rows, np.asarray(image, dtype=float), columns)
    assert np.abs(moved - expected).max() <= 1.01  # rounded to bytes between the two directions and after


@example((76, 70), (76, 70), 30, 0)
@given(
    st.tuples(*[st.integers(1, 90)] * 2), st.tuples(*[st.integers(1, 200)] * 2), st.integers(1, 80), st.integers(0, 99)
)
def test_a_crop_is_cut_out_of_the_resized_whole(shape, size, crop, seed):
    image, mask = noise(*shape), classes(*shape)
    box = crop_box(size, np.random.default_rng(seed), crop=crop)
    window, window_mask = rescaled_crop(image, mask, size, box, crop=crop)
    whole = np.asarray(Image.fromarray(image).resize(size, Image.BILINEAR).crop(box)).astype(int)
    inside = np.s_[: box[3] - box[1], : box[2] - box[0]]
    assert np.abs(window[inside] - whole).max() <= 2  # each is rounded twice, so within 1 of what is exact
    assert (window_mask[inside] == np.asarray(Image.fromarray(mask).resize(size, Image.NEAREST).crop(box))).all()


# Crop and flip


def cropped(image, mask, rng, *, crop):
    """A random crop of image and mask as they are."""
    size = mask.shape[::-1]
    return rescaled_crop(image, mask, size, crop_box(size, rng, crop=crop), crop=crop)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixels say where they are: red = column + 1, green = row + 1."""
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    return np.dstack([columns, rows, rows * 0]).astype(np.uint8)


def test_every_crop_position_is_equally_likely():
    image, mask = coordinates(11, 13), classes(11, 13)
    corners = []
    for rng in streams("crop", 4000):
        window, window_mask = cropped(image, mask, rng, crop=8)
        left, top = (int(value) - 1 for value in window[0, 0, :2])
        corners.append((top, left))
        assert (window_mask == mask[top : top + 8, left : left + 8]).all()
    assert looks_uniform(corners, itertools.product(range(4), range(6)))


def test_a_rare_crop_draws_a_class_then_a_pixel_then_a_place():
    mask = np.zeros((6, 9), np.uint8)
    mask[:, 6:] = 255
    mask[2, 3], mask[5, 0] = 3, 1
    boxes = [rare_box(mask, (9, 6), (7, 8, 9, 10), rng, crop=4, p=1) for rng in streams("rare_crop", 6000)]
    # Class 3 leaves boxes at columns 0 to 3 and rows 0 to 2, class 1 only the one at column 0 and row 2.
    expected = Counter()
    for c in (0, 1, 3):
        places = np.argwhere(mask == c)
        for y, x in places:
            lefts = [left for left in range(6) if left <= x < left + 4]
            tops = [top for top in range(3) if top <= y < top + 4]
            for left, top in itertools.product(lefts, tops):
                expected[left, top, left + 4, top + 4] += Fraction(1, 3 * len(places) * len(lefts) * len(tops))
    assert sum(expected.values()) == 1
    found = Counter(boxes)
    assert set(found) == set(expected)
    assert all(rate_agrees(found[box], len(boxes), float(expected[box])) for box in expected)
    planes = np.dstack([mask, np.full_like(mask, 2)])
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    box = rare_box(planes, (9, 6), (0, 0, 0, 0), rng, crop=4, p=1)
    assert box == rare_box(mask, (9, 6), (0, 0, 0, 0), same, crop=4, p=1)


def test_a_rare_crop_happens_at_its_rate_and_needs_a_label():
    mask, box = np.eye(30, dtype=np.uint8), (1, 2, 9, 10)
    made = [rare_box(mask, (30, 30), box, rng, crop=8, p=0.3) for rng in streams("rare_crop", 1000)]
    assert rate_agrees(sum(one != box for one in made), 1000, 0.3 * 0.995)
    assert rare_box(np.full((5, 5), 255, np.uint8), (5, 5), box, np.random.default_rng(0), crop=8, p=1) == box


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40), st.integers(30, 90), st.integers(0, 9))
def test_a_rare_crop_of_an_enlarged_image_has_the_class(height, width, crop, base_size, index):
    mask = np.full((height, width), 255, np.uint8)
    mask[index % height, index % width] = 7
    window = run(noise(height, width), mask, {"rare_crop": 1.0}, crop=crop, base_size=base_size, index=index)[1]
    assert (window == 7).any()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_padding_goes_right_and_below(height, width, crop, seed):
    image, mask = coordinates(height, width), classes(height, width)
    window, window_mask = cropped(image, mask, np.random.default_rng(seed), crop=crop)
    pixels = window
    assert pixels.shape == (crop, crop, 3) and window_mask.shape == (crop, crop)
    inside_height, inside_width = min(height, crop), min(width, crop)
    left, top = (int(value) - 1 for value in pixels[0, 0, :2])
    inside = np.s_[:inside_height, :inside_width]
    source = np.s_[top : top + inside_height, left : left + inside_width]
    assert (pixels[inside] == image[source]).all()
    assert (window_mask[inside] == mask[source]).all()
    assert pixels.sum() == pixels[inside].sum()
    padding = np.ones((crop, crop), dtype=bool)
    padding[inside] = False
    assert (window_mask[padding] == 255).all()


def test_row_of_the_crop_does_not_depend_on_a_choice_of_columns():
    for index in range(20):
        rows = set()
        for width in (5, 8, 9, 30):
            rng = sample_rng(0, "student", 0, index, "crop")
            window, _ = cropped(coordinates(40, width), classes(40, width), rng, crop=8)
            rows.add(window[0, 0, 1])
        assert len(rows) == 1


def test_flip_mirrors_image_and_mask_at_its_rate():
    image, mask = coordinates(3, 5), classes(3, 5)
    for p in (0.0, 0.2, 0.5, 1.0):
        flips = 0
        for rng in streams("flip", 2000):
            new_image, new_mask = flip(image, mask, rng, p=p)
            flipped = new_image[0, 0, 0] == 5
            step = -1 if flipped else 1
            assert (new_image == image[:, ::step]).all()
            assert (new_mask == mask[:, ::step]).all()
            flips += flipped
        assert rate_agrees(flips, 2000, p) or flips == 2000 * p


# Colour


def test_jitter_factors_are_uniform_and_orders_equally_likely():
    strengths = {"brightness": 0.5, "contrast": 1.7, "saturation": 0.2, "hue": 0.25}
    drawn = [draw_jitter(rng, **strengths) for rng in streams("jitter", 5000)]
    bounds = {"brightness": (0.5, 1.5), "contrast": (0.0, 2.7), "saturation": (0.8, 1.2), "hue": (-0.25, 0.25)}
    generator = random.Random(2)
    factors = {name: [dict(draw)[name] for draw in drawn] for name in bounds}
    for name, (low, high) in bounds.items():
        assert low <= min(factors[name]) and max(factors[name]) <= high
        assert agree(factors[name], [generator.uniform(low, high) for _ in range(100_000)])
        assert not agree(factors[name], [generator.triangular(low, high) for _ in range(100_000)])
    pairs = itertools.combinations(factors.values(), 2)
    assert max(abs(np.corrcoef(*pair)[0, 1]) for pair in pairs) < 0.06
    assert looks_uniform([tuple(name for name, _ in draw) for draw in drawn], itertools.permutations(bounds))


@pytest.mark.parametrize("name", list(JITTER))
def test_a_strength_of_zero_leaves_out_one_adjustment_and_no_other(name):
    for rng, again in zip(streams("jitter", 50), streams("jitter", 50)):
        everything = draw_jitter(rng, **JITTER)
        assert draw_jitter(again, **JITTER | {name: 0}) == [pair for pair in everything if pair[0] != name]


@given(st.sampled_from(list(JITTER)), st.floats(0, 1), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_adjustments_equal_those_of_torchvision(name, share, height, width, seed):
    factor = share - 0.5 if name == "hue" else 2.5 * share
    image = Image.fromarray(noise(height, width, seed))
    expected = getattr(reference, f"adjust_{name}")(image, factor)
    assert adjust(image, name, factor).tobytes() == expected.tobytes()


def test_unknown_adjustment_is_refused():
    with pytest.raises(ValueError, match="gamma"):
        adjust(Image.fromarray(noise(2, 2)), "gamma", 1.0)


@pytest.mark.parametrize("strengths", [JITTER, JITTER | {"hue": 0.0}, JITTER | {"brightness": 0.0, "contrast": 2.0}])
def test_jitter_equals_torchvision_given_the_same_factors(strengths, monkeypatch):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rng.random()  # whether to jitter
        drawn = dict(draw_jitter(rng, **strengths))
        order = [list(strengths).index(name) for name in drawn]
        parameters = (order, *(drawn.get(name) for name in strengths))
        monkeypatch.setattr(ColorJitter, "get_params", lambda *_, parameters=parameters: parameters)
        image = Image.fromarray(noise(17, 23, seed))
        jittered = colour_jitter(image, np.random.default_rng(seed), p=1.0, **strengths)
        assert jittered.tobytes() == ColorJitter(**strengths)(image).tobytes()


def test_grayscale_equals_torchvision():
    image = Image.fromarray(noise(17, 23))
    gray = to_grayscale(image, np.random.default_rng(0), p=1.0)
    assert gray.mode == "L"
    assert gray.convert("RGB").tobytes() == reference.to_grayscale(image, 3).tobytes()


def test_operations_are_those_of_augseg():
    image = Image.fromarray(noise(17, 23))
    kept = {name: np.asarray(operation(image, name, 0.6, False)).astype(int) for name in OPERATIONS}
    given = np.asarray(image).astype(int)
    assert np.array_equal(kept["identity"], given)
    assert np.array_equal(kept["posterize"], given // 8 * 8), "5 bits of 8"
    assert np.array_equal(kept["solarize"], np.where(given < 256 - 153, given, 255 - given))
    for name, enhance in (
        ("contrast", "Contrast"),
        ("brightness", "Brightness"),
        ("colour", "Color"),
        ("sharpness", "Sharpness"),
    ):
        expected = np.asarray(getattr(ImageEnhance, enhance)(image).enhance(0.95 - 0.9 * 0.6))
        assert np.array_equal(kept[name], expected) and not np.array_equal(kept[name], given)
    for name in ("autocontrast", "equalize"):
        assert np.array_equal(kept[name], np.asarray(getattr(ImageOps, name)(image)))
    assert np.array_equal(kept["blur"], np.asarray(image.filter(ImageFilter.GaussianBlur(1.24))))
    for negative in (False, True):
        turned = np.asarray(image.convert("HSV")).copy()
        turned[..., 0] += np.uint8((-76 if negative else 76) % 256)
        expected = np.asarray(Image.fromarray(turned, "HSV").convert("RGB"))
        assert np.array_equal(np.asarray(operation(image, "hue", 0.6, negative)), expected)


def test_one_to_so_many_operations_are_drawn_uniformly_with_replacement(monkeypatch):
    drawn = []
    monkeypatch.setattr(strong, "operation", lambda image, name, strength, negative: drawn[-1].append(name) or image)
    for rng in streams("operations", 3000):
        drawn.append([])
        random_operations(Image.new("RGB", (4, 4)), rng, most=3)
    lengths, names = Counter(map(len, drawn)), Counter(itertools.chain(*drawn))
    assert set(lengths) == {1, 2, 3} and max(lengths.values()) < 1100
    assert set(names) == set(OPERATIONS) and max(names.values()) < 1.2 * min(names.values())
    assert any(len(set(each)) < len(each) for each in drawn)


def test_operations_come_first_and_have_draws_of_their_own():
    image, mask = noise(40, 40), classes(40, 40)
    plain, _ = run(image, mask, {"operations": {"most": 3}}, crop=40, base_size=40)
    assert not np.array_equal(plain, image)
    both, _ = run(image, mask, {"operations": {"most": 3}, "grayscale": {"p": 1.0}}, crop=40, base_size=40)
    assert np.array_equal(both, np.asarray(Image.fromarray(plain).convert("L").convert("RGB")))


def test_sigma_of_the_blur_is_uniform(monkeypatch):
    sigmas = []
    real = ImageFilter.GaussianBlur
    monkeypatch.setattr(strong.ImageFilter, "GaussianBlur", lambda radius: sigmas.append(radius) or real(radius))
    for rng in streams("blur", 4000):
        gaussian_blur(Image.new("RGB", (1, 1)), rng, p=1.0, sigma=[0.1, 2.0])
    generator = random.Random(3)
    assert agree(sigmas, [generator.uniform(0.1, 2.0) for _ in range(100_000)])
    assert not agree(sigmas, [math.exp(generator.uniform(math.log(0.1), math.log(2.0))) for _ in range(100_000)])


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 5), st.booleans())
def test_blur_equals_pillows_of_the_whole_image(height, width, sigma, gray):
    image = Image.fromarray(noise(height, width, 7)).convert("L" if gray else "RGB")
    blurred = gaussian_blur(image, np.random.default_rng(0), p=1.0, sigma=[sigma, sigma])
    whole = image.convert("RGB").filter(ImageFilter.GaussianBlur(sigma))
    assert blurred.mode == image.mode and blurred.convert("RGB").tobytes() == whole.tobytes()


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_blur_spreads_a_line_by_sigma(sigma):
    pixels = np.zeros((5, 41, 3), dtype=np.uint8)
    pixels[:, 20] = 255
    blurred = gaussian_blur(Image.fromarray(pixels), np.random.default_rng(0), p=1.0, sigma=[sigma, sigma])
    profile = np.asarray(blurred)[2, :, 0].astype(float)
    variance = (profile * (np.arange(41) - 20) ** 2).sum() / profile.sum()
    assert variance == pytest.approx(sigma**2, rel=0.06)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.8, 1.0])
def test_strong_parts_happen_at_their_rates(p):
    image, pixels, mask = Image.fromarray(noise(6, 6)), noise(6, 6), classes(6, 6)
    box = {"area": [0.3, 0.4], "ratio": [1, 1], "fill": 0}
    parts = {
        "jitter": lambda rng: colour_jitter(image, rng, p=p, **JITTER) is not image,
        "grayscale": lambda rng: to_grayscale(image, rng, p=p) is not image,
        "blur": lambda rng: gaussian_blur(image, rng, p=p, sigma=[1, 2]) is not image,
        "cutout": lambda rng: cutout(pixels, mask, rng, p=p, **box)[1] is not mask,
    }
    for part, happens in parts.items():
        hits = sum(happens(rng) for rng in streams(part, 1000))
        assert rate_agrees(hits, 1000, p) or hits == 1000 * p


# CutOut


def simulated_boxes(height=321, width=321, *, count=400_000, log_ratio=False, reject=True) -> np.ndarray:
    """The law of CutOut boxes with the paper's settings, many at once; columns top, left, height, width."""
    generator = np.random.default_rng(99)
    area = generator.uniform(0.02, 0.4, count) * height * width
    edges = np.array([0.3, 1 / 0.3])
    ratio = np.exp(generator.uniform(*np.log(edges), count)) if log_ratio else generator.uniform(*edges, count)
    sides = np.floor(np.sqrt([area * ratio, area / ratio])).T
    corner = np.column_stack([generator.integers(height, size=count), generator.integers(width, size=count)])
    fits = (corner + sides <= [height, width]).all(axis=1)
    return np.hstack([corner, sides])[fits if reject else slice(None)]


def shares_and_ratios(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return boxes[:, 2] * boxes[:, 3] / 321**2, boxes[:, 2] / boxes[:, 3]


@pytest.mark.parametrize("shape", [(321, 321), (5, 8), (9, 4)])
def test_boxes_follow_the_simulated_law(shape):
    # In a tiny image the rounding of the sides and the last corner that fits decide much.
    boxes = np.array([cutout_box(*shape, rng, **BOX) for rng in streams("cutout", 6000)])
    law = simulated_boxes(*shape)
    assert all(agree(boxes[:, column], law[:, column]) for column in range(4))


def test_box_areas_and_ratios_are_those_of_the_paper():
    boxes = np.array([cutout_box(321, 321, rng, **BOX) for rng in streams("cutout", 8000)])
    law = simulated_boxes()
    share, ratio = shares_and_ratios(boxes)
    law_share, law_ratio = shares_and_ratios(law)
    assert agree(share, law_share) and agree(ratio, law_ratio)
    assert share.mean() == pytest.approx(0.142, abs=0.004)
    assert (share > 0.3).mean() == pytest.approx(0.085, abs=0.01)

    # The same comparison tells the likely mistakes apart.
    assert not agree(ratio, shares_and_ratios(simulated_boxes(log_ratio=True))[1])
    assert not agree(share, shares_and_ratios(simulated_boxes(reject=False))[0])
    assert not agree(boxes[:, 0], simulated_boxes(reject=False)[:, 0])
    assert not agree(1 / ratio, law_ratio)


def test_cutout_erases_one_box_of_image_and_mask():
    pixels, mask = noise(40, 40), classes(40, 40)
    before = pixels.copy(), mask.copy()
    for fill in ("random", 7):
        for rng in streams("cutout", 30):
            new_pixels, new_mask = cutout(pixels, mask, rng, p=1.0, fill=fill, **BOX)
            rows, columns = np.nonzero(new_mask == 255)
            box = np.zeros((40, 40), dtype=bool)
            box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
            assert (new_mask[box] == 255).all()
            assert (new_mask[~box] == mask[~box]).all()
            assert (new_pixels[~box] == pixels[~box]).all()
            assert fill == "random" or (new_pixels[box] == fill).all()
    assert (pixels == before[0]).all() and (mask == before[1]).all()


def test_random_fill_is_uniform_from_0_to_254_in_every_channel():
    pixels, mask = np.full((400, 400, 3), 255, dtype=np.uint8), np.zeros((400, 400), dtype=np.uint8)
    rng = np.random.default_rng(0)
    new_pixels, new_mask = cutout(pixels, mask, rng, p=1.0, area=[0.3, 0.3], ratio=[1, 1], fill="random")
    filled = new_pixels[new_mask == 255].astype(int)
    assert all(looks_uniform(channel.tolist(), range(255)) for channel in filled.T)
    assert np.abs(np.corrcoef(filled.T) - np.eye(3)).max() < 0.02
    assert np.abs(np.corrcoef(filled[1:, 0], filled[:-1, 0])[0, 1]) < 0.02


def test_boxes_that_cannot_fit_are_refused_with_advice():
    with pytest.raises(StppError, match=r"fits in a crop of 32 x 32. Lower the area"):
        cutout_box(32, 32, np.random.default_rng(0), area=[0.9, 0.9], ratio=[3, 3])


# All parts together


def test_all_off_leaves_an_image_of_crop_size_unchanged():
    image, mask = noise(32, 32), classes(32, 32)
    off = dict.fromkeys(STRONG) | {"flip": 0}
    for settings in (off, {}):
        pixels, new_mask = run(image, mask, settings, crop=32, base_size=32)
        assert (pixels == np.asarray(image)).all() and (new_mask == mask).all()
        assert not np.shares_memory(new_mask, mask)


def test_a_sample_is_a_function_of_seed_role_epoch_and_index():
    image, mask = noise(50, 70), classes(50, 70)
    places = [{}, {"seed": 1}, {"role": "teacher"}, {"epoch": 1}, {"index": 1}]
    samples = [run(image, mask, STRONG, crop=40, base_size=70, **place) for place in places]
    for (pixels, new_mask), place in zip(samples, places):
        again = run(image, mask, STRONG, crop=40, base_size=70, **place)
        assert (pixels == again[0]).all() and (new_mask == again[1]).all()
    assert len({pixels.tobytes() for pixels, _ in samples}) == len(places)
    assert len({new_mask.tobytes() for _, new_mask in samples}) == len(places)


def test_parts_run_in_the_order_of_the_paper():
    image, mask = noise(50, 70), classes(50, 70)
    certain = STRONG | {name: STRONG[name] | {"p": 1.0} for name in ("jitter", "grayscale", "blur", "cutout")}
    for index in range(8):
        rng = {name: sample_rng(0, "student", 0, index, name) for name in certain | {"crop": None}}
        size = rescale_size(mask.shape, rng["scale"], scale=[0.5, 2.0], base_size=70)
        box = crop_box(size, rng["crop"], crop=40)
        step_image, step_mask = rescaled_crop(image, mask, size, box, crop=40)
        step_image, step_mask = flip(step_image, step_mask, rng["flip"], p=0.5)
        step_image = colour_jitter(Image.fromarray(step_image), rng["jitter"], **certain["jitter"])
        step_image = to_grayscale(step_image, rng["grayscale"], **certain["grayscale"]).convert("RGB")
        step_image = gaussian_blur(step_image, rng["blur"], **certain["blur"])
        expected = cutout(np.asarray(step_image), step_mask, rng["cutout"], **certain["cutout"])
        sample = run(image, mask, certain, crop=40, base_size=70, index=index)
        assert all((one == other).all() for one, other in zip(sample, expected))


@pytest.mark.parametrize("scale", [None, [0.5, 2.0]])
def test_image_and_mask_stay_aligned(scale):
    mask = classes(12, 16, count=2).repeat(8, axis=0).repeat(8, axis=1)
    image = np.repeat(mask[..., None] * 255, 3, axis=2)
    settings = {"scale": scale, "flip": 0.5, "cutout": STRONG["cutout"]}
    for index in range(20):
        pixels, new_mask = run(image, mask, settings, crop=64, base_size=128, index=index)
        # A pixel exactly on an edge is half black, half white.
        known = (new_mask != 255) & ~np.isin(pixels[..., 0], [127, 128])
        wrong = (pixels[..., 0] > 127)[known] != new_mask[known]
        # Interpolation blurs edges by a fraction of a pixel; a shift by one would be wrong at 3 % or more.
        assert wrong.mean() <= (0 if scale is None else 0.02)


def test_colour_parts_leave_the_mask_alone():
    image, mask = noise(50, 70), classes(50, 70)
    for index in range(20):
        plain = run(image, mask, WEAK, crop=40, base_size=70, index=index)[1]
        coloured = run(image, mask, STRONG | {"cutout": None}, crop=40, base_size=70, index=index)[1]
        assert (plain == coloured).all()


def test_a_part_that_is_off_changes_no_draw_of_another():
    image, mask = noise(96, 96), np.zeros((96, 96), dtype=np.uint8)

    def outcomes(settings, index):
        """What can be seen of the draws of flip, grayscale and CutOut; no padding occurs."""
        pixels, new_mask = run(image, mask, settings, crop=48, base_size=96, index=index)
        kept = new_mask == 0
        gray = (pixels[kept] == pixels[kept][:, :1]).all()
        return {"grayscale": bool(gray), "cutout": new_mask.tobytes()}

    settings = STRONG | {"grayscale": {"p": 0.5}}
    for index in range(12):
        everything = outcomes(settings, index)
        for part in settings:
            without = outcomes(settings | {part: None}, index)
            assert all(without[name] == everything[name] for name in without if name != part)

        # What was off shows in the pixels: nothing but the erased box, or a mirrored image.
        erased, erased_mask = run(image, mask, settings, crop=48, base_size=96, index=index)
        whole, _ = run(image, mask, settings | {"cutout": None}, crop=48, base_size=96, index=index)
        assert (erased == whole)[erased_mask == 0].all()
        geometry, _ = run(image, mask, WEAK, crop=48, base_size=96, index=index)
        unflipped, _ = run(image, mask, WEAK | {"flip": 0}, crop=48, base_size=96, index=index)
        assert (geometry == unflipped).all() or (geometry == unflipped[:, ::-1]).all()


probabilities = st.sampled_from([0.0, 0.5, 1.0])
any_settings = st.fixed_dictionaries(
    {},
    optional={
        "scale": st.none() | st.tuples(st.floats(0.2, 1.0), st.floats(1.0, 2.0)).map(list),
        "flip": probabilities,
        "rare_crop": probabilities,
        "jitter": st.none()
        | st.fixed_dictionaries({"p": probabilities} | {name: st.floats(0, 0.5) for name in JITTER}),
        "grayscale": st.none() | st.fixed_dictionaries({"p": probabilities}),
        "blur": st.none() | st.fixed_dictionaries({"p": probabilities, "sigma": st.just([0.1, 2.0])}),
        "cutout": st.none()
        | st.fixed_dictionaries(
            {"p": probabilities, "fill": st.sampled_from(["random", 0, 255])}
            | {name: st.just(interval) for name, interval in BOX.items()}
        ),
    },
)


@given(st.tuples(st.integers(1, 80), st.integers(1, 80)), st.integers(1, 90), st.integers(1, 90), any_settings)
def test_samples_have_crop_size_and_only_known_mask_values(shape, crop, base_size, settings):
    image, mask = noise(*shape), classes(*shape, count=5)
    mask[0, 0] = 255
    before = image.tobytes(), mask.tobytes()
    pixels, new_mask = run(image, mask, settings, crop=crop, base_size=base_size)
    assert pixels.shape == (crop, crop, 3) and new_mask.shape == (crop, crop)
    assert pixels.dtype == new_mask.dtype == np.uint8
    assert set(np.unique(new_mask)) <= set(np.unique(mask))
    assert all(array.flags.c_contiguous and array.flags.writeable for array in (pixels, new_mask))
    assert (image.tobytes(), mask.tobytes()) == before


@pytest.mark.parametrize("shapes", [((4, 6), (4, 6)), ((4, 6, 3), (6, 4)), ((4, 6, 2), (4, 6))])
def test_images_without_the_colours_and_masks_of_another_shape_are_refused(shapes):
    image, mask = (np.zeros(shape, np.uint8) for shape in shapes)
    with pytest.raises(ValueError, match="needs an image with bands 0, 1, 2 and a mask of the same height and width"):
        run(image, mask, {}, crop=4, base_size=6)


# --- other bands than RGB ---------------------------------------------------------------------------------------------

EVERYTHING = STRONG | {
    "operations": {"most": 3},
    "jitter": {"p": 1.0, **JITTER},
    "grayscale": {"p": 0.5},
    "blur": {"p": 0.5, "sigma": [0.1, 2.0]},
    "cutout": None,
}


def layers(height: int, width: int, bands: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)


@pytest.mark.parametrize("index", range(12))
def test_red_green_and_blue_among_other_bands_become_what_they_are_alone(index):
    image, mask = layers(50, 60, 5), classes(50, 60)
    how = {"crop": 40, "base_size": 60, "seed": 0, "role": "x", "epoch": 0, "index": index}
    [(found, found_mask)] = augment(image, mask, EVERYTHING, rgb=(3, 0, 4), **how)
    [(alone, alone_mask)] = augment(np.ascontiguousarray(image[..., [3, 0, 4]]), mask, EVERYTHING, **how)
    assert (found[..., [3, 0, 4]] == alone).all() and (found_mask == alone_mask).all()


@pytest.mark.parametrize("index", range(12))
def test_a_band_that_is_no_colour_becomes_what_a_grey_picture_does(index):
    image, mask = layers(50, 60, 4, 1), classes(50, 60)
    how = {"crop": 40, "base_size": 60, "seed": 0, "role": "x", "epoch": 0, "index": index}
    colour = EVERYTHING | {"operations": None, "grayscale": None}
    grey = colour | {"jitter": colour["jitter"] | {"saturation": 0.0, "hue": 0.0}}
    [(found, _)] = augment(image, mask, colour, rgb=(0, 1, 2), **how)
    [(expected, _)] = augment(np.repeat(image[..., 3:], 3, axis=2), mask, grey, **how)
    assert np.abs(found[..., 3].astype(int) - expected[..., 0]).max() <= 1
    [(single, _)] = augment(np.ascontiguousarray(image[..., 3:]), mask, EVERYTHING, rgb=None, **how)
    [(among, _)] = augment(image, mask, EVERYTHING, rgb=None, **how)
    assert (single[..., 0] == among[..., 3]).all()


def test_without_colours_no_band_is_mixed_with_another():
    image, mask = layers(40, 40, 3, 2), classes(40, 40)
    image[..., 1] = 7
    only = {"jitter": {"p": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.5, "hue": 0.5}}
    only |= {"grayscale": {"p": 1.0}}
    how = {"crop": 40, "base_size": 40, "seed": 0, "role": "x", "epoch": 0, "index": 0}
    [(found, _)] = augment(image, mask, only, rgb=None, **how)
    assert (found == image).all()
    [(mixed, _)] = augment(image, mask, only, **how)
    assert (mixed[..., 0] == mixed[..., 1]).all()


def test_cutout_fills_all_bands():
    image, mask = np.zeros((64, 64, 6), np.uint8), classes(64, 64)
    new, new_mask = cutout(image, mask, np.random.default_rng(0), p=1, fill="random", **BOX)
    assert all(new[..., band][new_mask == 255].any() for band in range(6))
