// What became of the columns window by window: a map of all of them, one window, and one column.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import { ref } from "lit/directives/ref.js";
import { overTime } from "./charts";
import { limitsOf } from "./column";
import type { Timeline } from "./data";
import { HeatMap, type HeatCell } from "./heatmap";
import { findingList } from "./overview";
import { counted, numberText, plain, shareText, shortened } from "./text";
import { columnLink, named, thenNow, type View } from "./view";

const STATES = ["not judged", "no drift", "moderate", "major", "moderate in a segment", "major in a segment"];
const state = { search: "", by: "drift", statistic: "", shown: "" };
let map: HeatMap | undefined;

/** Of a column what it was in each window. */
function states(time: Timeline, column: number): Uint8Array {
  return time.states.subarray(column * time.windows.length, (column + 1) * time.windows.length);
}

function chosen(view: View): number[] {
  const { contents } = view, time = contents.time!, needle = state.search.trim().toLowerCase();
  const found: number[] = [];
  for (let column = 0; column < contents.names.length; column++) if (!needle || contents.plain[column].includes(needle)) found.push(column);
  const drifted = new Map(found.map((column) => [column, states(time, column).reduce((sum, one) => sum + (one > 1 ? 1 : 0), 0)]));
  const began = new Map(found.map((column) => [column, states(time, column).findIndex((one) => one > 1)]));
  if (state.by === "name") found.sort((a, b) => (contents.plain[a] < contents.plain[b] ? -1 : 1));
  else if (state.by === "began") found.sort((a, b) => ((began.get(a)! + 1 || 1e9) - (began.get(b)! + 1 || 1e9)) || a - b);
  else found.sort((a, b) => drifted.get(b)! - drifted.get(a)! || a - b);
  return found;
}

export function timeView(view: View): TemplateResult {
  const time = view.contents.time!, columns = chosen(view);
  const names = time.series.map((one) => one.name);
  const redraw = (act: () => void): void => {
    act();
    view.draw();
  };
  return html`<section aria-labelledby="map-title"><h2 id="map-title">Columns over time</h2>
    <form class="tools" role="search" @submit=${(event: Event) => event.preventDefault()}>
      <label>Search <input type="search" name="search" autocomplete="off" .value=${live(state.search)} @input=${(event: Event) => redraw(() => (state.search = (event.target as HTMLInputElement).value))}></label>
      <label>Order <select name="order" @change=${(event: Event) => redraw(() => (state.by = (event.target as HTMLSelectElement).value))}>
        ${[["drift", "most windows with drift"], ["began", "when drift began"], ["name", "name"]].map(([key, word]) => html`<option value=${key} ?selected=${key === state.by}>${word}</option>`)}</select></label>
      <label>Show <select name="show" @change=${(event: Event) => redraw(() => (state.statistic = (event.target as HTMLSelectElement).value))}>
        <option value="">verdicts</option>${names.filter((name) => name !== "median").map((name) => html`<option value=${name} ?selected=${name === state.statistic}>${title(view, name)}</option>`)}</select></label>
      <output aria-live="polite">${counted(columns.length, "column")} in ${counted(time.windows.length, "window")}</output>
    </form>
    <div class="map" tabindex="0" role="application" aria-roledescription="heat map" aria-describedby="map-help" aria-label="Heat map of columns by windows"
      ${ref((element) => hold(view, element as HTMLElement | undefined, columns))}><div class="map-space"><canvas aria-hidden="true"></canvas></div></div>
    <p class="legend">${["none", "moderate", "major", "segment-moderate", "segment-major"].map((kind, at) => html`<span class="swatch strip-${kind}" aria-hidden="true"></span>${STATES[at + 1]} `)}<span class="quiet">empty: not judged, or no rows</span></p>
    <p class="quiet" id="map-help">Arrow keys move through columns and windows, Page Up and Page Down by a screen, Enter opens the column.</p>
    <p class="map-cell" aria-live="polite" id="map-cell">&nbsp;</p>
  </section>
  ${time.gaps.length ? html`<section aria-labelledby="gaps-title"><h2 id="gaps-title">Gaps</h2><ul>${time.gaps.map((gap) => html`<li>${plain(gap)}</li>`)}</ul></section>` : nothing}
  ${windowTable(view)}`;
}

function title(view: View, name: string): string {
  return name === "median" ? "Median" : (view.contents.statistic(name)?.title ?? name);
}

function hold(view: View, element: HTMLElement | undefined, columns: number[]): void {
  if (!element) return;
  const time = view.contents.time!;
  const series = time.series.find((one) => one.name === state.statistic);
  if (!map || map.element !== element) map = new HeatMap(element, (cell) => told(view, cell), (cell) => (location.hash = `#column/${cell.column}`));
  map.show(columns, time.windows.map((window) => window.short), (column) => view.contents.names[column], (column) => states(time, column), series && ((column) => series.values.get(column)), (column) => limitsOf(view, column)[state.statistic]);
}

