// The graph of the steps: layers from left to right, on narrow screens from top to bottom.

import { byId, count, el, rate, say, svg } from "./parts.js";

const BOX = { wide: 176, high: 96 };
const GAP = { along: 74, across: 26 };
const EDGE = 14;
const TAG = 26;

const WORDS = {
  starting: "starting", bottleneck: "limits the pace", held_back: "held back", waiting: "has time",
  working: "working", paused: "paused", finished: "finished",
};
/** What a step does for the pace; a producer that has time is one that waits for room. */
export function word(step) {
  if (step.kind === "producer" && step.standing === "waiting") return "waits for room";
  return WORDS[step.standing] ?? step.standing;
}

let drawn = null;

/** The layer of each step: one more than the highest of those that lead to it. */
function layers(steps) {
  const layer = new Map(steps.map((step) => [step.name, 0]));
  for (const step of steps) {
    for (const next of step.next_steps) {
      if (!next.feedback) {
        layer.set(next.name, Math.max(layer.get(next.name) ?? 0, layer.get(step.name) + 1));
      }
    }
  }
  return layer;
}

function places(steps, down) {
  const layer = layers(steps);
  const rows = [];
  for (const step of steps) (rows[layer.get(step.name)] ??= []).push(step.name);
  const [along, across] = down ? [BOX.high, BOX.wide] : [BOX.wide, BOX.high];
  const gap = GAP.across + (down ? 0 : TAG);
  const widest = Math.max(...rows.map((row) => row.length));
  const room = widest * across + (widest - 1) * gap;
  const found = new Map();
  rows.forEach((row, depth) => {
    const used = row.length * across + (row.length - 1) * gap;
    row.forEach((name, place) => {
      const a = depth * (along + GAP.along) + EDGE;
      const b = (room - used) / 2 + place * (across + gap) + EDGE;
      found.set(name, down ? { x: b, y: a + TAG } : { x: a, y: b + TAG });
    });
  });
  const length = rows.length * (along + GAP.along) - GAP.along + 2 * EDGE;
  const loops = steps.some((step) => step.next_steps.some((next) => next.feedback)) ? 56 : 0;
  const breadth = room + 2 * EDGE + loops;
  return { found, size: down ? [breadth, length + TAG] : [length, breadth + TAG] };
}

function path(from, to, feedback, down) {
  const { wide, high } = BOX;
  if (feedback) {
    // Around the boxes: below them, or beside them.
    if (down) {
      const [x, y, u, v] = [from.x + wide, from.y + high / 2, to.x + wide, to.y + high / 2];
      const out = Math.max(x, u) + 46;
      return { d: `M${x},${y}C${out},${y} ${out},${v} ${u + 4},${v}`, at: [out - 14, (y + v) / 2] };
    }
    const [x, y, u, v] = [from.x + wide / 2, from.y + high, to.x + wide / 2, to.y + high];
    const out = Math.max(y, v) + 46;
    return { d: `M${x},${y}C${x},${out} ${u},${out} ${u},${v + 4}`, at: [(x + u) / 2, out - 10] };
  }
  const [x, y, u, v] = down
    ? [from.x + wide / 2, from.y + high, to.x + wide / 2, to.y - 4]
    : [from.x + wide, from.y + high / 2, to.x - 4, to.y + high / 2];
  const half = down ? (y + v) / 2 : (x + u) / 2;
  const d = down
    ? `M${x},${y}C${x},${half} ${u},${half} ${u},${v}`
    : `M${x},${y}C${half},${y} ${half},${v} ${u},${v}`;
  return { d, at: [(x + u) / 2, (y + v) / 2] };
}

function box(step, { x, y }, down) {
  const { wide, high } = BOX;
  const text = (dx, dy, kind, words = "") => svg("text", { x: dx, y: dy, class: kind }, words);
  const short = (words, most) => (words.length > most ? `${words.slice(0, most - 1)}…` : words);
  const parts = {
    rate: text(18, 64, "rate"), state: text(18, 84, "standing"), tag: text(wide / 2, -8, "tag", "▼ BOTTLENECK"),
    queue: svg("rect", { class: "queue-level" }), hint: svg("title"),
  };
  const queue = step.kind === "producer" ? [] : [
    svg("rect", down
      ? { x: 8, y: -1, width: wide - 16, height: 8, rx: 2, class: "queue" }
      : { x: -1, y: 8, width: 8, height: high - 16, rx: 2, class: "queue" }),
    parts.queue,
  ];
  const node = svg("g", { transform: `translate(${x},${y})`, class: "box" },
    svg("rect", { width: wide, height: high, rx: 8, class: "frame" }), ...queue,
    text(18, 25, "name", short(step.name, 16)), text(18, 43, "class", short(step.class, 22)),
    parts.rate, parts.state, ...(down ? [] : [parts.tag]), parts.hint);
  parts.tag.setAttribute("text-anchor", "middle");
  return { node, parts };
}

