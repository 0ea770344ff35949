"""Stories that several tests of the lineage tell."""

from tests.support.stories import Story


def one_exchange() -> Story:
    """Silence, a question, its answer, a handle, silence; then another question, answered, and the link is lost.

    Frames 0-9, 10-29, 30-39 / 40-49, 50-69, 70-79.
    """
    story = Story()
    link = story.open()
    link.hear(0, 9)
    link.say(10, 29, "what is the weather in paris")
    link.answer("it is sunny in paris")
    link.hear(30, 39)
    story.handle = link.handle()
    link.hear(40, 49)
    link.say(50, 69, "where is my order 47")
    link.answer("it is on its way")
    link.hear(70, 79)
    story.end = link.close()
    return story


def late(known: list[int]) -> set[int]:
    """Numbers that came for the first time after a higher one."""
    found: set[int] = set()
    highest = -1
    for at, number in enumerate(known):
        if number < highest and number not in known[:at]:
            found.add(number)
        highest = max(highest, number)
    return found
