// The list of all features: search, filters, order.

const ROWS = 100;
const list = { query: "", mode: "any", sort: "density", down: true, start: 0, alive: "alive", ranges: {}, words: null };

/** The columns with numbers: name, explanation, value of a feature. */
const numbers = () => [
  ["density", "Share of rows in which it is active, in %", (f) => COLUMNS.n_active[f] / SET.n_rows, percent, 100],
  ["max", "The activation of largest magnitude", (f) => COLUMNS.max[f], format, 1],
  ["mean", "Mean activation where active", (f) => COLUMNS.mean[f], format, 1],
  ["norm", "Norm of the decoder row", (f) => COLUMNS.norm[f], format, 1],
  ...(SET.k_hat ? [["k̂ corr.", "Correlation of k̂ and whether it is active", (f) => COLUMNS.k_hat[f], format, 1]] : []),
  ...scores(),
];

/** The features that a query finds; all without one. */
async function search(query, mode) {
  const text = query.trim().toLowerCase();
  if (text === "") return null;
  const found = new Set();
  if ((mode === "any" || mode === "number") && /^\d+$/.test(text) && Number(text) < SET.n_features) found.add(Number(text));
  if (mode === "any" || mode === "token") {
    const ids = new Set([...TOKENS.keys()].filter((id) => plain(id).toLowerCase().includes(text)));
    COLUMNS.peaks.forEach((peaks, number) => {
      if (peaks.some((id) => ids.has(id)) || ids.has(COLUMNS.promoted[number])) found.add(number);
    });
  }
  if (mode === "any" || mode === "word") {
    // Cut before letters become small ones, of which some are two, as the words of contexts are.
    const words = query.split(/[^\p{Alphabetic}\p{N}]+/u).filter(Boolean).map((word) => [...word.toLowerCase()].slice(0, 32).join(""));
    let common = null;
    for (const word of words) {
      const own = await withWord(word);
      common = common === null ? own : new Set([...common].filter((number) => own.has(number)));
    }
    for (const number of common ?? []) found.add(number);
  }
  if (mode === "any" || mode === "label") {
    for (const [number, [, label]] of Object.entries(LABELS.features)) {
      if (label?.toLowerCase().includes(text)) found.add(Number(number));
    }
  }
  return found;
}

/** The features shown, in order. */
function chosen() {
  const columns = numbers();
  const bounds = columns.map(([name, , value, , unit]) => {
    const [low, high] = list.ranges[name] ?? ["", ""];
    return { value, low: low === "" ? -Infinity : Number(low) / unit, high: high === "" ? Infinity : Number(high) / unit };
  }).filter(({ low, high }) => low !== -Infinity || high !== Infinity);
  const all = [];
  for (let f = 0; f < SET.n_features; f += 1) {
    if (list.words !== null && !list.words.has(f)) continue;
    if (list.alive !== "all" && (COLUMNS.n_active[f] > 0) !== (list.alive === "alive")) continue;
    if (bounds.every(({ value, low, high }) => value(f) !== null && value(f) >= low && value(f) <= high)) all.push(f);
  }
  const by = columns.find(([name]) => name === list.sort)?.[2] ?? ((f) => f);
  const sign = list.down ? -1 : 1;
  const keys = new Map(all.map((f) => [f, by(f) ?? -Infinity]));
  return all.sort((a, b) => sign * (keys.get(a) - keys.get(b)) || a - b);
}

function sorter(name, title) {
  const sorted = list.sort === name;
  const button = element("button", { type: "button", title }, name + (sorted ? (list.down ? " ↓" : " ↑") : ""));
  button.addEventListener("click", () => {
    list.down = sorted ? !list.down : name !== "feature";
    list.sort = name;
    list.start = 0;
    fill();
    [...$("features").querySelectorAll("thead button")].find((made) => made.title === title)?.focus();
  });
  const cell = element("th", { scope: "col" }, button);
  if (sorted) cell.setAttribute("aria-sort", list.down ? "descending" : "ascending");
  return cell;
}

