// A picture of both distributions in one line of a table.

import { html, svg, type SVGTemplateResult, type TemplateResult } from "lit";
import type { Contents } from "./data";

const WIDTH = 128, HEIGHT = 28, MOST = 32;
const drawn = new Map<number, [string, string]>();

function resampled(shares: Float64Array, cells: number): number[] {
  const count = Math.min(cells, shares.length), found: number[] = [];
  for (let cell = 0; cell < count; cell++) {
    const from = Math.floor((cell * shares.length) / count), to = Math.floor(((cell + 1) * shares.length) / count);
    let sum = 0;
    for (let at = from; at < to; at++) sum += shares[at];
    found.push(sum / (to - from));
  }
  return found;
}

function paths(contents: Contents, column: number): [string, string] {
  const known = drawn.get(column);
  if (known) return known;
  const picture = contents.picture(column);
  if (!picture) return ["", ""];
  let sides = [picture.reference, picture.current];
  if (picture.labels) { // of values the largest, in their order
    const order = Array.from(sides[0], (_, at) => at).sort((a, b) => Math.max(sides[0][b], sides[1][b]) - Math.max(sides[0][a], sides[1][a]));
    const chosen = order.slice(0, 12).sort((a, b) => a - b);
    sides = sides.map((side) => Float64Array.from(chosen, (at) => side[at]));
  }
  const heights = sides.map((side) => resampled(side, MOST));
  const full = Math.max(...heights[0], ...heights[1], 1e-12), count = heights[0].length;
  const y = (height: number): string => (HEIGHT - 1 - (height / full) * (HEIGHT - 3) - (height > 0 ? 0.7 : 0)).toFixed(1);
  const x = (at: number): string => ((at * WIDTH) / count).toFixed(1);
  let area = `M0,${HEIGHT - 1}`, line = "";
  heights[0].forEach((height, at) => (area += `V${y(height)}H${x(at + 1)}`));
  heights[1].forEach((height, at) => (line += `${at ? "V" : "M0,"}${y(height)}H${x(at + 1)}`));
  const found: [string, string] = [`${area}V${HEIGHT - 1}Z`, line];
  drawn.set(column, found);
  return found;
}

/** Reference as an area, current as a line; hidden from screen readers, which have the numbers of the row. */
export function spark(contents: Contents, column: number): TemplateResult | string {
  const [area, line] = paths(contents, column);
  if (!area) return "";
  const marks: SVGTemplateResult = svg`<path class="spark-reference" d=${area}></path><path class="spark-current" d=${line}></path>`;
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true" preserveAspectRatio="none">${marks}</svg>`;
}

const STATES = ["", "none", "moderate", "major", "segment-moderate", "segment-major"];

/** One column in all windows, a cell each. */
export function strip(states: Uint8Array, width = 160): TemplateResult {
  const runs: SVGTemplateResult[] = [];
  for (let at = 0; at < states.length; ) {
    let end = at;
    while (end < states.length && states[end] === states[at]) end++;
    const state = states[at];
    if (state) {
      const height = state === 1 ? 3 : state % 2 ? 18 : 11;
      runs.push(svg`<rect class="strip-${STATES[state]}" x=${at} y=${18 - height} width=${end - at} height=${height}></rect>`);
    }
    at = end;
  }
  return html`<svg class="strip" viewBox="0 0 ${states.length} 18" width=${width} aria-hidden="true" preserveAspectRatio="none">${runs}</svg>`;
}
