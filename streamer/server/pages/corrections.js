// Corrected text gets the times of the words that it was made from. No page.

/** Words of `text`, with the times of the same words of a turn; new words share the time between their neighbours. */
export function realigned({ text: old, words, startS, endS }, text) {
  if (!words.length) return [];
  const texts = split(text, /\s/.test(old.trim()) || words.length < 2);
  const kept = common(words.map((word) => word.text.trim()), texts);
  return filled(texts.map((spoken, i) => (kept.has(i) ? words[kept.get(i)] : { text: spoken })), startS, endS);
}

/** Words at spaces; in languages without spaces as the browser finds them. */
function split(text, hasSpaces) {
  if (hasSpaces) return text.match(/\S+/g) ?? [];
  const parts = [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)].map(({ segment }) => segment.trim());
  return parts.filter((part) => part);
}

/** The longest common subsequence: indices of the new words -> indices of the old words. */
function common(old, now) {
  const lengths = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      lengths[i][j] = old[i] === now[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const kept = new Map();
  for (let i = 0, j = 0; i < old.length && j < now.length; ) {
    if (old[i] === now[j]) kept.set(j++, i++);
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  return kept;
}

/** Give words without a time equal parts of the time between their neighbours. A person wrote them: confidence 1. */
function filled(words, startS, endS) {
  for (let i = 0; i < words.length; i++) {
    if (words[i].start_s !== undefined) continue;
    let end = i;
    while (end < words.length && words[end].start_s === undefined) end += 1;
    const fromS = words[i - 1]?.end_s ?? startS;
    const partS = Math.max(0, (words[end]?.start_s ?? endS) - fromS) / (end - i);
    for (let k = i; k < end; k++) {
      const times = { start_s: fromS + (k - i) * partS, end_s: fromS + (k - i + 1) * partS };
      words[k] = { ...words[k], ...times, confidence: 1, stable: true };
    }
  }
  return words;
}
