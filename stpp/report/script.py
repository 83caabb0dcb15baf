"""The script of the page: the browser of overlays, and charts as files.

It stands in a module, as the style does, so that it counts as code of the report: another script is another page.
"""

SCRIPT = r"""
"use strict";
{
  // --- the browser of overlays ---
  const browser = document.getElementById("images");
  const all = (selector) => [...browser.querySelectorAll(selector)];
  const one = (selector) => browser.querySelector(selector);
  const control = (name) => one(`[name="${name}"]`);
  const shots = browser ? all(".shot") : [];
  const facts = new Map(shots.map((shot) => [shot, JSON.parse(shot.dataset.facts)]));
  let order = shots, current = null;

  const percent = (share) => (share == null ? "" : (100 * share).toFixed(1));

  // What an image is sorted by; those without it come last.
  function key(shot, name) {
    const value = facts.get(shot)[name];
    return name === "iou" ? value?.[control("class").value || 0] : value;
  }

  function isWanted(shot) {
    const { subset, areas, true_areas, errors, score } = facts.get(shot);
    const klass = control("class").value, wrong = control("errors").value, most = control("score").value;
    return (!control("subset").value || subset === control("subset").value)
      && (!klass || areas[klass] > 0 || true_areas?.[klass] > 0)
      && (!wrong || 100 * errors >= wrong)
      && (!most || score <= most);
  }

  function arrange() {
    const [name, sign] = control("order").value.split(" ");
    const compare = (a, b) => {
      const [x, y] = [key(a, name), key(b, name)];
      return x == null || y == null ? (x == null) - (y == null) : sign * (x - y);
    };
    order = shots.filter(isWanted);
    if (name) order.sort(compare);
    for (const shot of shots) shot.hidden = !order.includes(shot);
    one(".shots").append(...order);
    one(".desk").hidden = !order.length;
    show(order.includes(current) ? current : order[0]);
  }

  function show(shot) {
    current = shot;
    const place = order.indexOf(shot) + 1;
    one(".count").textContent = shot ? `${place} of ${order.length} images` : "No image matches the filters.";
    for (const other of shots) {
      other.tabIndex = other === shot ? 0 : -1;
      other.setAttribute("aria-current", other === shot);
    }
    if (!shot) return;
    const { id, subset, score, miou, errors } = facts.get(shot);
    const known = [score == null ? "" : `score ${score}`, miou == null ? "" : `mIoU ${percent(miou)} %`,
      errors == null ? "" : `${percent(errors)} % of the pixels wrong`].filter(Boolean);
    one(".viewer .name").textContent = [`${id} (${subset})`, ...known].join(", ");
    const photo = shot.querySelector("img");
    one(".photo").src = photo.src;
    one(".photo").alt = photo.alt;
    one(".sheet").style.setProperty("--aspect", photo.naturalWidth / photo.naturalHeight || 1);
    for (const side of ["left", "right"]) {
      const layer = shot.querySelector(`[data-layer="${control(side).value}"]`), shown = one(`.sheet .${side}`);
      shown.hidden = !layer;
      shown.alt = layer ? `${side}: ${layer.alt}` : "";
      if (layer) shown.src = layer.src;
    }
    one(".facts").replaceChildren(numbers(facts.get(shot)));
    const list = one(".shots"), top = shot.offsetTop, bottom = top + shot.offsetHeight;
    if (top < list.scrollTop || bottom > list.scrollTop + list.clientHeight) list.scrollTop = top - 8;
  }

  // The share and the IoU of each class that is in the image.
  function numbers({ areas, true_areas, iou }) {
    const table = document.createElement("table");
    const columns = [["true %", true_areas], ["predicted %", areas], ["IoU %", iou]].filter(([, values]) => values);
    const line = (parent, tag, cells) => {
      const row = parent.insertRow();
      cells.forEach((text, at) => {
        const cell = document.createElement(at ? tag : "th");
        cell.textContent = text;
        cell.className = at ? "number" : "text";
        row.append(cell);
      });
    };
    line(table.createTHead(), "th", ["class", ...columns.map(([title]) => title)]);
    const body = table.createTBody();
    [...control("class").options].slice(1).forEach(({ text }, at) => {
      if (areas[at] || true_areas?.[at]) line(body, "td", [text, ...columns.map(([, values]) => percent(values[at]))]);
    });
    return table;
  }

  function look() {
    const sheet = one(".sheet").style;
    sheet.setProperty("--at", `${control("divider").value}%`);
    sheet.setProperty("--opacity", control("opacity").value / 100);
    sheet.setProperty("--zoom", control("zoom").value);
  }

  function move(name, by) {
    control(name).value = Number(control(name).value) + by;
    look();
  }

  const go = (by) => show(order[(order.indexOf(current) + by + order.length) % order.length]);

  const toggle = () => {
    const { style } = one(".sheet");
    style.setProperty("--opacity", style.getPropertyValue("--opacity") > 0 ? 0 : control("opacity").value / 100 || 1);
  };

  const enlarged = () => control("zoom").value > 1;

  const KEYS = {
    ArrowLeft: () => !enlarged() && (go(-1), true),
    ArrowRight: () => !enlarged() && (go(1), true),
    "+": () => (move("zoom", 0.5), true),
    "-": () => (move("zoom", -0.5), true),
    ",": () => (move("divider", -5), true),
    ".": () => (move("divider", 5), true),
    o: () => (toggle(), true),
  };

  if (browser) {
    const on = (names, act) => names.forEach((name) => control(name).addEventListener("input", act));
    on(["subset", "class", "errors", "score", "order"], arrange);
    on(["left", "right"], () => show(current));
    on(["divider", "opacity", "zoom"], look);
    control("previous").addEventListener("click", () => go(-1));
    control("next").addEventListener("click", () => go(1));
    one(".stage").addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && KEYS[event.key]?.()) event.preventDefault();
    });
    const handle = one(".handle");
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const { left, width } = one(".sheet").getBoundingClientRect();
      control("divider").value = 100 * (event.clientX - left) / width;
      look();
    });
    // A link to an image, from here or from a table, opens it.
    browser.addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#image-"]');
      if (!link) return;
      event.preventDefault();
      const shot = document.getElementById(link.hash.slice(1));
      if (!order.includes(shot)) {
        for (const name of ["subset", "class", "errors", "score"]) control(name).value = "";
        arrange();
      }
      show(shot);
      one(".desk").scrollIntoView({ block: "nearest" });
      one(".stage").focus({ preventScroll: true });
    });
    one(".viewer").hidden = false;
    look();
    arrange();
  }

  // --- charts as files, in the colours that they have here ---
  for (const chart of document.querySelectorAll("svg.chart")) {
    const link = document.createElement("a");
    Object.assign(link, { className: "download", textContent: "SVG", download: "chart.svg", href: "data:," });
    const caption = chart.closest("figure").querySelector("figcaption");
    link.setAttribute("aria-label", `${caption.firstChild.textContent.trim()} as SVG`);
    link.addEventListener("click", () => {
      const copy = chart.cloneNode(true), style = getComputedStyle(document.documentElement);
      copy.setAttribute("style", "background: var(--page); font-family: sans-serif");
      const text = new XMLSerializer().serializeToString(copy);
      const whole = text.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
      link.href = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(whole)}`;
    });
    caption.append(" ", link);
  }
}
"""
