"""The report page: its numbers, pictures and charts, from a finished run and from values that are known."""

import base64
import contextlib
import csv
import hashlib
import html
import io
import json
import re
import urllib.parse
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fabricate
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Snakemake
from PIL import Image

from stpp.commands.cli import main
from stpp.commands.segmenter import load as load_model
from stpp.common.wording import network_name
from stpp.data.images import read_mask
from stpp.data.manifest import Row
from stpp.data.reading import image_of
from stpp.plan.parts import RunRecord, folders, networks, networks_in_order, result_evaluation
from stpp.report import charts
from stpp.report.facts import Facts
from stpp.report.gallery import Confidence, Mask, Pictures, choose, gallery, legend, mask_uri, spread, tile
from stpp.report.html import VOID, Html, element, table, together
from stpp.report.labeling import label_these_next
from stpp.report.numbers import charted, confusion, curves, results
from stpp.report.page import CONTENTS
from stpp.report.page import page as whole
from stpp.report.provenance import config_with_numbers, one_line, warnings, what_ran
from stpp.report.script import SCRIPT
from stpp.report.style import CSS
from stpp.settings.configfile import load
from stpp.store.colours import class_colours
from stpp.store.masks import MaskStore, voc_palette

NASTY = """<script>alert("1")</script> & 'x' $\\alpha_"""


class Parsed(HTMLParser):
    """A page's elements in their order, their text, and whether each that began also ends where it must."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(finished: Path) -> Path:
    """What people look at, of a finished run."""
    return finished / "my results/tiny"


@pytest.fixture(scope="module")
def page(folder: Path) -> Parsed:
    """The report of the finished run."""
    return Parsed((folder / "report.html").read_text(encoding="utf-8"))


def test_what_ran_names_seeds_as_such(page: Parsed) -> None:
    assert "runs with\n" in page.text
    assert "\nseed 0\n" in page.text


def nothing_predicted(row: Row) -> tuple[Mask, Confidence]:
    return np.zeros((4, 4), np.uint8), np.ones((4, 4), np.float32)


def facts(**changes: Any) -> Facts:
    """Facts of one run of ST++ on ten unlabeled and five val images; the stages' folders are called by their role."""
    networks = {name: f"train/{name}" for name in ("teacher", "phase1", "student")}
    evaluations = {"student_val": "evaluate/student-val", "masks1_truth": "evaluate/stability-truth"}
    stages = fabricate.parts(**networks, masks1="predict/m", score="score/s", select="select/s", **evaluations)
    run = {"experiment": "st++", "seed": 0, "method": "st++", "stages": stages}
    names = [f"u{i}" for i in range(10)]
    scores = pd.DataFrame({"id": names, "score": np.linspace(0.9, 0.1, 10), "rank": range(1, 11)})
    val = pd.DataFrame({"id": [f"v{i}" for i in range(5)], "miou": [0.5, 0.2, np.nan, 0.9, 0.1]})
    rows = {s: [row(s, name) for name in ids] for s, ids in (("unlabeled", names), ("val", list(val["id"])))}
    values: dict[str, Any] = {
        "name": "x",
        "config": {"experiments": {"st++": {"method": "st++"}}},
        "runs": [run],
        "shown": run,
        "model": run | {"title": "final student"},
        "judges": {"val": "evaluate/student-val"},
        "prediction": {},
        "records": {},
        "table": {"experiments": [], "runs": [], "verdict": [], "warnings": []},
        "outlook": [],
        "length": {},
        "data_warnings": [],
        "histories": {},
        "evaluations": {"evaluate/student-val": {"subset": "val", "iou": {}}},
        "image_scores": {
            "evaluate/student-val": val,
            "evaluate/stability-truth": pd.DataFrame({"id": names, "miou": np.linspace(0.8, 0.2, 10)}),
        },
        "scores": {"score/s": scores},
        "reliable": {"select/s": names[:5]},
        "subsets": rows,
        "fingerprints": {},
        "classes": ["a", "b"],
        "palette": [[0, 0, 0], [128, 0, 0]],
    }
    return Facts(**values | changes)


