// An independent verifier and decoder of Trambien blocks, written from buffer/FORMAT.md alone; nothing but Node.js 20.
//
//   node verify.mjs --trust KEY.pem|HEX [--trust ...] [--values] FILE...
//
// FILE is a block (*.block: all such files together are one chain) or JSON: an array of {"block", "layouts"} (one block each) or
// of {"blocks"} (a chain each), in hex, or of {"files"} (a chain each, paths beside the JSON). Prints one JSON report:
// of the chain, or an array of one for each entry. --values writes what the payloads of chains hold, too.
// Exit: 0 where every chain is complete, else 1.

import { createHash, createPublicKey, verify as verifySignature } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { Float, Tagged, decode, encode, widen } from "./cbor.mjs";
import { decompress } from "./zstd.mjs";

const MAX_ENVELOPE = 1024;
const MAX_STORED = 1 << 20;
const MAX_RAW = 8 << 20;
const MAX_READINGS = 1 << 20;
const MAX_COLUMNS = 4096;
const MAX_TEXT = 1024;
const MAX_NAME = 63;
const SECOND = 1_000_000_000;

export class Refused extends Error {
  constructor(reason, detail = "") {
    super(detail ? `${reason}: ${detail}` : reason);
    this.reason = reason;
  }
}

function need(condition, reason, detail) {
  if (!condition) throw new Refused(reason, detail);
}

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
const isInteger = (x) => typeof x === "bigint" || (typeof x === "number" && Number.isInteger(x));
const isArray = (x, size) => Array.isArray(x) && x.length === size;
const isBytes = (x, size) => x instanceof Uint8Array && (size === undefined || x.length === size);
const isText = (x, most = Infinity) => typeof x === "string" && (x.length <= most || [...x].length <= most);
const within = (x, least, most) => isInteger(x) && x >= least && x <= most;

function cbor(bytes, reason, options) {
  try {
    return decode(bytes, options);
  } catch (error) {
    throw new Refused(reason, error.message);
  }
}

// A map with integer keys (section 1, growth): unknown keys are skipped, a negative one means: do not interpret.
function integerMap(item, reason) {
  need(item instanceof Map && [...item.keys()].every(isInteger), reason, "not a map with integer keys");
  need(![...item.keys()].some((key) => key < 0), "do-not-interpret");
  return item;
}

function record(item, least, reason) {
  need(Array.isArray(item) && item.length >= least, reason, "a record too short");
  return item;
}

// ---- Keys and the envelope (section 2)

const SPKI = Buffer.from("302a300506032b6570032100", "hex");

export function trustedKeys(sources) {
  const keys = new Map();
  for (const source of sources) {
    const isHex = /^[0-9a-f]{64}$/i.test(source);
    const der = () => ({ key: Buffer.concat([SPKI, Buffer.from(source, "hex")]), format: "der", type: "spki" });
    const key = createPublicKey(isHex ? der() : readFileSync(source));
    const x = Buffer.from(key.export({ format: "jwk" }).x, "base64url");
    keys.set(hex(sha256(encode(new Map([[1, 1], [-1, 6], [-2, x]])))), key);
  }
  return keys;
}

export function openBlock(bytes, trust) {
  need(bytes.length <= MAX_ENVELOPE + MAX_STORED + 16, "block-size");
  const block = cbor(bytes, "block");
  need(Array.isArray(block) && block.length === 2 && isBytes(block[0]) && (block[1] === null || isBytes(block[1])), "block");
  const [envelope, payload] = block;
  const { kid, content } = openSign1(envelope, trust, "trambien-block");
  return { digest: hex(sha256(envelope)), kid, header: readHeader(content, kid), payload };
}

// A COSE_Sign1 of one type, by a trusted key.
function openSign1(envelope, trust, type) {
  need(envelope.length <= MAX_ENVELOPE, "envelope-size");
  const sign1 = cbor(envelope, "not-sign1", { tags: true, only: true });
  need(sign1 instanceof Tagged && sign1.tag === 18 && Array.isArray(sign1.item) && sign1.item.length === 4, "not-sign1");
  const [protectedBytes, unprotected, headerBytes, signature] = sign1.item;
  need(isBytes(protectedBytes) && isBytes(headerBytes) && isBytes(signature), "not-sign1");
  need(unprotected instanceof Map && unprotected.size === 0, "not-sign1");
  const kid = hex(protectedBytes.subarray(6, 38));
  need(hex(protectedBytes) === hex(encode(new Map([[1, -8], [4, Buffer.from(kid, "hex")], [16, type]]))), "wrong-type");
  need(trust.has(kid), "foreign-key", kid);
  const signed = encode(["Signature1", protectedBytes, new Uint8Array(0), headerBytes]);
  need(verifySignature(null, signed, trust.get(kid), signature), "bad-signature");
  return { kid, content: headerBytes };
}

// ---- Key statements (section 7)

