/* Draws differences with their intervals, one per row: a forest plot. */

const FOREST = { width: 420, row: 24, left: 150, right: 14, top: 8, bottom: 34 };

/** Draw rows `{name, group, difference}` of one measure; a mark is filled where the verdict is not "no difference shown". */
function forest(title, rows) {
  const shown = rows.filter((row) => row.difference);
  if (!shown.length) return null;
  const ends = shown.flatMap(({ difference: d }) => [100 * d.low, 100 * d.high]).concat(0).filter(Number.isFinite);
  const [low, high] = [Math.min(...ends), Math.max(...ends)], pad = (high - low || 1) * 0.05;
  const height = FOREST.top + shown.length * FOREST.row + FOREST.bottom;
  const x = (v) => FOREST.left + ((v - low + pad) / (high - low + 2 * pad)) * (FOREST.width - FOREST.left - FOREST.right);
  const spoken = shown.map((row) => `${row.name}: ${points(row.difference)}, ${row.verdict}`).join("; ");
  const picture = svg("svg", { viewBox: `0 0 ${FOREST.width} ${height}`, role: "img", "aria-label": `Differences in ${title}. ${spoken}` });
  const bottom = height - FOREST.bottom;
  for (const tick of ticks(low - pad, high + pad, 4)) picture.append(
    svg("line", { class: tick ? "axis" : "cross", x1: x(tick), x2: x(tick), y1: FOREST.top, y2: bottom }),
    svg("text", { x: x(tick), y: bottom + 13, "text-anchor": "middle" }, short(tick)));
  picture.append(svg("text", { x: (FOREST.left + FOREST.width - FOREST.right) / 2, y: bottom + 28, "text-anchor": "middle" }, "difference in points"));
  for (const [i, row] of shown.entries()) {
    const y = FOREST.top + (i + 0.5) * FOREST.row, { mean, low: from, high: to } = row.difference;
    const decided = row.verdict === "better" || row.verdict === "worse";
    picture.append(
      svg("text", { x: FOREST.left - 8, y: y + 3.5, "text-anchor": "end" }, row.name.length > 26 ? `${row.name.slice(0, 25)}…` : row.name),
      svg("line", { class: `line ${colourClass(row.group)}`, x1: x(100 * from), x2: x(100 * to), y1: y, y2: y }),
      svg("circle", { class: `${colourClass(row.group)}${decided ? "" : " open"}`, cx: x(100 * mean), cy: y, r: 4 }));
  }
  const save = el("span", { class: "save" }, el("button", { class: "plain", type: "button", onclick: () => savePicture(save.closest("figure"), `differences-${fileName(title)}.png`) }, "PNG"));
  return el("figure", {}, el("figcaption", {}, `Differences, ${title}`, el("span", {}, "filled: a difference is shown"), save), picture);
}

const points = ({ mean, low, high }) => `${signed(mean)} (${signed(low)} .. ${signed(high)})`;
const colourClass = (group) => `c${group % 6}`;