def row(subset: str, name: str) -> Row:
    """A row of a manifest."""
    return Row(name, subset, f"{name}.png", None, 4, 4, 1)


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_page_stands_alone(page: Parsed) -> None:
    addresses = [a[key] or "" for _, a in page.elements for key in ("src", "href", "xlink:href", "srcset") if key in a]
    assert [address[:60] for address in addresses if not address.startswith(("#", "data:"))] == []
    assert "url(" not in CSS.replace("url(#", "")
    assert "@import" not in CSS


def test_the_page_forbids_what_it_does_not_need(page: Parsed) -> None:
    """No script but the page's own and nothing from elsewhere, even if someone found a way to write it into it."""
    first, second, *_ = page.all("meta")
    assert first == {"charset": "utf-8"}
    assert second["http-equiv"] == "Content-Security-Policy"
    directives = dict(part.strip().split(" ", 1) for part in (second["content"] or "").split(";"))
    assert directives == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "script-src": f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'",
    }
    assert page.all("script") == [{}]
    assert page.text.count(SCRIPT) == 1
    assert "</script" not in SCRIPT
    needed = {tag for tag, _ in page.elements}
    assert not needed & {"iframe", "object", "embed", "form", "base", "audio", "video", "font-face"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_names_in_the_page_are_text() -> None:
    """What comes from a user's data, whatever part shows it."""
    nasty = ["</style><script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "&lt;b onclick='x'&gt;<b>"]
    stages = fabricate.parts(teacher="train/<u>", student="train/<s>", student_val="evaluate/<i>")
    run = {"experiment": nasty[0], "seed": 0, "method": "st", "stages": stages}
    record = {"settings": dict.fromkeys(nasty, nasty[1]), "inputs": {}, "data": {}, "host": nasty[2], "code": nasty[0]}
    record |= {"seconds": 1.0, "cpu_seconds": 1.0, "started": nasty[1], "versions": {nasty[0]: nasty[1]}}
    values = {"miou": 0.5, "confusion": np.eye(3, dtype=int).tolist(), "iou": dict.fromkeys(nasty, 0.5)}
    shown = facts(
        name=nasty[0],
        config={"experiments": {nasty[0]: {"method": "st", "note": nasty[1]}}, "data": {"root": nasty[2]}},
        runs=[run],
        shown=run,
        records={stage: {**record, "device": nasty[1], "commit": nasty[2]} for stage in folders(run)},
        table={
            "experiments": [{"experiment": nasty[0]}],
            "runs": [{"experiment": nasty[0]}],
            "verdict": nasty,
            "warnings": nasty,
        },
        outlook=nasty,
        evaluations={"evaluate/<i>": {"subset": "val", "images": 3, **values}},
        image_scores={"evaluate/<i>": pd.DataFrame({"id": nasty, "miou": [0.5, 0.2, 0.1]})},
        scores={},
        histories=dict.fromkeys(("train/<u>", "train/<s>"), HISTORY),
        subsets={"val": [row("val", name) for name in nasty]},
        fingerprints={"val": nasty[2]},
        classes=nasty,
        palette=voc_palette(3),
    )
    key = legend(nasty, class_colours(shown.palette), disagreement=True, confidence=True, errors=True)
    pictures = [key, *(tile(name, name, "data:image/png,") for name in nasty)]
    document = Parsed(whole(shown, Html(""), Html(""), together(pictures)))
    assert all(document.text.count(name) > 3 for name in nasty)
    assert not {tag for tag, _ in document.elements} & {"b", "u", "s", "i"}
    assert document.all("script") == [{}]
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]
    assert [image["src"] for image in document.all("img")] == ["data:image/png,"] * 3


def test_every_part_is_there_and_linked(page: Parsed) -> None:
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    links = {a["href"] or "" for a in page.all("a")}
    assert {link for link in links if not link.startswith(("#image-", "data:text/csv;"))} == {
        f"#{anchor}" for anchor in CONTENTS
    }
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {a.get("id") for a in page.all("section")} == set(CONTENTS)
    assert {(a.get("xlink:href") or "#")[1:] for a in page.all("use")} <= {*ids, ""}


def test_every_picture_is_described(page: Parsed) -> None:
    assert len(page.all("img")) > 20
    shown = [a for a in page.all("img") if "src" in a]  # the script fills the others
    assert all((a["alt"] or "").strip() for a in shown)
    assert len(page.all("img")) - len(shown) == 3
    drawn = [a for a in page.all("svg") if a.get("class") == "chart"]
    assert len(drawn) >= 6
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in drawn)


