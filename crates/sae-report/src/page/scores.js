// The scores of suites, with what worthless dictionaries get beside them.

const plainName = (name) => name.replaceAll("_", " ");

/** A score: its value and interval, and below them floor and ceiling. */
function scoreCell(cell) {
  if (cell === null) return element("td", {}, "–");
  const { value, interval, n, ceiling, floor, is_above_floor: isAbove } = cell;
  const range = interval === null ? "" : ` [${interval.map(format).join(", ")}]`;
  const lines = [element("span", {}, format(value) + range)];
  if (floor !== null) lines.push(element("span", { class: "muted" }, `floor ${format(floor[1])}, ${plainName(floor[0])}`));
  if (isAbove === false) lines.push(element("span", { class: "failed" }, "not better than its floor"));
  if (ceiling !== null) lines.push(element("span", { class: "muted" }, `ceiling ${format(ceiling)}`));
  return element("td", { class: "score", title: `n = ${n}` }, ...lines);
}

/** The table of a suite, and its data. */
function suiteTable(place, { suite, columns, rows }) {
  const seen = rows.map(({ run, cells }) => [RUNS[run], cells]).filter(([run]) => isOn(run) && (state.k === null || target(run) === state.k));
  const open = place.querySelector("details")?.open;
  const better = { high: "higher is better", low: "lower is better" };
  const head = [element("th", { scope: "col" }, "run"), ...columns.map((column) => element("th", { scope: "col" },
    plainName(column.name.replace(`${suite}.`, "")), element("span", { class: "muted" }, better[column.better] ?? "describes")))];
  const lines = seen.map(([run, cells]) => element("tr", {}, element("th", { scope: "row" }, sample(run.hue), label(run)), ...cells.map(scoreCell)));
  const table = element("table", { class: "scores" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
  place.replaceChildren(element("h3", {}, suite), element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Scores: ${suite}` }, table));
  const data = () => seen.flatMap(([run, cells]) => cells.flatMap((cell, at) => (cell === null ? [] : [[
    run.run_id, label(run), columns[at].name, cell.value, cell.interval?.[0], cell.interval?.[1], cell.n, columns[at].over,
    cell.floor?.[1], cell.floor?.[0], cell.ceiling,
  ]])));
  tools(place, null, {
    title: `Scores of ${suite}`, rows: data, open,
    head: ["run", "setting", "score", "value", "low", "high", "n", "over", "floor", "floor dictionary", "ceiling"],
  });
}

/** The L0 that scores point to, by group. */
function pointed() {
  const place = $("pointed");
  const found = DATA.pointed;
  const rows = (found?.rows ?? []).filter(({ group }) => RUNS.some((run) => run.group === group && run.evaluation && isOn(run)));
  place.hidden = rows.length === 0;
  if (place.hidden) return;
  const head = ["group", ...found.scores.map((name) => plainName(name.replace(".", ": ")))].map((text) => element("th", { scope: "col" }, text));
  const lines = rows.map(({ group, cells }) => element("tr", {}, element("td", {}, ...groupSample(group), groupName(GROUPS[group])),
    ...cells.map((cell) => element("td", {}, cell === null ? "–" : format(cell.l0) + (cell.is_end ? " (end)" : "")))));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
  place.replaceChildren(element("h3", {}, "The L0 that scores point to"),
    element("p", { class: "muted" }, "Of the sparsities of a group the L0 at which each score is best, means over seeds. (end): the first or the last of them, so that the best may lie beyond."),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The L0 that scores point to" }, table));
}

/** All suites that runs have scores of. */
function suites() {
  $("scores-section").hidden = DATA.scores.length === 0;
  if ($("scores").childElementCount === 0) {
    $("scores").replaceChildren(...DATA.scores.map(({ suite }) => element("div", { id: `scores-${suite}` })));
  }
  for (const one of DATA.scores) suiteTable($(`scores-${one.suite}`), one);
  pointed();
}
