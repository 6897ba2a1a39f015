// Charts in SVG: axes, lines and marks that answer the pointer.

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

/** Lets a drag over part of a chart show that part alone; a double click shows the whole again. */
function zoomable(figure, root, { area, width, unX, unY }, again) {
  const box = svg("rect", { class: "zoom", visibility: "hidden" });
  root.append(box);
  let start = null;
  const place = (event) => {
    const bounds = root.getBoundingClientRect();
    const scale = width / bounds.width;
    const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
    return [clamp((event.clientX - bounds.left) * scale, area.left, area.right), clamp((event.clientY - bounds.top) * scale, area.top, area.bottom)];
  };
  const sides = (event) => {
    const end = place(event);
    return [0, 1].map((at) => [Math.min(start[at], end[at]), Math.max(start[at], end[at])]);
  };
  root.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch" && event.button === 0) {
      start = place(event);
      root.setPointerCapture(event.pointerId);
    }
  });
  root.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const [[x0, x1], [y0, y1]] = sides(event);
    for (const [name, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0, visibility: "visible" })) box.setAttribute(name, value);
  });
  root.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const [[x0, x1], [y0, y1]] = sides(event);
    start = null;
    box.setAttribute("visibility", "hidden");
    if (x1 - x0 < 8 || y1 - y0 < 8) return;
    figure.zoom = { x: [unX(x0), unX(x1)], y: [unY(y1), unY(y0)] };
    again();
  });
  root.addEventListener("pointercancel", () => { start = null; box.setAttribute("visibility", "hidden"); });
  root.addEventListener("dblclick", () => {
    figure.zoom = null;
    again();
  });
}

/**
 * A chart of series in place of what `figure` holds.
 * A series: {index, name, dash, points: [{x, y, text}], line: [[x, y]], bars: [{x, low, high}], marks}.
 */
function chart(figure, options) {
  const { title, xLabel, yLabel, series, xLog, yLog, xTick, wide, data } = options;
  const { xTicks = wide ? 10 : 7 } = options;
  const open = figure.querySelector("details")?.open;
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
  const bars = series.flatMap((s) => s.bars ?? []);
  const [x0, x1] = figure.zoom?.x ?? range(points.map((p) => toX(p.x)), wide ? 0.01 : 0.06);
  const [y0, y1] = figure.zoom?.y ?? range([...points.map((p) => p.y), ...bars.flatMap((b) => [b.low, b.high])].map(toY), 0.07);
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
  for (const t of xLog ? logTicks(x0, x1) : ticks(x0, x1, xTicks)) {
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

  const clip = `${figure.id}-clip`;
  const inside = svg("g", { "clip-path": `url(#${clip})` });
  root.append(svg("clipPath", { id: clip }, svg("rect", { x: area.left, y: area.top - 6, width: area.right - area.left + 6, height: area.bottom - area.top + 6 })), inside);
  for (const { index, dash, line, bars: spread } of series) {
    for (const { x, low, high } of spread ?? []) {
      const bar = svg("line", { class: "spread", x1: px(x), x2: px(x), y1: py(low), y2: py(high), stroke: colour(index), "stroke-width": 6, "stroke-opacity": 0.35 });
      inside.append(bar);
    }
    if (line.length < 2) continue;
    const d = line.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    inside.append(svg("path", { d, class: "line", fill: "none", stroke: colour(index), "stroke-width": 2, "stroke-dasharray": dash ?? "", "stroke-linejoin": "round" }));
  }
  for (const { index, points, marks } of series) {
    if (marks) inside.append(...points.map((p) => mark(index, px(p.x), py(p.y), 5)));
  }
  const isSeen = (p) => toX(p.x) >= x0 && toX(p.x) <= x1 && toY(p.y) >= y0 && toY(p.y) <= y1;
  const seen = points.filter(isSeen);
  const ring = svg("circle", { r: 8, fill: "none", "stroke-width": 2, visibility: "hidden" });
  root.append(ring);
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect();
    const scale = width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const distance = (p) => Math.hypot(px(p.x) - x, py(p.y) - y);
    const nearest = seen.reduce((a, b) => (distance(b) < distance(a) ? b : a), points[0]);
    const near = seen.length > 0 && distance(nearest) < 40;
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
  const unX = (x) => x0 + ((x - area.left) / (area.right - area.left)) * (x1 - x0);
  const unY = (y) => y0 + ((area.bottom - y) / (area.bottom - area.top)) * (y1 - y0);
  zoomable(figure, root, { area, width, unX, unY }, () => chart(figure, options));
  figure.append(root);
  const rows = () => series.flatMap((s) => s.points.map((p) => [s.name, p.x, p.y]));
  tools(figure, root, { title, head: ["series", xLabel, yLabel], rows, open, ...data });
}

/** Horizontal ranges, one a row: {index, name, low, middle, high, mean, text}. */
function ranges(figure, { title, xLabel, rows }) {
  const open = figure.querySelector("details")?.open;
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
  const head = ["run", "5th percentile", "median", "mean", "95th percentile"];
  tools(figure, root, { title, head, rows: () => rows.map((r) => [r.name, r.low, r.middle, r.mean, r.high]), open });
}
