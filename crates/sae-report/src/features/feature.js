// One feature, or two side by side.

function facts(record, set) {
  const facts = [
    ["active in", `${percent(record.n_active / set.n_rows)} of rows`], ["rows", record.n_active.toLocaleString("en")],
    ["largest", format(record.max)], ["mean where active", format(record.mean)], ["decoder norm", format(record.norm)],
  ];
  if (record.k_hat) {
    facts.push(["mean k̂ where active", `${format(record.k_hat[0])} (all: ${format(set.k_hat[0])})`]);
    facts.push(["correlation with k̂", format(record.k_hat[1])]);
  }
  return element("dl", {}, ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

/** A histogram, and the same as a table. */
function histogram(title, [from, to, counts], what) {
  if (counts.length === 0) return element("p", { class: "muted" }, `${title}: none.`);
  const most = Math.max(...counts);
  const [width, height, foot] = [480, 110, 18];
  const step = width / counts.length;
  const edge = (bin) => from + ((to - from) * bin) / counts.length;
  const bars = counts.map((count, bin) => {
    const tall = count === 0 ? 0 : Math.max(1, (height * count) / most);
    const bar = svg("rect", { class: "bar-mark", x: bin * step, y: height - tall, width: Math.max(0.5, step - 1), height: tall });
    bar.append(svg("title", {}, `${format(edge(bin))} to ${format(edge(bin + 1))}: ${count}`));
    return bar;
  });
  const text = (x, anchor, value) => svg("text", { x, y: height + foot - 3, "text-anchor": anchor }, format(value));
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height + foot}`, role: "img", "aria-label": `${title}: histogram from ${format(from)} to ${format(to)}` },
    ...bars, text(0, "start", from), text(width, "end", to));
  const rows = counts.map((count, bin) => element("tr", {}, element("td", {}, `${format(edge(bin))} to ${format(edge(bin + 1))}`), element("td", {}, String(count))));
  const table = element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, what), element("th", { scope: "col" }, "count"))), element("tbody", {}, ...rows));
  return element("figure", {}, element("figcaption", {}, title), drawn,
    element("details", {}, element("summary", {}, "As a table"), element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Data: ${title}` }, table)));
}

function pairs(title, explanation, head, rows) {
  const cells = rows.map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", {}, format(value))));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))), element("tbody", {}, ...cells));
  return element("div", {}, element("h3", { title: explanation }, title), rows.length > 0 ? element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, table) : element("p", { class: "muted" }, "None."));
}

function neighbors(number, record, { set, page }) {
  const link = (other) => element("span", {}, element("a", { href: `${page}#feature=${other}` }, String(other)), " ",
    page !== "" ? "" : element("a", { class: "muted", href: `#compare=${number},${other}`, "aria-label": `Compare ${number} with ${other}` }, "compare"));
  const rows = (near) => near.map(([other, value]) => [link(other), value]);
  const of = set.n_coactivation_rows < set.n_rows ? `, over a sample of ${set.n_coactivation_rows} rows` : "";
  return element("div", { class: "trio" },
    pairs("Nearest by decoder", "Cosine of the decoder rows", ["feature", "cosine"], rows(record.cosine)),
    pairs("Nearest by correlation", `Pearson's correlation of activations over rows${of}`, ["feature", "correlation"], rows(record.pearson)),
    pairs("Nearest by shared rows", `Rows in which both are active over those in which either is${of}`, ["feature", "Jaccard"], rows(record.jaccard)));
}

function logits([promoted, suppressed, all]) {
  const rows = (tokens) => tokens.map(([id, value]) => [token(id), value]);
  return element("section", {}, element("h3", {}, "Logits"),
    element("p", { class: "muted" }, "What the host's final norm and unembedding make of the decoder row alone, scaled to a root mean square of 1, less what they make of zero."),
    element("div", { class: "trio" }, pairs("Promoted tokens", "The largest logits", ["token", "logit"], rows(promoted)),
      pairs("Suppressed tokens", "The smallest logits", ["token", "logit"], rows(suppressed)), histogram("Logits of all tokens", all, "logit")));
}

/** All contexts of a feature. */
function contexts(record, pages) {
  const { set } = pages;
  // The full colour is that of the largest activation in a row of common norm.
  const common = record.top.find(([, , , at, , , , outliers]) => !outliers.includes(at));
  const most = Math.abs(common ? common[2] : record.max);
  const items = (all) => element("ol", { class: set.pictures ? "contexts pictures" : "contexts" }, ...all.map((one) => context(one, most, pages)));
  const parts = record.quantiles.map(([from, to, n, all], number) => {
    const range = `${20 * number} to ${20 * (number + 1)} % of the activations by magnitude: ${format(from)} to ${format(to)}, ${n} rows`;
    return all.length === 0 ? null : element("details", number === 4 ? { open: "" } : {}, element("summary", {}, range), items(all));
  }).filter(Boolean).reverse();
  if (record.top.length === 0) return [element("p", {}, "It is active in no row.")];
  return [
    element("h3", {}, set.pictures ? "Top pictures" : "Top contexts"),
    ...(set.has_tokens ? [element("p", { class: "muted" }, "The underlined token has the value in front; the colour of each is its own activation.")] : []),
    ...(set.pictures ? [element("p", { class: "muted" }, "The value is the picture's largest; the colour of a patch is its own activation. Pictures are as the host reads them.")] : []),
    items(record.top),
    element("h3", {}, "Drawn from each fifth of the activations"), ...parts,
  ];
}

