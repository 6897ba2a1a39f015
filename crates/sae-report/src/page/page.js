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
const WIDTHS = unique(RUNS.map((run) => run.config.sae.n_features));
/** What a curve is of: the architecture or the sweep's variant of it, at one width. */
function architecture(run) {
  const name = run.variant ?? run.config.architecture.name;
  return WIDTHS.length > 1 ? `${nameOf(name)}, F ${run.config.sae.n_features}` : name;
}
const target = (run) => run.config.architecture.k ?? run.config.architecture.target_l0 ?? null;
const ARCHITECTURES = unique(RUNS.map(architecture));
const TARGETS = unique(RUNS.map(target)).filter((k) => k !== null).sort((a, b) => a - b);
const SEEDS = unique(RUNS.map((run) => run.config.training.seed));
const DASHES = ["", "7 4", "2 4", "10 3 2 3", "1 2", "14 4"];
const indexOf = (run) => ARCHITECTURES.indexOf(architecture(run));
const dashOf = (run) => DASHES[Math.max(0, TARGETS.indexOf(target(run))) % DASHES.length];
const ce = (run) => run.evaluation?.cross_entropy ?? null;
const truth = (run) => run.evaluation?.ground_truth ?? null;

/** What tells a run from the others. */
function label(run) {
  const k = target(run);
  const seed = SEEDS.length > 1 ? `, seed ${run.config.training.seed}` : "";
  return nameOf(architecture(run)) + (k === null ? "" : `, k ${k}`) + seed;
}

const state = {
  off: new Set(), k: null, sort: null, down: false, chosen: null, metric: "loss", log: false,
};
const shown = () => RUNS.filter((run) => !state.off.has(architecture(run)) && (state.k === null || target(run) === state.k));

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
  const all = ARCHITECTURES.map((id, index) =>
    button([sample(index), nameOf(id)], !state.off.has(id), () => {
      if (!state.off.delete(id)) state.off.add(id);
    }));
  if (TARGETS.length > 1) {
    all.push(element("span", { class: "gap" }));
    all.push(button(["all k"], state.k === null, () => { state.k = null; }));
    all.push(...TARGETS.map((k) => button([`k ${k}`], state.k === k, () => { state.k = k; })));
  }
  $("controls").replaceChildren(...all);
}

function frontier(id, title, yLabel, value) {
  const runs = RUNS.filter((run) => !state.off.has(architecture(run)) && run.evaluation && value(run) !== null);
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const series = ARCHITECTURES.map((name, index) => {
    const own = runs.filter((run) => architecture(run) === name);
    const line = unique(own.map(target)).map((k) => {
      const same = own.filter((run) => target(run) === k);
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
// Name, value, how it is written, and which of several is best.
const COLUMNS = [
  ["architecture", (run) => nameOf(architecture(run)), String],
  ["k", target, format],
  ["seed", (run) => run.config.training.seed, format],
  ["L0", (run) => run.evaluation?.sparsity.l0_mean, digits(1)],
  ["L0 sd", (run) => run.evaluation?.sparsity.l0_sd, digits(1)],
  ["R²", (run) => run.evaluation?.reconstruction.r2, digits(4), Math.max],
  ["FVE", (run) => run.evaluation?.reconstruction.frac_variance_explained, digits(4), Math.max],
  ["cosine", (run) => run.evaluation?.reconstruction.cosine, digits(4), Math.max],
  ["CE recovered", (run) => ce(run)?.ce_recovered, digits(4), Math.max],
  ["KL recovered", (run) => ce(run)?.kl_recovered, digits(4), Math.max],
  ["dead", (run) => run.evaluation?.sparsity.dead_fraction, share],
  ["k̂ sd", (run) => run.evaluation?.k_hat?.sd, digits(1)],
  ["Spearman(true k)", (run) => truth(run)?.spearman_k_hat ?? truth(run)?.spearman_l0_true_l0, digits(3), Math.max],
  ["matched cosine", (run) => truth(run)?.mean_matched_cosine, digits(3), Math.max],
  ["recovered", (run) => truth(run)?.recovered_above_0_9, share, Math.max],
  ["precision", (run) => truth(run)?.support_precision, digits(3), Math.max],
  ["recall", (run) => truth(run)?.support_recall, digits(3), Math.max],
  ["seconds", (run) => run.train_seconds, digits(0)],
];

function table() {
  const runs = [...shown()];
  const columns = COLUMNS.filter(([name, value]) => name === "architecture" || RUNS.some((run) => Number.isFinite(value(run))))
    .filter(([name]) => name !== "seed" || SEEDS.length > 1);
  const by = columns.find(([name]) => name === state.sort)?.[1];
  if (by) {
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? -Infinity) - (b ?? -Infinity));
    runs.sort((a, b) => (state.down ? -1 : 1) * order(by(a), by(b)));
  }
  const head = columns.map(([name]) => {
    const sorted = state.sort === name;
    const cell = element("th", { scope: "col", tabindex: 0 }, name + (sorted ? (state.down ? " ↓" : " ↑") : ""));
    if (sorted) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    const act = () => {
      // Numbers start with the largest, names with the first.
      state.down = sorted ? !state.down : name !== "architecture";
      state.sort = name;
      draw();
    };
    cell.addEventListener("click", act);
    cell.addEventListener("keydown", (event) => { if (event.key === "Enter") act(); });
    return cell;
  });
  // The best of the runs that aim at the same k.
  const isBest = (run, value, best) => {
    const rivals = RUNS.filter((other) => target(other) === target(run)).map(value).filter(Number.isFinite);
    const isAlone = rivals.filter((rival) => rival === value(run)).length === 1;
    return best && rivals.length > 1 && isAlone && value(run) === best(...rivals);
  };
  const rows = runs.map((run) => {
    const cells = columns.map(([name, value, write, best]) => {
      if (name === "architecture") return element("td", {}, sample(indexOf(run)), value(run));
      if (run.status === "failed" && name === "R²") return element("td", { class: "failed" }, "failed");
      return element("td", isBest(run, value, best) ? { class: "best" } : {}, write(value(run)));
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
  $("run-config").textContent = chosen ? `run ${chosen.run_id}\n${JSON.stringify(chosen.config, null, 2)}` : "";
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
    return { index: indexOf(run), dash: dashOf(run), points };
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
        index: indexOf(run), name: label(run), low: s.l0_p5, middle: s.l0_p50, high: s.l0_p95, mean: s.l0_mean,
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
    return { index: indexOf(run), dash: dashOf(run), points: first < 0 ? [] : points.slice(Math.max(0, first - 1)) };
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
  table();
  curves();
  activity();
}

const failed = RUNS.filter((run) => run.status === "failed").length;
const seconds = RUNS.reduce((sum, run) => sum + run.train_seconds, 0);
$("name").textContent = DATA.results.name;
$("summary").textContent = `${RUNS.length} runs` + (failed ? `, ${failed} failed` : "") +
  ` · ${ARCHITECTURES.map(nameOf).join(", ")} · ${(seconds / 60).toFixed(1)} minutes of training`;
$("sweep").textContent = DATA.sweep ?? "";
$("configuration").hidden = DATA.sweep === null;
draw();
