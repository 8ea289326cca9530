// Numbers and names as people read them. The same rules as gpudrift/report/text.py, tested against it.

const INVISIBLE = /[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]|[\u{e0100}-\u{e01ef}]/u;
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;
const HARMLESS = /^[ -~]*$/;
const MOST_MARKS = 3; // on one letter; "Zalgo" text stacks more

function spelled(character: string): string {
  const code = character.codePointAt(0)!;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
}

/** Any text as one line without anything unprintable or invisible: such characters are spelled out, as \u202e. */
export function plain(text: string): string {
  if (HARMLESS.test(text)) return text;
  let marks = MOST_MARKS;
  let shown = "";
  for (const character of text) {
    marks = /\p{M}/u.test(character) ? marks + 1 : 0;
    const odd = marks > MOST_MARKS || UNPRINTABLE.test(character) || INVISIBLE.test(character);
    shown += odd ? spelled(character) : character;
  }
  return shown;
}

/** A name of at most so many characters: of a longer one both ends are kept, for that is where names differ. */
export function short(name: string, most = 48): string {
  const characters = [...name.slice(0, 2 * most), ...(name.length > 4 * most ? name.slice(-2 * most) : name.slice(2 * most))];
  const whole = plain(characters.join(""));
  const letters = [...whole];
  if (letters.length <= most && name.length <= 4 * most) return whole.trim() ? whole : `"${whole}"`;
  const end = Math.floor((most - 1) * 0.4);
  return `${letters.slice(0, most - 1 - end).join("")}…${letters.slice(-end).join("")}`;
}

/** `1 row`, `12,400 rows`. */
export function counted(number: number, noun: string): string {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A whole number with commas. */
export function grouped(number: number): string {
  const [whole, rest] = String(Math.abs(number)).split(".");
  const text = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
  return number < 0 ? `-${text}` : text;
}

/** A statistic with at most three digits: `0.031`, `1.23`, `45.6`, `1.23e5`; `–` for none. */
export function numberText(value: number): string {
  if (Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.0005) return value > 0 ? "<0.001" : ">-0.001";
  if (size < 0.9995) return value.toFixed(3);
  if (size < 999.5) return value.toPrecision(3).replace(/\.$/, "");
  const [mantissa, exponent] = value.toExponential(2).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}

/** A share as a percentage of two digits that never rounds to nothing or to all. */
export function shareText(share: number): string {
  if (Number.isNaN(share)) return "–";
  const percent = 100 * Math.abs(share);
  const below = share < 0;
  if (percent > 0 && percent < 0.01) return below ? ">-0.01 %" : "<0.01 %";
  if (percent > 99.9 && percent < 100) return below ? "<-99.9 %" : ">99.9 %";
  const digits = Number(percent <= 99 ? percent.toPrecision(2) : percent.toPrecision(3));
  return `${below ? "-" : ""}${digits} %`;
}

/** A value of a column in its own unit, with six digits; whole numbers with all of theirs. */
export function valueText(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return grouped(value);
  const text = value.toPrecision(6);
  if (text.includes("e")) return text.replace(/\.?0*e\+?/, "e");
  return grouped(Number(text));
}

/** Seconds since 1970 as a date, or as a date and a time where there is one. */
export function timeText(seconds: number): string {
  if (Number.isNaN(seconds)) return "–";
  if (Math.abs(seconds) > 8.64e12) return `${valueText(seconds / 31556952 + 1970)} (year)`;
  const text = new Date(Math.round(seconds * 1000)).toISOString();
  const time = text.split("T")[1].replace(/(:00)?\.000Z$/, "").replace("Z", "");
  return text.split("T")[0] + (time === "00:00" ? "" : ` ${time}`);
}

/** A reason with the short names that tables have. */
export function shortened(reason: string): string {
  return plain(reason)
    .replaceAll("Wasserstein / std", "W/σ")
    .replaceAll("new values", "new")
    .replaceAll(".0%", "%")
    .replace(/(≥ )(\d+\.\d{3,})(?=;|$)/g, (_, sign: string, limit: string) => sign + Number(Number(limit).toPrecision(3)));
}
