// What the other parts of the page are made of: elements, numbers with units, plots.

const SVG = "http://www.w3.org/2000/svg";

// Marks of direction, and characters without a shape.
const UNSEEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** A text in which nothing is unseen or turns the words around it. */
const plain = (text) => text.replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, typeof value === "string" ? plain(value) : value);
  }
  // Text becomes a text node: what is in names and failures is never markup.
  node.append(...children.map((child) => (typeof child === "string" ? plain(child) : child)));
  return node;
}

export const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

/** Sets a text only where it differs, so that a selection and focus stay. */
export function say(node, words) {
  const text = plain(String(words));
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Children of `parent` for `items`, each made once and then updated. */
export function keyed(parent, items, key, make, update) {
  const known = parent.known ?? (parent.known = new Map());
  const wanted = new Set(items.map(key));
  for (const [name, node] of known) {
    if (!wanted.has(name)) {
      node.remove();
      known.delete(name);
    }
  }
  items.forEach((item, place) => {
    let node = known.get(key(item));
    if (!node) {
      node = make(item);
      known.set(key(item), node);
    }
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
    update?.(node, item);
  });
}

// Numbers -------------------------------------------------------------------

/** 1 234 567, with narrow spaces. */
export function count(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

function digits(value) {
  if (value === 0) return "0";
  if (value >= 100) return count(value);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function rate(value) {
  if (value > 0 && value < 0.995) {
    return value * 60 >= 0.995 ? `${digits(value * 60)}/min` : `${digits(value * 3600)}/h`;
  }
  return `${digits(value)}/s`;
}

/** A time as one measures it: 12.3 ms. */
export function time(seconds) {
  if (seconds === 0) return "–";
  if (seconds < 1e-3) return `${digits(seconds * 1e6)}\u00a0µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)}\u00a0ms`;
  return seconds < 100 ? `${digits(seconds)}\u00a0s` : span(seconds);
}

/** A time as one waits for it: 1 h 02 min. */
export function span(seconds) {
  const whole = Math.floor(seconds);
  const pad = (value) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${pad(Math.floor((whole % 86400) / 3600))} h`;
}

/** The instant of a text in RFC 3339. All times are in UTC, as in names of runs. */
export const instant = (text) => `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`;

/** The time of day of an instant, in milliseconds. */
export const clock = (milliseconds) => `${new Date(milliseconds).toISOString().slice(11, 19)} UTC`;

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value}\u00a0B` : `${digits(value)}\u00a0${units[unit]}`;
}

export const percent = (part) => `${Math.round(part * 100)}\u00a0%`;

/** "a", "a and b", "a, b and c". */
export function listed(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

// How the numbers went ------------------------------------------------------

const MOST_POINTS = 600;

/** Takes a view into the history, as the run itself does. */
export function remember(history, view) {
  const times = history.at_s;
  const last = times.length;
  if (last && view.elapsed_s <= times[last - 1]) return;
  const replaces = last > 1 && times[last - 1] - times[last - 2] < history.every_s * 0.9;
  if (replaces) times.pop();
  times.push(view.elapsed_s);
  view.steps.forEach((step, place) => {
    const known = (history.steps[place] ??= { name: step.name, done: [], queued: [] });
    const before = replaces ? (known.done.pop(), known.queued.pop()) : 0;
    known.done.push(step.progressed);
    known.queued.push(Math.max(step.queued, before ?? 0));
  });
  if (times.length > MOST_POINTS) {
    const odd = times.length % 2;
    const stays = (_, place) => (place + odd) % 2 === 1;
    history.at_s = times.filter(stays);
    for (const step of history.steps) {
      step.done = step.done.filter(stays);
      step.queued = step.queued.filter(stays);
    }
    history.every_s *= 2;
  }
}

/** Messages a second between the points. */
export function rates(history, place) {
  const { at_s: times } = history;
  const done = history.steps[place]?.done ?? [];
  // Over a second at least, because numbers in between come in bursts.
  return times.map((at, point) => {
    let from = point;
    while (from > 0 && at - times[from] < 1) from -= 1;
    const seconds = at - times[from];
    return seconds > 0 ? (done[point] - done[from]) / seconds : 0;
  });
}

const WIDE = 160;
const HIGH = 36;

/** An empty plot with its words. */
export function plot(words) {
  const label = el("span", { class: "label" }, words);
  const most = el("span", { class: "small" });
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", class: "plot",
  }, area, line);
  const node = el("div", { class: "plotted" }, label, drawing, most);
  node.parts = { area, line, drawing, most, words };
  return node;
}

export function draw(node, times, values, unit) {
  const { area, line, drawing, most, words } = node.parts;
  const top = values.reduce((a, b) => Math.max(a, b), 0);
  const end = times.at(-1) || 1;
  const start = times[0] ?? 0;
  const point = (value, place) => {
    const x = ((times[place] - start) / (end - start || 1)) * WIDE;
    return `${x.toFixed(1)},${(HIGH - 1 - (value / (top || 1)) * (HIGH - 3)).toFixed(1)}`;
  };
  const path = values.map(point).join("L");
  line.setAttribute("d", path ? `M${path}` : "");
  area.setAttribute("d", path ? `M0,${HIGH}L${path}L${WIDE},${HIGH}Z` : "");
  say(most, `max ${unit(top)}`);
  drawing.setAttribute("aria-label", `${words}: now ${unit(values.at(-1) ?? 0)}, at most ${unit(top)}`);
}

// On a narrow screen a row is a block, and each of its cells says what it is.
export function headed(row, table) {
  [...row.cells].forEach((cell, at) => { cell.dataset.label = table.tHead.rows[0].cells[at].textContent; });
  return row;
}
