// The SDKs of OpenAI and Anthropic for Node, on streams that masks change: prints what each made of them, in JSON.
//
//   node masked.mjs BASE TOKEN REQUEST
//
// REQUEST is JSON: `words` and `call`, tokens that the model says and calls a tool with, and `said`, what the user says.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const [base, token, request] = process.argv.slice(2);
const { words, call, said } = JSON.parse(request);
const made = {};

const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: token, maxRetries: 0 });
const messages = (tokens) => [
  { role: "system", content: JSON.stringify(tokens) },
  { role: "user", content: said },
];
const parameters = { type: "object", properties: {} };
const tools = [{ type: "function", function: { name: "note", parameters } }];

let text = "";
for await (const chunk of await openai.chat.completions.create({ model: "m", stream: true, messages: messages(words) })) {
  text += chunk.choices[0].delta.content ?? "";
}
made.chat = text;
made.whole = (await openai.chat.completions.create({ model: "m", messages: messages(words) })).choices[0].message.content;

const called = openai.chat.completions.stream({ model: "m", messages: messages(call), tools });
made.call = JSON.parse((await called.finalMessage()).tool_calls[0].function.arguments);

const asked = { model: "m", instructions: JSON.stringify(words), input: said };
const stream = openai.responses.stream(asked);
let deltas = "";
stream.on("response.output_text.delta", (event) => (deltas += event.delta));
made.responses = [deltas, (await stream.finalResponse()).output_text];
made.responses[0] = deltas;
made.response = (await openai.responses.create(asked)).output_text;

const anthropic = new Anthropic({ baseURL: base, apiKey: token, maxRetries: 0 });
const ask = (tokens) => ({ model: "m", max_tokens: 9, system: JSON.stringify(tokens), messages: [{ role: "user", content: said }] });
made.messages = await anthropic.messages.stream(ask(words)).finalText();
const use = { ...ask(call), tools: [{ name: "note", input_schema: parameters }] };
made.use = (await anthropic.messages.stream(use).finalMessage()).content[0].input;
made.message = (await anthropic.messages.create(ask(words))).content[0].text;

console.log(JSON.stringify(made));
