// The page: which runs are shown, and what of them.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.results.runs;
const NAMES = {
  topk: "TopK", batch_topk: "BatchTopK", matryoshka_batch_topk: "Matryoshka BatchTopK", soft: "SoftSAE",
  jumprelu: "JumpReLU", gated: "Gated", standard: "Standard", standard_april: "Standard (April)",
  p_anneal: "P-anneal",
};
const $ = (id) => document.getElementById(id);
const unique = (values) => [...new Set(values)];
const nameOf = (id) => NAMES[id] ?? id;
const GROUPS = DATA.groups.groups;
const groupName = (group) => (group.rest ? `${nameOf(group.base)} ${group.rest}` : nameOf(group.base));
RUNS.forEach((run, index) => {
  run.group = DATA.groups.of_run[index];
  run.settings = DATA.groups.values[index];
});
const target = (run) => run.config.architecture.k ?? run.config.architecture.target_l0 ?? null;
/** What decides how sparse a run is, whatever its architecture calls it. */
function sparsity({ config: { architecture: own } }) {
  return own.k ?? own.target_l0 ?? own.l1_penalty ?? own.initial_sparsity_penalty;
}
const TARGETS = unique(RUNS.map(target)).filter((k) => k !== null).sort((a, b) => a - b);
const SEEDS = unique(RUNS.map((run) => run.config.training.seed));
const DASHES = ["", "7 4", "2 4", "10 3 2 3", "1 2", "14 4"];
const dashOf = (run) => DASHES[Math.max(0, TARGETS.indexOf(target(run))) % DASHES.length];
const ce = (run) => run.evaluation?.cross_entropy ?? null;
const images = (run) => run.evaluation?.images ?? null;
/** Sparsity and fidelity on what images hold. */
const part = (run, name) => images(run)?.parts.find((scores) => scores.part === name);
const truth = (run) => run.evaluation?.ground_truth ?? null;

/** What tells a run from the others. */
function label(run) {
  const seed = SEEDS.length > 1 ? `, seed ${run.config.training.seed}` : "";
  return `${groupName(GROUPS[run.group])}, ${target(run) === null ? "penalty" : "k"} ${format(sparsity(run))}${seed}`;
}

