// What all views share: the contents, where a reader is, and words that stand in several places.

import { html, type TemplateResult } from "lit";
import { SEVERITIES, type Contents, type Statistic } from "./data";
import { numberText, plain, shareText, short, timeText, valueText } from "./text";

export interface View {
  contents: Contents;
  draw: () => void;
}

/** A name from the data: cut in the middle, isolated from the direction of the text around it. */
export function named(name: string, most = 48): TemplateResult {
  const shown = short(name, most);
  return html`<bdi class="name" title=${name.length > most ? plain(name.slice(0, 1000)) : ""}>${shown}</bdi>`;
}

export function columnLink(view: View, column: number, most = 48): TemplateResult {
  return html`<a href="#column/${column}">${named(view.contents.names[column], most)}</a>`;
}

const SIGNS = ["·", "●", "●", "○", "○", "–"];

export function severityMark(severity: number): TemplateResult {
  const word = SEVERITIES[severity];
  return html`<span class="severity ${word.replaceAll(" ", "-")}"><span aria-hidden="true">${SIGNS[severity]}</span> ${word}</span>`;
}

/** A value of a column, as a number or a time. */
export function inUnit(view: View, column: number): (value: number) => string {
  return view.contents.isTime(column) ? timeText : valueText;
}

export function statisticText(statistic: Statistic, column: number): string {
  const value = statistic.value.at(column);
  return statistic.share ? shareText(value) : numberText(value);
}

/** A value then and now in one phrase. */
export function thenNow(before: string, now: string): TemplateResult {
  return html`${before} <span class="arrow" aria-hidden="true">→</span><span class="spoken"> to </span> ${now}`;
}

/** A bar that shows a share; its number stands beside it. */
export function bar(share: number, kind: string, full = 1): TemplateResult {
  const width = Number.isNaN(share) ? 0 : Math.max(Math.min((100 * share) / (full || 1), 100), share > 0 ? 0.8 : 0);
  return html`<span class="bar ${kind}" style="inline-size:${width.toFixed(2)}%" aria-hidden="true"></span>`;
}

/** What a side is and where it comes from. */
export function sideLine(of: { source: string; rows: number; files: number }, word: string, kind: string): TemplateResult {
  const files = of.files ? ` in ${of.files.toLocaleString("en")} file${of.files === 1 ? "" : "s"}` : "";
  return html`<div class="side"><dt><span class="swatch ${kind}" aria-hidden="true"></span>${word}</dt>
    <dd><bdi>${plain(of.source)}</bdi> <span class="quiet">${of.rows.toLocaleString("en")} row${of.rows === 1 ? "" : "s"}${files}</span></dd></div>`;
}
