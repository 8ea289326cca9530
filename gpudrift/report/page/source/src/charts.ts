// Pictures of one column, drawn by Observable Plot: SVG, so that they print, scale and follow the colours of the page.

import * as Plot from "@observablehq/plot";
import type { Picture } from "./data";
import { numberText, plain, shareText, short, timeText, valueText } from "./text";

const BEFORE = "var(--reference)", NOW = "var(--current)";
const SIDES = ["reference", "current"];

interface Bin { side: string; from: number; to: number; height: number; share: number; outer: boolean }
interface Axis { position: (value: number) => number; from: number; to: number; options: Plot.ScaleOptions; first: number; last: number }

/** What a reader hears, and what stands below: every picture has both. */
function described(chart: SVGElement | HTMLElement, label: string): SVGElement {
  const svg = (chart instanceof SVGElement ? chart : chart.querySelector("svg")!) as SVGElement;
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.removeAttribute("width"); // as wide as its place; viewBox keeps the shape
  svg.removeAttribute("height");
  for (const group of svg.querySelectorAll("[aria-label]")) if (group !== svg) group.removeAttribute("aria-label");
  return svg;
}

function transformed(unit: number | undefined): (value: number) => number {
  return unit === undefined ? (value) => value : (value) => Math.sign(value) * Math.log1p(Math.abs(value) / unit);
}

function untransformed(unit: number | undefined): (position: number) => number {
  return unit === undefined ? (at) => at : (at) => Math.sign(at) * Math.expm1(Math.abs(at)) * unit;
}

/** The axis of a picture: inner bins to scale; outer ones, which may reach far, in a place of fixed width. */
function axisOf(picture: Picture): Axis {
  const edges = picture.edges!, count = edges.length - 1;
  const position = transformed(picture.log), back = untransformed(picture.log);
  const places = Array.from(edges, position);
  const span = (from: number, to: number): number => places[to] - places[from];
  let first = 0, last = count;
  const inner = count > 4 ? span(1, count - 1) / (count - 2) : 0;
  if (inner > 0 && span(0, 1) > 3 * inner) first = 1;
  if (inner > 0 && span(count - 1, count) > 3 * inner) last = count - 1;
  const margin = 0.035 * (places[last] - places[first]) || 0.5;
  const from = first ? back(places[first] - margin) : edges[0];
  const to = last < count ? back(places[last] + margin) : edges[count];
  const type = picture.log === undefined ? "linear" : "symlog";
  return {
    position, from, to, first, last,
    options: { type, ...(picture.log === undefined ? {} : { constant: picture.log }), domain: from < to ? [from, to] : [from - 1, to + 1] },
  };
}

function ticks(picture: Picture): { tickFormat: (value: number) => string; ticks?: number[] } {
  const text = picture.isTime ? (value: number) => timeText(value).split(" ")[0] : axisText;
  if (picture.isTime) {
    const edges = picture.edges!;
    const count = shape().width < 500 ? 3 : 5, low = edges[0], high = edges[edges.length - 1];
    const every = Array.from({ length: count }, (_, at) => low + ((high - low) * (at + 0.5)) / count);
    return { tickFormat: text, ticks: every };
  }
  if (picture.log === undefined) return { tickFormat: text };
  const { from, to } = axisOf(picture), found = [0];
  const smallest = Math.floor(Math.log10(picture.log)), largest = Math.ceil(Math.log10(Math.max(Math.abs(from), Math.abs(to), 1e-300)));
  const step = Math.max(1, Math.ceil((largest - smallest) / 6));
  for (let power = largest; power >= smallest; power -= step) {
    for (const digit of largest - smallest > 3 ? [1] : [1, 2, 5]) found.push(digit * 10 ** power, -digit * 10 ** power);
  }
  const place = transformed(picture.log), room = (place(to) - place(from)) / 14; // so that labels do not touch
  const shown: number[] = [];
  for (const value of found.filter((one) => one >= from && one <= to).sort((a, b) => a - b)) {
    if (!shown.length || place(value) - place(shown[shown.length - 1]) >= room) shown.push(value);
  }
  return { tickFormat: text, ticks: shown };
}