const publicKey = (x) => createPublicKey({ key: Buffer.concat([SPKI, x]), format: "der", type: "spki" });
const thumbprint = (x) => hex(sha256(encode(new Map([[1, 1], [-1, 6], [-2, x]]))));

// Both signatures are judged by the keys that the statement names; whether the old one is trusted is another question.
function readStatement(item) {
  const [byOld, byNew] = record(item, 2, "key-statement");
  need(isBytes(byOld) && isBytes(byNew) && byOld.length <= MAX_ENVELOPE, "key-statement");
  const sign1 = cbor(byOld, "key-statement", { tags: true, only: true });
  need(sign1 instanceof Tagged && isArray(sign1.item, 4) && isBytes(sign1.item[2]), "key-statement");
  const content = integerMap(cbor(sign1.item[2], "key-statement"), "key-statement");
  const [gateway, old, next, counter] = [0, 1, 2, 3].map((key) => content.get(key));
  need(isText(gateway, MAX_NAME) && isBytes(old, 32) && isBytes(next, 32), "key-statement");
  need(within(counter, 0, 2n ** 63n - 1n) && hex(old) !== hex(next), "key-statement");
  const signedBy = (envelope, x) => openSign1(envelope, new Map([[thumbprint(x), publicKey(x)]]), "trambien-key").content;
  need(hex(signedBy(byOld, old)) === hex(signedBy(byNew, next)), "key-statement");
  return { old: thumbprint(old), next: thumbprint(next), key: publicKey(next) };
}

function statementsIn(raw) {
  const sections = integerMap(cbor(raw, "payload"), "payload");
  const found = [];
  for (const [type, , , data] of sections.has(3) ? readEvents(sections.get(3)) : []) {
    const datum = (name) => data.find(([key]) => key === name)?.[1];
    if (type === "key-rotated") found.push(datum("statement"));
    if (type === "start") found.push(...[datum("keys") ?? []].map((x) => (Array.isArray(x) ? x : [x])).flat(1));
  }
  return found;
}

class KeyRing {
  constructor(trust) {
    this.trust = new Map(trust);
    this.successors = new Map();
    this.retired = new Map(); // stream and kid -> seq of the first statement
  }

  // Learn from a proven block; say whether all that stands where statements should is good.
  learn({ stream, seq }, raw) {
    let good = true;
    for (const item of statementsIn(raw)) {
      try {
        this.follow(stream, seq, readStatement(item));
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        good = false;
      }
    }
    return good;
  }

  follow(stream, seq, { old, next, key }) {
    if (!this.trust.has(old)) return;
    need((this.successors.get(old) ?? next) === next, "key-statement", "a second successor");
    this.successors.set(old, next);
    this.trust.set(next, key);
    const name = JSON.stringify([stream, old]);
    this.retired.set(name, Math.min(this.retired.get(name) ?? seq, seq));
  }

  isRetired({ stream, seq, kid }) {
    return seq > (this.retired.get(JSON.stringify([stream, hex(kid)])) ?? Infinity);
  }
}

// ---- The header (section 3)

function readHeader(bytes, kid) {
  const map = integerMap(cbor(bytes, "header"), "header");
  need(isInteger(map.get(0)), "header", "key 0");
  need(map.get(0) === 1, "version");
  const get = (key, check) => {
    const value = map.get(key);
    need(value !== undefined && check(value), "header", `key ${key}`);
    return value;
  };
  const natural = (most = 2n ** 63n - 1n) => (x) => within(x, 0, most);
  const signed64 = (x) => within(x, -(2n ** 63n), 2n ** 63n - 1n);
  const header = {
    version: get(0, natural()),
    gateway: get(1, (x) => isText(x, MAX_NAME)),
    stream: get(2, (x) => isText(x, MAX_NAME)),
    epoch: get(3, (x) => isBytes(x, 8)),
    seq: get(4, (x) => within(x, 1, 2 ** 40 - 1)),
    prev: get(5, (x) => x === null || isBytes(x, 32)),
    kind: get(6, natural()),
    flags: get(7, natural()),
    payload_digest: get(8, (x) => isBytes(x, 32)),
    payload_length: get(9, natural(MAX_STORED)),
    raw_length: get(10, natural(MAX_RAW)),
    codec: get(11, natural()),
    boot_id: get(12, (x) => isBytes(x, 16)),
    boot_ns: get(13, natural()),
    wall_ns: get(14, signed64),
    clock: get(15, (x) => isArray(x, 3) && isText(x[0], 32) && (x[1] === null || natural()(x[1])) && isText(x[2], 32)),
    interval: get(16, (x) => x === null || (isArray(x, 2) && x.every(signed64))),
    frames: get(17, natural(MAX_READINGS)),
    readings: get(18, natural(MAX_READINGS)),
    totals: get(19, (x) => isArray(x, 3) && x.every(natural())),
    catalogue: get(20, (x) => isBytes(x, 32)),
    kid: Buffer.from(kid, "hex"),
  };
  return header;
}

