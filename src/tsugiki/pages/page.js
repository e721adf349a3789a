"use strict";
// Values under the pointer and under the arrow keys. What is shown is text that stands in the page: it is set as text,
// never as markup.
for (const plot of document.querySelectorAll(".plot")) {
  const stops = JSON.parse(plot.dataset.stops);
  if (!stops.x.length) continue;
  let shown = [], at = -1;

  const part = (kind, text, parent) => {
    const made = document.createElement(kind);
    if (text !== undefined) made.textContent = text;
    (parent || plot).append(made);
    return made;
  };
  const put = (node, left, top) => { node.style.left = left + "px"; node.style.top = top + "px"; };
  const drawing = () => [...plot.querySelectorAll("svg")].find((svg) => svg.getBoundingClientRect().width > 0);
  const box = () => {
    const svg = drawing(), [left, top, width, height, whole] = svg.dataset.box.split(" ").map(Number);
    const scale = svg.getBoundingClientRect().width / whole;
    return { left: left * scale, top: top * scale, width: width * scale, height: height * scale };
  };
  const clear = () => { for (const node of shown) node.remove(); shown = []; };

  const show = (stop) => {
    clear();
    at = stop;
    const area = box(), x = area.left + stops.x[stop] * area.width, tip = part("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    part("b", stops.t[stop], tip);
    shown.push(tip);
    if (stops.by === "x") {
      const cursor = part("div");
      cursor.className = "cursor";
      cursor.style.height = area.height + "px";
      put(cursor, x, area.top);
      shown.push(cursor);
    }
    let highest = 0;
    for (const series of stops.s) {
      const y = series.y[stop];
      if (!series.v[stop]) continue;
      part("div", (series.n ? series.n + "  " : "") + series.v[stop], tip);
      if (y === null) continue;
      highest = Math.max(highest, y);
      const spot = part("div");
      spot.className = "spot s" + series.c;
      put(spot, x, area.top + (1 - y) * area.height);
      shown.push(spot);
    }
    const room = plot.clientWidth - tip.offsetWidth;
    const left = x + 14 + tip.offsetWidth <= plot.clientWidth ? x + 14 : x - 14 - tip.offsetWidth;
    const point = area.top + (1 - highest) * area.height;
    put(tip, Math.max(0, Math.min(room, left)), stops.by === "x" ? area.top + 4 : Math.max(0, point - tip.offsetHeight - 12));
  };

  const nearest = (event) => {
    const bounds = plot.getBoundingClientRect(), area = box();
    const x = (event.clientX - bounds.left - area.left) / area.width;
    const y = 1 - (event.clientY - bounds.top - area.top) / area.height;
    let best = 0, least = Infinity;
    stops.x.forEach((place, stop) => {
      const up = stops.by === "xy" ? stops.s[0].y[stop] ?? 0 : y;
      const distance = ((place - x) * area.width) ** 2 + ((up - y) * area.height) ** 2;
      if (distance < least) { least = distance; best = stop; }
    });
    return best;
  };

  plot.addEventListener("pointermove", (event) => show(nearest(event)));
  plot.addEventListener("pointerdown", (event) => show(nearest(event)));
  plot.addEventListener("pointerleave", clear);
  plot.addEventListener("blur", clear);
  plot.addEventListener("keydown", (event) => {
    const last = stops.x.length - 1;
    const next = {
      ArrowRight: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0), ArrowDown: Math.min(at + 1, last),
      ArrowUp: Math.max(at - 1, 0), Home: 0, End: last, PageDown: Math.min(at + 20, last), PageUp: Math.max(at - 20, 0),
    }[event.key];
    if (event.key === "Escape") clear();
    if (next === undefined) return;
    event.preventDefault();
    show(next);
  });
}
