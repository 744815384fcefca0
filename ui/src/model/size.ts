// Sizes that people type: whole digits and a unit, as everywhere in dynmem. Pure.

const UNITS: readonly string[] = ["k", "m", "g", "t", "p"];

/** The bytes, or a sentence why this is no size. A blank before the unit is fine. */
export function parseSize(text: string): number | string {
  const [, digits, unit = ""] = /^\s*(\d+)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const malformed = `“${text.trim().slice(0, 40)}” is not a size: write a whole number and a unit, such as 512MB, 2GiB or 1048576`;
  if (digits === undefined) return malformed;
  const power = UNITS.findIndex((letter) => [letter, `${letter}b`, `${letter}ib`].includes(unit.toLowerCase())) + 1;
  if (power === 0 && unit !== "" && unit.toLowerCase() !== "b") return malformed;
  const bytes = Number(digits) * 1024 ** power;
  return bytes <= Number.MAX_SAFE_INTEGER ? bytes : `“${text.trim().slice(0, 40)}” is more than there can be`;
}
