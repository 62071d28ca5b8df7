"""Writes the profile's JSON Schema from its models: `make contract`."""

from __future__ import annotations

import json
from pathlib import Path

from smartprof.profile.schema import SCHEMA_VERSION, Profile

TARGET = Path(__file__).parents[1] / "smartprof" / "profile" / "profile.schema.json"


def schema_text() -> str:
    """The schema of a file as it is written: nothing left out, and with its checksum."""
    made = Profile.model_json_schema()
    made["properties"]["checksum"] = {"pattern": "^sha256:[0-9a-f]{64}$", "type": "string"}
    made["required"] = list(made["properties"])
    made["title"] = f"smartprof device profile, schema {SCHEMA_VERSION}"
    made["description"] = "Everything measured on one device with one target; see SCHEMA.md."
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | made, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(schema_text(), encoding="utf-8")
