// The graph of the steps: from left to right, or from top to bottom where that has no room.

import { byId, count, el, rate, say, svg } from "./parts.js";
import { layout } from "./layout.js";

/** The ways to draw it; the first one that has room is taken, the last one in any case. */
const WAYS = [
  { wide: 176, high: 96, gap: 84, between: 34, slot: 28, margin: 26, down: false },
  { wide: 150, high: 96, gap: 76, between: 34, slot: 28, margin: 26, down: false },
  { wide: 210, high: 62, gap: 48, between: 26, slot: 64, margin: 14, down: true },
  { wide: 144, high: 62, gap: 48, between: 18, slot: 48, margin: 10, down: true },
];
/** Smaller than this nothing can be read. */
const SMALLEST = 0.78;
const LARGEST = 1.15;

/** What a step does for the pace, as everywhere else. */
export const word = (step) => step.standing.replace("_", " ");

let drawn = null;

const short = (words, most) => (words.length > most ? `${words.slice(0, most - 1)}…` : words);

/** Where the rate of a line stands and what it holds: above and below it, or to the right of one that goes down. */
function beside([x, y], down, below) {
  return down
    ? { x: x + 6, y: y - 2 + 13 * below, "text-anchor": "start" }
    : { x, y: y - 6 + 21 * below, "text-anchor": "middle" };
}

function box(step, { x, y }, { wide, high, down }) {
  const text = (dx, dy, kind, words = "", anchor = "start") => svg("text", { x: dx, y: dy, class: kind, "text-anchor": anchor }, words);
  const most = Math.floor((wide - 26) / 9);
  const parts = {
    rate: down ? text(wide - 12, 48, "rate", "", "end") : text(18, 64, "rate"),
    state: text(18, down ? 48 : 84, "standing"),
    queue: svg("rect", { class: "queue-level" }), hint: svg("title"),
  };
  const queue = step.kind === "producer" ? [] : [
    svg("rect", { x: -1, y: 8, width: 8, height: high - 16, rx: 2, class: "queue" }), parts.queue,
  ];
  const words = down
    ? [text(18, 25, "name", short(step.name, most))]
    : [text(18, 25, "name", short(step.name, most)), text(18, 43, "class", short(step.class, Math.floor(most * 1.25)))];
  // From top to bottom it would stand in the way of the lines.
  const tag = down ? [] : [text(wide / 2, -8, "tag", "▼ BOTTLENECK", "middle")];
  const node = svg("g", { transform: `translate(${x},${y})`, class: "box" },
    svg("rect", { width: wide, height: high, rx: 8, class: "frame" }), ...queue, ...words,
    parts.rate, parts.state, ...tag, parts.hint);
  return { node, parts };
}

/** The first way to draw the steps that has room on a page of this width. */
function fitting(steps, width) {
  for (const way of WAYS) {
    const found = layout(steps, way);
    if (found.size[0] * SMALLEST <= width || way === WAYS.at(-1)) return { way, ...found };
  }
  return null;
}

function build(view, width) {
  const { way, boxes: places, lines, size } = fitting(view.steps, width);
  const edges = new Map();
  const boxes = new Map();
  const drawing = svg("svg", {
    viewBox: `0 0 ${size[0]} ${size[1]}`, role: "img", "aria-label": "The graph of the steps; their numbers follow as a list",
  }, svg("defs", {}, svg("marker", {
    id: "head", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse",
  }, svg("path", { d: "M0,0L8,4L0,8Z", class: "head" }))));
  const labels = [];
  for (const step of view.steps) {
    for (const next of step.next_steps) {
      const key = `${step.name}\n${next.name}`;
      const { d, at } = lines.get(key);
      const line = svg("path", { d, class: next.feedback ? "edge feedback" : "edge", "marker-end": "url(#head)" });
      const dashes = svg("path", { d, class: "dashes" });
      const [label, held] = [0, 1].map((line) => svg("text", { ...beside(at, way.down, line), class: "edge-rate" }));
      drawing.append(line, dashes);
      labels.push(label, held);
      edges.set(key, { dashes, label, held });
    }
  }
  for (const step of view.steps) {
    const made = box(step, places.get(step.name), way);
    drawing.append(made.node);
    boxes.set(step.name, made);
  }
  drawing.append(...labels);
  drawing.style.width = `min(100%, ${size[0] * LARGEST}px)`;
  drawing.style.minWidth = `${size[0] * SMALLEST}px`;
  byId("graph").replaceChildren(el("div", { class: "scroll" }, drawing));
  return { edges, boxes, way, width, names: namesOf(view) };
}

const namesOf = (view) => view.steps.map((step) => step.name).join("\n");

function level(rect, step, high) {
  const messages = step.queue_limit ? step.queued / step.queue_limit : 0;
  const weight = step.queue_bytes ? step.queued_bytes / step.queue_bytes : 0;
  const full = Math.min(1, Math.max(messages, weight, step.queued && !step.queue_limit ? 0.1 : 0));
  const room = high - 16;
  const part = full * room;
  const values = { x: -1, y: 8 + room - part, width: 8, height: part };
  for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value);
  rect.setAttribute("class", full > 0.9 ? "queue-level full" : "queue-level");
}

/** Draws the view; `live` is false where the numbers are old. */
export function graph(view, live) {
  const width = byId("graph").clientWidth - 14;
  if (!drawn || drawn.width !== width || drawn.names !== namesOf(view)) drawn = build(view, width);
  for (const step of view.steps) {
    const { node, parts } = drawn.boxes.get(step.name);
    node.setAttribute("class", `box ${step.standing}${step.name === view.bottleneck && !view.paused ? " slowest" : ""}`);
    // Where there is little room, the lines have the rates.
    const slim = drawn.way === WAYS.at(-1);
    say(parts.rate, slim ? "" : rate(step.rate));
    say(parts.state, slim || step.kind === "producer" ? word(step) : `${word(step)} · ${step.busy}/${step.workers}`);
    say(parts.hint, `${step.name} (${step.class}): ${word(step)}, ${count(step.queued)} waiting, ${step.busy} of ${step.workers} workers busy`);
    if (step.kind !== "producer") level(parts.queue, step, drawn.way.high);
    for (const next of step.next_steps) {
      const { dashes, label, held } = drawn.edges.get(`${step.name}\n${next.name}`);
      const moves = live && next.rate > 0 && view.state !== "ended" && !view.paused;
      dashes.setAttribute("class", moves ? "dashes moving" : "dashes");
      say(label, next.sent > 0 ? rate(next.rate) : "");
      say(held, next.held > 0 ? `${count(next.held)} held` : "");
    }
  }
}
