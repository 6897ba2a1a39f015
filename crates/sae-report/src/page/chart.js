"use strict";
// Charts in SVG: axes, lines and marks that answer the pointer.

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes and children. */
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A number for people: four significant digits, no trailing zeros. */
function format(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) {
    return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e").replace("-", "−");
  }
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/** Round values that cover a range, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Powers of ten in a range of logarithms; round values between them where there is but one. */
function logTicks(low, high) {
  const powers = [];
  for (let p = Math.ceil(low - 1e-9); p <= high + 1e-9; p++) powers.push(p);
  if (powers.length > 1) return powers;
  return ticks(10 ** low, 10 ** high, 5).filter((t) => t > 0).map(Math.log10);
}

const SHAPES = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (r) => `M0 ${-1.35 * r}L${1.35 * r} 0L0 ${1.35 * r}L${-1.35 * r} 0z`,
  (r) => `M0 ${-1.2 * r}L${1.2 * r} ${r}H${-1.2 * r}z`,
  (r) => `M0 ${1.2 * r}L${1.2 * r} ${-r}H${-1.2 * r}z`,
];

/** The mark of series number `index`: a colour and a shape, so that neither alone must tell. */
function mark(index, x, y, radius) {
  return svg("path", {
    d: SHAPES[index % SHAPES.length](radius), transform: `translate(${x} ${y})`,
    fill: colour(index), stroke: "var(--panel)", "stroke-width": 1.5,
  });
}

function colour(index) {
  return `var(--c${index % 9})`;
}

/** Shows `text` beside the pointer; nothing hides it. */
function tip(event, text) {
  const box = document.getElementById("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8);
  box.style.left = `${left}px`;
  box.style.top = `${Math.max(8, event.clientY - box.offsetHeight - 12)}px`;
}

/**
 * A chart of series in place of what `figure` holds.
 * A series: {index, dash, points: [{x, y, text}], line: [[x, y]], marks}.
 */
function chart(figure, { title, xLabel, yLabel, series, xLog, yLog, xTick, wide }) {
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.replaceChildren(caption);
  const toX = (v) => (xLog ? Math.log10(v) : v);
  const toY = (v) => (yLog ? Math.log10(v) : v);
  const usable = (x, y) => Number.isFinite(toX(x)) && Number.isFinite(toY(y)) && y !== null;
  for (const one of series) {
    one.points = one.points.filter((p) => usable(p.x, p.y));
    one.line = (one.line ?? one.points.map((p) => [p.x, p.y])).filter(([x, y]) => usable(x, y));
  }
  const points = series.flatMap((s) => s.points.map((p) => ({ ...p, index: s.index })));
  if (points.length === 0) {
    const note = document.createElement("p");
    note.className = "muted";
    note.textContent = "Nothing was measured.";
    figure.append(note);
    return;
  }
  const [width, height] = wide ? [1120, 380] : [560, 360];
  const area = { left: 62, right: width - 16, top: 12, bottom: height - 46 };
  const range = (values, pad) => {
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (high - low < 1e-12) [low, high] = [low - 0.5, high + 0.5];
    return [low - pad * (high - low), high + pad * (high - low)];
  };
  const [x0, x1] = range(points.map((p) => toX(p.x)), wide ? 0.01 : 0.06);
  const [y0, y1] = range(points.map((p) => toY(p.y)), 0.07);
  const px = (v) => area.left + ((toX(v) - x0) / (x1 - x0)) * (area.right - area.left);
  const py = (v) => area.bottom - ((toY(v) - y0) / (y1 - y0)) * (area.bottom - area.top);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });

  for (const t of yLog ? logTicks(y0, y1) : ticks(y0, y1, 6)) {
    const y = py(yLog ? 10 ** t : t);
    root.append(svg("line", { class: "grid", x1: area.left, x2: area.right, y1: y, y2: y }));
    const label = svg("text", { x: area.left - 8, y: y + 4, "text-anchor": "end" });
    label.textContent = format(yLog ? 10 ** t : t);
    root.append(label);
  }
  for (const t of xLog ? logTicks(x0, x1) : ticks(x0, x1, wide ? 10 : 7)) {
    const x = px(xLog ? 10 ** t : t);
    root.append(svg("line", { class: "grid", x1: x, x2: x, y1: area.top, y2: area.bottom }));
    const label = svg("text", { x, y: area.bottom + 18, "text-anchor": "middle" });
    label.textContent = xTick ? xTick(t) : format(xLog ? 10 ** t : t);
    root.append(label);
  }
  root.append(svg("path", { class: "axis", fill: "none", d: `M${area.left} ${area.top}V${area.bottom}H${area.right}` }));
  const xName = svg("text", { class: "name", x: (area.left + area.right) / 2, y: height - 8, "text-anchor": "middle" });
  xName.textContent = xLabel;
  const middle = (area.top + area.bottom) / 2;
  const yName = svg("text", { class: "name", transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" });
  yName.textContent = yLabel;
  root.append(xName, yName);

  for (const { index, dash, line } of series) {
    if (line.length < 2) continue;
    const d = line.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    root.append(svg("path", { d, fill: "none", stroke: colour(index), "stroke-width": 2, "stroke-dasharray": dash ?? "", "stroke-linejoin": "round" }));
  }
  for (const { index, points, marks } of series) {
    if (marks) root.append(...points.map((p) => mark(index, px(p.x), py(p.y), 5)));
  }
  const ring = svg("circle", { r: 8, fill: "none", "stroke-width": 2, visibility: "hidden" });
  root.append(ring);
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect();
    const scale = width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const distance = (p) => Math.hypot(px(p.x) - x, py(p.y) - y);
    const nearest = points.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    const near = distance(nearest) < 40;
    ring.setAttribute("visibility", near ? "visible" : "hidden");
    ring.setAttribute("stroke", colour(nearest.index));
    ring.setAttribute("cx", px(nearest.x));
    ring.setAttribute("cy", py(nearest.y));
    tip(event, near ? nearest.text : "");
  });
  root.addEventListener("pointerleave", (event) => {
    ring.setAttribute("visibility", "hidden");
    tip(event, "");
  });
  figure.append(root);
}

