/* The rollout viewer: a list that draws only the rows in sight, and one rollout in full. */

const ROW = 52;

class Rollouts {
  constructor(run) {
    this.run = run;
    this.shown = [];
    this.chosen = null;
    this.heat = "weight";
    this.asked = 0;
    this.list = byId("list");
    this.list.addEventListener("scroll", () => this.draw());
    this.list.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.list);
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["by-outcome", "by-suite", "from-step", "to-step"]) byId(id).addEventListener("input", () => this.filter());
    byId("by-text").addEventListener("input", () => { clearTimeout(this.typing); this.typing = setTimeout(() => this.filter(), 200); });
  }

  /** Take new rows into account, keeping what is chosen. */
  refresh() {
    const { rows, overview } = this.run;
    byId("total").textContent = rows.length ? grouped(rows.length) : "";
    options(byId("by-outcome"), overview.outcomes.map((name, i) => [String(i), name, rows.reduce((n, row) => n + row.outcomes.has(i), 0)]), rows.length);
    const suites = new Map();
    for (const row of rows) suites.set(row.suite, (suites.get(row.suite) ?? 0) + 1);
    options(byId("by-suite"), [...suites].filter(([name]) => name).map(([name, count]) => [name, name, count]), rows.length);
    return this.filter();
  }

  async filter() {
    const asked = ++this.asked;
    const outcome = byId("by-outcome").value, suite = byId("by-suite").value, words = byId("by-text").value.trim().toLowerCase();
    const from = Number(byId("from-step").value || 0), to = Number(byId("to-step").value || Infinity);
    let found = this.run.rows.filter((row) => row.step >= from && row.step <= to && (!outcome || row.outcomes.has(Number(outcome))) && (!suite || row.suite === suite));
    if (words) {
      const texts = new Map();
      for (const chunk of new Set(found.map((row) => row.chunk))) {
        byId("matches").textContent = `searching, step ${grouped(texts.size + 1)}`;
        texts.set(chunk, await this.run.texts(chunk));
        if (asked !== this.asked) return;
      }
      found = found.filter((row) => texts.get(row.chunk)[row.place].includes(words) || row.problem.toLowerCase().includes(words));
    }
    this.shown = found;
    byId("matches").textContent = `${grouped(found.length)} of ${grouped(this.run.rows.length)}`;
    byId("spacer").style.height = `${found.length * ROW}px`;
    this.list.classList.toggle("empty", !found.length);
    if (!found.includes(this.chosen)) this.chosen = null;
    this.draw();
    if (!this.chosen && found.length) this.choose(0, false);
    if (!found.length) byId("detail").replaceChildren(el("p", { class: "notice" }, this.run.rows.length ? "No rollout is left by these filters." : "No samples were written. See samples.every in the recipe."));
  }

  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 5), last = Math.min(this.shown.length, first + Math.ceil(this.list.clientHeight / ROW) + 11);
    const rows = [];
    for (let place = first; place < last; place++) rows.push(this.row(place));
    byId("spacer").replaceChildren(...rows);
    const place = this.shown.indexOf(this.chosen);
    if (place >= first && place < last) this.list.setAttribute("aria-activedescendant", `row-${place}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(place) {
    const row = this.shown[place], right = row.outcomes.has(0);
    const notes = this.run.overview.outcomes.filter((name, i) => i > 1 && row.outcomes.has(i));
    const made = el("div", { class: "row", id: `row-${place}`, role: "option", "aria-selected": String(row === this.chosen), "aria-setsize": this.shown.length, "aria-posinset": place + 1, onclick: () => this.choose(place) },
      el("div", { class: "head" }, el("b", { class: right ? "up" : "down" }, right ? "right" : "wrong"), el("span", {}, `step ${row.step} · ${row.problem} #${row.member}`, notes.length ? ` · ${notes.join(", ")}` : "")),
      el("div", { class: "text" }, row.text));
    made.style.top = `${place * ROW}px`;
    return made;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1), place = this.shown.indexOf(this.chosen);
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: this.shown.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(to);
  }

  move(by) { this.choose(this.shown.indexOf(this.chosen) + by); }

  async choose(place, told = true) {
    const row = this.shown[Math.min(Math.max(place, 0), this.shown.length - 1)];
    if (!row) return;
    this.chosen = row;
    const at = this.shown.indexOf(row) * ROW;
    if (at < this.list.scrollTop) this.list.scrollTop = at;
    else if (at + ROW > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = at + ROW - this.list.clientHeight;
    this.draw();
    try {
      const found = await this.run.detail(row);
      if (this.chosen === row) this.show(row, found);
    } catch (error) {
      if (this.chosen === row) byId("detail").replaceChildren(el("p", { class: "notice", role: "alert" }, `This rollout cannot be read: ${error.message}`));
    }
    if (told) history.replaceState(null, "", `#rollouts/${row.step}/${row.place}`);
  }

  show(row, one) {
    const detail = byId("detail");
    this.current = one;
    put(detail,
      el("h2", { class: "title" }, el("span", {}, `${row.problem} #${row.member}`), ...badges(row, one)),
      el("h3", {}, "Problem"), one.messages.map((m) => el("div", { class: "text-block" }, one.messages.length > 1 ? `${m.role}: ` : "", m.content)),
      el("h3", {}, "Rollout"), this.heatChoice(one), el("div", { class: "tokens", id: "tokens", tabindex: 0, role: "group", "aria-label": "The rollout's tokens; arrow keys read them one by one" }), el("p", { class: "quiet readout", id: "readout", "aria-live": "polite" }), legend(one),
      section("Key idea", one.idea),
      ...(one.views ?? []).flatMap((view, i) => section(`Demonstration · ${one.view_sources?.[i] ?? `${i + 1}`}`, view) ?? []),
      one.reflection ? el("details", {}, el("summary", { class: "quiet" }, `The reflection as it was written (${one.reflection_status})`), el("div", { class: "text-block" }, one.reflection)) : null,
      ...prompts(one),
      el("h3", {}, "Facts"), facts(row, one));
    detail.scrollTop = 0;
    this.paint();
  }

  heatChoice(one) {
    const scored = one.divergence?.some((v) => v !== 0);
    const kinds = [["weight", "weight", Boolean(one.weights)], ["divergence", "divergence", scored], ["gap", "teacher against student", scored && Boolean(one.teacher_logprobs)]];
    if (!kinds.find(([kind, , there]) => kind === this.heat && there)) this.now = (kinds.find(([, , there]) => there) ?? [null])[0];
    else this.now = this.heat;
    const radios = kinds.map(([kind, name, there]) => el("label", {}, el("input", { type: "radio", name: "heat", value: kind, disabled: !there, checked: kind === this.now, onchange: () => { this.heat = this.now = kind; this.paint(); } }), name));
    return el("div", { class: "heat" }, el("fieldset", { "aria-label": "What colours the tokens" }, radios), el("span", { class: "quiet", id: "scale" }));
  }

  setHeat(kind) {
    const radio = document.querySelector(`input[name="heat"][value="${kind}"]:not(:disabled)`);
    if (radio) { radio.checked = true; this.heat = this.now = kind; this.paint(); }
  }

  /** Colour the tokens. Text between tokens, which no token covers, stays as it is. */
  paint() {
    const one = this.current, count = one.spans.length / 2, tone = tones(one, this.now);
    const pieces = [];
    let done = 0;
    for (let i = 0; i < count; i++) {
      const [start, end] = [one.spans[2 * i], one.spans[2 * i + 1]];
      if (start > done) pieces.push(one.response.slice(done, start));
      const from = Math.max(start, done), text = end > from ? one.response.slice(from, end) : "";
      const token = el("span", { "data-token": i, class: classes(one, i, start, end) + (text ? "" : " end") + tone.side(i) }, text || (start === end ? (i === count - 1 ? " ⏎" : "·") : ""));
      token.style.setProperty("--h", tone.of(i).toFixed(3));
      pieces.push(token);
      done = Math.max(done, end);
    }
    pieces.push(one.response.slice(done));
    const tokens = byId("tokens");
    tokens.replaceChildren(...pieces);
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
    const told = [["weight", one.weights], ["divergence", one.divergence], ["student log p", one.student_logprobs], ["teacher log p", one.teacher_logprobs]];
    byId("readout").textContent = `token ${i + 1} ${JSON.stringify(text)} · ` + told.filter(([, v]) => v).map(([name, v]) => `${name} ${short(v[i])}`).join(" · ");
  }
}

