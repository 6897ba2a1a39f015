// Elements, and texts in which everything is seen.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const $ = (id) => document.getElementById(id);

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

/** What a token stands for, a text or bytes, in which everything is seen. */
function seen(text) {
  if (typeof text === "string") return spell(text);
  return characters(text).flatMap((part) => (typeof part === "string" ? spell(part) : [element("span", { class: "mark" }, hex(part))]));
}

/** How a value is coloured. */
function shade(value, most) {
  if (value === 0 || most === 0) return "";
  const strength = Math.round(12 + 58 * Math.min(1, Math.abs(value / most)));
  return `background: color-mix(in srgb, var(${value > 0 ? "--hot" : "--cold"}) ${strength}%, transparent)`;
}
