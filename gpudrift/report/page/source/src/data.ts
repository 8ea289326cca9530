// The contents of the page, unpacked. What packs them is gpudrift/report/page/packing.py.

interface Block { t: string; b: string }
interface PackedNumbers {
  n: number;
  all?: number;
  else?: number;
  at?: Block;
  codes?: Block;
  values?: Block;
  also?: Record<string, number>;
}
interface PackedRows { sizes: Block; wide: number[]; f32: Block; f64: Block }
export type Sparse<T> = Record<string, T>;
type Numeric = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float32Array | Float64Array;

const KINDS: Record<string, new (buffer: ArrayBuffer) => Numeric> = {
  u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, i32: Int32Array, f32: Float32Array, f64: Float64Array,
};

function unblock(block: Block): Numeric {
  const text = atob(block.b);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return new KINDS[block.t](bytes.buffer);
}

// Codes of decimals of three digits; see packing.py.
const LEAST = -12, MOST = 21, FIRST = 2;
const NEGATIVE = (MOST - LEAST + 1) * 900;
const DECODED = decoded();

function decoded(): Float64Array {
  const table = new Float64Array(65536).fill(NaN);
  table[1] = 0;
  for (let power = LEAST; power <= MOST; power++) {
    for (let digits = 100; digits < 1000; digits++) {
      const code = FIRST + (power - LEAST) * 900 + digits - 100;
      const shift = power - 2; // powers of ten up to 22 are exact, so both are rounded once
      table[code] = shift < 0 ? digits / 10 ** -shift : digits * 10 ** shift;
      table[code + NEGATIVE] = -table[code];
    }
  }
  return table;
}

/** Numbers that are unpacked when the first one is asked for; NaN where there is none. */
export class Numbers {
  private unpacked: Float64Array | undefined;
  constructor(private readonly packed: PackedNumbers | undefined) {}

  get any(): boolean {
    return this.packed !== undefined;
  }

  get values(): Float64Array {
    return (this.unpacked ??= this.unpack());
  }

  at(place: number): number {
    if (this.packed === undefined || place >= this.packed.n) return NaN;
    return this.values[place];
  }

  private unpack(): Float64Array {
    const packed = this.packed;
    if (packed === undefined) return new Float64Array(0);
    const found = new Float64Array(packed.n).fill(packed.else ?? NaN);
    if (packed.all !== undefined) return found.fill(packed.values || !this.coded(packed) ? packed.all : DECODED[packed.all]);
    const from = packed.codes ? Float64Array.from(unblock(packed.codes) as Uint16Array, (code) => DECODED[code])
      : unblock(packed.values!);
    const at = packed.at ? unblock(packed.at) : undefined;
    for (let place = 0; place < from.length; place++) found[at ? at[place] : place] = from[place];
    for (const [place, value] of Object.entries(packed.also ?? {})) found[Number(place)] = value;
    return found;
  }

  protected coded(_packed: PackedNumbers): boolean {
    return false;
  }
}

/** Numbers as they are shown, in three digits. */
export class Shown extends Numbers {
  protected override coded(): boolean {
    return true;
  }
}

/** Rows of numbers of different lengths. */
export class Rows {
  private readonly starts: Uint32Array;
  private readonly wide: Set<number>;
  private readonly parts: { narrow: Numeric; wide: Numeric };

  constructor(packed: PackedRows) {
    const sizes = unblock(packed.sizes);
    this.wide = new Set(packed.wide);
    this.parts = { narrow: unblock(packed.f32), wide: unblock(packed.f64) };
    this.starts = new Uint32Array(2 * sizes.length);
    const used = [0, 0];
    for (let at = 0; at < sizes.length; at++) {
      const kind = this.wide.has(at) ? 1 : 0;
      this.starts[2 * at] = used[kind];
      this.starts[2 * at + 1] = used[kind] += sizes[at];
    }
  }

  row(at: number): Float64Array {
    if (2 * at >= this.starts.length) return new Float64Array(0);
    const part = this.wide.has(at) ? this.parts.wide : this.parts.narrow;
    return Float64Array.from(part.subarray(this.starts[2 * at], this.starts[2 * at + 1]));
  }
}

export interface Statistic {
  name: string;
  title: string;
  short: string;
  sentence: string;
  share: boolean;
  value: Shown;
  low: Shown;
  high: Shown;
  noiseFloor: Shown;
  pValue: Shown;
  pAdjusted: Shown;
  dof: Shown;
  reference: Shown;
  current: Shown;
  reason: Sparse<string>;
  part: Sparse<string>;
  bound: Sparse<string>;
  from: Numbers; // the usual rows lie between these values
  to: Numbers;
  reached: Numbers; // 2 moderate, 3 major
  here: Sparse<number> | undefined;
}

