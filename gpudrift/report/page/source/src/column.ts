// One column: both distributions, every statistic, and what its drift is made of.

import { html, nothing, type TemplateResult } from "lit";
import { cumulative, density, quantileShifts } from "./charts";
import type { Picture, Statistic } from "./data";
import { columnOverTime } from "./time";
import { grouped, numberText, plain, shareText, shortened, valueText } from "./text";
import { bar, columnLink, inUnit, named, severityMark, statisticText, thenNow, type View } from "./view";

const MOST_VALUES = 20;
const SIDES = ["reference", "current"] as const;

export function columnView(view: View, column: number): TemplateResult {
  const { contents } = view;
  const name = contents.names[column];
  if (column >= contents.described) {
    return html`<article class="column"><h2 tabindex="-1" id="view-title">${named(name, 400)}</h2>${columnOverTime(view, column)}
      <p class="quiet">Not in the last window: there is no more to tell.</p></article>`;
  }
  const unit = contents.units[column], picture = contents.picture(column);
  return html`<article class="column">
    <nav class="steps" aria-label="Columns">
      ${column > 0 ? html`<a href="#column/${column - 1}" rel="prev">← ${named(contents.names[column - 1], 24)}</a>` : html`<span></span>`}
      ${column + 1 < contents.names.length ? html`<a href="#column/${column + 1}" rel="next">${named(contents.names[column + 1], 24)} →</a>` : nothing}
    </nav>
    <h2 tabindex="-1" id="view-title">${named(name, 400)}</h2>
    <p class="about">${severityMark(contents.severity(column))} <span class="quiet">${contents.kindOf(column)}${unit ? `, ${plain(unit)}` : ""}</span></p>
    ${words(view, column)}
    ${contents.time ? columnOverTime(view, column) : nothing}
    <div class="beside">${picture ? pictures(view, column, picture) : nothing}
    ${cells(view, column)}</div>
    ${statistics(view, column)}
    ${summaries(view, column)}
  </article>`;
}

/** Why it has its verdict, in words. */
function words(view: View, column: number): TemplateResult {
  const { contents } = view;
  const reason = contents.reasons[column], changed = contents.changed[column];
  const alike = contents.together.filter((group) => group.names.includes(column));
  const notes = (contents.noted[column] ?? []).map((note) => contents.notes[note]);
  return html`<ul class="reasons">
    ${reason ? reason.split("; ").map((one) => html`<li>${plain(one)}</li>`) : nothing}
    ${changed ? html`<li>Changed, below the thresholds: ${shortened(Object.values(changed).join("; "))}</li>` : nothing}
    ${notes.map((note) => html`<li class="quiet">${plain(note)}</li>`)}
    ${alike.map((group) => html`<li>${plain(group.sentence)} <span class="names">${group.names.filter((other) => other !== column).slice(0, 8)
      .map((other, at) => html`${at ? ", " : ""}${columnLink(view, other)}`)}${group.names.length > 9 ? ` and ${group.names.length - 9} more` : ""}</span></li>`)}
  </ul>`;
}

function legend(): TemplateResult {
  return html`<p class="legend"><span class="swatch reference" aria-hidden="true"></span>reference <span class="swatch current" aria-hidden="true"></span>current</p>`;
}

