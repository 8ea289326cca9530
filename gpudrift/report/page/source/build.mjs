// Builds ../app.js, ../app.css and ../LICENSES.txt, or the same into another folder: node build.mjs [FOLDER]
// The first line of the script says which sources it was built from; a test in Python compares.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

const here = import.meta.dirname;
const target = path.resolve(process.argv[2] ?? path.join(here, ".."));

const sources = ["package.json", "package-lock.json", "build.mjs", "app.css"];
for (const name of await readdir(path.join(here, "src"))) sources.push(`src/${name}`);
sources.sort();
const digest = createHash("sha256");
for (const name of sources) digest.update(`${name}\n`).update(await readFile(path.join(here, name))).update("\n");

const common = { absWorkingDir: here, bundle: true, minify: true, write: false, legalComments: "none", logLevel: "warning", metafile: true };
const script = await build({ ...common, entryPoints: ["src/main.ts"], format: "iife", target: "es2022", charset: "ascii" });
const style = await build({ ...common, entryPoints: ["app.css"], target: "es2022" });
const text = script.outputFiles[0].text;
if (/<\/script|<!--/i.test(text)) throw new Error("the script would end its own element");

const packages = new Set();
for (const input of Object.keys(script.metafile.inputs)) {
  const found = input.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/);
  if (found) packages.add(found[1]);
}
const licences = [];
for (const name of [...packages].sort()) {
  const folder = path.join(here, "node_modules", name);
  const about = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const licence = file ? await readFile(path.join(folder, file), "utf8") : `${about.license}\n`;
  licences.push(`${name} ${about.version}\n\n${licence.trim()}\n`);
}

await mkdir(target, { recursive: true });
await writeFile(path.join(target, "app.js"), `/* sources ${digest.digest("hex")}; licences of libraries: LICENSES.txt of gpudrift/report/page */\n${text}`);
await writeFile(path.join(target, "app.css"), style.outputFiles[0].text);
await writeFile(path.join(target, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
