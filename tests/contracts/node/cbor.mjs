// CBOR (RFC 8949) as section 1 of FORMAT.md reads it; with `only`, nothing but the deterministic encoding.
// Integers: Number where safe, else BigInt. Maps: Map. Byte strings: Uint8Array. Floats: Float, so that 1.0 is not 1.

const MAX_DEPTH = 16;

export class Float {
  constructor(bits) {
    this.bits = bits; // of the same value as float64: a BigInt
  }
}

export class Tagged {
  constructor(tag, item) {
    this.tag = tag;
    this.item = item;
  }
}

// The bits of a float of 2, 4 or 8 bytes as those of a float64; NaN keeps its payload.
export function widen(bits, size) {
  if (size === 8) return bits;
  const [exponentBits, fractionBits, bias] = size === 2 ? [5n, 10n, 15n] : [8n, 23n, 127n];
  const sign = bits >> (exponentBits + fractionBits);
  let exponent = (bits >> fractionBits) & ((1n << exponentBits) - 1n);
  let fraction = bits & ((1n << fractionBits) - 1n);
  if (exponent === (1n << exponentBits) - 1n) exponent = 2047n;
  else if (exponent !== 0n) exponent += 1023n - bias;
  else if (fraction !== 0n) {
    exponent = 1024n - bias;
    while (fraction >> fractionBits === 0n) {
      fraction <<= 1n;
      exponent -= 1n;
    }
    fraction &= (1n << fractionBits) - 1n;
  }
  return (sign << 63n) | (exponent << 52n) | (fraction << (52n - fractionBits));
}

// Whether a narrower float holds the same value: then the wider one was not the shortest.
function narrower(bits64, size) {
  const fractionBits = size === 2 ? 10n : 23n;
  const [least, most, bias] = size === 2 ? [-24, 15, -14] : [-149, 127, -126];
  const fraction = bits64 & ((1n << 52n) - 1n);
  const exponent = Number((bits64 >> 52n) & 2047n);
  if (exponent === 2047) return (fraction & ((1n << (52n - fractionBits)) - 1n)) === 0n;
  if (exponent === 0) return fraction === 0n;
  const power = exponent - 1023;
  if (power > most || power < least) return false;
  const lost = 52n - fractionBits + BigInt(Math.max(0, bias - power));
  return (fraction & ((1n << lost) - 1n)) === 0n;
}

export function decode(bytes, { tags = false, only = false } = {}) {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let at = 0;
  const fail = (what) => {
    throw new Error(`cbor: ${what}`);
  };
  const take = (n) => {
    if (n > buffer.length - at) fail("cut off");
    return buffer.subarray(at, (at += n));
  };
  const argument = (info) => {
    if (info < 24) return info;
    if (info > 27) fail("an indefinite length");
    const size = 1 << (info - 24);
    const value = size === 8 ? take(8).readBigUInt64BE() : take(size).readUIntBE(0, size);
    if (only && value < [24, 256, 65536, 4294967296][info - 24]) fail("a head longer than needed");
    return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  };
  const item = (nesting) => {
    const [head] = take(1);
    const major = head >> 5;
    const info = head & 31;
    if (major === 7) {
      if (info >= 20 && info <= 22) return [false, true, null][info - 20];
      if (info < 25 || info > 27) fail("a simple value");
      const size = 1 << (info - 24);
      const raw = take(size);
      const bits = widen(BigInt(`0x${raw.toString("hex")}`), size);
      if (only && ((size > 2 && narrower(bits, 2)) || (size > 4 && narrower(bits, 4)))) fail("a float longer than needed");
      return new Float(bits);
    }
    const n = argument(info);
    if (major === 0) return n;
    if (major === 1) return typeof n === "number" ? -1 - n : -1n - n;
    if (major === 2) return new Uint8Array(take(n));
    if (major === 3) return text.decode(take(n));
    if (nesting >= MAX_DEPTH) fail("nested too deep");
    if (major === 6) {
      if (!tags) fail("a tag");
      return new Tagged(n, item(nesting + 1));
    }
    if (n > buffer.length - at) fail("cut off");
    if (major === 4) return Array.from({ length: n }, () => item(nesting + 1));
    const map = new Map();
    let before = null;
    for (let i = 0; i < n; i++) {
      const start = at;
      const key = item(nesting + 1);
      const encoded = buffer.subarray(start, at);
      if (typeof key === "object") fail("a key that is neither integer nor text");
      if (only && before && Buffer.compare(before, encoded) >= 0) fail("keys out of order");
      if (map.has(key)) fail("a key repeated");
      before = encoded;
      map.set(key, item(nesting + 1));
    }
    return map;
  };
  const value = item(0);
  if (at !== buffer.length) fail("bytes behind the item");
  return value;
}

// Only what the verifier must encode itself: small integers, byte strings, text, arrays of such.
export function encode(value) {
  const head = (major, n) => {
    if (n < 24) return Buffer.from([(major << 5) | n]);
    const size = n < 256 ? 1 : n < 65536 ? 2 : 4;
    const out = Buffer.alloc(1 + size);
    out[0] = (major << 5) | (23 + { 1: 1, 2: 2, 4: 3 }[size]);
    out.writeUIntBE(n, 1, size);
    return out;
  };
  if (typeof value === "number") return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === "string") return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (value instanceof Uint8Array) return Buffer.concat([head(2, value.length), value]);
  if (value instanceof Map) {
    const pairs = [...value].map(([k, v]) => [encode(k), encode(v)]);
    pairs.sort(([a], [b]) => Buffer.compare(a, b));
    return Buffer.concat([head(5, pairs.length), ...pairs.flat()]);
  }
  return Buffer.concat([head(4, value.length), ...value.map(encode)]);
}
