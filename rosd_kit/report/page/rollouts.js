/* The rollouts tab: a list that draws only its visible rows, and one rollout in full. */

const ROW_HEIGHT = 52;
const HEATS = ["weight", "divergence", "gap"];
const FILTERS = ["by-outcome", "by-suite", "from-step", "to-step", "by-text"];

class Rollouts {
  constructor(run) {
    this.run = run;
    this.shown = [];
    this.selected = null;
    this.heat = "weight";
    this.filterRuns = 0;
    this.list = byId("list");
    this.list.addEventListener("scroll", () => this.draw());
    this.list.addEventListener("keydown", (event) => this.handleKey(event));
    new ResizeObserver(() => this.draw()).observe(this.list);
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["by-outcome", "by-suite", "from-step", "to-step"]) byId(id).addEventListener("input", () => this.filterAndLink());
    byId("by-text").addEventListener("input", () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.filterAndLink(), 200); });
  }

  /** Show new rows and keep the selection. */
  refresh() {
    const { rows, overview } = this.run;
    byId("total").textContent = rows.length ? grouped(rows.length) : "";
    options(byId("by-outcome"), overview.outcomes.map((name, i) => [String(i), name, rows.reduce((n, row) => n + row.outcomes.has(i), 0)]), rows.length);
    const suites = new Map();
    for (const row of rows) suites.set(row.suite, (suites.get(row.suite) ?? 0) + 1);
    options(byId("by-suite"), [...suites].filter(([name]) => name).map(([name, count]) => [name, name, count]), rows.length);
    return this.filter();
  }

  /** Filter, and put the filters into the address. */
  async filterAndLink() {
    await this.filter();
    history.replaceState(null, "", `#${this.address()}`);
  }

  async filter() {
    const run = ++this.filterRuns;
    const outcome = byId("by-outcome").value, suite = byId("by-suite").value, words = byId("by-text").value.trim().toLowerCase();
    const from = Number(byId("from-step").value || 0), to = Number(byId("to-step").value || Infinity);
    let matching = this.run.rows.filter((row) => row.step >= from && row.step <= to && (!outcome || row.outcomes.has(Number(outcome))) && (!suite || row.suite === suite));
    if (words) {
      const texts = new Map();
      for (const chunk of new Set(matching.map((row) => row.chunk))) {
        byId("match-count").textContent = `searching step ${grouped(texts.size + 1)}`;
        texts.set(chunk, await this.run.texts(chunk));
        if (run !== this.filterRuns) return;
      }
      matching = matching.filter((row) => texts.get(row.chunk)[row.index].includes(words) || row.problem.toLowerCase().includes(words));
    }
    this.shown = matching;
    byId("match-count").textContent = `${grouped(matching.length)} of ${grouped(this.run.rows.length)}`;
    byId("spacer").style.height = `${matching.length * ROW_HEIGHT}px`;
    this.list.classList.toggle("empty", !matching.length);
    if (!matching.includes(this.selected)) this.selected = null;
    this.draw();
    if (!this.selected && matching.length) this.select(0, false);
    if (!matching.length) byId("detail").replaceChildren(el("p", { class: "notice" }, this.run.rows.length ? "No rollout matches these filters." : whyNone(this.run.overview)));
  }

  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_HEIGHT) - 5), last = Math.min(this.shown.length, first + Math.ceil(this.list.clientHeight / ROW_HEIGHT) + 11);
    const rows = [];
    for (let position = first; position < last; position++) rows.push(this.row(position));
    byId("spacer").replaceChildren(...rows);
    const position = this.shown.indexOf(this.selected);
    if (position >= first && position < last) this.list.setAttribute("aria-activedescendant", `row-${position}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(position) {
    const row = this.shown[position], correct = row.outcomes.has(0);
    const notes = this.run.overview.outcomes.filter((name, i) => i > 1 && row.outcomes.has(i));
    const element = el("div", { class: "row", id: `row-${position}`, role: "option", "aria-selected": String(row === this.selected), "aria-setsize": this.shown.length, "aria-posinset": position + 1, onclick: () => this.select(position) },
      el("div", { class: "head" }, el("b", { class: correct ? "up" : "down" }, correct ? "correct" : "wrong"), el("span", {}, `step ${row.step} · ${row.problem} #${row.member}`, notes.length ? ` · ${notes.join(", ")}` : "")),
      el("div", { class: "text" }, row.text));
    element.style.top = `${position * ROW_HEIGHT}px`;
    return element;
  }

  handleKey(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW_HEIGHT) - 1), position = this.shown.indexOf(this.selected);
    const to = { ArrowDown: position + 1, ArrowUp: position - 1, PageDown: position + page, PageUp: position - page, Home: 0, End: this.shown.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.select(to);
  }

  move(by) { this.select(this.shown.indexOf(this.selected) + by); }

  /** Select a row by its position in the list, show its details, and put it into the address. */
  async select(position, setAddress = true) {
    const row = this.shown[Math.min(Math.max(position, 0), this.shown.length - 1)];
    if (!row) return;
    this.selected = row;
    const top = this.shown.indexOf(row) * ROW_HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW_HEIGHT > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW_HEIGHT - this.list.clientHeight;
    this.draw();
    try {
      const detail = await this.run.detail(row);
      if (this.selected === row) this.show(row, detail);
    } catch (error) {
      if (this.selected === row) byId("detail").replaceChildren(el("p", { class: "notice", role: "alert" }, `This rollout cannot be read: ${error.message}`));
    }
    if (setAddress) history.replaceState(null, "", `#${this.address()}`);
  }

  /** Return the address of this view: the rollout, the filters and the colour of the tokens. */
  address() {
    const set = [...FILTERS.map((id) => [id, this.named(id)]), ["colour", this.heat === "weight" ? "" : this.heat]].filter(([, value]) => value);
    const rollout = this.selected ? `/${this.selected.step}/${this.selected.index}` : "";
    return `rollouts${rollout}${set.length ? `?${new URLSearchParams(set)}` : ""}`;
  }

  /** Return a filter's value; an outcome by its name, because its number may differ in a later version. */
  named(id) {
    const { value } = byId(id);
    return id === "by-outcome" && value ? this.run.overview.outcomes[Number(value)] : value;
  }

  /** Set the filters and the colour that a link names. */
  async restore(query) {
    for (const id of FILTERS) {
      const value = query.get(id) ?? "", at = this.run.overview.outcomes.indexOf(value);
      byId(id).value = id === "by-outcome" ? (at < 0 ? "" : String(at)) : value;
    }
    this.heat = HEATS.find((name) => name === query.get("colour")) ?? HEATS[0];
    await this.filter();
    if (this.selected) await this.select(this.shown.indexOf(this.selected), false);
  }

  show(row, one) {
    const detail = byId("detail");
    this.current = one;
    replaceChildren(detail,
      el("h2", { class: "title" }, el("span", {}, `${row.problem} #${row.member}`), ...badges(row, one)),
      el("h3", {}, "Problem"), one.messages.map((m) => el("div", { class: "text-block" }, one.messages.length > 1 ? `${m.role}: ` : "", m.content)),
      el("h3", {}, "Rollout"), this.heatChoice(one), el("div", { class: "tokens", id: "tokens", tabindex: 0, role: "group", "aria-label": "The rollout's tokens; use the arrow keys to read them one by one" }), el("p", { class: "quiet readout", id: "readout", "aria-live": "polite" }), legend(one),
      section("Key idea", one.idea),
      ...(one.views ?? []).flatMap((view, i) => section(`Demonstration · ${one.view_sources?.[i] ?? `${i + 1}`}`, view) ?? []),
      one.reflection ? el("details", {}, el("summary", { class: "quiet" }, `The reflector's full text (${one.reflection_status})`), el("div", { class: "text-block" }, one.reflection)) : null,
      ...prompts(one),
      el("h3", {}, "Facts"), facts(row, one));
    detail.scrollTop = 0;
    this.paint();
  }

  /** Colour the tokens by what the reader chose, and put it into the address. */
  chooseHeat(kind) {
    this.heat = this.shownHeat = kind;
    this.paint();
    history.replaceState(null, "", `#${this.address()}`);
  }

  heatChoice(one) {
    const scored = one.divergence?.some((v) => v !== 0);
    const kinds = [["weight", "weight", Boolean(one.weights)], ["divergence", "divergence", scored], ["gap", "teacher against student", scored && Boolean(one.teacher_logprobs)]];
    if (!kinds.find(([kind, , available]) => kind === this.heat && available)) this.shownHeat = (kinds.find(([, , available]) => available) ?? [null])[0];
    else this.shownHeat = this.heat;
    const radios = kinds.map(([kind, name, available]) => el("label", {}, el("input", { type: "radio", name: "heat", value: kind, disabled: !available, checked: kind === this.shownHeat, onchange: () => this.chooseHeat(kind) }), name));
    return el("div", { class: "heat" }, el("fieldset", { "aria-label": "Token colour" }, radios), el("span", { class: "quiet", id: "scale" }));
  }

  setHeat(kind) {
    const radio = document.querySelector(`input[name="heat"][value="${kind}"]:not(:disabled)`);
    if (radio) { radio.checked = true; this.chooseHeat(kind); }
  }

  /** Colour the tokens. Text that no token covers stays plain. */
  paint() {
    const one = this.current, count = one.spans.length / 2, tone = tones(one, this.shownHeat);
    const nodes = [];
    let done = 0;
    for (let i = 0; i < count; i++) {
      const [start, end] = [one.spans[2 * i], one.spans[2 * i + 1]];
      if (start > done) nodes.push(one.response.slice(done, start));
      const from = Math.max(start, done), text = end > from ? one.response.slice(from, end) : "";
      const token = el("span", { "data-token": i, class: classes(one, i, start, end) + (text ? "" : " end") + tone.side(i) }, text || (start === end ? (i === count - 1 ? " ⏎" : "·") : ""));
      token.style.setProperty("--h", tone.of(i).toFixed(3));
      nodes.push(token);
      done = Math.max(done, end);
    }
    nodes.push(one.response.slice(done));
    const tokens = byId("tokens");
    tokens.replaceChildren(...nodes);
    byId("scale").textContent = tone.scale;
    tokens.onpointerover = (event) => { const i = event.target.dataset?.token; if (i !== undefined) this.read(Number(i)); };
    tokens.onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) { this.read(Math.min(Math.max((this.at ?? -1) + by, 0), count - 1)); event.preventDefault(); event.stopPropagation(); }
    };
    this.at = null;
  }

  read(i) {
    const one = this.current;
    this.at = i;
    document.querySelectorAll("#tokens .here").forEach((token) => token.classList.remove("here"));
    document.querySelector(`#tokens [data-token="${i}"]`)?.classList.add("here");
    const text = one.response.slice(one.spans[2 * i], one.spans[2 * i + 1]);
    const values = [["weight", one.weights], ["divergence", one.divergence], ["student log p", one.student_logprobs], ["teacher log p", one.teacher_logprobs]];
    byId("readout").textContent = `token ${i + 1} ${JSON.stringify(text)} · ` + values.filter(([, v]) => v).map(([name, v]) => `${name} ${short(v[i])}`).join(" · ");
  }
}

