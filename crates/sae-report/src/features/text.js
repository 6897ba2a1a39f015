// Tokens and numbers as people read them.

const TOKENS = new Map();
const SPECIAL = new Set();

const percent = (share) => (share === 0 ? "0 %" : `${format(100 * share)} %`);

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
  return seen(text);
}

/** A token that stands alone, its spaces seen. */
function token(id) {
  const parts = written(id).map((part) => (typeof part === "string" ? part.replaceAll(" ", "␣") : part));
  return element("span", { class: "token", title: `token ${id}${SPECIAL.has(id) ? ", special" : ""}` }, ...parts);
}

/** A context: where it is, and its tokens; or its picture. */
function context(one, most, pages) {
  const [row, place, value, at, ids, others, gaps, outliers] = one;
  if (pages.set.pictures && place && others.length > 0) return picture(one, most, pages);
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