// ---- The payload (section 5)

function checkStored(header, stored) {
  need(stored !== null, "evicted");
  need(stored.length === header.payload_length, "payload-length");
  need(sha256(stored).equals(header.payload_digest), "payload-digest");
  return stored;
}

function decompressed(header, stored) {
  need(header.codec === 0 || header.codec === 1, "codec");
  if (header.codec === 0) {
    need(stored.length === header.raw_length, "compressed");
    return stored;
  }
  try {
    return decompress(stored, header.raw_length);
  } catch (error) {
    throw new Refused("compressed", error.message);
  }
}

// The sections that need no layouts, and the others as they are.
export function readPayload(raw) {
  const map = integerMap(cbor(raw, "payload"), "payload");
  need(isBytes(map.get(0)), "payload", "no lanes");
  const events = map.has(3) ? readEvents(map.get(3)) : [];
  const definitions = map.has(4) ? readDefinitions(map.get(4)) : null;
  return { lanes: map.get(0), frames: map.get(1), changes: map.get(2), events, definitions };
}

function readEvents(item) {
  return record(item, 0, "payload").map((entry) => {
    const [type, time, id, data] = record(entry, 4, "payload");
    need(isText(type) && within(time, -(2n ** 63n), 2n ** 63n - 1n) && isBytes(id, 8), "payload", "an event");
    need(Array.isArray(data) && data.length % 2 === 0, "payload", "data of an event");
    const pairs = [];
    for (let i = 0; i < data.length; i += 2) {
      need(isText(data[i]) && isDatum(data[i + 1]), "payload", "data of an event");
      pairs.push([data[i], data[i + 1]]);
    }
    return [type, time, id, pairs];
  });
}

function isDatum(item) {
  if (Array.isArray(item)) return item.every(isDatum);
  return !(item instanceof Map);
}

function readDefinitions(item) {
  const [layouts, catalogue] = record(item, 2, "payload");
  need(Array.isArray(layouts) && layouts.every((x) => isBytes(x)) && isBytes(catalogue), "payload", "definitions");
  return { layouts, catalogue };
}

// ---- Layouts and catalogues (section 6)

const KINDS = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
  "text", "bytes"];
const WIDTHS = [1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 0, 0];
const [TEXT, BYTES] = [12, 13];

export function readLayout(bytes) {
  const map = integerMap(cbor(bytes, "layout"), "layout");
  const text = (x) => isText(x, MAX_TEXT);
  need([0, 1, 2].every((key) => text(map.get(key))), "layout");
  need(!map.has(3) || within(map.get(3), 0, 2n ** 63n - 1n), "layout", "interval");
  need(Array.isArray(map.get(4)) && map.get(4).length <= MAX_COLUMNS, "layout", "columns");
  const kinds = map.get(4).map((item) => {
    const column = integerMap(item, "layout");
    need(text(column.get(0)) && within(column.get(1), 0, KINDS.length - 1), "layout", "column");
    need([2, 3, 4, 5, 6, 7, 8, 9].every((key) => !column.has(key) || text(column.get(key))), "layout");
    return column.get(1);
  });
  const lanes = kinds.map((_, position) => position).filter((position) => WIDTHS[kinds[position]]);
  lanes.sort((a, b) => WIDTHS[kinds[a]] - WIDTHS[kinds[b]] || kinds[a] - kinds[b] || a - b);
  const others = kinds.map((_, position) => position).filter((position) => !WIDTHS[kinds[position]]);
  return { kinds, lanes, others };
}

export function readCatalogue(bytes) {
  const ids = cbor(bytes, "catalogue");
  need(Array.isArray(ids) && ids.length <= MAX_COLUMNS && ids.every((id) => isBytes(id, 32)), "catalogue");
  return ids.map(hex);
}

// ---- Lanes, bitmaps, runs (section 5)

// The lanes of each column, given [width, length] of each.
function splitLanes(bytes, columns) {
  const streams = new Map();
  for (const width of [1, 2, 4, 8]) streams.set(width, { firsts: 0, deltas: 0 });
  for (const [width, length] of columns) {
    if (length === 0) continue;
    streams.get(width).firsts += 1;
    streams.get(width).deltas += length - 1;
  }
  let total = 0;
  for (const [width, { firsts, deltas }] of streams) total += width * (firsts + deltas);
  need(total === bytes.length, "lanes", `${bytes.length} bytes, not ${total}`);
  let at = 0;
  const unplane = (width, count) => {
    const out = new [, Uint8Array, Uint16Array, , Uint32Array, , , , BigUint64Array][width](count);
    const view = new Uint8Array(out.buffer); // little-endian hosts only, as all that run Node.js
    for (let byte = 0; byte < width; byte++) for (let i = 0; i < count; i++) view[i * width + byte] = bytes[at++];
    return out;
  };
  for (const name of ["firsts", "deltas"]) for (const [width, stream] of streams) stream[name] = unplane(width, stream[name]);
  const next = { firsts: [0, 0, 0, 0, 0, 0, 0, 0, 0], deltas: [0, 0, 0, 0, 0, 0, 0, 0, 0] };
  return columns.map(([width, length]) => {
    const { firsts, deltas } = streams.get(width);
    const lanes = new firsts.constructor(length);
    if (length === 0) return lanes;
    lanes[0] = firsts[next.firsts[width]++];
    for (let i = 1; i < length; i++) {
      const z = deltas[next.deltas[width]++];
      // Typed arrays reduce modulo 2^bits by themselves.
      lanes[i] = width === 8 ? lanes[i - 1] + ((z >> 1n) ^ -(z & 1n)) : lanes[i - 1] + ((z >>> 1) ^ -(z & 1));
    }
    return lanes;
  });
}

