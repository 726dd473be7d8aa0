/* The first page: warnings, results, curves. */

const column = (metrics, name) => metrics.filter((m) => Number.isFinite(m[name])).map((m) => [m.step, m[name]]);
const asShare = (value) => percent(value, 0) + "%";

function drawOverview(run) {
  const { overview } = run;
  byId("warnings").replaceChildren(...overview.warnings.map((w) => el("p", { class: "warning" }, el("b", {}, w.step ? `Step ${w.step}: ` : "At the start: "), w.text)));
  byId("results").replaceChildren(...results(overview));
  const groups = [
    ["Learning curves", curves(overview), "mean@k with its 95 % interval over problems"],
    ["Training", training(overview), ""],
    ["Signs of collapse", collapse(overview), "dashed: where the run warns, for entropy and answers only while success has not risen"],
    ["Localizer and reflector against the oracle", oracle(overview), "over wrong rollouts whose first error is known"],
  ];
  byId("charts").replaceChildren(...groups.flatMap(([title, charts, note]) => {
    const drawn = charts.map(chart).filter(Boolean);
    return drawn.length ? [el("h2", {}, title, " ", el("span", { class: "quiet" }, note)), el("div", { class: "grid" }, drawn)] : [];
  }));
}

function results({ differences, evaluations }) {
  if (!differences.length) return evaluations.length ? [latest(evaluations[evaluations.length - 1])] : [el("p", { class: "quiet" }, "No evaluation yet.")];
  const side = (one) => [percent(one.mean), " ", el("small", {}, `${percent(one.low)} .. ${percent(one.high)}${one.worst_case ? " †" : ""}`)];
  const bounded = differences.some((d) => d.before.worst_case || d.after.worst_case || d.change.worst_case);
  const last = evaluations[evaluations.length - 1], errors = last.results.reduce((sum, r) => sum + (r.errors ?? 0), 0);
  const note = `mean@${last.results[0].samples} over ${last.results[0].problems} problems a suite, before and after ${last.step} steps, in %, with 95 % intervals; * leaves out zero.`
    + (bounded ? " † all scores are equal: the interval is a worst-case bound." : "") + (errors ? ` The verifier failed on ${errors} samples, which are left out.` : "");
  const rows = differences.map((d) => {
    const sure = d.change.low > 0 ? "up" : d.change.high < 0 ? "down" : "";
    return el("tr", { class: d.average && "mean" }, el("th", { scope: "row" }, d.name + (d.in_domain ? " (trained)" : "")), el("td", {}, side(d.before)), el("td", {}, side(d.after)),
      el("td", { class: sure }, signed(d.change.mean), sure ? " * " : " ", el("small", {}, `${signed(d.change.low)} .. ${signed(d.change.high)}`)));
  });
  return [el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Results" }, el("table", {}, el("caption", {}, note),
    el("thead", {}, el("tr", {}, ["suite", "before", "after", "difference"].map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows)))];
}

function latest({ step, results }) {
  const told = results.map((r) => `${r.suite} ${percent(r.mean)}% (${percent(r.low)} .. ${percent(r.high)})`);
  return el("p", {}, `After ${step} steps: ${told.join(", ")}`);
}

function curves({ evaluations }) {
  const suites = [...new Set(evaluations.flatMap((e) => e.results.map((r) => r.suite)))];
  const of = (suite) => evaluations.flatMap((e) => e.results.filter((r) => r.suite === suite).map((r) => [e.step, r]));
  return suites.map((suite) => {
    const found = of(suite), k = String(found[0][1].samples);
    const lines = [{ name: `mean@${k}`, points: found.map(([step, r]) => [step, r.mean, r.low, r.high]) }];
    const passes = found.filter(([, r]) => r.pass_at?.[k]).map(([step, r]) => [step, r.pass_at[k].mean]);
    const votes = found.filter(([, r]) => r.majority).map(([step, r]) => [step, r.majority.mean]);
    if (passes.length && k !== "1") lines.push({ name: `pass@${k}`, points: passes });
    if (votes.length && k !== "1") lines.push({ name: `majority@${k}`, points: votes });
    return { title: suite, note: found[0][1].in_domain ? "trained" : "", lines, range: [0, 1], form: asShare };
  });
}

function training({ metrics }) {
  const one = (title, name, more = {}) => ({ title, lines: [{ name: title, points: column(metrics, name) }], ...more });
  const gates = ["mixed", "all_right", "all_wrong"].map((kind) => ({ name: kind.replace("_", " "), points: metrics.map((m) => [m.step, m[`gate/${kind}`] ?? 0]) })).filter((line) => line.points.some((p) => p[1]));
  return [
    one("Success of rollouts", "rollout/success", { range: [0, 1], form: asShare }),
    one("Loss", "train/loss", { note: "nats a token" }),
    one("Gradient norm", "train/grad_norm"),
    one("Teacher's gain", "train/teacher_gain", { note: "log p, teacher − student" }),
    one("Samples trained on", "train/samples"),
    { title: "Groups", lines: gates },
    one("Weight change", "train/weight_change"),
    one("Seconds a step", "time/step"),
  ];
}

