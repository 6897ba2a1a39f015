// The runs: their table, those that are not done, and what they reach at equal L0.

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
    const sorter = button([name + (sorted ? (state.down ? " ↓" : " ↑") : "")], null, () => {
      // Numbers start with the largest, names with the first.
      state.down = sorted ? !state.down : !isText(name) && name !== "status";
      state.sort = name;
    }, `sort ${name}`);
    const cell = element("th", { scope: "col" }, sorter);
    if (sorted) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    return cell;
  });
  const hasPages = Object.keys(DATA.pages).length > 0;
  // Behind the name, so that the links are seen where the table is wider than its place.
  if (hasPages) head.splice(1, 0, element("th", { scope: "col" }, "features"));
  const rows = runs.map((run) => {
    const cells = columns.map(([name, value, write]) => {
      if (name === "architecture") return element("td", {}, sample(run.hue), opener(run, value(run)));
      if (name === "status") return element("td", { class: statusClass(run) }, statusOf(run));
      return element("td", {}, write(value(run)));
    });
    if (hasPages) cells.splice(1, 0, element("td", {}, ...pagesOf(run)));
    const row = element("tr", state.chosen === run.run_id ? { class: "chosen" } : {}, ...cells);
    row.addEventListener("click", (event) => {
      if (event.target.closest("a, button") === null) choose(run);
    });
    return row;
  });
  $("runs").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  const chosen = RUNS.find((run) => run.run_id === state.chosen);
  $("run").hidden = !chosen;
  $("run-config").textContent = chosen ? describe(chosen) : "";
  $("run-links").replaceChildren(...(chosen ? pagesOf(chosen) : []));
  $("n-runs").textContent = `${runs.length} of ${RUNS.length} runs are shown.`;
}

/** The name of a run, which opens what is known of it. */
function opener(run, name) {
  const made = button([name], null, () => choose(run, false), `run ${run.run_id}`);
  made.className = "link";
  made.setAttribute("aria-expanded", String(state.chosen === run.run_id));
  made.setAttribute("aria-label", `${label(run)}: settings`);
  return made;
}

function choose(run, redraws = true) {
  state.chosen = state.chosen === run.run_id ? null : run.run_id;
  if (redraws) draw();
}

/** The link to the feature pages of a run, if it has them. */
function pagesOf(run) {
  const at = DATA.pages[run.run_id];
  return at === undefined ? [] : [element("a", { href: at, "aria-label": `Feature pages of ${label(run)}` }, "pages")];
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
  const commands = DATA.commands[run.run_id] ?? [];
  return [
    `run ${run.run_id}: ${label(run)}`, statusOf(run) + (run.failure ? `: ${run.failure}` : ""), ...made(run), "",
    ...(commands.length > 0 ? ["commands:", ...commands, ""] : []), ...(log ? ["the end of its log:", log, ""] : []), JSON.stringify(run.config, null, 2),
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
    const rows = GROUPS.map((group, index) => [group, index]).filter(([, index]) => RUNS.some((run) => run.group === index && run.evaluation && isOn(run))).map(([group, index]) =>
      element("tr", {}, element("td", {}, ...groupSample(index), groupName(group)), ...cells[index].map((cell, column) =>
        element("td", cell && cell.mean === best[column] ? { class: "best" } : {}, cell ? write(cell) : "–"))));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))), element("tbody", {}, ...rows));
    return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${name} at equal L0` }, table);
  }));
}

/** The mark of a group whose runs share one. */
function groupSample(index) {
  const hues = unique(RUNS.filter((run) => run.group === index).map((run) => run.hue));
  return hues.length === 1 ? [sample(hues[0])] : [];
}
