// The first view: the verdict in a sentence, what was found and why, and where it comes from.

import { html, nothing, type TemplateResult } from "lit";
import { SEVERITIES } from "./data";
import { spark, strip } from "./spark";
import { showOnly } from "./table";
import { plain, shortened } from "./text";
import { columnLink, named, severityMark, sideLine, type View } from "./view";

const MOST = 12, MOST_NAMES = 12, MOST_LETTERS = 2000;
const SCHEMA: Record<string, string> = { added: "added", dropped: "dropped", "type changed": "type changed", "unit changed": "unit changed" };

export function overview(view: View): TemplateResult {
  const { contents } = view;
  return html`
    ${verdict(view)}
    ${together(view)}
    ${quality(view)}
    ${drift(view)}
    ${contents.time ? skew(view) : nothing}
    ${changed(view)}
    ${notJudged(view)}
    ${provenance(view)}`;
}

function columnsOf(view: View, severities: number[]): number[] {
  const found: number[] = [];
  for (let column = 0; column < view.contents.described; column++) if (severities.includes(view.contents.severities[column])) found.push(column);
  return found;
}

function verdict(view: View): TemplateResult {
  const { contents } = view;
  const counts = SEVERITIES.map((_, severity) => columnsOf(view, [severity]).length);
  const changes = columnsOf(view, [0]).filter((column) => contents.changed[column]).length;
  const [sentence, worst] = contents.verdict;
  const tiles = [2, 1, 3, 4, 5].filter((severity) => counts[severity]);
  const latest = contents.time && contents.latest !== null ? html`<p class="quiet">The columns below are those of the last window with rows, ${plain(contents.latest)}, beside the baseline.</p>` : nothing;
  return html`<section class="verdict ${worst}" aria-labelledby="verdict-title">
    <h2 id="verdict-title">${plain(sentence)}.</h2>
    <ul class="tiles">
      ${tiles.map((severity) => html`<li><a href="#columns" @click=${() => showOnly([severity])}><strong>${counts[severity].toLocaleString("en")}</strong> ${severityMark(severity)}</a></li>`)}
      ${changes ? html`<li><a href="#overview" @click=${(event: Event) => jump(event, "changed-title")}><strong>${changes.toLocaleString("en")}</strong> changed, below the thresholds</a></li>` : nothing}
      ${contents.head.schema?.length ? html`<li><a href="#overview" @click=${(event: Event) => jump(event, "quality-title")}><strong>${contents.head.schema.length}</strong> schema change${contents.head.schema.length === 1 ? "" : "s"}</a></li>` : nothing}
    </ul>
    <dl class="sides">
      ${sideLine(contents.head.reference ?? contents.head.baseline, contents.time ? "baseline" : "reference", "reference")}
      ${sideLine(contents.head.current, "current", "current")}
    </dl>
    ${latest}
  </section>`;
}

function jump(event: Event, id: string): void {
  event.preventDefault();
  const heading = document.getElementById(id);
  heading?.scrollIntoView();
  heading?.focus();
}

function together(view: View): TemplateResult | typeof nothing {
  const skewed = view.contents.time?.skewed; // they have a section of their own
  const groups = view.contents.together.filter((group) => !skewed || group.kind !== "since" || !group.names.every((column) => skewed.has(column)));
  if (!groups.length) return nothing;
  return html`<section aria-labelledby="together-title"><h2 id="together-title">Moved together</h2>
    <p class="quiet">Columns that changed alike: probably one cause each.</p>
    <ul class="groups">${groups.slice(0, MOST).map((group) => html`<li><p>${plain(group.sentence)}</p><p class="names">${names(view, group.names)}</p></li>`)}</ul>
    ${groups.length > MOST ? html`<p class="quiet">… and ${groups.length - MOST} more groups</p>` : nothing}
  </section>`;
}

function names(view: View, columns: number[]): TemplateResult {
  const more = columns.length - MOST_NAMES;
  return html`${columns.slice(0, MOST_NAMES).map((column, at) => html`${at ? ", " : ""}${columnLink(view, column)}`)}${more > 0 ? html` <span class="quiet">and ${more.toLocaleString("en")} more</span>` : nothing}`;
}

function quality(view: View): TemplateResult | typeof nothing {
  const { contents } = view;
  const schema = (contents.head.schema ?? []) as { column: string; finding: string; reference: string | null; current: string | null }[];
  const found = (contents.time?.findings ?? []).filter((one) => one.kind === "quality");
  if (!schema.length && !found.length) return nothing;
  return html`<section aria-labelledby="quality-title"><h2 id="quality-title" tabindex="-1">Quality <span class="quiet">invalid data</span></h2>
    ${schema.length ? html`<ul class="findings">${schema.slice(0, 50).map((one) => html`<li><span class="severity ${one.finding === "added" ? "moderate" : "major"}">${SCHEMA[one.finding] ?? one.finding}</span>
      ${named(one.column)} <span class="quiet">${[one.reference, one.current].filter((type) => type !== null).map((type) => plain(type!)).join(" → ")}</span></li>`)}</ul>` : nothing}
    ${found.length ? findingList(view, found) : nothing}
    ${schema.length > 50 ? html`<p class="quiet">… and ${schema.length - 50} more changes of the schema</p>` : nothing}
  </section>`;
}

export function findingList(view: View, found: { column: string | null; severity: string; reason: string; window?: string; segment?: string }[]): TemplateResult {
  const known = new Map(view.contents.names.map((name, at) => [name, at]));
  const most = 50;
  return html`<ul class="findings">${found.slice(0, most).map((one) => html`<li>
      <span class="severity ${one.severity}">${one.severity}</span>
      ${one.column === null ? "the table" : known.has(one.column) ? columnLink(view, known.get(one.column)!) : named(one.column)}
      ${one.segment ? html`<span class="quiet">${named(one.segment)}</span>` : nothing}
      ${plain(one.reason)} ${one.window ? html`<span class="quiet">${plain(one.window)}</span>` : nothing}</li>`)}</ul>
    ${found.length > most ? html`<p class="quiet">… and ${(found.length - most).toLocaleString("en")} more</p>` : nothing}`;
}

