// What the runs are, as charts.

function frontier(id, title, yLabel, value) {
  $(id).hidden = !RUNS.some((run) => run.evaluation && value(run) !== null);
  const runs = RUNS.filter((run) => isOn(run) && run.evaluation && value(run) !== null);
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const sd = (values) => Math.sqrt(values.reduce((sum, v) => sum + (v - mean(values)) ** 2, 0) / (values.length - 1));
  const series = unique(runs.map((run) => `${run.group} ${run.hue}`)).map((key) => {
    const own = runs.filter((run) => `${run.group} ${run.hue}` === key);
    const bars = [];
    const line = unique(own.map(sparsity)).map((k) => {
      const same = own.filter((run) => sparsity(run) === k);
      const [x, y] = [mean(same.map((run) => run.evaluation.sparsity.l0_mean)), mean(same.map(value))];
      if (same.length > 1) bars.push({ x, low: y - sd(same.map(value)), high: y + sd(same.map(value)) });
      return [x, y];
    });
    const points = own.map((run) => ({
      x: run.evaluation.sparsity.l0_mean, y: value(run),
      text: `${label(run)}\nL0 ${format(run.evaluation.sparsity.l0_mean)}, ${yLabel} ${format(value(run))}`,
    }));
    return { index: own[0].hue, name: groupName(GROUPS[own[0].group]), points, bars, line: line.sort((a, b) => a[0] - b[0]), marks: true };
  });
  chart($(id), { title, xLabel: "L0: mean active features an input", yLabel, series });
}

function curves() {
  const metrics = unique(Object.values(DATA.curves).flatMap((curve) => Object.keys(curve.values)));
  if (!metrics.includes(state.metric)) state.metric = metrics[0];
  const select = element("select", { "aria-label": "Metric" }, ...metrics.map((name) => element("option", {}, name)));
  select.value = state.metric;
  select.dataset.key = "metric";
  select.addEventListener("change", () => { state.metric = select.value; $("curves").zoom = null; draw(); });
  const scale = button(["logarithmic"], state.log, () => { state.log = !state.log; $("curves").zoom = null; }, "scale");
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
    return { index: run.hue, name: label(run), dash: dashOf(run), points };
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
        index: run.hue, name: label(run), low: s.l0_p5, middle: s.l0_p50, high: s.l0_p95, mean: s.l0_mean,
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
    return { index: run.hue, name: label(run), dash: dashOf(run), points: first < 0 ? [] : points.slice(Math.max(0, first - 1)) };
  });
  chart($("density"), {
    title: "How often features fire", xLabel: "share of inputs", yLabel: "share of features", series,
    xTick: (t) => (Number.isInteger(t) ? `1e${t}`.replace("-", "−").replace("1e0", "1") : ""),
  });
}
