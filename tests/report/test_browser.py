"""The report as a browser shows it: at two widths, in light and dark, in print, and by keyboard. Skipped where no
Chromium is.

`make browser` opens the demo's report, and keeps pictures of it.
"""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Browser, ConsoleMessage, Page, Request  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")

LOOKS = {"wide": (1400, "light"), "wide-dark": (1400, "dark"), "phone": (420, "light"), "phone-dark": (420, "dark")}


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Path:
    """The page that is looked at."""
    given: Path | None = request.config.getoption("--report")
    return given or request.getfixturevalue("finished") / "my results/tiny/report.html"


@pytest.fixture(scope="module")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures."""
    folder: Path = request.config.getoption("--screenshots") or tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=LOOKS)
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Page]:
    """The report in a look; what it asks for and complains of must be nothing."""
    width, scheme = LOOKS[request.param]
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    said: list[str] = []

    def note(event: ConsoleMessage | Request | playwright.Error) -> None:
        said.append(getattr(event, "text", None) or getattr(event, "url", None) or str(event))

    page.on("console", note)
    page.on("pageerror", note)
    page.on("request", note)
    page.goto(report.resolve().as_uri())
    yield page
    page.close()
    assert [text for text in said if not text.startswith("data:")] == [report.resolve().as_uri()]


def test_the_page_is_whole_and_keeps_to_its_width(
    page: Page, request: pytest.FixtureRequest, screenshots: Path
) -> None:
    broken = "images => images.filter(i => !i.complete || !i.naturalWidth || !i.alt.trim()).map(i => i.alt)"
    assert page.eval_on_selector_all("img", broken) == []
    assert page.locator("img").count() > 8
    unnamed = "charts => charts.filter(c => !c.getAttribute('aria-label') || !c.clientHeight).length"
    assert page.eval_on_selector_all("svg.chart", unnamed) == 0
    assert page.locator("svg.chart").count() >= 6
    width = page.viewport_size["width"]  # type: ignore[index]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What is wider than the page scrolls within its place, or it would be cut off.
    lost = """width => [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > width + 1
        && !e.closest('.scroll, pre, svg')).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(lost, width) == []
    page.screenshot(path=screenshots / f"{request.node.callspec.id}.png", full_page=True)


def test_everything_that_opens_keeps_to_the_width(page: Page) -> None:
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]


def test_links_lead_to_their_parts(page: Page) -> None:
    links = page.locator("nav a")
    assert links.count() >= 8
    for link in links.all():
        target = (link.get_attribute("href") or "")[1:]
        link.click()
        heading = page.locator(f"section[id='{target}'] h2")
        heading.wait_for(state="visible")
        bar = page.locator("nav").bounding_box()
        assert bar is not None
        place = heading.bounding_box()
        assert place is not None
        assert bar["y"] + bar["height"] - 1 <= place["y"] < 900, f"{target} is hidden"


def test_text_can_be_read(page: Page) -> None:
    """WCAG's contrast of every text with what is behind it: 4.5, or 3 where it is large."""
    script = """() => {
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        const rgba = css => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = css;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data];
        };
        const linear = v => v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
        const luminance = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
        const behind = e => {
            const colour = rgba(getComputedStyle(e).backgroundColor);
            return colour[3] > 250 || !e.parentElement ? colour : behind(e.parentElement);
        };
        const unreadable = e => {
            const style = getComputedStyle(e), chart = e.closest('svg');
            const text = luminance(rgba(chart ? style.fill : style.color));
            const back = luminance(behind(chart ? chart.parentElement : e));
            const contrast = (Math.max(text, back) + .05) / (Math.min(text, back) + .05);
            return contrast < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5);
        };
        const hasText = e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) && e.getClientRects().length;
        return [...document.querySelectorAll('body *')].filter(e => hasText(e) && unreadable(e)).map(e => e.outerHTML);
    }"""
    assert page.evaluate(script) == []


