// Where architectures spend their features: means over groups of rows, and the texts at both ends.

/** What runs have a profile of, the numbers that differ over rows first. */
const PROFILED = RUNS.filter((run) => run.evaluation?.profile);
const spends = (run) => run.evaluation.sparsity.l0_sd > 0;

const KINDS = [
  ["by_position", "Position in the context", (of) => span(of)],
  ["by_document", "Text of the store", (of) => `text ${of.from}`],
  ["by_frequency", "Occurrences of the token in the store", (of) => span(of)],
  ["by_error", "Share of the squared norm that is not rebuilt, in tenths of the rows", (of) => `${format(of.from)} to ${format(of.to)}`],
  ["by_loss", "The untouched host's loss on the next token, in tenths of the predictions", (of) => `${format(of.from)} to ${format(of.to)}`],
];

const span = (of) => (of.from === of.to ? format(of.from) : `${format(of.from)} to ${format(of.to)}`);

/** The groups of a run. */
function groupsOf(run, kind) {
  return (kind === "by_loss" ? run.evaluation.cross_entropy?.by_next_loss : run.evaluation.profile[kind]) ?? [];
}

function spentChart(figure, [kind, title, name], runs) {
  const longest = runs.map((run) => groupsOf(run, kind)).reduce((a, b) => (b.length > a.length ? b : a), []);
  figure.hidden = longest.length < 2;
  if (figure.hidden) return;
  const series = runs.map((run) => ({
    index: run.hue, name: label(run), dash: dashOf(run), marks: true,
    points: groupsOf(run, kind).map((of, at) => ({
      x: at + 1, y: of.l0,
      text: [`${label(run)}, ${name(of)}`, `L0 ${format(of.l0)}${of.k_hat === undefined ? "" : `, k̂ ${format(of.k_hat)}`}`,
        of.error === undefined ? "" : `not rebuilt: ${share(of.error)}`, `${of.n} rows`].filter(Boolean).join("\n"),
    })),
  }));
  const head = ["run", title, "rows", "L0", "k̂", "not rebuilt"];
  const rows = () => runs.flatMap((run) => groupsOf(run, kind).map((of) => [label(run), name(of), of.n, of.l0, of.k_hat ?? null, of.error ?? null]));
  const xTick = (at) => (Number.isInteger(at) && longest[at - 1] ? (kind === "by_document" ? String(longest[at - 1].from) : format(longest[at - 1].from)) : "");
  chart(figure, { title: `L0 by ${title[0].toLowerCase()}${title.slice(1)}`, xLabel: title, yLabel: "L0", series, xTick, data: { head, rows } });
}

/** A text, each token coloured by its number of features. */
function spentText(text, [low, high]) {
  const words = element("p", { class: "words" });
  text.tokens.forEach((token, at) => {
    const value = text.values[at];
    const strength = high > low ? Math.max(0, Math.min(1, (value - low) / (high - low))) : 0;
    const shown = token === null ? [element("span", { class: "mark" }, "?")] : seen(token);
    words.append(element("span", { title: format(value), style: `background: color-mix(in srgb, var(--hot) ${Math.round(60 * strength)}%, transparent)` }, ...shown));
  });
  const place = element("p", { class: "muted" }, element("b", {}, format(text.mean)), ` in the mean · text ${text.document}, from position ${text.position}`);
  return element("li", {}, place, words);
}

/** The texts of a run. */
function texts(run) {
  const { fewest, most } = run.evaluation.profile;
  const values = [...fewest, ...most].flatMap((text) => text.values).sort((a, b) => a - b);
  const range = [values[Math.floor(0.05 * (values.length - 1))], values[Math.ceil(0.95 * (values.length - 1))]];
  const list = (all) => element("ol", { class: "texts" }, ...all.map((text) => spentText(text, range)));
  const what = run.evaluation.k_hat ? "k̂" : "number of features";
  return [
    element("p", { class: "muted" }, `The colour is the ${what} of each token, from ${format(range[0])} (none) to ${format(range[1])} (full).`),
    element("div", { class: "pair" }, element("section", {}, element("h3", {}, `Smallest ${what}`), list(fewest)), element("section", {}, element("h3", {}, `Largest ${what}`), list(most))),
  ];
}

/** All of it, for the runs that are shown. */
function profile() {
  const runs = shown().filter((run) => PROFILED.includes(run) && spends(run));
  const figures = [...$("spent").querySelectorAll("figure")];
  KINDS.forEach((kind, at) => spentChart(figures[at], kind, runs));
  const withTexts = runs.filter((run) => run.evaluation.profile.most.length > 0);
  $("texts-section").hidden = withTexts.length === 0;
  if (!withTexts.some((run) => run.run_id === state.texts)) {
    state.texts = (withTexts.find((run) => run.evaluation.k_hat) ?? withTexts[0])?.run_id;
  }
  const select = element("select", { "aria-label": "Run whose texts are shown", "data-key": "texts" },
    ...withTexts.map((run) => element("option", { value: run.run_id }, label(run))));
  select.value = state.texts ?? "";
  select.addEventListener("change", () => { state.texts = select.value; draw(); });
  $("texts-controls").replaceChildren(select);
  const chosen = withTexts.find((run) => run.run_id === state.texts);
  $("texts").replaceChildren(...(chosen ? texts(chosen) : []));
}

/** The places of the charts; none where no run has more features for one row than for another. */
function profiles() {
  $("profile-section").hidden = !PROFILED.some(spends);
  $("spent").replaceChildren(...KINDS.map(([kind]) => element("figure", { id: kind })));
}
