// Tokens and numbers as people read them.

const TOKENS = new Map();
const SPECIAL = new Set();

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const $ = (id) => document.getElementById(id);
const percent = (share) => (share === 0 ? "0 %" : `${format(100 * share)} %`);

// Characters that are not seen, or that change how others are shown.
const HIDDEN = /[\p{Cc}\p{Cf}\u2028\u2029\ufff0-\ufffb]/u;
const SIGNS = new Map([["\n", "↵"], ["\t", "⇥"], ["\r", "␍"]]);
const code = (char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A text in which hidden characters are seen. */
function spell(text) {
  const parts = [];
  let plain = "";
  for (const char of text) {
    if (!HIDDEN.test(char)) {
      plain += char;
      continue;
    }
    if (plain) parts.push(plain);
    plain = "";
    parts.push(element("span", { class: "mark" }, SIGNS.get(char) ?? code(char)));
  }
  if (plain) parts.push(plain);
  return parts;
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as characters, and those that are none as numbers. */
function characters(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length;) {
    const whole = [4, 3, 2, 1].filter((n) => at + n <= bytes.length).map((n) => {
      try {
        return [n, UTF8.decode(Uint8Array.from(bytes.slice(at, at + n)))];
      } catch {
        return null;
      }
    }).find((found) => found !== null && [...found[1]].length === 1);
    parts.push(whole ? whole[1] : bytes[at]);
    at += whole ? whole[0] : 1;
  }
  return parts;
}

const hex = (byte) => `\\x${byte.toString(16).padStart(2, "0")}`;

/** A token as one string. */
function plain(id) {
  const text = TOKENS.get(id);
  if (text === undefined || text === null) return `#${id}`;
  return typeof text === "string" ? text : characters(text).map((part) => (typeof part === "string" ? part : hex(part))).join("");
}

/** A token in which everything is seen. */
function written(id) {
  const text = TOKENS.get(id);
  if (text === undefined || text === null) return [element("span", { class: "mark" }, `#${id}`)];
  if (typeof text === "string") return spell(text);
  return characters(text).flatMap((part) => (typeof part === "string" ? spell(part) : [element("span", { class: "mark" }, hex(part))]));
}

/** A token that stands alone, its spaces seen. */
function token(id) {
  const parts = written(id).map((part) => (typeof part === "string" ? part.replaceAll(" ", "␣") : part));
  return element("span", { class: "token", title: `token ${id}${SPECIAL.has(id) ? ", special" : ""}` }, ...parts);
}

/** How a value is coloured. */
function shade(value, most) {
  if (value === 0 || most === 0) return "";
  const strength = Math.round(12 + 58 * Math.min(1, Math.abs(value / most)));
  return `background: color-mix(in srgb, var(${value > 0 ? "--hot" : "--cold"}) ${strength}%, transparent)`;
}

/** A context: where it is, and its tokens. */
function context([row, place, value, at, ids, others, gaps, outliers], most) {
  const values = new Map(others);
  values.set(at, value);
  const gap = new Map(gaps);
  const where = place ? `row ${row}, document ${place[0]}, position ${place[1]}` : `row ${row}`;
  const head = element("p", { class: "place" }, element("b", {}, format(value)), ` · ${where}`);
  if (ids.length === 0) return element("li", {}, head);
  const words = element("p", { class: "words" });
  ids.forEach((id, i) => {
    if (gap.has(i)) words.append(element("span", { class: "gap", title: `${gap.get(i)} tokens that the store does not have` }, `[${gap.get(i)} left out]`));
    const own = values.get(i) ?? 0;
    const kinds = [SPECIAL.has(id) && "special", outliers.includes(i) && "outlier"].filter(Boolean);
    const title = [`${JSON.stringify(plain(id))}, token ${id}: ${format(own)}`, SPECIAL.has(id) && "special token",
      outliers.includes(i) && "row of more than ten times the median norm"].filter(Boolean).join("; ");
    const span = element(i === at ? "mark" : "span", { title }, ...written(id));
    if (kinds.length > 0) span.className = kinds.join(" ");
    if (own !== 0) {
      span.style = shade(own, most);
      span.append(element("sub", {}, format(own)));
    }
    words.append(span);
  });
  return element("li", {}, head, words);
}
