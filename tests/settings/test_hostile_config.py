"""Configurations that are none: broken, ambiguous or malicious YAML, and values of any kind in any place."""

import copy
import os
from pathlib import Path
from typing import Any

import fabricate
import pytest
from hostile import quick, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stpp.commands.cli import main
from stpp.common.errors import StppError
from stpp.settings.configfile import load, read, resolved

BASE = """\
name: n
data: {layout: lists, root: r, labeled: l, unlabeled: u, classes: [a, b]}
experiments: {e: {method: st}}
"""


def doubling(kind: str, levels: int = 30) -> str:
    """A few lines that stand for 2^30 values."""
    lines = ["x0: &x0 {a: 1}" if kind == "merge" else "x0: &x0 [1]"]
    for level in range(1, levels + 1):
        twice = f"[*x{level - 1}, *x{level - 1}]"
        lines.append(f"x{level}: &x{level} " + (f"{{<<: {twice}}}" if kind == "merge" else twice))
    return "\n".join(lines)


TEXTS: dict[str, tuple[str | bytes, str]] = {
    # Text that is none
    "utf-16": (BASE.encode("utf-16"), "expected a text file in UTF-8"),
    "latin-1": (b"name: \xe4\n", "expected a text file in UTF-8"),
    "all bytes": (bytes(range(256)), "expected a text file in UTF-8"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(50), "expected a text file in UTF-8"),
    "a zero byte": ("name: a\0b\n", "unacceptable character #x0000"),
    "a control character": ("name: \x07\n", "unacceptable character #x0007"),
    "a tab": ("name:\tn\n\tdata: x\n", "'\\t' that cannot start any token"),
    # Text that is no mapping
    "an empty file": ("", "but got NoneType"),
    "a comment": ("# name: n\n", "but got NoneType"),
    "a word": ("hello", "but got str"),
    "a number": ("42", "but got int"),
    "a list": ("- name: n\n", "but got list"),
    "two documents": (f"{BASE}---\n{BASE}", "expected a single document"),
    "an open bracket": (f"{BASE}seeds: [1\n", "correct the file, which is YAML"),
    "a directive": (f"%YAML 9.9\n---\n{BASE}", "version 1.* is required"),
    "an endless key": (BASE + "x" * 2000 + ": 1\n", "could not find expected ':'"),
    # Keys
    "a key twice": (f"{BASE}name: other\n", "line 4: the key 'name' occurs a second time; keep one of them"),
    "a nested key twice": (BASE.replace("root: r,", "root: r, root: q,"), "line 2: the key 'root'"),
    "an experiment twice": (BASE.replace("{method: st}", "{method: st}, e: {method: st}"), "line 3: the key 'e'"),
    "a list as a key": (f"{BASE}[1, 2]: x\n", "unhashable key"),
    "a number as a key": (f"{BASE}1: x\n", "Keys should be strings, but got 1"),
    "nothing as a key": (f"{BASE}~: x\n", "Keys should be strings, but got None"),
    "a truth value as a key": (f"{BASE}yes: x\n", "Keys should be strings, but got True"),
    "nan as a key": (f"{BASE}.nan: x\n", "Keys should be strings, but got nan"),
    "a number as an experiment": (BASE.replace("{e:", "{1:"), "experiments.1"),
    "a key of 100,000 letters": (f"{BASE}? {'x' * 100_000}\n: 1\n", "unknown setting"),
    # Aliases
    "an alias bomb of lists": (doubling("list"), "take out aliases"),
    "an alias bomb of merged mappings": (doubling("merge"), "take out aliases"),
    "a configuration within itself": ("&a\nname: n\ndata: *a\nexperiments: *a\n", "within what it repeats"),
    "an override within itself": (BASE.replace("{method: st}", "&e {method: st, data: *e}"), "within what it repeats"),
    "a list within itself": ("seeds: &a [*a]\n", "within what it repeats"),
    "an undefined alias": (f"{BASE}seeds: *nope\n", "undefined alias 'nope'"),
    "an anchor twice": (f"{BASE}results: &a x\nseeds: &a [1]\n", "duplicate anchor 'a'"),
    "merging a number": (f"{BASE}<<: 3\n", "for merging, but found scalar"),
    # A program
    "a key that makes it a program": (f"{BASE}__use_yte__: true\n?exit(): 1\n", "line 4: the key '__use_yte__' makes"),
    "such a key that is off": (f"{BASE}__use_yte__: false\n", "take out key and code"),
    "such a key by way of merging": (f"a: &a {{__use_yte__: true}}\n{BASE}<<: *a\n", "line 1: the key '__use_yte__'"),
    "such a key in JSON": ('{"name": "n", "__use_yte__": 1}', "line 1: the key '__use_yte__'"),
    # Tags
    "a tag that runs a command": (f"{BASE}x: !!python/object/apply:os.system ['touch {{}}']\n", "os.system"),
    "a tag that names a function": (f"{BASE}x: !!python/name:os.system\n", "os.system"),
    "a tag that makes an object": (f"{BASE}x: !!python/object:pathlib.Path {{}}\n", "pathlib.Path"),
    "an unknown tag": (f"{BASE}results: !mine x\n", "a value with the tag '!mine'"),
    "binary data": (f"{BASE}results: !!binary aGVsbG8=\n", "a value with the tag 'binary'"),
    "a set": (f"{BASE}seeds: !!set {{1, 2}}\n", "a value with the tag 'set'"),
    "a word tagged a number": (f"{BASE}seeds: [!!int foo]\n", "invalid literal for int"),
    "a word tagged a fraction": (f"{BASE}selection: {{share: !!float foo}}\n", "could not convert string to float"),
    "a word tagged a truth value": (f"{BASE}labeling: {{flip: !!bool foo}}\n", "expected true or false"),
    # Values that YAML reads otherwise than people
    "a date": (f"{BASE}results: 2020-01-01\n", "line 4: YAML takes 2020-01-01 for a date; put it into quotes"),
    "a date that is none": (f"{BASE}results: 2020-99-99\n", "for a date"),
    "an octal number": (f"{BASE}seeds: [010]\n", "to the base 8 or 60"),
    "a time of day": (f"{BASE}seeds: [1:30:40]\n", "to the base 8 or 60"),
    "a truth value as a class": (BASE.replace("[a, b]", "[yes, no]"), "data.classes.0"),
    "a power of ten without a point": (f"{BASE}training: {{teacher: {{learning_rate: 1e-3}}}}\n", "got '1e-3'"),
    # Numbers
    "a number of 5000 digits": (f"{BASE}seeds: [{'9' * 5000}]\n", "5000 digits"),
    "a hexadecimal number of 5000 digits": (f"{BASE}seeds: [0x{'f' * 5000}]\n", "a number of thousands of digits"),
    "a seed above 32 bits": (f"{BASE}seeds: [4294967296]\n", "less than or equal to 4294967295"),
    "a fraction as a seed": (f"{BASE}seeds: [1.0]\n", "seeds.0"),
    "nan as a share": (f"{BASE}selection: {{share: .nan}}\n", "finite number, but got nan"),
    "minus infinity as a dropout": (f"{BASE}network: {{dropout: -.inf}}\n", "finite number"),
    "nothing as a section": (f"{BASE}selection: null\n", "selection: "),
    "nothing as the root": (BASE.replace("root: r", "root: ~"), "data.root"),
    # Depth
    "5000 open brackets": ("[" * 5000, "levels deep"),
    "3000 mappings": ("{a: " * 3000 + "1" + "}" * 3000, "levels deep"),
    "1500 indentations": ("\n".join(" " * n + "a:" for n in range(1500)), "levels deep"),
    "an override 60 deep": (BASE.replace("st}", "st, data: " + "{a: " * 60 + "1" + "}" * 60 + "}"), "levels deep"),
    # Names
    "half a character": (f'{BASE}results: "\\ud800"\n', "unicode"),
    "a zero byte in the root": (BASE.replace("root: r", 'root: "a\\0b"'), "data.root"),
    "a line break in the root": (BASE.replace("root: r", 'root: "a\\nb"'), "expected one line of text"),
    "a line break in a list": (BASE.replace("labeled: l,", 'labeled: "a\\rb",'), "expected one line of text"),
    "a line break in a class": (BASE.replace("[a, b]", '["a\\nb", c]'), "expected one line of text"),
    "a line break in the results": (f'{BASE}results: "a\\nb"\n', "expected one line of text"),
    "braces in the results": (f'{BASE}results: "a{{b}}"\n', "choose a path without"),
    "a closing brace in the results": (f'{BASE}results: "a}}b"\n', "has } in it"),
    "a variable of Snakemake in the results": (f"{BASE}results: a<b>c\n", "has < in it"),
    "braces in the weights": (f'{BASE}network: {{weights: "a}}.pth"}}\n', "choose a path without"),
    "results that look like an option": (f"{BASE}results: -rf\n", "choose a path like"),
    "results that are an address": (f"{BASE}results: s3://bucket/key\n", "choose a path like"),
    "results that are the working directory": (f"{BASE}results: .\n", "choose a path like"),
    "no results": (f"{BASE}results: ''\n", "at least 1 character"),
    "an experiment of two lines": (BASE.replace("{e:", '{"e\\n":'), "should match pattern"),
    "an experiment that leads elsewhere": (BASE.replace("{e:", "{../e:"), "should match pattern"),
    "a name of 81 letters": (BASE.replace("name: n", "name: " + "n" * 81), "at most 80 characters"),
    "a name in another script": (BASE.replace("name: n", "name: été"), "should match pattern"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_configuration_is_refused(name: str, tmp_path: Path) -> None:
    text, expected = TEXTS[name]
    path, exploded = tmp_path / "my config.yaml", tmp_path / "exploded"
    path.write_bytes(text if isinstance(text, bytes) else text.replace("{}", str(exploded)).encode())
    with refused(expected, "configuration"):
        read(path)
    assert not exploded.exists()


def test_a_folder_a_missing_file_and_a_loop_of_links_are_no_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for path in (tmp_path, tmp_path / "none.yaml", tmp_path / "loop.yaml"):
        assert main(["plan", str(path)]) == 1
        assert f"cannot read the configuration {path}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["data", "logs", "stages", "weights", "Stages", "DATA"])
def test_the_name_of_a_folder_of_results_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(BASE.replace("name: n", f"name: {name}"))
    with refused("name:", repr(name), "stages"):
        read(path)
    path.write_text(BASE.replace("name: n", f"name: {name}-2"))
    assert read(path).name == f"{name}-2"


def test_what_is_odd_but_clear_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(
        b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode() + b"training:\r\n  teacher: &t {epochs: 9}\r\n  student:"
        b" {<<: *t, crop: 64}\r\nresults: .//my  'results' $HOME;*/\r\nseeds: [0x10, 1_000]\r\n"
    )
    config = read(path)
    assert config.training.student.epochs == 9
    assert config.results == "my  'results' $HOME;*"
    assert config.seeds == [16, 1000]


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(fabricate.tiny(results="~/r", network={**fabricate.TINY["network"], "weights": "~/w.pth"}))
    assert (config.results, config.network.weights) == (str(tmp_path / "r"), str(tmp_path / "w.pth"))


# --- values of any kind in any place ----------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, "\0", "~", "{x}", "../..", "st++", "2020-01-01", "\ud800", b"bytes", 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a configuration."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


WHOLE = load(fabricate.TINY).model_dump()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(places(WHOLE)[1:]), VALUES)
def test_any_value_in_any_place_is_taken_or_refused(place: tuple[Any, ...], value: Any) -> None:
    raw: Any = copy.deepcopy(WHOLE)
    section = raw
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    check(raw)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_any_override_is_taken_or_refused(value: Any) -> None:
    check(fabricate.tiny(experiments={"e": {"method": "st", "data": {"label_map": value, "demo": value}}}))
    check(fabricate.tiny(experiments={"e": {"method": "st", "augmentation": value}, "f": value}))


@settings(max_examples=60)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}.yaml"
    path.write_bytes(content)
    with pytest.raises(StppError), quick():
        read(path)


def check(raw: Any) -> None:
    """`load` gives a configuration that can be resolved and written, or says what is wrong."""
    with quick():
        try:
            config = load(raw)
        except StppError as error:
            assert "configuration" in str(error) and len(str(error)) < 10_000
            return
        for name in config.experiments:
            resolved(config, name)
        config.model_dump_json()
