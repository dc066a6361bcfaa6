// QR codes (ISO/IEC 18004) of texts up to 213 bytes: byte mode, error correction M, versions 1 to 10.

const TOTAL = [26, 44, 70, 100, 134, 172, 196, 242, 292, 346]; // codewords of each version
const CORRECTION = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26]; // of them for correction, in each block
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5];
const ALIGNMENT = [[], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50]];
const BYTE_MODE = 4;
const LEVEL_M = 0;
const PADDING = [0xec, 0x11];
const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (x, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(y / 2) + Math.floor(x / 3)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/** Rows of booleans, true: dark. Throws a RangeError for a text that is too long. */
export function qrMatrix(text) {
  const bytes = [...new TextEncoder().encode(text)];
  const version = TOTAL.findIndex((_, i) => bytes.length <= capacity(i + 1)) + 1;
  if (!version) throw new RangeError(`a QR code of this page holds ${capacity(10)} bytes, the text has ${bytes.length}`);
  const bits = interleaved(codewords(bytes, version), version).flatMap((byte) => toBits(byte, 8));
  const drawn = MASKS.map((_, mask) => draw(version, mask, bits));
  return drawn.reduce((best, matrix) => (penalty(matrix) < penalty(best) ? matrix : best));
}

function dataLength(version) {
  return TOTAL[version - 1] - CORRECTION[version - 1] * BLOCKS[version - 1];
}

function lengthBits(version) {
  return version < 10 ? 8 : 16;
}

function capacity(version) {
  return dataLength(version) - Math.ceil((4 + lengthBits(version)) / 8);
}

function toBits(value, n) {
  return Array.from({ length: n }, (_, i) => (value >> (n - 1 - i)) & 1);
}

/** Mode, length and bytes, padded to the capacity of the version. */
function codewords(bytes, version) {
  const bits = [...toBits(BYTE_MODE, 4), ...toBits(bytes.length, lengthBits(version)), ...bytes.flatMap((byte) => toBits(byte, 8))];
  const length = dataLength(version);
  bits.push(...Array(Math.min(4, 8 * length - bits.length)).fill(0));
  while (bits.length % 8) bits.push(0);
  const words = Array.from({ length: bits.length / 8 }, (_, i) => Number.parseInt(bits.slice(8 * i, 8 * i + 8).join(""), 2));
  for (let i = 0; words.length < length; i++) words.push(PADDING[i % 2]);
  return words;
}

/** Cut into blocks, add the correction of each, and take from all blocks in turn. */
function interleaved(words, version) {
  const [n, nCorrection] = [BLOCKS[version - 1], CORRECTION[version - 1]];
  const short = Math.floor(words.length / n);
  const nShort = n - (words.length % n); // the last blocks are a word longer
  const starts = Array.from({ length: n + 1 }, (_, i) => i * short + Math.max(0, i - nShort));
  const blocks = Array.from({ length: n }, (_, i) => words.slice(starts[i], starts[i + 1]));
  const corrections = blocks.map((block) => remainder(block, generator(nCorrection)));
  const inTurn = (parts, length) => Array.from({ length }, (_, i) => parts.map((part) => part[i])).flat().filter((word) => word !== undefined);
  return [...inTurn(blocks, short + 1), ...inTurn(corrections, nCorrection)];
}

/** Product in GF(256) with the polynomial 0x11d. */
function times(a, b) {
  let product = 0;
  for (let i = 7; i >= 0; i--) product = ((product << 1) ^ ((product >> 7) * 0x11d)) ^ (((b >> i) & 1) * a);
  return product;
}

/** The Reed-Solomon generator polynomial of a degree, without its leading 1. */
function generator(degree) {
  let [polynomial, root] = [[...Array(degree - 1).fill(0), 1], 1];
  for (let i = 0; i < degree; i++) {
    polynomial = polynomial.map((factor, j) => times(factor, root) ^ (polynomial[j + 1] ?? 0));
    root = times(root, 2);
  }
  return polynomial;
}

function remainder(block, divisor) {
  const rest = Array(divisor.length).fill(0);
  for (const word of block) {
    const factor = word ^ rest.shift();
    rest.push(0);
    divisor.forEach((value, i) => (rest[i] ^= times(value, factor)));
  }
  return rest;
}

/** The matrix with one mask. */
function draw(version, mask, bits) {
  const size = 4 * version + 17;
  const matrix = Array.from({ length: size }, () => Array(size).fill(null)); // null: free for data
  drawPatterns(matrix, version);
  drawFormat(matrix, mask);
  if (version >= 7) drawVersion(matrix, version);
  drawData(matrix, bits, MASKS[mask]);
  return matrix;
}

function drawPatterns(matrix, version) {
  const size = matrix.length;
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) drawSquares(matrix, x, y, 4, (ring) => ring !== 2 && ring !== 4);
  const places = ALIGNMENT[version - 1];
  for (const x of places) for (const y of places) if (matrix[y][x] === null) drawSquares(matrix, x, y, 2, (ring) => ring !== 1);
  for (let i = 0; i < size; i++) for (const [x, y] of [[6, i], [i, 6]]) matrix[y][x] ??= i % 2 === 0;
}

