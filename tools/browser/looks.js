// SPDX-License-Identifier: GPL-3.0-or-later
// Measures of a page as it is shown now. Each returns a list of what is wrong; an empty one is good.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const shown = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: true });
  const tiny = (node) => { const box = node.getBoundingClientRect(); return box.width <= 1 || box.height <= 1; };
  const words = (text) => text.replace(/\s+/g, " ").trim();
  const kind = (node) => [node.tagName.toLowerCase(), ...node.classList].join(".");
  const name = (node) => `${kind(node)} "${words(node.textContent).slice(0, 40)}"`;

  function texts() {
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const parent = walker.currentNode.parentElement;
      if (walker.currentNode.data.trim() && !parent.closest("script, style, template") && shown(parent) && !tiny(parent)) found.push(parent);
    }
    return [...new Set(found)];
  }

  // Colours as the browser computes them; what it writes in another space it is asked to paint.
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  function rgba(colour) {
    const plain = colour.match(/^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/);
    if (plain) return [+plain[1], +plain[2], +plain[3], plain[4] === undefined ? 1 : +plain[4]];
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  }
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  function ground(node) {
    const layers = [];
    const svg = node.closest("svg");
    if (svg) { // the shapes that lie under this text, in the order of painting
      const box = node.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
      for (const shape of all("rect, circle", svg)) {
        if (!(shape.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
        const at = shape.getBoundingClientRect(), fill = getComputedStyle(shape).fill;
        if (fill !== "none" && at.left <= x && x <= at.right && at.top <= y && y <= at.bottom) layers.unshift(rgba(fill));
      }
    }
    for (let up = svg || node; up; up = up.parentElement) layers.push(rgba(getComputedStyle(up).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255]);
  }
  function ratio(node) {
    const style = getComputedStyle(node), under = ground(node);
    const ink = rgba(node.closest("svg") ? style.fill : style.color);
    for (let up = node; up; up = up.parentElement) ink[3] *= +getComputedStyle(up).opacity;
    const [a, b] = [light(over(ink, under)), light(under)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }

  return {
    open: () => all("details").forEach((one) => { one.open = true; }),
    seen: () => texts().length,
    contrast: () => texts().map((node) => [ratio(node), node]).filter(([found]) => found < 4.5).map(([found, node]) => `${found.toFixed(2)} ${name(node)}`),
    overflow: () => {
      const width = document.documentElement.clientWidth, inside = (node) => { // not moved by a box of its own
        for (let up = node.parentElement; up && up !== document.body; up = up.parentElement) if (getComputedStyle(up).overflowX !== "visible") return true;
        return false;
      };
      const wide = all("body *").filter((node) => shown(node) && !inside(node) && node.getBoundingClientRect().right > width + 1);
      if (document.documentElement.scrollWidth > width) wide.unshift(document.documentElement);
      const right = (node) => (node === document.documentElement ? node.scrollWidth : Math.round(node.getBoundingClientRect().right));
      return wide.map((node) => `${right(node)} > ${width} ${name(node)}`);
    },
    // A text that is cut off must be whole elsewhere; one in a picture must lie in it.
    cut: () => {
      const whole = words(texts().filter((node) => !clipped(node)).map((node) => node.textContent).join("\n"));
      function clipped(node) {
        const style = getComputedStyle(node);
        return [style.overflowX, style.overflowY].includes("hidden") && (node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1);
      }
      const lost = texts().filter((node) => clipped(node) && !whole.includes(words(node.textContent)));
      const outside = all("svg text").filter(shown).filter((node) => {
        const box = node.getBoundingClientRect(), frame = node.closest("svg[role=img], svg").getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1;
      });
      return [...lost, ...outside].map(name);
    },
    pictures: () => all("svg, img, canvas, object").filter((node) => !node.closest("[aria-hidden=true]") && !node.parentElement.closest("[role=img]"))
      .filter((node) => !(node.getAttribute("aria-label") || node.getAttribute("alt") || "").trim()).map(name),
    headings: () => {
      const levels = all("h1, h2, h3, h4, h5, h6").map((node) => [+node.tagName[1], node]), wrong = [];
      if (levels.filter(([level]) => level === 1).length !== 1) wrong.push("not one h1");
      levels.forEach(([level, node], i) => { if (level > (i ? levels[i - 1][0] : 0) + 1 || !words(node.textContent)) wrong.push(name(node)); });
      return wrong;
    },
    tables: () => {
      const wrong = all("th").filter((node) => !["col", "row"].includes(node.scope)).map(name);
      for (const table of all("table")) {
        const heads = all("thead th[scope=col]", table).length;
        if (!table.closest("[role=region][aria-label], [role=region][aria-labelledby]") && !table.caption) wrong.push(`no name: ${name(table)}`);
        for (const row of all("tbody tr", table)) if (row.cells.length !== heads || !row.querySelector("th[scope=row]")) wrong.push(name(row));
      }
      return wrong.concat(all("*").filter((node) => ["auto", "scroll"].includes(getComputedStyle(node).overflowX) && node.tabIndex < 0).map(name));
    },
    // What stands only in a title cannot be reached by keyboard, by touch or on paper.
    hover: () => {
      const text = words(document.body.textContent);
      return all("[title]").filter((node) => words(node.title) && !text.includes(words(node.title))).map((node) => `${name(node)}: ${node.title.slice(0, 60)}`);
    },
    references: () => {
      const ids = all("[id]").map((node) => node.id), wrong = ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `twice: ${id}`);
      for (const node of all("[aria-labelledby]")) if (!document.getElementById(node.getAttribute("aria-labelledby"))) wrong.push(name(node));
      for (const node of all("use")) if (!document.querySelector(node.getAttribute("href"))) wrong.push(`no symbol ${node.getAttribute("href")}`);
      if (!document.documentElement.lang || !document.title.trim()) wrong.push("no language or no title");
      return wrong;
    },
    // Elements and attributes that the template has none of: markup that came in by a value.
    foreign: () => all("script, img, iframe, object, embed, link, form, a, base, b").map(name)
      .concat(all("*").filter((node) => [...node.attributes].some((one) => /^on|^srcdoc$|^style$/.test(one.name))).map(name)),
  };
})()