function collapse({ metrics, watch, evaluations }) {
  const first = (name) => metrics.find((m) => Number.isFinite(m[name]))?.[name] ?? null;
  const share = (name, part) => (first(name) === null || part === null ? null : first(name) * part);
  const leaks = watch.leaks === null || first("leak/reference") === null ? null : first("leak/reference") + watch.leaks;
  const long = share("rollout/length", watch.length), most = Math.max(...column(metrics, "rollout/length").map((p) => p[1]), 0);
  const mean = (step) => (found) => [step, found.reduce((a, b) => a + b, 0) / found.length];
  const outside = evaluations.map((e) => [e.step, e.results.filter((r) => !r.in_domain).map((r) => r.mean)]).filter(([, found]) => found.length).map(([step, found]) => mean(step)(found));
  const inside = evaluations.map((e) => [e.step, e.results.filter((r) => r.in_domain).map((r) => r.mean)]).filter(([, found]) => found.length).map(([step, found]) => mean(step)(found));
  const drop = outside.length && watch.out_of_domain !== null ? outside[0][1] - watch.out_of_domain : null;
  const one = (title, name, more = {}) => ({ title, lines: [{ name: title, points: column(metrics, name) }], ...more });
  return [
    one("Response length", "rollout/length", { note: "tokens", limit: long !== null && long < 2 * most ? long : null }),
    { title: "Entropy", note: "nats a token", lines: [{ name: "rollouts", points: column(metrics, "rollout/entropy") }, { name: "weighted tokens", points: column(metrics, "train/entropy") }].filter((l) => l.points.length), limit: share("rollout/entropy", watch.entropy) },
    { title: "Distinct answers", note: "an answer", lines: [{ name: "all", points: column(metrics, "diversity/answers") }, { name: "wrong ones", points: column(metrics, "diversity/wrong_answers") }].filter((l) => l.points.length), range: [0, 1], limit: share("diversity/wrong_answers", watch.variety) },
    one("Distinct-2", "diversity/bigrams", { note: "token pairs in a group" }),
    { title: "Coverage", note: "pass@k and mean of groups", lines: [{ name: "pass@k", points: column(metrics, "diversity/pass_at_k") }, { name: "pass@k − mean", points: column(metrics, "diversity/gap") }].filter((l) => l.points.length), range: [0, 1], form: asShare },
    one("Speaks of a reference", "leak/reference", { note: "share of rollouts", form: (v) => percent(v, 1) + "%", limit: leaks }),
    { title: "In and out of domain", note: "mean@k of suites", lines: [{ name: "trained", points: inside }, { name: "others", points: outside }].filter((l) => l.points.length), range: [0, 1], form: asShare, limit: drop },
  ].filter((c) => c.lines.length);
}

function oracle({ metrics }) {
  const kinds = [["at the error", "exact_start", 2], ["within a sentence", "within_step", 4], ["missed", "missed", 1]];
  const sum = (m) => kinds.reduce((total, [, kind]) => total + (m[`oracle/${kind}`] ?? 0), 0);
  const known = metrics.filter((m) => sum(m) > 0), total = known.reduce((all, m) => all + sum(m), 0);
  const rate = (part) => metrics.filter((m) => m[`oracle/${part}_asked`] > 0).map((m) => [m.step, (m[`oracle/${part}_right`] ?? 0) / m[`oracle/${part}_asked`]]);
  const whole = (part) => { const [a, b] = ["right", "asked"].map((w) => metrics.reduce((s, m) => s + (m[`oracle/${part}_${w}`] ?? 0), 0)); return b ? `${percent(a / b, 0)}% of ${grouped(b)}` : ""; };
  const outcomes = [...new Set(metrics.flatMap((m) => Object.keys(m).filter((n) => n.startsWith("localize/") && n !== "localize/right")))].sort();
  return [
    { title: "Where the weights begin", note: total ? `${grouped(total)} rollouts` : "", stacked: true, range: [0, 1], form: asShare, lines: total ? kinds.map(([name, kind, colour]) => ({ name, colour, points: known.map((m) => [m.step, (m[`oracle/${kind}`] ?? 0) / sum(m)]) })) : [] },
    { title: "Reflector quotes the first error", note: whole("quote"), range: [0, 1], form: asShare, lines: [{ name: "right quotes", points: rate("quote") }] },
    { title: "Idea begins with the right claim", note: whole("idea"), range: [0, 1], form: asShare, lines: [{ name: "right ideas", points: rate("idea") }] },
    { title: "How quotes were found", note: "wrong rollouts", lines: outcomes.map((name) => ({ name: name.slice(9).replace("_", " "), points: metrics.map((m) => [m.step, m[name] ?? 0]) })) },
  ];
}