/** Return how tokens are coloured: the strength in [0, 1] and the side of each, and a description of the scale. */
function tones(one, kind) {
  const plain = { of: () => 0, side: () => "", scale: "not scored" };
  if (kind === "weight") return { of: (i) => one.weights[i] ?? 0, side: () => "", scale: `${one.weights.filter((w) => w > 0).length} of ${one.weights.length} tokens weighted` };
  if (kind === "divergence") {
    const max = Math.max(...one.divergence, 1e-12);
    return { of: (i) => Math.sqrt(Math.max(one.divergence[i] ?? 0, 0) / max), side: () => "", scale: `darkest: ${short(max)} nats; square-root scale` };
  }
  if (kind === "gap") {
    const gaps = one.teacher_logprobs.map((t, i) => t - one.student_logprobs[i]), max = Math.max(...gaps.map(Math.abs), 1e-12);
    return { of: (i) => Math.sqrt(Math.abs(gaps[i]) / max), side: (i) => (gaps[i] > 0 ? " more" : gaps[i] < 0 ? " less" : ""), scale: `blue: the teacher finds the token more likely, red: less likely; darkest: ${short(max)} nats` };
  }
  return plain;
}

function classes(one, i, start, end) {
  const within = (span) => span && start < span[1] && end > span[0];
  return [within(one.quoted) && "quoted", within(one.true_error) && "true", one.located_at !== null && start <= one.located_at && end > one.located_at && "start"].filter(Boolean).join(" ");
}