/** Horizontal ranges, one a row: {index, name, low, middle, high, mean, text}. */
function ranges(figure, { title, xLabel, rows }) {
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.replaceChildren(caption);
  const [width, pitch, left, right] = [560, 24, 170, 540];
  const bottom = 14 + rows.length * pitch;
  const high = Math.max(1, ...rows.map((r) => r.high)) * 1.05;
  const px = (v) => left + (v / high) * (right - left);
  const root = svg("svg", { viewBox: `0 0 ${width} ${bottom + 44}`, role: "img", "aria-label": title });
  for (const t of ticks(0, high, 6)) {
    root.append(svg("line", { class: "grid", x1: px(t), x2: px(t), y1: 6, y2: bottom }));
    const label = svg("text", { x: px(t), y: bottom + 18, "text-anchor": "middle" });
    label.textContent = format(t);
    root.append(label);
  }
  rows.forEach((row, i) => {
    const y = 14 + i * pitch + pitch / 2 - 4;
    const name = svg("text", { class: "name", x: left - 10, y: y + 4, "text-anchor": "end" });
    name.textContent = row.name;
    const line = { y1: y, y2: y, stroke: colour(row.index), "stroke-linecap": "round" };
    const group = svg("g", {}, name,
      svg("rect", { x: 0, y: y - pitch / 2, width, height: pitch, fill: "transparent" }),
      svg("line", { ...line, x1: px(row.low), x2: px(row.high), "stroke-width": 9, "stroke-opacity": 0.3 }),
      svg("line", { x1: px(row.middle), x2: px(row.middle), y1: y - 7, y2: y + 7, stroke: colour(row.index), "stroke-width": 2.5 }),
      mark(row.index, px(row.mean), y, 4.5));
    group.addEventListener("pointermove", (event) => tip(event, row.text));
    group.addEventListener("pointerleave", (event) => tip(event, ""));
    root.append(group);
  });
  const xName = svg("text", { class: "name", x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" });
  xName.textContent = xLabel;
  root.append(xName);
  figure.append(root);
}
