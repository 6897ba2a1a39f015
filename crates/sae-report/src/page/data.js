// The data behind a chart: as a table, and as files.

/** Lets the browser save a file. */
function save(name, content) {
  const url = URL.createObjectURL(content);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Rows as comma-separated values. */
function csv(rows) {
  const cell = (value) => {
    const text = String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

// What a picture takes from the page's styles.
const DRAWN = ["fill", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "font-size", "font-family", "font-weight"];

/** A chart as a file of its own, in the colours that it is shown in. */
function standalone(root) {
  const copy = root.cloneNode(true);
  const parts = (of) => [of, ...of.querySelectorAll("*")];
  const copies = parts(copy);
  parts(root).forEach((part, at) => {
    const style = getComputedStyle(part);
    for (const name of DRAWN) copies[at].style.setProperty(name, style.getPropertyValue(name));
  });
  const { width, height } = root.viewBox.baseVal;
  const ground = getComputedStyle(document.documentElement).getPropertyValue("--panel");
  copy.prepend(svg("rect", { width, height, fill: ground }));
  for (const [name, value] of Object.entries({ xmlns: SVG, width, height })) copy.setAttribute(name, value);
  return new XMLSerializer().serializeToString(copy);
}

/** A chart as a picture of twice its size. */
async function picture(root) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(root))}`;
  await image.decode();
  const canvas = element("canvas", { width: 2 * image.width, height: 2 * image.height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function plainTable(head, rows) {
  const line = (row) => element("tr", {}, ...row.map((value) => element("td", {}, typeof value === "number" ? format(value) : String(value ?? "–"))));
  const names = element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)));
  return element("table", { class: "plain" }, element("thead", {}, names), element("tbody", {}, ...rows.map(line)));
}

/** Below a chart, or a table without one: its data as a table and as files, made when they are asked for. */
function tools(figure, root, { title, head, rows, open }) {
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60);
  const files = [
    ["CSV", async () => new Blob([csv([head, ...rows()])], { type: "text/csv" })],
    ...(root === null ? [] : [["SVG", async () => new Blob([standalone(root)], { type: "image/svg+xml" })], ["PNG", () => picture(root)]]),
  ].map(([kind, make]) => {
    const made = element("button", { type: "button", "aria-label": `${title} as ${kind}` }, kind);
    made.addEventListener("click", async () => save(`${name}.${kind.toLowerCase()}`, await make()));
    return made;
  });
  const table = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Data: ${title}` });
  const details = element("details", {}, element("summary", {}, "Data"), element("p", { class: "bar" }, ...files), table);
  details.addEventListener("toggle", () => {
    if (details.open && table.childElementCount === 0) table.append(plainTable(head, rows()));
  });
  details.open = open ?? false;
  figure.append(details);
}
