/* Puts the parts together: tabs, theme, keys, and, while a run goes on, what is new. */

const TABS = ["overview", "rollouts", "recipe"];
const POLL = 2000;

function openTab(name, focus = false) {
  for (const tab of TABS) {
    const button = byId(`tab-${tab}`), open = tab === name;
    button.setAttribute("aria-selected", open);
    button.tabIndex = open ? 0 : -1;
    byId(`${tab}-panel`).hidden = !open;
    if (open && focus) button.focus();
  }
}

function startTabs() {
  for (const [i, tab] of TABS.entries()) {
    byId(`tab-${tab}`).addEventListener("click", () => { openTab(tab); history.replaceState(null, "", `#${tab}`); });
    byId(`tab-${tab}`).addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) openTab(TABS[(i + by + TABS.length) % TABS.length], true);
    });
  }
}

function startTheme() {
  const names = ["system", "light", "dark"], dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = 0;
  const apply = () => {
    document.documentElement.dataset.theme = names[chosen] === "system" ? (dark.matches ? "dark" : "light") : names[chosen];
    byId("theme").textContent = `Theme: ${names[chosen]}`;
  };
  byId("theme").addEventListener("click", () => { chosen = (chosen + 1) % names.length; apply(); });
  dark.addEventListener("change", apply);
  apply();
}

function startKeys(rollouts) {
  document.addEventListener("keydown", (event) => {
    const typing = /^(input|select|textarea)$/i.test(event.target.tagName) && event.target.type !== "radio";
    if (event.key === "Escape" && typing) byId("list").focus();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const does = {
      o: () => openTab("overview", true), r: () => openTab("rollouts", true),
      j: () => rollouts.move(1), k: () => rollouts.move(-1), "/": () => { openTab("rollouts"); byId("by-text").focus(); },
      1: () => rollouts.setHeat("weight"), 2: () => rollouts.setHeat("divergence"), 3: () => rollouts.setHeat("gap"),
    }[event.key];
    if (does) { event.preventDefault(); does(); }
  });
}

function describe({ overview }) {
  const { parts, environment } = overview, done = overview.metrics.length ? overview.metrics[overview.metrics.length - 1].step : 0;
  const made = Object.entries(parts).filter(([, name]) => name).map(([slot, name]) => `${slot} ${name}`);
  byId("facts").textContent = [overview.method, overview.model, `step ${done} of ${overview.steps ?? "?"}`, ...made].filter(Boolean).join(" · ");
  byId("recipe").textContent = overview.recipe;
  const told = { ...environment, versions: Object.entries(environment.versions ?? {}).map((pair) => pair.join(" ")).join(", "), git: environment.git ? `${environment.git.commit}${environment.git.dirty ? ", with changes" : ""}` : null };
  byId("environment").replaceChildren(...Object.entries(told).filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

/** Open what the address names: a tab, or a rollout by step and place. */
async function follow(run, rollouts) {
  const [tab, step, place] = location.hash.slice(1).split("/");
  if (TABS.includes(tab)) openTab(tab);
  const found = rollouts.shown.findIndex((row) => row.step === Number(step) && row.place === Number(place));
  if (place !== undefined && found >= 0) await rollouts.choose(found);
}

async function watchRun(run, rollouts) {
  const light = byId("live");
  light.hidden = false;
  for (;;) {
    light.textContent = "live";
    await new Promise((done) => setTimeout(done, POLL));
    if (document.hidden) continue;
    try {
      const found = await run.source.more();
      light.classList.remove("lost");
      if (!found.again && !found.overview.metrics.length && !found.overview.evaluations.length && !found.chunks.length) continue;
      run.take(found);
      describe(run);
      drawOverview(run);
      if (found.again || found.chunks.length) await rollouts.refresh();
    } catch (error) {
      light.classList.add("lost");
      light.textContent = "the server is gone";
      await new Promise((done) => setTimeout(done, POLL));
    }
  }
}

async function begin() {
  const live = document.documentElement.dataset.mode === "live";
  startTheme();
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack it (DecompressionStream, 2023)");
  const run = new Run(live ? new LiveSource() : new FileSource());
  run.take(await run.source.begin());
  byId("loading").hidden = true;
  const rollouts = new Rollouts(run);
  startTabs();
  startKeys(rollouts);
  openTab("overview");
  describe(run);
  drawOverview(run);
  await rollouts.refresh();
  await follow(run, rollouts);
  document.documentElement.dataset.ready = "yes";
  if (live) watchRun(run, rollouts);
}

begin().catch((error) => {
  byId("loading").hidden = false;
  byId("loading").textContent = `The report cannot be shown: ${error.message}.`;
});
