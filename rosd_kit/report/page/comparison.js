/* Starts the page that compares: table, forest plot, curves, options. The address holds what is chosen. */

const FIRST = ["rollout/success", "train/loss", "rollout/length", "rollout/entropy"];
const choice = { metrics: [], smooth: 1, apart: false, seeds: false, hidden: new Set(), measure: "", option: "" };
let data = null, names = [];

const isShare = (name) => name.startsWith(HELD_OUT) || /(success|share|pass_at_k|answers|gap)$/.test(name);
const shownGroups = () => new Set(data.groups.map((_, i) => i).filter((i) => !choice.hidden.has(i)));

function drawResults() {
  const measure = data.measures.find((m) => m.name === choice.measure) ?? data.measures[0];
  if (!measure) return byId("results").replaceChildren(el("p", { class: "quiet" }, "No evaluation can be compared yet."));
  const cell = (v) => (v ? [percent(v.mean), " ", el("small", {}, `${percent(v.low)} .. ${percent(v.high)}${v.worst_case ? " †" : ""}`)] : "–");
  const rows = measure.rows.filter((row) => shownGroups().has(row.group)).map((row) => ({ ...row, name: data.groups[row.group] }));
  const several = data.axes !== undefined, heads = ["", ...(several ? ["seeds"] : []), "mean", "difference", ...(several ? ["p (Holm)"] : []), "verdict"];
  const body = rows.map((row) => {
    const tone = { better: "up", worse: "down" }[row.verdict] ?? "";
    return el("tr", {}, el("th", { scope: "row" }, key("", row.group % 6, Math.floor(row.group / 6) % 3), row.name), several && el("td", {}, row.seeds), el("td", {}, cell(row.value)),
      el("td", { class: tone }, row.difference ? [signed(row.difference.mean), " ", el("small", {}, `${signed(row.difference.low)} .. ${signed(row.difference.high)}`)] : ""),
      several && el("td", {}, row.p === null ? "" : row.p < 0.001 ? "<0.001" : fixed(row.p, 3)), el("td", { class: tone }, row.verdict));
  });
  if (measure.before) body.unshift(el("tr", { class: "mean" }, el("th", { scope: "row" }, "before training"), el("td"), el("td", {}, cell(measure.before)), el("td"), el("td"), el("td")));
  const worst = rows.some((row) => row.value?.worst_case) ? " † all scores, or all differences, are equal: the interval is a worst-case bound." : "";
  byId("results").replaceChildren(el("table", {}, el("caption", {}, `Differences are from ${data.groups[0]}.${worst}`),
    el("thead", {}, el("tr", {}, heads.map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, body)));
  replaceChildren(byId("forest"), forest(measure.name, rows));
  const full = (v) => (v ? [v.mean, v.low, v.high] : ["", "", ""]);
  const table = [["measure", "run", "seeds", "mean", "low", "high", "difference", "difference low", "difference high", "p", "verdict"],
    ...data.measures.flatMap((m) => m.rows.map((row) => [m.name, data.groups[row.group], row.seeds, ...full(row.value), ...full(row.difference), row.p ?? "", row.verdict]))];
  byId("save-results").replaceChildren(saveTable("results", table));
}

const saveTable = (name, rows) => el("button", { class: "plain", type: "button", title: `Save ${name} as CSV`, onclick: () => download(`${name}.csv`, csvRows(rows), "text/csv") }, "CSV");

function drawCharts() {
  const options = { shown: shownGroups(), smooth: choice.smooth, seeds: choice.seeds };
  const figures = choice.metrics.flatMap((name) => {
    const lines = linesOf(data, name, options), average = choice.smooth > 1 && !name.startsWith(HELD_OUT);
    const held = name.startsWith(HELD_OUT) && !(data.axes && !choice.seeds), range = isShare(name) ? [0, 1] : null;
    const note = [average && `mean of ${choice.smooth} steps`, held && "95 % intervals", data.axes && !choice.seeds && "mean and range of the seeds"].filter(Boolean).join(", ");
    const apart = choice.apart || isHidden(lines), more = { note, range, format: isShare(name) ? asPercent : short };
    if (!apart || lines.length < 2) return [[name, chart({ title: name, lines, ...more })]];
    const ends = lines.flatMap((line) => line.points.flatMap((p) => p.slice(1))).filter(Number.isFinite);
    const at = lines.flatMap((line) => line.points.map((p) => p[0]));
    const scale = { range: range ?? [Math.min(...ends, 0), Math.max(...ends)], span: [Math.min(...at), Math.max(...at)] };  // one, so that the eye can compare
    return lines.map((line, i) => [name, chart({ title: name, file: fileName(`${name} ${line.name}`), lines: [line], ...more, ...scale, note: [note, !choice.apart && "drawn apart: curves coincide"].filter(Boolean).join(", ") }), i === 0]);
  });
  const isApart = (i) => figures[i]?.length > 2;
  byId("charts").replaceChildren(...figures.map(([name, figure, isFirst], i) => {
    const drawn = figure ?? el("figure", {}, el("figcaption", {}, name), el("p", { class: "quiet" }, "None of the shown runs has it."));
    drawn.querySelector("figcaption").append(el("button", { class: "plain", type: "button", title: `Remove ${name}`, "aria-label": `Remove ${name}`, onclick: () => change({ metrics: choice.metrics.filter((one) => one !== name) }) }, "×"));
    if (isFirst || (isApart(i - 1) && !isApart(i))) drawn.classList.add("row-start");
    return drawn;
  }));
}

function drawGroups() {
  replaceChildren(byId("groups"), data.groups.map((name, i) => el("label", {},
    el("input", { type: "checkbox", value: i, checked: !choice.hidden.has(i), onchange: (event) => { const hidden = new Set(choice.hidden); hidden[event.target.checked ? "delete" : "add"](i); change({ hidden }); } }),
    key(name, i % 6, Math.floor(i / 6) % 3))));
}

function drawOptions() {
  const words = choice.option.toLowerCase(), shown = [...shownGroups()];
  const rows = data.options.filter(([path, values]) => `${path} ${values.join(" ")}`.toLowerCase().includes(words));
  const head = ["option", ...shown.map((group) => data.groups[group])], cells = rows.map(([path, values]) => [path, ...shown.map((group) => values[group] ?? "–")]);
  byId("options").replaceChildren(rows.length
    ? el("table", { class: "values" }, el("thead", {}, el("tr", {}, head.map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, cells.map(([path, ...values]) => el("tr", {}, el("th", { scope: "row" }, breakable(path)), values.map((value) => el("td", {}, value))))))
    : el("p", { class: "quiet" }, data.options.length ? "No option matches." : "Nothing: the recipes are equal."));
  byId("save-options").replaceChildren(saveTable("options", [head, ...cells]));
}

function drawRuns() {
  const rows = data.runs.map((run) => el("tr", {}, el("th", { scope: "row" }, run.link ? el("a", { href: run.link }, run.name) : run.name),
    el("td", {}, run.state), el("td", {}, `${run.step} of ${run.steps ?? "?"}`)));
  byId("runs").replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ["run", "state", "step"].map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows)));
}

