/* The overview tab: warnings, results, charts. */

const column = (metrics, name) => metrics.filter((m) => Number.isFinite(m[name])).map((m) => [m.step, m[name]]);

function drawOverview(run) {
  const { overview } = run;
  byId("warnings").replaceChildren(...overview.warnings.map((w) => el("p", { class: "warning" }, el("b", {}, w.step ? `Step ${w.step}: ` : "At the start: "), w.text)));
  byId("results").replaceChildren(...results(overview));
  const groups = [
    ["Learning curves", curves(overview), "mean@k with its 95 % interval over problems"],
    ["Training", training(overview), ""],
    ["Collapse indicators", collapse(overview), "dashed: warning threshold (for entropy and answers, only while success has not risen)"],
    ["Localizer and reflector against the oracle", oracle(overview), "wrong rollouts whose first error is known"],
  ];
  byId("charts").replaceChildren(...groups.flatMap(([title, charts, note]) => {
    const drawn = charts.map(chart).filter(Boolean);
    return drawn.length ? [el("h2", {}, title, " ", el("span", { class: "quiet" }, note)), el("div", { class: "grid" }, drawn)] : [];
  }));
}

function results({ differences, evaluations, note }) {
  if (!differences.length) return evaluations.length ? [latest(evaluations[evaluations.length - 1])] : [el("p", { class: "quiet" }, "No evaluation yet.")];
  const cell = (interval) => [percent(interval.mean), " ", el("small", {}, `${percent(interval.low)} .. ${percent(interval.high)}${interval.worst_case ? " †" : ""}`)];
  const caption = `before and after ${counted(evaluations[evaluations.length - 1].step, "step")}: ${note}`;
  const rows = differences.map((d) => {
    const direction = d.change.low > 0 ? "up" : d.change.high < 0 ? "down" : "";
    return el("tr", { class: d.average && "mean" }, el("th", { scope: "row" }, d.name + (d.in_domain ? " (trained)" : "")), el("td", {}, cell(d.before)), el("td", {}, cell(d.after)),
      el("td", { class: direction }, signed(d.change.mean), direction ? " * " : " ", el("small", {}, `${signed(d.change.low)} .. ${signed(d.change.high)}${d.change.worst_case ? " †" : ""}`)));
  });
  return [el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Results" }, el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ["suite", "before", "after", "difference"].map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, rows)))];
}

function latest({ step, results }) {
  const means = results.map((r) => `${r.suite} ${percent(r.mean)}% (${percent(r.low)} .. ${percent(r.high)})`);
  return el("p", {}, `After ${counted(step, "step")}: ${means.join(", ")}`);
}

function curves({ evaluations }) {
  const suites = [...new Set(evaluations.flatMap((e) => e.results.map((r) => r.suite)))];
  const resultsOf = (suite) => evaluations.flatMap((e) => e.results.filter((r) => r.suite === suite).map((r) => [e.step, r]));
  return suites.map((suite) => {
    const evaluated = resultsOf(suite), k = String(evaluated[0][1].samples);
    const lines = [{ name: `mean@${k}`, points: evaluated.map(([step, r]) => [step, r.mean, r.low, r.high]) }];
    const passAtK = evaluated.filter(([, r]) => r.pass_at?.[k]).map(([step, r]) => [step, r.pass_at[k].mean]);
    const majority = evaluated.filter(([, r]) => r.majority).map(([step, r]) => [step, r.majority.mean]);
    if (passAtK.length && k !== "1") lines.push({ name: `pass@${k}`, points: passAtK });
    if (majority.length && k !== "1") lines.push({ name: `majority@${k}`, points: majority });
    return { title: suite, note: evaluated[0][1].in_domain ? "trained" : "", lines, range: [0, 1], format: asPercent };
  });
}

function training({ metrics, watch }) {
  const single = (title, name, more = {}) => ({ title, lines: [{ name: title, points: column(metrics, name) }], ...more });
  const gates = ["mixed", "all_right", "all_wrong", "equal_rewards"].map((kind) => ({ name: kind.replace("_", " "), points: metrics.map((m) => [m.step, m[`gate/${kind}`] ?? 0]) })).filter((line) => line.points.some((p) => p[1]));
  return [
    single("Rollout success", "rollout/success", { range: [0, 1], format: asPercent }),
    single("Loss", "train/loss", { note: "nats per token" }),
    single("Gradient norm", "train/grad_norm"),
    single("Teacher gain", "train/teacher_gain", { note: "log p, teacher − student" }),
    single("Training samples", "train/samples", { note: "per step" }),
    { title: "Groups", lines: gates },
    { title: "Truncated", note: "share of rollouts cut off at the length limit", lines: [{ name: "truncated", points: metrics.filter((m) => m["rollout/count"] > 0).map((m) => [m.step, (m["rollout/truncated"] ?? 0) / m["rollout/count"]]) }], range: [0, 1], format: asPercent, limit: watch.truncated ?? null },
    single("Weight change", "train/weight_change"),
    single("Step time", "time/step", { note: "seconds" }),
  ];
}

function collapse({ metrics, watch, evaluations }) {
  const first = (name) => metrics.find((m) => Number.isFinite(m[name]))?.[name] ?? null;
  const scaled = (name, factor) => (first(name) === null || factor === null ? null : first(name) * factor);
  const leaks = watch.leaks === null || first("leak/reference") === null ? null : first("leak/reference") + watch.leaks;
  const maxLength = scaled("rollout/length", watch.length), longest = Math.max(...column(metrics, "rollout/length").map((p) => p[1]), 0);
  const domainMeans = (inDomain) => evaluations.map((e) => [e.step, e.results.filter((r) => r.in_domain === inDomain).map((r) => r.mean)])
    .filter(([, means]) => means.length).map(([step, means]) => [step, means.reduce((a, b) => a + b, 0) / means.length]);
  const outside = domainMeans(false), inside = domainMeans(true);
  const minOutside = outside.length && watch.out_of_domain !== null ? outside[0][1] - watch.out_of_domain : null;
  const single = (title, name, more = {}) => ({ title, lines: [{ name: title, points: column(metrics, name) }], ...more });
  return [
    single("Response length", "rollout/length", { note: "tokens", limit: maxLength !== null && maxLength < 2 * longest ? maxLength : null }),
    { title: "Entropy", note: "nats per token", lines: [{ name: "rollouts", points: column(metrics, "rollout/entropy") }, { name: "weighted tokens", points: column(metrics, "train/entropy") }].filter((l) => l.points.length), limit: scaled("rollout/entropy", watch.entropy) },
    { title: "Distinct answers", note: "per answer", lines: [{ name: "all", points: column(metrics, "diversity/answers") }, { name: "wrong only", points: column(metrics, "diversity/wrong_answers") }].filter((l) => l.points.length), range: [0, 1], limit: scaled("diversity/wrong_answers", watch.variety) },
    single("Distinct-2", "diversity/bigrams", { note: "token pairs in a group" }),
    { title: "Coverage", note: "pass@k and mean over groups", lines: [{ name: "pass@k", points: column(metrics, "diversity/pass_at_k") }, { name: "pass@k − mean", points: column(metrics, "diversity/gap") }].filter((l) => l.points.length), range: [0, 1], format: asPercent },
    single("Mentions a reference", "leak/reference", { note: "share of rollouts", format: (v) => percent(v, 1) + "%", limit: leaks }),
    { title: "In and out of domain", note: "mean@k over suites", lines: [{ name: "trained", points: inside }, { name: "others", points: outside }].filter((l) => l.points.length), range: [0, 1], format: asPercent, limit: minOutside },
  ].filter((c) => c.lines.length);
}

function oracle({ metrics }) {
  const outcomes = [["at the error", "exact_start", 2], ["in its sentence", "within_step", 4], ["missed", "missed", 1]];
  const sum = (m) => outcomes.reduce((total, [, outcome]) => total + (m[`oracle/${outcome}`] ?? 0), 0);
  const known = metrics.filter((m) => sum(m) > 0), total = known.reduce((all, m) => all + sum(m), 0);
  const rate = (kind) => metrics.filter((m) => m[`oracle/${kind}_asked`] > 0).map((m) => [m.step, (m[`oracle/${kind}_right`] ?? 0) / m[`oracle/${kind}_asked`]]);
  const overall = (kind) => { const [a, b] = ["right", "asked"].map((w) => metrics.reduce((s, m) => s + (m[`oracle/${kind}_${w}`] ?? 0), 0)); return b ? `${percent(a / b, 0)}% of ${grouped(b)}` : ""; };
  const matches = [...new Set(metrics.flatMap((m) => Object.keys(m).filter((n) => n.startsWith("localize/") && n !== "localize/right")))].sort();
  return [
    { title: "Where the token weights start", note: total ? `${grouped(total)} rollouts` : "", stacked: true, range: [0, 1], format: asPercent, lines: total ? outcomes.map(([name, outcome, colour]) => ({ name, colour, points: known.map((m) => [m.step, (m[`oracle/${outcome}`] ?? 0) / sum(m)]) })) : [] },
    { title: "Reflector quotes the first error", note: overall("quote"), range: [0, 1], format: asPercent, lines: [{ name: "correct quotes", points: rate("quote") }] },
    { title: "Idea starts with the correct claim", note: overall("idea"), range: [0, 1], format: asPercent, lines: [{ name: "correct ideas", points: rate("idea") }] },
    { title: "How quotes were matched", note: "wrong rollouts", lines: matches.map((name) => ({ name: name.slice(9).replace("_", " "), points: metrics.map((m) => [m.step, m[name] ?? 0]) })) },
  ];
}