def test_the_page_prints(browser: Browser, report: Path, screenshots: Path) -> None:
    """On A4, light even where the screen is dark, and nothing wider than the paper."""
    page = browser.new_page(viewport={"width": 680, "height": 900}, color_scheme="dark")
    page.goto(report.resolve().as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pages = len(re.findall(rb"/Type\s*/Page\b", page.pdf(path=screenshots / "print.pdf", prefer_css_page_size=True)))
    assert 2 <= pages <= 20
    assert not page.locator("#images").is_visible()
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    wide = "all => all.filter(e => e.getBoundingClientRect().right > 681).map(e => e.outerHTML.slice(0, 80))"
    assert page.eval_on_selector_all("section > *, figure, table, pre, .tiles", wide) == []
    page.close()


# --- the browser of overlays ------------------------------------------------------------------------------------------


def known_of(page: Page) -> dict[str, dict[str, Any]]:
    """What the page knows of each image, by its id."""
    facts = page.eval_on_selector_all(".shot", "shots => shots.map(s => s.dataset.facts)")
    return {one["id"]: one for one in map(json.loads, facts)}


def listed(page: Page) -> list[str]:
    """The ids of the images that are to be seen, in their order."""
    return page.locator(".shot:visible .name").all_inner_texts()


def shown(page: Page) -> str:
    """The id of the image that is enlarged."""
    return page.locator(".viewer .name").inner_text().partition(" (")[0]


def put(page: Page, name: str, value: str) -> None:
    """Set a slider, as a hand does."""
    script = "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }"
    page.eval_on_selector(f"[name={name}]", script, value)


def test_the_slider_divides_two_layers(page: Page) -> None:
    of_shot = "(shot, layer) => shot.querySelector(`[data-layer=${layer}]`).src"
    first = page.locator(".shot").first
    assert page.locator(".sheet .left").get_attribute("src") == first.evaluate(of_shot, "truth")
    assert page.locator(".sheet .right").get_attribute("src") == first.evaluate(of_shot, "prediction")
    page.select_option("[name=right]", "errors")
    assert page.locator(".sheet .right").get_attribute("src") == first.evaluate(of_shot, "errors")
    page.select_option("[name=left]", "image")
    assert not page.locator(".sheet .left").is_visible()
    put(page, "divider", "25")
    clip = "e => getComputedStyle(e).clipPath"
    assert page.locator(".sheet .right").evaluate(clip) == "inset(0px 0px 0px 25%)"
    page.locator(".stage").scroll_into_view_if_needed()
    sheet, handle = page.locator(".sheet").bounding_box(), page.locator(".handle").bounding_box()
    assert sheet and handle
    middle = handle["x"] + handle["width"] / 2
    assert middle == pytest.approx(sheet["x"] + sheet["width"] / 4, abs=1.5)
    page.mouse.move(middle, handle["y"] + 20)
    page.mouse.down()
    page.mouse.move(sheet["x"] + 0.6 * sheet["width"], handle["y"] + 20)
    page.mouse.up()
    assert float(page.input_value("[name=divider]")) == pytest.approx(60, abs=1)


def test_opacity_and_zoom(page: Page) -> None:
    put(page, "opacity", "20")
    assert page.locator(".sheet .right").evaluate("e => getComputedStyle(e).opacity") == "0.2"
    before = page.locator(".sheet").bounding_box()
    put(page, "zoom", "3")
    after = page.locator(".sheet").bounding_box()
    assert before and after
    assert after["width"] == pytest.approx(3 * before["width"], rel=0.1)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]


