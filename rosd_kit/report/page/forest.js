/* Draws differences with their intervals, one per row: a forest plot. */

const FOREST = { plot: 256, row: 24, right: 14, top: 8, bottom: 34 };
/** The width of a letter, and the room for names on a small and on a large screen, in the picture's own units. */
const NAMES = { letter: 6, small: 150, large: 340 };

/** Draw rows `{name, group, difference}` of one measure; a mark is filled where the verdict is not "no difference shown". */
function forest(title, rows) {
  const shown = rows.filter((row) => row.difference);
  if (!shown.length) return null;
  const ends = shown.flatMap(({ difference: d }) => [100 * d.low, 100 * d.high]).concat(0).filter(Number.isFinite);
  const [low, high] = [Math.min(...ends), Math.max(...ends)], pad = (high - low || 1) * 0.05;
  const height = FOREST.top + shown.length * FOREST.row + FOREST.bottom;
  const room = innerWidth < 600 ? NAMES.small : NAMES.large, longest = Math.max(...shown.map((row) => row.name.length));
  const left = Math.min(room, NAMES.letter * longest + 16), width = left + FOREST.plot + FOREST.right;
  const fits = Math.floor((left - 16) / NAMES.letter);
  const x = (v) => left + ((v - low + pad) / (high - low + 2 * pad)) * FOREST.plot;
  const spoken = shown.map((row) => `${row.name}: ${points(row.difference)}, ${row.verdict}`).join("; ");
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Differences in ${title}. ${spoken}` });
  const bottom = height - FOREST.bottom;
  for (const tick of ticks(low - pad, high + pad, 4)) picture.append(
    svg("line", { class: tick ? "axis" : "cross", x1: x(tick), x2: x(tick), y1: FOREST.top, y2: bottom }),
    svg("text", { x: x(tick), y: bottom + 13, "text-anchor": "middle" }, short(tick)));
  picture.append(svg("text", { x: left + FOREST.plot / 2, y: bottom + 28, "text-anchor": "middle" }, "difference in points"));
  for (const [i, row] of shown.entries()) {
    const y = FOREST.top + (i + 0.5) * FOREST.row, { mean, low: from, high: to } = row.difference;
    const decided = row.verdict === "better" || row.verdict === "worse";
    picture.append(
      // Of a name that is too long the end is kept: there combinations differ more often.
      svg("text", { x: left - 8, y: y + 3.5, "text-anchor": "end" }, row.name.length > fits ? `…${row.name.slice(1 - fits)}` : row.name),
      svg("line", { class: `line ${colourClass(row.group)}`, x1: x(100 * from), x2: x(100 * to), y1: y, y2: y }),
      svg("circle", { class: `${colourClass(row.group)}${decided ? "" : " open"}`, cx: x(100 * mean), cy: y, r: 4 }));
  }
  const save = el("span", { class: "save" }, el("button", { class: "plain", type: "button", onclick: () => savePicture(save.closest("figure"), `differences-${fileName(title)}.png`) }, "PNG"));
  return el("figure", {}, el("figcaption", {}, `Differences, ${title}`, el("span", {}, "filled: a difference is shown"), save), picture);
}

const points = ({ mean, low, high }) => `${signed(mean)} (${signed(low)} .. ${signed(high)})`;
const colourClass = (group) => `c${group % 6}`;