function told(view: View, cell: HeatCell): void {
  const time = view.contents.time!, line = document.getElementById("map-cell");
  if (!line) return;
  const values = time.series.map((one) => ({ name: one.name, value: one.values.get(cell.column)?.[cell.window] ?? NaN })).filter((one) => !Number.isNaN(one.value) && one.value !== 0).slice(0, 4);
  const texts = values.map((one) => `${view.contents.statistic(one.name)?.short ?? one.name} ${seriesText(view, one.name)(one.value)}`);
  line.textContent = `${plain(view.contents.names[cell.column].slice(0, 80))}, ${plain(time.windows[cell.window].short)}: ${STATES[states(time, cell.column)[cell.window]]}${texts.length ? ` (${texts.join(", ")})` : ""}`;
}

function windowTable(view: View): TemplateResult {
  const time = view.contents.time!, full = Math.max(...time.windows.map((window) => window.drifted + window.segments), 1);
  return html`<section aria-labelledby="windows-title"><h2 id="windows-title">Windows</h2>
    <div class="wide" tabindex="0" role="region" aria-label="Table of windows"><table class="small bars windows"><caption class="spoken">Windows, the last one first</caption>
      <thead><tr><th scope="col">window</th><th scope="col" class="right">rows</th><th scope="col">drifted</th><th scope="col" class="right">quality</th><th scope="col">strongest</th></tr></thead>
      <tbody>${time.windows.map((_, at) => time.windows.length - 1 - at).map((at) => {
        const window = time.windows[at], drifted = window.drifted + window.segments;
        return html`<tr><th scope="row"><a href="#window/${at}">${plain(window.short)}</a></th><td class="right">${window.rows.toLocaleString("en")}</td>
          <td>${bar(drifted / full)}<span>${drifted.toLocaleString("en")} of ${window.judged.toLocaleString("en")}</span></td><td class="right">${window.quality || ""}</td>
          <td>${window.strongest ? html`${columnLink(view, window.strongest[0], 28)} ${window.strongest[2] ? html`<span class="quiet">in ${named(window.strongest[2], 28)}</span> ` : nothing}${shortened(window.strongest[1])}` : window.rows ? "" : html`<span class="quiet">no rows</span>`}</td></tr>`;
      })}</tbody></table></div></section>`;
}

function bar(share: number): TemplateResult {
  return html`<span class="bar part" style="inline-size:${(100 * share).toFixed(2)}%" aria-hidden="true"></span>`;
}

function seriesText(view: View, name: string): (value: number) => string {
  return view.contents.statistic(name)?.share ? shareText : numberText;
}

/** One window: which columns drifted in it, and what rules found. */
export function windowView(view: View, place: number): TemplateResult {
  const time = view.contents.time!, window = time.windows[place];
  const drifted: number[] = [];
  for (let column = 0; column < view.contents.names.length; column++) if (states(time, column)[place] > 1) drifted.push(column);
  drifted.sort((a, b) => rank(states(time, b)[place]) - rank(states(time, a)[place]) || a - b);
  const found = time.findings.filter((one) => one.window === window.window);
  const names = time.series.slice(0, 4);
  const most = 500;
  return html`<article><nav class="steps" aria-label="Windows">${place > 0 ? html`<a href="#window/${place - 1}" rel="prev">← ${plain(time.windows[place - 1].short)}</a>` : html`<span></span>`}${place + 1 < time.windows.length ? html`<a href="#window/${place + 1}" rel="next">${plain(time.windows[place + 1].short)} →</a>` : nothing}</nav>
    <h2 tabindex="-1" id="view-title">Window ${plain(window.short)}</h2>
    <p>${counted(window.rows, "row")}; ${drifted.length.toLocaleString("en")} of ${counted(window.judged, "judged column")} drifted.</p>
    ${found.length ? html`<h3>Findings</h3>${findingList(view, found)}` : nothing}
    ${drifted.length ? html`<div class="wide" tabindex="0" role="region" aria-label="Columns that drifted"><table class="small"><caption class="spoken">Columns that drifted in the window</caption>
      <thead><tr><th scope="col">column</th><th scope="col">verdict</th>${names.map((one) => html`<th scope="col" class="right">${view.contents.statistic(one.name)?.short ?? one.name}</th>`)}</tr></thead>
      <tbody>${drifted.slice(0, most).map((column) => html`<tr><th scope="row">${columnLink(view, column)}</th><td>${mark(states(time, column)[place])}</td>
        ${names.map((one) => html`<td class="right">${seriesText(view, one.name)(one.values.get(column)?.[place] ?? NaN)}</td>`)}</tr>`)}</tbody></table></div>
      ${drifted.length > most ? html`<p class="quiet">… and ${(drifted.length - most).toLocaleString("en")} more</p>` : nothing}` : nothing}
  </article>`;
}

function rank(one: number): number {
  return one === 3 ? 9 : one === 2 ? 8 : one;
}

function mark(one: number): TemplateResult {
  return html`<span class="severity ${one % 2 ? "major" : "moderate"}">${STATES[one]}</span>`;
}

