"""Score maps that come in bands of rows, from top to bottom: resized, summed and joined without holding them whole."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stpp.runtime.faults import AT_ONCE, MOST_SCORES

ScoreBands = Iterator[tuple[slice, Tensor]]
"""Scores from top to bottom: rows, and float32 (N, C, rows, W)."""


class ScoreRows:
    """Rows of a score map (N, C, *size) that comes in bands from top to bottom; those to be asked for are held."""

    def __init__(self, bands: ScoreBands, size: tuple[int, int]) -> None:
        self.size = size
        self._bands, self._held, self._first = bands, torch.empty(0), 0

    def values_a_pixel(self) -> int:
        """N times C."""
        if not self._held.numel():
            _, self._held = next(self._bands)
        return self._held.shape[0] * self._held.shape[1]

    def take(self, first: int, last: int) -> Tensor:
        """The rows from `first` to before `last`; no later call may ask for rows before `first`."""
        self.values_a_pixel()
        held, self._first = self._held[:, :, first - self._first :], first
        if held.shape[2] >= last - first:
            taken = held[:, :, : last - first]
        else:
            taken = held.new_empty(*held.shape[:2], last - first, held.shape[3])
            done = held.shape[2]
            taken[:, :, :done] = held
            while done < last - first:
                rows, band = next(self._bands)
                taken[:, :, done : rows.stop - first] = band[:, :, : last - rows.start]
                done = rows.stop - first
            held = torch.cat([taken, band[:, :, last - rows.start :]], dim=2) if done > last - first else taken
        self._held = torch.empty(0) if last == self.size[0] else held
        return taken

    def resized(self, size: tuple[int, int], first: int, last: int) -> Tensor:
        """Such rows of the map resized to `size`.

        A band is mixed from the rows above and below each of its rows, and then resized across: PyTorch resizes no part
        of the rows. So its values differ by rounding from those of all rows at once.
        """
        if self.size == size:
            return self.take(first, last)
        if (first, last) == (0, size[0]):
            return resized_to(self.take(0, self.size[0]), size)
        place = torch.arange(first, last, dtype=torch.float64) * (self.size[0] - 1) / max(1, size[0] - 1)
        above = place.long().clamp(max=max(0, self.size[0] - 2))
        top = int(above[0])
        rows = self.take(top, min(int(above[-1]) + 2, self.size[0]))
        share, above = (place - above).float().to(rows.device)[:, None], (above - top).to(rows.device)
        band = torch.lerp(rows[:, :, above], rows[:, :, (above + 1).clamp(max=rows.shape[2] - 1)], share)
        return resized_to(band, (last - first, size[1]))


def summed(maps: Sequence[ScoreRows], size: tuple[int, int], *, banded: bool = True) -> ScoreBands:
    """The sum of the maps, each resized to `size`: whole, or if `banded` and large, in bands of rows."""
    height, width = size
    largest = max(height * width, *(scores.size[0] * scores.size[1] for scores in maps))
    a_pixel, rows = maps[0].values_a_pixel(), height
    if banded and a_pixel * largest > MOST_SCORES:
        rows = max(1, AT_ONCE // (a_pixel * width))
    for first in range(0, height, rows):
        last = min(first + rows, height)
        total = maps[0].resized(size, first, last)
        for scores in maps[1:]:
            total += scores.resized(size, first, last)
        yield slice(first, last), total


def resized_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def joined_bands(bands: ScoreBands, height: int) -> Tensor:
    """All rows of an image of that height, in one tensor."""
    rows, band = next(bands)
    if band.shape[2] == height:
        return band
    whole = band.new_empty(*band.shape[:2], height, band.shape[3])
    whole[:, :, rows] = band
    for rows, band in bands:
        whole[:, :, rows] = band
    return whole
