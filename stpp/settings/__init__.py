"""What the sections of the configuration are made of: their fields, and paths that nobody misreads."""

import re
from pathlib import PurePosixPath
from posixpath import expanduser
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stpp.common.section import Section as Section
from stpp.common.section import setting as setting
from stpp.common.terminal import CONTROL

Checkpoint = Literal["last", "best"]
Precision = Literal["fp32", "bf16"]
Probability = Annotated[float, Field(ge=0, le=1)]


def _one_line(text: str) -> str:
    """Refuses what cannot stand in a list of names."""
    if found := re.search("[\0\n\r]", text):
        raise ValueError(f"{text!r} has {found[0]!a} in it; expected one line of text: rename it")
    return text


def _visible(text: str) -> str:
    """Refuses what a terminal obeys instead of showing it."""
    if found := CONTROL.search(text):
        raise ValueError(f"{text!a} has the control character {found[0]!a} in it; expected visible text: rename it")
    return text


def _path_of_workflow(text: str) -> str:
    """Refuses paths that Snakemake or a command takes for something else; spells the others in one way."""
    text = str(PurePosixPath(re.sub("^//+", "/", expanduser(text))))
    if found := re.search("[{}<>]", text):
        raise ValueError(f"{text!r} has {found[0]} in it, which Snakemake takes for a variable; choose a path without")
    if text == "." or text.startswith("-") or re.match(r"\w+:/", text):
        raise ValueError(f"{text!r} is taken for something other than a file or folder; choose a path like 'my/name'")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
VisibleLine = Annotated[Line, AfterValidator(_visible)]
WorkflowPath = Annotated[VisibleLine, AfterValidator(_path_of_workflow)]
