/**
 * Bundles the programs for the image: `node deploy/bundle.mjs DIRECTORY`. Thousands of modules become a few dozen, which are read, compiled
 * and kept in memory in half the time and space; names stay as they are, so that a stack trace can be read. Beside them go the files
 * they read, the licences of the packages in them, and which packages those are, for the SBOM.
 */
import { cpSync, globSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [target] = process.argv.slice(2);
if (target === undefined) throw new Error("usage: node deploy/bundle.mjs DIRECTORY");
const out = resolve(target);
/** All modules are in one folder there, so what one reads beside it is in it too. */
const readAtRunTime = [
  ["package.json", "package.json"],
  ["LICENSE", "LICENSE"],
  ["deploy/config.demo.yaml", "deploy/config.demo.yaml"],
  ["src/gen/protos.binpb", "gen/protos.binpb"],
  ["src/keyservice/migrations", "sidecar/migrations"],
  ...["src/config/price-table.json", "sidecar/cli/litellm-export.sql", ...globSync("src/counters/*.lua", { cwd: root })].map(
    (file) => [file, `sidecar/${basename(file)}`],
  ),
];

/** Of the words in which zod can complain, English. */
const englishOnly = {
  name: "english only",
  setup({ onLoad }) {
    onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({ contents: 'export { default as en } from "./en.js";' }));
  },
};

/**
 * Of undici what speaks HTTP to one server or many: no `fetch`, WebSocket, cache or mocks, which take a twentieth of a start. Who imports
 * more of it finds that the bundle cannot be made.
 */
const dispatchersOnly = {
  name: "dispatchers only",
  setup({ onLoad }) {
    const contents = `
      import Dispatcher from "./lib/dispatcher/dispatcher.js";
      import api from "./lib/api/index.js";
      Object.assign(Dispatcher.prototype, api);
      export { default as Agent } from "./lib/dispatcher/agent.js";
      export { default as Pool } from "./lib/dispatcher/pool.js";
      export { default as errors } from "./lib/core/errors.js";`;
    onLoad({ filter: /undici\/index\.js$/ }, () => ({ contents }));
  },
};

/**
 * Node's own HTTP, but for what has the names of browsers: importing all of it has Node load its copy of undici, a tenth of a start, and nobody
 * here asks for them. What is asked for by `require` is not looked through.
 */
const httpWithoutBrowsers = {
  name: "http without browsers",
  setup({ onResolve, onLoad }) {
    const namespace = "http";
    const names = "Agent, IncomingMessage, METHODS, STATUS_CODES, Server, ServerResponse, createServer, get, request";
    const contents = `const http = process.getBuiltinModule("node:http"); export const { ${names} } = http; export default http;`;
    const isImport = (kind) => kind === "import-statement" || kind === "dynamic-import";
    onResolve({ filter: /^(node:)?http$/ }, ({ kind }) => (isImport(kind) ? { path: "node:http", namespace } : undefined));
    onLoad({ filter: /./, namespace }, () => ({ contents }));
  },
};

rmSync(out, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: {
    main: "sidecar/main.ts",
    "token-counter-worker": "src/routing/token-counter-worker.ts",
  },
  outdir: join(out, "sidecar"),
  ...{ bundle: true, splitting: true, platform: "node", format: "esm", target: "node24", metafile: true },
  ...{ minifyWhitespace: true, minifySyntax: true, legalComments: "none", logLevel: "warning" },
  plugins: [englishOnly, dispatchersOnly, httpWithoutBrowsers],
  // Node's own are in its copy of undici, too.
  inject: ["deploy/headers.mjs"],
  // Says to undici that it is bundled: then its second parser of HTTP, which is an experiment and is off, stays out, as it does in Node's own.
  define: { esbuildDetection: "true" },
  // Packages in CommonJS ask for Node's own modules by `require`.
  banner: { js: 'import{createRequire as bundledRequire}from"node:module";const require=bundledRequire(import.meta.url);' },
});
for (const [from, to] of readAtRunTime) cpSync(join(root, from), join(out, to), { recursive: true });

const packages = [...new Set(Object.keys(metafile.inputs).flatMap((input) => packageOf(input) ?? []))].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
  return { name, version, license, text: licenceIn(join(root, folder)) };
});
mkdirSync(out, { recursive: true });
writeFileSync(join(out, "packages.json"), JSON.stringify(packages.map(({ name, version }) => ({ name, version })), undefined, 2));
writeFileSync(
  join(out, "THIRD-PARTY-LICENSES.txt"),
  packages.map(({ name, version, license, text }) => `${name} ${version} (${license})\n\n${text}`).join(`\n${"-".repeat(80)}\n\n`),
);

/** The folder of the package that a module is in; undefined: it is ours. */
function packageOf(input) {
  const at = input.lastIndexOf("node_modules/");
  if (at === -1) return undefined;
  const [first = "", second = ""] = input.slice(at + "node_modules/".length).split("/");
  return input.slice(0, at) + join("node_modules", first, first.startsWith("@") ? second : "");
}

/** Its licence's text, and its notices. */
function licenceIn(folder) {
  const files = readdirSync(folder).filter((name) => /^(licen[cs]e|notice|copying)/i.test(name));
  const texts = files.map((name) => join(folder, name)).filter((path) => statSync(path).isFile());
  const text = texts.map((file) => readFileSync(file, "utf8").trim()).join("\n\n");
  return text === "" ? "The package brings no text of its licence.\n" : `${text}\n`;
}
