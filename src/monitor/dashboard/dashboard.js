// The page: connects, shows what comes, and passes on what its reader wants.

import { byId, clock, count, el, headed, instant, keyed, percent, remember, say, show, span } from "./parts.js";
import { graph } from "./graph.js";
import { actions, failures, log, pictures, steps, workers } from "./tables.js";

const ENDS = {
  done: "ended: all inputs were processed", some_failed: "ended: some inputs failed", stopped: "ended: it was stopped",
  interrupted: "ended early", lost: "lost: the program has gone",
};
/** A run sends its numbers a few times a second; a silence of this length means trouble. */
const SILENCE = 5000;

let base = "";
let view = null;
let history = null;
let maySteer = false;
let live = false;
let heard = 0;
let source = null;
let wait = 1000;
let announced = {};
let pending = false;

const token = () => sessionStorage.getItem("drpipe-token");
const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});
const field = (name) => document.querySelector(`header [data-field="${name}"], footer [data-field="${name}"]`);

// Connection ----------------------------------------------------------------

function connect() {
  source?.close();
  source = new EventSource(`${base}api/stream`);
  source.addEventListener("snapshot", (event) => {
    const snapshot = JSON.parse(event.data);
    history = snapshot.history;
    take(snapshot.view);
    wait = 1000;
    unlock(snapshot.may_steer);
  });
  source.addEventListener("history", (event) => {
    history = JSON.parse(event.data);
  });
  source.addEventListener("view", (event) => take(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    if (view?.state === "ended") return;
    lost();
    // The browser tries again by itself, except where it was refused.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 30000);
    }
  });
}

function take(next) {
  view = next;
  heard = Date.now();
  if (history) remember(history, view);
  setLive(true);
  if (view.state === "ended") source.close();
  redraw();
}

function lost() {
  if (!live && !byId("connection").hidden) return;
  const since = clock(heard || Date.now());
  say(byId("connection"), view
    ? `Not connected since ${since}: the numbers below are from then. Trying again…`
    : "There is no connection yet. Trying again…");
  setLive(false);
}

function setLive(now) {
  live = now;
  show(byId("connection"), !now);
  document.body.classList.toggle("stale", !now);
  if (!now && view) redraw();
}

setInterval(() => {
  if (live && view && view.state !== "ended" && Date.now() - heard > SILENCE) lost();
}, 1000);

// Steering ------------------------------------------------------------------

function unlock(may) {
  maySteer = may;
  if (!may && token()) {
    fetch(`${base}api/view`, { headers: headers() })
      .then((answer) => (answer.ok ? answer.json() : { may_steer: false }))
      .then((view) => {
        maySteer = view.may_steer;
        if (!maySteer) {
          sessionStorage.removeItem("drpipe-token");
          complain("This is not the token of the run.");
        }
        redraw();
      })
      .catch(() => {});
  }
  redraw();
}

function complain(words) {
  say(byId("answer"), words);
  show(byId("answer"), Boolean(words));
}

