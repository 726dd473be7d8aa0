/* Draws line charts and stacked shares as SVG. A chart is `{title, note, lines: [{name, points: [[x, y, low, high], ...]}], ...}`. */

const BOX = { width: 320, height: 150, left: 38, right: 8, top: 8, bottom: 20 };

/** Return about `count` round numbers that cover the range. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= rough * 0.999);
  const values = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) values.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return values;
}

/** Draw a chart. `range` and `span` fix the y and the x axis, `limit` draws a threshold, `format` formats a value, `stacked` stacks shares. */
function chart({ title, note = "", lines, range = null, span = null, limit = null, format = short, stacked = false, file = fileName(title) }) {
  const all = lines.flatMap((line) => line.points);
  if (!all.length) return null;
  const steps = [...new Set(all.map((p) => p[0]))].sort((a, b) => a - b);
  const values = all.flatMap((p) => [p[1], p[2] ?? p[1], p[3] ?? p[1]]).concat(limit ?? []).filter(Number.isFinite);
  if (!values.length) return null;
  let [low, high] = range ?? [Math.min(...values, 0), Math.max(...values)];
  if (low === high) high = low + (Math.abs(low) || 1);
  const first = span?.[0] ?? steps[0], last = Math.max(span?.[1] ?? steps[steps.length - 1], first + 1);
  const x = (v) => BOX.left + ((v - first) / (last - first)) * (BOX.width - BOX.left - BOX.right);
  const y = (v) => BOX.height - BOX.bottom - ((v - low) / (high - low)) * (BOX.height - BOX.top - BOX.bottom);
  const at = (px, py) => `${x(px).toFixed(1)},${y(Math.min(Math.max(py, low), high)).toFixed(1)}`;
  const picture = svg("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", tabindex: 0, "aria-label": description(title, lines, format) });
  for (const tick of ticks(low, high, 4)) picture.append(
    svg("line", { class: "axis", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(tick), y2: y(tick) }),
    svg("text", { x: BOX.left - 5, y: y(tick) + 3.5, "text-anchor": "end" }, format(tick)));
  for (const tick of ticks(first, last, Math.min(5, last - first))) picture.append(
    svg("text", { x: x(tick), y: BOX.height - 5, "text-anchor": "middle" }, String(tick)));
  if (stacked) drawStack(picture, lines, at);
  else for (const [i, line] of lines.entries()) drawLine(picture, line.points.filter((p) => Number.isFinite(p[1])), colourOf(line, i), at, line.dash ?? 0);
  if (limit !== null) picture.append(svg("line", { class: "limit", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(limit), y2: y(limit) }));
  const readout = el("output", { "aria-live": "off" });
  const keys = lines.map((line, i) => key(line.name, colourOf(line, i), line.dash ?? 0));
  makeReadable(picture, readout, steps, lines, x, format);
  const save = el("span", { class: "save" },
    el("button", { class: "plain", title: `Save ${title} as CSV`, onclick: () => download(`${file}.csv`, csv(steps, lines), "text/csv") }, "CSV"),
    el("button", { class: "plain", title: `Save ${title} as PNG`, onclick: () => savePicture(save.closest("figure"), `${file}.png`) }, "PNG"));
  return el("figure", {}, el("figcaption", {}, title, el("span", {}, note), save), keys.length ? el("div", {}, keys) : null, picture, readout);
}

function drawLine(picture, points, colour, at, dash) {
  const banded = points.filter((p) => Number.isFinite(p[2]) && Number.isFinite(p[3]));
  if (banded.length > 1) {
    const outline = [...banded.map((p) => at(p[0], p[3])), ...banded.map((p) => at(p[0], p[2])).reverse()];
    picture.append(svg("polygon", { class: `band c${colour}`, points: outline.join(" ") }));
  }
  picture.append(svg("polyline", { class: `line c${colour} d${dash}`, points: points.map((p) => at(p[0], p[1])).join(" ") }));
  if (points.length < 30) for (const p of points) {
    const [cx, cy] = at(p[0], p[1]).split(",");
    picture.append(svg("circle", { class: `c${colour}`, cx, cy, r: 2.2 }));
  }
}

/** Fill the areas between cumulative sums. All lines have the same steps. */
function drawStack(picture, lines, at) {
  const below = new Map();
  for (const [i, line] of lines.entries()) {
    const { points } = line;
    const upper = points.map((p) => [p[0], (below.get(p[0]) ?? 0) + p[1]]);
    const lower = points.map((p) => [p[0], below.get(p[0]) ?? 0]).reverse();
    picture.append(svg("polygon", { class: `c${colourOf(line, i)}`, "fill-opacity": 0.75, "stroke-width": 0.5, points: [...upper, ...lower].map((p) => at(...p)).join(" ") }));
    for (const [step, sum] of upper) below.set(step, sum);
  }
}

const colourOf = (line, index) => line.colour ?? index % 6;
const key = (name, colour, dash = 0) => el("span", { class: "key" }, svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" },
  dash ? svg("line", { class: `line c${colour} d${dash}`, x1: 0, x2: 10, y1: 5, y2: 5 }) : svg("rect", { class: `c${colour}`, x: 1, y: 1, width: 8, height: 8, rx: 2 })), name);

/** Describe a chart in words, for screen readers. */
function description(title, lines, format) {
  const ranges = lines.filter((line) => line.points.length).map(({ name, points }) => {
    const [a, b] = [points[0], points[points.length - 1]];
    return `${name}: ${format(a[1])} at step ${a[0]}, ${format(b[1])} at step ${b[0]}`;
  });
  return `${title}. ${ranges.join("; ")}. Use the arrow keys to read single steps.`;
}

/** Show the values of the step that the pointer or the arrow keys select. */
function makeReadable(picture, readout, steps, lines, x, format) {
  const cross = svg("line", { class: "cross", y1: BOX.top, y2: BOX.height - BOX.bottom, visibility: "hidden" });
  const byStep = lines.map((line) => new Map(line.points.map((p) => [p[0], p])));
  let selected = steps.length - 1;
  picture.append(cross);
  const select = (index) => {
    selected = Math.min(Math.max(index, 0), steps.length - 1);
    const step = steps[selected], at = x(step);
    fill(cross, { x1: at, x2: at, visibility: "visible" }, []);
    const points = lines.map((line, i) => [line.name, byStep[i].get(step)]).filter(([, p]) => p);
    readout.textContent = `step ${step} · ` + points.map(([name, p]) =>
      (lines.length > 1 ? `${name} ` : "") + format(p[1]) + (Number.isFinite(p[2]) ? ` (${format(p[2])} .. ${format(p[3])})` : "")).join(" · ");
  };
  const selectNearest = (event) => {
    const box = picture.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * BOX.width;
    const distances = steps.map((step) => Math.abs(x(step) - at));
    select(distances.indexOf(Math.min(...distances)));
  };
  picture.addEventListener("pointermove", selectNearest);
  picture.addEventListener("pointerdown", selectNearest);
  picture.addEventListener("pointerleave", () => { fill(cross, { visibility: "hidden" }, []); readout.textContent = ""; });
  picture.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { select(selected + by); event.preventDefault(); }
  });
}
