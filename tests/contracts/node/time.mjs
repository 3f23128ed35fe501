// Placing moments of boot time in UTC (FORMAT.md, section 8). Exact: times, offsets, errors and places are fractions of integers,
// rounded once, at the end.

const PPM100 = 10_000n;

// A fraction with a positive denominator.
class Ratio {
  constructor(n, d = 1n) {
    this.n = d < 0n ? -n : n;
    this.d = d < 0n ? -d : d;
  }

  plus = (o) => new Ratio(this.n * o.d + o.n * this.d, this.d * o.d);
  minus = (o) => new Ratio(this.n * o.d - o.n * this.d, this.d * o.d);
  times = (o) => new Ratio(this.n * o.n, this.d * o.d);
  abs = () => new Ratio(this.n < 0n ? -this.n : this.n, this.d);
  over = (o) => this.minus(o).n > 0n;
  floor = () => (this.n - (((this.n % this.d) + this.d) % this.d)) / this.d;
  ceil = () => -new Ratio(-this.n, this.d).floor();
}

const ratio = (n) => new Ratio(BigInt(n));
const magnitude = (n) => (n < 0n ? -n : n);
const larger = (a, b) => (b === null || (a !== null && a.over(b)) ? a : b);
const isInteger = (x) => typeof x === "bigint" || (typeof x === "number" && Number.isInteger(x));

const compared = (a, b) => (a < b ? -1 : Number(a > b));

// ---- Boots and their anchors

// The boots of a chain, in the order of their first headers. Blocks are {header, events}: events null where they are not known.
export function bootsOf(blocks) {
  const boots = new Map();
  for (const { header, events } of blocks) {
    const id = Buffer.from(header.boot_id).toString("hex");
    if (!boots.has(id)) boots.set(id, { id, first: null, last: null, anchors: [] });
    const boot = boots.get(id);
    for (const time of [header.boot_ns, ...(header.interval ?? [])].map(BigInt)) {
      if (boot.first === null || time < boot.first) boot.first = time;
      if (boot.last === null || time > boot.last) boot.last = time;
    }
    boot.anchors.push(...anchorsOf(header, events ?? []));
  }
  for (const boot of boots.values()) {
    boot.anchors.sort((a, b) => compared(a.boot, b.boot) || compared(a.offset, b.offset) || compared(a.error, b.error));
    boot.runs = runsOf(boot.anchors);
  }
  return [...boots.values()];
}

function anchorsOf(header, events) {
  const told = events.filter(([type]) => type === "clock-synchronised" || type === "clock-held").map(([, , , data]) => {
    const fields = new Map(data);
    return [fields.get("boot_ns"), fields.get("wall_ns"), fields.get("max_error_ns")];
  });
  const own = [header.boot_ns, header.wall_ns, header.clock[1]];
  const sealed = header.clock[0] === "synchronised" && header.clock[1] !== null ? [own] : [];
  return [...sealed, ...told]
    .filter((three) => three.every(isInteger) && three[2] >= 0)
    .map((three) => three.map(BigInt))
    .map(([boot, wall, error]) => ({ boot, offset: wall - boot, error }));
}

const reach = (anchor, t) => new Ratio(anchor.error * PPM100 + magnitude(t - anchor.boot), PPM100);
const agree = (a, c) => !ratio(magnitude(a.offset - c.offset)).over(reach(a, c.boot).plus(ratio(c.error)));

// The anchors, cut where neighbours do not agree.
function runsOf(anchors) {
  const runs = [];
  anchors.forEach((anchor, i) => {
    if (i > 0 && agree(anchors[i - 1], anchor)) runs[runs.length - 1].push(anchor);
    else runs.push([anchor]);
  });
  return runs;
}

// ---- Placing in a boot with anchors

function beside(anchor, t) {
  return { utc: ratio(t + anchor.offset), bound: reach(anchor, t) };
}

function between(a, c, t) {
  const w = new Ratio(t - a.boot, c.boot - a.boot);
  const rest = ratio(1).minus(w);
  const mix = (x, y) => rest.times(x).plus(w.times(y));
  return { utc: ratio(t).plus(mix(ratio(a.offset), ratio(c.offset))), bound: mix(reach(a, t), reach(c, t)) };
}

function placedAmong(anchors, t) {
  const at = anchors.findIndex((anchor) => anchor.boot > t);
  if (at === -1) return beside(anchors[anchors.length - 1], t);
  const [a, c] = [anchors[at - 1], anchors[at]];
  if (at === 0) return beside(c, t);
  if (agree(a, c)) return between(a, c, t);
  return beside(c.boot - t < t - a.boot ? c : a, t);
}

function placedInBoot({ anchors, runs }, t) {
  const { utc, bound } = placedAmong(anchors, t);
  const disputed = runs.length > 1;
  let widest = bound;
  for (const run of disputed ? runs : []) {
    if (run[0].boot <= t && t < run[run.length - 1].boot) continue;
    const nearest = t < run[0].boot ? run[0] : run[run.length - 1];
    widest = larger(ratio(t + nearest.offset).minus(utc).abs().plus(reach(nearest, t)), widest);
  }
  return { utc, bound: widest, disputed };
}

// ---- Between boots

const reduced = (length) => new Ratio(length * (PPM100 - 1n), PPM100);

function bracket(boots, at, t) {
  return { earliest: earliest(boots, at, t), latest: latest(boots, at, t) };
}

function earliest(boots, at, t) {
  let sum = reduced(t - boots[at].first);
  for (let i = at - 1; i >= 0; i--) {
    const boot = boots[i];
    if (boot.anchors.length) {
      const { utc, bound } = placedInBoot(boot, boot.last);
      return utc.minus(bound).plus(sum);
    }
    sum = sum.plus(reduced(boot.last - boot.first));
  }
  return null;
}

function latest(boots, at, t) {
  let sum = reduced(boots[at].last - t);
  for (let i = at + 1; i < boots.length; i++) {
    const boot = boots[i];
    if (boot.anchors.length) {
      const { utc, bound } = placedInBoot(boot, boot.first);
      return utc.plus(bound).minus(sum);
    }
    sum = sum.plus(reduced(boot.last - boot.first));
  }
  return null;
}

// A moment of a boot in UTC: with a bound, or where the boot has no anchors in a bracket of which either side may be missing.
export function placed(boots, id, t) {
  const at = boots.findIndex((boot) => boot.id === id);
  const ends = bracket(boots, at, t);
  if (boots[at].anchors.length === 0) {
    return { utc: null, bound: null, disputed: false, earliest: ends.earliest?.floor() ?? null, latest: ends.latest?.ceil() ?? null };
  }
  let { utc, bound, disputed } = placedInBoot(boots[at], t);
  const outside = (ends.earliest?.over(utc.plus(bound)) ?? false) || (ends.latest !== null && utc.minus(bound).over(ends.latest));
  if (outside) {
    disputed = true;
    for (const end of [ends.earliest, ends.latest]) if (end !== null) bound = larger(utc.minus(end).abs(), bound);
  }
  return { utc: utc.floor(), bound: bound.ceil(), disputed, earliest: null, latest: null };
}
