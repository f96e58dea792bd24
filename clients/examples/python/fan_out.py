"""Hold many conversations at once: the server computes them in one batch."""

import asyncio

from openai import AsyncOpenAI

client = AsyncOpenAI()


async def ask(model: str, question: str) -> str | None:
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}]
    )
    return answer.choices[0].message.content


async def main() -> None:
    model = (await client.models.list()).data[0].id
    questions = [f"Count to {number}." for number in (5, 10, 20)]
    for answer in await asyncio.gather(*(ask(model, q) for q in questions)):
        print(answer)


asyncio.run(main())