function axisText(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6 || (size < 1e-3 && size > 0)) return value.toExponential(0).replace("e+", "e").replace(/^1e/, "1e");
  return valueText(Number(value.toPrecision(6)));
}

function binsOf(picture: Picture, axis: Axis): Bin[] {
  const edges = picture.edges!, count = edges.length - 1;
  const places = Array.from(edges, axis.position);
  const typical = (places[axis.last] - places[axis.first]) / Math.max(axis.last - axis.first, 1);
  const bins: Bin[] = [];
  for (const side of SIDES) {
    const shares = side === "reference" ? picture.reference : picture.current;
    for (let at = 0; at < count; at++) {
      const outer = at < axis.first || at >= axis.last;
      const width = places[at + 1] - places[at];
      const height = outer || width <= 0 ? shares[at] : (shares[at] * typical) / Math.max(width, typical / 4);
      const [from, to] = at < axis.first ? [axis.from, edges[1]] : at >= axis.last ? [edges[count - 1], axis.to] : [edges[at], edges[at + 1]];
      bins.push({ side, from, to, height, share: shares[at], outer });
    }
  }
  return bins;
}

/** As wide as a phone at least, so that letters keep their size there. */
function shape(): { width: number; height: number; marginLeft: number; marginRight: number; marginBottom: number; marginTop: number; style: object } {
  const width = Math.min(720, Math.max(document.documentElement.clientWidth - 26, 320));
  return { width, height: 260, marginLeft: 56, marginRight: 16, marginBottom: 36, marginTop: 18, style: { background: "none", fontSize: "12px" } };
}

/** Both distributions, bin by bin: how high a bar is says how many rows lie there. */
export function density(picture: Picture, name: string, medians: [number, number]): SVGElement {
  const axis = axisOf(picture), bins = binsOf(picture, axis);
  const of = (side: string): Bin[] => bins.filter((bin) => bin.side === side);
  const outline = of("current").flatMap((bin) => [
    { x: bin.from, y: bin.height }, { x: bin.to, y: bin.height },
  ]);
  const highest = Math.max(...bins.map((bin) => bin.height), 1e-12);
  const inside = (value: number): boolean => value >= axis.from && value <= axis.to;
  const chart = Plot.plot({
    ...shape(),
    x: { ...axis.options, label: null, ...ticks(picture) },
    y: { label: "rows per bin", tickFormat: (share: number) => shareText(Number(share.toPrecision(3))), grid: true, domain: [0, highest * 1.04], ticks: 5 },
    marks: [
      Plot.rect(of("reference"), { x1: "from", x2: "to", y1: 0, y2: "height", fill: BEFORE, fillOpacity: 0.38, insetLeft: 0.3 }),
      Plot.rect(of("current"), { x1: "from", x2: "to", y1: 0, y2: "height", fill: NOW, fillOpacity: 0.2 }),
      Plot.line(outline, { x: "x", y: "y", stroke: NOW, strokeWidth: 1.6, strokeLinejoin: "miter" }),
      Plot.rect(bins.filter((bin) => bin.outer && bin.share > 0 && bin.side === "reference"), { x1: "from", x2: "to", y1: 0, y2: "height", stroke: BEFORE, strokeDasharray: "2,2", fill: "none" }),
      Plot.ruleX(medians.filter(inside), { stroke: (value: number) => (value === medians[0] ? BEFORE : NOW), strokeDasharray: "5,3", strokeWidth: 1.5 }),
      Plot.dot(picture.points.filter(([value]) => inside(value)), { x: (point) => point[0], y: 0, symbol: "triangle", r: 4, fill: "currentColor", dy: 5, clip: false }),
      Plot.ruleY([0]),
    ],
  });
  const text = picture.isTime ? timeText : valueText;
  const label = `Distribution of ${short(name)}, ${plain(text(picture.edges![0]))} to ${plain(text(picture.edges![picture.edges!.length - 1]))}: ` +
    `median ${text(medians[0])} in the reference, ${text(medians[1])} in the current data`;
  return described(chart, label);
}

