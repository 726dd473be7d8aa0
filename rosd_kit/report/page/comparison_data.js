/* The data behind the comparison: series of metrics and evaluations, smoothed, over the seeds of a group. */

const HELD_OUT = "held-out/";

/** Return the names of everything that can be drawn: held-out scores first, then the metrics of the steps. */
function seriesNames(runs) {
  const suites = new Set(runs.flatMap((run) => run.evaluations.flatMap((e) => e.results.map((r) => HELD_OUT + r.suite))));
  const metrics = new Set(runs.flatMap((run) => Object.keys(run.metrics).filter((name) => run.metrics[name].some(Number.isFinite))));
  return [...suites, ...[...metrics].sort()];
}

/** Return a run's points [step, value, low, high] of a metric or a suite. */
function series(run, name) {
  if (name.startsWith(HELD_OUT)) return run.evaluations.flatMap((e) =>
    e.results.filter((r) => HELD_OUT + r.suite === name).map((r) => [e.step, r.mean, r.low, r.high]));
  return (run.metrics[name] ?? []).map((value, i) => [run.at[i], value]).filter((p) => Number.isFinite(p[1]));
}

/** Return the mean of each value and those of the steps before it, `count` at most. */
function smoothed(points, count) {
  if (count < 2) return points;
  let sum = 0;
  return points.map(([step, value], i) => {
    sum += value - (i >= count ? points[i - count][1] : 0);
    return [step, sum / Math.min(i + 1, count)];
  });
}

/** Return the mean over several curves at the steps that all have, with their smallest and largest value. */
function meanOf(curves) {
  if (curves.length === 1) return curves[0];
  const others = curves.slice(1).map((points) => new Map(points.map((p) => [p[0], p[1]])));
  return curves[0].filter(([step]) => others.every((values) => values.has(step))).map(([step, value]) => {
    const values = [value, ...others.map((one) => one.get(step))];
    return [step, values.reduce((a, b) => a + b, 0) / values.length, Math.min(...values), Math.max(...values)];
  });
}

/** Return the lines of a chart: one per group, or with `seeds` one per run. Smoothing leaves evaluations as they are. */
function linesOf(data, name, { shown, smooth, seeds }) {
  const count = name.startsWith(HELD_OUT) ? 1 : smooth;
  return data.groups.flatMap((label, group) => {
    if (!shown.has(group)) return [];
    const runs = data.runs.filter((run) => run.group === group && series(run, name).length);
    const curves = runs.map((run) => smoothed(series(run, name), count));
    if (!curves.length) return [];
    const style = { colour: group % 6, dash: Math.floor(group / 6) % 3 };
    return seeds ? curves.map((points, i) => ({ name: runs[i].name, points, ...style })) : [{ name: label, points: meanOf(curves), ...style }];
  });
}

/** Whether a line lies on another one everywhere, within a hundredth of the chart's height, so that it cannot be seen. */
function isHidden(lines) {
  const values = lines.flatMap((line) => line.points.map((p) => p[1])), height = Math.max(...values) - Math.min(...values);
  const near = (a, b) => {
    const other = new Map(b.points.map((p) => [p[0], p[1]])), common = a.points.filter((p) => other.has(p[0]));
    return common.length > 1 && common.every((p) => Math.abs(p[1] - other.get(p[0])) <= 0.01 * height);
  };
  return lines.some((a, i) => lines.some((b, j) => i < j && near(a, b)));
}