function legend(one) {
  const marks = [one.quoted && el("span", {}, el("b", { class: "quoted" }, "quoted error")), one.true_error && el("span", {}, el("b", { class: "true" }, "true first error")), one.located_at !== null && el("span", {}, el("b", { class: "start" }, "start of the token weights"))];
  return marks.some(Boolean) ? el("p", { class: "quiet legend" }, marks) : null;
}

/** Say why a run has no rollouts to show. */
function whyNone({ samples_every: every, metrics }) {
  if (!metrics.length) return "No step is finished yet, so there are no rollouts.";
  if (every === 0) return "This run wrote no samples, because its recipe has samples.every: 0. Run it with samples.every=1 to record every rollout.";
  if (metrics[metrics.length - 1].step < every) return `Samples are written at every ${every}th step (samples.every), and this run has taken ${metrics[metrics.length - 1].step}.`;
  return "The folder samples/ of this run is missing or empty. Its recipe asks for samples, so the files were moved or deleted.";
}

/** Say what the localizer did: how it found a quote, or where else its weights lie. */
function weightsInWords({ localized, weights }) {
  const outcome = localized.replaceAll("_", " ");
  if (/^(missing|(exact|normalised|fuzzy)(_ambiguous)?)$/.test(localized)) return `quote ${outcome}`;
  return weights?.length && weights.every((weight) => weight === weights[0] && weight > 0) ? "whole response" : `weights: ${outcome}`;
}