function build(view, down) {
  const { found, size } = places(view.steps, down);
  const edges = new Map();
  const boxes = new Map();
  const drawing = svg("svg", {
    viewBox: `0 0 ${size[0]} ${size[1]}`, role: "img", "aria-label": "The graph of the steps; their numbers follow as a list",
  }, svg("defs", {}, svg("marker", {
    id: "head", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse",
  }, svg("path", { d: "M0,0L8,4L0,8Z", class: "head" }))));
  for (const step of view.steps) {
    for (const next of step.next_steps) {
      const { d, at } = path(found.get(step.name), found.get(next.name), next.feedback, down);
      const line = svg("path", { d, class: next.feedback ? "edge feedback" : "edge", "marker-end": "url(#head)" });
      const dashes = svg("path", { d, class: "dashes" });
      const label = svg("text", { x: at[0], y: at[1] - 6, class: "edge-rate", "text-anchor": "middle" });
      drawing.append(line, dashes, label);
      edges.set(`${step.name}\n${next.name}`, { dashes, label });
    }
  }
  for (const step of view.steps) {
    const made = box(step, found.get(step.name), down);
    drawing.append(made.node);
    boxes.set(step.name, made);
  }
  // Never larger than life, and never so small that nothing can be read.
  drawing.style.width = `min(100%, ${size[0] * 1.15}px)`;
  drawing.style.minWidth = `${size[0] * 0.62}px`;
  byId("graph").replaceChildren(el("div", { class: "scroll" }, drawing));
  return { edges, boxes, down, names: view.steps.map((step) => step.name).join("\n") };
}

function level(rect, step, down) {
  const messages = step.queue_limit ? step.queued / step.queue_limit : 0;
  const weight = step.queue_bytes ? step.queued_bytes / step.queue_bytes : 0;
  const full = Math.min(1, Math.max(messages, weight, step.queued && !step.queue_limit ? 0.1 : 0));
  const room = (down ? BOX.wide : BOX.high) - 16;
  const part = full * room;
  const values = down
    ? { x: 8, y: -1, width: part, height: 8 }
    : { x: -1, y: 8 + room - part, width: 8, height: part };
  for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value);
  rect.setAttribute("class", full > 0.9 ? "queue-level full" : "queue-level");
}

/** Draws the view; `live` is false where the numbers are old. */
export function graph(view, live) {
  const down = byId("graph").clientWidth < 700;
  const names = view.steps.map((step) => step.name).join("\n");
  if (!drawn || drawn.down !== down || drawn.names !== names) drawn = build(view, down);
  for (const step of view.steps) {
    const { node, parts } = drawn.boxes.get(step.name);
    node.setAttribute("class", `box ${step.standing}${step.name === view.bottleneck && !view.paused ? " slowest" : ""}`);
    say(parts.rate, rate(step.rate));
    // From top to bottom the tag would stand in the way of the edge.
    const words = drawn.down && step.standing === "bottleneck" ? "BOTTLENECK" : word(step);
    say(parts.state, step.kind === "producer" ? words : `${words} · ${step.busy}/${step.workers}`);
    say(parts.hint, `${step.name}: ${word(step)}, ${count(step.queued)} waiting, ${step.busy} of ${step.workers} workers busy`);
    if (step.kind !== "producer") level(parts.queue, step, down);
    for (const next of step.next_steps) {
      const { dashes, label } = drawn.edges.get(`${step.name}\n${next.name}`);
      const moves = live && next.rate > 0 && view.state !== "ended" && !view.paused;
      dashes.setAttribute("class", moves ? "dashes moving" : "dashes");
      say(label, next.sent > 0 ? rate(next.rate) : "");
    }
  }
}