/** Which share of rows lies below each value. */
export function cumulative(picture: Picture, name: string): SVGElement {
  const axis = axisOf(picture), edges = picture.edges!, lines: { side: string; x: number; y: number }[] = [];
  const gaps: { x: number; low: number; high: number }[] = [];
  const totals = [0, 0];
  for (let at = 0; at < edges.length; at++) {
    const x = at < axis.first ? axis.from : at > axis.last ? axis.to : edges[at];
    SIDES.forEach((side, of) => {
      if (at) totals[of] += (of ? picture.current : picture.reference)[at - 1];
      lines.push({ side, x, y: Math.min(totals[of], 1) });
    });
    gaps.push({ x, low: Math.min(...totals), high: Math.max(...totals) });
  }
  const widest = gaps.reduce((best, gap) => (gap.high - gap.low > best.high - best.low ? gap : best));
  const chart = Plot.plot({
    ...shape(), height: 220,
    x: { ...axis.options, label: null, ...ticks(picture) },
    y: { label: "rows below", tickFormat: (share: number) => shareText(Number(share.toPrecision(3))), grid: true, domain: [0, 1], ticks: 5 },
    marks: [
      Plot.line(lines.filter((one) => one.side === "reference"), { x: "x", y: "y", stroke: BEFORE, strokeWidth: 2 }),
      Plot.line(lines.filter((one) => one.side === "current"), { x: "x", y: "y", stroke: NOW, strokeWidth: 2 }),
      Plot.ruleX([widest], { x: "x", y1: "low", y2: "high", stroke: "currentColor", strokeWidth: 1.5, strokeDasharray: "2,2" }),
      Plot.ruleY([0]),
    ],
  });
  return described(chart, `Cumulative distributions of ${short(name)}; they differ most, by ${shareText(widest.high - widest.low)} of the rows, at ${valueText(widest.x)}`);
}

/** Where each quantile was and is. */
export function quantileShifts(picture: Picture, levels: number[], before: number[], now: number[], name: string): SVGElement {
  const axis = axisOf(picture);
  const rows = levels.map((level, at) => ({ level: shareText(level), before: before[at], now: now[at] }))
    .filter((row) => !Number.isNaN(row.before) && !Number.isNaN(row.now));
  const clamp = (value: number): number => Math.min(Math.max(value, axis.from), axis.to);
  const chart = Plot.plot({
    ...shape(), height: 30 * rows.length + 54,
    x: { ...axis.options, label: null, grid: true, ...ticks(picture) },
    y: { type: "band", label: null, domain: rows.map((row) => row.level).reverse() },
    marks: [
      Plot.link(rows, { x1: (row) => clamp(row.before), x2: (row) => clamp(row.now), y1: "level", y2: "level", stroke: "var(--quiet)", strokeWidth: 2 }),
      Plot.dot(rows, { x: (row) => clamp(row.before), y: "level", r: 5, fill: "var(--paper)", stroke: BEFORE, strokeWidth: 2.5 }),
      Plot.dot(rows, { x: (row) => clamp(row.now), y: "level", r: 4.5, fill: NOW }),
    ],
  });
  return described(chart, `Quantiles of ${short(name)} then and now; the numbers stand in the table below`);
}

export interface Moment { window: string; place: number; value: number; state: number }

/** What the lines of the thresholds are: one label for both where they are close to each other. */
function limitLabels(limits: [number, number] | undefined, top: number, share: boolean): { at: number; text: string }[] {
  if (!limits) return [];
  const [moderate, major] = limits.map((limit) => (share ? shareText(limit) : String(Number(limit.toPrecision(3)))));
  if ((limits[1] - limits[0]) / top < 0.07) return [{ at: limits[1], text: `${moderate} / ${major}` }];
  return [{ at: limits[0], text: `moderate ${moderate}` }, { at: limits[1], text: `major ${major}` }].filter((one) => one.at <= top);
}