/** Return how each token is coloured: a strength in [0, 1], a side, and what the scale is. */
function tones(one, kind) {
  const plain = { of: () => 0, side: () => "", scale: "nothing was scored" };
  if (kind === "weight") return { of: (i) => one.weights[i] ?? 0, side: () => "", scale: `${one.weights.filter((w) => w > 0).length} of ${one.weights.length} tokens weighted` };
  if (kind === "divergence") {
    const most = Math.max(...one.divergence, 1e-12);
    return { of: (i) => Math.sqrt(Math.max(one.divergence[i] ?? 0, 0) / most), side: () => "", scale: `darkest: ${short(most)} nats; square-root scale` };
  }
  if (kind === "gap") {
    const gaps = one.teacher_logprobs.map((t, i) => t - one.student_logprobs[i]), most = Math.max(...gaps.map(Math.abs), 1e-12);
    return { of: (i) => Math.sqrt(Math.abs(gaps[i]) / most), side: (i) => (gaps[i] > 0 ? " more" : gaps[i] < 0 ? " less" : ""), scale: `blue: likelier to the teacher, red: less likely; darkest ${short(most)} nats` };
  }
  return plain;
}

function classes(one, i, start, end) {
  const within = (span) => span && start < span[1] && end > span[0];
  return [within(one.quoted) && "quoted", within(one.true_error) && "true", one.located_at !== null && start <= one.located_at && end > one.located_at && "start"].filter(Boolean).join(" ");
}