const state = {
  off: new Set(), k: null, sort: null, down: false, chosen: null, metric: "loss", log: false,
};
const shown = () => RUNS.filter((run) => !state.off.has(run.group) && (state.k === null || target(run) === state.k));

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function sample(index) {
  return svg("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, mark(index, 0, 0, 4.5));
}

function button(children, pressed, act) {
  const made = element("button", { type: "button", "aria-pressed": pressed }, ...children);
  made.addEventListener("click", () => { act(); draw(); });
  return made;
}

function controls() {
  const all = GROUPS.map((group, index) =>
    button([sample(index), groupName(group)], !state.off.has(index), () => {
      if (!state.off.delete(index)) state.off.add(index);
    }));
  if (TARGETS.length > 1) {
    all.push(element("span", { class: "gap" }));
    all.push(button(["all k"], state.k === null, () => { state.k = null; }));
    all.push(...TARGETS.map((k) => button([`k ${k}`], state.k === k, () => { state.k = k; })));
  }
  $("controls").replaceChildren(...all);
}

function frontier(id, title, yLabel, value) {
  $(id).hidden = !RUNS.some((run) => run.evaluation && value(run) !== null);
  const runs = RUNS.filter((run) => !state.off.has(run.group) && run.evaluation && value(run) !== null);
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const series = GROUPS.map((group, index) => {
    const own = runs.filter((run) => run.group === index);
    const line = unique(own.map(sparsity)).map((k) => {
      const same = own.filter((run) => sparsity(run) === k);
      return [mean(same.map((run) => run.evaluation.sparsity.l0_mean)), mean(same.map(value))];
    });
    const points = own.map((run) => ({
      x: run.evaluation.sparsity.l0_mean, y: value(run),
      text: `${label(run)}\nL0 ${format(run.evaluation.sparsity.l0_mean)}, ${yLabel} ${format(value(run))}`,
    }));
    return { index, points, line: line.sort((a, b) => a[0] - b[0]), marks: true };
  });
  chart($(id), { title, xLabel: "L0: mean active features an input", yLabel, series });
}

const digits = (n) => (value) => (Number.isFinite(value) ? value.toFixed(n) : "–");
const share = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1)} %` : "–");
// Name, value, how it is written.
const COLUMNS = [
  ["architecture", (run) => nameOf(GROUPS[run.group].base), String],
  ...DATA.groups.named.map((at) => [
    DATA.groups.keys[at].replace(/^[a-z]+\.(?!name$)/, ""), (run) => run.settings[at], (value) => value ?? "–",
  ]),
  ["k", target, format],
  ["penalty", (run) => (target(run) === null ? sparsity(run) : null), format],
  ["seed", (run) => run.config.training.seed, format],
  ["status", (run) => run.status, String],
  ["L0", (run) => run.evaluation?.sparsity.l0_mean, digits(1)],
  ["sd over rows", (run) => run.evaluation?.sparsity.l0_sd, digits(1)],
  ["R²", (run) => run.evaluation?.reconstruction.r2, digits(4)],
  ["FVE", (run) => run.evaluation?.reconstruction.frac_variance_explained, digits(4)],
  ["cosine", (run) => run.evaluation?.reconstruction.cosine, digits(4)],
  ["CE recovered", (run) => ce(run)?.ce_recovered, digits(4)],
  ["KL recovered", (run) => ce(run)?.kl_recovered, digits(4)],
  ["embedding recovered", (run) => images(run)?.embedding_recovered, digits(4)],
  ["embedding cosine", (run) => images(run)?.cosine, digits(4)],
  ["nearest of label", (run) => images(run)?.labels?.spliced, share],
  ["… clean", (run) => images(run)?.labels?.clean, share],
  ["L0 class token", (run) => part(run, "class_token")?.l0_mean, digits(1)],
  ["L0 object", (run) => part(run, "object")?.l0_mean, digits(1)],
  ["L0 edge", (run) => part(run, "edge")?.l0_mean, digits(1)],
  ["L0 background", (run) => part(run, "background")?.l0_mean, digits(1)],
  ["dead", (run) => run.evaluation?.sparsity.dead_fraction, share],
  ["k̂ sd", (run) => run.evaluation?.k_hat?.sd, digits(1)],
  ["Spearman(true k)", (run) => truth(run)?.spearman_k_hat ?? truth(run)?.spearman_l0_true_l0, digits(3)],
  ["matched cosine", (run) => truth(run)?.mean_matched_cosine, digits(3)],
  ["recovered", (run) => truth(run)?.recovered_above_0_9, share],
  ["precision", (run) => truth(run)?.support_precision, digits(3)],
  ["recall", (run) => truth(run)?.support_recall, digits(3)],
  ["seconds", (run) => run.train_seconds, digits(0)],
];

function table() {
  const runs = [...shown()];
  const isText = (name) => COLUMNS.slice(0, 1 + DATA.groups.named.length).some((column) => column[0] === name);
  const columns = COLUMNS.filter(([name, value]) => isText(name) || name === "status" || RUNS.some((run) => Number.isFinite(value(run))))
    .filter(([name]) => name !== "seed" || SEEDS.length > 1)
    .filter(([name]) => name !== "status" || RUNS.some((run) => run.status !== "done"));
  const by = columns.find(([name]) => name === state.sort)?.[1];
  if (by) {
    const isNumber = (value) => Number.isFinite(Number(value ?? NaN));
    const order = (a, b) => (runs.every((run) => by(run) == null || isNumber(by(run)))
      ? Number(a ?? -Infinity) - Number(b ?? -Infinity) : String(a ?? "").localeCompare(String(b ?? "")));
    runs.sort((a, b) => (state.down ? -1 : 1) * order(by(a), by(b)));
  }
  const head = columns.map(([name]) => {
    const sorted = state.sort === name;
    const cell = element("th", { scope: "col", tabindex: 0 }, name + (sorted ? (state.down ? " ↓" : " ↑") : ""));
    if (sorted) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    const act = () => {
      // Numbers start with the largest, names with the first.
      state.down = sorted ? !state.down : !isText(name) && name !== "status";
      state.sort = name;
      draw();
    };
    cell.addEventListener("click", act);
    cell.addEventListener("keydown", (event) => { if (event.key === "Enter") act(); });
    return cell;
  });
  const rows = runs.map((run) => {
    const cells = columns.map(([name, value, write]) => {
      if (name === "architecture") return element("td", {}, sample(run.group), value(run));
      if (name === "status") return element("td", { class: statusClass(run) }, statusOf(run));
      return element("td", {}, write(value(run)));
    });
    const row = element("tr", state.chosen === run.run_id ? { class: "chosen" } : {}, ...cells);
    row.addEventListener("click", () => {
      state.chosen = state.chosen === run.run_id ? null : run.run_id;
      draw();
    });
    return row;
  });
  $("runs").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  const chosen = RUNS.find((run) => run.run_id === state.chosen);
  $("run-config").hidden = !chosen;
  $("run-config").textContent = chosen ? describe(chosen) : "";
}

const statusClass = (run) => ({ done: "", failed: "failed", stale: "failed" })[run.status] ?? "waiting";
/** The status, with the steps of a run that has begun. */
function statusOf(run) {
  const steps = DATA.results.steps_done?.[run.run_id];
  return steps === undefined ? run.status : `${run.status}, step ${steps} of ${run.config.training.steps}`;
}

/** What made a run, as far as it is known, one thing a line. */
function made(run) {
  const by = run.provenance;
  if (!by) return [];
  const version = `softsae ${by.version}${by.revision ? ` (${by.revision})` : ""}${by.libtorch ? `, libtorch ${by.libtorch}` : ""}`;
  return [version, `${by.device} on ${by.host}`, `from ${by.started} to ${by.ended}`];
}

function describe(run) {
  const log = DATA.logs[run.run_id];
  return [
    `run ${run.run_id}: ${label(run)}`, statusOf(run) + (run.failure ? `: ${run.failure}` : ""), ...made(run), "",
    ...(log ? ["the end of its log:", log, ""] : []), JSON.stringify(run.config, null, 2),
  ].join("\n");
}

/** Runs that have failed or are not done, with the reason; those that have not begun are counted. */
function unfinished() {
  const runs = RUNS.filter((run) => run.status !== "done" && run.status !== "pending");
  const waiting = RUNS.filter((run) => run.status === "pending").length;
  const items = runs.map((run) => {
    const text = `${label(run)}: ${statusOf(run)}${run.failure ? `: ${run.failure}` : ""}`;
    const head = element("span", { class: statusClass(run) === "failed" ? "failed" : "" }, text);
    const log = DATA.logs[run.run_id];
    return log ? element("details", {}, element("summary", {}, head), element("pre", {}, log)) : element("p", {}, head);
  });
  if (waiting > 0) items.push(element("p", { class: "muted" }, `${waiting} runs have not begun.`));
  $("unfinished-section").hidden = items.length === 0;
  $("unfinished").replaceChildren(...items);
}

/** A table of each measure at equal L0. */
function equal() {
  const compared = DATA.equal;
  $("equal-section").hidden = compared === null;
  if (compared === null) return;
  const hasSeeds = compared.measures.some(({ cells }) => cells.flat().some((cell) => cell?.n > 1));
  const write = ({ mean, sd, n }) => mean.toFixed(4) + (sd ? ` ± ${sd.toFixed(4)}` : "") + (hasSeeds ? ` (${n})` : "");
  $("equal").replaceChildren(...compared.measures.map(({ name, cells }) => {
    const head = [`${name} at`, ...compared.l0.map((l0) => `L0 ${format(l0)}`)];
    const best = compared.l0.map((_, column) => {
      const means = cells.map((row) => row[column]?.mean).filter(Number.isFinite);
      const highest = Math.max(...means);
      return means.length > 1 && means.filter((mean) => mean === highest).length === 1 ? highest : null;
    });
    const rows = GROUPS.map((group, index) => [group, index]).filter(([, index]) => !state.off.has(index) && RUNS.some((run) => run.group === index && run.evaluation)).map(([group, index]) =>
      element("tr", {}, element("td", {}, sample(index), groupName(group)), ...cells[index].map((cell, column) =>
        element("td", cell && cell.mean === best[column] ? { class: "best" } : {}, cell ? write(cell) : "–"))));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))), element("tbody", {}, ...rows));
    return element("div", { class: "scroll" }, table);
  }));
}

function curves() {
  const metrics = unique(Object.values(DATA.curves).flatMap((curve) => Object.keys(curve.values)));
  if (!metrics.includes(state.metric)) state.metric = metrics[0];
  const select = element("select", { "aria-label": "Metric" }, ...metrics.map((name) => element("option", {}, name)));
  select.value = state.metric;
  select.addEventListener("change", () => { state.metric = select.value; draw(); });
  const scale = button(["logarithmic"], state.log, () => { state.log = !state.log; });
  const keys = TARGETS.length > 1 && state.k === null ? TARGETS.map((k) => {
    const line = svg("svg", { viewBox: "0 0 34 14", style: "width: 34px" },
      svg("line", { x1: 0, x2: 34, y1: 7, y2: 7, stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": DASHES[TARGETS.indexOf(k) % DASHES.length] }));
    return element("span", { class: "muted", style: "margin: 0 0.4rem" }, line, ` k ${k}`);
  }) : [];
  $("curve-controls").replaceChildren(select, scale, element("span", { class: "gap" }), ...keys);
  const series = shown().filter((run) => DATA.curves[run.run_id]?.values[state.metric]).map((run) => {
    const { step, values } = DATA.curves[run.run_id];
    const points = step.map((x, i) => ({ x, y: values[state.metric][i] })).filter((p) => p.y !== null);
    for (const p of points) p.text = `${label(run)}\nstep ${p.x}: ${state.metric} ${format(p.y)}`;
    return { index: run.group, dash: dashOf(run), points };
  });
  chart($("curves"), { title: `${state.metric ?? "metrics"} by step`, xLabel: "step", yLabel: state.metric ?? "", series, yLog: state.log, wide: true });
}

function activity() {
  const measured = shown().filter((run) => run.evaluation);
  ranges($("l0"), {
    title: "Active features per input: 5th to 95th percentile, median, mean",
    xLabel: "active features",
    rows: measured.map((run) => {
      const s = run.evaluation.sparsity;
      return {
        index: run.group, name: label(run), low: s.l0_p5, middle: s.l0_p50, high: s.l0_p95, mean: s.l0_mean,
        text: `${label(run)}\nmean ${format(s.l0_mean)} ± ${format(s.l0_sd)}\n5 %: ${format(s.l0_p5)}, median ${format(s.l0_p50)}, 95 %: ${format(s.l0_p95)}`,
      };
    }),
  });
  const series = measured.map((run) => {
    const counts = run.evaluation.sparsity.density_histogram;
    const total = run.config.sae.n_features;
    // Ten bins a decade, from 1e-6 to 1.
    const points = counts.map((count, i) => ({
      x: -6 + (i + 0.5) / 10, y: count / total,
      text: `${label(run)}\n${share(count / total)} of features fire on about one of ${format(Math.round(10 ** (6 - (i + 0.5) / 10)))} inputs`,
    }));
    const first = points.findIndex((p) => p.y > 0);
    return { index: run.group, dash: dashOf(run), points: first < 0 ? [] : points.slice(Math.max(0, first - 1)) };
  });
  chart($("density"), {
    title: "How often features fire", xLabel: "share of inputs", yLabel: "share of features", series,
    xTick: (t) => (Number.isInteger(t) ? `1e${t}`.replace("-", "−").replace("1e0", "1") : ""),
  });
}

function draw() {
  controls();
  frontier("frontier-r2", "Variance explained", "R²", (run) => run.evaluation.reconstruction.r2);
  frontier("frontier-ce", "Loss of the host with the reconstruction spliced in", "cross-entropy recovered", (run) => ce(run)?.ce_recovered ?? null);
  frontier("frontier-images", "Embeddings of images with the reconstruction spliced in", "embedding recovered", (run) => images(run)?.embedding_recovered ?? null);
  equal();
  table();
  curves();
  activity();
}

const seconds = RUNS.reduce((sum, run) => sum + run.train_seconds, 0);
const statuses = unique(RUNS.map((run) => run.status))
  .map((status) => `${RUNS.filter((run) => run.status === status).length} ${status}`);
$("name").textContent = DATA.results.name;
$("summary").textContent = `${RUNS.length} runs` + (statuses.length === 1 && statuses[0].endsWith(" done") ? "" : `: ${statuses.join(", ")}`) +
  ` · ${unique(GROUPS.map((group) => nameOf(group.base))).join(", ")} · ${(seconds / 60).toFixed(1)} minutes of training`;
const makers = RUNS.map(made).filter((lines) => lines.length > 0);
const started = RUNS.map((run) => run.provenance?.started).filter(Boolean).sort()[0];
const ended = RUNS.map((run) => run.provenance?.ended).filter(Boolean).sort().pop();
$("made").textContent = makers.length === 0 ? "" :
  [...unique(makers.map((lines) => lines[0])), ...unique(makers.map((lines) => lines[1])), `${started} to ${ended}`].join(" · ");
$("made").hidden = makers.length === 0;
$("notes").replaceChildren(...DATA.notes.map((note) => element("li", {}, note)));
$("sweep").textContent = DATA.sweep ?? "";
$("configuration").hidden = DATA.sweep === null;
unfinished();
draw();