/** The rows of the table, as the controls say. */
function fill() {
  const all = chosen();
  list.start = Math.min(list.start, Math.max(0, Math.floor((all.length - 1) / ROWS) * ROWS));
  const columns = numbers();
  const promotes = COLUMNS.promoted.some((id) => id !== null);
  const labelled = Object.keys(LABELS.features).length > 0;
  const head = element("tr", {}, sorter("feature", "The number of the feature"), ...columns.map(([name, title]) => sorter(name, title)),
    ...(labelled ? [element("th", { scope: "col", class: "text" }, "label")] : []), element("th", { scope: "col", class: "text" }, "top tokens"), ...(promotes ? [element("th", { scope: "col", class: "text" }, "promotes")] : []),
    element("th", { scope: "col" }, "pin"));
  const rows = all.slice(list.start, list.start + ROWS).map((f) => element("tr", {},
    element("th", { scope: "row" }, element("a", { href: `#feature=${f}` }, String(f))),
    ...columns.map(([, , value, write]) => element("td", {}, write(value(f)))),
    ...(labelled ? [element("td", { class: "text" }, ...spell(labelOf(f) ?? ""))] : []), element("td", { class: "text" }, ...COLUMNS.peaks[f].map(token)),
    ...(promotes ? [element("td", { class: "text" }, ...(COLUMNS.promoted[f] === null ? [] : [token(COLUMNS.promoted[f])]))] : []),
    element("td", {}, pinner(f))));
  $("features").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  const end = Math.min(all.length, list.start + ROWS);
  const hidden = list.words === null ? 0 : list.words.size - all.length;
  $("count").textContent = (all.length === 0 ? "No feature is so." : `${list.start + 1} to ${end} of ${all.length} features`) +
    (hidden > 0 ? ` (${hidden} more are found, but not shown by these filters)` : "");
  $("back").disabled = list.start === 0;
  $("on").disabled = end === all.length;
}

/** A control that changes the list. */
function control(made, event, act) {
  let turn = 0;
  made.addEventListener(event, async () => {
    turn += 1;
    const own = turn;
    list.start = 0;
    try {
      await act();
      if (own === turn && $("features")) fill();
    } catch (error) {
      failed(error);
    }
  });
  return made;
}

function select(label, values, value, act) {
  const made = element("select", {}, ...values.map(([name, text]) => element("option", { value: name }, text)));
  made.value = value;
  return element("label", {}, `${label} `, control(made, "change", () => act(made.value)));
}

/** What Enter in the search opens: the feature whose number was typed, or the first that is shown. */
function firstHit() {
  const number = Number(list.query.trim());
  const isNumber = /^\d+$/.test(list.query.trim()) && (list.mode === "any" || list.mode === "number");
  return isNumber && list.words?.has(number) ? number : chosen()[0];
}

/** Lets Enter in the search open a hit. */
function opens(box, find) {
  box.addEventListener("keydown", async (event) => {
    if (event.key !== "Enter" || event.isComposing || box.value.trim() === "") return;
    event.preventDefault();
    const query = box.value;
    try {
      await find();
      const hit = firstHit();
      if (box.isConnected && box.value === query && hit !== undefined) location.hash = `#feature=${hit}`;
    } catch (error) {
      failed(error);
    }
  });
}

let searches = 0;

function listView() {
  const box = element("input", { id: "search", type: "search", placeholder: "number, token or word", autocomplete: "off", "aria-label": "Search by number, token or word" });
  box.value = list.query;
  const find = async () => {
    searches += 1;
    const own = searches;
    list.query = box.value;
    const words = await search(list.query, list.mode);
    // One that was asked later may be done already.
    if (own === searches) list.words = words;
  };
  opens(box, find);
  const ranges = numbers().map(([name, title]) => {
    const bound = (at, word) => {
      const made = element("input", { class: "number", inputmode: "decimal", placeholder: word, "aria-label": `${title}: ${word}` });
      made.value = list.ranges[name]?.[at] ?? "";
      return control(made, "input", () => {
        const isNumber = made.value.trim() === "" || Number.isFinite(Number(made.value));
        made.setAttribute("aria-invalid", String(!isNumber));
        list.ranges[name] ??= ["", ""];
        if (isNumber) list.ranges[name][at] = made.value.trim();
      });
    };
    return element("span", {}, name === "density" ? "density in % " : `${name} `, bound(0, "from"), " ", bound(1, "to"));
  });
  const step = (id, text, by) => {
    const made = element("button", { type: "button", id }, text);
    made.addEventListener("click", () => { list.start += by; fill(); });
    return made;
  };
  show("All features", [
    element("fieldset", {}, element("legend", { class: "sr" }, "Which features are shown"),
      control(box, "input", find),
      select("in", [["any", "numbers, tokens, words"], ["number", "numbers"], ["token", "top and promoted tokens"], ["word", "words of top contexts"],
        ...(Object.keys(LABELS.features).length > 0 ? [["label", "labels"]] : [])], list.mode,
        (mode) => { list.mode = mode; return find(); }),
      select("show", [["alive", "active ones"], ["dead", "dead ones"], ["all", "all"]], list.alive, (alive) => { list.alive = alive; })),
    element("details", {}, element("summary", {}, "More filters"), element("fieldset", {}, ...ranges)),
    element("p", { class: "bar" }, step("back", "Back", -ROWS), step("on", "On", ROWS), element("span", { id: "count", role: "status" })),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Features" }, element("table", { id: "features" })),
  ]);
  fill();
}
