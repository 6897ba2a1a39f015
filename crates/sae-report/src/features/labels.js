// What judges say of features, and how well contexts are told from others.

let LABELS = { judges: [], features: {} };

/** The mean of the shares of active and of other contexts that are told rightly. */
function accuracy(answers) {
  if (!answers) return null;
  const [hits, misses, alarms, rejections] = answers;
  if (hits + misses === 0 || alarms + rejections === 0) return null;
  return (hits / (hits + misses) + rejections / (alarms + rejections)) / 2;
}

const labelOf = (number, labels = LABELS) => labels.features[number]?.[1] ?? null;

/** The columns of the list that judges and the classifier fill. */
const scores = () => [
  ...(Object.keys(LABELS.features).length > 0 ? [
    ["detection", "Balanced accuracy of the judge, told by the label whether held-out texts have the feature", (f) => accuracy(LABELS.features[f]?.[2]), format, 1],
    ["fuzzing", "Balanced accuracy of the judge, told by the label whether marked tokens have the feature", (f) => accuracy(LABELS.features[f]?.[3]), format, 1],
  ] : []),
  ...(COLUMNS.n_gram.some((value) => value !== null) ? [
    ["n-grams", "Balanced accuracy of a classifier by n-grams on the same held-out texts; no label and no judge", (f) => COLUMNS.n_gram[f], format, 1],
  ] : []),
];

/** A label of a feature with the name of who gave it. */
function label(number, labels) {
  const found = labels.features[number];
  if (!found) return [];
  const text = found[1] === null ? element("span", { class: "muted" }, "No label: no answer of the judge could be read.") : element("span", {}, ...spell(found[1]));
  return [element("p", { class: "label" }, text, element("span", { class: "muted" }, " · by ", ...spell(labels.judges[found[0]])))];
}

/** How well held-out contexts are told, by the judge and by the classifier. */
function judging(number, record, labels) {
  const found = labels.features[number];
  const all = [["detection, by the label", found?.[2]], ["fuzzing, by the label", found?.[3]], ["detection, by n-grams without a judge", record.n_gram]];
  const share = (part, whole) => (part + whole === 0 ? "–" : `${part} of ${part + whole}`);
  const rows = all.filter(([, answers]) => answers).map(([name, answers]) => {
    const [hits, misses, alarms, rejections, unanswered] = answers;
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, format(accuracy(answers))), element("td", {}, share(hits, misses)),
      element("td", {}, share(alarms, rejections)), element("td", {}, String(unanswered)));
  });
  if (rows.length === 0) return [];
  const head = ["", "balanced accuracy", "active ones found", "others taken for it", "unanswered"].map((text) => element(text ? "th" : "td", text ? { scope: "col" } : {}, text));
  return [element("section", {}, element("h3", {}, "How well it is told"),
    element("p", { class: "muted" }, "On contexts that are shown nowhere: active ones drawn from each fifth, and windows of the store in which it is active on no token. 0.5 is chance."),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "How well the label tells" }, element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))))];
}
