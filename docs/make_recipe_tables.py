"""Write the key tables of docs/recipe.md from the recipe's JSON Schema: `python docs/make_recipe_tables.py`.

`--check` only compares, and exits with 1 when the page is out of date.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tsugiki.recipe_file import json_schema

PAGE = Path(__file__).with_name("recipe.md")
MARK = "<!-- tables: made by make_recipe_tables.py, do not edit below -->"
LARGEST = 10**12  # limits beyond only guard against nonsense


Section = tuple[str, dict[str, Any], str]
"""Place in the YAML file, such as `data.sources.NAME`; JSON Schema; resume class of keys that say nothing."""


def tables() -> str:
    """A Markdown table for every section, in the order in which a recipe is written."""
    schema = json_schema()
    return "\n".join(table(*section) for section in sections("", schema, schema["$defs"]))


def sections(place: str, section: dict[str, Any], definitions: dict[str, Any], resume: str = "fixed") -> list[Section]:
    """The section and those below it. The keys of a list's entries share the class of the list."""
    found = [(place, section, resume)]
    for key, field in section["properties"].items():
        optional = next((part for part in field.get("anyOf", []) if "$ref" in part), None)
        parts = ((optional or field, ""), (field.get("items"), "[]"), (field.get("additionalProperties"), ".NAME"))
        for part, mark in parts:
            if isinstance(part, dict) and "$ref" in part:
                definition = definitions[part["$ref"].rsplit("/", 1)[1]]
                found += sections(f"{place}.{key}{mark}".lstrip("."), definition, definitions, class_of(field, "fixed"))
    return found


def class_of(field: dict[str, Any], otherwise: str) -> str:
    return str(field.get("resume", otherwise))


def table(place: str, section: dict[str, Any], resume: str) -> str:
    """One section: its heading, what it is, and a row a key."""
    required = set(section.get("required", []))
    about = section.get("description", "").replace("`", "").split("\n\n")[0] if place else ""
    lines = [f"## {place or 'Top level'}", "", *([about, ""] if about else [])]
    lines += ["| key | value | default | on resume | meaning |", "|---|---|---|---|---|"]
    for key, field in section["properties"].items():
        kind, default = type_of(field), "required" if key in required else shown(field.get("default"))
        below = kind == "section"
        by_key = below or kind == "names, each with a section"
        cells = [f"`{key}`", kind, "" if below else default, "by key" if by_key else class_of(field, resume)]
        text = " ".join(str(field.get("description", "")).split()).replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| {' | '.join([*cells, text])} |")
    return "\n".join([*lines, ""])


def shown(value: Any) -> str:
    """A default as YAML spells it."""
    return f"`{json.dumps(value)}`".replace('"', "")


def type_of(field: dict[str, Any]) -> str:
    """What may be written, with its limits."""
    if "$ref" in field:
        return "section"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " \\| ".join(f"`{choice}`" for choice in field["enum"])
    if "anyOf" in field:
        return " or ".join(type_of(part) for part in field["anyOf"] if part.get("type") != "null")
    if field.get("type") == "array":
        inner = type_of(field.get("items", {}))
        return "list of sections" if inner == "section" else f"list of {inner}"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"names, each with a {type_of(values)}" if isinstance(values, dict) else "mapping"
    kind = {"integer": "whole number", "string": "text", "boolean": "true or false"}
    return kind.get(field.get("type", ""), field.get("type", "anything")) + limits(field)


def limits(field: dict[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[key]:g}" for key, sign in words.items() if key in field and field[key] < LARGEST]
    return f", {', '.join(found)}" if found else ""


def main() -> None:
    head = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    page = f"{head}{MARK}\n\n{tables()}"
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