/** Squares around a centre; those outside of the matrix are left out. */
function drawSquares(matrix, centreX, centreY, radius, isDark) {
  for (let dy = -radius; dy <= radius; dy++) {
    for (let dx = -radius; dx <= radius; dx++) {
      const row = matrix[centreY + dy];
      if (row?.[centreX + dx] !== undefined) row[centreX + dx] = isDark(Math.max(Math.abs(dx), Math.abs(dy)));
    }
  }
}

/** `value` followed by the remainder of its division by a generator of `n` bits. */
function withCheck(value, divisor, n) {
  let rest = value;
  for (let i = 0; i < n; i++) rest = (rest << 1) ^ ((rest >> (n - 1)) * divisor);
  return (value << n) | rest;
}

/** Level and mask, twice: bit i counts from the lowest. */
function drawFormat(matrix, mask) {
  const size = matrix.length;
  const bits = withCheck((LEVEL_M << 3) | mask, 0x537, 10) ^ 0x5412;
  for (let i = 0; i < 15; i++) {
    const isDark = ((bits >> i) & 1) === 1;
    const [x, y] = i < 6 ? [8, i] : i < 8 ? [8, i + 1] : i === 8 ? [7, 8] : [14 - i, 8];
    matrix[y][x] = isDark;
    if (i < 8) matrix[8][size - 1 - i] = isDark;
    else matrix[size - 15 + i][8] = isDark;
  }
  matrix[size - 8][8] = true;
}

function drawVersion(matrix, version) {
  const bits = withCheck(version, 0x1f25, 12);
  for (let i = 0; i < 18; i++) {
    const [a, b] = [matrix.length - 11 + (i % 3), Math.floor(i / 3)];
    matrix[b][a] = matrix[a][b] = ((bits >> i) & 1) === 1;
  }
}

/** Fill the free modules in columns of two from the right, upwards and downwards in turn. */
function drawData(matrix, bits, isMasked) {
  const size = matrix.length;
  let [next, isUp] = [0, true];
  for (let right = size - 1; right > 0; right -= 2, isUp = !isUp) {
    if (right === 6) right = 5;
    for (let i = 0; i < size; i++) {
      const y = isUp ? size - 1 - i : i;
      for (const x of [right, right - 1]) {
        if (matrix[y][x] === null) matrix[y][x] = (bits[next++] === 1) !== isMasked(x, y);
      }
    }
  }
}

/** How hard a matrix is to read: long runs, squares of one colour, patterns like the corners, more of one colour. */
function penalty(matrix) {
  const size = matrix.length;
  const columns = matrix.map((_, x) => matrix.map((row) => row[x]));
  const lines = [...matrix, ...columns].map((line) => line.map(Number).join(""));
  let sum = 0;
  for (const line of lines) {
    for (const [run] of line.matchAll(/0{5,}|1{5,}/g)) sum += run.length - 2;
    sum += 40 * [...line.matchAll(/(?=10111010000|00001011101)/g)].length;
  }
  for (let y = 1; y < size; y++) {
    for (let x = 1; x < size; x++) {
      if (matrix[y][x] === matrix[y - 1][x] && matrix[y][x] === matrix[y][x - 1] && matrix[y][x] === matrix[y - 1][x - 1]) sum += 3;
    }
  }
  const nDark = matrix.flat().filter(Boolean).length;
  return sum + 10 * Math.floor(Math.abs((20 * nDark) / size ** 2 - 10));
}
