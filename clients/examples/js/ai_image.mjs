// Ask about a picture with Vercel's `ai` package; the answer streams.
import { readFile } from "node:fs/promises";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const provider = createOpenAICompatible({
  name: "internvl",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
});
const picture = await readFile("docs/examples/shapes.png");
const { textStream } = streamText({
  model: provider("internvl-demo"), // what GET /v1/models says
  messages: [
    {
      role: "user",
      content: [
        { type: "file", mediaType: "image/png", data: picture },
        { type: "text", text: "Describe the image." },
      ],
    },
  ],
});
for await (const text of textStream) {
  process.stdout.write(text);
}
process.stdout.write("\n");
