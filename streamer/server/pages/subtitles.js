// Final turns as files: plain text, SubRip, WebVTT and JSON. The same rules as streamer/subtitles/cues.py; both are tested
// with tests/data/subtitles.json.

const LINE_LETTERS = 42; // narrow characters of a line
const LINE_WIDE_LETTERS = 16; // wide characters of a line
const LINE = (LINE_LETTERS * LINE_WIDE_LETTERS) / 2; // line width in units in which both kinds of characters are whole numbers
const NARROW = LINE / LINE_LETTERS;
const WIDE = LINE / LINE_WIDE_LETTERS;
const MAX_CUE_S = 7;
const MIN_CUE_S = 5 / 6;
const LETTERS_PER_S = 17; // reading speed, narrow characters
const FULL_BREAK = Math.floor((LINE * 2) / 7); // unevenness that is accepted for a first line that ends a clause

const SENTENCE_ENDS = new Set(".!?…؟։።፧།༎।॥۔။។៕。！？．｡‼⁇⁈⁉");
const CLAUSE_ENDS = new Set([...SENTENCE_ENDS, ...",;:،؛、，；：､"]);
const CLOSING = new Set([...CLAUSE_ENDS, ...")]}»”’）」』】》〉ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ"]);
const IS_WIDE = new RegExp(
  "[\\u1100-\\u115f\\u2e80-\\u303e\\u3041-\\u33ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\ua000-\\ua4cf\\ua960-\\ua97c" +
  "\\uac00-\\ud7a3\\uf900-\\ufaff\\ufe30-\\ufe6f\\uff00-\\uff60\\uffe0-\\uffe6\\u{1f300}-\\u{1f64f}" +
  "\\u{1f900}-\\u{1f9ff}\\u{20000}-\\u{3fffd}]", "u");
const HAS_NO_WIDTH = /[\p{M}\u200b-\u200f\u2060\ufeff]/u;
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

/** The file of a format; `facts`, { date, model }, stand at the head of JSON. */
export function toFile(format, turns, facts = {}) {
  return { txt: toTxt, srt: toSrt, vtt: toVtt, json: toJson }[format](turns, facts);
}

function toTxt(turns) {
  return turns.map(({ text }) => text.trim()).filter((text) => text).map((text) => `${text}\n`).join("");
}

function toSrt(turns) {
  return cues(turns).map((cue, i) => `${i + 1}\n${span(cue, ",")}\n${cue.lines.map(embedded).join("\n")}\n\n`).join("");
}

function toVtt(turns) {
  const escape = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return "WEBVTT\n\n" + cues(turns).map((cue) => `${span(cue, ".")}\n${cue.lines.map(escape).join("\n")}\n\n`).join("");
}

function toJson(turns, facts) {
  const words = (turn) => turn.words.map(({ text, start_s, end_s, confidence }) => ({ text, start_s, end_s, confidence }));
  const shown = turns.map((turn) => (
    { text: turn.text, start_s: turn.startS, end_s: turn.endS, language: turn.language, words: words(turn) }));
  return `${JSON.stringify({ ...facts, language: mostFrequent(turns), text: toTxt(turns).trim(), turns: shown }, null, 2)}\n`;
}