export interface Side { [name: string]: Numbers }
export interface SideSummary {
  numbers: Side;
  inexact: Sparse<number>;
  levels: number[];
  quantiles: Numbers[];
}

export interface Picture {
  edges: Float64Array | undefined;
  labels: (string | null)[] | undefined;
  reference: Float64Array;
  current: Float64Array;
  log: number | undefined;
  isTime: boolean;
  points: [number, number, number][];
}

export interface Cell { label: string | null; before: number; now: number; part: number; share: number }

export interface WindowLine {
  window: string;
  short: string;
  rows: number;
  judged: number;
  drifted: number;
  segments: number;
  quality: number;
  strongest: [number, string, string | null] | null;
}

export interface Finding {
  window?: string;
  segment?: string;
  kind: string;
  rule: string;
  column: string | null;
  severity: string;
  reason: string;
}

export interface Timeline {
  windows: WindowLine[];
  states: Uint8Array; // columns × windows: 0 not judged, 1 none, 2 moderate, 3 major, 4 and 5 the same only in a segment
  series: { name: string; values: Map<number, Float64Array> }[];
  limits: Sparse<Record<string, [number, number]>>;
  everyLimit: Record<string, Record<string, [number, number]>>;
  baselineMedian: Sparse<number>;
  skewed: Set<number>;
  segments: string[];
  bySegment: Sparse<[number, number, number][]>; // column: segment, window, severity
  findings: Finding[];
  moreFindings: number;
  gaps: string[];
  calibrated: string | null;
}

export interface Group { kind: string; sentence: string; names: number[] }
export const SEVERITIES = ["none", "moderate", "major", "undecided", "too few rows", "not judged"];
export const RANK = [3, 1, 0, 2, 4, 5]; // the strongest first

/* eslint-disable @typescript-eslint/no-explicit-any */
export class Contents {
  readonly kind: "comparison" | "monitoring";
  readonly head: any;
  readonly latest: string | null;
  readonly verdict: [string, string]; // a sentence, and the strongest severity
  readonly names: string[];
  readonly plain: string[];
  readonly kinds: Uint8Array;
  readonly kindNames: string[];
  readonly severities: Uint8Array;
  readonly reasons: (string | null)[];
  readonly units: Sparse<string>;
  readonly changed: Sparse<Record<string, string>>;
  readonly notes: string[];
  readonly noted: Sparse<number[]>;
  readonly statistics: Statistic[];
  readonly sides: { reference: SideSummary; current: SideSummary };
  readonly together: Group[];
  readonly time: Timeline | undefined;
  readonly described: number; // columns of which there are numbers; of the others only what became of them over time
  private readonly raw: any;
  private readonly pictures: { starts: Uint32Array; shares: Shown; edges: Rows | undefined };
  private readonly cells: { starts: Uint32Array; before: Shown; now: Shown; part: Shown; share: Shown } | undefined;

  constructor(text: string) {
    const raw = JSON.parse(text);
    const columns = raw.columns;
    this.raw = columns;
    this.kind = raw.kind;
    this.head = raw.head;
    this.latest = raw.latest ?? null;
    this.verdict = raw.verdict;
    this.names = columns.names;
    this.plain = this.names.map((name) => name.toLowerCase());
    this.kinds = unblock(columns.kind) as Uint8Array;
    this.kindNames = columns.kinds;
    this.severities = unblock(columns.severity) as Uint8Array;
    this.described = this.severities.length;
    this.reasons = columns.reason;
    this.units = columns.unit;
    this.changed = columns.changed;
    this.notes = columns.notes;
    this.noted = columns.note;
    this.together = raw.together;
    this.statistics = Object.entries<any>(columns.statistics).map(([name, one]) => statistic(name, one, raw.definitions[name]));
    this.sides = { reference: side(columns.sides.reference), current: side(columns.sides.current) };
    const sizes = unblock(columns.pictures.sizes);
    this.pictures = {
      starts: startsOf(sizes).map((start) => 2 * start),
      shares: new Shown(columns.pictures.shares ?? undefined),
      edges: columns.pictures.edges ? new Rows(columns.pictures.edges) : undefined,
    };
    if (columns.psi) {
      const { sizes, reference, current, adds, share } = columns.psi;
      this.cells = {
        starts: startsOf(unblock(sizes)),
        before: new Shown(reference), now: new Shown(current), part: new Shown(adds), share: new Shown(share),
      };
    }
    this.time = raw.time ? timeline(raw.time, this.names.length) : undefined;
  }

