"""The report as a browser shows it: at two widths, in light and dark, and in print. Skipped where no Chromium is.

`make browser` opens the demo's report, and keeps pictures of it.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

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
    assert page.locator("svg.chart").count() >= 8
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
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    wide = "all => all.filter(e => e.getBoundingClientRect().right > 681).map(e => e.outerHTML.slice(0, 80))"
    assert page.eval_on_selector_all("section > *, figure, table, pre, .tiles", wide) == []
    page.close()
