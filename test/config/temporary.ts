import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Config } from "../../src/config/config.ts";
import { ConfigReading, type LoadResult, loadConfig, readConfigFile } from "../../src/config/load.ts";
import { remarkText } from "../../src/config/remarks.ts";

const nowMs = Date.parse("2026-11-23T00:00:00Z");

/** Writes files into a folder that is gone after the test; gives the folder. */
export async function folderWith(
  context: TestContext,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tollgate-config-"));
  context.after(() => rm(folder, { recursive: true }));
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return folder;
}

/** Loads a configuration from text. */
export async function loadText(
  context: TestContext,
  yaml: string,
  env: Record<string, string> = {},
): Promise<LoadResult> {
  const folder = await folderWith(context, { "config.yaml": yaml });
  return loadConfig({ file: join(folder, "config.yaml"), env, nowMs });
}

/** Reads a configuration from text, to be compiled with more than that. */
export async function readingOf(
  context: TestContext,
  yaml: string,
  env: Record<string, string> = {},
): Promise<ConfigReading> {
  const folder = await folderWith(context, { "config.yaml": yaml });
  const reading = await readConfigFile({ file: join(folder, "config.yaml"), env });
  if (!(reading instanceof ConfigReading)) throw new Error(reading.map(remarkText).join("\n"));
  return reading;
}

/** Loads a configuration that must be right. */
export async function configOf(context: TestContext, yaml: string, env: Record<string, string> = {}): Promise<Config> {
  const result = await loadText(context, yaml, env);
  if (!result.ok) throw new Error(result.faults.map(remarkText).join("\n"));
  return result.config;
}
