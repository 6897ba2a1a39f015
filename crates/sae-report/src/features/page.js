// Which view is shown, and the features that are pinned.

const pins = {
  key: () => `softsae-pins ${SET.checkpoint_hash} ${SET.store_hash}`,
  all: new Map(),
  read() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key()) ?? "[]");
      const good = kept.filter(([number, note]) => Number.isInteger(number) && number >= 0 && number < SET.n_features && typeof note === "string");
      this.all = new Map(good);
    } catch {
      // A browser that keeps nothing has pins as long as the page is open.
      this.all = new Map();
    }
  },
  keep() {
    try {
      localStorage.setItem(this.key(), JSON.stringify([...this.all]));
    } catch {
      // As above.
    }
    $("to-pinned").textContent = `Pinned (${this.all.size})`;
  },
};

/** A button that pins a feature. */
function pinner(number) {
  const made = element("button", { type: "button" });
  const say = () => {
    const on = pins.all.has(number);
    made.textContent = on ? "Pinned" : "Pin";
    made.setAttribute("aria-pressed", String(on));
    made.setAttribute("aria-label", `${on ? "Pinned" : "Pin"}: feature ${number}`);
  };
  made.addEventListener("click", () => {
    if (!pins.all.delete(number)) pins.all.set(number, "");
    pins.keep();
    say();
  });
  say();
  return made;
}

/** The pinned features as a file. */
function exported() {
  const { checkpoint, checkpoint_hash, architecture, store, store_hash, host, hook_point, n_features, n_rows } = SET;
  const features = [...pins.all].map(([number, note]) => ({
    feature: number, note, label: labelOf(number), n_active: COLUMNS.n_active[number], max: COLUMNS.max[number], decoder_norm: COLUMNS.norm[number],
    top_tokens: COLUMNS.peaks[number].map((id) => ({ id, text: plain(id) })),
  }));
  return JSON.stringify({ format: "softsae-pins", version: 1, checkpoint, checkpoint_hash, architecture, store, store_hash, host, hook_point, n_features, n_rows, features }, null, 2);
}

function pinnedView() {
  const button = element("button", { type: "button" }, "Export as JSON");
  button.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([exported()], { type: "application/json" }));
    element("a", { href: url, download: "features-pinned.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  const rows = [...pins.all].map(([number, note]) => {
    const box = element("input", { "aria-label": `Note on feature ${number}` });
    box.value = note;
    box.addEventListener("input", () => { pins.all.set(number, box.value); pins.keep(); });
    return element("tr", {}, element("th", { scope: "row" }, element("a", { href: `#feature=${number}` }, String(number))),
      element("td", { class: "text" }, ...COLUMNS.peaks[number].map(token)), element("td", { class: "text" }, box), element("td", {}, pinner(number)));
  });
  const head = ["feature", "top tokens", "note", "pin"].map((text) => element("th", { scope: "col" }, text));
  show("Pinned features", pins.all.size === 0 ? [element("p", {}, "None yet: each feature has a button that pins it.")] : [
    element("p", { class: "bar" }, button),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Pinned features" }, element("table", { id: "pinned" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))),
  ]);
}

/** Puts a view in place. */
function show(title, children) {
  const heading = element("h2", { tabindex: -1, id: "heading" }, title);
  $("main").replaceChildren(heading, ...children);
  document.title = `${title} · ${$("name").textContent} · softsae`;
}

function failed(error) {
  $("main").replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
}

/** Numbers of features, or an error that says what was expected. */
function parsed(text, n) {
  const parts = text.split(",");
  const fine = parts.length === n && parts.every((part) => /^\d+$/.test(part) && Number(part) < SET.n_features);
  if (!fine) throw new Error(`Expected ${n === 1 ? "a feature" : `${n} features`} from 0 to ${SET.n_features - 1}, got ${JSON.stringify(text)}.`);
  return parts.map(Number);
}

let turn = 0;

/** Shows what the address says. */
async function route(isFirst) {
  turn += 1;
  const own = turn;
  const [name, ...rest] = location.hash.slice(1).split("=");
  if (name === "main") return;
  for (const [id, view] of [["to-list", "list"], ["to-pinned", "pinned"]]) {
    if ((name || "list") === view) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  try {
    let draw = listView;
    const numbers = (n) => parsed(decodeURIComponent(rest.join("=")), n);
    if (name === "feature") draw = await featureView(numbers(1)[0]);
    else if (name === "compare") draw = await compareView(...numbers(2));
    else if (name === "beside") draw = await besideView(numbers(1)[0]);
    else if (name === "pinned") draw = pinnedView;
    if (own !== turn) return;
    $("main").classList.remove("values");
    draw();
    if (!isFirst) {
      scrollTo(0, 0);
      $("heading").focus({ preventScroll: true });
    }
  } catch (error) {
    if (own === turn) failed(error);
  }
}

function describe() {
  const parts = [`${SET.n_features.toLocaleString("en")} features (${SET.architecture}) on ${SET.n_rows.toLocaleString("en")} rows`,
    `L0 ${format(SET.l0)}`, `${percent(COLUMNS.n_active.filter((n) => n === 0).length / SET.n_features)} dead`,
    SET.host && `host ${SET.host}`, SET.hook_point && `hook point ${SET.hook_point}`, `store ${SET.store}`,
    SET.n_outlier_rows > 0 && `${SET.n_outlier_rows.toLocaleString("en")} rows of more than ten times the median norm`];
  $("name").title = SET.checkpoint;
  $("summary").textContent = parts.filter(Boolean).join(" · ");
  $("notes").replaceChildren(...SET.notes.map((note) => element("li", {}, note)));
}

/** The box that goes to a feature by its number; what it holds is chosen, so that typing writes a new one. */
function goes() {
  const box = $("go-number");
  $("go").addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = `#feature=${box.value.trim()}`;
    box.select();
  });
  box.addEventListener("focus", () => box.select());
  // A first click would put the cursor into the text instead.
  box.addEventListener("mousedown", (event) => {
    if (document.activeElement === box) return;
    event.preventDefault();
    box.focus();
  });
}

async function start() {
  const [index, tokens, labels] = await Promise.all([load("index"), load("tokens"), load("labels")]);
  INDEX = index;
  LABELS = labels;
  SET = index.set;
  COLUMNS = index.columns;
  tokens.ids.forEach((id, at) => TOKENS.set(id, tokens.texts[at]));
  for (const id of tokens.special) SPECIAL.add(id);
  pins.read();
  pins.keep();
  describe();
  addEventListener("hashchange", () => route(false));
  goes();
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      const box = $("search") ?? $("go-number");
      event.preventDefault();
      box.focus();
    }
  });
  await route(true);
}

start().catch(failed);
