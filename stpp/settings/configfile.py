"""From what stands in a YAML file to a checked configuration, with one message for all its problems."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from stpp.common.errors import Problems, shortened
from stpp.settings import Section
from stpp.settings.config import OVERRIDABLE, Config, Experiment
from stpp.settings.stored import unfit_for_views
from stpp.settings.yamlfile import parts_of, read_yaml, refuse_excess


def read(path: Path) -> Config:
    """The configuration in a YAML file. Raises StppError if there is none, Problems if it is wrong."""
    return load(read_yaml(path))


def load(raw: Any) -> Config:
    """Validate a configuration as it came from YAML, with the overrides of every experiment.

    Raises Problems, with every problem in one message.
    """
    if not isinstance(raw, Mapping):
        raise Problems("configuration", [f"expected keys and values, but got {type(raw).__name__}"])
    try:
        refuse_excess(raw, parts_of)
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise Problems("configuration", _sentences(error)) from None
    except ValueError as error:
        raise Problems("configuration", [str(error)]) from None
    problems = []
    settings: dict[str, Config] = {}
    for name, partition in [(name, k) for k in range(len(config.partitions) + 1) for name in config.experiments]:
        try:
            settings.setdefault(name, resolved(config, name, partition))
        except ValidationError as error:
            where = f"experiments.{name}" + (f" with partitions.{partition - 1}" if partition else "")
            problems += [f"{where}: {sentence}" for sentence in _sentences(error)]
            if partition:  # all others are likely to say the same
                break
    for name, own in settings.items():
        problems += [f"experiments.{name}: {sentence}" for sentence in unfit_for_views(own)]
    if config.controls == "fair" and not problems:
        problems = _unfit_for_controls(config, settings)
    if problems:
        raise Problems("configuration", problems)
    return config


def resolved(config: Config, experiment: str, partition: int = 0) -> Config:
    """`config` with the overrides of `experiment` and of a partition; its `experiments` holds that one's method alone.

    Partitions are numbered from 1; 0 is none. Raises pydantic.ValidationError where an override does not fit.
    """
    known = _RESOLVED.setdefault(config, {})
    if (experiment, partition) not in known:
        known[experiment, partition] = _resolve(config, experiment, partition)
    return known[experiment, partition]


_RESOLVED: WeakKeyDictionary[Config, dict[tuple[str, int], Config]] = WeakKeyDictionary()
"""What `resolved` has found: the check of a configuration asks for all of it, and then the plan does."""


def _resolve(config: Config, experiment: str, partition: int) -> Config:
    shared = config.model_dump(exclude_unset=True, exclude={"experiments", "partitions", "baseline", "controls"})
    chosen = config.experiments[experiment].model_dump(exclude_unset=True)
    changes = {key: chosen[key] for key in OVERRIDABLE if key in chosen}
    merged = _merged({**shared, "experiments": {experiment: {"method": chosen["method"]}}}, changes)
    return Config.model_validate(_merged(merged, {"data": config.partitions[partition - 1]} if partition else {}))


def _unfit_for_controls(config: Config, settings: Mapping[str, Config]) -> list[str]:
    """What keeps controls from being fair, as sentences; `settings` are those of the experiments by name."""
    problems = []
    lengths = {
        name: [each.iterations for each in (own.training.teacher, own.training.student, own.training.of_phase1())]
        for name, own in settings.items()
    }
    if lacking := [name for name, all_of_them in lengths.items() if None in all_of_them]:
        problems.append(
            "controls: `fair` needs all lengths in iterations, but these experiments have one in epochs: "
            f"{shortened(', '.join(lacking))}; set training.teacher.iterations and training.student.iterations, as in "
            "`training: {teacher: {iterations: 2000}, student: {iterations: 2000}}`, and training.phase1.iterations "
            "where phase 1 has a length of its own"
        )
    if other := [name for name, own in settings.items() if (own.data, own.network) != (config.data, config.network)]:
        problems.append(
            "controls: `fair` compares experiments on the same data with the same network, but these change one of "
            f"them: {shortened(', '.join(other))}; give them a configuration of their own"
        )
    if not any(own.learns_from_unlabeled() for own in settings.values()):
        problems.append(
            "controls: `fair` adds what experiments with unlabeled images are compared with, but there is none; add "
            "one, such as `st: {method: st}`, or leave `controls` out"
        )
    return problems


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` applied, nested mappings key by key; everything else is replaced, and none is copied."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


UNION_BRANCH = re.compile(r"(int|float|str|bool|none)$|(literal|list|dict|constrained|function)[\[-]")
"""Parts of pydantic's locations that name an alternative of a type, not a key."""


def _sentences(error: ValidationError) -> list[str]:
    """Each problem as a sentence: where, what was found, what was expected."""
    expectations: dict[tuple[str, str], list[str]] = {}
    for detail in error.errors(include_url=False):
        location = [str(part) for part in detail["loc"] if not UNION_BRANCH.match(str(part))]
        where = shortened(".".join(location), 200)
        but = f", but got {_shown(detail['input'])}"
        match detail["type"]:
            case "extra_forbidden":
                message, but = _unknown_key(location), ""
            case "missing":
                message, but = "this setting is required", ""
            case "value_error":
                message, but = str(detail["ctx"]["error"]), ""
            case _:
                message = detail["msg"]
        expectations.setdefault((where, but), []).append(message)
    return [
        f"{where}: {' or '.join(messages)}{but}" if where else f"{' or '.join(messages)}{but}"
        for (where, but), messages in expectations.items()
    ]


def _shown(value: Any) -> str:
    """What was found, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python's limit on the digits of a number
        return "a number of thousands of digits"
    return shortened(text)


def _unknown_key(location: list[str]) -> str:
    section: Any = Config
    for part in location[:-1]:
        section = _section_at(section, part)
    known = list(section.model_fields) if section else []
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)
    return f"unknown setting; did you mean {near[0]!r}?" if near else "unknown setting"


class _Experiments(Section):
    """Stands for the mapping of experiments while an unknown key is explained."""


def _section_at(section: Any, key: str) -> type[Section] | None:
    """The section that the field `key` of `section` holds; for `experiments.NAME` the experiment."""
    if section is None:
        return None
    if section is Config and key == "experiments":
        return _Experiments
    if section is _Experiments:
        return Experiment
    field = section.model_fields.get(key)
    for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())) if field else ():
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