/** A column over time: a line for the statistic that is asked for, its segments, when drift began and ended. */
export function columnOverTime(view: View, column: number): TemplateResult | typeof nothing {
  const time = view.contents.time!, own = states(time, column);
  const series = time.series.filter((one) => one.values.has(column));
  const limits = limitsOf(view, column);
  const usual = series.find((one) => view.contents.statistic(one.name)?.reached.at(column)! > 0) ?? series[0];
  const one = series.find((series) => series.name === state.shown) ?? usual;
  const labels = time.windows.map((window) => window.short);
  const runs = runsOf(own);
  const text = (run: [number, number]): TemplateResult => (run[0] === run[1] ? html`${plain(labels[run[0]])}` : thenNow(plain(labels[run[0]]), plain(labels[run[1]])));
  return html`<section aria-labelledby="time-title"><h3 id="time-title">Over time</h3>
    <p>${runs.length ? html`Drifted in ${own.reduce((sum, state) => sum + (state > 1 ? 1 : 0), 0)} of ${own.reduce((sum, state) => sum + (state ? 1 : 0), 0)} judged windows: ${runs.slice(0, 6).map((run, at) => html`${at ? "; " : ""}${text(run)}`)}${runs.length > 6 ? html`; and ${runs.length - 6} more times` : nothing}.` : "It drifted in no window."}</p>
    ${one ? html`<div class="choices" role="group" aria-label="Statistic">${series.map((each) => html`<button type="button" aria-pressed=${each === one} @click=${() => {
      state.shown = each.name;
      view.draw();
    }}>${title(view, each.name)}</button>`)}</div>
    <figure>${overTime(Array.from(one.values.get(column)!, (value, place) => ({ window: labels[place], place, value, state: own[place] })), labels, limits[one.name], title(view, one.name), view.contents.names[column], Boolean(view.contents.statistic(one.name)?.share), runs, one.name === "median" ? time.baselineMedian[column] : undefined)}
      <figcaption>${one.name === "median" ? html`Median of each window; dashed: of the baseline` : html`${title(view, one.name)} against the baseline; coloured above the thresholds`}${time.calibrated ? `, which are calibrated (${plain(time.calibrated)})` : ""}. Dots have the colour of the verdict. ▲ drift begins: an alert is raised; △ it has ended.</figcaption></figure>
    <details><summary>The numbers</summary><div class="wide" tabindex="0" role="region" aria-label="Statistics by window"><table class="small"><thead><tr><th scope="col">window</th><th scope="col">verdict</th>${series.map((each) => html`<th scope="col" class="right">${view.contents.statistic(each.name)?.short ?? each.name}</th>`)}</tr></thead>
      <tbody>${labels.map((label, at) => html`<tr data-window=${at}><th scope="row">${plain(label)}</th><td>${STATES[own[at]]}</td>${series.map((each) => html`<td class="right" data-series=${each.name}>${seriesText(view, each.name)(each.values.get(column)![at])}</td>`)}</tr>`)}</tbody></table></div></details>` : nothing}
    ${segments(view, column)}
  </section>`;
}

function runsOf(own: Uint8Array): [number, number][] {
  const found: [number, number][] = [];
  let last = -2;
  own.forEach((state, at) => {
    if (!state) return; // a window that was not judged neither begins nor ends anything
    if (state > 1) {
      if (found.length && last === 1) found[found.length - 1][1] = at;
      else found.push([at, at]);
    }
    last = state > 1 ? 1 : 0;
  });
  return found;
}

function segments(view: View, column: number): TemplateResult | typeof nothing {
  const time = view.contents.time!, moved = time.bySegment[column] ?? [];
  if (!moved.length) return nothing;
  const bySegment = new Map<number, [number, number][]>();
  for (const [segment, window, severity] of moved) bySegment.set(segment, [...(bySegment.get(segment) ?? []), [window, severity]]);
  const rows = [...bySegment.entries()].sort((a, b) => b[1].length - a[1].length), most = 30;
  return html`<h4>Segments in which it drifted</h4><div class="wide" tabindex="0" role="region" aria-label="Segments over time"><table class="small segments"><caption class="spoken">Segments over time</caption>
    <thead><tr><th scope="col">segment</th><th scope="col" class="right">windows</th><th scope="col">over time</th></tr></thead>
    <tbody>${rows.slice(0, most).map(([segment, windows]) => html`<tr><th scope="row">${named(time.segments[segment], 40)}</th><td class="right">${windows.length}</td><td>${segmentStrip(windows, time.windows.length)}</td></tr>`)}</tbody></table></div>
    ${rows.length > most ? html`<p class="quiet">… and ${rows.length - most} more segments</p>` : nothing}`;
}

function segmentStrip(windows: [number, number][], count: number): TemplateResult {
  return html`<span class="cells" aria-hidden="true" style="--count:${count}">${windows.map(([window, severity]) => html`<i class="strip-${severity > 2 ? "major" : "moderate"}" style="--at:${window}"></i>`)}</span>`;
}
