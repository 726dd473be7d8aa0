/* Saves what the page shows: values as CSV, charts as PNG with their title and legend. */

const fileName = (title) => title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "chart";

/** Return a chart's values as CSV: a row per step, a column per line, and the ends of its interval where it has them. */
function csv(steps, lines) {
  const byStep = lines.map((line) => new Map(line.points.map((p) => [p[0], p])));
  const banded = lines.map((line) => line.points.some((p) => Number.isFinite(p[2])));
  const head = ["step", ...lines.flatMap(({ name }, i) => (banded[i] ? [name, `${name} low`, `${name} high`] : [name]))];
  const rows = steps.map((step) => [step, ...lines.flatMap((line, i) => {
    const point = byStep[i].get(step) ?? [];
    return (banded[i] ? [1, 2, 3] : [1]).map((at) => (Number.isFinite(point[at]) ? point[at] : ""));
  })]);
  return csvRows([head, ...rows]);
}

/** Return rows of texts and numbers as CSV. */
function csvRows(rows) {
  const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  return rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}

function download(name, content, type) {
  const link = el("a", { href: `data:${type};charset=utf-8,${encodeURIComponent(content)}`, download: name });
  link.click();
}

const EDGE = 10, LINE = 16;

/** Save a figure as it looks now, at twice its size: title, note and legend above the chart. */
function savePicture(figure, name) {
  const picture = figure.querySelector("svg[role=img]"), { width, height } = picture.viewBox.baseVal;
  const texts = legendLines(figure, width), top = texts[texts.length - 1].y + LINE / 2, image = new Image();
  image.onload = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * (width + 2 * EDGE), height: 2 * (top + height + EDGE) });
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    context.fillStyle = getComputedStyle(figure).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    for (const text of texts) drawText(context, text);
    context.drawImage(image, EDGE, top, width, height);
    el("a", { href: canvas.toDataURL("image/png"), download: name }).click();
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(picture, width, height))}`;
}

/** Return an SVG's text with its colours copied into it, because a picture has no style sheet. */
function standalone(picture, width, height) {
  const copy = picture.cloneNode(true), parts = [...picture.querySelectorAll("*")];
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", 2 * width);
  copy.setAttribute("height", 2 * height);
  for (const [i, part] of [...copy.querySelectorAll("*")].entries()) {
    const style = getComputedStyle(parts[i]);
    for (const key of ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-family", "opacity", "visibility"])
      part.setAttribute(key, style.getPropertyValue(key));
  }
  return new XMLSerializer().serializeToString(copy);
}

/** Return the texts above a saved chart and where each begins; they wrap at its width. `mark` is the sign of a line in the legend. */
function legendLines(figure, width) {
  const context = document.createElement("canvas").getContext("2d"), lines = [];
  let x = EDGE, y = EDGE + LINE / 2;
  const put = (text, font, source, mark = null) => {
    context.font = font;
    const size = context.measureText(text).width + (mark ? 14 : 0);
    if (x > EDGE && x + size > EDGE + width) { x = EDGE; y += LINE; }
    lines.push({ text, font, mark, x, y, colour: getComputedStyle(source).color });
    x += size + 12;
  };
  const caption = figure.querySelector("figcaption"), note = caption.querySelector("span:not(.save)"), keys = figure.querySelectorAll(".key");
  put(caption.firstChild.textContent, "600 12px system-ui, sans-serif", caption);
  if (note?.textContent) put(note.textContent, "11px system-ui, sans-serif", note);
  if (keys.length) { x = EDGE; y += LINE; }
  for (const one of keys) put(one.textContent, "11px system-ui, sans-serif", one, getComputedStyle(one.querySelector("svg > *")));
  return lines;
}

function drawText(context, { text, font, mark, x, y, colour }) {
  context.font = font;
  context.textBaseline = "middle";
  if (mark) {
    context.fillStyle = context.strokeStyle = mark.stroke;
    context.lineWidth = 2;
    context.setLineDash(mark.strokeDasharray === "none" ? [] : mark.strokeDasharray.split(/[ ,]+/).map(parseFloat));
    context.beginPath();
    if (mark.fill === "none") { context.moveTo(x, y); context.lineTo(x + 10, y); } else context.fillRect(x, y - 4, 9, 9);
    context.stroke();
  }
  context.fillStyle = colour;
  context.fillText(text, x + (mark ? 14 : 0), y);
}
