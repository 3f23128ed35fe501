// An independent verifier and decoder of Trambien blocks, written from buffer/FORMAT.md alone; nothing but Node.js 20.
//
//   node verify.mjs --trust KEY.pem|HEX [--trust ...] [--values] [--time] FILE...
//
// FILE is a block (*.block: all such files together are one chain) or JSON: an array of {"block", "layouts"} (one block each) or
// of {"blocks"} (a chain each), in hex, or of {"files"} (a chain each, paths beside the JSON). Prints one JSON report:
// of the chain, or an array of one for each entry. --values writes what the payloads of chains hold, too;
// --time places their frames in UTC.
// Exit: 0 where every chain is complete, else 1.

import { createHash, createPublicKey, verify as verifySignature } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { Float, Tagged, decode, encode, widen } from "./cbor.mjs";
import { bootsOf, placed } from "./time.mjs";
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

// Both signatures have to be good, by the keys that the statement itself names: whether the old one is trusted comes after.
function readStatement(entry) {
  need(Array.isArray(entry) && isBytes(entry[0]) && isBytes(entry[1]), "key-statement", "not two COSE_Sign1");
  const named = namedKeys(entry[0]);
  const [byOld, byNew] = [named.from, named.to].map((x, i) => {
    const kid = thumbprint(x);
    return openSign1(entry[i], new Map([[kid, publicKey(x)]]), "trambien-key");
  });
  need(Buffer.compare(byOld.content, byNew.content) === 0, "key-statement", "two contents");
  return { from: byOld.kid, to: byNew.kid, key: publicKey(named.to) };
}

// What is signed, before anybody asks whether it is: the keys in it are those that must have signed.
function namedKeys(envelope) {
  need(envelope.length <= MAX_ENVELOPE, "envelope-size");
  const sign1 = cbor(envelope, "not-sign1", { tags: true, only: true });
  need(sign1 instanceof Tagged && isArray(sign1.item, 4) && isBytes(sign1.item[2]), "not-sign1");
  const map = integerMap(cbor(sign1.item[2], "key-statement"), "key-statement");
  const [gateway, from, to, count] = [0, 1, 2, 3].map((key) => map.get(key));
  need(isText(gateway, MAX_NAME) && isBytes(from, 32) && isBytes(to, 32), "key-statement");
  need(within(count, 1, 2n ** 63n - 1n) && Buffer.compare(from, to) !== 0, "key-statement");
  return { from, to };
}

// The entries that should be statements, in the order in which they are told.
function statementsIn(events) {
  return events.flatMap(([type, , , data]) => {
    const fields = new Map(data);
    if (type === "key-rotated") return [fields.get("statement")];
    if (type !== "start" || !fields.has("keys")) return [];
    const keys = fields.get("keys");
    return Array.isArray(keys) ? keys : [keys];
  });
}

// The keys trusted by now, and what statements made of them.
class KeyRing {
  constructor(trust) {
    this.keys = new Map(trust);
    this.successors = new Map();
    this.retired = new Map(); // stream and kid: the first seq at which it was
  }

  // Learn from the events of a block. False where an entry is no statement, or names a second successor.
  learn({ stream, seq }, events) {
    let good = true;
    for (const entry of statementsIn(events)) {
      let statement;
      try {
        statement = readStatement(entry);
      } catch (error) {
        if (!(error instanceof Refused) && !error.code?.startsWith("ERR_")) throw error;
        good = false; // what the library takes for no key is none
        continue;
      }
      if (!this.keys.has(statement.from)) continue;
      if ((this.successors.get(statement.from) ?? statement.to) !== statement.to) {
        good = false;
        continue;
      }
      this.successors.set(statement.from, statement.to);
      if (!this.keys.has(statement.to)) this.keys.set(statement.to, statement.key);
      const name = JSON.stringify([stream, statement.from]);
      this.retired.set(name, Math.min(seq, this.retired.get(name) ?? seq));
    }
    return good;
  }

