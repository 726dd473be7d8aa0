/* Starts the page: tabs, theme, keys, and updates of a live run. */

const TABS = ["overview", "rollouts", "recipe"];
const POLL = 2000;

const scrolled = new Map();
let shownTab = null;

function openTab(name, focus = false) {
  if (shownTab !== null) scrolled.set(shownTab, scrollY);
  shownTab = name;
  for (const tab of TABS) {
    const button = byId(`tab-${tab}`), open = tab === name;
    button.setAttribute("aria-selected", open);
    button.tabIndex = open ? 0 : -1;
    byId(`${tab}-panel`).hidden = !open;
    if (open && focus) button.focus();
  }
  scrollTo(0, scrolled.get(name) ?? 0);
}

/** Open a tab that the reader chose, and put it into the address. */
function goToTab(name, rollouts, focus = false) {
  openTab(name, focus);
  history.replaceState(null, "", `#${name === "rollouts" ? rollouts.address() : name}`);
}

function startTabs(rollouts) {
  for (const [i, tab] of TABS.entries()) {
    byId(`tab-${tab}`).addEventListener("click", () => goToTab(tab, rollouts));
    byId(`tab-${tab}`).addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) goToTab(TABS[(i + by + TABS.length) % TABS.length], rollouts, true);
    });
  }
}

function startKeys(rollouts) {
  document.addEventListener("keydown", (event) => {
    const typing = /^(input|select|textarea)$/i.test(event.target.tagName) && event.target.type !== "radio";
    if (event.key === "Escape" && typing) byId("list").focus();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = {
      o: () => goToTab("overview", rollouts, true), r: () => goToTab("rollouts", rollouts, true),
      j: () => rollouts.move(1), k: () => rollouts.move(-1), "/": () => { goToTab("rollouts", rollouts); byId("by-text").focus(); },
      1: () => rollouts.setHeat("weight"), 2: () => rollouts.setHeat("divergence"), 3: () => rollouts.setHeat("gap"),
    }[event.key];
    if (action) { event.preventDefault(); action(); }
  });
}

function describe({ overview }) {
  const { components, environment } = overview, done = overview.metrics.length ? overview.metrics[overview.metrics.length - 1].step : 0;
  const slots = Object.entries(components).filter(([, name]) => name).map(([slot, name]) => `${slot} ${name}`);
  byId("facts").textContent = [overview.method, overview.model, `step ${done} of ${overview.steps ?? "?"}${overview.state === "finished" ? "" : `, ${overview.state}`}`, ...slots].filter(Boolean).join(" · ");
  byId("recipe").replaceChildren(...explainedLines(overview.recipe));
  replaceChildren(byId("changes"), changes(overview));
  const facts = { ...environment, versions: Object.entries(environment.versions ?? {}).map((pair) => pair.join(" ")).join(", "), git: environment.git ? `${environment.git.commit}${environment.git.dirty ? ", with uncommitted changes" : ""}` : null };
  byId("environment").replaceChildren(...Object.entries(facts).filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

/** Return a recipe's text with the origins, which are comments at the ends of its lines, set apart. */
function explainedLines(text) {
  return text.split("\n").flatMap((line) => {
    const [, value, origin] = /^(.*?\s\s)(# .*)$/.exec(line) ?? [null, line, ""];
    return [value, origin && el("span", { class: "quiet" }, origin), "\n"].filter(Boolean);
  });
}

/** Return the table of what the run changes of its shipped recipe. */
function changes({ preset, profile, changes: rows }) {
  if (!preset) return null;
  const head = `Changed from ${preset}`, under = profile && profile !== "none" ? ` with profile ${profile}` : "";
  const body = rows.map((row) => el("tr", {}, el("th", { scope: "row" }, breakable(row.path)), [row.preset ?? "–", row.value ?? "–", row.origin].map((text) => el("td", {}, text ?? ""))));
  return [el("h2", {}, head + under), rows.length
    ? el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": head }, el("table", { class: "values" },
      el("thead", {}, el("tr", {}, ["option", preset, "this run", "set by"].map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, body)))
    : el("p", { class: "quiet" }, "Nothing: the run is the shipped recipe.")];
}

/** Open the tab, or the rollout by step and index, that the address names. */
async function openAddress(run, rollouts) {
  const [place, query] = location.hash.slice(1).split("?");
  const [tab, step, index] = place.split("/");
  if (TABS.includes(tab)) openTab(tab);
  if (tab === "rollouts") await rollouts.restore(new URLSearchParams(query));
  const position = rollouts.shown.findIndex((row) => row.step === Number(step) && row.index === Number(index));
  if (index !== undefined && position >= 0) await rollouts.select(position);
}

async function followRun(run, rollouts) {
  const status = byId("live");
  status.hidden = false;
  for (;;) {
    const { state } = run.overview;
    status.textContent = state === "running" ? "live" : state;
    status.classList.toggle("over", state !== "running");
    await new Promise((done) => setTimeout(done, POLL));
    if (document.hidden) continue;
    try {
      const update = await run.source.update();
      status.classList.remove("lost");
      run.overview.state = update.overview.state;
      describe(run);
      if (!update.restarted && !update.overview.metrics.length && !update.overview.evaluations.length && !update.chunks.length) continue;
      run.add(update);
      describe(run);
      drawOverview(run);
      if (update.restarted || update.chunks.length) await rollouts.refresh();
    } catch (error) {
      status.classList.add("lost");
      status.textContent = "connection lost";
      await new Promise((done) => setTimeout(done, POLL));
    }
  }
}

async function start() {
  const live = document.documentElement.dataset.mode === "live";
  startTheme();
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack it (it needs DecompressionStream, available since 2023)");
  const run = new Run(live ? new LiveSource() : new FileSource());
  run.add(await run.source.load());
  byId("loading").hidden = true;
  const rollouts = new Rollouts(run);
  startTabs(rollouts);
  startKeys(rollouts);
  openTab("overview");
  describe(run);
  drawOverview(run);
  await rollouts.refresh();
  await openAddress(run, rollouts);
  addEventListener("hashchange", () => openAddress(run, rollouts));
  document.documentElement.dataset.ready = "yes";
  if (live) followRun(run, rollouts);
}

start().catch((error) => {
  byId("loading").hidden = false;
  byId("loading").textContent = `The report cannot be shown: ${error.message}.`;
});
