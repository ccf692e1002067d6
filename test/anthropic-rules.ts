/** What Anthropic's Messages API refuses, as its reference documents it: the reason, or undefined if it takes the request. */

type Fields = Readonly<Record<string, unknown>>;

const bodyFields = new Set(
  `model max_tokens messages system stop_sequences stream temperature top_p top_k tools tool_choice thinking metadata
   service_tier output_config container mcp_servers context_management cache_control inference_geo speed
   diagnostics`.split(/\s+/),
);
const samplingFields = ["temperature", "top_p", "top_k"];
const blockTypes = new Set(
  `text image document search_result thinking redacted_thinking tool_use tool_result server_tool_use
   web_search_tool_result`.split(/\s+/),
);

export function faultOf(body: Fields, version: string): string | undefined {
  const extra = Object.keys(body).find((key) => !bodyFields.has(key));
  if (extra !== undefined) return `${extra}: Extra inputs are not permitted`;
  const sampling = samplingFields.find((key) => body[key] !== undefined);
  if (sampling !== undefined && version >= "2026-10-21") return `${sampling}: Extra inputs are not permitted`;
  if (typeof body.model !== "string") return "model: Field required";
  if (!isPositive(body.max_tokens)) return "max_tokens: Field required";
  if (Number(body.temperature ?? 0) > 1) return "temperature: range: 0..1";
  const metadata = Object.keys(fieldsOf(body.metadata)).find((key) => key !== "user_id");
  if (metadata !== undefined) return `metadata.${metadata}: Extra inputs are not permitted`;
  if (body.system !== undefined && typeof body.system !== "string") {
    const wrong = listOf(body.system).find((block) => block.type !== "text" || block.text === "");
    if (wrong !== undefined) return "system: text content blocks must be non-empty";
  }
  return messagesFault(body) ?? toolsFault(body) ?? thinkingFault(body) ?? formatFault(body) ?? cacheFault(body);
}

function messagesFault(body: Fields): string | undefined {
  const messages = listOf(body.messages);
  if (messages.length === 0) return "messages: at least one message is required";
  if (messages[0]?.role !== "user") return 'messages: first message must use the "user" role';
  let open: string[] = [];
  for (const [index, { role, content }] of messages.entries()) {
    if (role !== "user" && role !== "assistant") return `messages.${index}.role: Input should be 'user' or 'assistant'`;
    if (typeof content === "string" ? content === "" : listOf(content).length === 0) {
      return `messages.${index}: all messages must have non-empty content`;
    }
    const blocks = typeof content === "string" ? [] : listOf(content);
    const fault = blocks.map((block, place) => blockFault(block, `messages.${index}.content.${place}`)).find(Boolean);
    if (fault !== undefined) return fault;
    const answered = blocks.filter(({ type }) => type === "tool_result").map((block) => String(block.tool_use_id));
    if (open.some((id) => !answered.includes(id))) {
      return `messages.${index}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${open.join(", ")}`;
    }
    const stray = answered.find((id) => !open.includes(id));
    if (stray !== undefined)
      return `messages.${index}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${stray}`;
    open = blocks.filter(({ type }) => type === "tool_use").map((block) => String(block.id));
  }
  return undefined;
}

function blockFault(block: Fields, where: string): string | undefined {
  if (!blockTypes.has(String(block.type)))
    return `${where}: Input tag '${block.type}' found using 'type' does not match`;
  if (block.type === "text" && String(block.text ?? "").trim() === "")
    return `${where}: text content blocks must be non-empty`;
  if (block.type === "thinking" && typeof block.signature !== "string") return `${where}.signature: Field required`;
  if (block.type === "tool_use") {
    if (!/^[a-zA-Z0-9_-]+$/.test(String(block.id)))
      return `${where}.id: String should match pattern '^[a-zA-Z0-9_-]+$'`;
    if (typeof block.input !== "object") return `${where}.input: Input should be a valid dictionary`;
  }
  if (block.type === "image" || block.type === "document") {
    const source = fieldsOf(block.source);
    const needs = { base64: ["media_type", "data"], url: ["url"], text: ["data"], file: ["file_id"] }[
      String(source.type)
    ];
    if (needs === undefined) return `${where}.source: Input tag '${source.type}' does not match`;
    const missing = needs.find((key) => typeof source[key] !== "string");
    if (missing !== undefined) return `${where}.source.${missing}: Field required`;
  }
  return undefined;
}

function toolsFault(body: Fields): string | undefined {
  const tools = listOf(body.tools);
  const messages = listOf(body.messages);
  const used = messages.some(
    ({ content }) => Array.isArray(content) && content.some(({ type }) => type === "tool_use"),
  );
  if (tools.length === 0 && used) return "Requests which include `tool_use` blocks must define tools";
  for (const [index, tool] of tools.entries()) {
    if (tool.type !== undefined && tool.type !== "custom") continue;
    if (typeof tool.name !== "string") return `tools.${index}.name: Field required`;
    if (fieldsOf(tool.input_schema).type !== "object")
      return `tools.${index}.input_schema.type: Input should be 'object'`;
    if (tool.function !== undefined) return `tools.${index}.function: Extra inputs are not permitted`;
  }
  const choice = fieldsOf(body.tool_choice);
  if (body.tool_choice !== undefined && tools.length === 0)
    return "tool_choice: may only be specified while providing tools";
  if (body.tool_choice !== undefined && !["auto", "any", "tool", "none"].includes(String(choice.type))) {
    return "tool_choice: Input tag does not match";
  }
  if (choice.type === "tool" && !tools.some(({ name }) => name === choice.name)) {
    return `tool_choice.name: Tool '${choice.name}' not found in provided tools`;
  }
  return undefined;
}

function thinkingFault(body: Fields): string | undefined {
  const { type, budget_tokens: budget } = fieldsOf(body.thinking);
  if (type === undefined || type === "disabled") return undefined;
  if (type === "enabled" && !(Number(budget) >= 1024)) return "thinking.enabled.budget_tokens: should be >= 1024";
  if (type === "enabled" && Number(budget) >= Number(body.max_tokens))
    return "max_tokens must be greater than thinking.budget_tokens";
  const forced = ["any", "tool"].includes(String(fieldsOf(body.tool_choice).type));
  return forced ? "Thinking may not be enabled when tool_choice forces tool use." : undefined;
}

function formatFault(body: Fields): string | undefined {
  const format = fieldsOf(fieldsOf(body.output_config).format);
  if (format.type === undefined) return undefined;
  if (format.type !== "json_schema") return "output_config.format.type: Input should be 'json_schema'";
  const isClosed = fieldsOf(format.schema).additionalProperties === false;
  return isClosed
    ? undefined
    : "output_config.format.schema: For 'object' type, 'additionalProperties' must be set to false";
}

function cacheFault(body: Fields): string | undefined {
  const marks = JSON.stringify(body).match(/"cache_control":\{/g)?.length ?? 0;
  return marks > 4 ? `A maximum of 4 blocks with cache_control may be provided. Found ${marks}.` : undefined;
}

function isPositive(value: unknown): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= 1;
}

export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

export function listOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value : [];
}
