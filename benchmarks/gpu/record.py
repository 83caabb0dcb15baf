"""What was measured: one JSON, its tables in Markdown, and the places in the documentation that show them."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from stpp.common.files import write_text
from stpp.common.wording import markdown

NOT_MEASURED = "not measured"
NOTHING = "No GPU has been measured yet: `make gpu` does that, and its tables come here."
BEGIN, END = "<!-- Tables of make gpu: python benchmarks/gpu --docs -->", "<!-- End of the tables -->"

Values = Mapping[str, Any]
"""What a row holds by column; or a `problem`, in words, in place of them."""


@dataclass(frozen=True)
class Table:
    """A table of a part: its title, the head of its first column, and heads and formats of the others by their keys."""

    title: str
    first: str
    columns: Mapping[str, tuple[str, str]]
    rows: Sequence[str]
    page: str
    """The page of the documentation that shows it, in docs/."""

    def lines(self, found: Mapping[str, Values]) -> list[str]:
        """The table in Markdown, with all rows, measured or not."""
        head = [self.first, *(heading for heading, _ in self.columns.values())]
        return markdown([head, *([row, *self.cells(found.get(row, {}))] for row in self.rows)])

    def cells(self, values: Values) -> list[str]:
        """What stands in a row."""
        if "problem" in values:
            return [str(values["problem"]), *[""] * (len(self.columns) - 1)]
        return [
            format(values[key], how) if values.get(key) is not None else "" if values else NOT_MEASURED
            for key, (_, how) in self.columns.items()
        ]


@dataclass
class Record:
    """Measurements of one commit on one device: `parts` has the rows of each part by their names."""

    commit: str
    device: str
    software: str
    parts: dict[str, dict[str, Values]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of the folder for what is computed, which another commit or device does not take for its own."""
        return sha256(f"{self.commit} {self.device} {self.software}".encode()).hexdigest()[:12]

    def done(self, part: str, row: str) -> bool:
        """Whether a row is measured; one that met a problem is not."""
        values = self.parts.get(part, {}).get(row, {})
        return bool(values) and "problem" not in values

    def add(self, part: str, row: str, values: Values) -> None:
        """Take in what was measured."""
        self.parts.setdefault(part, {})[row] = dict(values)


def read(path: Path) -> list[Record]:
    """The records of a file, the last one the latest; none where there is no file."""
    return [Record(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def write(path: Path, records: Sequence[Record]) -> None:
    """The records as JSON."""
    write_text(path, json.dumps([vars(record) for record in records], indent=1) + "\n")


def of(records: list[Record], commit: str, device: str, software: str) -> Record:
    """The record of that commit, device and software, which is added and moved to the end."""
    wanted = (commit, device, software)
    found = next((each for each in records if (each.commit, each.device, each.software) == wanted), None)
    record = found or Record(commit, device, software)
    records[:] = [each for each in records if each is not record] + [record]
    return record


def commit(project: Path) -> str:
    """What tells this code from other code: its commit, and `+` and a digest where files differ from that."""
    head, changes = (_git(project, *command) for command in (("rev-parse", "--short=12", "HEAD"), ("diff", "HEAD")))
    if not head:  # no repository, or no git
        files = sorted([*project.glob("stpp/**/*.py"), *project.glob("benchmarks/**/*.py")])
        return "code-" + sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    return head + (f"+{sha256(changes.encode()).hexdigest()[:8]}" if changes else "")


def _git(project: Path, *command: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(project), *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def as_markdown(record: Record | None, tables: Mapping[str, Table]) -> str:
    """All tables under their titles."""
    where = [f"{record.device}, {record.software}, commit {record.commit}."] if record else [NOTHING]
    found = record.parts if record else {}
    parts = ["\n".join([f"**{table.title}**", "", *table.lines(found.get(name, {}))]) for name, table in tables.items()]
    return "\n\n".join([*where, *parts]) + "\n"


def in_page(text: str, page: str, record: Record | None, tables: Mapping[str, Table]) -> str:
    """The text of a page of docs/ with the tables that it shows: those with anything measured, or a sentence."""
    before, _, rest = text.partition(BEGIN)
    own = {name: table for name, table in tables.items() if table.page == page and record and name in record.parts}
    shown = as_markdown(record, own).strip() if own else NOTHING
    return f"{before}{BEGIN}\n\n{shown}\n\n{END}{rest.partition(END)[2]}"
