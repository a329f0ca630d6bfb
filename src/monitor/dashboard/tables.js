// The steps, their workers, failures, pictures and lines of the log.

import { byId, bytes, count, draw, el, headed, keyed, percent, plot, rate, rates, say, show, span, time } from "./parts.js";
import { word } from "./graph.js";

const MOST_FAILURES = 20;
const MOST_WORKERS = 200;
/** Where cards are folded, so that a page of many steps is not endless. */
const NARROW = "(max-width: 700px)";

// Steps ---------------------------------------------------------------------

function card(step, post) {
  const value = (name) => el("b", { "data-field": name });
  const fact = (label, name) => el("div", {}, el("span", { class: "label" }, label), parts[name]);
  const parts = {};
  for (const name of ["rate", "done", "failed", "retried", "deferred", "dropped", "median", "mean", "p99", "busy", "workers", "queued", "queued_bytes", "held", "utilisation", "results"]) {
    parts[name] = value(name);
  }
  parts.badge = el("span", { class: "badge", "data-field": "standing" });
  parts.meter = el("meter", { min: 0, max: 1, "aria-label": `Queue of ${step.name}` });
  parts.speed = plot("Throughput");
  parts.queue = plot("Queue");
  const set = (change) => post("workers", { step: step.name, workers: parts.now + change });
  const button = (name, words, label, act) =>
    (parts[name] = el("button", { type: "button", "data-action": name, "aria-label": label, onclick: act }, words));
  const head = el("div", { class: "title" }, el("h3", {}, step.name), el("span", { class: "small" }, step.class), parts.badge);
  const isProducer = step.kind === "producer";
  const queue = isProducer ? [] : [
    el("div", { class: "wide" }, el("span", { class: "label" }, "Queue"), " ", parts.queued, el("span", { class: "small" }, " · ", parts.queued_bytes)), parts.meter,
  ];
  const staff = el("div", { class: "staff wide", role: "group", "aria-label": `Workers of ${step.name}` },
    el("span", { class: "label" }, "Workers"), " ",
    ...(isProducer ? [] : [button("fewer", "−", `One worker fewer for ${step.name}`, () => set(-1)), " "]), parts.workers,
    ...(isProducer ? [] : [" ", button("more", "+", `One worker more for ${step.name}`, () => set(1))]),
    el("span", { class: "small" }, " · ", parts.busy, " · ", parts.utilisation),
    button("pause", "Pause", `Pause ${step.name}`, () => post(parts.paused ? "resume" : "pause", { step: step.name })));
  const node = el("article", { class: "card", "data-step": step.name, "aria-label": `Step ${step.name}` }, head, ...queue, staff,
    el("div", { class: "facts" }, fact("Rate", "rate"), fact(isProducer ? "Emitted" : "Done", "done"),
      fact("Failed", "failed"), fact("Held", "held")),
    el("details", { class: "wide", ...(matchMedia(NARROW).matches ? {} : { open: "" }) }, el("summary", { class: "small" }, "More"),
      el("div", { class: "facts" }, fact("Dropped", "dropped"), fact("Retries", "retried"), fact("Deferred", "deferred"),
        (parts.handed = fact("Results", "results")),
        fact("Median", "median"), fact("Mean", "mean"), fact("99 %", "p99")),
      el("div", { class: "plots" }, parts.speed, ...(isProducer ? [] : [parts.queue]))));
  node.parts = parts;
  return node;
}

function fillQueue(parts, step) {
  const most = step.queue_limit === null ? "" : ` of ${count(step.queue_limit)}`;
  say(parts.queued, `${count(step.queued)}${most}`);
  parts.queued.dataset.value = step.queued;
  const mostBytes = step.queue_bytes === null ? "" : ` of ${bytes(step.queue_bytes)}`;
  const age = step.oldest_normal_s >= 1 ? ` · oldest ${span(step.oldest_normal_s)}` : "";
  say(parts.queued_bytes, bytes(step.queued_bytes) + mostBytes + age);
  const full = Math.max(step.queue_limit ? step.queued / step.queue_limit : 0, step.queue_bytes ? step.queued_bytes / step.queue_bytes : 0);
  parts.meter.value = Math.min(1, full);
  parts.meter.textContent = percent(full);
  parts.meter.classList.toggle("full", full > 0.9);
}

