// LangChain's OpenAI client as it comes: completes, streams and has its tools called.
//
// Usage: langchain.mjs chat|responses MODEL...    (SIDECAR_URL and API_KEY say where and as whom)
// Prints one JSON object: what each model said.

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";

const weather = tool(async () => "sunny", {
  name: "weather",
  description: "The weather.",
  schema: z.object({ city: z.string().optional(), days: z.number().optional() }),
});

async function whole(model, messages) {
  return model.invoke(messages);
}

async function streamed(model, messages) {
  let answer;
  for await (const piece of await model.stream(messages)) answer = answer === undefined ? piece : answer.concat(piece);
  return answer;
}

/** Asks, and brings the results of the tools that are called. */
async function told(ask, model) {
  const messages = [new HumanMessage("Hello")];
  const calls = [];
  for (;;) {
    const answer = await ask(model, messages);
    if (!answer.tool_calls?.length) {
      const { input_tokens, output_tokens } = answer.usage_metadata ?? {};
      return { text: answer.text, calls, tokens: [input_tokens, output_tokens] };
    }
    messages.push(answer);
    for (const call of answer.tool_calls) {
      calls.push([call.name, call.args]);
      messages.push(new ToolMessage({ content: await weather.invoke(call.args), tool_call_id: call.id }));
    }
  }
}

const said = {};
const [wire, ...names] = process.argv.slice(2);
for (const name of names) {
  const configuration = { baseURL: `${process.env.SIDECAR_URL}/v1` };
  const useResponsesApi = wire === "responses";
  const model = new ChatOpenAI({ model: name, apiKey: process.env.API_KEY, configuration, maxRetries: 0, useResponsesApi });
  const withTools = model.bindTools([weather]);
  said[name] = {
    whole: await told(whole, model),
    streamed: await told(streamed, model),
    tools: await told(whole, withTools),
    streamedTools: await told(streamed, withTools),
  };
}
process.stdout.write(JSON.stringify(said));