function card(view: View, column: number): TemplateResult {
  const { contents } = view, time = contents.time;
  const count = time?.windows.length ?? 0;
  return html`<li><a class="card" href="#column/${column}">
    <span class="card-head">${named(contents.names[column], 34)} ${severityMark(contents.severity(column))}</span>
    ${time ? strip(time.states.subarray(column * count, (column + 1) * count), 240) : spark(contents, column)}
    <span class="why">${shortened(contents.reasons[column] ?? "")}</span></a></li>`;
}

function drift(view: View): TemplateResult | typeof nothing {
  const skewed = view.contents.time?.skewed;
  const moved = columnsOf(view, [2, 1]).sort((a, b) => view.contents.severity(b) - view.contents.severity(a) || a - b);
  const drifted = moved.filter((column) => !skewed?.has(column));
  if (!drifted.length) return nothing;
  return html`<section aria-labelledby="drift-title"><h2 id="drift-title">Drift <span class="quiet">valid data whose distribution has changed</span></h2>
    <ul class="cards">${drifted.slice(0, MOST).map((column) => card(view, column))}</ul>
    ${drifted.length > MOST ? html`<p><a href="#columns" @click=${() => showOnly([1, 2])}>All ${moved.length.toLocaleString("en")} columns that drifted</a></p>` : nothing}
  </section>`;
}

function skew(view: View): TemplateResult | typeof nothing {
  const { skewed, findings } = view.contents.time!, columns = [...skewed].sort((a, b) => a - b);
  const found = findings.filter((one) => one.kind === "skew" && !one.segment);
  if (!columns.length && !found.length) return nothing;
  return html`<section aria-labelledby="skew-title"><h2 id="skew-title">Skew <span class="quiet">valid data, unlike the baseline from the first window on</span></h2>
    <ul class="cards">${columns.slice(0, MOST).map((column) => card(view, column))}</ul>
    ${columns.length > MOST ? html`<p class="names">and ${columns.slice(MOST, MOST + 30).map((column, at) => html`${at ? ", " : ""}${columnLink(view, column)}`)}${columns.length > MOST + 30 ? ` and ${(columns.length - MOST - 30).toLocaleString("en")} more` : ""}</p>` : nothing}
    ${found.length ? findingList(view, found) : nothing}</section>`;
}

function changed(view: View): TemplateResult | typeof nothing {
  const { contents } = view;
  const found = columnsOf(view, [0]).filter((column) => contents.changed[column]);
  if (!found.length) return nothing;
  return html`<section aria-labelledby="changed-title"><h2 id="changed-title" tabindex="-1">Changed, below the thresholds</h2>
    <ul class="lines">${found.slice(0, MOST).map((column) => html`<li>${columnLink(view, column)} <span>${shortened(Object.values(contents.changed[column]).join("; "))}</span></li>`)}</ul>
    ${found.length > MOST ? html`<p class="quiet">… and ${(found.length - MOST).toLocaleString("en")} more, in the table of columns</p>` : nothing}
  </section>`;
}

function byReason(columns: number[], reasonOf: (column: number) => string[]): [string, number[]][] {
  const groups = new Map<string, number[]>();
  for (const column of columns) for (const reason of reasonOf(column)) groups.set(reason, [...(groups.get(reason) ?? []), column]);
  return [...groups.entries()].sort((a, b) => b[1].length - a[1].length);
}

function notJudged(view: View): TemplateResult {
  const { contents } = view;
  const reasons = byReason(columnsOf(view, [3, 4, 5]), (column) => [contents.reasons[column] ?? contents.kindOf(column)]);
  const judged = columnsOf(view, [0, 1, 2, 3, 4]).filter((column) => contents.noted[column]);
  const notes = byReason(judged, (column) => contents.noted[column].map((note) => contents.notes[note]));
  const list = (groups: [string, number[]][]): TemplateResult => html`<ul class="groups">${groups.slice(0, MOST).map(([reason, columns]) => html`<li><p>${plain(reason)}</p><p class="names">${names(view, columns)}</p></li>`)}</ul>`;
  return html`
    ${reasons.length ? html`<section aria-labelledby="not-judged-title"><h2 id="not-judged-title">Undecided or not judged</h2>${list(reasons)}</section>` : nothing}
    ${notes.length ? html`<section aria-labelledby="notes-title"><h2 id="notes-title">Notes</h2>${list(notes)}</section>` : nothing}`;
}

function provenance(view: View): TemplateResult {
  const { head } = view.contents, left = head.reference ?? head.baseline;
  const facts: [string, string][] = [
    ["made by", `gpudrift ${head.version}${head.backend ? `, counted by ${head.backend}` : ""}`],
    ["made at", head.created],
    ["fingerprints", `${left.fingerprint} and ${head.current.fingerprint}`],
    ...Object.entries(head.parameters as Record<string, unknown>).map(([name, value]): [string, string] => [name, JSON.stringify(value)]),
    ...(head.versions ? [["versions", Object.entries(head.versions).map(([library, version]) => `${library} ${version}`).join(", ")] as [string, string]] : []),
  ];
  return html`<section aria-labelledby="provenance-title"><h2 id="provenance-title">Where the numbers come from</h2>
    <dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${plain(value.slice(0, MOST_LETTERS))}${value.length > MOST_LETTERS ? "…" : ""}</dd></div>`)}</dl></section>`;
}