function fillCard(node, step, place, view, history, may) {
  const { parts } = node;
  const over = view.state === "ended";
  const numbers = {
    rate: [step.rate, rate(step.rate)], done: [step.progressed, count(step.progressed)], failed: [step.failed, count(step.failed)],
    dropped: [step.dropped, count(step.dropped)], retried: [step.retried, count(step.retried)], deferred: [step.deferred, count(step.deferred)],
    median: [step.median_s, time(step.median_s)], mean: [step.mean_s, time(step.mean_s)], p99: [step.p99_s, time(step.p99_s)],
    workers: [step.workers, count(step.workers)], busy: [step.busy, `${count(step.busy)} busy`],
    utilisation: [step.utilisation, percent(step.utilisation)],
    results: [step.results ?? 0, count(step.results ?? 0)],
    held: [step.held, step.held ? `${count(step.held)} · ${bytes(step.held_bytes)}` : "0"],
  };
  for (const [name, [value, words]] of Object.entries(numbers)) {
    say(parts[name], words);
    parts[name].dataset.value = value;
  }
  parts.failed.classList.toggle("alarm", step.failed > 0);
  show(parts.handed, (step.results ?? 0) > 0);
  if (step.kind !== "producer") fillQueue(parts, step);
  const slowest = step.name === view.bottleneck && !view.paused;
  say(parts.badge, over && slowest ? "bottleneck" : word(step));
  parts.badge.className = `badge ${step.standing}`;
  parts.badge.dataset.value = step.standing;
  node.classList.toggle("slowest", slowest);
  parts.now = step.workers;
  parts.paused = step.paused;
  const fixed = !may || step.standing === "finished";
  say(parts.pause, step.paused ? "Resume" : "Pause");
  parts.pause.setAttribute("aria-label", `${step.paused ? "Resume" : "Pause"} ${step.name}`);
  parts.pause.disabled = fixed || view.paused || view.state === "draining";
  if (parts.fewer) {
    parts.fewer.disabled = fixed || step.workers <= 1;
    parts.more.disabled = fixed;
  }
  if (history?.steps[place]) {
    draw(parts.speed, history.at_s, rates(history, place), rate);
    draw(parts.queue, history.at_s, history.steps[place].queued, count);
  }
}

export function steps(view, history, may, post) {
  const place = new Map(view.steps.map((step, index) => [step.name, index]));
  keyed(byId("steps"), view.steps, (step) => step.name, (step) => card(step, post),
    (node, step) => fillCard(node, step, place.get(step.name), view, history, may));
}

// Workers -------------------------------------------------------------------

export function workers(view, may, cancel) {
  const all = view.steps.flatMap((step) => step.each_worker.map((worker) => ({ step: step.name, ...worker })));
  const make = (worker) => {
    const cell = (name, kind = "") => el("td", { class: kind, "data-field": name });
    const node = el("tr", {}, el("th", { scope: "row" }, worker.step), el("td", { class: "num" }, String(worker.worker)),
      cell("state"), cell("input", "path"), cell("since", "num"), cell("in_hand", "num"), cell("steer"));
    node.parts = Object.fromEntries([...node.querySelectorAll("[data-field]")].map((cell) => [cell.dataset.field, cell]));
    node.parts.cancel = el("button", { type: "button", "data-action": "cancel", onclick: () => cancel(node.parts.origin) }, "Cancel");
    node.parts.steer.append(node.parts.cancel);
    return headed(node, byId("workers"));
  };
  keyed(byId("workers").tBodies[0], all.slice(0, MOST_WORKERS), (worker) => `${worker.step}\n${worker.worker}`, make, ({ parts }, worker) => {
    say(parts.state, worker.state === "held" ? "held back" : worker.state);
    parts.state.className = `is-${worker.state}`;
    const number = worker.message === null ? "–" : `message ${count(worker.message)}`;
    say(parts.input, worker.origin ?? number);
    say(parts.since, worker.for_s < 1 ? "< 1 s" : span(worker.for_s));
    say(parts.in_hand, count(worker.in_hand));
    parts.origin = worker.origin;
    parts.cancel.setAttribute("aria-label", `Cancel ${worker.origin ?? ""}`);
    parts.cancel.disabled = !may;
    parts.cancel.hidden = worker.origin === null;
  });
  const more = all.length - MOST_WORKERS;
  say(byId("more-workers"), view.state === "ended" ? "The run is over: its workers have ended." : `and ${count(Math.max(0, more))} more`);
  show(byId("more-workers"), more > 0 || view.state === "ended");
}

