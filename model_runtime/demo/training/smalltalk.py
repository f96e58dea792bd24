"""Text-only conversations: small talk, honest self-description, counting, and saying no."""

from random import Random

from model_runtime.demo.training import questions, videos
from model_runtime.demo.training.questions import Turn, phrase

ABOUT = (
    "I am a tiny demo model trained on drawn shapes. For real answers, load an InternVL3 "
    "checkpoint."
)
CANNOT = "I am only a tiny demo model, so I cannot help with that. Ask me about drawn shapes."
NO_IMAGE = "I do not see an image. Please send one with your question."
NO_VIDEO = "I do not see a video. Please send one with your question."
INTENTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("greeting",
     ("Hello!", "Hello", "Hi", "Hi!", "Hey", "Hi there!", "Good morning!", "Good evening",
      "Hey there", "Greetings", "Say hello.", "Hello there!", "Good day", "Hello, how are you?",
      "How are you?"),
     "Hello! Send me a picture of simple shapes and ask me about it."),
    ("about",
     ("Who are you?", "What are you?", "What model are you?", "What is your name?",
      "Tell me about yourself.", "Introduce yourself.", "Are you InternVL?", "Who made you?",
      "Which model is this?", "What can you do?", "Are you a real model?", "Help",
      "How were you trained?", "What is this model?", "What are your limits?"), ABOUT),
    ("haiku",
     ("Write a haiku", "Write a haiku.", "Write me a haiku.", "Please write a haiku.",
      "Can you write a haiku?", "Give me a haiku.", "Write a haiku about shapes.",
      "Write a short poem."),
     "A small red circle\nrests on a quiet white page.\nOne blue square drifts by."),
    ("thanks", ("Thanks!", "Thank you.", "Thank you!", "Thanks", "Great, thanks."),
     "You are welcome!"),
    ("bye", ("Bye!", "Goodbye.", "Bye", "Goodbye!", "See you later."), "Goodbye!"),
)  # fmt: skip
COUNT_TO = ("Count from 1 to {last}", "Count from 1 to {last}.", "Count to {last}.",
            "Please count from 1 to {last}.", "Count up to {last}.")  # fmt: skip
VISUAL = (*questions.COLOR, *questions.SHAPE, *questions.COUNT, *questions.DESCRIBE,
          "What is on the left?", "What is on the right?", "What is in the first image?",
          "What is in the second image?")  # fmt: skip
ASK = ("What is {topic}?", "Tell me about {topic}.", "Explain {topic}.", "Who invented {topic}?",
       "Write an essay about {topic}.", "How does {topic} work?", "Translate {topic} into French.",
       "Write code for {topic}.", "Why is {topic} important?",
       "Where can I find {topic}?")  # fmt: skip
TOPICS = ("the capital of France", "quantum physics", "the French revolution", "Python",
          "the meaning of life", "black holes", "a good recipe", "the stock market",
          "Shakespeare", "machine learning", "a laptop", "my homework", "the moon", "football",
          "a sorting function", "climate change", "the president", "Rome", "a birthday gift",
          "music", "dinosaurs", "chess", "a cat", "democracy", "the weather today", "2 + 2",
          "the news", "a joke", "a long story", "the ocean", "history", "the best car",
          "an email to my boss", "love")  # fmt: skip


def random_turn(rng: Random) -> Turn:
    draw = rng.random()
    if draw < 0.45:
        kind, asked, answer = rng.choice(INTENTS[:3] if draw < 0.36 else INTENTS)
        return phrase(rng, asked), answer, kind
    if draw < 0.65:
        last = rng.choice((50, 50, 50, 10, 10, 20, 5, rng.randint(2, 50)))
        counted = ", ".join(str(number) for number in range(1, last + 1))
        return phrase(rng, COUNT_TO, last=str(last)), f"{counted}.", "counting"
    if draw < 0.85:
        if rng.random() < 0.25:
            return phrase(rng, rng.choice((videos.WHICH_WAY, videos.HAPPENS))), NO_VIDEO, "no_media"
        return phrase(rng, (rng.choice(VISUAL),)), NO_IMAGE, "no_media"
    return phrase(rng, (rng.choice(ASK),), topic=rng.choice(TOPICS)), CANNOT, "cannot"