function toValue(kind, lane) {
  const name = KINDS[kind];
  if (name === "bool") {
    need(lane <= 1, "lanes", "neither true nor false");
    return lane === 1;
  }
  if (name.startsWith("float")) return new Float(widen(BigInt(lane), WIDTHS[kind]));
  if (name.startsWith("uint")) return lane;
  return WIDTHS[kind] === 8 ? BigInt.asIntN(64, lane) : (lane << (32 - 8 * WIDTHS[kind])) >> (32 - 8 * WIDTHS[kind]);
}

function toTimes(lanes, tick) {
  return Array.from(lanes, (lane) => {
    const time = BigInt.asIntN(64, lane) * BigInt(tick);
    need(BigInt.asIntN(64, time) === time, "payload", "a time beyond i64");
    return time;
  });
}

function bitmap(item, n) {
  if (item === null) return () => false;
  need(isBytes(item, Math.ceil(n / 8)), "payload", "a bitmap");
  need(n % 8 === 0 || item[item.length - 1] >> n % 8 === 0, "payload", "a bitmap with bits behind its end");
  return (i) => ((item[i >> 3] >> (i & 7)) & 1) === 1;
}

function runs(item, length, check) {
  need(Array.isArray(item) && item.length % 2 === 0, "payload", "runs");
  const out = [];
  for (let i = 0; i < item.length; i += 2) {
    need(within(item[i], 0, length - out.length) && check(item[i + 1]), "payload", "runs");
    for (let n = item[i]; n > 0; n--) out.push(item[i + 1]);
  }
  need(out.length === length, "payload", "runs");
  return out;
}

const isStatus = (x) => within(x, 0, 2 ** 32 - 1);
function statuses(item, length) {
  if (item === null) return new Array(length).fill(0);
  if (isInteger(item)) {
    need(isStatus(item), "payload", "a status");
    return new Array(length).fill(item);
  }
  return runs(item, length, isStatus);
}

function textRuns(item, lengths, kinds) {
  need(Array.isArray(item) && item.length === kinds.length, "payload", "texts");
  return kinds.map((kind, i) => runs(item[i], lengths[i], kind === TEXT ? (x) => isText(x) : (x) => isBytes(x)));
}

// ---- Frames and changes

function shapeOfFrames(item, layouts) {
  const [tick, indexes, counts, texts, marks] = record(item, 5, "payload");
  need(within(tick, 1, SECOND) && Array.isArray(indexes) && texts instanceof Map && marks instanceof Map, "payload", "frames");
  const all = Array.isArray(counts) ? counts : indexes.map(() => counts);
  need(all.length === indexes.length && all.every((n) => within(n, 1, Number.MAX_SAFE_INTEGER)), "payload", "counts");
  need(Array.isArray(counts) || within(counts, 1, Number.MAX_SAFE_INTEGER), "payload", "counts");
  const groups = indexes.map((index, i) => ({ index, count: all[i], layout: layoutAt(layouts, index) }));
  return { tick, groups, texts, marks };
}

function shapeOfChanges(item, layouts) {
  const [tick, sourceTick, groups] = record(item, 3, "payload");
  need(within(tick, 1, SECOND) && within(sourceTick, 1, SECOND) && Array.isArray(groups), "payload", "changes");
  return { tick, sourceTick, groups: groups.map((entry) => {
    const [index, count, points, noSource, states, historical, absent, texts] = record(entry, 8, "payload");
    need(within(count, 1, Number.MAX_SAFE_INTEGER) && isBytes(points), "payload", "changes");
    return { index, count, points, noSource, states, historical, absent, texts, layout: layoutAt(layouts, index) };
  }) };
}

function layoutAt(layouts, index) {
  need(within(index, 0, Number.MAX_SAFE_INTEGER), "payload", "a layout number");
  need(index < layouts.length, "unknown-layout");
  return layouts[index];
}

