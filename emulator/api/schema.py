"""The fields of every client message, as :mod:`emulator.api.protojson` kinds, for one backend and version of the API.

Sources: the API reference and the SDKs (Python 2.34.0 and 3.4.0, JavaScript 3.1.0). Numbers of enum values follow the
order of their names there, which is our guess where no public definition tells.
"""

from functools import lru_cache
from typing import Any

from emulator.api.protojson import Enum, MapOf, Message

_MEDIA_RESOLUTIONS = tuple(f"MEDIA_RESOLUTION_{level}" for level in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH"))
_COVERAGES = ("TURN_COVERAGE_UNSPECIFIED", "TURN_INCLUDES_ONLY_ACTIVITY", "TURN_INCLUDES_ALL_INPUT")


def _each(names: str, kind: Any) -> dict[str, Any]:
    """Every name with the same."""
    return dict.fromkeys(names.split(), kind)


_PART_DATA = _each(
    "text inlineData fileData functionCall functionResponse executableCode codeExecutionResult toolCall toolResponse",
    "data",
)
_METADATA = {
    **_each("documentMetadata spreadsheetMetadata audioMetadata", "struct"),
    **_each("mediaProcessing mediaResolution", "json"),
}
_FILE = _each("fileUri mimeType displayName", "string")


@lru_cache(maxsize=16)
def message(backend: str, api_version: str) -> Message:
    """The client message of one backend and version."""
    return _Api(backend, api_version).message()


class _Api:
    """Kinds of one version of the API; their names are part of error texts."""

    def __init__(self, backend: str, api_version: str) -> None:
        self.vertex = backend == "vertex"
        # The Live service parses its setup per version: proactivity is known to v1alpha only, and to Vertex.
        self.proactive = self.vertex or api_version == "v1alpha"
        service = "google.cloud.aiplatform" if self.vertex else "google.ai.generativelanguage"
        self._package = f"{service}.{api_version}."

    def message(self) -> Message:
        schema = self.schema()
        tool = self.tool(schema)
        content = self.content()
        alternatives = {
            "setup": self.setup(content, tool, schema),
            "clientContent": self._of("BidiGenerateContentClientContent", {"turns": [content], "turnComplete": "bool"}),
            "realtimeInput": self.realtime_input(),
            "toolResponse": self._of(
                "BidiGenerateContentToolResponse", {"functionResponses": [self.function_response()]}
            ),
            "contextUpdate": self._of(
                "BidiGenerateContentContextUpdate",
                {"systemInstruction": content, "tools": self._of("Tools", {"tools": [tool]})},
            ),
        }
        return Message("", alternatives, dict.fromkeys(alternatives, "message_type"))

    def setup(self, content: Message, tool: Message, schema: Message) -> Message:
        transcription = self.transcription()
        fields: dict[str, Any] = {
            "model": "string",
            "generationConfig": self.generation_config(schema, transcription),
            "systemInstruction": content,
            "tools": [tool],
            "sessionResumption": {"handle": "string or null"},
            "inputAudioTranscription": transcription,
            "outputAudioTranscription": transcription,
            "realtimeInputConfig": self.realtime_input_config(),
            "contextWindowCompression": {"triggerTokens": "int64", "slidingWindow": {"targetTokens": "int64"}},
            "historyConfig": {"initialHistoryInClientContent": "bool"},
            "safetySettings": ["struct"],
            "labels": MapOf("string"),
            "avatarConfig": "struct",
        }
        if self.vertex:
            fields["sessionResumption"]["transparent"] = "bool"
            fields["explicitVadSignal"] = "bool"
        if self.proactive:
            fields["proactivity"] = {"proactiveAudio": "bool", "proactiveVideo": "bool"}
        return self._of("BidiGenerateContentSetup", fields)

    def generation_config(self, schema: Message, transcription: Message) -> Message:
        return self._of(
            "GenerationConfig",
            {
                "responseModalities": [self._enum("GenerationConfig.Modality", "MODALITY_", "TEXT IMAGE AUDIO VIDEO")],
                "temperature": "number",
                "topP": "number",
                # The SDKs send 40.0 to either backend; only Vertex declares it so.
                "topK": "number" if self.vertex else "int",
                "candidateCount": "int",
                "maxOutputTokens": "int",
                "presencePenalty": "number",
                "frequencyPenalty": "number",
                "stopSequences": ["string"],
                "seed": "int",
                "mediaResolution": Enum(self._package + "GenerationConfig.MediaResolution", _MEDIA_RESOLUTIONS),
                "responseMimeType": "string",
                "responseSchema": schema,
                "responseJsonSchema": "json",
                "responseFormat": ["struct"],
                "responseLogprobs": "bool",
                "logprobs": "int",
                "audioTimestamp": "bool",
                "routingConfig": "struct",
                "modelSelectionConfig": "struct",
                "speechConfig": self._of(
                    "SpeechConfig",
                    {
                        "voiceConfig": self._of(
                            "VoiceConfig",
                            {
                                "prebuiltVoiceConfig": self._of("PrebuiltVoiceConfig", {"voiceName": "string"}),
                                "replicatedVoiceConfig": "struct",
                                "voice": "string",
                            },
                        ),
                        "languageCode": "string",
                        "multiSpeakerVoiceConfig": "struct",
                    },
                ),
                "thinkingConfig": self._of(
                    "ThinkingConfig",
                    {
                        "includeThoughts": "bool",
                        "thinkingBudget": "int",
                        "thinkingLevel": self._enum(
                            "ThinkingConfig.ThinkingLevel", "THINKING_LEVEL_", "LOW MEDIUM HIGH MINIMAL XHIGH"
                        ),
                    },
                ),
                "enableAffectiveDialog": "bool",
                "enableEnhancedCivicAnswers": "bool",
                "translationConfig": {"echoTargetLanguage": "bool", "targetLanguageCode": "string"},
                "audioTranscriptionConfig": transcription,
            },
        )

    def realtime_input_config(self) -> Message:
        # Vertex refuses the newest coverage as a value that it does not know.
        coverages = _COVERAGES if self.vertex else (*_COVERAGES, "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO")
        return self._of(
            "RealtimeInputConfig",
            {
                "automaticActivityDetection": self._of(
                    "RealtimeInputConfig.AutomaticActivityDetection",
                    {
                        "disabled": "bool",
                        "startOfSpeechSensitivity": self._sensitivity("START_SENSITIVITY_", "StartSensitivity"),
                        "endOfSpeechSensitivity": self._sensitivity("END_SENSITIVITY_", "EndSensitivity"),
                        "prefixPaddingMs": "int",
                        "silenceDurationMs": "int",
                    },
                ),
                "activityHandling": self._enum(
                    "RealtimeInputConfig.ActivityHandling",
                    "ACTIVITY_HANDLING_",
                    "START_OF_ACTIVITY_INTERRUPTS NO_INTERRUPTION",
                ),
                "turnCoverage": Enum(self._package + "RealtimeInputConfig.TurnCoverage", coverages),
                "interimTranscriptTimestampEnabled": "bool",
            },
        )

    def transcription(self) -> Message:
        return self._of(
            "AudioTranscriptionConfig",
            {
                "languageCodes": ["string"],
                "languageAuto": {},
                "languageHints": {"languageCodes": ["string"]},
                "customVocabulary": ["string"],
                "adaptationPhrases": ["string"],
                "wordTimestamp": "bool",
                "diarization": "bool",
                "mode": self._enum("AudioTranscriptionConfig.Mode", "MODE_", "VERBATIM SMART"),
                "sourceText": "string",
            },
        )

    def realtime_input(self) -> Message:
        blob = self.blob()
        fields = {
            "audio": blob,
            "video": blob,
            "mediaChunks": [blob],
            "text": "string",
            "audioStreamEnd": "bool",
            "activityStart": {},
            "activityEnd": {},
        }
        return self._of("BidiGenerateContentRealtimeInput", fields)

    def content(self) -> Message:
        part = {
            **_each("executableCode codeExecutionResult toolCall toolResponse", "struct"),
            **_each("videoMetadata partMetadata audioTranscription speechMetadata", "struct"),
            **_METADATA,
            "text": "string",
            "inlineData": self.blob(),
            "fileData": _FILE,
            "functionCall": {
                "id": "string",
                "name": "string",
                "args": "struct",
                "partialArgs": ["struct"],
                "willContinue": "bool",
            },
            "functionResponse": self.function_response(),
            "thought": "bool",
            "thoughtSignature": "bytes",
        }
        parts = self._of("Part", part, _PART_DATA)
        return self._of("Content", {"parts": [parts], "role": "string"})

    def function_response(self) -> Message:
        # Some documents say INTERRUPTED, the SDKs INTERRUPT.
        scheduling = Enum(
            self._package + "FunctionResponse.Scheduling",
            ("SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT"),
            {"INTERRUPTED": "INTERRUPT"},
        )
        part = {**_METADATA, "videoMetadata": "struct", "inlineData": self.blob(), "fileData": _FILE}
        return self._of(
            "FunctionResponse",
            {
                "id": "string",
                "name": "string",
                "response": "struct",
                "willContinue": "bool",
                "scheduling": scheduling,
                "parts": [self._of("FunctionResponsePart", part)],
            },
        )

    def blob(self) -> Message:
        return self._of("Blob", {"data": "bytes", "mimeType": "string", "displayName": "string"})

    def tool(self, schema: Message) -> Message:
        declaration = self._of(
            "FunctionDeclaration",
            {
                "name": "string",
                "description": "string",
                "parameters": schema,
                "parametersJsonSchema": "json",
                "response": schema,
                "responseJsonSchema": "json",
                "behavior": self._enum("FunctionDeclaration.Behavior", "", "BLOCKING NON_BLOCKING"),
            },
        )
        built_in = _each("googleSearch googleSearchRetrieval googleMaps codeExecution urlContext computerUse", "struct")
        if self.vertex:
            built_in |= _each("retrieval enterpriseWebSearch parallelAiSearch exaAiSearch", "struct")
        else:
            built_in["fileSearch"] = "struct"
        return self._of("Tool", {**built_in, "functionDeclarations": [declaration], "mcpServers": ["struct"]})

    def schema(self) -> Message:
        """OpenAPI as this API has it; keywords of JSON Schema beyond it close the connection."""
        fields = {
            "type": self._enum("Type", "TYPE_", "STRING NUMBER INTEGER BOOLEAN ARRAY OBJECT NULL"),
            **_each("format title description pattern", "string"),
            **_each("maxItems minItems maxProperties minProperties maxLength minLength", "int64"),
            **_each("minimum maximum", "number"),
            **_each("example default", "json"),
            **_each("enum required propertyOrdering", ["string"]),
            "nullable": "bool",
        }
        schema = self._of("Schema", fields)
        schema.update(items=schema, anyOf=[schema], properties=MapOf(schema))
        if self.vertex:
            schema.update(additionalProperties="json", ref="string", defs=MapOf(schema))
        return schema

    def _sensitivity(self, prefix: str, name: str) -> Enum:
        names = tuple(prefix + level for level in ("UNSPECIFIED", "HIGH", "LOW"))
        return Enum(f"{self._package}RealtimeInputConfig.AutomaticActivityDetection.{name}", names)

    def _enum(self, name: str, prefix: str, names: str) -> Enum:
        return Enum(self._package + name, (f"{prefix}UNSPECIFIED", *names.split()))

    def _of(self, name: str, fields: dict[str, Any], one_of: dict[str, str] | None = None) -> Message:
        return Message(self._package + name, fields, one_of)
