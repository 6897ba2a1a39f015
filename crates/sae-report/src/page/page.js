// The page: its controls, and all that is drawn anew when they change.

function sample(index) {
  return svg("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, mark(index, 0, 0, 4.5));
}

/** A button that changes what is shown; it keeps the focus by its key, and `title` says what a click does. */
function button(children, pressed, act, key, title) {
  const made = element("button", { type: "button", "data-key": key ?? children.at(-1) }, ...children);
  if (pressed !== null) made.setAttribute("aria-pressed", String(pressed));
  if (title) made.title = title;
  made.addEventListener("click", () => { act(); draw(); });
  return made;
}

/** Groups are hidden and shown again one by one; of the targets of sparsity one is shown alone, or all. */
function controls() {
  const name = (text) => element("span", { class: "muted" }, text);
  const all = [name("Hide or show"), ...HUES.map((hue, index) =>
    button([sample(index), hue], !state.off.has(index), () => {
      if (!state.off.delete(index)) state.off.add(index);
    }, `hue ${index}`, `${state.off.has(index) ? "Shows" : "Hides"} ${hue}`))];
  if (TARGETS.length > 1) {
    all.push(element("span", { class: "gap" }), name("Show only"));
    all.push(button(["all k"], state.k === null, () => { state.k = null; }, "all k", "Shows every k"));
    all.push(...TARGETS.map((k) => button([`k ${k}`], state.k === k, () => { state.k = k; }, `k ${k}`, `Shows k ${k} only`)));
  }
  $("switches").replaceChildren(...all);
}

/** What finds runs, and what colours them: made once. */
function finders() {
  const box = element("input", { type: "search", id: "find", placeholder: "soft lr=1e-3 failed", autocomplete: "off" });
  box.addEventListener("input", () => {
    state.words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    draw();
  });
  const select = element("select", { id: "by" }, element("option", { value: "" }, "group"),
    ...DATA.groups.keys.map((key, at) => element("option", { value: at }, shortKey(key))));
  select.addEventListener("change", () => { colourBy(select.value); draw(); });
  $("finders").replaceChildren(element("label", {}, "Find ", box), element("label", {}, "Colour by ", select));
}

function draw() {
  const key = document.activeElement?.dataset?.key;
  controls();
  frontier("frontier-r2", "Variance explained", "R²", (run) => run.evaluation.reconstruction.r2);
  frontier("frontier-ce", "Loss of the host with the reconstruction spliced in", "cross-entropy recovered", (run) => ce(run)?.ce_recovered ?? null);
  frontier("frontier-images", "Embeddings of images with the reconstruction spliced in", "embedding recovered", (run) => images(run)?.embedding_recovered ?? null);
  equal();
  table();
  curves();
  activity();
  profile();
  suites();
  if (key !== undefined) document.querySelector(`[data-key=${JSON.stringify(key)}]`)?.focus({ preventScroll: true });
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
colourBy("");
finders();
unfinished();
profiles();
draw();