export function decodeReadings(payload, layouts) {
  const frames = payload.frames === undefined ? null : shapeOfFrames(payload.frames, layouts);
  const changes = payload.changes === undefined ? null : shapeOfChanges(payload.changes, layouts);
  let readings = 0;
  for (const group of frames?.groups ?? []) readings += group.count * Math.max(1, group.layout.kinds.length);
  for (const group of changes?.groups ?? []) readings += group.count;
  need(readings <= MAX_READINGS, "too-many-readings");

  const columns = [];
  const add = (width, length) => columns.push([width, length]) - 1;
  if (frames) {
    const total = frames.groups.reduce((sum, group) => sum + group.count, 0);
    frames.times = add(8, total);
    frames.spans = add(8, total);
    for (const group of frames.groups) group.columns = group.layout.lanes.map((p) => add(WIDTHS[group.layout.kinds[p]], group.count));
  }
  if (changes) {
    for (const group of changes.groups) {
      const { kinds, lanes, others } = group.layout;
      group.positions = Array.from(splitLanes(group.points, [[2, group.count]])[0]);
      need(group.positions.every((p) => p < kinds.length), "payload", "a point that the layout has not");
      group.lengths = new Array(kinds.length).fill(0);
      for (const p of group.positions) group.lengths[p] += 1;
      group.lanes = lanes.filter((p) => group.lengths[p]);
      group.others = others.filter((p) => group.lengths[p]);
      group.noSource = bitmap(group.noSource, group.count);
    }
    const total = changes.groups.reduce((sum, group) => sum + group.count, 0);
    const sourced = changes.groups.reduce((sum, g) => sum + g.positions.filter((_, i) => !g.noSource(i)).length, 0);
    changes.times = add(8, total);
    changes.sourceTimes = add(8, sourced);
    for (const group of changes.groups) {
      group.columns = group.lanes.map((p) => add(WIDTHS[group.layout.kinds[p]], group.lengths[p]));
    }
  }
  const lanes = splitLanes(payload.lanes, columns);
  return { frames: frames ? readFrames(frames, lanes) : [], changes: changes ? readChanges(changes, lanes) : [] };
}

function readFrames({ tick, groups, texts, marks, times, spans }, lanes) {
  const bootTimes = toTimes(lanes[times], tick);
  const spanTimes = toTimes(lanes[spans], tick);
  let at = 0;
  return groups.map(({ index, count, layout, columns }, group) => {
    const { kinds } = layout;
    const values = kinds.map(() => null);
    layout.lanes.forEach((p, i) => (values[p] = Array.from(lanes[columns[i]], (lane) => toValue(kinds[p], lane))));
    const others = layout.others.map((p) => kinds[p]);
    const columnsOfText = textRuns(texts.has(group) ? texts.get(group) : [], others.map(() => count), others);
    layout.others.forEach((p, i) => (values[p] = columnsOfText[i]));
    const frames = Array.from({ length: count }, (_, i) => [bootTimes[at], spanTimes[at++], values.map((column) => column[i]), null]);
    let before = 0;
    for (const mark of record(marks.has(group) ? marks.get(group) : [], 0, "payload")) {
      const [first, marked, absent, states] = record(mark, 4, "payload");
      need(within(first, before, count) && within(marked, 0, count - first), "payload", "marks");
      before = first + marked;
      const isAbsent = bitmap(absent, kinds.length);
      const states1 = states === null ? null : statuses(states, kinds.length);
      for (let i = first; i < before; i++) {
        frames[i][2] = frames[i][2].map((value, p) => (isAbsent(p) ? null : value));
        frames[i][3] = states1;
      }
    }
    return [index, frames];
  });
}

function readChanges({ tick, sourceTick, groups, times, sourceTimes }, lanes) {
  const received = toTimes(lanes[times], tick);
  const sourced = toTimes(lanes[sourceTimes], sourceTick);
  let at = 0;
  let atSource = 0;
  return groups.map((group) => {
    const { index, count, layout: { kinds }, positions, lengths } = group;
    const values = new Map();
    group.lanes.forEach((p, i) => values.set(p, Array.from(lanes[group.columns[i]], (lane) => toValue(kinds[p], lane))));
    const texts = textRuns(group.texts, group.others.map((p) => lengths[p]), group.others.map((p) => kinds[p]));
    group.others.forEach((p, i) => values.set(p, texts[i]));
    const states = statuses(group.states, count);
    const isHistorical = bitmap(group.historical, count);
    const isAbsent = bitmap(group.absent, count);
    const taken = new Array(kinds.length).fill(0);
    return [index, positions.map((p, i) => {
      const value = values.get(p)[taken[p]++];
      const source = group.noSource(i) ? null : sourced[atSource++];
      return [p, source, received[at++], isAbsent(i) ? null : value, states[i], isHistorical(i)];
    })];
  });
}