/** The language of most turns; null if none has one. */
function mostFrequent(turns) {
  const counts = new Map();
  for (const { language } of turns) if (language) counts.set(language, (counts.get(language) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;
}

function cues(turns) {
  const all = turns.flatMap((turn) => groups(pieces(turn)).map((group) => ({
    startS: group[0].startS,
    endS: group.at(-1).endS,
    lines: lines(group),
  })));
  return all.map((cue, i) => timed(cue, all[i + 1]));
}

/** Extend a cue to its reading time, at most to the start of the next cue. */
function timed(cue, following) {
  const letters = cue.lines.reduce((sum, line) => sum + width(line), 0) / NARROW;
  const readingS = Math.min(letters / LETTERS_PER_S, MAX_CUE_S);
  const endS = Math.max(cue.endS, cue.startS + Math.max(readingS, MIN_CUE_S));
  return { ...cue, endS: following ? Math.max(cue.startS, Math.min(endS, following.startS)) : endS };
}

/** Words with the spacing of the text (none in some languages); words longer than a line are cut. */
function pieces(turn) {
  const text = printable(turn.text);
  if (!turn.words.length) return split({ space: "", text: text.trim(), startS: turn.startS, endS: turn.endS }).map(measured);
  let end = 0;
  return turn.words.flatMap((word) => {
    const spoken = printable(word.text);
    const begin = text.indexOf(spoken, end);
    const between = text.slice(end, begin);
    const space = begin >= 0 && !between.trim() ? between : " ";
    if (begin >= 0) end = begin + spoken.length;
    return split({ space, text: spoken.trim(), startS: word.start_s, endS: word.end_s }).map(measured);
  });
}

/** A piece with its widths: they are asked for with every word of its cue. */
function measured(piece) {
  const [spaceWidth, textWidth] = [width(piece.space), width(piece.text)];
  return { ...piece, spaceWidth, textWidth, tailWidth: textWidth - width(piece.text.trimEnd()) };
}

function split({ space, text, startS, endS }) {
  const parts = [];
  let letters = [...text];
  const seconds = (endS - startS) / Math.max(letters.length, 1);
  while (width(letters) > LINE) {
    const at = cut(letters);
    const partEndS = startS + at * seconds;
    parts.push({ space, text: letters.slice(0, at).join(""), startS, endS: partEndS });
    space = letters[at] === " " ? " " : "";
    letters = [...letters.slice(at).join("").trimStart()];
    startS = partEndS;
  }
  if (letters.length) parts.push({ space, text: letters.join(""), startS, endS });
  return parts;
}

/** Where to break a text that is longer than a line: at a space, after a clause, or where the line is full. */
function cut(letters) {
  let end = 0;
  for (let taken = 0; (taken += width(letters[end])) <= LINE; ) end += 1;
  end = Math.max(end, 1);
  const space = letters.lastIndexOf(" ", end);
  if (space > 0) return space;
  let at = end;
  for (let clause = end; clause > Math.floor(end / 2); clause--) {
    if (CLAUSE_ENDS.has(letters[clause - 1])) {
      at = clause;
      break;
    }
  }
  while (at > 1 && at < letters.length && (CLOSING.has(letters[at]) || !width(letters[at]))) at -= 1;
  return at;
}

function groups(all) {
  const found = [];
  let group = [];
  for (const piece of all) {
    while (group.length && !isCue([...group, piece])) found.push(group.splice(0, lastClause(group)));
    group.push(piece);
    if (SENTENCE_ENDS.has(piece.text.at(-1)) && groupWidth(group) > LINE / 2) found.push(group.splice(0));
  }
  return group.length ? [...found, group] : found;
}

/** Number of pieces of a full cue: up to the end of the last clause in its second half, else all. */
function lastClause(group) {
  const half = groupWidth(group) / 2;
  for (let at = group.length - 1; at > 0; at--) {
    if (endsClause(group, at) && groupWidth(group.slice(0, at)) >= half) return at;
  }
  return group.length;
}

function isCue(group) {
  return group.at(-1).endS - group[0].startS <= MAX_CUE_S && (groupWidth(group) <= LINE || bestBreak(group) > 0);
}

/** One line if the text fits, else the best two. */
function lines(group) {
  const at = groupWidth(group) <= LINE ? 0 : bestBreak(group);
  return at > 0 ? [textOf(group.slice(0, at)), textOf(group.slice(at))] : [textOf(group)];
}

/**
 * Number of pieces of the first of two lines; 0 if two are not enough. Even lines are best, and a break at the end of a
 * clause is worth FULL_BREAK.
 */
function bestBreak(group) {
  let [best, leastCost] = [0, Infinity];
  for (let at = 1; at < group.length; at++) {
    const [first, second] = [groupWidth(group.slice(0, at)), groupWidth(group.slice(at))];
    const cost = Math.abs(first - second) - (endsClause(group, at) ? FULL_BREAK : 0);
    if (Math.max(first, second) <= LINE && cost < leastCost) [best, leastCost] = [at, cost];
  }
  return best;
}

/** Whether the first pieces of a group, so many, end a clause. */
function endsClause(group, n) {
  return CLAUSE_ENDS.has(group[n - 1].text.at(-1));
}

/** Width of a group's text, which shows no space before its first piece, and none at the end of its last one. */
function groupWidth(group) {
  const unseen = group[0].spaceWidth + group.at(-1).tailWidth;
  return group.reduce((sum, { spaceWidth, textWidth }) => sum + spaceWidth + textWidth, -unseen);
}

function textOf(group) {
  return group.map(({ space, text }) => space + text).join("").trim();
}

function width(text) {
  let taken = 0;
  for (const letter of text) taken += HAS_NO_WIDTH.test(letter) ? 0 : IS_WIDE.test(letter) ? WIDE : NARROW;
  return taken;
}

function printable(text) {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]|(?![\u200b-\u200f\u2060\ufeff])\p{Cf}|(?! )\p{Zs}/gu, " ");
}

/** Mark a right-to-left line with embedding characters: players lay SubRip out from left to right otherwise. */
function embedded(line) {
  const first = line.match(/\p{L}/u);
  return first && RIGHT_TO_LEFT.test(first[0]) ? `\u202b${line}\u202c` : line;
}

function span({ startS, endS }, point) {
  return `${time(startS, point)} --> ${time(endS, point)}`;
}

function time(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(ms / 3600000), Math.floor(ms / 60000) % 60, Math.floor(ms / 1000) % 60];
  return `${two(h)}:${two(m)}:${two(s)}${point}${String(ms % 1000).padStart(3, "0")}`;
}