function legend(one) {
  const marks = [one.quoted && el("span", {}, el("b", { class: "quoted" }, "quoted error")), one.true_error && el("span", {}, el("b", { class: "true" }, "true first error")), one.located_at !== null && el("span", {}, el("b", { class: "start" }, "weights begin"))];
  return marks.some(Boolean) ? el("p", { class: "quiet legend" }, marks) : null;
}

function badges(row, one) {
  const made = [el("span", { class: `badge ${one.success ? "good" : "bad"}` }, one.success ? "right" : "wrong")];
  if (one.localized) made.push(el("span", { class: `badge ${one.localized === "missing" ? "bad" : ""}` }, one.success ? "whole response" : `quote ${one.localized.replace("_", " ")}`));
  if (one.judged) made.push(el("span", { class: `badge ${one.judged.start === "missed" ? "bad" : "good"}` }, `oracle: ${one.judged.start.replace("_", " ")}`));
  if (one.status !== "ok") made.push(el("span", { class: "badge bad" }, `not trained on: ${(one.status ?? "?").replaceAll("_", " ")}`));
  return [...made, el("span", { class: "quiet" }, `step ${row.step}`)];
}

const section = (title, text) => (text ? [el("h3", {}, title), el("div", { class: "text-block" }, text)] : null);

function prompts(one) {
  if (!one.student_prompt && !one.teacher_prompts?.length) return [];
  const marked = (pieces) => pieces.map(([kind, text]) => (kind === "same" ? text : el(kind === "added" ? "ins" : "del", {}, text)));
  const teachers = one.teacher_prompts ?? [];
  const student = teachers.length && one.student_prompt ? differences(one.student_prompt, teachers[0])[0] : [["same", one.student_prompt ?? ""]];
  return [el("h3", {}, "Prompts"), el("div", { class: "prompts" },
    one.student_prompt ? el("div", {}, el("h4", {}, "student"), el("div", { class: "text-block" }, marked(student))) : null,
    teachers.map((text, i) => el("div", {}, el("h4", {}, teachers.length > 1 ? `teacher, view ${i + 1}` : "teacher"), el("div", { class: "text-block" }, one.student_prompt ? marked(differences(one.student_prompt, text)[1]) : text))))];
}

function facts(row, one) {
  const said = { "right answer": one.answer, answered: one.answered, score: one.score, feedback: one.feedback, quote: one.quote, reflection: one.reflection_status, localizer: one.localized, "quote right": one.judged?.quote, "idea right": one.judged?.idea, finish: one.finish_reason, tokens: row.tokens, suite: row.suite, sample: one.status };
  return el("dl", { class: "facts" }, Object.entries(said).filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

/** Give a select an entry for everything that there is, with its count, keeping the choice. */
function options(select, entries, all) {
  const before = select.value;
  select.replaceChildren(el("option", { value: "" }, `all (${grouped(all)})`), ...entries.filter(([value, , count]) => count || value === before).map(([value, name, count]) => el("option", { value }, `${name} (${grouped(count)})`)));
  select.value = [...select.options].some((option) => option.value === before) ? before : "";
}