// Frames, readings and interval are in the header too.
function checkHeader(header, payload, { frames, changes }, layouts) {
  const times = payload.events.map(([, time]) => BigInt(time));
  let readings = 0;
  let count = 0;
  for (const [index, list] of frames) {
    count += list.length;
    readings += list.length * layouts[index].kinds.length;
    for (const frame of list) times.push(frame[0]);
  }
  for (const [, list] of changes) {
    readings += list.length;
    for (const change of list) times.push(change[2]);
  }
  need(header.frames === count && header.readings === readings, "counts");
  let [first, last] = [times[0], times[0]];
  for (const time of times) {
    if (time < first) first = time;
    if (time > last) last = time;
  }
  const interval = header.interval;
  need(times.length ? interval && BigInt(interval[0]) === first && BigInt(interval[1]) === last : interval === null, "interval");
}

// One block with the layouts of its catalogue.
export function verifyBlock(bytes, layoutBytes, trust) {
  const block = openBlock(bytes, trust);
  if (block.payload === null) return { ...block, content: null };
  const payload = readPayload(decompressed(block.header, checkStored(block.header, block.payload)));
  const layouts = layoutBytes.map(readLayout);
  need(sha256(encode(layoutBytes.map(sha256))).equals(block.header.catalogue), "catalogue");
  const readings = decodeReadings(payload, layouts);
  checkHeader(block.header, payload, readings, layouts);
  return { ...block, content: { ...readings, events: payload.events, definitions: payload.definitions } };
}

// ---- Chains (section 4)

// The verdict is that of section 4. What else is wrong inside a proven payload is in `contents`.
export function verifyChain(inputs, trust, { values = false } = {}) {
  const found = { faults: [], gaps: [], holes: [], abandoned: [] };
  const { faults } = found;
  const lines = new Map(); // stream, gateway and, for volatile blocks, epoch -> seq -> block
  const report = [];
  const ring = new KeyRing(trust);
  const badStatements = new Set();
  let repeats = 0;
  for (const { name, bytes } of inputs) {
    try {
      const block = openBlock(bytes, ring.trust);
      const { gateway, stream, seq, epoch, flags } = block.header;
      const here = { name, seq, digest: block.digest };
      report.push(here);
      const key = JSON.stringify([stream, gateway, isVolatile(flags) ? hex(epoch) : null]);
      if (!lines.has(key)) lines.set(key, new Map());
      const known = lines.get(key).get(seq);
      if (known && known.digest !== block.digest) {
        faults.push(["fork", seq]);
        continue;
      }
      const raw = checkPayload(block, here, faults);
      if (raw && !learned(ring, block.header, raw)) badStatements.add(JSON.stringify([gateway, stream, seq]));
      if (!known) lines.get(key).set(seq, { ...block, raw, evicted: block.payload === null, report: here });
      else if (raw || block.payload === null) {
        repeats += 1;
        known.raw ??= raw;
        known.evicted &&= block.payload === null;
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      report.push({ name, refused: error.message });
      faults.push([error.reason, 0]);
    }
  }
  for (const name of badStatements) faults.push(["key-statement", JSON.parse(name)[2]]);
  const known = { layouts: new Map(), catalogues: new Map() };
  const contents = [];
  const counted = [];
  let undecoded = 0;
  for (const { main, branches } of chainsOf(lines)) {
    joinBranches(main, branches, found);
    const blocks = [...main.values()].sort((a, b) => a.header.seq - b.header.seq);
    counted.push(...blocks);
    checkLinks(blocks, accountsOf(blocks), found);
    for (const { header } of blocks) if (ring.isRetired(header)) faults.push(["retired-key", header.seq]);
    blocks.forEach((block, i) => {
      if (!block.raw) return;
      try {
        const content = block.header.kind <= 2 ? readContent(block, blocks[i - 1], known) : null;
        if (!content) undecoded += 1;
        else if (values) block.report.payload = content;
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        block.report.refused = error.message;
        contents.push([error.reason, block.header.seq]);
      }
    });
  }
  const verdict = counted.length === 0 ? "unreadable" : faults.length + found.gaps.length ? "unexplained" : "complete";
  const readings = Number(counted.reduce((sum, { header }) => sum + BigInt(header.readings), 0n));
  const evicted = counted.filter((block) => block.evicted).length;
  return { verdict, proven: counted.length, readings, evicted, repeats, ...found, undecoded, contents, blocks: report };
}

const isVolatile = (flags) => (BigInt(flags) & 1n) === 1n;

// One chain for each stream and label; a label whose first block names the last one of another label goes on with its chain.
function chainsOf(lines) {
  const chains = [];
  for (const [key, line] of lines) {
    const [stream, gateway, epoch] = JSON.parse(key);
    let chain = chains.find((other) => other.stream === stream && other.gateway === gateway);
    if (!chain) chains.push((chain = { stream, gateway, main: new Map(), branches: new Map() }));
    if (epoch === null) chain.main = line;
    else chain.branches.set(epoch, line);
  }
  return chains.filter((chain) => {
    const first = [...chain.main.values()].sort((a, b) => a.header.seq - b.header.seq)[0];
    const earlier = first?.header.prev && chains.find((other) => other !== chain && other.stream === chain.stream
      && [...other.main.values()].some(({ digest }) => digest === hex(first.header.prev)));
    if (!earlier) return true;
    for (const [seq, block] of chain.main) earlier.main.set(seq, block);
    for (const [epoch, branch] of chain.branches) earlier.branches.set(epoch, branch);
    return false;
  });
}

// Volatile branches: those that the chain goes on from are part of it, as is one that shares no number with it; the rest is abandoned.
function joinBranches(main, branches, { faults, abandoned }) {
  const named = new Set([...main.values()].map(({ header }) => header.prev && hex(header.prev)));
  const place = (branch) => [Math.min(...branch.keys()), -Math.max(...branch.keys())];
  const order = [...branches.values()].sort((a, b) => place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1]);
  const confirmed = order.filter((branch) => [...branch.values()].some(({ digest }) => named.has(digest)));
  for (const branch of [...confirmed, ...order.filter((other) => !confirmed.includes(other))]) {
    const overlaps = [...branch.keys()].some((seq) => main.has(seq));
    if (overlaps && !confirmed.includes(branch)) {
      abandoned.push([Math.min(...branch.keys()), Math.max(...branch.keys())]);
      continue;
    }
    if (overlaps) faults.push(["fork", Math.min(...branch.keys())]);
    for (const [seq, block] of branch) if (!main.has(seq)) main.set(seq, block);
  }
}

