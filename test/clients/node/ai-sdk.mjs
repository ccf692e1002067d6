// Vercel's AI SDK as it comes, by OpenAI's chat, by its responses (the SDK's own choice) or by Anthropic's door: completes, streams
// and has its tools called.
//
// Usage: ai-sdk.mjs openai|responses|anthropic MODEL...    (SIDECAR_URL and API_KEY say where and as whom)
// Prints one JSON object: what each model said.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [door, ...names] = process.argv.slice(2);
const options = { baseURL: `${process.env.SIDECAR_URL}/v1`, apiKey: process.env.API_KEY };
const openai = createOpenAI(options);
const provider = { openai: openai.chat, responses: openai, anthropic: createAnthropic(options) }[door];

const weather = tool({
  description: "The weather.",
  inputSchema: z.object({ city: z.string().optional(), days: z.number().optional() }),
  execute: async () => "sunny",
});

/** One run: the answer's text, the tools it called on the way, and the tokens. */
async function told(result) {
  const steps = await result.steps;
  const calls = steps.flatMap((step) => step.toolCalls.map(({ toolName, input }) => [toolName, input]));
  const { inputTokens, outputTokens } = steps.at(-1).usage;
  return { text: steps.at(-1).text, calls, tokens: [inputTokens, outputTokens] };
}

async function streamed(ask) {
  const result = streamText({ ...ask, onError: () => {} });
  const kinds = new Set();
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    kinds.add(part.type);
  }
  if (!kinds.has("text-delta")) throw new Error(`no text was streamed: ${[...kinds]}`);
  return told(result);
}

const said = {};
for (const name of names) {
  // Where nothing is stored the SDK must not refer to it.
  const providerOptions = { openai: { store: name === "gpt" } };
  const plain = { model: provider(name), prompt: "Hello", maxRetries: 0, ...(door === "responses" && { providerOptions }) };
  const withTools = { ...plain, tools: { weather }, stopWhen: stepCountIs(3) };
  said[name] = {
    whole: await told(await generateText(plain)),
    streamed: await streamed(plain),
    tools: await told(await generateText(withTools)),
    streamedTools: await streamed(withTools),
  };
}
process.stdout.write(JSON.stringify(said));
