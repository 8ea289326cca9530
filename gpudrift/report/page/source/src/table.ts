// The table of all columns: only the rows in sight are in the document, so 5,000 columns are as quick as 50.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import { repeat } from "lit/directives/repeat.js"; // by column, so that what has the focus stays itself
import { RANK, SEVERITIES } from "./data";
import { spark, strip } from "./spark";
import { numberText, shareText, shortened } from "./text";
import { columnLink, severityMark, thenNow, type View } from "./view";

interface Sorted { key: string; down: boolean }
interface Shape {
  key: string;
  title: string;
  hint?: string;
  right?: boolean;
  cell: (view: View, column: number) => unknown;
  value: (view: View, column: number) => number | string;
}

const state = {
  search: "",
  severities: new Set<number>(),
  kind: "",
  sorted: { key: "drift", down: false } as Sorted,
  top: 0,
  focused: -1, // the row that has the focus: its neighbours are drawn at once, before the table has scrolled
  height: 900,
  order: undefined as Int32Array | undefined,
  shapes: undefined as Shape[] | undefined,
};
const AROUND = 8; // rows drawn beyond what is seen, so that the keyboard reaches the next one

function number(name: string, title: string): Shape {
  return {
    key: name, title, right: true,
    cell: (view, column) => {
      const one = view.contents.statistic(name)!;
      const value = one.value.at(column);
      if (Number.isNaN(value)) return "";
      return one.share ? shareText(value) : numberText(value);
    },
    value: (view, column) => Math.abs(view.contents.statistic(name)!.value.at(column)),
  };
}

function shapes(view: View): Shape[] {
  const { contents } = view;
  const known = (name: string): boolean => Boolean(contents.statistic(name)?.value.any);
  const found: Shape[] = [
    { key: "drift", title: "Verdict", cell: (_, column) => severityMark(contents.severity(column)), value: (_, column) => RANK[contents.severity(column)] * 1e6 + column },
    { key: "name", title: "Column", cell: (_, column) => columnLink(view, column, 32), value: (_, column) => contents.plain[column] },
    { key: "picture", title: "Distributions", cell: (_, column) => spark(contents, column), value: () => 0 },
  ];
  const time = contents.time;
  if (time) {
    const count = time.windows.length;
    const row = (column: number): Uint8Array => time.states.subarray(column * count, (column + 1) * count);
    found.push({
      key: "windows", title: "Over time", cell: (_, column) => strip(row(column)),
      value: (_, column) => row(column).reduce((sum, one) => sum + (one > 1 ? 1 : 0), 0),
    });
  }
  found.push({ key: "why", title: "Why", cell: (_, column) => html`<div class="clamp">${why(view, column)}</div>`, value: (_, column) => contents.reasons[column] ?? "" });
  for (const [name, title] of [["psi", "PSI"], ["wasserstein_scaled", "W/σ"], ["cramers_v", "V"]]) if (known(name)) found.push(number(name, title));
  const missing = contents.statistic("missing");
  if (missing?.value.any && missing.current.any) {
    found.push({
      key: "missing", title: "Missing", right: true,
      cell: (_, column) => {
        const before = missing.reference.at(column), now = missing.current.at(column);
        if (!before && !now) return "";
        const texts = [shareText(before), shareText(now)];
        return texts[0] === texts[1] ? texts[0] : thenNow(texts[0], texts[1]);
      },
      value: (_, column) => Math.abs(missing.value.at(column)),
    });
  }
  found.push({ key: "kind", title: "Kind", cell: (_, column) => contents.kindOf(column), value: (_, column) => contents.kindOf(column) });
  return found;
}

function why(view: View, column: number): string {
  const { contents } = view;
  const reason = contents.reasons[column];
  if (reason) return shortened(reason);
  const changed = contents.changed[column];
  return changed ? `below the thresholds: ${shortened(Object.values(changed).join("; "))}` : "";
}

function order(view: View): Int32Array {
  if (state.order) return state.order;
  const { contents } = view;
  const needle = state.search.trim().toLowerCase();
  const chosen: number[] = [];
  for (let column = 0; column < contents.names.length; column++) {
    if (state.severities.size && !state.severities.has(contents.severity(column))) continue;
    if (state.kind && contents.kindOf(column) !== state.kind) continue;
    if (needle && !contents.plain[column].includes(needle) && !(contents.reasons[column] ?? "").toLowerCase().includes(needle)) continue;
    chosen.push(column);
  }
  const { key, down } = state.sorted;
  const shape = state.shapes!.find((one) => one.key === key)!;
  const values = new Map(chosen.map((column) => [column, shape.value(view, column)]));
  const sign = down ? -1 : 1;
  chosen.sort((a, b) => {
    const [x, y] = [values.get(a)!, values.get(b)!];
    if (typeof x === "string") return sign * (x < (y as string) ? -1 : x > (y as string) ? 1 : 0) || a - b;
    const [known, other] = [Number.isNaN(x), Number.isNaN(y)];
    if (known || other) return known && other ? a - b : known ? 1 : -1; // none comes last, whichever way
    return sign * (x - (y as number)) || a - b;
  });
  return (state.order = Int32Array.from(chosen));
}

function change(view: View, act: () => void): void {
  act();
  state.order = undefined;
  state.top = 0;
  state.focused = -1;
  const scroll = document.querySelector(".rows");
  if (scroll) scroll.scrollTop = 0;
  view.draw();
}

function sortBy(view: View, key: string): void {
  const numeric = !["drift", "name", "kind", "why"].includes(key);
  change(view, () => (state.sorted = { key, down: state.sorted.key === key ? !state.sorted.down : numeric }));
}

