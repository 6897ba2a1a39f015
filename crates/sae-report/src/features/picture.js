// Pictures with the activations of their patches over them.

/** A picture, and how active each of its patches is; drawn before its file is there. */
function picture([, place, value, , , patches], most, { set, folder }) {
  const { rows, columns, first_patch, per_file } = set.pictures;
  const image = element("img", { alt: "" });
  const map = svg("svg", { viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "map" });
  const others = [];
  for (const [position, own] of patches) {
    const patch = position - first_patch;
    if (patch < 0) {
      others.push(`class token ${format(own)}`);
      continue;
    }
    const rect = svg("rect", { x: patch % columns, y: Math.floor(patch / columns), width: 1, height: 1, style: overlay(own, most) });
    rect.append(svg("title", {}, `row ${Math.floor(patch / columns)}, column ${patch % columns}: ${format(own)}`));
    map.append(rect);
  }
  const name = element("span", { class: "muted" }, `picture ${place[0]}`);
  const number = place[0];
  load(`pictures/${Math.floor(number / per_file)}`, folder).then((all) => {
    const [text, address] = all[number % per_file];
    image.src = address;
    image.alt = `${text}; active in ${patches.length} of its positions, most ${format(value)}`;
    name.replaceChildren(...spell(text));
  }, (error) => name.replaceChildren(element("span", { class: "error" }, error.message)));
  const caption = element("figcaption", {}, element("b", {}, format(value)), " ", name, ...(others.length > 0 ? [` · ${others.join(", ")}`] : []));
  return element("li", {}, element("figure", { class: "picture" }, element("div", { class: "frame" }, image, map), caption));
}

/** How a patch is coloured. */
function overlay(value, most) {
  const strength = most === 0 ? 0 : Math.min(1, Math.abs(value / most));
  return `fill: var(${value > 0 ? "--hot" : "--cold"}); fill-opacity: ${(0.15 + 0.55 * strength).toFixed(3)}`;
}

/** A button that hides the maps, so that the pictures alone are seen. */
function mapsButton() {
  const made = element("button", { type: "button", "aria-pressed": "true" }, "Patch map");
  made.addEventListener("click", () => {
    const off = $("main").classList.toggle("plain");
    made.setAttribute("aria-pressed", String(!off));
  });
  return made;
}