def test_the_result_is_that_of_the_table(page: Parsed, folder: Path) -> None:
    table = pd.read_csv(folder / "table.csv")
    for mean in table["miou_mean"]:
        assert f"\n{100 * mean:.2f}\n" in page.text


def test_the_verdict_comes_first(page: Parsed, folder: Path) -> None:
    sentences = json.loads((folder / "verdict.json").read_text())["sentences"]
    assert sentences[0].startswith("model.pt is the ")
    places = [page.text.index(sentence) for sentence in sentences]
    assert places == sorted(places)
    assert places[-1] < page.text.index("read these before you trust a number")


def test_the_configuration_on_the_page_is_the_one_that_ran(folder: Path) -> None:
    (text,) = re.findall(r"<pre>(name: .*?)</pre>", (folder / "report.html").read_text(), re.DOTALL)
    shown = load(yaml.safe_load(html.unescape(text)))
    ran = load(fabricate.tiny())
    unset = {"results", "runtime"}
    assert shown.model_dump(exclude=unset) == ran.model_dump(exclude=unset)


def test_what_differs_is_yaml_in_a_line() -> None:
    assert one_line({"training": {"student": {"epochs": 9}}, "x": {}}) == "training: {student: {epochs: 9}}, x: {}"
    assert one_line({}) == ""


def test_a_label_map_is_written_with_numbers() -> None:
    config = {"data": {"label_map": {"0": 0, "255": 1, "1-9": "ignore"}}}
    assert config_with_numbers(config)["data"]["label_map"] == {0: 0, 255: 1, "1-9": "ignore"}


def test_snakemakes_report_has_the_page_and_the_tables(finished: Path, tmp_path: Path, snakemake: Snakemake) -> None:
    snakemake(finished, "--report", str(tmp_path / "report.zip"))
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        found = {Path(name).name: archive.read(name) for name in archive.namelist() if "/data/raw/" in name}
    shown = {
        name: (finished / "my results/tiny" / name).read_bytes() for name in ("report.html", "table.csv", "runs.csv")
    }
    assert found.pop("chart.svg").startswith(b"<?xml")
    assert found == shown


def test_what_a_user_named_is_text() -> None:
    markup = element("p", NASTY, title=NASTY) + table([NASTY, "b"], [[NASTY, NASTY]], NASTY)
    parsed = Parsed(markup)
    assert parsed.all("script") == []
    assert parsed.text.count("<script>alert") == 5
    assert parsed.all("p")[0]["title"] == NASTY


def test_a_table_is_a_file_too() -> None:
    text = table(["a", NASTY], [[element("b", NASTY), '1,5 "x"']], "Some: caption")
    (link,) = Parsed(text).all("a")
    assert link["download"] == "some.csv"
    kind, _, content = (link["href"] or "").partition(",")
    assert kind == "data:text/csv;charset=utf-8"
    assert list(csv.reader(io.StringIO(unquote(content)))) == [["a", NASTY], [NASTY, '1,5 "x"']]


def test_every_table_and_chart_of_the_page_is_a_file_too(page: Parsed) -> None:
    files = [a for a in page.all("a") if a.get("download")]
    charts = [svg for svg in page.all("svg") if svg.get("class") == "chart"]
    assert len(files) == len(page.all("table")) + len(charts) + 1