function badges(row, one) {
  const badges = [el("span", { class: `badge ${one.success ? "good" : "bad"}` }, one.success ? "correct" : "wrong")];
  if (one.localized) badges.push(el("span", { class: `badge ${one.localized === "missing" ? "bad" : ""}` }, weightsInWords(one)));
  if (one.judged?.start) badges.push(el("span", { class: `badge ${one.judged.start === "missed" ? "bad" : "good"}` }, `oracle: ${one.judged.start.replace("_", " ")}`));
  if (one.status !== "ok") badges.push(el("span", { class: "badge bad" }, `not trained on: ${(one.reason ?? one.status ?? "?").replaceAll("_", " ")}`));
  return [...badges, el("span", { class: "quiet" }, `step ${row.step}`)];
}

const section = (title, text) => (text ? [el("h3", {}, title), el("div", { class: "text-block" }, text)] : null);

function prompts(one) {
  if (!one.student_prompt && !one.teacher_prompts?.length) return [];
  const marked = (segments) => segments.map(([kind, text]) => (kind === "same" ? text : el(kind === "added" ? "ins" : "del", {}, text)));
  const teachers = one.teacher_prompts ?? [];
  const student = teachers.length && one.student_prompt ? differences(one.student_prompt, teachers[0])[0] : [["same", one.student_prompt ?? ""]];
  return [el("h3", {}, "Prompts"), el("div", { class: "prompts" },
    one.student_prompt ? el("div", {}, el("h4", {}, "student"), el("div", { class: "text-block" }, marked(student))) : null,
    teachers.map((text, i) => el("div", {}, el("h4", {}, teachers.length > 1 ? `teacher, view ${i + 1}` : "teacher"), el("div", { class: "text-block" }, one.student_prompt ? marked(differences(one.student_prompt, text)[1]) : text))))];
}

function facts(row, one) {
  const facts = { "correct answer": one.answer, "given answer": one.answered, score: one.score, feedback: one.feedback, quote: one.quote, reflection: one.reflection_status, localizer: one.localized, "quote correct": one.judged?.quote, "idea correct": one.judged?.idea, "finish reason": one.finish_reason, tokens: row.tokens, suite: row.suite, sample: one.status, "left out because of": one.reason };
  return el("dl", { class: "facts" }, Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

/** Fill a select with entries and their counts, without empty ones; keeps the selection. */
function options(select, entries, all) {
  const before = select.value;
  select.replaceChildren(el("option", { value: "" }, `all (${grouped(all)})`), ...entries.filter(([value, , count]) => count || value === before).map(([value, name, count]) => el("option", { value }, `${name} (${grouped(count)})`)));
  select.value = [...select.options].some((option) => option.value === before) ? before : "";
}