function pictures(view: View, column: number, picture: Picture): TemplateResult {
  if (picture.labels) return categories(view, column, picture);
  const { sides } = view.contents, name = view.contents.names[column];
  const at = (side: "reference" | "current", key: string): number => sides[side].numbers[key]?.at(column) ?? NaN;
  const medians: [number, number] = [at("reference", "median"), at("current", "median")];
  const quantiles = SIDES.map((side) => sides[side].quantiles.map((numbers) => numbers.at(column)));
  const levels = sides.reference.levels.length ? sides.reference.levels : sides.current.levels;
  const text = inUnit(view, column);
  return html`<section aria-labelledby="distribution-title"><h3 id="distribution-title">Distributions</h3>
    ${legend()}
    <figure>${density(picture, name, medians)}<figcaption>Share of rows per bin${picture.log === undefined ? "" : ", values on a logarithmic axis"}; dashed: medians${picture.points.length ? "; triangles: frequent values" : ""}. Dashed bars at the ends hold all rows further out.</figcaption></figure>
    ${picture.points.length ? html`<table class="small"><caption>Frequent values</caption><thead><tr><th scope="col">value</th><th scope="col" class="right">reference</th><th scope="col" class="right">current</th></tr></thead>
      <tbody>${picture.points.map(([value, before, now]) => html`<tr><th scope="row">${text(value)}</th><td class="right">${shareText(before)}</td><td class="right">${shareText(now)}</td></tr>`)}</tbody></table>` : nothing}
    ${outside(view, column)}
    <figure>${cumulative(picture, name)}<figcaption>Cumulative: share of rows below each value; dotted: where the two differ most.</figcaption></figure>
    ${levels.length ? html`<h3>Quantiles</h3><figure>${quantileShifts(picture, levels, quantiles[0], quantiles[1], name)}</figure>
      <div class="wide" tabindex="0" role="region" aria-label="Table of quantiles"><table class="small"><caption class="spoken">Quantiles</caption><thead><tr><th scope="col">quantile</th>${levels.map((level) => html`<th scope="col" class="right">${shareText(level)}</th>`)}</tr></thead>
        <tbody>${SIDES.map((side, of) => html`<tr><th scope="row">${side}</th>${quantiles[of].map((value) => html`<td class="right">${text(value)}</td>`)}</tr>`)}
        ${view.contents.isTime(column) ? nothing : html`<tr><th scope="row">shift</th>${quantiles[0].map((value, of) => html`<td class="right">${shift(value, quantiles[1][of])}</td>`)}</tr>`}</tbody></table></div>` : nothing}
  </section>`;
}

function shift(before: number, now: number): string {
  const moved = now - before;
  if (Number.isNaN(moved)) return "–";
  return `${moved > 0 ? "+" : ""}${valueText(Number(moved.toPrecision(6)))}`;
}

