import { systemClock, systemRandom } from "../src/index.ts";
import { reencryptDatabase } from "../src/keyservice/reencryption.ts";
import { fileConfigOf, keyServiceFacts } from "./keyservice.ts";
import type { Settings } from "./settings.ts";

/**
 * `tollgate reencrypt`: puts stored secrets under the newest of TOLLGATE_ENCRYPTION_KEYS, so that the others can be left out.
 *
 * @returns the exit code: 0, or 70 if there are secrets that no key opens.
 */
export async function reencrypt(settings: Settings, stdout: { write(text: string): unknown }): Promise<number> {
  const facts = keyServiceFacts(settings, await fileConfigOf(settings));
  const { changed, unreadable, newestKeyId } = await reencryptDatabase({
    ...facts,
    clock: systemClock,
    random: systemRandom,
  });
  stdout.write(`${changed} ${changed === 1 ? "row" : "rows"} re-encrypted; the newest key is ${newestKeyId}.\n`);
  for (const name of unreadable) {
    stdout.write(`No key of TOLLGATE_ENCRYPTION_KEYS, nor the salt key, opens the secrets of ${name}.\n`);
  }
  return unreadable.length === 0 ? 0 : exitSoftware;
}

/** As sysexits.h has it: the work could not be done. */
const exitSoftware = 70;