/** Show the columns of some verdicts only: what a link of the overview does. */
export function showOnly(severities: number[]): void {
  state.severities = new Set(severities);
  state.search = "";
  state.kind = "";
  state.order = undefined;
  state.top = 0;
  state.focused = -1;
}

export function columnTable(view: View): TemplateResult {
  const { contents } = view;
  state.shapes ??= shapes(view);
  const rows = order(view), printing = window.matchMedia("print").matches;
  const height = rowHeight();
  let first = Math.max(Math.floor(state.top / height) - AROUND, 0);
  let last = Math.min(first + Math.ceil(state.height / height) + 2 * AROUND, rows.length);
  if (state.focused >= 0 && state.focused < last + 2 * AROUND && state.focused >= first - 2 * AROUND) {
    first = Math.max(Math.min(first, state.focused - AROUND), 0);
    last = Math.min(Math.max(last, state.focused + AROUND + 1), rows.length);
  }
  if (printing) [first, last] = [0, Math.min(rows.length, 500)];
  const counts = SEVERITIES.map((_, severity) => {
    let count = 0;
    for (let column = 0; column < contents.names.length; column++) if (contents.severity(column) === severity) count++;
    return count;
  });
  const of = rows.length === contents.names.length ? "" : ` of ${contents.names.length.toLocaleString("en")}`;
  return html`<section aria-labelledby="columns-title">
    <h2 id="columns-title">Columns</h2>
    <form class="tools" role="search" @submit=${(event: Event) => event.preventDefault()}>
      <label>Search <input type="search" name="search" autocomplete="off" .value=${live(state.search)}
        @input=${(event: Event) => change(view, () => (state.search = (event.target as HTMLInputElement).value))}></label>
      <fieldset><legend class="spoken">Verdicts</legend>
        ${SEVERITIES.map((word, severity) => (counts[severity] ? html`<label class="chip"><input type="checkbox"
          .checked=${live(state.severities.has(severity))} @change=${() => change(view, () => toggle(severity))}>
          <span>${word} ${counts[severity].toLocaleString("en")}</span></label>` : nothing))}
      </fieldset>
      ${contents.kindNames.length > 1 ? html`<label>Kind <select name="kind" @change=${(event: Event) => change(view, () => (state.kind = (event.target as HTMLSelectElement).value))}>
        <option value="">all</option>${contents.kindNames.map((kind) => html`<option ?selected=${kind === state.kind}>${kind}</option>`)}</select></label>` : nothing}
      <span class="legend"><span class="swatch reference" aria-hidden="true"></span>reference <span class="swatch current" aria-hidden="true"></span>current</span>
      <output aria-live="polite">${rows.length.toLocaleString("en")}${of} column${rows.length === 1 && !of ? "" : "s"}</output>
    </form>
    <div class="rows" tabindex="0" role="region" aria-label="Table of columns" @scroll=${(event: Event) => scrolled(view, event.target as HTMLElement)} @focusin=${(event: Event) => focused(view, event.target as HTMLElement)}>
      <table class="columns" aria-rowcount=${rows.length + 1}>
        <thead><tr aria-rowindex="1">${state.shapes.map((shape) => heading(view, shape))}</tr></thead>
        <tbody>
          <tr class="space" aria-hidden="true" style="block-size:${first * height}px"></tr>
          ${repeat(rows.subarray(first, last), (column) => column, (column, at) => html`<tr aria-rowindex=${first + at + 2}>
            ${state.shapes!.map((shape) => cell(view, shape, column))}</tr>`)}
          <tr class="space" aria-hidden="true" style="block-size:${(rows.length - last) * height}px"></tr>
        </tbody>
      </table>
      ${rows.length ? nothing : html`<p class="empty">No column matches.</p>`}
    </div>
    ${printing && last < rows.length ? html`<p>The first ${last} of ${rows.length.toLocaleString("en")} columns.</p>` : nothing}
  </section>`;
}

function heading(view: View, shape: Shape): TemplateResult {
  const sorted = state.sorted.key === shape.key ? (state.sorted.down ? "descending" : "ascending") : "none";
  if (shape.key === "picture") {
    return html`<th scope="col" class="picture"><strong>Distributions</strong></th>`;
  }
  const sign = sorted === "none" ? "" : sorted === "ascending" ? "▲" : "▼";
  return html`<th scope="col" class="${shape.key} ${shape.right ? "right" : ""}" aria-sort=${sorted}>
    <button type="button" @click=${() => sortBy(view, shape.key)}>${shape.title} <span class="sign" aria-hidden="true">${sign}</span></button></th>`;
}

function cell(view: View, shape: Shape, column: number): TemplateResult {
  const content = shape.cell(view, column), kind = `${shape.key} ${shape.right ? "right" : ""}`;
  if (shape.key === "name") return html`<th scope="row" class=${kind}>${content}</th>`;
  return html`<td class=${kind} data-title=${shape.title}>${content}</td>`;
}

function toggle(severity: number): void {
  if (!state.severities.delete(severity)) state.severities.add(severity);
}

function scrolled(view: View, element: HTMLElement): void {
  if (state.top === element.scrollTop && state.height === element.clientHeight) return;
  state.top = element.scrollTop;
  state.height = element.clientHeight;
  view.draw();
}

function focused(view: View, element: HTMLElement): void {
  const row = element.closest("tbody tr[aria-rowindex]");
  if (!row) return;
  state.focused = Number(row.getAttribute("aria-rowindex")) - 2;
  view.draw();
}

/** Pixels of a row: what the styles say, for a phone or a desk. */
function rowHeight(): number {
  return Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 40;
}
