// Decompression of one Zstandard frame without dictionary (RFC 8878), written from the RFC.
// The caller says how many bytes must come out: nothing longer is ever allocated.

const highBit = (n) => 31 - Math.clz32(n);
function need(condition, what) {
  if (!condition) throw new Error(`zstd: ${what}`);
}

// Tables of RFC 8878, section 3.1.1.3.2: what a code adds, and how many bits follow it.
const baselines = (bits, first) => {
  let next = first;
  return bits.map((n) => [(next += 1 << n) - (1 << n), n]);
};
const zeros = (n) => new Array(n).fill(0);
const LITERAL_LENGTHS = baselines(
  [...zeros(16), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 0);
const MATCH_LENGTHS = baselines(
  [...zeros(32), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 3);
const LENGTHS_DEFAULT = [6, [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1,
  1, -1, -1, -1, -1]];
const OFFSETS_DEFAULT = [5, [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1]];
const MATCHES_DEFAULT = [6, [1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1]];

// A bit stream read from its end. Bits before its beginning read as 0 and make `left` negative.
class Backward {
  constructor(bytes) {
    need(bytes.length > 0 && bytes[bytes.length - 1] !== 0, "a bit stream without end mark");
    this.bytes = bytes;
    this.left = bytes.length * 8 - 8 + highBit(bytes[bytes.length - 1]);
  }

  read(n) {
    if (n > 16) return this.read(n - 16) * 65536 + this.read(16);
    this.left -= n;
    return this.at(this.left, n);
  }

  peek(n) {
    return this.at(this.left - n, n);
  }

  at(position, n) {
    const byte = position >> 3;
    const three = (this.bytes[byte] ?? 0) | ((this.bytes[byte + 1] ?? 0) << 8) | ((this.bytes[byte + 2] ?? 0) << 16);
    return (three >>> (position & 7)) & ((1 << n) - 1);
  }
}

// A finite state entropy table from its probabilities (-1: "less than one").
function fseTable(log, probabilities) {
  const size = 1 << log;
  const symbols = new Uint8Array(size);
  const next = probabilities.map((p) => Math.abs(p));
  let high = size;
  probabilities.forEach((p, s) => {
    if (p === -1) symbols[--high] = s;
  });
  let position = 0;
  probabilities.forEach((p, s) => {
    for (let i = 0; i < p; i++) {
      symbols[position] = s;
      do position = (position + (size >> 1) + (size >> 3) + 3) & (size - 1);
      while (position >= high);
    }
  });
  need(position === 0, "probabilities");
  const bits = new Uint8Array(size);
  const base = new Uint16Array(size);
  for (let i = 0; i < size; i++) {
    const state = next[symbols[i]]++;
    bits[i] = log - highBit(state);
    base[i] = (state << bits[i]) - size;
  }
  return { log, symbols, bits, base };
}

// An encoded table (section 4.1.1), from `start` on: [table, where it ends].
function readFse(bytes, start, maxLog, maxSymbol) {
  let bit = start * 8;
  const take = (n) => {
    let value = 0;
    for (let i = 0; i < n; i++, bit++) {
      need(bit >> 3 < bytes.length, "a table cut off");
      value |= ((bytes[bit >> 3] >> (bit & 7)) & 1) << i;
    }
    return value;
  };
  const log = take(4) + 5;
  need(log <= maxLog, "accuracy");
  let remaining = 1 << log;
  const probabilities = [];
  while (remaining > 0) {
    need(probabilities.length <= maxSymbol, "symbols");
    const n = highBit(remaining + 1) + 1;
    const low = (1 << (n - 1)) - 1;
    const threshold = (1 << n) - 1 - (remaining + 1);
    let value = take(n - 1);
    if (value >= threshold) {
      value |= take(1) << (n - 1);
      if (value > low) value -= threshold;
    }
    probabilities.push(value - 1);
    remaining -= Math.abs(value - 1);
    if (value === 1) {
      let repeat;
      do {
        repeat = take(2);
        for (let i = 0; i < repeat; i++) probabilities.push(0);
      } while (repeat === 3);
    }
  }
  need(remaining === 0 && probabilities.length <= maxSymbol + 1, "symbols");
  return [fseTable(log, probabilities), (bit + 7) >> 3];
}

// Weights of a Huffman tree (section 4.2.1), from `start` on: [tree, where it ends].
function readHuffman(bytes, start) {
  need(start < bytes.length, "no tree");
  const head = bytes[start];
  const weights = [];
  let end;
  if (head >= 128) {
    end = start + 1 + ((head - 126) >> 1);
    need(end <= bytes.length, "a tree cut off");
    for (let i = 0; i < head - 127; i++) weights.push((bytes[start + 1 + (i >> 1)] >> (i & 1 ? 0 : 4)) & 15);
  } else {
    end = start + 1 + head;
    need(end <= bytes.length, "a tree cut off");
    const [table, at] = readFse(bytes.subarray(0, end), start + 1, 6, 255);
    const stream = new Backward(bytes.subarray(at, end));
    const states = [stream.read(table.log), stream.read(table.log)];
    need(stream.left >= 0, "weights");
    for (let turn = 0; ; turn ^= 1) {
      need(weights.length < 255, "weights");
      const state = states[turn];
      weights.push(table.symbols[state]);
      states[turn] = table.base[state] + stream.read(table.bits[state]);
      if (stream.left < 0) {
        weights.push(table.symbols[states[turn ^ 1]]);
        break;
      }
    }
  }
  const sum = weights.reduce((total, w) => total + (w ? 1 << (w - 1) : 0), 0);
  need(sum > 0 && weights.length < 256, "weights");
  const log = highBit(sum) + 1;
  const rest = (1 << log) - sum;
  need(log <= 11 && (rest & (rest - 1)) === 0, "weights");
  weights.push(highBit(rest) + 1);
  const symbols = new Uint8Array(1 << log);
  const bits = new Uint8Array(1 << log);
  let place = 0;
  for (let weight = 1; weight <= log; weight++) {
    weights.forEach((w, symbol) => {
      if (w !== weight) return;
      symbols.fill(symbol, place, place + (1 << (w - 1)));
      bits.fill(log + 1 - w, place, (place += 1 << (w - 1)));
    });
  }
  return [{ log, symbols, bits }, end];
}

function huffmanStream(tree, bytes, out) {
  const stream = new Backward(bytes);
  for (let i = 0; i < out.length; i++) {
    const code = stream.peek(tree.log);
    out[i] = tree.symbols[code];
    stream.left -= tree.bits[code];
  }
  need(stream.left === 0, "literals");
}

// The literals of a block (section 3.1.1.3.1): [literals, where they end]. `state.tree` outlives the block.
function readLiterals(block, state) {
  need(block.length > 0, "an empty block");
  const kind = block[0] & 3;
  const form = (block[0] >> 2) & 3;
  if (kind < 2) {
    const headSize = [1, 2, 1, 3][form];
    const head = (block[0] | (block[1] << 8) | (block[2] << 16)) & (2 ** (8 * headSize) - 1);
    const size = head >> (headSize === 1 ? 3 : 4);
    const end = headSize + (kind === 1 ? 1 : size);
    need(size <= 131072 && end <= block.length, "literals");
    return [kind === 1 ? new Uint8Array(size).fill(block[headSize]) : block.subarray(headSize, end), end];
  }
  const headSize = [3, 3, 4, 5][form];
  need(block.length >= headSize, "literals");
  const head = block.subarray(0, headSize).reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  const width = 2 ** [10, 10, 14, 18][form];
  const size = Math.floor(head / 16) % width;
  const end = headSize + Math.floor(head / 16 / width);
  need(size <= 131072 && end <= block.length, "literals");
  let at = headSize;
  if (kind === 2) [state.tree, at] = readHuffman(block.subarray(0, end), at);
  need(state.tree, "no tree");
  const literals = new Uint8Array(size);
  if (form === 0) {
    huffmanStream(state.tree, block.subarray(at, end), literals);
    return [literals, end];
  }
  need(end - at >= 6, "literals");
  const part = (size + 3) >> 2;
  let from = at + 6;
  for (let i = 0; i < 4; i++) {
    const to = i < 3 ? from + (block[at + 2 * i] | (block[at + 2 * i + 1] << 8)) : end;
    need(to <= end && (i < 3 || 3 * part <= size), "literals");
    huffmanStream(state.tree, block.subarray(from, to), literals.subarray(part * i, i < 3 ? part * (i + 1) : size));
    from = to;
  }
  return [literals, end];
}

function compressedBlock(block, output, state) {
  const [literals, sequencesAt] = readLiterals(block, state);
  let at = sequencesAt;
  const byte = () => {
    need(at < block.length, "sequences");
    return block[at++];
  };
  let count = byte();
  if (count === 255) count = byte() + (byte() << 8) + 0x7f00;
  else if (count >= 128) count = ((count - 128) << 8) + byte();
  let literal = 0;
  if (count > 0) {
    const modes = byte();
    need((modes & 3) === 0, "modes");
    const kinds = [["lengths", 6, 9, 35, LENGTHS_DEFAULT], ["offsets", 4, 8, 31, OFFSETS_DEFAULT], ["matches", 2, 9, 52,
      MATCHES_DEFAULT]];
    for (const [name, shift, maxLog, maxSymbol, standard] of kinds) {
      const mode = (modes >> shift) & 3;
      if (mode === 0) state[name] = fseTable(...standard);
      else if (mode === 1) {
        const symbol = byte();
        need(symbol <= maxSymbol, "symbols");
        state[name] = { log: 0, symbols: [symbol], bits: [0], base: [0] };
      } else if (mode === 2) [state[name], at] = readFse(block, at, maxLog, maxSymbol);
      else need(state[name], "no table");
    }
    const { lengths, offsets, matches, recent } = state;
    const stream = new Backward(block.subarray(at));
    let [l, o, m] = [stream.read(lengths.log), stream.read(offsets.log), stream.read(matches.log)];
    for (let i = 0; i < count; i++) {
      const code = offsets.symbols[o];
      const value = 2 ** code + stream.read(code);
      const [matchBase, matchBits] = MATCH_LENGTHS[matches.symbols[m]];
      const match = matchBase + stream.read(matchBits);
      const [lengthBase, lengthBits] = LITERAL_LENGTHS[lengths.symbols[l]];
      const length = lengthBase + stream.read(lengthBits);
      if (i < count - 1) {
        l = lengths.base[l] + stream.read(lengths.bits[l]);
        m = matches.base[m] + stream.read(matches.bits[m]);
        o = offsets.base[o] + stream.read(offsets.bits[o]);
      }
      need(stream.left >= 0, "sequences");
      const which = value > 3 ? 3 : value - 1 + (length === 0 ? 1 : 0);
      const offset = value > 3 ? value - 3 : which === 3 ? recent[0] - 1 : recent[which];
      if (which > 0) recent.splice(0, 3, offset, recent[0], recent[which === 1 ? 2 : 1]);
      need(literal + length <= literals.length, "literals");
      output.put(literals.subarray(literal, (literal += length)));
      output.repeat(offset, match);
    }
    need(stream.left === 0, "sequences");
  } else need(at === block.length, "sequences");
  output.put(literals.subarray(literal));
}

class Output {
  constructor(size) {
    this.bytes = new Uint8Array(size);
    this.length = 0;
  }

  room(n) {
    need(this.length + n <= this.bytes.length, "more than was said");
  }

  put(bytes) {
    this.room(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  repeat(offset, n) {
    this.room(n);
    need(offset > 0 && offset <= this.length, "an offset before the beginning");
    for (let i = 0; i < n; i++, this.length++) this.bytes[this.length] = this.bytes[this.length - offset];
  }
}

// Exactly `size` bytes, from exactly one frame; an error otherwise. A checksum is passed over: the caller has hashed `source`.
export function decompress(source, size) {
  const bytes = (at, n) => {
    need(at + n <= source.length, "cut off");
    return source.subarray(at, at + n).reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  };
  need(bytes(0, 4) === 0xfd2fb528, "not a frame");
  const descriptor = bytes(4, 1);
  need((descriptor & 8) === 0, "a reserved bit");
  const single = (descriptor >> 5) & 1;
  const dictionarySize = [0, 1, 2, 4][descriptor & 3];
  const contentSize = [single, 2, 4, 8][descriptor >> 6];
  let at = 5 + (1 - single);
  need(bytes(at, dictionarySize) === 0, "a dictionary");
  at += dictionarySize;
  const content = bytes(at, contentSize) + (contentSize === 2 ? 256 : 0);
  need(contentSize === 0 || content === size, "another length than was said");
  at += contentSize;
  const output = new Output(size);
  const state = { recent: [1, 4, 8] };
  for (let last = 0; !last; ) {
    const head = bytes(at, 3);
    at += 3;
    last = head & 1;
    const kind = (head >> 1) & 3;
    const length = head >> 3;
    need(length <= 131072, "a block too long");
    bytes(at, 0);
    if (kind === 0) {
      bytes(at, length);
      output.put(source.subarray(at, at + length));
    } else if (kind === 1) {
      output.room(length);
      output.put(new Uint8Array(length).fill(bytes(at, 1)));
    } else {
      need(kind === 2 && at + length <= source.length, "a block");
      compressedBlock(source.subarray(at, at + length), output, state);
    }
    at += kind === 1 ? 1 : length;
  }
  at += descriptor & 4 ? 4 : 0;
  need(at === source.length, "bytes behind the frame");
  need(output.length === size, "less than was said");
  return output.bytes;
}
