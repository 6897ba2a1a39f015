"use strict";
// What charts are made of: SVG, numbers, ticks and marks.

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
