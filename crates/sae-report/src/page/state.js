// The runs of the report, and which of them are shown.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.results.runs;
const NAMES = {
  topk: "TopK", abs_topk: "AbsTopK", batch_topk: "BatchTopK", matryoshka_batch_topk: "Matryoshka BatchTopK", soft: "SoftSAE",
  jumprelu: "JumpReLU", gated: "Gated", standard: "Standard", standard_april: "Standard (April)",
  p_anneal: "P-anneal",
};
const unique = (values) => [...new Set(values)];
const shortKey = (key) => key.replace(/^[a-z]+\.(?!name$)/, "").replace(/^architecture\.name$/, "architecture");
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
  by: "", off: new Set(), k: null, words: [], sort: null, down: false, chosen: null, metric: "loss", log: false,
};
// The names of what runs are coloured and switched by.
let HUES = [];

/** Colours runs by their groups, or by the values of a setting. */
function colourBy(by) {
  state.by = by;
  state.off.clear();
  if (by === "") {
    HUES = GROUPS.map(groupName);
    for (const run of RUNS) run.hue = run.group;
    return;
  }
  const isNumber = (value) => value !== null && Number.isFinite(Number(value));
  const values = unique(RUNS.map((run) => run.settings[by]));
  values.sort((a, b) => (isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b))));
  HUES = values.map((value) => `${shortKey(DATA.groups.keys[by])} ${value === null ? "–" : nameOf(value)}`);
  for (const run of RUNS) run.hue = values.indexOf(run.settings[by]);
}

/** Everything that a run is found by. */
const found = new Map(RUNS.map((run) => [run, [
  label(run), run.status, run.run_id, run.config.architecture.name, ...DATA.groups.keys.map((key, at) => `${shortKey(key)}=${run.settings[at]}`),
].join(" ").toLowerCase()]));
const isOn = (run) => !state.off.has(run.hue) && state.words.every((word) => found.get(run).includes(word));
const shown = () => RUNS.filter((run) => isOn(run) && (state.k === null || target(run) === state.k));
