// What the address of the overlay can say: one list for the overlay, and for the page that documents it.

const COLOUR = "([0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})";

/** { name, otherwise: the default, means, and `choices` or `pattern` }, in the order of the page. */
export const SETTINGS = [
  { name: "room", otherwise: "microphone", pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]{0,63}", means: "Room to show; microphone is the daemon's own microphone." },
  { name: "size", otherwise: "", pattern: "[1-9][0-9]{0,2}", means: "Size of the text in pixels; by default 5.2 % of the shorter side of the window." },
  { name: "lines", otherwise: "2", pattern: "[1-9][0-9]?", means: "Lines shown at once." },
  { name: "width", otherwise: "26", pattern: "[1-9][0-9]{0,2}", means: "Width of the lines, in sizes of the text." },
  { name: "place", otherwise: "bottom", choices: ["bottom", "top"], means: "Where the captions stand." },
  { name: "align", otherwise: "", choices: ["", "left", "center", "right"], means: "Side of the captions. Without it the block stands in the middle and its lines begin at the left, so that words stay in their place while a line grows; center centres each line." },
  { name: "color", otherwise: "ffffff", pattern: COLOUR, means: "Colour of the text: rgb, rgba, rrggbb or rrggbbaa." },
  { name: "back", otherwise: "080a0cc7", pattern: `(${COLOUR}|none)`, means: "Colour behind the text, or none." },
  { name: "edge", otherwise: "", choices: ["", "outline", "shadow", "none"], means: "Around the letters; by default an outline with back=none, else nothing." },
  { name: "font", otherwise: "", pattern: "[\\w \\-]{1,60}", means: "A typeface of the machine that shows the overlay." },
  { name: "hold", otherwise: "5", pattern: "[1-9][0-9]{0,4}", means: "Seconds until captions disappear in silence." },
  { name: "partials", otherwise: "yes", choices: ["yes", "no"], means: "no: words appear when they are final, later." },
  { name: "sample", otherwise: "no", choices: ["no", "yes"], means: "yes: shows a sample text, to place the overlay in a scene." },
];

/** The settings of an address; values that are not allowed are left at their defaults, and named in `wrong`. */
export function readSettings(search) {
  const given = new URLSearchParams(search);
  const all = { wrong: [...given.keys()].filter((name) => !SETTINGS.some((setting) => setting.name === name)) };
  for (const setting of SETTINGS) {
    const value = given.get(setting.name) ?? setting.otherwise;
    const isGood = value === setting.otherwise || isAllowed(setting, value);
    all[setting.name] = isGood ? value : setting.otherwise;
    if (!isGood) all.wrong.push(setting.name);
  }
  return all;
}

function isAllowed({ choices, pattern }, value) {
  return choices ? choices.includes(value) : new RegExp(`^(${pattern})$`).test(value);
}
