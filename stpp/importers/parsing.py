"""JSON and XML that others wrote: checked when they are read, with one sentence for what is wrong."""

from collections import defaultdict
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, ValidationError

from stpp.common.errors import Problems, StppError, shortened
from stpp.common.wording import counted, listed


class Foreign(BaseModel):
    """A part of a file of which the fields that are read are declared; others are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


Content = TypeVar("Content", bound=BaseModel)


BROKEN = (ValueError, TypeError, LookupError, ArithmeticError)
"""What values of another kind or size than expected raise."""


class Mistakes:
    """What is wrong with an export, each mistake once, with the places where it was found."""

    def __init__(self) -> None:
        self._places: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, what: str, where: str | Path = "") -> None:
        """Note what is wrong, a phrase, and in which file or at which image."""
        self._places[what].append(shortened(str(where), 300))

    def add_broken(self, what: str, error: Exception, where: str | Path) -> None:
        """Note something that is broken, with the error, of those in `BROKEN`, that says why."""
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        self.add(f"{what} is broken ({kind}{shortened(str(error), 300)})", where)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._places)

    def sentences(self) -> list[str]:
        """One sentence for each mistake."""
        return [
            what if places == [""] else f"{what}: {f'{len(places)} times, ' if len(places) > 3 else ''}{listed(places)}"
            for what, places in self._places.items()
        ]

    def refuse(self, headline: str) -> None:
        """Raises Problems if there are any."""
        if self:
            raise Problems(headline, self.sentences())


def read_bytes(path: Path, mistakes: Mistakes) -> bytes | None:
    """The bytes of a file without a byte order mark; None, and a mistake, where it cannot be read."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        mistakes.add(error.strerror or "a file that cannot be read", path)
        return None


def read_json(path: Path, model: type[Content], what: str, mistakes: Mistakes) -> Content | None:
    """The content of a JSON file as a model; None, and a mistake, where it is not `what` is expected."""
    if (content := read_bytes(path, mistakes)) is None:
        return None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        mistakes.add(f"not a valid {what} ({said_by(error)})", path)
    return None


def said_by(error: ValidationError) -> str:
    """What a model says of a value that does not fit it: the first error and where, and how many more there are."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    place = ".".join(map(str, errors[0]["loc"]))
    more = f", and {counted(len(errors) - 1, 'more error')}" if len(errors) > 1 else ""
    return shortened(f"{f'{place}: ' if place else ''}{errors[0]['msg']}{more}", 300)


def read_xml(path: Path, what: str, mistakes: Mistakes) -> ElementTree.Element | None:
    """The root of an XML file in UTF-8; None, and a mistake, where it is not `what` is expected.

    A document type is refused: entities that expand without end, or are fetched from elsewhere, are declared in one.
    """
    if (content := read_bytes(path, mistakes)) is None:
        return None
    try:
        text = content.decode()
        if "<!DOCTYPE" in text:
            raise ValueError("a document type, which no annotation tool writes")
        return ElementTree.fromstring(text)
    except (ValueError, ElementTree.ParseError, RecursionError) as error:
        mistakes.add(f"not a valid {what} ({shortened(str(error), 300)})", path)
    return None


def files_of(source: Path, pattern: str, what: str) -> list[Path]:
    """The files that an export consists of: `source` itself, or those below it that match, sorted.

    Raises StppError where there is none.
    """
    if source.is_file():
        return [source]
    found = sorted(path for path in source.rglob(pattern) if path.is_file() and not path.name.startswith("."))
    if not found:
        raise StppError(f"there is no {pattern} in {source}; give {what}")
    return found
