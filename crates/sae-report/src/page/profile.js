// Where architectures spend their features: means over groups of rows, and the texts at both ends.

/** What runs have a profile of, the numbers that differ over rows first. */
const PROFILED = RUNS.filter((run) => run.evaluation?.profile);
const spends = (run) => run.evaluation.sparsity.l0_sd > 0;

const span = (of) => (of.from === of.to ? format(of.from) : `${format(of.from)} to ${format(of.to)}`);
const tenth = (at) => `${at}${["st", "nd", "rd"][at - 1] ?? "th"}`;

// Charts: the groups of a run, a title, what a group is called, and how runs compare: groups of equal bounds share a
// place, or those of equal rank, whose bounds are the run's own.
const KINDS = [
  { kind: "by_position", title: "Position in the context", name: span },
  { kind: "by_document", title: "Text of the store", name: (of) => `text ${of.from}` },
  { kind: "by_frequency", title: "Occurrences of the token in the store", name: span },
  { kind: "by_error", title: "Share of the squared norm that is not rebuilt, in tenths of the rows", name: span, axis: "Tenth of the run's rows by that share, the least first" },
  { kind: "by_loss", title: "The untouched host's loss on the next token, in tenths of the predictions", name: span, axis: "Tenth of the predictions by that loss, the least first" },
];

/** The groups of a run. */
function groupsOf(run, kind) {
  return (kind === "by_loss" ? run.evaluation.cross_entropy?.by_next_loss : run.evaluation.profile[kind]) ?? [];
}

/** The places of a chart over all runs, so that they stay where runs are switched off: lower bounds, or ranks. */
function placesOf({ kind, axis }) {
  const all = PROFILED.filter(spends).map((run) => groupsOf(run, kind));
  if (axis) return Array.from({ length: Math.max(0, ...all.map((groups) => groups.length)) }, (_, at) => at + 1);
  return unique(all.flat().map((of) => of.from)).sort((a, b) => a - b);
}

function spentChart(figure, one, runs) {
  const { kind, title, axis } = one;
  const places = placesOf(one);
  figure.hidden = !runs.some((run) => groupsOf(run, kind).length > 1);
  if (figure.hidden) return;
  const name = (of, at) => (axis ? `${tenth(at + 1)} tenth, ${one.name(of)}` : one.name(of));
  const series = runs.map((run) => ({
    index: run.hue, name: label(run), dash: dashOf(run), marks: true,
    points: groupsOf(run, kind).map((of, at) => ({
      x: axis ? at + 1 : places.indexOf(of.from) + 1, y: of.l0,
      text: [`${label(run)}, ${name(of, at)}`, `L0 ${format(of.l0)}${of.k_hat === undefined ? "" : `, k̂ ${format(of.k_hat)}`}`,
        of.error === undefined ? "" : `not rebuilt: ${share(of.error)}`, `${of.n} rows`].filter(Boolean).join("\n"),
    })),
  }));
  const head = ["run", ...(axis ? ["tenth"] : []), title, "rows", "L0", "k̂", "not rebuilt"];
  const rows = () => runs.flatMap((run) => groupsOf(run, kind).map((of, at) =>
    [label(run), ...(axis ? [at + 1] : []), one.name(of), of.n, of.l0, of.k_hat ?? null, of.error ?? null]));
  const written = (place) => (axis ? tenth(place) : kind === "by_document" ? String(place) : format(place));
  const xTick = (at) => (places[at - 1] === undefined ? "" : written(places[at - 1]));
  chart(figure, {
    title: `L0 by ${title[0].toLowerCase()}${title.slice(1)}`, xLabel: axis ?? title, yLabel: "L0", series, xTick, xTicks: axis ? 11 : 7, data: { head, rows },
  });
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
  $("spent").replaceChildren(...KINDS.map(({ kind }) => element("figure", { id: kind })));
}