def test_filters_and_order(page: Page) -> None:
    known = known_of(page)
    assert sorted(listed(page)) == sorted(known)

    def expected(wanted: Callable[[dict[str, Any]], bool]) -> set[str]:
        return {id for id, one in known.items() if wanted(one)}

    page.select_option("[name=subset]", "unlabeled")
    assert set(listed(page)) == expected(lambda one: one["subset"] == "unlabeled") != set()
    assert shown(page) in listed(page)
    median = sorted(one["score"] for one in known.values() if "score" in one)[1]
    page.fill("[name=score]", str(median))
    assert set(listed(page)) == expected(lambda one: "score" in one and one["score"] <= median) != set()
    page.select_option("[name=subset]", "")
    page.fill("[name=score]", "")
    wrong = sorted(one["errors"] for one in known.values() if "errors" in one)
    page.fill("[name=errors]", str(100 * wrong[-2]))
    assert set(listed(page)) == expected(lambda one: one.get("errors", 0) >= wrong[-2]) != set()
    page.fill("[name=errors]", "100")
    page.fill("[name=score]", "0")
    assert listed(page) == []
    assert page.inner_text(".count") == "No image matches the filters."
    page.fill("[name=errors]", "")
    page.fill("[name=score]", "")
    page.select_option("[name=order]", "errors -1")
    errors = [known[id].get("errors", -1.0) for id in listed(page)]
    assert errors == sorted(errors, reverse=True)
    page.select_option("[name=class]", "1")
    page.select_option("[name=order]", "iou 1")
    assert set(listed(page)) == expected(lambda one: one["areas"][1] > 0 or one.get("true_areas", [0, 0])[1] > 0)
    values = [one["iou"][1] for id in listed(page) if (one := known[id]).get("iou")]
    assert values == sorted(values)


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.focus("[name=subset]")
    reached = []
    for _ in range(14):
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.className"))
        page.keyboard.press("Tab")
    controls = ["subset", "class", "errors", "score", "order", "left", "right", "divider", "opacity", "zoom"]
    assert reached[:13] == [*controls, "previous", "next", "stage"]
    assert reached[13] in ("facts", "shot", "shots")
    page.focus(".stage")
    order = listed(page)
    page.keyboard.press("ArrowRight")
    assert shown(page) == order[1]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown(page) == order[-1]
    page.keyboard.press("+")
    assert page.input_value("[name=zoom]") == "1.5"
    page.keyboard.press("ArrowRight")
    assert shown(page) == order[-1], "what is enlarged is moved"
    page.keyboard.press("-")
    page.keyboard.press(",")
    assert page.input_value("[name=divider]") == "45"
    page.keyboard.press("o")
    assert page.locator(".sheet .right").evaluate("e => getComputedStyle(e).opacity") == "0"
    page.keyboard.press("o")
    assert page.locator(".sheet .right").evaluate("e => getComputedStyle(e).opacity") == "0.5"


def test_a_link_opens_its_image(page: Page) -> None:
    page.select_option("[name=subset]", "unlabeled")
    link = page.locator(".example a").last
    link.focus()
    page.keyboard.press("Enter")
    assert shown(page) == link.inner_text()
    assert page.evaluate("document.activeElement.className") == "stage"
    page.locator(".shot:visible").nth(1).click()
    assert shown(page) == listed(page)[1]


def test_charts_and_tables_are_files(page: Page, tmp_path: Path) -> None:
    with page.expect_download() as waiting:
        page.locator("#curves .download", has_text="SVG").first.click()
    waiting.value.save_as(tmp_path / "chart.svg")
    svg = (tmp_path / "chart.svg").read_text()
    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg
    with page.expect_download() as waiting:
        page.locator("#results .download").first.click()
    waiting.value.save_as(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().startswith("experiment,mIoU (%)")


def test_without_script_the_page_shows_what_stands_still(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    assert not page.locator(".viewer").is_visible()
    assert page.locator(".shot").count() == page.locator(".shot:visible").count() > 3
    overlay = page.locator(".shot").first
    assert overlay.locator("img:visible").count() == 2, "the image, and its prediction over it"
    assert page.locator("svg.chart:visible").count() == page.locator("svg.chart").count() > 0
    assert page.locator("section h2:visible").count() >= 8
    context.close()