// Actions -------------------------------------------------------------------

export function actions(view) {
  const all = view.steps.flatMap((step) => (step.actions ?? []).map((action) => ({ step: step.name, ...action })));
  const numbers = ["done", "skipped", "failed", "deferred"];
  const make = (action) => {
    const cell = (name) => el("td", { class: "num", "data-field": name });
    const node = el("tr", {}, el("th", { scope: "row" }, action.name), el("td", {}, action.step), ...numbers.map(cell), cell("time"));
    node.parts = Object.fromEntries([...node.querySelectorAll("[data-field]")].map((cell) => [cell.dataset.field, cell]));
    return headed(node, byId("actions"));
  };
  keyed(byId("actions").tBodies[0], all, (action) => `${action.step}\n${action.name}`, make, ({ parts }, action) => {
    for (const name of numbers) say(parts[name], count(action[name]));
    parts.failed.classList.toggle("alarm", action.failed > 0);
    say(parts.time, time(action.busy_s));
  });
  show(byId("actions-part"), all.length > 0);
}

// Failures ------------------------------------------------------------------

export function failures(view, base, may, post) {
  const latest = [...view.failures].reverse().slice(0, MOST_FAILURES);
  const make = (failure) => {
    const again = el("button", { type: "button", "data-action": "retry", onclick: () => post("retry", { entry: failure.entry }) }, "Try again");
    const links = failure.entry === null ? [] : [
      el("a", { href: `${base}api/quarantine/${encodeURIComponent(failure.entry)}`, target: "_blank", rel: "noopener" }, failure.entry), " ", again,
    ];
    const cause = failure.cause === "failed" ? "" : ` (${failure.cause})`;
    const node = el("li", { "data-entry": failure.entry }, el("span", { class: "small num" }, span(failure.at_s)), " ", el("b", {}, failure.step), " ",
      el("span", { class: "path" }, failure.origin ?? ""), el("span", { class: "small" }, ` attempt ${failure.attempt}${cause}, ${failure.policy}`),
      el("div", { class: "reason" }, failure.reason.join(": ")), ...links);
    node.again = again;
    return node;
  };
  keyed(byId("failures"), latest, (failure) => failure.number, make, (node, failure) => {
    say(node.again, failure.requeued ? "Being tried again" : "Try again");
    node.again.disabled = !may || failure.requeued;
  });
  say(byId("failures-count"), view.failure_count ? count(view.failure_count) : "");
  show(byId("no-failures"), view.failure_count === 0);
  const more = view.failure_count - latest.length;
  say(byId("more-failures"), `and ${count(more)} earlier ones`);
  show(byId("more-failures"), more > 0);
}

// Pictures and log ----------------------------------------------------------

const isPicture = (path) => /\.(png|jpe?g)$/i.test(path);

export function pictures(view, base) {
  const latest = [...view.products].reverse().filter((product) => isPicture(product.path)).slice(0, 12);
  const make = (product) => {
    const name = product.path.split("/").at(-1);
    const from = product.origin ? `from ${product.origin.split("/").at(-1)}` : `by ${product.step}`;
    const image = el("img", { src: `${base}api/pictures/${product.number}`, alt: `${name}, ${from}`, loading: "lazy" });
    const node = el("li", { title: product.path }, el("figure", {}, image, el("figcaption", {}, el("b", {}, name), el("span", { class: "small" }, from))));
    image.addEventListener("error", () => image.replaceWith(el("span", { class: "note" }, "no picture")));
    return node;
  };
  keyed(byId("pictures"), latest, (product) => product.number, make);
  show(byId("pictures-part"), latest.length > 0);
}

export function log(view) {
  const make = (line) => el("li", { class: `level-${line.level}` }, el("span", { class: "small num" }, span(line.at_s)), " ",
    el("span", { class: "level" }, line.level), " ", el("b", {}, line.step ?? ""), " ", el("span", { class: "reason" }, line.text));
  keyed(byId("log"), [...view.lines].reverse(), (line) => line.number, make);
  show(byId("no-log"), view.lines.length === 0);
  show(byId("log"), view.lines.length > 0);
}
