// What limits the pace of a run, in words.

import { count, listed, percent } from "./parts.js";

const VERDICTS = {
  done: "The run is over: every input was processed.",
  some_failed: "The run is over: some inputs failed.",
  stopped: "The run was stopped.",
  interrupted: "The run was interrupted.",
  lost: "The run was lost.",
};

function busy(step) {
  const whose = step.workers === 1 ? "its worker is" : `its ${step.workers} workers are`;
  return `${whose} busy ${percent(step.utilisation)} of the time`;
}

/** Those that the full queue of `name` holds back, by itself or through others. */
function behind(view, name) {
  const held = new Set();
  let grown = true;
  while (grown) {
    grown = false;
    for (const step of view.steps) {
      const limit = (next) => next === name || held.has(next);
      // A producer is asked for more only where there is room.
      const producer = step.kind === "producer" && step.standing === "waiting";
      const waits = step.held_by.some(limit) || (producer && step.next_steps.some((next) => limit(next.name)));
      if (waits && !held.has(step.name)) {
        held.add(step.name);
        grown = true;
      }
    }
  }
  held.delete(name);
  return [...held];
}

function of(view, slowest) {
  const held = behind(view, slowest.name);
  const first = slowest.kind === "producer"
    ? `${slowest.name}, the producer, limits the pace: it is busy ${percent(slowest.utilisation)} of the time.`
    : `${slowest.name} limits the pace: ${busy(slowest)}.`;
  if (held.length) {
    return [first, `${listed(held)} ${held.length === 1 ? "is" : "are"} held back by its full queue. More workers for ${slowest.name} would help.`];
  }
  const idle = view.steps.filter((step) => step.standing === "waiting").map((step) => step.name);
  return [first, idle.length ? `${listed(idle)} ${idle.length === 1 ? "has" : "have"} time to spare.` : ""];
}

/** The sentence that says most, and one more. */
export function limits(view) {
  const slowest = view.steps.find((step) => step.name === view.bottleneck);
  const paused = view.steps.filter((step) => step.paused).map((step) => step.name);
  if (view.state === "ended") {
    const failed = view.failure_count ? ` ${count(view.failure_count)} failures.` : "";
    const limited = slowest ? `${slowest.name} limited the pace: ${busy(slowest).replace(" is ", " was ").replace(" are ", " were ")}.` : "";
    return [(VERDICTS[view.verdict] ?? "The run is over.") + failed, [view.reason ? `${view.reason}.` : "", limited].filter(Boolean).join(" ")];
  }
  if (view.state === "starting") return ["The workers are being started.", ""];
  if (view.paused) return ["The run is paused: nothing new is begun.", "What workers had in hand is being finished. Resume it to go on."];
  const note = paused.length ? `${listed(paused)} ${paused.length === 1 ? "is" : "are"} paused.` : "";
  const ending = view.state === "draining" ? `The run is finishing early${view.reason ? ` (${view.reason})` : ""}: no more input is taken.` : "";
  if (!slowest) {
    const words = paused.length ? note : "Nothing limits the pace just now: every step has more workers than work.";
    return [words, ending];
  }
  const [first, more] = of(view, slowest);
  return [first, [note, more, ending].filter(Boolean).join(" ")];
}