  statistic(name: string): Statistic | undefined {
    return this.statistics.find((one) => one.name === name);
  }

  severity(at: number): number {
    return at < this.described ? this.severities[at] : 5;
  }

  kindOf(at: number): string {
    return at < this.described ? this.kindNames[this.kinds[at]] : "";
  }

  drifted(at: number): boolean {
    return this.severity(at) === 1 || this.severity(at) === 2;
  }

  picture(at: number): Picture | undefined {
    const { starts, shares, edges } = this.pictures;
    if (at >= this.described || starts[at] === starts[at + 1]) return undefined;
    const middle = (starts[at] + starts[at + 1]) / 2;
    const bins = edges?.row(at);
    const none = (share: number): number => (Number.isNaN(share) ? 0 : share);
    return {
      edges: bins && bins.length ? bins : undefined,
      labels: this.raw.pictures.labels[at],
      reference: shares.values.slice(starts[at], middle).map(none),
      current: shares.values.slice(middle, starts[at + 1]).map(none),
      log: this.raw.pictures.logs[at],
      isTime: this.isTime(at),
      points: this.raw.pictures.points[at] ?? [],
    };
  }

  isTime(at: number): boolean {
    return (this.raw.pictures.times as number[]).includes(at);
  }

  /** What most of the PSI is made of, the largest part first, and how many cells there are besides. */
  psiCells(at: number): { cells: Cell[]; more: [number, number] | undefined } {
    const packed = this.cells, cells: Cell[] = [];
    if (!packed || at >= this.described) return { cells, more: undefined };
    for (let cell = packed.starts[at]; cell < packed.starts[at + 1]; cell++) {
      cells.push({
        label: this.raw.psi.labels[cell],
        before: packed.before.at(cell), now: packed.now.at(cell), part: packed.part.at(cell), share: packed.share.at(cell),
      });
    }
    return { cells, more: this.raw.psi.more[at] };
  }
}

function startsOf(sizes: Numeric): Uint32Array {
  const starts = new Uint32Array(sizes.length + 1);
  for (let at = 0; at < sizes.length; at++) starts[at + 1] = starts[at] + sizes[at];
  return starts;
}

function statistic(name: string, one: any, about: [string, string, string, boolean] | undefined): Statistic {
  const [title, short, sentence, share] = about ?? [name, name, "", false];
  return {
    name, title, short, sentence, share,
    value: new Shown(one.value), low: new Shown(one.low), high: new Shown(one.high),
    noiseFloor: new Shown(one.noise_floor), pValue: new Shown(one.p_value), pAdjusted: new Shown(one.p_adjusted),
    dof: new Shown(one.dof), reference: new Shown(one.reference), current: new Shown(one.current),
    reason: one.reason ?? {}, part: one.part ?? {}, bound: one.bound ?? {}, from: new Numbers(one.from), to: new Numbers(one.to), reached: new Numbers(one.reached),
    here: one.here,
  };
}

function side(one: any): SideSummary {
  const numbers: Side = {};
  for (const [name, packed] of Object.entries<any>(one)) {
    if (!["levels", "quantiles", "inexact"].includes(name)) numbers[name] = new Numbers(packed);
  }
  return {
    numbers,
    inexact: one.inexact ?? {},
    levels: one.levels ?? [],
    quantiles: (one.quantiles ?? []).map((packed: any) => new Numbers(packed ?? undefined)),
  };
}

function timeline(raw: any, columns: number): Timeline {
  const windows = raw.windows as WindowLine[];
  const states = new Uint8Array(columns * windows.length);
  states.set(unblock(raw.states) as Uint8Array);
  const series = Object.entries<any>(raw.series).map(([name, one]) => {
    const all = new Shown(one.values).values, values = new Map<number, Float64Array>();
    (one.columns as number[]).forEach((column, at) => {
      values.set(column, all.subarray(at * windows.length, (at + 1) * windows.length));
    });
    return { name, values };
  });
  return {
    windows, states, series,
    limits: raw.limits, everyLimit: raw.every_limit, baselineMedian: raw.baseline_median ?? {}, skewed: new Set(raw.skewed), segments: raw.segments, bySegment: raw.by_segment,
    findings: raw.findings, moreFindings: raw.more_findings, gaps: raw.gaps, calibrated: raw.calibrated,
  };
}