  isRetired({ kid, header }) {
    return header.seq > (this.retired.get(JSON.stringify([header.stream, kid])) ?? Infinity);
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

// Takes the blocks as they come; what can be told whatever their order is judged when all have come.
class Intake {
  constructor(trust) {
    this.ring = new KeyRing(trust);
    this.lines = new Map(); // by gateway and stream
    this.blocks = []; // proven, each once
    this.entries = [];
    this.faults = [];
    this.repeats = 0;
  }

  take({ name, bytes }) {
    const entry = { name };
    this.entries.push(entry);
    let block;
    try {
      block = openBlock(bytes, this.ring.keys);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.fault(entry, error.reason, 0);
      return;
    }
    Object.assign(entry, { digest: block.digest, stream: block.header.stream, seq: block.header.seq });
    const cell = this.cell(block.header);
    const known = cell.get(block.header.seq);
    if (known === undefined) this.takeNew(block, cell, entry);
    else if (known.digest === block.digest) this.takeAgain(known, block.payload, entry);
    else this.fault(entry, "fork", block.header.seq);
  }

  // Blocks of one label and stream that cannot share a seq: all that were written, or the volatile ones of one epoch.
  cell({ gateway, stream, flags, epoch }) {
    const name = JSON.stringify([gateway, stream]);
    if (!this.lines.has(name)) this.lines.set(name, { stream, written: new Map(), volatile: new Map() });
    const line = this.lines.get(name);
    if (!isVolatile(flags)) return line.written;
    if (!line.volatile.has(hex(epoch))) line.volatile.set(hex(epoch), new Map());
    return line.volatile.get(hex(epoch));
  }

  takeNew(found, cell, entry) {
    const { header } = found;
    const block = { ...found, header, seq: header.seq, prev: header.prev && hex(header.prev), entry, arrival: this.blocks.length };
    block.line = this.lines.get(JSON.stringify([header.gateway, header.stream]));
    Object.assign(block, { stored: null, wrong: false, raw: null, events: null });
    cell.set(header.seq, block);
    this.blocks.push(block);
    const reason = found.payload === null ? null : this.fill(block, found.payload);
    if (reason !== null) {
      block.wrong = true;
      this.fault(entry, reason, header.seq);
    }
  }

  takeAgain(block, payload, entry) {
    const reason = payload === null ? null : this.fill(block, payload);
    if (reason === null) this.repeats += 1;
    else this.fault(entry, reason, block.seq);
  }

  // Gives the reason why it is not the signed payload, else null. What it says of keys is learnt when it comes first.
  fill(block, payload) {
    try {
      checkStored(block.header, payload);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return error.reason;
    }
    if (block.stored !== null) return null;
    block.stored = payload;
    if (isWhole(block.header.kind)) {
      this.read(block);
      if (!this.ring.learn(block.header, block.events ?? [])) this.fault(block.entry, "key-statement", block.seq);
    }
    return null;
  }

  read(block) {
    try {
      block.raw = decompressed(block.header, block.stored);
      block.events = eventsIn(block.raw);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }

  fault(entry, reason, seq) {
    entry.reason ??= reason;
    this.faults.push([reason, seq]);
  }
}

const isVolatile = (flags) => (BigInt(flags) & 1n) === 1n;
const isWhole = (kind) => kind === 1 || kind === 2;
const bySeq = (a, b) => a.seq - b.seq;

// As far as the verdict needs a payload: nothing but its events.
function eventsIn(raw) {
  const map = integerMap(cbor(raw, "payload"), "payload");
  return map.has(3) ? readEvents(map.get(3)) : [];
}

// The verdict is that of section 4. What else is wrong inside a proven payload is in `contents`.
export function verifyChain(inputs, trust, { values = false, time = false } = {}) {
  const intake = new Intake(trust);
  for (const input of inputs) intake.take(input);
  const found = { faults: intake.faults, gaps: [], holes: [], abandoned: [], renamed: [], contents: [] };
  const counts = { proven: 0, readings: 0n, evicted: 0, repeats: intake.repeats, undecoded: 0 };
  const times = [];
  for (const lines of joined(intake, found)) {
    const chain = settle(lines, found);
    const accounts = accountsOf(chain);
    for (const block of chain) {
      checkWithheld(block, accounts, found);
      if (intake.ring.isRetired(block)) found.faults.push(["retired-key", block.seq]);
      counts.proven += 1;
      counts.readings += BigInt(block.header.readings);
      counts.evicted += Number(isGone(block));
    }
    judgeLinks(chain, accounts, found);
    judgeHoles(chain, accounts, found);
    counts.undecoded += readContents(chain, found, values || time);
    if (time) times.push(...placeFrames(chain));
  }
  const intact = found.faults.length === 0 && found.gaps.length === 0;
  const verdict = counts.proven === 0 ? "unreadable" : intact ? "complete" : "unexplained";
  const blocks = reports(intake, values);
  return { verdict, ...counts, ...found, blocks, ...(time ? { times } : {}) };
}

function reports(intake, values) {
  for (const { entry, content } of intake.blocks) if (values && content) entry.payload = content;
  return intake.entries;
}

const isGone = (block) => block.stored === null && !block.wrong;

function checkWithheld(block, accounts, { faults }) {
  const gone = isGone(block) && isWhole(block.header.kind);
  if (gone && !covering(accounts, "damaged", block.seq)) faults.push(["withheld", block.seq]);
}

// ---- Labels that go on with the chain of another

// The lines of each chain: a block that names the last one known under another label joins the two.
function joined({ lines, blocks }, { renamed }) {
  const byDigest = new Map(blocks.map((block) => [block.digest, block]));
  const root = new Map([...lines.values()].map((line) => [line, line]));
  const rootOf = (line) => (root.get(line) === line ? line : rootOf(root.get(line)));
  for (const block of blocks) {
    const before = byDigest.get(block.prev);
    if (!before || before.line === block.line || before.line.stream !== block.line.stream) continue;
    if (before.line.written.has(before.seq + 1) && !isVolatile(block.header.flags)) continue;
    root.set(rootOf(block.line), rootOf(before.line));
    renamed.push([block.seq, before.header.gateway, block.header.gateway]);
  }
  const chains = new Map();
  for (const line of lines.values()) chains.set(rootOf(line), [...(chains.get(rootOf(line)) ?? []), line]);
  return chains.values();
}

// ---- Volatile branches

// One block for each seq, in order; the branches that are abandoned are told.
function settle(lines, found) {
  const written = merged(lines.map((line) => line.written), found);
  const epochs = new Map();
  for (const line of lines) for (const [epoch, cell] of line.volatile) epochs.set(epoch, [...(epochs.get(epoch) ?? []), cell]);
  let branches = [...epochs.values()].map((cells) => [...merged(cells, found).values()].sort(bySeq));
  const chain = new Map(written);
  const abandon = (branch) => {
    if (branch.length) found.abandoned.push([branch[0].seq, branch[branch.length - 1].seq]);
  };
  const adopt = (branch) => {
    abandon(branch.filter((block) => chain.has(block.seq)));
    for (const block of branch) if (!chain.has(block.seq)) chain.set(block.seq, block);
  };

  // What the chain goes on from belongs to it, and then what that goes on from.
  for (let changed = true; changed; ) {
    changed = false;
    const named = new Set([...chain.values()].map((block) => block.prev));
    branches = branches.map((branch) => {
      const count = branch.findLastIndex((block) => named.has(block.digest)) + 1;
      if (count === 0) return branch;
      changed = true;
      adopt(branch.slice(0, count));
      return branch.slice(count);
    });
  }
  const shares = (branch) => branch.some((block) => chain.has(block.seq));
  branches.filter(shares).forEach(abandon);
  const open = branches.filter((branch) => branch.length && !shares(branch));
  open.sort((a, b) => bySeq(a[0], b[0]) || b.length - a.length || a[0].arrival - b[0].arrival);
  for (const branch of open) {
    if (shares(branch)) abandon(branch);
    else adopt(branch);
  }
  return [...chain.values()].sort(bySeq);
}

// Blocks under several labels of one chain: of two with one seq the one that came first is its block.
function merged(cells, { faults }) {
  const all = cells.flatMap((cell) => [...cell.values()]).sort((a, b) => a.arrival - b.arrival);
  const chosen = new Map();
  for (const block of all) {
    if (chosen.has(block.seq)) faults.push(["fork", block.seq]);
    else chosen.set(block.seq, block);
  }
  return chosen;
}

// ---- Links, totals, gaps and holes

function judgeLinks(chain, accounts, found) {
  const seqs = new Map(chain.map(({ seq, digest }) => [digest, seq]));
  let before = null;
  for (const block of chain) {
    judgeNumber(block, seqs, found);
    const next = before !== null && before.seq + 1 === block.seq;
    const linked = !next || block.prev === before.digest;
    const sewn = next || accounts.every(({ type, last, digest }) => type !== "pruned" || digest === null || last + 1 !== block.seq || digest === block.prev);
    if (!linked || !sewn) found.faults.push(["broken-link", block.seq]);
    if (before !== null && linked) judgeTotals(before, block, next, found);
    if (!next) judgeMissing(before, block, accounts, found);
    before = block;
  }
}

function judgeNumber({ seq, prev, header }, seqs, { faults }) {
  const first = seq === 1;
  const follows = (seqs.get(prev) ?? seq - 1) === seq - 1;
  const begins = !first || BigInt(header.totals[0]) === BigInt(header.readings);
  if ((prev === null) !== first || !begins || !follows) faults.push(["misnumbered", seq]);
}

function judgeTotals(before, block, next, { faults }) {
  const [a, b] = [before, block].map(({ header }) => header.totals.map(BigInt));
  const between = b[0] - BigInt(block.header.readings) - a[0];
  const good = (next ? between === 0n : between >= 0n) && b[1] >= a[1] && b[2] >= a[2];
  if (!good) faults.push(["totals", block.seq]);
}

// The seqs between two neighbours, or before the first.
function judgeMissing(before, block, accounts, { gaps, holes }) {
  const [first, last] = [before === null ? 1 : before.seq + 1, block.seq - 1];
  if (first > last) return;
  const parts = divided(first, last, accounts, (seq) => reasonOfGap(seq, accounts));
  const whole = parts.length === 1;
  const readings = BigInt(block.header.totals[0]) - BigInt(block.header.readings) - BigInt(before?.header.totals[0] ?? 0);
  for (const [from, to, reason] of parts) {
    if (reason === null) gaps.push([from, to, whole ? readings : null]);
    else holes.push([from, to, reason]);
  }
}

const covering = (accounts, type, seq) => accounts.find((a) => a.type === type && a.first <= seq && seq <= a.last);
const reasonOfGap = (seq, accounts) => ["damaged", "lost", "pruned"].find((type) => covering(accounts, type, seq)) ?? null;

// Runs of seqs with one answer each. The answer can only change where an account begins or behind one that ends.
function divided(first, last, accounts, answer) {
  const starts = new Set([first]);
  for (const account of accounts) for (const seq of [account.first, account.last + 1]) if (seq > first && seq <= last) starts.add(seq);
  const sorted = [...starts].sort((a, b) => a - b);
  return sorted.reduce((parts, seq, i) => {
    const end = i + 1 < sorted.length ? sorted[i + 1] - 1 : last;
    return appended(parts, seq, end, answer(seq));
  }, []);
}

function appended(parts, first, last, answer) {
  const before = parts[parts.length - 1];
  if (before && before[1] + 1 === first && before[2] === answer) before[1] = last;
  else parts.push([first, last, answer]);
  return parts;
}

// Payloads that are gone.
function judgeHoles(chain, accounts, { holes }) {
  const gone = [];
  for (const block of chain) {
    if (!isGone(block) || block.header.kind !== 0) continue;
    const told = accounts.filter((a) => a.type === "evicted" && a.first <= block.seq && block.seq <= a.last);
    const reasons = told.map(({ reason }) => reason).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const reason = covering(accounts, "damaged", block.seq) ? "damaged" : reasons[0] ?? "unstated";
    appended(gone, block.seq, block.seq, reason);
  }
  holes.push(...gone);
}

// What the chain itself says of blocks and payloads that are gone. Only a later block can tell.
function accountsOf(chain) {
  return chain.flatMap(({ seq, events }) => (events ?? []).map(readAccount).filter((account) => account && account.last < seq));
}

const ACCOUNTS = ["evicted", "damaged", "lost", "pruned"];

function readAccount([type, , , data]) {
  if (!ACCOUNTS.includes(type)) return null;
  const { first, last, reason, digest } = Object.fromEntries(data);
  if (!within(first, 1, 2 ** 40 - 1) || !within(last, first, 2 ** 40 - 1)) return null;
  if (type === "evicted" && !isText(reason)) return null;
  return { type, first, last, reason, digest: type === "pruned" && isBytes(digest) ? hex(digest) : null };
}

// ---- What is in the payloads: beside the verdict

// Gives how many could not be decoded since definitions are not here.
function readContents(chain, { contents }, keep) {
  const layouts = new Map();
  const catalogues = new Map();
  let undecoded = 0;
  let shown = true; // every definition up to here could be read
  let before = null;
  for (const block of chain) {
    shown &&= before === null ? block.seq === 1 : before.seq + 1 === block.seq;
    try {
      const content = readContent(block, before, { layouts, catalogues, shown });
      if (content === null) undecoded += Number(block.stored !== null);
      else if (keep) block.content = content;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      contents.push([error.reason, block.seq]);
    }
    if (block.header.kind === 1 && block.stored === null) shown = false;
    before = block;
  }
  return undecoded;
}

// What a block holds; null where it, or its catalogue, is not here.
function readContent(block, before, { layouts, catalogues, shown }) {
  const { header, stored } = block;
  if (stored === null || header.kind > 2) return null;
  const payload = readPayload(decompressed(header, stored));
  checkStart(block, before, payload.events);
  if (payload.definitions !== null) define(header, payload.definitions, layouts, catalogues);
  const name = hex(header.catalogue);
  const needed = payload.frames !== undefined || payload.changes !== undefined;
  if (needed && !catalogues.has(name)) {
    need(!shown, "catalogue", "not defined before");
    return null;
  }
  const known = needed ? catalogues.get(name) : [];
  const readings = decodeReadings(payload, known);
  checkHeader(header, payload, readings, known);
  return { ...readings, events: payload.events, definitions: payload.definitions };
}

// The first block of an epoch says what it follows.
function checkStart({ seq, prev, header }, before, events) {
  const begins = seq === 1 || (before?.seq === seq - 1 && hex(before.header.epoch) !== hex(header.epoch));
  if (!begins) return;
  const start = events.find(([type]) => type === "start");
  need(start !== undefined, "start", "an epoch without");
  const predecessor = new Map(start[3]).get("predecessor");
  need(predecessor === null ? prev === null : isBytes(predecessor, 32) && hex(predecessor) === prev, "start", "another predecessor");
}

function define(header, definitions, layouts, catalogues) {
  for (const bytes of definitions.layouts) layouts.set(hex(sha256(bytes)), bytes);
  if (definitions.catalogue.length === 0) return;
  need(sha256(definitions.catalogue).equals(header.catalogue), "catalogue", "not the one that the block names");
  const ids = readCatalogue(definitions.catalogue);
  need(ids.every((id) => layouts.has(id)), "catalogue", "a layout that was not defined");
  catalogues.set(hex(header.catalogue), ids.map((id) => readLayout(layouts.get(id))));
}

// ---- Time (section 8)

// Every frame of a chain, as [stream, seq, boot id, boot time, UTC, bound, disputed, not before, not after]; null for what is not known.
function placeFrames(chain) {
  const boots = bootsOf(chain.map((block) => ({ header: block.header, events: block.content?.events ?? block.events })));
  return chain.flatMap(({ seq, header, content }) =>
    (content?.frames ?? []).flatMap(([, frames]) => frames.map(([t]) => {
      const place = placed(boots, hex(header.boot_id), BigInt(t));
      return [header.stream, seq, hex(header.boot_id), t, place.utc, place.bound, place.disputed, place.earliest, place.latest];
    })));
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
  const options = { values: false, time: false };
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === "--trust") sources.push(argv[++i]);
    else if (argv[i] === "--values") options.values = true;
    else if (argv[i] === "--time") options.time = true;
    else files.push(argv[i]);
  }
  if (sources.length === 0 || files.length === 0) {
    console.error("node verify.mjs --trust KEY.pem|HEX [--values] [--time] FILE...");
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