// What events of account say: for a seq the reason why its block is gone, or its payload; and the ends of prunings.
function accountsOf(blocks) {
  const told = [];
  const ends = new Map();
  for (const { header, raw } of blocks) {
    if (header.kind === 0 || !raw) continue;
    for (const [type, , , data] of eventsOf(header, raw)) {
      const { first, last, reason, digest } = Object.fromEntries(data.map(([key, value]) => [key, value]));
      if (!within(first, 1, Number(header.seq) - 1) || !within(last, Number(first), header.seq - 1)) continue;
      const why = type === "evicted" ? reason : type;
      if (["damaged", "lost", "pruned"].includes(type) || (type === "evicted" && isText(reason))) told.push({ type, why, first, last });
      if (type === "pruned" && isBytes(digest)) ends.set(Number(last), hex(digest));
    }
  }
  const covers = (type, seq) => told.filter((one) => one.type === type && one.first <= seq && seq <= one.last);
  return {
    ends,
    isDamaged: (seq) => covers("damaged", seq).length > 0,
    ofMissing: (seq) => ["damaged", "lost", "pruned"].find((type) => covers(type, seq).length > 0) ?? null,
    ofEvicted: (seq) => (covers("damaged", seq).length ? "damaged" : (covers("evicted", seq)[0]?.why ?? "unstated")),
  };
}

function eventsOf(header, raw) {
  try {
    return readPayload(decompressed(header, raw)).events;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return [];
  }
}

// What cannot be read teaches nothing, and is told in `contents`.
function learned(ring, header, raw) {
  try {
    return (header.kind !== 1 && header.kind !== 2) || ring.learn(header, decompressed(header, raw));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return true;
  }
}

// The payload as stored, if it is the signed one; null where it is not, or was evicted.
function checkPayload({ header, payload }, report, faults) {
  try {
    return payload && checkStored(header, payload);
  } catch (error) {
    report.refused = error.message;
    faults.push([error.reason, header.seq]);
    return null;
  }
}

function checkLinks(blocks, accounts, { faults, gaps, holes }) {
  let before = null;
  for (const { header, digest, evicted } of blocks) {
    const { seq, prev } = header;
    const sealed = BigInt(header.totals[0]) - BigInt(header.readings); // before this block
    const next = before ? before.header.seq + 1 : 1;
    if ((prev === null) !== (seq === 1)) faults.push(["misnumbered", seq]);
    if (seq > next) {
      const spans = divide(next, seq - 1, accounts.ofMissing);
      const readings = spans.length === 1 ? sealed - BigInt(before?.header.totals[0] ?? 0) : null;
      for (const [first, last, why] of spans) why ? holes.push([first, last, why]) : gaps.push([first, last, readings]);
    } else if (seq === 1 && sealed !== 0n) faults.push(["misnumbered", seq]);
    else if (seq > 1 && (prev === null || hex(prev) !== before.digest)) faults.push(["broken-link", seq]);
    else if (seq > 1) {
      const [total, missed, dropped] = before.header.totals;
      const shrinks = header.totals[1] < missed || header.totals[2] < dropped;
      if (sealed !== BigInt(total) || shrinks) faults.push(["totals", seq]);
    }
    const end = seq > next && accounts.ends.get(seq - 1);
    if (end && (prev === null || end !== hex(prev))) faults.push(["broken-link", seq]);
    if (evicted && header.kind > 0 && !accounts.isDamaged(seq)) faults.push(["withheld", seq]);
    before = { header, digest };
  }
  const gone = blocks.filter(({ header, evicted }) => evicted && header.kind === 0).map(({ header }) => Number(header.seq));
  gone.forEach((seq, i) => {
    const why = accounts.ofEvicted(seq);
    const last = i > 0 && gone[i - 1] === seq - 1 ? holes.at(-1) : null;
    if (last && last[2] === why) last[1] = seq;
    else holes.push([seq, seq, why]);
  });
}

