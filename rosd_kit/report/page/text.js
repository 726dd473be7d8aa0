"use strict";
/* Creates elements and formats numbers. Text from a run only becomes text nodes: nothing here parses markup. */

const byId = (id) => document.getElementById(id);

/** Return a new element: attributes by name (`class`, `aria-...`, `onclick` as a function), children as nodes or text. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  fill(element, attributes, children);
  return element;
}

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  fill(element, attributes, children);
  return element;
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** Replace an element's children. Lists are flattened; null, undefined and false are skipped. */
function replaceChildren(parent, ...children) {
  parent.replaceChildren();
  fill(parent, {}, children);
}

/** Return a number with so many digits. Halves go to the even digit as in Python, so that page and terminal show the same. */
function fixed(value, digits) {
  const rounded = Math.abs(value).toFixed(digits), exact = Math.abs(value).toFixed(60);
  const isHalf = /^50*$/.test(exact.slice(exact.indexOf(".") + 1 + digits)), isOdd = /[13579]$/.test(rounded);
  const even = isHalf && isOdd ? (Number(rounded) - 10 ** -digits).toFixed(digits) : rounded;
  return (value < 0 ? "-" : "") + even;
}

const percent = (share, digits = 1) => (share === null || Number.isNaN(share) ? "–" : fixed(100 * share, digits));
const asPercent = (value) => percent(value, 0) + "%";
const signed = (share) => (share >= 0 ? "+" : "−") + fixed(Math.abs(100 * share), 1);

/** Return a number with 3 significant digits. */
function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
  return String(Number(size >= 1000 ? value.toFixed(0) : value.toPrecision(3)));
}

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const grouped = (count) => count.toLocaleString("en-US");

/** Compare two texts word by word. Returns, for each text, segments [kind, text] with kind `same`, `removed` or `added`. */
function differences(one, other) {
  const a = one.split(/(\s+)/).filter(Boolean), b = other.split(/(\s+)/).filter(Boolean);
  let head = 0, tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const middle = commonSubsequence(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  const wrap = (words, kept, kind) => mergeSegments([
    ...words.slice(0, head).map((word) => ["same", word]),
    ...words.slice(head, words.length - tail).map((word, i) => [kept.has(i) ? "same" : kind, word]),
    ...words.slice(words.length - tail).map((word) => ["same", word]),
  ]);
  return [wrap(a, middle[0], "removed"), wrap(b, middle[1], "added")];
}

/** Return the indices of a longest common subsequence in both lists; none if the lists are too long to compare. */
function commonSubsequence(a, b) {
  const kept = [new Set(), new Set()];
  if (!a.length || !b.length || a.length * b.length > 2e6) return kept;
  const width = b.length + 1, best = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) { kept[0].add(i++); kept[1].add(j++); }
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
    else j++;
  }
  return kept;
}

/** Merge adjacent segments of the same kind. */
function mergeSegments(segments) {
  const merged = [];
  for (const [kind, text] of segments) {
    if (merged.length && merged[merged.length - 1][0] === kind) merged[merged.length - 1][1] += text;
    else merged.push([kind, text]);
  }
  return merged;
}

/** Return a dotted name that may break after a dot or an underscore, so that a narrow column does not cut its words. */
const breakable = (name) => String(name).split(/(?<=[._])/).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));

/** Let the button switch between the system's theme, light and dark. */
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
