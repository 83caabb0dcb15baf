"""What a stage, a run and a plan are.

A stage's identity is a digest of exactly what decides its result: its settings, the fingerprints of the subsets that
it reads, the identities of the stages that it reads, and its code. Its folder is
`<results>/stages/<stage>/<slug>-<8 hex>`, so an artifact is a function of its path: nothing is overwritten, and
experiments that agree on a stage share it. This module is pure: no files, no torch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stpp.plan.identity import identity_of
from stpp.plan.parts import Part, RunRecord

Recipe = dict[str, Any]
CodeOf = Callable[[str, tuple[str, ...]], str]
"""The code identity of a kind of stage, with its components."""


@dataclass(frozen=True)
class Stage:
    """One node of the graph; all values are plain JSON.

    `data` maps subsets to fingerprints. `inputs` maps names to artifacts of other stages, as paths below
    `<results>/stages` (one, or a list). `files` are paths of files that are no artifacts, whose content `settings`
    already identifies. `role` is its part in the method, such as `student-phase1`; a stage that gathers many runs has
    neither that nor a `seed`. `labeler` says for pseudo-labels whether a teacher or a student makes them. `palette`
    has [r, g, b] for each class, the colours of the data set; a stage that gathers many runs has none. `manifests`
    maps the same subsets to the SHA-256 of their manifests, which say where the files lie; that is no part of the
    identity. `outputs` are file names within the folder. `components` are the modules whose code counts beside that
    of the stage itself.
    """

    kind: str
    slug: str
    settings: Mapping[str, Any]
    data: Mapping[str, str]
    inputs: Mapping[str, str | list[str]]
    outputs: tuple[str, ...]
    code: str
    files: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    components: tuple[str, ...] = ()
    role: str = ""
    seed: int | None = None
    labeler: str = ""
    palette: Sequence[Sequence[int]] = ()

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) of everything that decides the result."""
        return identity_of(self._content())

    @cached_property
    def folder(self) -> str:
        """Folder below `<results>/stages`."""
        return f"{self.kind}/{self.slug}-{self.identity[:8]}"

    def recipe(self) -> Recipe:
        """What the stage's command needs to know, as JSON."""
        told = {"role": self.role, "seed": self.seed, "labeler": self.labeler, "palette": self.palette}
        return {"stage": self.kind, "identity": self.identity, **self._content(), **told}

    def _content(self) -> Recipe:
        return {
            "stage": self.kind,
            "code": self.code,
            "settings": dict(self.settings),
            "data": dict(self.data),
            "inputs": dict(self.inputs),
            "files": dict(self.files),
            "manifests": dict(self.manifests),
            "components": list(self.components),
            "outputs": list(self.outputs),
        }


def training_of(name: str) -> str:
    """What the names of all trainings begin with that write the same files as the one called `name`."""
    return f"{name.partition('val-')[0]}val"


def training_rule(training: str) -> str:
    """The rule of the trainings whose names begin with `training`, as `training_of` has it."""
    return f"train_{training.replace('-', '_')}"


@dataclass(frozen=True)
class Run:
    """One experiment on one partition with one seed: its stages by the names that people see.

    Partitions are numbered from 1; 0 is that of the data's own settings.
    """

    experiment: str
    partition: int
    seed: int
    method: str
    stages: Mapping[str, Part]

    @property
    def name(self) -> str:
        """What it is called among the runs of its experiment."""
        return f"seed{self.seed}-partition{self.partition}" if self.partition else f"seed{self.seed}"

    def record(self) -> RunRecord:
        """The run as JSON."""
        return {**vars(self), "stages": {name: dict(vars(part)) for name, part in self.stages.items()}}


@dataclass(frozen=True)
class Plan:
    """All stages by folder, the runs, and the folders of verdict, table, report and of the charts by their names.

    `outlook` is the folder of the outlook, or "" where none is asked for.
    `write_data` writes what the stages read of the data, which whoever looked at these for the plan knows. `images` and
    `pixels` are the numbers of images and of their pixels by the fingerprints of subsets, as far as they are known;
    `lengths` how many times as long as they are given trainings take, by the folders of the stages that found it.
    """

    name: str
    stages: Mapping[str, Stage]
    runs: Sequence[Run]
    verdict: str
    table: str
    report: str
    charts: Mapping[str, str]
    outlook: str = ""
    write_data: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)
    images: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    pixels: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    lengths: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)


def flat(inputs: Mapping[str, str | list[str]]) -> list[str]:
    """The paths of all artifacts that a stage reads, from its inputs by name."""
    return [path for paths in inputs.values() for path in ([paths] if isinstance(paths, str) else paths)]


def sources(stages: Iterable[Stage]) -> set[str]:
    """The folders of the stages whose artifacts these read."""
    return {path.rpartition("/")[0] for stage in stages for path in flat(stage.inputs)}
