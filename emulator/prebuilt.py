"""What of the models' own voices can be chosen: names and languages, as data.

Sources: Agent Platform page "Configure language and voice" (30 voices, 8 of them in half-cascade models), Live API
guide of 2025 (languages of half-cascade and native audio models), and what client authors saw refused since.
"""

import re


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


HALF_CASCADE_VOICES = _names("Aoede Charon Fenrir Kore Leda Orus Puck Zephyr")
VOICES = HALF_CASCADE_VOICES | _names(
    "Achernar Achird Algenib Algieba Alnilam Autonoe Callirrhoe Despina Enceladus Erinome Gacrux Iapetus "
    "Laomedeia Pulcherrima Rasalgethi Sadachbia Sadaltager Schedar Sulafat Umbriel Vindemiatrix "
    "Zubenelgenubi"
)

HALF_CASCADE_LANGUAGES = _names(
    "ar-XA bn-IN cmn-CN de-DE en-AU en-GB en-IN en-US es-ES es-US fr-CA fr-FR gu-IN hi-IN id-ID it-IT "
    "ja-JP kn-IN ko-KR ml-IN mr-IN nl-NL pl-PL pt-BR ru-RU ta-IN te-IN th-TH tr-TR vi-VN"
)
NATIVE_LANGUAGES = HALF_CASCADE_LANGUAGES - _names("ar-XA cmn-CN en-IN")
"""What is documented less what was seen refused; a bare ``en`` or ``es`` is refused as well."""

_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?-([A-Za-z]{2}|\d{3})")


def well_formed(language: str) -> bool:
    """Whether a language code names a language and a region, as ``en-US`` or ``zh-Hans-CN`` do."""
    return _TAG.fullmatch(language) is not None