/** One statistic window by window, with the limits above which it counts. */
export function overTime(line: Moment[], labels: string[], limits: [number, number] | undefined, title: string, name: string, share: boolean, runs: [number, number][], baseline?: number): SVGElement {
  const known = line.filter((one) => !Number.isNaN(one.value));
  const signed = known.some((one) => one.value < 0);
  const values = known.map((one) => one.value);
  const highest = Math.max(...values, ...(limits ? [limits[0] * 1.2] : []), 1e-9);
  const both = [...values, ...(baseline === undefined ? [] : [baseline])];
  const free = baseline !== undefined || !limits; // values in a unit of their own: zero means nothing
  const room = 0.08 * (Math.max(...both) - Math.min(...both)) || 1;
  const lowest = free && known.length ? Math.min(...both) - room : signed ? Math.min(...values, ...(limits ? [-limits[0] * 1.2] : [])) : 0;
  const top = free && known.length ? Math.max(...both) + room : highest * 1.05;
  const colours = ["var(--quiet)", "var(--quiet)", "var(--moderate-cell)", "var(--major-cell)", "var(--moderate-cell)", "var(--major-cell)"];
  const bands = limits ? (signed ? [1, -1] : [1]).flatMap((sign) => [
    { low: sign * limits[0], high: sign * limits[1], colour: "var(--moderate)" },
    { low: sign * limits[1], high: sign > 0 ? Math.max(highest, limits[1]) : Math.min(lowest, -limits[1]), colour: "var(--major)" },
  ]) : [];
  const every = Math.max(1, Math.ceil(labels.length / (shape().width < 500 ? 3 : 7)));
  const shown = labels.map((_, at) => at).filter((at) => at % every === 0);
  const text = share ? shareText : numberText;
  const chart = Plot.plot({
    ...shape(), marginRight: 96,
    x: { domain: [-0.5, labels.length - 0.5], ticks: shown, tickFormat: (at: number) => plain(labels[at] ?? ""), label: null },
    y: { domain: [lowest, top], label: null, grid: true, ticks: 5, tickFormat: (value: number) => text(Number(value.toPrecision(3))) },
    marks: [
      Plot.rect(bands, { x1: -0.5, x2: labels.length - 0.5, y1: "low", y2: "high", fill: "colour", fillOpacity: 0.12, clip: true }),
      Plot.ruleY(limits ? (signed ? [...limits, -limits[0], -limits[1]] : limits) : [], { stroke: (value: number) => (limits && Math.abs(value) === limits[1] ? "var(--major)" : "var(--moderate)"), strokeDasharray: "4,3", clip: true }),
      Plot.ruleY(baseline === undefined ? [] : [baseline], { stroke: BEFORE, strokeDasharray: "5,3", strokeWidth: 1.5 }),
      Plot.line(line, { x: "place", y: "value", stroke: "currentColor", strokeWidth: 1.5, defined: (value: number) => !Number.isNaN(value) } as Plot.LineOptions),
      Plot.dot(known, { x: "place", y: "value", r: labels.length > 80 ? 2 : 4, fill: (one: Moment) => colours[one.state] }),
      Plot.text(limitLabels(limits, top, share),
        { x: labels.length - 0.5, y: "at", text: "text", textAnchor: "start", dx: 4, fill: "currentColor", fontSize: 11 }),
      Plot.ruleY(free ? [] : [0]),
      Plot.text(runs, { x: (run) => run[0], text: () => "▲", frameAnchor: "bottom", dy: 6, fontSize: 9, fill: "var(--major-cell)", clip: false }),
      Plot.text(runs.filter((run) => run[1] + 1 < labels.length), { x: (run) => run[1] + 1, text: () => "△", frameAnchor: "bottom", dy: 6, fontSize: 9, fill: "currentColor", clip: false }),
    ],
  });
  const last = known[known.length - 1];
  return described(chart, `${title} of ${short(name)} in ${labels.length} windows${last ? `; in the last one ${text(last.value)}` : ""}; the numbers stand in the table below`);
}
