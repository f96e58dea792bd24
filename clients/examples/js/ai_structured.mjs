// Get an answer as an object with Vercel's `ai` package: its schema is enforced by the server.
import { readFile } from "node:fs/promises";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, Output } from "ai";

const provider = createOpenAICompatible({
  name: "internvl",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
});
const schema = jsonSchema({
  type: "object",
  properties: { shape: { enum: ["a red circle", "a blue square", "a green triangle"] } },
  required: ["shape"],
  additionalProperties: false,
});
const picture = await readFile("docs/examples/triangle.png");
const { output } = await generateText({
  model: provider("internvl-demo"),
  output: Output.object({ schema }),
  messages: [
    {
      role: "user",
      content: [
        { type: "file", mediaType: "image/png", data: picture },
        { type: "text", text: "What is in the image?" },
      ],
    },
  ],
});
console.log(output.shape);