/** What no bin shows: rows without a value, infinite ones, those far outside. */
function outside(view: View, column: number): TemplateResult | typeof nothing {
  const names = ["missing", "infinite", "beyond", "tails", "new"];
  const rows = names.map((name) => view.contents.statistic(name)).filter((one): one is Statistic => one !== undefined)
    .map((one) => ({ one, before: one.reference.at(column), now: one.name === "new" ? one.value.at(column) : one.current.at(column) }))
    .filter((row) => row.before > 0 || row.now > 0);
  if (!rows.length) return nothing;
  const title = (one: Statistic): string => (one.name === "tails" ? `${one.part[column] ?? ""} tail` : one.name === "beyond" ? "beyond the fences" : one.name === "new" ? "new values" : one.name);
  return html`<table class="small bars"><caption>Rows that stand out</caption><thead><tr><th scope="col"></th><th scope="col">reference</th><th scope="col">current</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr><th scope="row">${title(row.one)}</th>
      <td>${bar(row.before, "reference")}<span>${shareText(row.before)}</span></td><td>${bar(row.now, "current")}<span>${shareText(row.now)}</span></td></tr>`)}</tbody></table>`;
}

function categories(view: View, column: number, picture: Picture): TemplateResult {
  const order = Array.from(picture.reference, (_, at) => at);
  const shown = order.slice(0, MOST_VALUES), full = Math.max(...picture.reference, ...picture.current);
  const rest = order.length - shown.length;
  const moved = order.slice(MOST_VALUES).filter((at) => picture.reference[at] === 0 && picture.labels![at] !== null).length;
  return html`<section aria-labelledby="distribution-title"><h3 id="distribution-title">Categories</h3>${legend()}
    <div class="wide" tabindex="0" role="region" aria-label="Table of categories"><table class="small bars"><caption class="spoken">Categories, the largest first</caption>
      <thead><tr><th scope="col">value</th><th scope="col">reference</th><th scope="col">current</th></tr></thead>
      <tbody>${shown.map((at) => {
        const label = picture.labels![at], before = picture.reference[at], now = picture.current[at];
        return html`<tr><th scope="row">${label === null ? html`<em>all other values</em>` : named(label, 40)}${label !== null && before === 0 && now > 0 ? html` <span class="badge">new</span>` : nothing}${before > 0 && now === 0 ? html` <span class="badge">gone</span>` : nothing}</th>
          <td>${bar(before, "reference", full)}<span>${shareText(before)}</span></td><td>${bar(now, "current", full)}<span>${shareText(now)}</span></td></tr>`;
      })}</tbody></table></div>
    ${rest > 0 ? html`<p class="quiet">… and ${rest} smaller ones${moved ? `, ${moved} of them new` : ""}</p>` : nothing}
    ${outside(view, column)}
  </section>`;
}

/** The bins or categories that make the PSI. */
function cells(view: View, column: number): TemplateResult | typeof nothing {
  const { contents } = view;
  const { cells: largest, more } = contents.psiCells(column);
  if (!largest.length) return nothing;
  const full = Math.max(...largest.map((cell) => cell.share), 1e-9);
  const first = largest[0];
  const value = contents.statistic("psi")!.value.at(column);
  const kind = contents.kindOf(column) === "categorical" ? "value" : "bin";
  const sentence = first.part > 0 ? html`The largest part, ${shareText(first.share)}, is of the ${kind} ${label(first.label)}: ${thenNow(shareText(first.before), shareText(first.now))} of the rows.` : "Nothing has moved.";
  return html`<section aria-labelledby="psi-title"><h3 id="psi-title">What the PSI of ${numberText(value)} is made of</h3>
    <p>${sentence}</p>
    <div class="wide" tabindex="0" role="region" aria-label="Table of the parts of the PSI"><table class="small bars psi"><caption class="spoken">Parts of the PSI, the largest first</caption>
      <thead><tr><th scope="col">${kind}</th><th scope="col" class="right">reference</th><th scope="col" class="right">current</th><th scope="col" class="right">adds</th><th scope="col">of the PSI</th></tr></thead>
      <tbody>${largest.map((cell) => html`<tr><th scope="row">${label(cell.label)}</th><td class="right">${shareText(cell.before)}</td><td class="right">${shareText(cell.now)}</td><td class="right">${numberText(cell.part)}</td>
        <td>${bar(cell.share, "part", full)}<span>${shareText(cell.share)}</span></td></tr>`)}</tbody></table></div>
    ${more ? html`<p class="quiet">… and ${more[0]} more, ${shareText(more[1])} together</p>` : nothing}
  </section>`;
}

function label(text: string | null): TemplateResult {
  return text === null ? html`<em>all other values</em>` : named(text, 40);
}

function statistics(view: View, column: number): TemplateResult {
  const { contents } = view;
  const shown = contents.statistics.filter((one) => one.here === undefined || one.here[column]);
  const limits = limitsOf(view, column);
  return html`<section aria-labelledby="statistics-title"><h3 id="statistics-title">Statistics</h3>
    <div class="wide" tabindex="0" role="region" aria-label="Table of statistics"><table class="small statistics"><caption class="spoken">Statistics of the column</caption>
      <thead><tr><th scope="col">statistic</th><th scope="col" class="right">value</th><th scope="col" class="right">bounds</th><th scope="col" class="right">noise floor</th><th scope="col" class="right">moderate / major from</th><th scope="col">verdict</th></tr></thead>
      <tbody>${shown.map((one) => statisticRow(view, one, column, limits[one.name]))}</tbody></table></div>
  </section>`;
}

function statisticRow(view: View, one: Statistic, column: number, limits: [number, number] | undefined): TemplateResult {
  const text = one.share ? shareText : numberText;
  const low = one.low.at(column), high = one.high.at(column), floor = one.noiseFloor.at(column), p = one.pValue.at(column);
  const undefined_ = Number.isNaN(one.value.at(column));
  const reached = [undefined, undefined, "moderate", "major"][one.reached.at(column) || 0];
  const changed = view.contents.changed[column], own = changed && Object.hasOwn(changed, one.name);
  const verdict = reached ? html`<span class="severity ${reached}">${reached}</span>` : own ? "changed" : "";
  const from = one.from.at(column), to = one.to.at(column), inOwn = inUnit(view, column);
  const between = Number.isNaN(from) ? "" : ` Usual rows lie from ${inOwn(from)} to ${inOwn(to)}.`;
  return html`<tr data-statistic=${one.name}>
    <th scope="row">${one.title}<span class="quiet">${one.sentence}${one.part[column] ? ` Here: the ${one.part[column]} one.` : ""}${one.bound[column] ? " Here it is a lower bound." : ""}${between}</span></th>
    <td class="right value">${undefined_ && one.reason[column] ? html`<span class="quiet">${plain(one.reason[column])}</span>` : statisticText(one, column)}</td>
    <td class="right">${Number.isNaN(low) ? "" : `${text(low)} to ${text(high)}`}</td>
    <td class="right">${Number.isNaN(floor) ? (Number.isNaN(p) ? "" : `p = ${numberText(p)}`) : floor > 1e300 ? "∞" : text(floor)}</td>
    <td class="right">${limits ? limits.map((limit) => (one.share ? shareText(limit) : String(limit))).join(" / ") : ""}</td>
    <td>${verdict}</td></tr>`;
}

/** The thresholds of a column: calibrated ones, else its own, else those of all columns. */
export function limitsOf(view: View, column: number): Record<string, [number, number]> {
  const { contents } = view, time = contents.time;
  const given = (time?.everyLimit ?? contents.head.parameters?.thresholds ?? {}) as Record<string, Record<string, [number, number]>>;
  const own = Object.hasOwn(given, contents.names[column]) ? given[contents.names[column]] : {};
  return { ...given["*"], ...own, ...time?.limits[column] };
}

const SUMMARY: [string, string][] = [
  ["rows", "rows"], ["missing", "missing"], ["null", "  of these null"], ["nan", "  of these NaN"], ["absent", "  of these absent"], ["negative_infinity", "−∞"], ["positive_infinity", "+∞"], ["zeros", "zeros"],
  ["distinct", "distinct values"], ["mean", "mean"], ["std", "standard deviation"], ["min", "minimum"], ["median", "median"], ["max", "maximum"],
];

function summaries(view: View, column: number): TemplateResult {
  const { sides } = view.contents, inOwn = inUnit(view, column);
  const rows = SUMMARY.map(([key, title]) => ({ key, title, values: SIDES.map((side) => sides[side].numbers[key]?.at(column) ?? NaN) }))
    .filter((row) => row.values.some((value) => !Number.isNaN(value)) && (row.values.some((value) => value !== 0) || ["rows", "missing", "mean", "min", "max", "median"].includes(row.key)));
  const text = (key: string, value: number, side: "reference" | "current"): string => {
    if (Number.isNaN(value)) return "–";
    if (["mean", "min", "median", "max"].includes(key)) return inOwn(value);
    const about = key === "distinct" && sides[side].inexact[column] ? "about " : "";
    return about + (key === "std" ? valueText(value) : grouped(value));
  };
  return html`<section aria-labelledby="summary-title"><h3 id="summary-title">Summary</h3>
    <table class="small summary"><caption class="spoken">Summary of both sides</caption><thead><tr><th scope="col"></th>${SIDES.map((side) => html`<th scope="col" class="right">${side}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr data-summary=${row.key}><th scope="row">${row.title}</th>${SIDES.map((side, of) => html`<td class="right">${text(row.key, row.values[of], side)}</td>`)}</tr>`)}</tbody></table>
  </section>`;
}
