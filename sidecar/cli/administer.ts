import { audit } from "./audit.ts";
import { budgets } from "./budgets.ts";
import { type Resource, type Server, UsageError } from "./command.ts";
import { credentials } from "./credentials.ts";
import { customers, organizations, tags, teams, users } from "./entities.ts";
import { resourceHelp } from "./help.ts";
import { keys } from "./keys.ts";
import { models } from "./models.ts";
import { type CliIo, runCommand } from "./run-command.ts";
import { spend } from "./spend.ts";

/** Every resource; a further one is a line here and a file beside this one. */
const resources: Readonly<Record<string, Resource>> = {
  ...{ keys, spend, teams, users, organizations, customers, tags },
  ...{ budgets, models, credentials, audit },
};

const keyService: Server = {
  name: "KeyService",
  setting: "KEYSERVICE_URL",
  lists: true,
  url: ({ keyserviceUrl }) => keyserviceUrl,
};

/**
 * `tollgate keys ...` and its like: a client of the KeyService's administration.
 *
 * @returns the exit code.
 */
export async function administer(argv: readonly string[], io: CliIo): Promise<number> {
  const [resourceName = "", verbName = "", ...rest] = argv;
  const resource = resources[resourceName];
  if (resource === undefined) throw new Error(`"${resourceName}" is no resource.`);
  if (["", "--help", "-h", "help"].includes(verbName)) {
    io.stdout.write(resourceHelp(resourceName, resource));
    return 0;
  }
  const words = `tollgate ${resourceName}`;
  const verb = Object.hasOwn(resource.verbs, verbName) ? resource.verbs[verbName] : undefined;
  if (verb !== undefined) return runCommand({ words: `${words} ${verbName}`, verb, server: keyService }, rest, io);
  const unknown = new UsageError(`"${verbName}" is none of ${Object.keys(resource.verbs).join(", ")}`);
  return runCommand({ words, verb: unknown, server: keyService }, rest, io);
}
