/** What a migration must not do, since programs of the version before go on working on the database while it is updated. */
const forbidden: readonly { readonly what: RegExp; readonly instead: string }[] = [
  { what: /\bDROP\s+(?:TABLE|COLUMN|VIEW|FUNCTION|TRIGGER)\b/i, instead: "leave it, and drop it in a later release" },
  { what: /\bRENAME\b/i, instead: "add the new name, and drop the old one in a later release" },
  { what: /\bALTER\s+(?:COLUMN\s+)?\w+\s+(?:SET\s+DATA\s+)?TYPE\b/i, instead: "add a column of the new type" },
  { what: /\bSET\s+NOT\s+NULL\b/i, instead: "give it a default; older programs do not know the column" },
  {
    what: /\bADD\s+COLUMN\s+(?!IF\b)\w+\s+(?:(?!,|;|\bDEFAULT\b)[\s\S])*\bNOT\s+NULL\b(?:(?!,|;|\bDEFAULT\b)[\s\S])*(?=[,;])/i,
    instead: "give the column a default; older programs insert rows without it",
  },
  { what: /\bTRUNCATE\b/i, instead: "delete what is meant, row by row" },
];

/** Says so, and why older programs can bear it: for the second half of a change whose first is released. */
const contracts = /^-- Contract: .{20,}/m;

/** @returns what older programs could not bear, one text a fault. */
export function migrationFaults(file: string, sql: string): readonly string[] {
  if (contracts.test(sql)) return [];
  const code = sql.replace(/--.*$/gm, "").replace(/\$\$[\s\S]*?\$\$/g, "''");
  return forbidden.flatMap(({ what, instead }) => {
    const found = what.exec(code)?.[0];
    return found === undefined ? [] : `${file}: ${found.replace(/\s+/g, " ")}; ${instead}`;
  });
}
