"""What of audio and pictures belongs to a turn."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import Refusal
from emulator.scenarios import scenario
from tests.emulator.activities import END, FLASH, NATIVE, SPEECH, START, configured, realtime, spoken
from tests.emulator.behaviour import behaviour, patched
from tests.emulator.caller import Caller

JPEG = base64.b64encode(b"\xff\xd8\xff\xd9").decode()


def show(caller: Caller, data: str = JPEG) -> list[str]:
    return caller.send(realtimeInput={"video": {"data": data, "mimeType": "image/jpeg"}})


def image_turn(text: str) -> dict[str, Any]:
    picture = {"inlineData": {"mimeType": "image/jpeg", "data": JPEG}}
    return {"turns": [{"role": "user", "parts": [picture, {"text": text}]}], "turnComplete": True}


def tokens(caller: Caller, modality: str) -> int:
    """Of the prompt, in the latest turn."""
    usage = next(m["usageMetadata"] for m in reversed(caller.messages) if "usageMetadata" in m)
    return sum(one["tokenCount"] for one in usage["promptTokensDetails"] if one["modality"] == modality)


class TestCoverage:
    """What of realtime input belongs to a turn."""

    def heard_and_seen(self, model: str, coverage: str | None, *, manual: bool = False) -> tuple[int, int]:
        """Audio and video tokens of a turn with a second of speech, a picture before it and one in it."""
        detection = {"automaticActivityDetection": {"disabled": True}} if manual else {}
        covered = {"turnCoverage": coverage} if coverage else {}
        caller = Caller(model, switches={"silence": "free"}, **realtime(**detection, **covered))
        caller.hear(bytes(32000 * 4))
        show(caller)
        caller.now += 1
        if manual:
            caller.send(**START)
        caller.begin_to_speak()
        show(caller)
        caller.send(**END) if manual else caller.hear(bytes(24000))
        caller.understood("hello")
        caller.until(30)
        return tokens(caller, "AUDIO"), tokens(caller, "VIDEO")

    @behaviour("coverage.only_activity", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_only_activity(self) -> None:
        for manual in (False, True):
            audio, video = self.heard_and_seen(FLASH, "TURN_INCLUDES_ONLY_ACTIVITY", manual=manual)
            assert 20 <= audio <= 50 and video == 258

    @behaviour("coverage.all_input", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_all_input(self) -> None:
        audio, video = self.heard_and_seen(FLASH, "TURN_INCLUDES_ALL_INPUT")
        assert audio > 125 and video == 2 * 258

    @behaviour("coverage.all_video", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_audio_activity_and_all_video(self) -> None:
        audio, video = self.heard_and_seen(NATIVE, "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO")
        assert 20 <= audio <= 50 and video == 2 * 258

    @behaviour("coverage.defaults", off=configured(turn_coverage="all input"))
    def test_defaults_by_model(self) -> None:
        assert self.heard_and_seen(NATIVE, None)[1] == 258
        for model in ("gemini-3.8-live", FLASH):
            audio, video = self.heard_and_seen(model, None)
            assert audio <= 50 and video == 2 * 258

    @behaviour("coverage.all_input", off=patched("emulator.configuration.setup._COVERAGES", {}))
    def test_all_input_is_heard_outside_of_the_markers_too(self) -> None:
        caller = Caller(
            **realtime(automaticActivityDetection={"disabled": True}, turnCoverage="TURN_INCLUDES_ALL_INPUT")
        )
        caller.hear(SPEECH)
        caller.send(**START)
        caller.hear(SPEECH)
        caller.send(**END)
        caller.send(**START)
        caller.hear(SPEECH)
        caller.send(**END)
        assert [len(one.pcm) for one in caller.listening] == [12800, 6400]


class TestPictures:
    @behaviour(
        "10.40",
        "video.tokens",
        off=patched("emulator.mind.history.TOKENS_PER_PICTURE", dict.fromkeys(("", "LOW", "MEDIUM", "HIGH"), 258)),
    )
    def test_a_picture_costs_what_the_media_resolution_says(self) -> None:
        costs = {}
        for resolution in ("", "LOW", "MEDIUM", "HIGH"):
            config = {"generationConfig": {"mediaResolution": f"MEDIA_RESOLUTION_{resolution}"}} if resolution else {}
            caller = Caller(**config)
            show(caller)
            caller.send(realtimeInput={"text": "hello"})
            caller.until(30)
            costs[resolution] = tokens(caller, "VIDEO")
        assert costs == {"": 258, "LOW": 64, "MEDIUM": 256, "HIGH": 256}

    @behaviour("video.rate", off=patched("emulator.hearing.pictures.SECONDS_PER_FRAME", 0.0))
    def test_pictures_that_come_faster_than_one_a_second_are_counted_and_noted(self) -> None:
        caller = Caller()
        for at in (0.0, 1.0, 1.95, 2.2):
            caller.until(at)
            show(caller)
        video = caller.record.view()["video"]
        assert [one.get("early") for one in video] == [None, None, None, 0.75]
        caller.send(realtimeInput={"text": "what do you see"})
        assert spoken(caller) == ["i see four pictures"]

    @behaviour("video.kind", off=patched("emulator.hearing.pictures._known", lambda data: True))
    def test_what_is_no_picture_closes(self) -> None:
        for message in (
            {"realtimeInput": {"video": {"data": "AAAA", "mimeType": "image/jpeg"}}},
            {"clientContent": json.loads(json.dumps(image_turn("hello")).replace(JPEG, "AAAA"))},
        ):
            with pytest.raises(Refusal, match="1007 Unable to process input image"):
                Caller().send(**message)

    @behaviour("13.14", off=patched("emulator.mind.history.History.images", property(lambda self: self.pictures)))
    def test_a_typed_turn_sees_its_own_images_and_not_the_stream_before_it(self) -> None:
        caller = Caller()
        show(caller)
        show(caller)
        caller.send(clientContent=image_turn("what do you see"))
        assert spoken(caller) == ["i see one pictures"]
        caller.send(realtimeInput={"text": "what do you see"})
        assert spoken(caller)[-1] == "i see three pictures"

    def file(self, folder: Path, text: str) -> scenario.Scenario:
        path = folder / "s.yaml"
        path.write_text(text)
        return scenario.load(path)

    @behaviour("video.scenario", off=patched("emulator.scenarios.scenario.Rule.holds", lambda self, pictures: True))
    def test_a_rule_may_ask_for_pictures(self, tmp_path: Path) -> None:
        caller = Caller(
            scenario=self.file(
                tmp_path,
                "name: eyes\nrules:\n"
                "- {name: blind, hear: what is this, when: {pictures: 0}, say: hello}\n"
                "- {name: seen, hear: what is this, when: {pictures: '>=1'}, say: it is sunny}\n",
            )
        )
        caller.send(realtimeInput={"text": "what is this"})
        show(caller)
        caller.send(realtimeInput={"text": "what is this"})
        assert spoken(caller) == ["hello", "it is sunny"]

    @behaviour("video.scenario", off=patched("emulator.scenarios.scenario.Scenario.seen", lambda self, pictures: None))
    def test_a_picture_may_make_the_model_speak(self, tmp_path: Path) -> None:
        caller = Caller(
            scenario=self.file(
                tmp_path,
                "name: eyes\nrules:\n- {name: third, on: picture, when: {pictures: '>=3'}, say: i see <pictures>}\n",
            )
        )
        assert [show(caller) for _ in range(4)] == [[], [], ["modelTurn"], []]
        assert spoken(caller) == ["i see three"]
