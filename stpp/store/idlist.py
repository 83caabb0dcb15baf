"""Lists of image ids on disk: one id a line."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stpp.common.errors import StppError


def write_list(ids: Sequence[str], path: Path) -> None:
    """Write one id a line, UTF-8. StppError for an id that would not come back: one with a line break or empty."""
    for image in ids:
        if not image or "\n" in image or "\r" in image:
            raise StppError(
                f"The image id {image!r} cannot be written to {path}: an id is one line of text. Rename the image file."
            )
    path.write_text("".join(f"{image}\n" for image in ids), encoding="utf-8", newline="\n")


def read_list(path: Path) -> list[str]:
    """Read what `write_list` wrote. StppError if the file is missing, has an empty line or lists an id twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StppError(f"There is no image list at {path}: run the selection stage first.") from None
    except OSError as error:
        raise StppError(
            f"The image list {path} cannot be read: {error.strerror}. Remove it and run the selection stage again."
        ) from None
    except UnicodeDecodeError as error:
        raise StppError(f"The image list {path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    # Not splitlines(), which also splits at characters that may be part of a file name.
    ids = text.removesuffix("\n").split("\n") if text else []
    if "" in ids:
        raise StppError(f"The image list {path} has an empty line, number {ids.index('') + 1}: remove it.")
    if len(set(ids)) < len(ids):
        twice = next(image for image, count in Counter(ids).items() if count > 1)
        raise StppError(f"The image list {path} holds {twice!r} more than once: keep one of them.")
    return ids
