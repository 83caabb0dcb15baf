"""HTML from parts: every plain string is text and is escaped, so what a user named cannot become markup."""

import base64
import csv
import hashlib
import html
import io
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from stpp.report.style import CSS

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may make part of the page: its own styles and pictures; nothing that runs or is elsewhere."""
VOID = {"img", "input", "link", "meta"}
"""Elements without an end."""


class Html(str):
    """Markup, which goes into a page as it is."""


def element(tag: str, *children: str | None, **attributes: str | None) -> Html:
    """`<tag attributes>children</tag>`; children and attributes that are None are left out.

    In the names of attributes `_` stands for `-`, and at the end for nothing: `class_`, `aria_label`.
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    inside = "".join(
        f' {names[name]}="{html.escape(value)}"' for name, value in attributes.items() if value is not None
    )
    return Html(f"<{tag}{inside}>" if tag in VOID else f"<{tag}{inside}>{together(children)}</{tag}>")


def together(children: Iterable[str | None]) -> Html:
    """One after the other."""
    return Html("".join(str(c) if isinstance(c, Html) else html.escape(c) for c in children if c is not None))


def document(title: str, content: Html, script: str = "") -> str:
    """A whole page without anything outside it; nothing runs in it but the `script`, by its hash."""
    allowed = f"; script-src 'sha256-{digest(script)}'" if script else ""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY + allowed),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(CSS)),
    )
    body = element("body", content, element("script", Html(script)) if script else None)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def digest(script: str) -> str:
    """What a Content-Security-Policy calls an inline script by: the SHA-256 of its text, in base64."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str, text_columns: int = 1) -> Html:
    """A table whose first `text_columns` are text and whose others are numbers; it scrolls where it is too wide."""
    kinds = ["text" if i < text_columns else "number" for i in range(len(header))]
    rows = list(rows)
    head = element("tr", *(element("th", name, scope="col", class_=kind) for name, kind in zip(header, kinds)))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", class_="text"),
            *(element("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:])),
        )
        for row in rows
    ]
    return scrolling(element("table", element("thead", head), element("tbody", *body)), caption, [header, *rows])


def scrolling(content: Html, caption: str, cells: Sequence[Sequence[str]]) -> Html:
    """A table, which may be wide, under its caption, with its `cells` as a file; what scrolls can be reached by the
    keyboard."""
    inside = element("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)
    header, *rows = cells
    return figure(inside, with_numbers(caption, header, rows))


def with_numbers(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A caption with the numbers below it as a file, which has the first words of it as its name."""
    name = "-".join(re.findall(r"\w+", re.split("[:;,]", caption)[0].lower())[:6])
    return together([caption, " ", csv_link(header, rows, name or "table", "CSV", f"{caption} as CSV")])


def csv_link(
    header: Sequence[str], rows: Iterable[Sequence[str]], name: str, text: str, about: str | None = None
) -> Html:
    """A link to a table as the CSV file `name.csv` inside the page; of markup in cells, its text is there."""
    out = io.StringIO()
    plain = [[html.unescape(re.sub("<[^>]*>", "", c)) if isinstance(c, Html) else c for c in r] for r in rows]
    csv.writer(out, lineterminator="\n").writerows([header, *plain])
    uri = f"data:text/csv;charset=utf-8,{quote(out.getvalue())}"
    return element("a", text, href=uri, download=f"{name}.csv", class_="download", aria_label=about)


def section(anchor: str, title: str, *children: str | None) -> Html:
    """A part of the page that the contents lead to; nothing if it has no children."""
    if not any(children):
        return Html("")
    return element("section", element("h2", title), *children, id=anchor)


def details(summary: str, *children: str | None) -> Html:
    """What is shown when someone asks for it."""
    return element("details", element("summary", summary), *children)


def grid(figures: Iterable[Html | None], columns: int = 3) -> Html:
    """Figures side by side, in as many columns, 2 or 3 at most, as the width allows."""
    return element("div", *figures, class_=f"grid columns-{columns}")


def figure(content: Html, caption: str) -> Html:
    """Something to look at, with a caption above it."""
    return element("figure", element("figcaption", caption), content)
