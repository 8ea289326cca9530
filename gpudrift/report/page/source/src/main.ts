// The page: what stands around the views, and which of them the address asks for.

import { html, nothing, render, type TemplateResult } from "lit";
import { columnView } from "./column";
import { Contents } from "./data";
import { overview } from "./overview";
import { columnTable } from "./table";
import { timeView, windowView } from "./time";
import { plain } from "./text";
import type { View } from "./view";

const root = document.getElementById("page")!;
const contents = new Contents(document.getElementById("contents")!.textContent!);
const view: View = { contents, draw };
const title = document.title;

function route(): { name: string; place: number } {
  const [name, place] = location.hash.slice(1).split("/");
  const count = name === "window" ? (contents.time?.windows.length ?? 0) : contents.names.length;
  const at = Number.parseInt(place ?? "", 10);
  if ((name === "column" || name === "window") && !(at >= 0 && at < count)) return { name: "overview", place: 0 };
  return { name: ["columns", "column", "window", "time"].includes(name) && (contents.time || !["time", "window"].includes(name)) ? name : "overview", place: at };
}

function body(name: string, place: number): TemplateResult {
  if (name === "columns") return columnTable(view);
  if (name === "column") return columnView(view, place);
  if (name === "time") return timeView(view);
  if (name === "window") return windowView(view, place);
  return overview(view);
}

function draw(): void {
  const { name, place } = route();
  const tabs: [string, string][] = [["overview", "Overview"], ["columns", "Columns"], ...(contents.time ? [["time", "Over time"] as [string, string]] : [])];
  const tab = name === "column" ? "columns" : name === "window" ? "time" : name;
  render(html`
    <a class="skip" href="#main" @click=${skip}>Skip to the contents</a>
    <header><h1>${plain(title)}</h1>
      <nav aria-label="Views"><ul>${tabs.map(([key, word]) => html`<li><a href="#${key}" aria-current=${tab === key ? "page" : nothing}>${word}</a></li>`)}</ul></nav>
    </header>
    <main id="main" tabindex="-1" class=${name}>${body(name, place)}</main>
    <footer><p>gpudrift ${plain(contents.head.version)} · ${plain(contents.head.created)}</p></footer>`, root);
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")!.focus();
}

function moved(): void {
  draw();
  const { name } = route();
  window.scrollTo(0, 0);
  const heading = name === "column" || name === "window" ? document.getElementById("view-title") : document.getElementById("main");
  heading?.focus({ preventScroll: true });
  document.title = name === "column" ? `${plain(contents.names[route().place].slice(0, 100))} · ${title}` : title;
}

root.textContent = "";
draw();
window.addEventListener("hashchange", moved);
window.addEventListener("resize", draw);
for (const event of ["beforeprint", "afterprint"]) window.addEventListener(event, draw);
window.matchMedia("print").addEventListener("change", draw);
