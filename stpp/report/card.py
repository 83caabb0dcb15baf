"""The card of a network that is handed over: what it is, why it was chosen, how well it does, and how to run it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stpp.common.wording import in_markdown, markdown


def card(
    name: str,
    sentences: Sequence[str],
    palette: Sequence[Sequence[int]],
    training: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
) -> str:
    """The card of the `model.pt` of the results `name`, as Markdown.

    `sentences` are those of the verdict, `palette` has [r, g, b] for each class. `training` is the recipe of the stage
    that trained the network, and `evaluations` are its `metrics.json` on val and test.
    """
    settings = training["settings"]
    sections = [
        f"# {in_markdown(name)}",
        "\n".join(f"- {in_markdown(sentence)}" for sentence in sentences),
        "## Use\n\n    stpp segment --model model.pt photos --out segmented\n\nor, in Python,\n\n"
        '    import stpp\n    mask = stpp.load("model.pt").predict("photo.jpg")',
        f"## Classes\n\n{classes_table(settings['classes'], palette)}",
        "## Results\n\n" + "\n".join(results(settings["classes"], evaluations)),
        "## Training\n\n" + "\n".join(recipe_of(training)),
    ]
    return "\n\n".join(sections) + "\n"


def classes_table(classes: Sequence[str], palette: Sequence[Sequence[int]]) -> str:
    """The value of each class in masks, its name and its colour, as a Markdown table."""
    rows = [
        [str(index), name, f"#{red:02x}{green:02x}{blue:02x}"]
        for index, (name, (red, green, blue)) in enumerate(zip(classes, palette))
    ]
    return "\n".join(markdown([["value", "class", "colour"], *rows], range(3)))


def results(classes: Sequence[str], evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The IoU of each class in the evaluations, each of which is the content of a `metrics.json`, as Markdown."""
    if not evaluations:
        yield "Not evaluated, or not known here."
        return
    rows = [["IoU in %", *(f"{metrics['subset']} ({metrics['images']} images)" for metrics in evaluations)]]
    for name in ("mean", *classes):
        values = [metrics["miou"] if name == "mean" else metrics["iou"][name] for metrics in evaluations]
        rows.append([name, *("" if value is None else f"{100 * value:.2f}" for value in values)])
    yield from markdown(rows)
    for warning in dict.fromkeys(warning for metrics in evaluations for warning in metrics["warnings"]):
        yield f"\nWarning: {in_markdown(warning)}."


def recipe_of(training: Mapping[str, Any], *facts: str) -> Iterator[str]:
    """What a network was trained on and how, by the recipe of its stage, as Markdown, after other `facts`."""
    data = [f"data, {subset}: fingerprint {fingerprint}" for subset, fingerprint in training["data"].items()]
    yield from (f"- {in_markdown(fact)}" for fact in (*facts, *data))
    yield f"\n```json\n{json.dumps(training['settings'], indent=1)}\n```"
