// Ask about a video with Vercel's `ai` package: a file of the type video/mp4.
import { readFile } from "node:fs/promises";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";

const provider = createOpenAICompatible({
  name: "internvl",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
});
const { text } = await generateText({
  model: provider("internvl-demo"),
  messages: [
    {
      role: "user",
      content: [
        { type: "file", mediaType: "video/mp4", data: await readFile("docs/examples/moving.mp4") },
        { type: "text", text: "What happens in the video?" },
      ],
    },
  ],
  providerOptions: { internvl: { media_io_kwargs: { video: { num_frames: 8 } } } },
});
console.log(text);
