import assert from "node:assert/strict";
import { test } from "node:test";
import { administer } from "../../sidecar/cli/administer.ts";
import { readSettings } from "../../sidecar/settings.ts";

/** Nothing answers there: whatever asks ends otherwise than these tests want. */
const nowhere = { KEYSERVICE_URL: "http://127.0.0.1:1", TOLLGATE_ADMIN_TOKEN: "sk-x" };

async function run(argv: readonly string[]) {
  let [out, err] = ["", ""];
  const code = await administer(argv, {
    stdout: {
      write: (text) => {
        out += text;
      },
    },
    stderr: {
      write: (text) => {
        err += text;
      },
    },
    settings: () => readSettings(nowhere, "host-1"),
  });
  return { code, out, err };
}

test("a wrong command line is told of before anything is asked, with 64", async () => {
  const wrong: [string[], RegExp][] = [
    [["keys", "explode"], /"explode" is none of create, list, aliases, info/],
    [["keys", "info"], /it is written: tollgate keys info KEY/],
    [["keys", "info", ""], /it is written/],
    [["keys", "info", "a", "b"], /it is written/],
    [["keys", "create", "--max-budgets", "5"], /Unknown option '--max-budgets'/],
    [["keys", "create", "--max-budget", "lots"], /--max-budget: "lots" is not an amount/],
    [["keys", "create", "--rpm-limit", "1.5"], /--rpm-limit: "1.5" is not a whole number/],
    [["keys", "create", "--expires", "2027-13-01T00:00:00Z"], /--expires: .* is not a time/],
    [["keys", "create", "--metadata", "[1]"], /--metadata: it is not a JSON object/],
    [["keys", "create", "--window", "5"], /--window: "5" is not DURATION=USD/],
    [["keys", "update", "a"], /nothing to change/],
    [["keys", "update", "a", "--clear", "secret"], /--clear: "secret" is none of/],
    [["keys", "list", "--limit", "0"], /--limit: "0" is not a whole number over 0/],
    [["spend", "report", "--by", "weather"], /--by: "weather" is none of day, key/],
    [["keys", "list", "--token-file", "/dev/null"], /--token-file: it is empty/],
    [["customers", "create"], /it is written: tollgate customers create ID/],
  ];
  for (const [args, message] of wrong) {
    const { code, out, err } = await run(args);
    assert.deepEqual([code, out], [64, ""], args.join(" "));
    assert.match(err, message);
    assert.match(err, /--help` shows how it is used/);
  }
});

test("--help says at each level what there is, and asks for nothing", async () => {
  const resources = {
    keys: "block",
    spend: "report",
    teams: "update",
    users: "create",
    organizations: "list",
    customers: "info",
    tags: "delete",
  };
  for (const [resource, verb] of Object.entries(resources)) {
    for (const args of [[resource], [resource, "--help"]]) {
      const { code, out } = await run(args);
      assert.equal(code, 0);
      assert.match(out, new RegExp(`^tollgate ${resource}: [^]*\\n  ${verb}\\b`));
    }
    const { code, out } = await run([resource, verb, "--help"]);
    assert.equal(code, 0);
    assert.match(out, new RegExp(`^tollgate ${resource} ${verb}\\b.*\\n[^]*--json`));
  }
  assert.match((await run(["keys", "create", "--help"])).out, /--max-budget USD +The most that may be spent/);
});