/** The pages that are open. */
const ownPages = () => ({ set: SET, page: "", labels: LABELS, folder: FOLDER });

/** All that is known of a feature, of this SAE or of the one that other pages show; with a title or none. */
function article(number, record, title, pages = ownPages()) {
  const { set, page, labels } = pages;
  return element("article", page === "" ? { id: `feature-${number}` } : {}, ...(title ? [element("h3", {}, element("a", { href: `${page}#feature=${number}` }, title))] : []),
    ...label(number, labels), facts(record, set),
    ...(page === "" ? [element("p", { class: "bar" }, pinner(number))] : []),
    histogram("Activations that are not 0", record.histogram, "activation"),
    ...contexts(record, pages), ...judging(number, record, labels), ...(record.logits ? [logits(record.logits)] : []), neighbors(number, record, pages));
}

function valuesButton() {
  const made = element("button", { type: "button", "aria-pressed": "false" }, "Values at tokens");
  made.addEventListener("click", () => {
    const on = $("main").classList.toggle("values");
    made.setAttribute("aria-pressed", String(on));
  });
  return made;
}

/** The button that changes how contexts are shown. */
const shownButton = () => (SET.pictures ? mapsButton() : valuesButton());

async function featureView(number) {
  const record = await feature(number);
  const other = element("input", { inputmode: "numeric", size: 6, autocomplete: "off" });
  const form = element("form", {}, element("label", {}, "Compare with ", other));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = `#compare=${number},${other.value.trim()}`;
  });
  const link = (to, text) => (to < 0 || to >= SET.n_features ? element("span", { class: "muted" }, text) : element("a", { href: `#feature=${to}` }, text));
  return () => show(`Feature ${number}`, [
    element("div", { class: "bar" }, link(number - 1, "← before"), link(number + 1, "after →"), shownButton(), form, besideForm(number)),
    article(number, record, null),
  ]);
}

async function compareView(left, right) {
  const records = [await feature(left), await feature(right)];
  const near = ["cosine", "pearson", "jaccard"].map((name) => [name, records[0][name].find(([other]) => other === right) ?? records[1][name].find(([other]) => other === left)]);
  const known = near.filter(([, found]) => found).map(([name, found]) => `${name} ${format(found[1])}`);
  return () => show(`Features ${left} and ${right}`, [
    element("p", { class: "muted" }, known.length > 0 ? `Between the two: ${known.join(", ")}.` : "Neither is among the nearest of the other."),
    element("div", { class: "bar" }, shownButton()),
    element("div", { class: "sides" }, article(left, records[0], `Feature ${left}`), article(right, records[1], `Feature ${right}`)),
  ]);
}

// The folder of other pages that was typed last.
let otherFolder = "";

/** Asks for other pages, to show the same number of their SAE. */
function besideForm(number) {
  const folder = element("input", { id: "beside", size: 18, autocomplete: "off", placeholder: "../../RUN/features" });
  folder.value = otherFolder;
  const form = element("form", {}, element("label", {}, "Same number in the pages in ", folder));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    otherFolder = folder.value.trim().replace(/\/+$/, "");
    if (location.hash === `#beside=${number}`) route(false);
    else location.hash = `#beside=${number}`;
  });
  return form;
}

async function besideView(number) {
  if (otherFolder === "") throw new Error("Expected the folder of other pages, which the page of a feature asks for.");
  const folder = otherFolder;
  const { index, labels } = await otherPages(folder);
  if (number >= index.set.n_features) throw new Error(`${folder}: expected a feature below ${index.set.n_features}, got ${number}`);
  const [own, other] = await Promise.all([feature(number), feature(number, index, `${folder}/${FOLDER}`)]);
  const title = (set) => `Feature ${number} of ${set.checkpoint}`;
  return () => show(`Feature ${number} in two SAEs`, [
    element("p", { class: "muted" }, "The same number means the same feature only where both SAEs began with the same weights."),
    element("div", { class: "bar" }, shownButton(), besideForm(number)),
    element("div", { class: "sides" }, article(number, own, title(SET)), article(number, other, title(index.set), { set: index.set, page: `${folder}/features.html`, labels, folder: `${folder}/${FOLDER}` })),
  ]);
}
