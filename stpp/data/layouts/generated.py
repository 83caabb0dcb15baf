"""The demo's scenes. `index.look` has them drawn where they are not yet there, and reads them by their lists."""

from stpp.data.layouts.listed import scan as scan

NAMES = ("demo",)
