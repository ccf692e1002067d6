import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import pg from "pg";
import type { Settings } from "../settings.ts";
import { SettingsError } from "../settings.ts";

const usage = `tollgate import litellm [--dry-run]

Reads LiteLLM's database (LITELLM_DATABASE_URL, or the file that LITELLM_DATABASE_URL_FILE names) and makes its budgets, organizations,
users, teams, members, customers, tags and keys at the KeyService (KEYSERVICE_URL), as its operator (TOLLGATE_ADMIN_TOKEN, else the
master key). Keys go on working as they are. It writes nothing to LiteLLM's database, and may be repeated: what is there already stays.

  --dry-run   prints the requests instead of making them
`;
const exportSql = readFileSync(new URL("litellm-export.sql", import.meta.url), "utf8");

interface ImportIo {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
  readonly settings: () => Settings;
}

/** A request that makes one thing. */
interface Making {
  readonly path: string;
  readonly body: object;
}

/**
 * `tollgate import litellm`.
 *
 * @returns the exit code: 0 if everything is there now, 1 if something was refused, which is told with its reason.
 * @throws SettingsError if it is called wrongly; the database's error if that cannot be read.
 */
export async function importLitellm(args: readonly string[], io: ImportIo): Promise<number> {
  const [source, ...rest] = args;
  if (source === "--help" || source === "-h") {
    io.stdout.write(usage);
    return 0;
  }
  if (source !== "litellm") throw new SettingsError(usage);
  const { dryRun } = readFlags(rest);
  const settings = io.settings();
  const makings = await readMakings(settings);
  if (dryRun) {
    for (const { path, body } of makings) io.stdout.write(`${path}\t${JSON.stringify(body)}\n`);
    return 0;
  }
  const counts = { made: 0, there: 0, refused: 0 };
  for (const making of makings) {
    const { outcome, message } = await make(making, settings);
    counts[outcome] += 1;
    if (outcome === "refused") io.stderr.write(`${making.path} ${nameOf(making)}: ${message}\n`);
  }
  io.stdout.write(`${counts.made} made, ${counts.there} were there already, ${counts.refused} refused\n`);
  return counts.refused === 0 ? 0 : 1;
}

function readFlags(args: readonly string[]): { dryRun: boolean } {
  try {
    const { values } = parseArgs({ args: [...args], options: { "dry-run": { type: "boolean", default: false } } });
    return { dryRun: values["dry-run"] };
  } catch (error) {
    throw new SettingsError(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
}

async function readMakings({ litellmDatabaseUrl }: Settings): Promise<Making[]> {
  if (litellmDatabaseUrl === undefined) {
    throw new SettingsError(
      "No LITELLM_DATABASE_URL: say where LiteLLM's database is, postgresql://user:password@host/name.",
    );
  }
  const client = new pg.Client({ connectionString: litellmDatabaseUrl.reveal() });
  await client.connect();
  try {
    await client.query("SET default_transaction_read_only = on");
    return (await client.query<Making>(exportSql)).rows;
  } finally {
    await client.end();
  }
}

async function make(
  { path, body }: Making,
  { keyserviceUrl, adminToken, masterKey }: Settings,
): Promise<{ outcome: "made" | "there" | "refused"; message: string }> {
  const token = adminToken ?? masterKey;
  if (token === undefined) throw new SettingsError("No TOLLGATE_ADMIN_TOKEN, and no LITELLM_MASTER_KEY either.");
  const answer = await fetch(`${keyserviceUrl}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${token.reveal()}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const { error } = (await answer.json()) as { error?: { message?: string; param?: string } };
  const message = error?.message ?? `HTTP ${answer.status}`;
  if (answer.ok) return { outcome: "made", message };
  // Another key of the same alias is not the same key.
  const isThere = answer.headers.get("x-tollgate-error") === "already_exists" && error?.param !== "key_alias";
  return { outcome: isThere ? "there" : "refused", message };
}

/** What is made, by what it is called; of a key never its digest. */
function nameOf({ body }: Making): string {
  const { key_alias, team_id, organization_id, user_id, budget_id, name } = body as Record<string, string | undefined>;
  return key_alias ?? name ?? team_id ?? organization_id ?? user_id ?? budget_id ?? "(without a name)";
}
