/** Whether a text names a time zone: an IANA name such as "Europe/Berlin". */
export function isTimeZone(text: string): boolean {
  // Which most have; to look at the tables of all the others would take a start 30 ms.
  if (text === "UTC") return true;
  // Intl takes offsets as well ("+02:00"), and a calendar that knows no summer time is what nobody means by them.
  if (!/^[A-Za-z]/.test(text)) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: text });
    return true;
  } catch {
    return false;
  }
}