def test_warnings_come_first(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    found = json.loads((folder / "metrics.json").read_text())["warnings"]
    assert found, "the tiny run learns too little not to be warned of"
    assert all(html.escape(warning) in text[: text.index("<main")] for warning in found)
    assert "No stage gave a warning" in warnings(facts())


def test_what_the_look_at_the_data_warned_of_stands_with_the_data() -> None:
    records = {folder: {"settings": {}, "inputs": {}, "data": {}} for folder in folders(facts().shown)}
    given, without = (facts(data_warnings=texts, records=records) for texts in (["2 images are <alike>."], []))
    assert "2 images are &lt;alike&gt;." in what_ran(given)
    assert "1 warning about the data" in warnings(given) and 'href="#setup"' in warnings(given)
    assert "look at the data" not in what_ran(without) and "on the data" not in warnings(without)


def test_the_verdict_is_two_sentences_and_its_reasons(page: Parsed) -> None:
    assert len([a for a in page.all("p") if a.get("class") == "lead"]) == 2


def test_predictions_are_by_the_network_that_is_handed_over(folder: Path, page: Parsed) -> None:
    model = json.loads((folder / "verdict.json").read_text())["model"]
    recipes = {path.parent: json.loads(path.read_text()) for path in (folder.parent / "stages/evaluate").glob("*/rec*")}
    expected = {}
    for stage, recipe in recipes.items():
        if recipe["inputs"].get("checkpoint") == model["checkpoint"] and {*recipe["data"]} <= {"val", "test"}:
            with (stage / "images.csv").open() as file:
                expected |= {row["id"]: round(float(row["miou"]), 4) for row in csv.DictReader(file) if row["miou"]}
    known = [json.loads(shot["data-facts"] or "") for shot in page.all("a") if shot.get("class") == "shot"]
    assert {each["subset"] for each in known} == {"val", "test", "unlabeled"}
    assert {each["id"]: each["miou"] for each in known if each["subset"] != "unlabeled" and "miou" in each} == expected
    assert f"Predictions by model.pt, the {network_name(model['title'])} of {model['experiment']}, " in page.text


def test_of_many_rows_a_chart_has_some_as_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stpp.report.numbers.MOST_ROWS", 3)
    text = charted(Html(""), "Scores of x", pd.DataFrame({"score": range(101)}))
    (link,) = Parsed(text).all("a")
    assert unquote(link["href"] or "").partition(",")[2].split() == ["score", "0", "50", "100"]
    assert "Scores of x; the CSV file has 3 of 101 rows" in text and link["download"] == "scores-of-x.csv"


def test_every_chart_of_the_page_has_its_numbers(folder: Path, page: Parsed) -> None:
    figures = re.findall(r"<figure>.*?</figure>", (folder / "report.html").read_text(encoding="utf-8"), re.DOTALL)
    charts = [figure for figure in figures if 'class="chart"' in figure]
    files = [re.search(r'href="data:text/csv;charset=utf-8,([^"]*)"', chart) for chart in charts]
    assert charts and all(files)
    (curve,) = (
        urllib.parse.unquote(file[1])
        for chart, file in zip(charts, files)
        if file and "<figcaption>final student of st++ " in chart and "val_miou" in urllib.parse.unquote(file[1])
    )
    found = pd.read_csv(io.StringIO(curve))
    history = pd.read_csv(folder.parent / "runs/tiny/experiments/st++/seed0/student/metrics.csv")
    assert found["run"].tolist() == ["seed 0"] * len(history)
    assert np.allclose(found["loss"], history["loss"]) and found["epoch"].tolist() == history["epoch"].tolist()


def test_images_to_label_next_are_those_of_the_command(folder: Path, finished: Path, tmp_path: Path) -> None:
    with contextlib.chdir(finished):
        assert main(["next", "config.yaml", "-n", "8", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    with (tmp_path / "out/next.csv").open() as file:
        wanted = [row["id"] for row in csv.DictReader(file)]
    (part,) = re.findall(r'<section id="next".*?</section>', (folder / "report.html").read_text(), re.DOTALL)
    assert re.findall(r"<h4>(.*?)<span>", part) == wanted and len(wanted) > 1


def test_nothing_is_to_be_labeled_next_without_scores() -> None:
    def features(row: Row) -> Any:
        raise AssertionError(row)

    nothing = Pictures(image_of, lambda row: [], [], nothing_predicted, {})
    without = {"experiment": "st", "seed": 0, "method": "st", "stages": fabricate.parts(teacher="train/t")}
    assert label_these_next(facts(shown=without), nothing, 8, features) == ""
    assert label_these_next(facts(), nothing, 0, features) == ""


# --- pictures ---------------------------------------------------------------------------------------------------------


def decoded(uri: str) -> Image.Image:
    """The picture in a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_pictures_show_the_masks_of_the_stages(page: Parsed, folder: Path, finished: Path) -> None:
    """The images are smaller than a thumbnail, so each picture has all pixels of what it shows."""
    pictures = {a["alt"] or "": decoded(a["src"] or "") for a in page.all("img") if "src" in a}
    run = folder.parent / "runs/tiny/experiments/st++/seed0"
    scores = pd.read_csv(run / "score/scores.csv").sort_values("rank")
    most = scores["id"].iloc[0]
    stores = {f"checkpoint {k}": MaskStore(run / f"masks{k}/masks.h5") for k in (1, 2, 3)}
    stores |= {"pseudo-label": MaskStore(run / "labels1/masks.h5")}
    encoding = {"classes": 3, "ignore_value": 255, "label_map": None, "palette_map": None}
    masks = {caption: store[most] for caption, store in stores.items()}
    masks["ground truth"] = read_mask(finished / f"my scenes/masks/{most.removeprefix('images/')}.png", encoding)
    for caption, mask in masks.items():
        (shown,) = [picture for alt, picture in pictures.items() if alt.startswith(f"{caption} of {most}:")]
        assert np.array_equal(np.asarray(shown), mask), caption
    (unstable,) = [picture for alt, picture in pictures.items() if alt.startswith(f"disagreement in {most}:")]
    differing = np.mean([masks[f"checkpoint {k}"] != masks["checkpoint 3"] for k in (1, 2)], axis=0)
    assert np.array_equal(np.asarray(unstable), np.rint(255 * differing))


def test_checkpoints_disagree_on_measured_images_as_their_masks_do(page: Parsed, folder: Path, finished: Path) -> None:
    """These images have no stored masks: the checkpoints predict them for the page."""
    teacher = folder.parent / "runs/tiny/experiments/st++/seed0/teacher"
    models = [
        load_model(path, "cpu")
        for path in (teacher / "checkpoint-1.pt", teacher / "checkpoint-2.pt", teacher / "last.pt")
    ]
    layers = {a["alt"] or "": a["src"] or "" for a in page.all("img") if a.get("data-layer") == "disagreement"}
    for name in ("test0", "test1", "val0", "val1"):
        image = np.asarray(Image.open(finished / f"my scenes/images/{name}.png"))
        masks = [model.mask_of(image) for model in models]
        differing = np.mean([mask != masks[-1] for mask in masks[:-1]], axis=0)
        shown = decoded(layers[f"disagreement over images/{name}"])
        assert np.array_equal(np.asarray(shown), np.rint(255 * differing)), name


def test_chosen_are_the_extremes() -> None:
    groups = {group.title: [row.id for row in group.rows] for group in choose(facts())}
    assert groups == {
        "Most reliable": ["u0", "u1", "u2", "u3"],
        "Least reliable": ["u9", "u8", "u7", "u6"],
        "Worst predictions": ["v4", "v1", "v0", "v3"],
    }


def test_a_chosen_image_comes_with_its_numbers() -> None:
    first = next(iter(choose(facts())[0].rows.values()))
    assert first == "score 0.900, rank 1 of 10, true mIoU 80.00 %"


@pytest.mark.parametrize("known", [False, True])
def test_the_legend_explains_the_maps_that_there_are(known: bool, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "u.png")
    Image.new("L", (4, 4)).save(tmp_path / "mask.png")
    image = row("unlabeled", "u")._replace(image=str(tmp_path / "u.png"), bytes=0)  # of unknown size
    subsets = {"unlabeled": [image]}
    if known:
        subsets["truth"] = [image._replace(subset="truth", mask=str(tmp_path / "mask.png"))]
    stages = fabricate.parts(student="train/s", labels="predict/l")
    run = {"experiment": "st", "partition": 0, "seed": 0, "method": "st", "stages": stages}
    encoding = {"classes": 2, "ignore_value": 255, "label_map": None, "palette_map": None}
    sources = Pictures(image_of, lambda row: [], [], nothing_predicted, encoding)
    text = Parsed(gallery(facts(runs=[run], shown=run, judges={}, subsets=subsets), sources)).text
    assert "final prediction" in text
    assert ("wrong" in text) == ("ground truth" in text) == known
    assert "all checkpoints agree" not in text


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [0]), (4, [0, 1, 2, 3]), (10, [0, 3, 6, 9])])
def test_of_many_checkpoints_some_are_shown(count: int, expected: list[int]) -> None:
    assert spread(count, 4) == expected


def test_a_thumbnail_keeps_classes_and_shape() -> None:
    mask = np.zeros((500, 1000), np.uint8)
    mask[:, 500:] = 7
    small = np.asarray(decoded(mask_uri(mask, class_colours([[0, 0, 0]] * 8))))
    assert small.shape == (112, 224)
    assert set(np.unique(small)) == {0, 7}
    assert (small[:, :112] == 0).all()


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_phases_are_in_their_order() -> None:
    names = ["teacher", *(f"phase{number}" for number in range(1, 11)), "student"]
    runs: list[RunRecord] = [
        {"stages": fabricate.parts(teacher="train/t", student="train/s")},
        {"stages": fabricate.parts(**{name: f"train/{name}" for name in names})},
        {"stages": fabricate.parts(teacher="train/t")},
    ]
    titles = networks_in_order(runs)
    assert list(titles) == names
    assert titles["student"] == "final student"


def test_the_result_of_a_run_is_its_last_network() -> None:
    run = facts().shown
    assert list(networks(run)) == ["teacher", "phase1", "student"]
    assert result_evaluation(run) == "evaluate/student-val"
    assert result_evaluation({**run, "stages": fabricate.parts(teacher="train/t")}) is None


def test_confusion_is_a_share_of_the_true_class() -> None:
    evaluation = {"subset": "val", "iou": {"a": 0.5, "b": 0.5, "c": None}, "confusion": [[3, 1, 0], [0, 5, 0], [0] * 3]}
    cells = re.findall(r'--share:([\d.]+)">(\d*)<', confusion(evaluation, "x"))
    assert cells == [
        ("0.750", "75"),
        ("0.250", "25"),
        ("0.000", ""),
        ("0.000", ""),
        ("1.000", "100"),
        *[("0.000", "")] * 4,
    ]


def test_results_have_no_column_without_a_number() -> None:
    one = {"experiment": "a", "baseline": "a", "subset": "val", "n": 1, "miou_mean": 0.5, "miou_sd": None}
    one |= {"difference_mean": None, "difference_sd": None, "difference_of": None, "difference_n": None}
    runs = [{"experiment": name, "seed": 0, "miou": 0.5, "images": 3} for name in "ab"]
    two = {**one, "experiment": "b", "miou_mean": 0.625, "difference_mean": 0.125}
    two |= {"difference_of": "runs", "difference_n": 1}
    content = {"experiments": [one, two], "runs": runs, "warnings": []}
    text = results(facts(table=content))
    assert re.findall(r'scope="col"[^>]*>([^<]*)<', text)[:4] == ["experiment", "mIoU (%)", "runs", "difference to a"]
    assert "<b>62.50</b>" in text
    assert "+12.50" in text
    assert "One run says nothing about spread, so there is no interval." in text


def test_without_val_and_test_the_page_says_so() -> None:
    said = results(facts(table={"experiments": [{"experiment": "a"}], "runs": []}))
    assert "no mIoU was measured" in said
    assert "data.val_split" in said


# --- charts -----------------------------------------------------------------------------------------------------------

HISTORY = pd.DataFrame({"epoch": [1, 2], "iterations": [5, 10], "loss": [1.5, 0.5], "val_miou": [np.nan, 0.25]})
STEPS = HISTORY.assign(loss_supervised=[1.0, 0.3], loss_consistency=[0.5, 0.2], counted=[0.0, 0.64])
SCORES = pd.Series(np.linspace(0.2, 0.8, 20))
RELIABLE = SCORES > 0.5
IOU = pd.DataFrame({NASTY: [0.5, 0.25], "b": [0.75, np.nan]}, index=["sky", "<i>"])
PHASES = pd.DataFrame({"teacher_val": [0.5, 0.6], "student_val": [0.6, 0.7]}, index=[NASTY, NASTY])
SIX = ["teacher", *(f"phase {number}" for number in (1, 2, 3, 4)), "final student"]
SIX_PHASES = pd.DataFrame(np.linspace(0.5, 0.7, 12).reshape(2, 6), index=["a", "b"], columns=SIX)
DRAWN: Mapping[str, Callable[[], Html]] = {
    "learning curves": lambda: charts.learning_curves("x", {"seed 0": HISTORY, NASTY: HISTORY}, (0.5, 1.5), (0.2, 0.3)),
    "one curve": lambda: charts.learning_curves("x", {"seed 0": HISTORY.assign(val_miou=np.nan)}, (0.01, 1.5), (0, 1)),
    "steps": lambda: charts.online_curves("x", {"seed 0": STEPS, NASTY: STEPS}),
    "steps of one seed": lambda: charts.online_curves("x", {"seed 0": STEPS.assign(loss_consistency=0.0)}),
    "label quality": lambda: charts.label_quality("x", {"seed 0": [0.2, 0.4], NASTY: [0.1, 0.5]}),
    "scores": lambda: charts.score_histogram("x", SCORES, RELIABLE),
    "equal scores": lambda: charts.score_histogram("x", SCORES * 0, RELIABLE),
    "truth": lambda: charts.score_against_truth("x", SCORES, SCORES**2, RELIABLE),
    "phases": lambda: charts.phases("x", PHASES, ["teacher", "student"]),
    "six phases": lambda: charts.phases("x", SIX_PHASES, SIX),
    "classes": lambda: charts.class_bars("x", IOU, IOU * 0.1),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_is_markup_in_the_pages_colours(name: str) -> None:
    svg = DRAWN[name]()
    ET.fromstring(svg)
    colours = set(re.findall(r"(?:fill|stroke|stop-color): ?([^;\"]+)", svg))
    assert {c for c in colours if not c.startswith(("var(--", "url(#", "none"))} == set()
    assert set(re.findall(r"var\((--[^)]*)\)", svg)) <= set(re.findall(r"--[\w-]+(?=:)", CSS))
    assert "<style" not in svg
    assert svg == DRAWN[name](), "the same numbers give the same bytes"


def titles(svg: Html) -> set[str]:
    """The texts of a chart that are no numbers."""
    texts = ["".join(node.itertext()) for node in ET.fromstring(svg).iter() if node.tag.endswith("text")]
    return {text for text in texts if not re.fullmatch(r"[−\d.]+", text)}


def test_each_loss_and_the_share_of_pixels_that_count_has_a_curve() -> None:
    both = charts.online_curves("x", {"seed 0": STEPS, "seed 1": STEPS.drop(columns="counted")})
    assert titles(both) == {"supervised", "consistency", "counted (%)", "iterations", "seed 0", "seed 1"}
    assert "seed 0: supervised 0.3, consistency 0.2, counted 64.0 %; seed 1: supervised 0.3, consistency 0.2." in both
    without = charts.online_curves("x", {"seed 0": STEPS.drop(columns="counted")})
    assert titles(without) == {"supervised", "consistency", "iterations"}
    assert charts.step_columns({"seed 0": HISTORY}) == {}
    labels = charts.online_curves("x", {"seed 0": STEPS.assign(largest_class=0.9, largest_true=0.5)})
    assert titles(labels) == {"supervised", "consistency", "counted (%)", "largest class (%)", "iterations"}


def test_the_curves_of_steps_are_those_of_trainings_with_unlabeled_images() -> None:
    histories = {"train/teacher": HISTORY, "train/phase1": HISTORY, "train/student": STEPS}
    assert "Losses and labels" not in curves(facts(histories=dict.fromkeys(histories, HISTORY)))
    found = curves(facts(histories=histories))
    assert found.count("<svg") == 4
    assert found.count("Losses and labels of final student of st++") == 1
    assert "Counted is the share of pixels that count" in found
    uncounted = curves(facts(histories={**histories, "train/student": STEPS.drop(columns="counted")}))
    assert "These are its parts" in uncounted and "the share of pixels that count" not in uncounted


def test_a_chart_shows_a_users_name_as_it_is() -> None:
    texts = ["".join(node.itertext()) for node in ET.fromstring(DRAWN["classes"]()).iter() if node.tag.endswith("text")]
    assert NASTY in texts
    assert "<i>" in texts


def test_the_names_of_many_phases_take_a_line_for_each_word() -> None:
    texts = [node.text for node in ET.fromstring(DRAWN["six phases"]()).iter() if node.tag.endswith("text")]
    assert [text for text in texts if text in {word for name in SIX for word in name.split()}] == [
        word for name in SIX for word in name.split()
    ]


def test_the_cut_is_between_the_parts() -> None:
    svg = charts.score_histogram("x", SCORES, RELIABLE)
    assert f"the cut, {SCORES[RELIABLE].min():.3f}" in svg
    assert "10 unreliable" in svg
    assert "10 reliable" in svg
    mixed = RELIABLE.sample(frac=1, random_state=0).set_axis(RELIABLE.index)
    svg = charts.score_histogram("y", SCORES, mixed)
    assert "10 reliable" in svg and "the cut" not in svg


# --- colours ----------------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(code: str) -> np.ndarray:
    """Linear RGB in [0, 1] of `#rrggbb`."""
    values = np.array(list(bytes.fromhex(code[1:]))) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colour_blind_readers_tell_series_apart(theme: int, blindness: str) -> None:
    """All are at least 15 apart in CIELAB, and have at least WCAG's contrast of 3 with the page."""
    block = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[theme]
    colours = [linear(code) for code in re.findall(r"--series-\d: (#\w{6})", block)]
    assert len(colours) == len(charts.SERIES)
    seen = [lab(np.array(BLINDNESS[blindness]) @ colour) for colour in colours]
    assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 15
    page, *series = [light @ [0.2126, 0.7152, 0.0722] + 0.05 for light in (background(block), *colours)]
    assert min(max(page, one) / min(page, one) for one in series) > 3


def background(block: str) -> np.ndarray:
    """The page's colour, linear RGB; the print's is written short."""
    (code,) = re.findall(r"--page: #(\w+)", block)
    return linear(f"#{code if len(code) == 6 else ''.join(2 * digit for digit in code)}")


def test_series_are_not_told_apart_by_colour_alone() -> None:
    for looks in (charts.DASHES, charts.MARKERS, charts.HATCHES):
        assert len(set(map(str, looks))) == len(charts.SERIES)