async function post(action, body = {}) {
  complain("");
  try {
    const answer = await fetch(`${base}api/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Drpipe": "1", ...headers() },
      body: JSON.stringify(body),
    });
    if (!answer.ok) {
      const refusal = await answer.json().catch(() => ({}));
      complain(`Not done: ${refusal.error ?? `the answer was ${answer.status}`}`);
    }
    return answer.ok;
  } catch {
    complain("Not done: there is no connection to the run.");
    return false;
  }
}

function confirm(title, text, yes, action, body = {}) {
  say(byId("confirm-title"), title);
  say(byId("confirm-text"), text);
  say(byId("confirm-yes"), yes);
  byId("confirm-yes").onclick = () => {
    byId("confirm").close();
    post(action, body);
  };
  byId("confirm").showModal();
  byId("confirm-no").focus();
}

byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("pause").addEventListener("click", () => post(view?.paused ? "resume" : "pause"));
byId("drain").addEventListener("click", () => confirm("Finish early?",
  "The run takes no more input. It finishes what it has taken. This cannot be undone.",
  "Finish early", "drain"));
byId("stop").addEventListener("click", () => confirm("Stop now?",
  "Queued messages are dropped, and the run does not wait for work in progress. This cannot be undone.",
  "Stop now", "stop"));
const cancel = (origin) => confirm(`Cancel ${origin}?`,
  "What waits of it is dropped. What workers make of it is not taken, and a worker process that is at it is ended. This cannot be undone.",
  "Cancel it", "cancel", { origin, running: true });
byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  complain("");
  sessionStorage.setItem("drpipe-token", byId("token").value);
  byId("token").value = "";
  unlock(false);
});

// The page ------------------------------------------------------------------

function redraw() {
  if (!view || pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    head();
    const [sentence, more] = view.says;
    say(byId("says"), sentence);
    say(byId("says-more"), more);
    byId("sentence").className = view.state === "ended" ? (view.exit_code ? "bad" : "good") : view.bottleneck && !view.paused ? "limited" : "";
    announce(sentence);
    const may = maySteer && live && view.state !== "ended";
    graph(view, live);
    steps(view, history, may, post);
    workers(view, may, cancel);
    actions(view);
    failures(view, base, may, post);
    pictures(view, base);
    log(view);
  });
}

function state() {
  if (view.state === "ended") return ENDS[view.verdict] ?? "ended";
  if (view.paused) return "paused";
  return view.state;
}

/** The part that is done with; all is only what is all. */
const part = (run) => percent(Math.floor((100 * run.finished) / run.expected) / 100);

/** How many inputs are done with, of how many. */
function inputs(run) {
  const skipped = run.skipped ? `, ${count(run.skipped)} skipped` : "";
  const whole = run.expected === null ? ` (${count(run.emitted)} emitted)` : ` of ${count(run.expected)}`;
  return count(run.finished) + whole + skipped + (run.expected > 0 ? ` · ${part(run)}` : "");
}

function head() {
  const over = view.state === "ended";
  for (const name of ["pipeline", "directory", "run", "host", "pid", "version"]) say(field(name), String(view[name]));
  say(field("started"), instant(view.started));
  say(field("state"), live ? state() : `${state()} when last seen`);
  field("state").dataset.value = view.paused ? "paused" : view.state;
  field("state").className = `badge ${over ? (view.exit_code ? "bad" : "good") : view.paused ? "paused" : view.state}`;
  say(field("elapsed"), span(view.elapsed_s));
  say(field("eta"), over ? "–" : view.eta_s === null ? "unknown" : `about ${span(view.eta_s)}`);
  say(field("finished"), inputs(view));
  field("finished").dataset.value = view.finished;
  say(field("failure_count"), count(view.failure_count));
  field("failure_count").dataset.value = view.failure_count;
  field("failure_count").classList.toggle("alarm", view.failure_count > 0);
  const progress = byId("progress");
  show(progress, view.expected > 0);
  if (view.expected > 0) {
    progress.max = view.expected;
    progress.value = view.finished;
    progress.textContent = part(view);
  }
  document.title = `${view.paused ? "paused" : over ? view.verdict ?? "ended" : view.state} – ${view.pipeline} – ${view.run} – drpipe`;
  const may = maySteer && live && !over;
  say(byId("pause"), view.paused ? "Resume" : "Pause");
  for (const name of ["pause", "drain", "stop"]) byId(name).disabled = !may;
  byId("drain").disabled = byId("stop").disabled = !may;
  if (view.state === "draining") byId("drain").disabled = byId("pause").disabled = true;
  show(byId("unlock"), !maySteer && !over);
}

/** Announces changes of state to screen readers; numbers are not announced. */
function announce(sentence) {
  const now = { state: state(), limit: view.bottleneck };
  if (now.state !== announced.state) say(byId("announce"), `The run: ${now.state}.`);
  else if (now.limit !== announced.limit && now.limit) say(byId("announce"), sentence);
  announced = now;
}

// The list of runs ----------------------------------------------------------

function row(run) {
  const cells = ["state", "inputs", "failures", "limit", "time", "left", "host"];
  const right = new Set(["inputs", "failures", "time", "left"]);
  const link = el("a", { href: `runs/${encodeURIComponent(run.run)}/` }, run.pipeline || run.run);
  const parts = Object.fromEntries(cells.map((name) => [name, el("td", { class: right.has(name) ? "num" : "", "data-field": name })]));
  const node = el("tr", { "data-run": run.run }, el("th", { scope: "row" }, link, el("div", { class: "small" }, run.directory), el("div", { class: "small" }, run.run)), ...Object.values(parts));
  node.parts = parts;
  return headed(node, byId("runs"));
}

function fillRow({ parts }, run) {
  const over = run.state === "ended";
  say(parts.state, over ? ENDS[run.verdict] ?? "ended" : run.paused ? "paused" : run.state);
  parts.state.className = over ? (run.exit_code === 0 ? "good" : "bad") : "";
  say(parts.inputs, inputs(run));
  say(parts.failures, count(run.failure_count));
  say(parts.limit, run.bottleneck ?? "–");
  say(parts.time, span(run.elapsed_s));
  say(parts.left, over || run.eta_s === null ? "–" : span(run.eta_s));
  say(parts.host, run.host);
}

async function list() {
  try {
    const answer = await fetch("api/runs");
    const runs = await answer.json();
    show(byId("connection"), false);
    show(byId("no-runs"), runs.length === 0);
    keyed(byId("runs").tBodies[0], runs, (run) => run.run, row, fillRow);
    heard = Date.now();
  } catch {
    const since = clock(heard || Date.now());
    say(byId("connection"), `Not connected since ${since}. Trying again…`);
    show(byId("connection"), true);
  }
  setTimeout(list, 1000);
}

async function begin() {
  const inRun = /\/runs\/[^/]+\/$/.test(location.pathname);
  const answer = await fetch(inRun ? "../../api/runs" : "api/runs");
  const isMonitor = answer.headers.get("x-drpipe-monitor") === "1";
  if (!inRun && isMonitor) {
    document.title = "Runs – drpipe";
    show(byId("list"), true);
    return list();
  }
  if (!inRun) base = `runs/${encodeURIComponent((await answer.json())[0].run)}/`;
  show(byId("all"), inRun && isMonitor);
  show(byId("run"), true);
  return connect();
}

function start() {
  begin().catch(() => {
    lost();
    setTimeout(start, wait);
    wait = Math.min(wait * 2, 30000);
  });
}

addEventListener("resize", redraw);
start();
