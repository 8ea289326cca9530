// A map of columns by windows on a canvas of the size that is seen: 5,000 × 52 cells are drawn 40 rows at a time.

import { short } from "./text";

export interface HeatCell { column: number; window: number }
const ROW = 16, HEAD = 20, GAP = 1;

export class HeatMap {
  private columns: number[] = [];
  private labels: string[] = [];
  private name: (column: number) => string = () => "";
  private states: (column: number) => Uint8Array = () => new Uint8Array(0);
  private values: ((column: number) => Float64Array | undefined) | undefined;
  private limits: (column: number) => [number, number] | undefined = () => undefined;
  private at = { row: 0, window: 0, shown: false };
  private readonly canvas: HTMLCanvasElement;
  private readonly space: HTMLElement;
  private pending = 0;

  constructor(readonly element: HTMLElement, private readonly told: (cell: HeatCell) => void, private readonly open: (cell: HeatCell) => void) {
    this.canvas = element.querySelector("canvas")!;
    this.space = element.querySelector(".map-space")!;
    element.addEventListener("scroll", () => this.later());
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("focus", () => this.point(this.at.row, this.at.window));
    this.canvas.addEventListener("mousemove", (event) => this.mouse(event, false));
    this.canvas.addEventListener("click", (event) => this.mouse(event, true));
    new ResizeObserver(() => this.later()).observe(element);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.later());
  }

  show(columns: number[], labels: string[], name: (column: number) => string, states: (column: number) => Uint8Array,
    values: ((column: number) => Float64Array | undefined) | undefined, limits: (column: number) => [number, number] | undefined): void {
    Object.assign(this, { columns, labels, name, states, values, limits });
    this.at.row = Math.min(this.at.row, Math.max(columns.length - 1, 0));
    this.space.style.blockSize = `${HEAD + columns.length * ROW}px`;
    this.draw();
  }

  private later(): void {
    this.pending ||= requestAnimationFrame(() => {
      this.pending = 0;
      if (this.element.isConnected) this.draw();
    });
  }

  private get left(): number {
    return this.element.clientWidth < 600 ? 110 : 220;
  }

  private get cell(): number {
    return Math.max((this.element.clientWidth - this.left - 4) / Math.max(this.labels.length, 1), 3);
  }

  private draw(): void {
    const width = Math.max(this.element.clientWidth, Math.ceil(this.left + this.cell * this.labels.length)), height = this.element.clientHeight;
    const scale = window.devicePixelRatio || 1;
    if (!height || !this.element.clientWidth) return;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
      this.canvas.style.inlineSize = `${width}px`;
      this.canvas.style.blockSize = `${height}px`;
    }
    const paint = this.canvas.getContext("2d")!, style = getComputedStyle(document.documentElement);
    const colour = (variable: string): string => style.getPropertyValue(variable).trim();
    const colours = ["", colour("--none-cell"), colour("--moderate-cell"), colour("--major-cell"), colour("--moderate-cell"), colour("--major-cell")];
    paint.setTransform(scale, 0, 0, scale, 0, 0);
    paint.clearRect(0, 0, width, height);
    paint.font = `12px ${style.getPropertyValue("--font") || "sans-serif"}`;
    paint.textBaseline = "middle";
    const top = this.element.scrollTop, first = Math.max(Math.floor(top / ROW), 0), left = this.left, size = this.cell;
    const last = Math.min(first + Math.ceil(height / ROW) + 1, this.columns.length);
    const letters = Math.floor(left / 6.6) - 1;
    for (let row = first; row < last; row++) {
      const column = this.columns[row], y = HEAD + row * ROW - top, states = this.states(column);
      const values = this.values?.(column), limits = values && this.limits(column);
      paint.globalAlpha = 1;
      paint.fillStyle = colour("--ink");
      paint.fillText(short(this.name(column), letters), 2, y + ROW / 2);
      for (let at = 0; at < states.length; at++) {
        if (!states[at]) continue;
        const x = left + at * size, w = Math.max(size - GAP, 1);
        if (this.values) {
          const value = Math.abs(values?.[at] ?? 0), full = limits ? limits[1] * 2 : 1;
          paint.globalAlpha = Math.min(0.08 + 0.92 * Math.sqrt(Math.min(value / full, 1)), 1);
          paint.fillStyle = colour("--current");
          paint.fillRect(x, y, w, ROW - GAP);
        } else {
          paint.globalAlpha = states[at] > 3 ? 0.55 : 1;
          paint.fillStyle = colours[states[at]];
          if (states[at] > 3) paint.fillRect(x, y + ROW / 2, w, ROW / 2 - GAP); // only in a segment: half a cell
          else paint.fillRect(x, y, w, ROW - GAP);
        }
      }
    }
    paint.globalAlpha = 1;
    paint.fillStyle = colour("--paper");
    paint.fillRect(0, 0, width, HEAD);
    paint.fillStyle = colour("--quiet");
    const every = Math.max(1, Math.ceil(78 / size));
    for (let at = 0; at < this.labels.length; at += every) if (left + at * size + 60 < width) paint.fillText(short(this.labels[at], 24), left + at * size, HEAD / 2);
    if (this.at.shown && this.at.row >= first && this.at.row < last) {
      paint.strokeStyle = colour("--ink");
      paint.lineWidth = 2;
      paint.strokeRect(left + this.at.window * size - 1, HEAD + this.at.row * ROW - top - 1, Math.max(size - GAP, 1) + 2, ROW - GAP + 2);
    }
  }

  private point(row: number, window: number): void {
    if (!this.columns.length || !this.labels.length) return;
    this.at = { row: Math.min(Math.max(row, 0), this.columns.length - 1), window: Math.min(Math.max(window, 0), this.labels.length - 1), shown: true };
    const y = this.at.row * ROW, seen = this.element.clientHeight - HEAD - ROW;
    if (y < this.element.scrollTop) this.element.scrollTop = y;
    else if (y > this.element.scrollTop + seen) this.element.scrollTop = y - seen;
    this.told({ column: this.columns[this.at.row], window: this.at.window });
    this.draw();
  }

  private key(event: KeyboardEvent): void {
    const screen = Math.max(Math.floor(this.element.clientHeight / ROW) - 2, 1), { row, window } = this.at;
    const moves: Record<string, [number, number]> = {
      ArrowDown: [row + 1, window], ArrowUp: [row - 1, window], ArrowLeft: [row, window - 1], ArrowRight: [row, window + 1],
      PageDown: [row + screen, window], PageUp: [row - screen, window], Home: [0, window], End: [this.columns.length - 1, window],
    };
    if (event.key === "Enter" && this.columns.length) this.open({ column: this.columns[row], window });
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.point(...move);
  }

  private mouse(event: MouseEvent, open: boolean): void {
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - HEAD + this.element.scrollTop) / ROW);
    const window = Math.floor((event.clientX - box.left - this.left) / this.cell);
    if (row < 0 || row >= this.columns.length || event.clientY - box.top < HEAD) return;
    if (open) this.open({ column: this.columns[row], window });
    else if (window >= 0 && window < this.labels.length) {
      this.at = { row, window, shown: true };
      this.told({ column: this.columns[row], window });
      this.later();
    }
  }
}
