"""The fields of every client message, as :mod:`emulator.protojson` kinds (source: the API reference and SDK 3.4.0)."""

from emulator.protojson import Kind

BLOB: Kind = {"data": "bytes", "mimeType": "string", "displayName": "string"}

FUNCTION_RESPONSE: Kind = {
    "id": "string",
    "name": "string",
    "response": "json",
    "willContinue": "bool",
    "scheduling": "enum",
    "parts": "json",
}

PART: Kind = {
    "text": "string",
    "thought": "bool",
    "thoughtSignature": "bytes",
    "inlineData": BLOB,
    "fileData": "json",
    "functionCall": {"id": "string", "name": "string", "args": "json"},
    "functionResponse": FUNCTION_RESPONSE,
    "executableCode": "json",
    "codeExecutionResult": "json",
    "videoMetadata": "json",
    "mediaResolution": "json",
    "partMetadata": "json",
}

CONTENT: Kind = {"parts": [PART], "role": "string"}

FUNCTION_DECLARATION: Kind = {
    "name": "string",
    "description": "string",
    "parameters": "json",
    "parametersJsonSchema": "json",
    "response": "json",
    "responseJsonSchema": "json",
    "behavior": "enum",
}

TOOL: Kind = {
    "functionDeclarations": [FUNCTION_DECLARATION],
    "googleSearch": "json",
    "googleSearchRetrieval": "json",
    "googleMaps": "json",
    "codeExecution": "json",
    "urlContext": "json",
    "fileSearch": "json",
    "computerUse": "json",
    "retrieval": "json",
    "enterpriseWebSearch": "json",
}

TRANSCRIPTION: Kind = {
    "languageCodes": ["string"],
    "languageAuto": "json",
    "languageHints": "json",
    "customVocabulary": "json",
    "adaptationPhrases": "json",
    "wordTimestamp": "bool",
    "diarization": "json",
    "mode": "enum",
    "sourceText": "json",
}

GENERATION_CONFIG: Kind = {
    "responseModalities": ["enum"],
    "temperature": "number",
    "topP": "number",
    "topK": "number",
    "candidateCount": "int",
    "maxOutputTokens": "int",
    "presencePenalty": "number",
    "frequencyPenalty": "number",
    "stopSequences": ["string"],
    "seed": "int",
    "mediaResolution": "enum",
    "responseMimeType": "string",
    "responseSchema": "json",
    "responseJsonSchema": "json",
    "responseLogprobs": "bool",
    "logprobs": "int",
    "speechConfig": {
        "voiceConfig": {
            "prebuiltVoiceConfig": {"voiceName": "string"},
            "replicatedVoiceConfig": "json",
        },
        "languageCode": "string",
        "multiSpeakerVoiceConfig": "json",
    },
    "thinkingConfig": {"includeThoughts": "bool", "thinkingBudget": "int", "thinkingLevel": "enum"},
    "enableAffectiveDialog": "bool",
    "enableEnhancedCivicAnswers": "bool",
    "translationConfig": {"echoTargetLanguage": "bool", "targetLanguageCode": "string"},
    "audioTranscriptionConfig": TRANSCRIPTION,
}

SETUP: dict[str, Kind] = {
    "model": "string",
    "generationConfig": GENERATION_CONFIG,
    "systemInstruction": CONTENT,
    "tools": [TOOL],
    "sessionResumption": {"handle": "string", "transparent": "bool"},
    "inputAudioTranscription": TRANSCRIPTION,
    "outputAudioTranscription": TRANSCRIPTION,
    "realtimeInputConfig": {
        "automaticActivityDetection": {
            "disabled": "bool",
            "startOfSpeechSensitivity": "enum",
            "endOfSpeechSensitivity": "enum",
            "prefixPaddingMs": "int",
            "silenceDurationMs": "int",
        },
        "activityHandling": "enum",
        "turnCoverage": "enum",
        "interimTranscriptTimestampEnabled": "bool",
    },
    "contextWindowCompression": {"triggerTokens": "int", "slidingWindow": {"targetTokens": "int"}},
    "historyConfig": {"initialHistoryInClientContent": "bool"},
    "safetySettings": "json",
    "labels": "json",
    "avatarConfig": "json",
}

# Known to some versions of the API only (the Live service parses its setup per version).
PROACTIVITY: Kind = {"proactiveAudio": "bool", "proactiveVideo": "bool"}
VERTEX_ONLY: dict[str, Kind] = {"explicitVadSignal": "bool", "proactivity": PROACTIVITY}
V1ALPHA_ONLY: dict[str, Kind] = {"proactivity": PROACTIVITY}

CLIENT_CONTENT: Kind = {"turns": [CONTENT], "turnComplete": "bool"}

REALTIME_INPUT: Kind = {
    "audio": BLOB,
    "video": BLOB,
    "mediaChunks": [BLOB],
    "text": "string",
    "audioStreamEnd": "bool",
    "activityStart": {},
    "activityEnd": {},
}

TOOL_RESPONSE: Kind = {"functionResponses": [FUNCTION_RESPONSE]}

CONTEXT_UPDATE: Kind = {"systemInstruction": CONTENT, "tools": {"tools": [TOOL]}}


def message(backend: str, api_version: str) -> dict[str, Kind]:
    """The client message of one backend and version."""
    more = VERTEX_ONLY if backend == "vertex" else V1ALPHA_ONLY if api_version == "v1alpha" else {}
    return {
        "setup": {**SETUP, **more},
        "clientContent": CLIENT_CONTENT,
        "realtimeInput": REALTIME_INPUT,
        "toolResponse": TOOL_RESPONSE,
        "contextUpdate": CONTEXT_UPDATE,
    }
