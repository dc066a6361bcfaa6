// Final turns as files: plain text, SubRip and WebVTT. At most two lines of 42 characters and seven seconds a cue.

const MAX_LINE = 42;
const MAX_CUE_S = 7;

export function toFile(format, turns) {
  return { txt: toTxt, srt: toSrt, vtt: toVtt }[format](turns);
}

function toTxt(turns) {
  return turns.map((turn) => `${turn.text.trim()}\n`).join("");
}

function toSrt(turns) {
  return cues(turns).map((cue, i) => `${i + 1}\n${span(cue, ",")}\n${cue.lines.join("\n")}\n\n`).join("");
}

function toVtt(turns) {
  const escape = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return "WEBVTT\n\n" + cues(turns).map((cue) => `${span(cue, ".")}\n${cue.lines.map(escape).join("\n")}\n\n`).join("");
}

function cues(turns) {
  return turns.flatMap((turn) => groups(pieces(turn)).map((group) => ({
    startS: group[0].startS,
    endS: group.at(-1).endS,
    lines: wrap(textOf(group)),
  })));
}

// words as they stand in the text, so that languages without spaces stay without; long ones are cut
function pieces({ text, words, startS, endS }) {
  const timed = words.length ? words : [{ text: text.trim(), start_s: startS, end_s: endS }];
  let end = 0;
  return timed.flatMap((word) => {
    const begin = text.indexOf(word.text, end);
    const space = begin < 0 || /\s/.test(text.slice(end, begin)) ? " " : "";
    if (begin >= 0) end = begin + word.text.length;
    const parts = wrap(word.text);
    const partS = (word.end_s - word.start_s) / parts.length;
    return parts.map((part, i) => ({
      text: (i ? " " : space) + part,
      startS: word.start_s + i * partS,
      endS: word.start_s + (i + 1) * partS,
    }));
  });
}

function groups(all) {
  const groups = [[]];
  for (const piece of all) {
    const group = groups.at(-1);
    const together = [...group, piece];
    const fits = wrap(textOf(together)).length <= 2 && piece.endS - together[0].startS <= MAX_CUE_S;
    if (group.length && !fits) groups.push([piece]);
    else group.push(piece);
    if (/[.!?…。！？]$/.test(piece.text) && textOf(groups.at(-1)).length > MAX_LINE / 2) groups.push([]);
  }
  return groups.filter((group) => group.length);
}

function textOf(group) {
  return group.map((piece) => piece.text).join("").trim();
}

function wrap(text) {
  const lines = [""];
  for (const word of text.match(new RegExp(`\\S{1,${MAX_LINE}}`, "g")) ?? []) {
    const line = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (line.length <= MAX_LINE) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  return lines;
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
