import type { JsonObject } from "../completion.ts";
import { arrayOf, countOf, objectOf, textOf } from "./json.ts";

/**
 * The sources of an answer that Google looked things up for, as OpenAI has them.
 *
 * @param text the whole answer: Google counts bytes of it, OpenAI characters.
 */
export function readAnnotations(grounding: JsonObject, text: string): readonly JsonObject[] {
  const chunks = arrayOf(grounding.groundingChunks).map((chunk) => {
    const fields = objectOf(chunk);
    return objectOf(fields?.web) ?? objectOf(fields?.retrievedContext) ?? objectOf(fields?.maps);
  });
  const bytes = Buffer.from(text);
  const charsTo = (end: number) => bytes.toString("utf8", 0, end).length;
  return arrayOf(grounding.groundingSupports).flatMap((value) => {
    const support = objectOf(value);
    const segment = objectOf(support?.segment);
    const place = {
      start_index: charsTo(countOf(segment?.startIndex) ?? 0),
      end_index: charsTo(countOf(segment?.endIndex) ?? 0),
    };
    return arrayOf(support?.groundingChunkIndices).flatMap((index) => {
      const chunk = chunks[countOf(index) ?? -1];
      const url = textOf(chunk?.uri);
      if (url === undefined) return [];
      return [{ type: "url_citation", url_citation: { ...place, url, title: textOf(chunk?.title) ?? "" } }];
    });
  });
}