function draw() {
  drawGroups();
  drawResults();
  drawCharts();
  drawOptions();
}

/** Change what is shown, draw it, and put it into the address. */
function change(what) {
  Object.assign(choice, what);
  draw();
  const query = new URLSearchParams({ metrics: choice.metrics.join(","), smooth: choice.smooth, measure: choice.measure });
  if (choice.hidden.size) query.set("hidden", [...choice.hidden].map((i) => data.groups[i]).join("|"));
  if (choice.apart) query.set("apart", "yes");
  if (choice.seeds) query.set("seeds", "yes");
  if (choice.option) query.set("option", choice.option);
  history.replaceState(null, "", `#${query}`);
}

/** Take what the address asks for, and the defaults for the rest. */
function readAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  const asked = (query.get("metrics") ?? "").split(",").filter((name) => names.includes(name));
  const held = names.filter((name) => name.startsWith(HELD_OUT)).slice(0, 4), hidden = new Set((query.get("hidden") ?? "").split("|"));
  Object.assign(choice, {
    metrics: query.has("metrics") ? asked : [...held, ...FIRST.filter((name) => names.includes(name))],
    smooth: Math.min(Math.max(Math.floor(Number(query.get("smooth"))) || 1, 1), 1000),
    apart: query.has("apart"), seeds: query.has("seeds"), option: query.get("option") ?? "",
    hidden: new Set(data.groups.map((_, i) => i).filter((i) => hidden.has(data.groups[i]))),
    measure: data.measures.some((m) => m.name === query.get("measure")) ? query.get("measure") : (data.measures.find((m) => m.average) ?? data.measures[0])?.name ?? "",
  });
  byId("smooth").value = choice.smooth;
  byId("apart").checked = choice.apart;
  byId("seeds").checked = choice.seeds;
  byId("by-option").value = choice.option;
  byId("measure").value = choice.measure;
}

function startChoices() {
  byId("metrics").replaceChildren(...names.map((name) => el("option", { value: name })));
  byId("measure").replaceChildren(...data.measures.map((m) => el("option", { value: m.name }, m.name + (m.in_domain ? " (trained)" : ""))));
  byId("measure").addEventListener("change", (event) => change({ measure: event.target.value }));
  byId("smooth").addEventListener("input", (event) => change({ smooth: Math.min(Math.max(Math.floor(Number(event.target.value)) || 1, 1), 1000) }));
  byId("apart").addEventListener("change", (event) => change({ apart: event.target.checked }));
  byId("seeds").addEventListener("change", (event) => change({ seeds: event.target.checked }));
  byId("by-option").addEventListener("input", (event) => change({ option: event.target.value }));
  byId("seeds-choice").hidden = !data.axes;
  const add = () => {
    const field = byId("metric"), name = field.value.trim();
    field.setCustomValidity(names.includes(name) ? "" : `No run has ${name || "that"}. Choose one of the list.`);
    if (!field.reportValidity()) return;
    field.value = "";
    change({ metrics: [name, ...choice.metrics.filter((one) => one !== name)] });
  };
  byId("metric").addEventListener("input", (event) => { event.target.setCustomValidity(""); if (names.includes(event.target.value) && event.inputType !== "insertText") add(); });
  byId("choices").addEventListener("submit", (event) => { event.preventDefault(); add(); });
}

async function start() {
  startTheme();
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack it (it needs DecompressionStream, available since 2023)");
  data = await unpack("comparison");
  names = seriesNames(data.runs);
  byId("facts").textContent = data.axes ? `sweep over ${data.axes.join(", ")} · ${grouped(data.groups.length)} combinations · records of ${grouped(data.runs.length)} trials` : `${grouped(data.runs.length)} runs; differences are from ${data.groups[0]}`;
  byId("notes").replaceChildren(...data.notes.map((note) => el("p", { class: "quiet" }, note)));
  startChoices();
  readAddress();
  addEventListener("hashchange", () => { readAddress(); draw(); });
  byId("loading").hidden = true;
  byId("all").hidden = false;
  draw();
  drawRuns();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  byId("loading").hidden = false;
  byId("loading").textContent = `The comparison cannot be shown: ${error.message}.`;
});
