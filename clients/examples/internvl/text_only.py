"""Text-only generation: no picture, the model is a language model too."""

from openai import OpenAI

client = OpenAI()
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": [{"type": "text", "text": "Write a haiku"}]}],
    max_tokens=50,
)
print(answer.choices[0].message.content)
