// Where the steps of a graph and the lines between them stand. Steps are in layers; a line
// that passes a layer has a place of its own there, and one that leads back has a lane
// beside all steps: so no line passes through a step.
//
// `a` is the way along the messages, `b` across it.

const SWEEPS = 4;
const LANE = 26;
const ROUND = 10;

/** The layer of each step: one more than the highest of those that lead to it. */
function layersOf(steps) {
  const layer = new Map(steps.map((step) => [step.name, 0]));
  for (const step of steps) {
    for (const next of step.next_steps.filter((next) => !next.feedback)) {
      layer.set(next.name, Math.max(layer.get(next.name), layer.get(step.name) + 1));
    }
  }
  return layer;
}

/** The layers with their places, and each line as the places that it passes. */
function placesOf(steps, box, slot) {
  const layer = layersOf(steps);
  const layers = [];
  const add = (depth, place) => {
    (layers[depth] ??= []).push(place);
    return place;
  };
  const of = new Map(steps.map((step) => [
    step.name, add(layer.get(step.name), { name: step.name, depth: layer.get(step.name), size: box.across, into: [], out: [] }),
  ]));
  const lines = [];
  for (const step of steps) {
    for (const next of step.next_steps) {
      const line = { key: `${step.name}\n${next.name}`, feedback: next.feedback, places: [of.get(step.name)] };
      for (let depth = layer.get(step.name) + 1; !next.feedback && depth < layer.get(next.name); depth += 1) {
        line.places.push(add(depth, { depth, size: slot, into: [], out: [] }));
      }
      line.places.push(of.get(next.name));
      lines.push(line);
    }
  }
  for (const line of lines) {
    line.places.slice(1).forEach((to, at) => {
      to.into.push({ line, from: line.places[at] });
      line.places[at].out.push({ line, to });
    });
  }
  return { layers, lines, of };
}

/** Puts what belongs together side by side: each place near the middle of its neighbors. */
function order(layers) {
  const number = () => layers.forEach((row) => row.forEach((place, at) => { place.order = at / row.length; }));
  const middle = (places) => places.reduce((sum, place) => sum + place.order, 0) / places.length;
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    number();
    const down = sweep % 2 === 0;
    for (const row of down ? layers : [...layers].reverse()) {
      for (const place of row) {
        const links = down ? place.into.map((link) => link.from) : place.out.map((link) => link.to);
        const forward = links.filter((other) => (down ? other.depth < place.depth : other.depth > place.depth));
        place.wanted = forward.length ? middle(forward) : place.order;
      }
      row.sort((one, other) => one.wanted - other.wanted);
      row.forEach((place, at) => { place.order = at / row.length; });
    }
  }
}

/** Where each line leaves and enters a step: in the order of where it leads. */
function ports(place) {
  const spread = (links, other, name) => {
    const by = (link) => (link.line.feedback ? Infinity : other(link).b);
    links.sort((one, two) => by(one) - by(two));
    links.forEach((link, at) => {
      link.line[name] = place.b - place.size / 2 + (place.size * (at + 1)) / (links.length + 1);
    });
  };
  spread(place.out, (link) => link.to, "start");
  spread(place.into, (link) => link.from, "end");
}

/** A path through corners, which are rounded. */
function rounded(points) {
  const towards = ([a, b], [u, v], most) => {
    const length = Math.hypot(u - a, v - b) || 1;
    const part = Math.min(most, length / 2) / length;
    return [a + (u - a) * part, b + (v - b) * part];
  };
  const parts = [["M", points[0]]];
  points.slice(1, -1).forEach((corner, at) => {
    parts.push(["L", towards(corner, points[at], ROUND)], ["Q", corner, towards(corner, points[at + 2], ROUND)]);
  });
  return [...parts, ["L", points.at(-1)]];
}

function forward(line, sizes, start) {
  const { box, gap } = sizes;
  const parts = [["M", [start(line.places[0].depth) + box.along, line.start]]];
  let at = parts[0][1];
  let label = null;
  line.places.slice(1).forEach((place, index) => {
    const last = index === line.places.length - 2;
    const a = start(place.depth);
    const to = last ? [a - 4, line.end] : [a, place.b];
    const half = a - gap / 2;
    parts.push(["C", [half, at[1]], [half, to[1]], to]);
    if (last) {
      label ??= [half, (at[1] + to[1]) / 2];
    } else {
      at = [a + box.along, place.b];
      parts.push(["L", at]);
      label ??= [a + box.along / 2, place.b];
    }
  });
  return { parts, label };
}

/** Out into the gap, along the lane, and in again through the gap before the step. */
function back(line, lane, at, sizes, start) {
  const { box, gap } = sizes;
  const [from, to] = [line.places[0], line.places.at(-1)];
  const out = start(from.depth) + box.along + gap * 0.2 + at * 5;
  const into = start(to.depth) - gap * 0.35 - at * 5;
  const corners = [
    [start(from.depth) + box.along, line.start], [out, line.start], [out, lane], [into, lane], [into, line.end],
    [start(to.depth) - 4, line.end],
  ];
  return { parts: rounded(corners), label: [(out + into) / 2, lane] };
}

/**
 * Lays the steps out, from top to bottom if `down`. Gives the boxes by name, the lines by the
 * names of their ends with a path and the place of a label, and the size of all.
 */
export function layout(steps, { wide, high, gap, between, slot, margin, down }) {
  const box = down ? { along: high, across: wide } : { along: wide, across: high };
  const { layers, lines, of } = placesOf(steps, box, slot);
  order(layers);
  const breadth = (row) => row.reduce((sum, place) => sum + place.size, 0) + (row.length - 1) * between;
  const room = Math.max(...layers.map(breadth));
  for (const row of layers) {
    let b = margin + (room - breadth(row)) / 2;
    for (const place of row) {
      place.b = b + place.size / 2;
      b += place.size + between;
    }
  }
  layers.flat().filter((place) => place.name).forEach(ports);
  const loops = lines.filter((line) => line.feedback);
  // Lines that lead back need a gap before the first step and behind the last.
  const edge = margin + (loops.length ? gap * 0.4 + loops.length * 5 : 0);
  const start = (depth) => edge + depth * (box.along + gap);
  const turned = ([a, b]) => (down ? `${b.toFixed(1)},${a.toFixed(1)}` : `${a.toFixed(1)},${b.toFixed(1)}`);
  const drawn = new Map();
  for (const line of lines) {
    const at = loops.indexOf(line);
    const lane = 2 * margin + room + LANE * (at + 0.5);
    const { parts, label } = line.feedback
      ? back(line, lane, at, { box, gap }, start)
      : forward(line, { box, gap }, start);
    const d = parts.map(([kind, ...points]) => kind + points.map(turned).join(" ")).join("");
    drawn.set(line.key, { d, at: down ? [label[1], label[0]] : label });
  }
  const boxes = new Map();
  for (const [name, place] of of) {
    const [a, b] = [start(place.depth), place.b - box.across / 2];
    boxes.set(name, down ? { x: b, y: a } : { x: a, y: b });
  }
  const length = 2 * edge + layers.length * (box.along + gap) - gap;
  const across = 2 * margin + room + (loops.length ? LANE * loops.length + margin : 0);
  return { boxes, lines: drawn, size: down ? [across, length] : [length, across] };
}
