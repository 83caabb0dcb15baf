"""The one kind of error that a user sees as a message instead of a traceback."""

from collections.abc import Sequence


class StppError(Exception):
    """A mistake in the user's input or surroundings.

    The message says what was found, where, what was expected and what to do. The command line prints it without a
    traceback and exits with 1.
    """


class Problems(StppError):
    """All the problems of one input, reported together.

    `problems` are complete sentences; `headline` says what was looked at.
    """

    def __init__(self, headline: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"{headline}: {count}", *(f"  - {problem}" for problem in self.problems)]))