// Consecutive numbers with one answer each.
function divide(first, last, answer) {
  const spans = [];
  for (let seq = first; seq <= last; seq++) {
    const why = answer(seq);
    if (spans.length && spans.at(-1)[2] === why) spans.at(-1)[1] = seq;
    else spans.push([seq, seq, why]);
  }
  return spans;
}

// What a proven block holds; null where its catalogue is not known here.
function readContent({ header, raw }, before, known) {
  const payload = readPayload(decompressed(header, raw));
  checkStart(header, payload.events, before?.header);
  if (payload.definitions) define(payload.definitions, known);
  const layouts = known.catalogues.get(hex(header.catalogue));
  if (!layouts) return null;
  const readings = decodeReadings(payload, layouts);
  checkHeader(header, payload, readings, layouts);
  return { ...readings, events: payload.events, definitions: payload.definitions };
}

// The first block of an epoch says what it follows.
function checkStart({ seq, epoch, prev }, events, before) {
  const opens = seq === 1 || (before?.seq === seq - 1 && hex(before.epoch) !== hex(epoch));
  const start = events.find(([type]) => type === "start");
  const predecessor = start?.[3].find(([key]) => key === "predecessor")?.[1];
  const agrees = prev === null ? predecessor === null : isBytes(predecessor) && hex(predecessor) === hex(prev);
  need(!opens || agrees, "start");
}

function define({ layouts, catalogue }, known) {
  for (const bytes of layouts) known.layouts.set(hex(sha256(bytes)), readLayout(bytes));
  if (catalogue.length === 0) return;
  const list = readCatalogue(catalogue).map((id) => known.layouts.get(id));
  need(list.every(Boolean), "catalogue", "a layout that was not defined");
  known.catalogues.set(hex(sha256(catalogue)), list);
}

// ---- The command

// Values as the vectors write them: what JSON cannot hold becomes text, {"bytes"} or {"float64"}.
export function plain(item) {
  if (typeof item === "bigint" || typeof item === "number") {
    return item >= Number.MIN_SAFE_INTEGER && item <= Number.MAX_SAFE_INTEGER ? Number(item) : String(item);
  }
  if (isBytes(item)) return { bytes: hex(item) };
  if (item instanceof Float) return { float64: item.bits.toString(16).padStart(16, "0") };
  if (Array.isArray(item)) return item.map(plain);
  if (item !== null && typeof item === "object") {
    return Object.fromEntries(Object.entries(item).map(([key, value]) => [key, plain(value)]));
  }
  return item;
}

function verifyEntry(entry, folder, trust, options) {
  if (entry.block !== undefined) {
    try {
      const layouts = (entry.layouts ?? []).map((text) => Buffer.from(text, "hex"));
      const { header, content } = verifyBlock(Buffer.from(entry.block, "hex"), layouts, trust);
      return { name: entry.name, reason: content ? null : "evicted", header: plain(header), payload: plain(content) };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return { name: entry.name, reason: error.reason, detail: error.message };
    }
  }
  const files = (entry.files ?? []).map((file) => ({ name: file, bytes: readFileSync(join(folder, file)) }));
  const blocks = (entry.blocks ?? []).map((text, i) => ({ name: String(i), bytes: Buffer.from(text, "hex") }));
  return { name: entry.name, ...plain(verifyChain([...files, ...blocks], trust, options)) };
}

function main(argv) {
  const sources = [];
  const files = [];
  const options = { values: false };
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === "--trust") sources.push(argv[++i]);
    else if (argv[i] === "--values") options.values = true;
    else files.push(argv[i]);
  }
  if (sources.length === 0 || files.length === 0) {
    console.error("node verify.mjs --trust KEY.pem|HEX [--values] FILE...");
    return 2;
  }
  const trust = trustedKeys(sources);
  const entries = files.filter((file) => file.endsWith(".json")).flatMap((file) =>
    JSON.parse(readFileSync(file, "utf8")).map((entry) => verifyEntry(entry, dirname(file), trust, options)));
  const blocks = files.filter((file) => !file.endsWith(".json")).map((file) => ({ name: file, bytes: readFileSync(file) }));
  const chain = blocks.length ? [plain(verifyChain(blocks, trust, options))] : [];
  console.log(JSON.stringify(entries.length ? [...entries, ...chain] : chain[0] ?? []));
  return [...entries, ...chain].every((report) => report.verdict === "complete" && !report.contents.length) ? 0 : 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = main(process.argv.slice(2));
