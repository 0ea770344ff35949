"""The command: `python -m bench.continuity`."""

from bench import command, continuity
from bench.continuity.figures import Scene
from bench.continuity.scenes import SCENES
from parley.errors import ParleyError


def in_words(scene: Scene) -> str:
    """For people, while it runs."""
    times = [
        f"{name} {1000 * min(seconds):.1f} to {1000 * max(seconds):.1f} ms ({len(seconds)})"
        for name, seconds in scene.times.items()
        if seconds
    ]
    counts = [f"{name} {count}" for name, count in scene.counts.items()]
    return f"{scene.name}: " + ", ".join([*times, *counts, f"{len(scene.problems)} problems"])


async def main() -> int:
    """The command."""
    parser = command.parser(continuity.__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SCENES), default=list(SCENES), help="scenes")
    parser.add_argument("--sessions", type=command.count, default=20, help="calls of a scene")
    parser.add_argument("--rounds", type=command.count, default=5, help="times that it is done to them")
    wanted = parser.parse_args()
    command.say_load()
    clean = True
    for name in wanted.only:
        scene = Scene(name, wanted.sessions)
        try:
            await SCENES[name](scene, wanted.rounds)
        except (AssertionError, TimeoutError, ParleyError) as problem:
            scene.problems.append(f"{type(problem).__name__}: {str(problem)[:2000]}")
        for figure in scene.figures():
            print(figure, flush=True)
        command.say(in_words(scene))
        for line in scene.problems:
            command.say(f"PROBLEM {line}")
        clean = clean and scene.clean
    command.say_load()
    return 0 if clean else 1


if __name__ == "__main__":
    command.run(main)
